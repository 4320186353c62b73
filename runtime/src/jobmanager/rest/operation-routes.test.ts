// REST's triggers and what clients wait for: savepoints, checkpoints, stops, cancellation, the end.

import { describe, expect, test } from "@jest/globals";
import { Failure } from "@sluice/kit";

import { JID, NOW_MS, runningJob, SOURCE_ID, sourceOf, START_MS, SUM_ID } from "../../../test/jobmanager-view.ts";
import type { Started } from "../../../test/jobmanager-view.ts";
import { recording, shapeDifferences } from "../../../test/shape.ts";
import type { OperationOutcome } from "../../checkpoint/index.ts";
import { Awaited } from "./awaited.ts";
import { answer } from "./routes.ts";
import type { RestResponse } from "./routes.ts";
import type { JobView } from "./source.ts";

function ask(
  target: string,
  job: JobView = runningJob(),
  method = "GET",
  started: Started[] = [],
): Promise<RestResponse> {
  const url = new URL(target, "http://localhost");
  return answer(
    { method, path: url.pathname, query: Object.fromEntries(url.searchParams), body: "", operationId: undefined },
    sourceOf(job, started),
  );
}

describe("operations", () => {
  const ID = "0123456789abcdef0123456789abcdee";
  const post = (
    path: string,
    body: unknown,
    options: { readonly header?: string; readonly started?: Started[]; readonly job?: JobView } = {},
  ): Promise<RestResponse> =>
    answer(
      {
        method: "POST",
        path,
        query: {},
        body: typeof body === "string" ? body : JSON.stringify(body),
        operationId: options.header,
      },
      sourceOf(options.job ?? runningJob(), options.started),
    );

  test.each<[path: string, body: unknown, request: Started["request"], recorded: string]>([
    [
      "savepoints",
      { "target-directory": "file:///sp", "cancel-job": true, formatType: "NATIVE", triggerId: ID },
      { kind: "savepoint", targetDirectory: "file:///sp", formatType: "NATIVE", cancelsJob: true },
      "savepoint-trigger",
    ],
    [
      "savepoints",
      { "target-directory": null, triggerId: ID.toUpperCase() },
      { kind: "savepoint", targetDirectory: null, formatType: "CANONICAL", cancelsJob: false },
      "savepoint-trigger",
    ],
    [
      "stop",
      { targetDirectory: "file:///sp", drain: true, formatType: "NATIVE", triggerId: ID },
      { kind: "stop", targetDirectory: "file:///sp", formatType: "NATIVE", drain: true },
      "stop-with-savepoint",
    ],
    ["checkpoints", { triggerId: ID }, { kind: "checkpoint", checkpointType: "CONFIGURED" }, "checkpoint-trigger"],
    [
      "checkpoints",
      { checkpointType: "FULL", triggerId: ID },
      { kind: "checkpoint", checkpointType: "FULL" },
      "checkpoint-trigger",
    ],
  ])("POST %s %j", async (path, body, request, recorded) => {
    const started: Started[] = [];
    const response = await post(`/jobs/${JID}/${path}`, body, { started });
    expect(response).toEqual({ status: 202, body: { "request-id": ID } });
    expect(shapeDifferences(response.body, recording(recorded))).toEqual([]);
    expect(started).toEqual([{ id: ID, request }]);
  });

  test("a disposal, with its id in the header", async () => {
    const started: Started[] = [];
    const body = { "savepoint-path": "file:///sp/1" };
    const response = await post("/savepoint-disposal", body, { header: ID, started });
    expect(response).toMatchObject({ status: 202, body: { "request-id": ID } });
    expect(started).toEqual([{ id: ID, request: { kind: "dispose", savepointPath: "file:///sp/1" } }]);
  });

  test("without an id one is drawn, an empty body asks for what is usual", async () => {
    const started: Started[] = [];
    expect(await post(`/jobs/${JID}/checkpoints`, "", { started })).toMatchObject({
      body: { "request-id": "f".repeat(32) },
    });
    expect(started).toHaveLength(1);
  });

  test.each<[body: unknown, header: string | undefined, message: string]>([
    ["{", undefined, "not JSON"],
    [{ checkpointType: "HALF" }, undefined, "HALF"],
    [{ mode: "x" }, undefined, "$.mode: is not known"],
    [[], undefined, "array instead of object"],
    [{ triggerId: "7" }, undefined, "triggerId"],
    [{}, "7", "32 hex digits"],
    [{ triggerId: ID }, "a".repeat(32), "two ids"],
  ])("%j with id %s is a bad request", async (body, header, message) => {
    const started: Started[] = [];
    const response = await post(`/jobs/${JID}/checkpoints`, body, {
      started,
      ...(header === undefined ? {} : { header }),
    });
    expect(response.status).toBe(400);
    expect(JSON.stringify(response.body)).toContain(message);
    expect(started).toEqual([]);
  });

  test.each<[path: string, body: unknown]>([
    ["savepoints", {}],
    ["savepoints", { "target-directory": "relative" }],
    ["stop", { drain: true }],
  ])(
    "POST %s %j of a job with no place for savepoints is a bad request, unless its id is known",
    async (path, body) => {
      const { "execution.checkpointing.savepoint-dir": _, ...configuration } = runningJob().configuration;
      const job = runningJob({ configuration });
      const started: Started[] = [];
      const refused = await post(`/jobs/${JID}/${path}`, body, { started, job });
      expect(refused.status).toBe(400);
      expect(JSON.stringify(refused.body)).toMatch(
        /place for (the|a) savepoint.*(execution.checkpointing.savepoint-dir|absolute path)/u,
      );
      expect(started).toEqual([]);
      const known: Started = {
        id: ID,
        request: { kind: "savepoint", targetDirectory: null, formatType: "CANONICAL", cancelsJob: false },
      };
      const again = await post(`/jobs/${JID}/savepoints`, { triggerId: ID }, { started: [known], job });
      expect(again.status).toBe(202);
    },
  );

  test("RO1: what came of one is not known before the log is read, which is not the same as nothing", async () => {
    const path = `/jobs/${JID}/checkpoints/${ID}`;
    expect((await ask(path, runningJob({ state: "INITIALIZING" }))).status).toBe(503);
    expect((await ask(path, runningJob())).status).toBe(404);
  });

  test("of a job that has ended are refused, but known ones still answer", async () => {
    const job = runningJob({ state: "FINISHED" });
    const started: Started[] = [{ id: ID, request: { kind: "checkpoint", checkpointType: "FULL" } }];
    const known = { checkpointType: "FULL", triggerId: ID };
    expect((await post(`/jobs/${JID}/checkpoints`, known, { job, started })).status).toBe(202);
    expect((await post(`/jobs/${JID}/checkpoints`, {}, { job })).status).toBe(409);
  });

  const FAILURE = { code: "CHECKPOINT_DECLINED", retry: "backoff", message: "late", remedy: "", stack: "" } as const;
  const CHECKPOINT: Started["request"] = { kind: "checkpoint", checkpointType: "FULL" };
  const STOP: Started["request"] = { kind: "stop", targetDirectory: null, formatType: "NATIVE", drain: false };
  const DISPOSE: Started["request"] = { kind: "dispose", savepointPath: "p" };

  test.each<[path: string, request: Started["request"], outcome: OperationOutcome | null, expected: string | object]>([
    [`/jobs/${JID}/savepoints/${ID}`, STOP, null, "savepoint-status-inprogress"],
    [`/jobs/${JID}/savepoints/${ID}`, STOP, { type: "done", location: "file:///sp" }, "savepoint-status-completed"],
    [`/jobs/${JID}/savepoints/${ID}`, STOP, { type: "done", location: "file:///sp" }, "stop-with-savepoint-status"],
    [`/jobs/${JID}/checkpoints/${ID}`, CHECKPOINT, { type: "done", checkpointId: 8 }, "checkpoint-trigger-status"],
    [`/savepoint-disposal/${ID}`, DISPOSE, { type: "done" }, "savepoint-disposal-status"],
    [
      `/jobs/${JID}/savepoints/${ID}`,
      STOP,
      { type: "failed", failure: FAILURE },
      { status: { id: "COMPLETED" }, operation: { "failure-cause": { class: "CHECKPOINT_DECLINED" } } },
    ],
  ])("%s of %j", async (path, request, outcome, expected) => {
    const source = sourceOf(runningJob());
    const view = { ...source.view, operation: () => ({ id: ID, request, outcome }) };
    const { status, body } = await answer(
      { method: "GET", path, query: {}, body: "", operationId: undefined },
      { ...source, view },
    );
    expect(status).toBe(200);
    if (typeof expected === "string") expect(shapeDifferences(body, recording(expected))).toEqual([]);
    else expect(body).toMatchObject(expected);
  });
});

