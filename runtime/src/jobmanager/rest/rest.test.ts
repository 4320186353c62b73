// REST against recordings of Flink, and what it refuses.

import { describe, expect, test } from "@jest/globals";
import { problemsOf, SLUICE_VERSION, SluiceStatusMessage } from "@sluice/api";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import {
  checkpoint,
  JID,
  NO_CHECKPOINTS,
  NOW_MS,
  runningJob,
  SOURCE_ID,
  START_MS,
  subtask,
  SUM_ID,
  sourceOf,
} from "../../../test/jobmanager-view.ts";
import type { Started } from "../../../test/jobmanager-view.ts";
import { recording, shapeDifferences } from "../../../test/shape.ts";
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

const RUNNING = runningJob();

const FINISHED = runningJob({
  state: "FINISHED",
  endedAtMs: START_MS + 15_000,
  vertices: [SOURCE_ID, SUM_ID].map((id) => ({ id, subtasks: [subtask(0, "FINISHED"), subtask(1, "FINISHED")] })),
});

const RESTARTED = runningJob({
  restartCount: 1,
  checkpoints: {
    ...runningJob().checkpoints,
    counts: { restored: 1, total: 4, inProgress: 1, completed: 2, failed: 1 },
    latestFailed: checkpoint(3, {
      status: "FAILED",
      externalPath: "",
      failureMessage: "expired",
      failureTimestampMs: NOW_MS,
    }),
    latestRestored: {
      id: checkpoint(2).id,
      restoreTimestampMs: NOW_MS,
      isSavepoint: false,
      externalPath: "default/sum/chk-2/_metadata",
    },
  },
  exceptions: [
    {
      name: "PEER_LOST",
      text: "PEER_LOST: TaskManager tm2 is gone",
      atMs: NOW_MS,
      taskName: "sum (1/2) - execution #0",
      endpoint: "127.0.0.1:41335",
      taskManagerId: "tm2",
    },
  ],
});

