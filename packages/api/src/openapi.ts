// The OpenAPI document of a JobManager's REST, out of the descriptions of routes and messages.
//
// Not here: the descriptions (rest/), serving it (runtime/src/jobmanager/rest), writing it to docs (tools/generate).

import { ErrorMessage, OPERATION_ID_HEADER, PATH_PARAMETERS, REST_ROUTES } from "./rest/index.ts";
import type { PathParameterName, RouteDescription } from "./rest/index.ts";
import { componentsOf } from "./schema.ts";
import type { JsonSchema, Schema } from "./schema.ts";
import { SLUICE_VERSION } from "./version.ts";

/** Paths that need no token. */
export const OPEN_PATHS: readonly string[] = [REST_ROUTES.health.path];

const INTRODUCTION =
  "Paths, shapes and words are those of Apache Flink's REST, so that programs written for it work unchanged; every path also works with " +
  "/v1 in front of it. Times are milliseconds since the epoch, durations milliseconds, sizes bytes. What changes something takes an id " +
  `from who asks (triggerId in the body, or the header ${OPERATION_ID_HEADER}): the same id again does nothing and finds the same outcome.`;

/** The document, ready for JSON.stringify; the same at every call. */
export function openApiDocument(): Readonly<Record<string, unknown>> {
  const routes = Object.entries(REST_ROUTES) as readonly (readonly [string, RouteDescription])[];
  const schemas = routes.flatMap(([, route]) => [
    ...(route.response === "text/plain" ? [] : [route.response]),
    ...(route.body === undefined ? [] : [route.body]),
  ]);
  const paths: Record<string, Record<string, unknown>> = {};
  for (const [name, route] of routes) {
    const path = route.path.replaceAll(/:(\w+)/gu, "{$1}");
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(name, route) };
  }
  return {
    openapi: "3.1.0",
    info: { title: "Sluice JobManager", version: SLUICE_VERSION, description: INTRODUCTION },
    servers: [{ url: "/" }, { url: "/v1" }],
    security: [{}, { token: [] }],
    paths,
    components: {
      securitySchemes: {
        token: {
          type: "http",
          scheme: "bearer",
          description: "Needed when the JobManager is started with SLUICE_REST_TOKEN.",
        },
      },
      schemas: componentsOf([...schemas, ErrorMessage]),
    },
  };
}

function operation(name: string, route: RouteDescription): Readonly<Record<string, unknown>> {
  return {
    operationId: name,
    summary: route.summary,
    ...(OPEN_PATHS.includes(route.path) ? { security: [{}] } : {}),
    ...parameters(route),
    ...(route.body === undefined ? {} : { requestBody: { required: false, content: json(route.body) } }),
    responses: {
      [route.status]: {
        description: "Done, or under way.",
        content:
          route.response === "text/plain" ? { "text/plain": { schema: { type: "string" } } } : json(route.response),
      },
      default: { description: "What is wrong.", content: json(ErrorMessage) },
    },
  };
}

function parameters(route: RouteDescription): { readonly parameters?: readonly unknown[] } {
  const inPath = [...route.path.matchAll(/:(\w+)/gu)].map(([, name]) => {
    const { pattern, description } = PATH_PARAMETERS[name as PathParameterName];
    return { name, in: "path", required: true, description, schema: { type: "string", pattern } };
  });
  const inQuery = Object.entries(route.query ?? {}).map(([name, description]) => ({
    name,
    in: "query",
    required: false,
    description,
    schema: { type: "string" },
  }));
  const inHeader =
    route.takesOperationId === true
      ? [
          {
            name: OPERATION_ID_HEADER,
            in: "header",
            required: false,
            description: "Id of this operation, chosen by who asks: 32 hex digits.",
            schema: { type: "string", pattern: PATH_PARAMETERS.triggerid.pattern },
          },
        ]
      : [];
  const all = [...inPath, ...inQuery, ...inHeader];
  return all.length === 0 ? {} : { parameters: all };
}

function json(schema: Schema<unknown>): { readonly "application/json": { readonly schema: JsonSchema } } {
  return { "application/json": { schema: schema.json } };
}