describe("PUT resource-requirements", () => {
  const ID = "0123456789abcdef0123456789abcdee";
  const PATH = `/jobs/${JID}/resource-requirements`;
  const bounds = (lowerBound: number, upperBound: number): object => ({ parallelism: { lowerBound, upperBound } });
  const put = (body: unknown, source = sourceOf(runningJob()), operationId?: string): Promise<RestResponse> =>
    answer({ method: "PUT", path: PATH, query: {}, body: JSON.stringify(body), operationId }, source);
  const request = {
    kind: "rescale",
    requirements: { [SOURCE_ID]: bounds(1, 1), [SUM_ID]: bounds(1, 2) },
  } as Started["request"];

  test("is an operation, with its id in the header; the order of the vertices does not matter", async () => {
    const started: Started[] = [];
    const source = sourceOf(runningJob(), started);
    expect(await put({ [SUM_ID]: bounds(1, 2), [SOURCE_ID]: bounds(1, 1) }, source, ID)).toEqual({
      status: 200,
      body: {},
    });
    await put({ [SOURCE_ID]: bounds(1, 1), [SUM_ID.toUpperCase()]: bounds(1, 2) }, source, ID);
    expect(started).toEqual([
      { id: ID, request },
      { id: ID, request },
    ]);
  });

  test("GET tells what was asked for, and before that what the job has", async () => {
    expect((await ask(PATH)).body).toEqual({ [SOURCE_ID]: bounds(2, 2), [SUM_ID]: bounds(2, 2) });
    const requirements = { [SOURCE_ID]: bounds(1, 4), [SUM_ID]: bounds(2, 3) } as JobView["requirements"];
    expect((await ask(PATH, runningJob({ requirements }))).body).toEqual(requirements);
  });

  test.each<[body: unknown, status: number, message: string, job?: JobView]>([
    [{}, 400, `missing job vertex [${SOURCE_ID}]`],
    [{ [SOURCE_ID]: bounds(1, 2) }, 400, `missing job vertex [${SUM_ID}]`],
    [{ [SOURCE_ID]: bounds(2, 1), [SUM_ID]: bounds(1, 1) }, 400, "greater than its upper bound"],
    [{ [SOURCE_ID]: bounds(1, 1), [SUM_ID]: bounds(1, 129) }, 400, "maximum parallelism [128], it was [129]"],
    [{ [SOURCE_ID]: { parallelism: { lowerBound: 1 } } }, 400, "upperBound"],
    [
      { [SOURCE_ID]: bounds(1, 1), [SUM_ID]: bounds(3, 4) },
      409,
      "the registered TaskManagers have 2. What to do: start",
    ],
    [
      { [SOURCE_ID]: bounds(1, 1), [SUM_ID]: bounds(1, 1) },
      409,
      "takes no checkpoints",
      runningJob({ checkpointConfig: { ...runningJob().checkpointConfig, intervalMs: null } }),
    ],
    [{ [SOURCE_ID]: bounds(1, 1), [SUM_ID]: bounds(1, 1) }, 409, "terminal state", runningJob({ state: "FINISHED" })],
    [{ [SOURCE_ID]: bounds(1, 1), [SUM_ID]: bounds(9, 9) }, 503, "Ask again", runningJob({ state: "INITIALIZING" })],
  ])("%j is refused with %i", async (body, status, message, job = runningJob()) => {
    const started: Started[] = [];
    const response = await put(body, sourceOf(job, started));
    expect(response.status).toBe(status);
    expect(JSON.stringify(response.body)).toContain(message);
    expect(started).toEqual([]);
  });

  test("one that failed says why under its id, also when it would be refused by now", async () => {
    const source = sourceOf(runningJob());
    const failure = {
      code: "CHECKPOINT_EXPIRED",
      retry: "never",
      message: "too late",
      remedy: "ask again",
      stack: "",
    } as const;
    const outcome: OperationOutcome = { type: "failed", failure };
    const view = { ...source.view, operation: () => ({ id: ID, request, outcome }), taskManagers: () => [] };
    const response = await put({ [SOURCE_ID]: bounds(1, 1), [SUM_ID]: bounds(1, 2) }, { ...source, view }, ID);
    expect(response).toEqual({ status: 500, body: { errors: ["CHECKPOINT_EXPIRED: too late. ask again"] } });
  });
});