describe("the shapes are Flink's", () => {
  test.each<[path: string, recorded: string, job: JobView]>([
    ["/overview", "overview", RUNNING],
    ["/v1/overview", "overview", RUNNING],
    ["/config", "config", RUNNING],
    ["/jobs", "jobs", RUNNING],
    ["/jobs/overview", "jobs-overview", RUNNING],
    [`/jobs/${JID}`, "job", RUNNING],
    [`/jobs/${JID}`, "job-finished", FINISHED],
    [`/jobs/${JID}/status`, "job-jobplan-status", RUNNING],
    [`/jobs/${JID}/plan`, "job-plan", RUNNING],
    [`/jobs/${JID}/config`, "job-config", RUNNING],
    [`/jobs/${JID}/exceptions`, "job-exceptions", RUNNING],
    [`/jobs/${JID}/exceptions`, "job-exceptions-after-tm-kill", RESTARTED],
    [`/jobs/${JID}/metrics`, "job-metrics", RUNNING],
    [`/jobs/${JID}/metrics?get=uptime,numRestarts,nope`, "job-metrics-get", RUNNING],
    [`/jobs/${JID}/checkpoints`, "job-checkpoints", RUNNING],
    [`/jobs/${JID}/checkpoints`, "job-checkpoints-after-restore", RESTARTED],
    [`/jobs/${JID}/checkpoints/config`, "job-checkpoints-config", RUNNING],
    [`/jobs/${JID}/checkpoints/details/2`, "job-checkpoint-details", RUNNING],
    [`/jobs/${JID}/checkpoints/details/2/subtasks/${SUM_ID}`, "job-checkpoint-details-subtasks-v1", RUNNING],
    ["/taskmanagers", "taskmanagers", RUNNING],
    ["/taskmanagers/tm1", "taskmanager", RUNNING],
    ["/taskmanagers/tm1/metrics", "taskmanager-metrics", RUNNING],
    [
      "/taskmanagers/tm1/metrics?get=Status.JVM.CPU.Load,Status.JVM.Memory.Heap.Used",
      "taskmanager-metrics-get",
      RUNNING,
    ],
    ["/taskmanagers/metrics", "taskmanagers-metrics", RUNNING],
    ["/datasets", "cluster-datasets", RUNNING],
    ["/jobmanager/config", "jobmanager-config", RUNNING],
    ["/jobmanager/environment", "jobmanager-environment", RUNNING],
    ["/jobmanager/logs", "jobmanager-logs", RUNNING],
    ["/jobmanager/metrics", "jobmanager-metrics", RUNNING],
    ["/jobs/metrics", "jobs-metrics", RUNNING],
    [`/jobs/${JID}/accumulators`, "job-accumulators", RUNNING],
    [`/jobs/${JID}/jobmanager/config`, "jobmanager-config", RUNNING],
    [`/jobs/${JID}/jobmanager/environment`, "jobmanager-environment", RUNNING],
    [`/jobs/${JID}/vertices/${SOURCE_ID}`, "job-vertex-v0", RUNNING],
    [`/jobs/${JID}/vertices/${SUM_ID}`, "job-vertex-v1", RUNNING],
    [`/jobs/${JID}/vertices/${SUM_ID}/accumulators`, "job-vertex-accumulators-v0", RUNNING],
    [`/jobs/${JID}/vertices/${SUM_ID}/backpressure`, "job-vertex-backpressure-v0", RUNNING],
    [`/jobs/${JID}/vertices/${SUM_ID}/metrics`, "job-vertex-metrics-v0", RUNNING],
    [`/jobs/${JID}/vertices/${SUM_ID}/metrics?get=0.numRecordsIn,nope`, "job-vertex-metrics-get-v1", RUNNING],
    [`/jobs/${JID}/vertices/${SOURCE_ID}/watermarks`, "job-vertex-watermarks-v0", RUNNING],
    [`/jobs/${JID}/vertices/${SOURCE_ID}/jm-operator-metrics`, "job-vertex-jm-operator-metrics-v0", RUNNING],
    [`/jobs/${JID}/vertices/${SUM_ID}/taskmanagers`, "job-vertex-taskmanagers-v1", RUNNING],
    [`/jobs/${JID}/vertices/${SUM_ID}/subtasktimes`, "job-vertex-subtasktimes-v0", RUNNING],
    [`/jobs/${JID}/vertices/${SUM_ID}/subtasks/metrics`, "job-vertex-subtasks-metrics-v0", RUNNING],
    [
      `/jobs/${JID}/vertices/${SUM_ID}/subtasks/metrics?get=numRecordsIn,busyTimeMsPerSecond`,
      "job-vertex-subtasks-metrics-get-v0",
      RUNNING,
    ],
    [`/jobs/${JID}/vertices/${SUM_ID}/subtasks/accumulators`, "job-vertex-subtasks-accumulators-v0", RUNNING],
    [`/jobs/${JID}/vertices/${SUM_ID}/subtasks/0`, "job-vertex-subtask0-v0", RUNNING],
    [`/jobs/${JID}/vertices/${SUM_ID}/subtasks/0/attempts/0`, "job-vertex-subtask0-attempt0-v0", RUNNING],
    [`/jobs/${JID}/vertices/${SUM_ID}/subtasks/0/metrics`, "job-vertex-subtask0-metrics-v0", RUNNING],
  ])("%s is like %s", async (path, recorded, job) => {
    const { status, body } = await ask(path, job);
    expect(status).toBe(200);
    expect(shapeDifferences(JSON.parse(JSON.stringify(body)), recording(recorded))).toEqual([]);
  });

  test("the comparison itself finds a missing, an additional and a wrong field", () => {
    expect(shapeDifferences({ a: 1, c: "x", d: [{ e: null }] }, { a: "1", b: 1, d: [{ e: 1 }] })).toEqual([
      "$.a: number instead of string",
      "$.c: Flink does not have it",
      "$.d[].e: null instead of number",
      "$.b: is missing",
    ]);
  });

  test.each<[path: string, recorded: string]>([
    [`/jobs/${JID}/vertices/${SUM_ID}/subtasks/metrics`, "job-vertex-subtasks-metrics-v1"],
    ["/jobmanager/metrics", "jobmanager-metrics"],
    ["/taskmanagers/metrics", "taskmanagers-metrics"],
  ])("every metric of %s is one of Flink's", async (path, recorded) => {
    const flink = (recording(recorded) as { readonly id: string }[]).map(({ id }) => id);
    const ids = ((await ask(path)).body as { readonly id: string }[]).map(({ id }) => id);
    const ofOperators = (id: string): boolean => /^(sum|sink)\./u.test(id);
    expect(ids.filter((id) => !flink.includes(id) && !ofOperators(id))).toEqual([]);
  });

  test("a job's metrics are among Flink's names", async () => {
    const { body } = await ask(`/jobs/${JID}/metrics`);
    const ids = (body as { readonly id: string }[]).map(({ id }) => id);
    const flink = (recording("job-metrics") as { readonly id: string }[]).map(({ id }) => id);
    const absent = flink.filter((id) => !ids.includes(id));
    // deployment is not measured on its own, and the metadata has no separate size
    expect(absent.sort()).toEqual(["allSubTasksRunningOrFinishedTime", "deployingTime", "lastCheckpointMetadataSize"]);
  });
});

