// The OpenAPI document, the routes of the server and its answers are one.

import { describe, expect, test } from "@jest/globals";
import { openApiDocument, PATH_PARAMETERS, problemsOf, REST_ROUTES } from "@sluice/api";
import type { PathParameterName, RouteDescription, RouteName } from "@sluice/api";

import { checkpoint, JID, runningJob, sourceOf, SUM_ID } from "../../../test/jobmanager-view.ts";
import type { Started } from "../../../test/jobmanager-view.ts";
import { HANDLERS } from "./handlers.ts";
import { answer } from "./routes.ts";
import type { RestResponse } from "./routes.ts";

const ROUTES = Object.entries(REST_ROUTES) as [RouteName, RouteDescription][];
const DOCUMENT = openApiDocument() as {
  readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly operationId: string }>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, unknown>> };
};
const TRIGGER_ID = "1".repeat(32);

const PARAMETERS: Readonly<Record<PathParameterName, string>> = {
  jobid: JID,
  vertexid: SUM_ID,
  triggerid: TRIGGER_ID,
  checkpointid: "2",
  subtaskindex: "1",
  attempt: "0",
  taskmanagerid: "tm1",
  filename: "jobmanager.log",
};

const BODIES: Readonly<Partial<Record<RouteName, unknown>>> = {
  disposeSavepoint: { "savepoint-path": "file:///sp" },
};

/** Operations that answers are asked for. */
const STARTED: readonly Started[] = [
  { id: TRIGGER_ID, request: { kind: "checkpoint", checkpointType: "FULL" } },
  {
    id: TRIGGER_ID,
    request: { kind: "savepoint", targetDirectory: null, formatType: "CANONICAL", cancelsJob: false },
  },
  { id: TRIGGER_ID, request: { kind: "dispose", savepointPath: "file:///sp" } },
  { id: TRIGGER_ID, request: { kind: "unpin", holder: null } },
];

function ask(name: RouteName, started: Started[] = []): Promise<RestResponse> {
  const route: RouteDescription = REST_ROUTES[name];
  const path = route.path.replaceAll(/:(\w+)/gu, (_, parameter: string) => PARAMETERS[parameter as PathParameterName]);
  const body = route.body === undefined ? "" : JSON.stringify(BODIES[name] ?? {});
  return answer({ method: route.method, path, query: {}, body, operationId: undefined }, sourceOf(JOB, started));
}

const JOB = runningJob({
  exceptions: [
    { name: "PEER_LOST", text: "PEER_LOST: gone", atMs: 1, taskName: null, endpoint: null, taskManagerId: null },
  ],
  checkpoints: {
    ...runningJob().checkpoints,
    latestFailed: checkpoint(3, { status: "FAILED", failureMessage: "expired", failureTimestampMs: 1 }),
    history: [checkpoint(4, { status: "IN_PROGRESS" }), checkpoint(3, { status: "FAILED" }), checkpoint(2)],
  },
});

describe("RD1: the document has every route, and no other", () => {
  test("one operation per handler", () => {
    const inDocument = Object.values(DOCUMENT.paths).flatMap((methods) =>
      Object.values(methods).map(({ operationId }) => operationId),
    );
    expect(inDocument.toSorted()).toEqual([...Object.keys(HANDLERS), "prometheus"].toSorted());
  });

  test("it is served as it is", async () => {
    expect((await ask("openApi")).body).toEqual(DOCUMENT);
  });

  test("every reference leads somewhere, and every parameter is described", () => {
    const text = JSON.stringify(DOCUMENT);
    for (const [, name = ""] of text.matchAll(/#\/components\/schemas\/(\w+)/gu))
      expect(Object.keys(DOCUMENT.components.schemas)).toContain(name);
    for (const [, route] of ROUTES)
      for (const [, name = ""] of route.path.matchAll(/:(\w+)/gu)) expect(Object.keys(PATH_PARAMETERS)).toContain(name);
  });
});

test.each(ROUTES.filter(([name]) => name !== "prometheus" && name !== "updateResourceRequirements"))(
  "an answer of %s is as described",
  async (name, route) => {
    const of = { checkpointStatus: 0, savepointStatus: 1, disposalStatus: 2, unpinStatus: 3 }[name as string];
    const { status, body } = await ask(name, of === undefined ? [] : [STARTED[of] as Started]);
    expect(status).toBe(route.status);
    if (route.response === "text/plain") expect(typeof body).toBe("string");
    else {
      const sent = JSON.parse(JSON.stringify(body)) as unknown;
      expect(problemsOf(route.response, sent, { allowsUnknownFields: false })).toEqual([]);
    }
  },
);

test("the check itself finds what is wrong", () => {
  const { response } = REST_ROUTES.jobs;
  const problems = (value: unknown): readonly string[] => problemsOf(response, value, { allowsUnknownFields: false });
  expect(problems({ jobs: [{ id: JID, status: "RUNNING" }] })).toEqual([]);
  expect(problems({ jobs: [{ id: "x", status: "WALKING", more: 1 }] })).toEqual([
    '$.jobs[0].id: "x" does not look like ^[0-9a-fA-F]{32}$',
    expect.stringContaining('"WALKING" is none of'),
    "$.jobs[0].more: is not known",
  ]);
  expect(problems({})).toEqual(["$.jobs: is missing"]);
  expect(problems(null)).toEqual(["$: null instead of object"]);
  expect(problemsOf(response, { jobs: [], more: 1 }, { allowsUnknownFields: true })).toEqual([]);
});