describe("how the job ended", () => {
  test("is told once it has", async () => {
    const path = `/jobs/${JID}/execution-result`;
    expect((await ask(path)).body).toEqual({ status: { id: "IN_PROGRESS" }, "job-execution-result": null });
    expect((await ask(path, runningJob({ state: "FINISHED", endedAtMs: START_MS + 15_000 }))).body).toMatchObject({
      status: { id: "COMPLETED" },
      "job-execution-result": { id: JID, "application-status": "SUCCEEDED", "net-runtime": 15_000 },
    });
    const exceptions = [
      { name: "PEER_LOST", text: "PEER_LOST: gone", atMs: 1, taskName: null, endpoint: null, taskManagerId: null },
    ];
    const failed = runningJob({ state: "FAILED", endedAtMs: NOW_MS, exceptions });
    expect((await ask(path, failed)).body).toMatchObject({
      "job-execution-result": { "application-status": "FAILED", "failure-cause": { class: "PEER_LOST" } },
    });
  });
});

test("AW1: only who was told to ask again is waited for, and not for long", () => {
  let nowMs = 0;
  const awaited = new Awaited({ nowMs: () => nowMs, wallMs: () => nowMs });
  const told = (path: string, body: unknown): void => awaited.answered(path, { status: 200, body });
  told("/jobs", { jobs: [] });
  told("/jobs/1/status", { status: "RUNNING" });
  expect(awaited.isAwaited).toBe(false);
  told("/jobs/1/stop", { "request-id": "a" });
  expect(awaited.isAwaited).toBe(true);
  told("/jobs/1/savepoints/a", { status: { id: "IN_PROGRESS" } });
  told("/jobs/1/savepoints/a", { status: { id: "COMPLETED" } });
  expect(awaited.isAwaited).toBe(false);
  told("/jobs/1/execution-result", { status: { id: "IN_PROGRESS" } });
  nowMs = 4_000;
  expect(awaited.isAwaited).toBe(true);
  nowMs = 4_001;
  expect(awaited.isAwaited).toBe(false);
  const op = { id: "b", request: { kind: "cancel" }, outcome: null } as const;
  awaited.expect({ ops: [op], writtenMs: -60_000 });
  expect(awaited.isAwaited).toBe(false);
  awaited.expect({ ops: [op], writtenMs: 0 });
  expect(awaited.isAwaited).toBe(true);
});