describe("what it says", () => {
  const body = async (path: string, job?: JobView): Promise<Record<string, unknown>> =>
    (await ask(path, job)).body as Record<string, unknown>;

  test("times, states and sums of a running job", async () => {
    expect(await body(`/jobs/${JID}`)).toMatchObject({
      jid: JID,
      state: "RUNNING",
      "start-time": START_MS,
      "end-time": -1,
      duration: 20_000,
      now: NOW_MS,
      "status-counts": { RUNNING: 2, FAILED: 0 },
      vertices: [
        {
          id: SOURCE_ID,
          status: "RUNNING",
          duration: 19_500,
          metrics: { "write-records": 100, "accumulated-busy-time": 3_001 },
        },
        { id: SUM_ID, metrics: { "read-records": 200, "read-bytes": 2_000 } },
      ],
      plan: {
        nodes: [
          { id: SUM_ID, description: "sum<br/>+- sink<br/>", inputs: [{ ship_strategy: "HASH" }] },
          { id: SOURCE_ID },
        ],
      },
    });
  });

  test("a finished job has an end, and its vertices have too", async () =>
    expect(await body(`/jobs/${JID}`, FINISHED)).toMatchObject({
      state: "FINISHED",
      duration: 15_000,
      vertices: [{ status: "FINISHED", "end-time": START_MS + 15_000, duration: 14_500 }, {}],
    }));

  test.each<[states: readonly [Parameters<typeof subtask>[1], Parameters<typeof subtask>[1]], expected: string]>([
    [["RUNNING", "FAILED"], "FAILED"],
    [["RUNNING", "CANCELING"], "CANCELING"],
    [["RUNNING", "INITIALIZING"], "INITIALIZING"],
    [["RUNNING", "FINISHED"], "RUNNING"],
    [["CREATED", "FINISHED"], "RUNNING"],
    [["SCHEDULED", "DEPLOYING"], "CREATED"],
  ])("a vertex of %j is %s", async ([a, b], expected) =>
    expect(
      await body(
        `/jobs/${JID}`,
        runningJob({ vertices: [{ id: SOURCE_ID, subtasks: [subtask(0, a), subtask(1, b)] }] }),
      ),
    ).toMatchObject({ vertices: [{ status: expected }, { status: "CREATED" }] }),
  );

  test("the mode in force is shown, whatever the defaults are", async () => {
    expect(await body(`/jobs/${JID}/checkpoints/config`)).toMatchObject({
      mode: "exactly_once",
      interval: 4_000,
      externalization: { enabled: true, delete_on_cancellation: false },
    });
    const config = { ...runningJob().checkpointConfig, mode: "AT_LEAST_ONCE", intervalMs: null } as const;
    expect(await body(`/jobs/${JID}/checkpoints/config`, runningJob({ checkpointConfig: config }))).toMatchObject({
      mode: "at_least_once",
      interval: -1,
    });
  });

  test("a checkpoint's path is the URI of its directory", async () =>
    expect(await body(`/jobs/${JID}/checkpoints`)).toMatchObject({
      latest: { completed: { external_path: "file:///data/checkpoints/default/sum/chk-2" } },
    }));

  test.each([
    ["a path in the store", "default/sum/chk-2/_metadata", "file:///data/checkpoints/default/sum/chk-2"],
    [
      "a URI in the store",
      "file:///data/checkpoints/default/sum/chk-2/_metadata",
      "file:///data/checkpoints/default/sum/chk-2",
    ],
    ["a URI elsewhere", "s3://bucket/savepoints/savepoint-1", "s3://bucket/savepoints/savepoint-1"],
  ])("... named by %s", async (_what, externalPath, uri) => {
    const checkpoints = { ...NO_CHECKPOINTS, latestSavepoint: checkpoint(7, { isSavepoint: true, externalPath }) };
    expect(await body(`/jobs/${JID}/checkpoints`, runningJob({ checkpoints }))).toMatchObject({
      latest: { savepoint: { external_path: uri } },
    });
  });

  test("all that whoever looks after the job asks for is in one answer", async () => {
    const status = await body("/sluice/status", RESTARTED);
    expect(problemsOf(SluiceStatusMessage, status, { allowsUnknownFields: false })).toEqual([]);
    expect(status).toEqual({
      jobId: JID,
      jobName: 'sum "by" key',
      state: "RUNNING",
      sinceMs: START_MS + 20,
      runningSinceMs: START_MS + 20,
      restarts: 1,
      failure: { code: "PEER_LOST", message: "PEER_LOST: TaskManager tm2 is gone", atMs: NOW_MS },
      taskManagers: { registered: ["tm1"], slots: 2, slotsRequired: 2 },
      checkpoints: {
        completed: 2,
        failed: 1,
        latest: {
          id: 2,
          path: "file:///data/checkpoints/default/sum/chk-2",
          completedAtMs: START_MS + 2_050,
          sizeBytes: 4_000,
        },
        latestSavepoint: null,
        restored: { id: 2, path: "file:///data/checkpoints/default/sum/chk-2", isSavepoint: false, atMs: NOW_MS },
      },
      submission: "5ab1e",
      log: {
        seq: 12,
        epoch: 3,
        uid: "u-1",
        lineage: "5ab1e",
        headId: 2,
        headPath: "file:///data/checkpoints/default/sum/chk-2",
        pins: [],
      },
    });
  });

  test("quantiles interpolate as Flink's: ranks of n + 1", async () => {
    const sizes = [10, 20, 30, 40, 50, 60];
    const checkpoints = { ...runningJob().checkpoints, completedSizesBytes: sizes };
    expect(await body(`/jobs/${JID}/checkpoints`, runningJob({ checkpoints }))).toMatchObject({
      summary: { state_size: { min: 10, max: 60, avg: 35, p50: 35, p90: 60, p999: 60 } },
    });
    expect(await body(`/jobs/${JID}/checkpoints`, runningJob({ checkpoints: NO_CHECKPOINTS }))).toMatchObject({
      summary: { state_size: { min: 0, max: 0, avg: 0, p50: "NaN" } },
    });
  });

  test("a subtask that has not acknowledged is pending", async () => {
    const stats = checkpoint(5, { status: "IN_PROGRESS" });
    const vertices = stats.vertices.map((vertex) => ({ ...vertex, subtasks: vertex.subtasks.slice(1) }));
    const checkpoints = { ...NO_CHECKPOINTS, history: [{ ...stats, vertices }] };
    const path = `/jobs/${JID}/checkpoints/details/5/subtasks/${SUM_ID}`;
    expect(await body(path, runningJob({ checkpoints }))).toMatchObject({
      subtasks: [
        { index: 0, className: "pending" },
        { index: 1, className: "completed" },
      ],
    });
  });

  test("a name is text, never HTML", async () => {
    const plan = { ...runningJob().plan };
    const [source] = plan.vertices;
    const named = { ...source!, chain: [{ ...source!.chain[0]!, name: "<b>" }] };
    expect(await body(`/jobs/${JID}/plan`, runningJob({ plan: { ...plan, vertices: [named] } }))).toMatchObject({
      plan: { nodes: [{ description: "&lt;b&gt;<br/>" }] },
    });
  });

  test("the version is that of the package", () => {
    const manifest = readFileSync(join(import.meta.dirname, "../../../package.json"), "utf8");
    expect((JSON.parse(manifest) as { version: string }).version).toBe(SLUICE_VERSION);
  });
});

