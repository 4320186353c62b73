// REST as a pure function: a request and what the JobManager knows give an answer.
//
// Invariants:
//   RR3. Every answer of 400 and above is `{"errors": [message]}`, one message that says what was asked and what is wrong.
//   RR4. Unknown paths, also those of Flink that are not implemented, are 404 in Flink's words; a known path with another method
//        is 405.
//   RR5. Static segments win over parameters: `/jobs/overview` is no job.
//
// Not here: what is answered (handlers.ts), HTTP (rest-server.ts, metrics/server.ts).

import { PATH_PARAMETERS, problemsOf, REST_ROUTES } from "@sluice/api";
import type { PathParameterName, RouteDescription, RouteName } from "@sluice/api";
import { toFailure } from "@sluice/kit";
import type { Failure } from "@sluice/kit";
import { HANDLERS } from "./handlers.ts";
import type { Handler, HandlerName } from "./handlers.ts";
import { Refusal } from "./refusal.ts";
import type { JobView, RestSource } from "./source.ts";

export interface RestRequest {
  readonly method: string;
  /** Without query, as sent: `/jobs/abc`. */
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  /** Text of the body; empty: none. */
  readonly body: string;
  /** Of the header OPERATION_ID_HEADER. */
  readonly operationId: string | undefined;
}

export interface RestResponse {
  readonly status: number;
  /** JSON, or a text when `isText`. */
  readonly body: unknown;
  readonly isText?: true;
}

interface Entry {
  readonly name: HandlerName;
  readonly route: RouteDescription;
  readonly segments: readonly string[];
}

const ENTRIES: readonly Entry[] = (Object.entries(REST_ROUTES) as readonly (readonly [RouteName, RouteDescription])[])
  .flatMap(([name, route]): Entry[] =>
    name === "prometheus" ? [] : [{ name, route, segments: segmentsOf(route.path) }],
  )
  .sort((a, b) => parameterMask(a).localeCompare(parameterMask(b))); // RR5

/** Sorts static segments before parameters, position by position. */
function parameterMask({ segments }: Entry): string {
  return segments.map((segment) => (segment.startsWith(":") ? "1" : "0")).join("");
}

/** Answers one request. Never rejects: failures of commands become answers. */
export async function answer(request: RestRequest, source: RestSource): Promise<RestResponse> {
  try {
    return await route(request, source);
  } catch (thrown) {
    if (thrown instanceof Refusal) return error(thrown.status, thrown.message);
    const failure = toFailure(thrown);
    const remedy = failure.remedy === "" ? "" : ` ${failure.remedy}`;
    return error(statusOf(failure), `${failure.code}: ${failure.message}.${remedy}`);
  }
}

function statusOf(failure: Failure): number {
  if (failure.code === "CONFIG_NOT_IMPLEMENTED") return 501;
  if (failure.retry === "backoff" || failure.retry === "now") return 503;
  if (failure.code === "CONFIG_INVALID") return 400;
  return failure.code === "OPERATION_CONFLICT" ? 409 : 500;
}

function error(status: number, message: string): RestResponse {
  return { status, body: { errors: [message] } };
}

async function route(request: RestRequest, source: RestSource): Promise<RestResponse> {
  const segments = segmentsOf(request.path);
  if (segments[0] === "v1") segments.shift();
  const onPath = ENTRIES.filter((entry) => matches(entry, segments));
  const method = request.method === "HEAD" ? "GET" : request.method;
  // A parameter accepts what a static segment says too: only the first of each method counts (RR5).
  const entry = onPath.find((candidate) => candidate.route.method === method);
  if (entry === undefined) {
    if (onPath.length > 0) throw new Refusal(405, `${request.path} does not take ${request.method}.`);
    throw Refusal.notFound(`Unable to load requested file ${request.path}.`);
  }
  const params = paramsOf(entry, segments);
  const job = findJob(params["jobid"], source);
  const handler = HANDLERS[entry.name] as unknown as Handler<"job">;
  const body = await handler(
    {
      params: params as { readonly jobid: string },
      query: request.query,
      body: bodyOf(entry.route, request.body) as undefined,
      operationId: operationIdOf(entry.route, request),
    },
    source,
    job,
  );
  const { status, response } = entry.route;
  return response === "text/plain" ? { status, body, isText: true } : { status, body };
}

function segmentsOf(path: string): string[] {
  return path.split("/").filter((segment) => segment !== "");
}

function matches({ segments: pattern }: Entry, segments: readonly string[]): boolean {
  return (
    pattern.length === segments.length &&
    pattern.every((segment, i) => segment.startsWith(":") || segment === segments[i])
  );
}

function paramsOf({ segments: pattern }: Entry, segments: readonly string[]): Readonly<Record<string, string>> {
  const params: Record<string, string> = {};
  pattern.forEach((segment, i) => {
    if (!segment.startsWith(":")) return;
    const name = segment.slice(1) as PathParameterName;
    const value = decoded(segments[i] as string);
    if (value === undefined || !new RegExp(PATH_PARAMETERS[name].pattern, "u").test(value))
      throw Refusal.path(name, segments[i] as string);
    params[name] = value;
  });
  return params;
}

function decoded(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment);
  } catch {
    return undefined; // a stray percent sign
  }
}

function findJob(jid: string | undefined, { view }: RestSource): JobView {
  const job = view.job();
  if (jid === undefined || job.jid === jid.toLowerCase()) return job;
  throw Refusal.notFound(`Job ${jid} not found`);
}

function bodyOf({ body: schema }: RouteDescription, text: string): unknown {
  if (schema === undefined) return undefined;
  let body: unknown;
  try {
    body = text.trim() === "" ? {} : (JSON.parse(text) as unknown);
  } catch {
    throw new Refusal(400, "Bad request received: the body is not JSON.");
  }
  const problems = problemsOf(schema, body, { allowsUnknownFields: false });
  if (problems.length > 0) {
    throw new Refusal(
      400,
      `Bad request received: the body does not match the expected format: ${problems.join("; ")}.`,
    );
  }
  return body;
}

function operationIdOf(description: RouteDescription, { operationId }: RestRequest): string | undefined {
  if (description.takesOperationId !== true || operationId === undefined) return undefined;
  if (new RegExp(PATH_PARAMETERS.triggerid.pattern, "u").test(operationId)) return operationId.toLowerCase();
  throw new Refusal(400, `The id of an operation is 32 hex digits; "${operationId}" is not.`);
}