describe("cancel", () => {
  test("is handed on once, with Flink's answer", async () => {
    const started: Started[] = [];
    const response = await ask(`/jobs/${JID}?mode=cancel`, runningJob(), "PATCH", started);
    expect(response).toEqual({ status: 202, body: recording("job-cancel") });
    expect(started.map(({ request }) => request)).toEqual([{ kind: "cancel" }]);
  });

  test.each<[state: JobView["state"], status: number, commands: number]>([
    ["FINISHED", 409, 0],
    ["FAILED", 409, 0],
    ["CANCELED", 202, 0],
    ["RESTARTING", 202, 1],
  ])("a %s job answers %i", async (state, status, commands) => {
    const started: Started[] = [];
    expect((await ask(`/jobs/${JID}`, runningJob({ state }), "PATCH", started)).status).toBe(status);
    expect(started).toHaveLength(commands);
  });

  test("a command that fails is an answer with code and remedy", async () => {
    const source = sourceOf(runningJob());
    const failure = new Failure("FENCED", {
      retry: "never",
      message: "a newer JobManager runs",
      remedy: "Ask that one.",
    });
    const response = await answer(
      { method: "PATCH", path: `/jobs/${JID}`, query: {}, body: "", operationId: undefined },
      { ...source, view: { ...source.view, startOperation: () => Promise.reject(failure) } },
    );
    expect(response).toEqual({ status: 500, body: { errors: ["FENCED: a newer JobManager runs. Ask that one."] } });
  });
});