describe("RR3: errors say what was asked and what is wrong", () => {
  test.each([
    ["GET", "/nope", 404, "Unable to load requested file /nope."],
    ["GET", "/", 404, "Unable to load requested file /."],
    ["GET", "/jars", 404, "Unable to load requested file /jars."],
    ["GET", "/jobs/xyz", 400, 'Cannot resolve path parameter (jobid) from value "xyz"'],
    ["GET", `/jobs/${"0".repeat(32)}`, 404, `Job ${"0".repeat(32)} not found`],
    ["GET", `/jobs/${JID}/nope`, 404, "Unable to load"],
    ["GET", `/jobs/${JID}/plan/more`, 404, "Unable to load"],
    ["GET", `/jobs/${JID}/checkpoints/details/x`, 400, "(checkpointid)"],
    ["GET", `/jobs/${JID}/checkpoints/details/99`, 404, "checkpoint 99"],
    ["GET", `/jobs/${JID}/checkpoints/details/2/subtasks/${"0".repeat(32)}`, 404, "not found"],
    ["GET", `/jobs/${JID}/exceptions?maxExceptions=all`, 400, "maxExceptions"],
    ["POST", "/overview", 405, "does not take POST"],
    ["PATCH", `/jobs/${JID}?mode=pause`, 400, '"pause"'],
    ["PATCH", `/jobs/${JID}?mode=stop`, 410, "cancel"],
    ["PATCH", `/jobs/${"0".repeat(32)}`, 404, "not found"],
    ["GET", `/jobs/${JID}/vertices/${"0".repeat(32)}`, 404, `JobVertex ${"0".repeat(32)} not found`],
    ["GET", `/jobs/${JID}/vertices/x/metrics`, 400, "(vertexid)"],
    ["GET", `/jobs/${JID}/vertices/${SUM_ID}/subtasks/2`, 404, "subtask 2"],
    ["GET", `/jobs/${JID}/vertices/${SUM_ID}/subtasks/-1`, 400, "(subtaskindex)"],
    ["GET", `/jobs/${JID}/vertices/${SUM_ID}/subtasks/0/attempts/7`, 404, "attempt 7"],
    ["GET", `/jobs/${JID}/vertices/${SUM_ID}/flamegraph`, 404, "Unable to load"],
    ["GET", `/jobs/${JID}/vertices/${SUM_ID}/subtasks/metrics?get=numRecordsIn&agg=mode`, 400, '"mode"'],
    ["GET", `/jobs/${JID}/vertices/${SUM_ID}/subtasks/metrics?get=numRecordsIn&subtasks=a`, 400, '"a"'],
    ["GET", "/taskmanagers/nope", 404, "nope"],
    ["GET", "/jobmanager/logs/other.log", 404, "other.log"],
    ["GET", `/jobs/${JID}/savepoints/${"0".repeat(32)}`, 404, "There is no savepoint operation with triggerId=000"],
    ["GET", `/jobs/${JID}/checkpoints/${"0".repeat(32)}`, 404, "There is no checkpoint operation"],
    ["GET", `/savepoint-disposal/${"0".repeat(32)}`, 404, "There is no savepoint disposal operation"],
    ["PUT", `/jobs/${JID}/resource-requirements`, 400, "The request is incomplete, missing job vertex"],
    ["PUT", `/jobs/${"0".repeat(32)}/resource-requirements`, 404, "not found"],
    ["DELETE", `/jobs/${JID}`, 405, "does not take DELETE"],
  ])("%s %s -> %i", async (method, path, status, message) => {
    const response = await ask(path, runningJob(), method);
    expect(response.status).toBe(status);
    const { errors } = response.body as { readonly errors: readonly string[] };
    expect(errors).toHaveLength(1);
    expect(errors[0]).toContain(message);
    expect(errors[0]).not.toContain("\tat ");
  });

  test("unknown paths in Flink's words", async () =>
    expect((await ask("/nope")).body).toEqual(recording("error-unknown-path")));
});

describe("metrics over several things", () => {
  const path = `/jobs/${JID}/vertices/${SUM_ID}/subtasks/metrics`;
  const get = async (query: string): Promise<unknown> => (await ask(`${path}?${query}`)).body;

  test("aggregates as Flink's", async () => {
    expect(await get("get=numRecordsIn")).toEqual([
      { id: "numRecordsIn", min: 100, max: 200, avg: 150, sum: 300, skew: expect.closeTo(33.33, 2) },
    ]);
    expect(await get("get=numRecordsIn,nope&agg=max,sum")).toEqual([{ id: "numRecordsIn", max: 200, sum: 300 }]);
    expect(await get("get=numRecordsIn&agg=SUM&subtasks=1-7")).toEqual([{ id: "numRecordsIn", sum: 200 }]);
    expect(await get("get=isBackPressured")).toEqual([]);
    expect((await ask(`/jobs/metrics?get=numRestarts&agg=max&jobs=${"0".repeat(32)}`)).body).toEqual([]);
    expect((await ask("/jobs/metrics?get=numRestarts&agg=max")).body).toEqual([{ id: "numRestarts", max: 0 }]);
  });

  test("what the autoscaler of Flink's operator asks for is there", async () => {
    const names = async (target: string): Promise<readonly string[]> =>
      ((await ask(target)).body as { readonly id: string }[]).map(({ id }) => id);
    expect(await names(path)).toEqual(
      expect.arrayContaining(["busyTimeMsPerSecond", "backPressuredTimeMsPerSecond", "numRecordsInPerSecond"]),
    );
    expect(await names(`/jobs/${JID}/vertices/${SOURCE_ID}/subtasks/metrics`)).toEqual(
      expect.arrayContaining(["Source__flights.numRecordsOut", "Source__flights.numRecordsOutPerSecond"]),
    );
    expect(await names("/jobmanager/metrics")).toEqual(
      expect.arrayContaining(["taskSlotsTotal", "taskSlotsAvailable"]),
    );
    expect(await names("/taskmanagers/metrics")).toEqual(
      expect.arrayContaining(["Status.JVM.Memory.Heap.Used", "Status.JVM.Memory.Heap.Max"]),
    );
  });

  test("a subtask without a heartbeat has no figures, and makes up none", async () => {
    const job = runningJob({ vertices: [{ id: SUM_ID, subtasks: [subtask(0, "RUNNING", { figures: {} })] }] });
    expect((await ask(path, job)).body).toEqual([]);
    expect((await ask(`/jobs/${JID}/vertices/${SUM_ID}/backpressure`, job)).body).toMatchObject({ subtasks: [] });
  });
});

test("backpressure is ok up to 10 %, low up to 50 %, and that of the worst subtask", async () =>
  expect((await ask(`/jobs/${JID}/vertices/${SUM_ID}/backpressure`)).body).toMatchObject({
    backpressureLevel: "low",
    subtasks: [
      { backpressureLevel: "low", ratio: 0.425, busyRatio: 0.575 },
      { backpressureLevel: "ok", ratio: 0.04 },
    ],
  }));

test("values of keys that look like secrets are hidden", async () => {
  const job = runningJob({ configuration: { "s3.secret-key": "abc", "parallelism.default": "2" } });
  expect((await ask("/jobmanager/config", job)).body).toEqual([
    { key: "s3.secret-key", value: "******" },
    { key: "parallelism.default", value: "2" },
  ]);
});
