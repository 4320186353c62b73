// One case per reason of docs/operator/troubleshooting.md: what is observed, and the condition that says it. The page and the cases
// name the same reasons, so that a new one gets both; and no reason that the source writes is missing in the page.
//
// Not here: what follows from a reason (decide.test.ts).

import { describe, expect, test } from "@jest/globals";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { attemptOf } from "../objects/index.ts";
import type { JobManagerView, Observed, PodReportView, PodView } from "../observe/index.ts";
import type { JobStatus } from "../status/index.ts";
import {
  NOW,
  OK,
  OP,
  UID,
  ago,
  deployed,
  ended,
  exists,
  job,
  jobManager,
  look,
  observed,
  operation,
  pod,
  runningPods,
  spec,
  stableStatus,
} from "./decide.fixture.ts";
import type { Decision, JobView } from "./index.ts";

const JOB_ID = "a".repeat(32);
const failure = (code: string, retry: "never" | "backoff" = "never"): PodReportView => ({
  event: "failure",
  code,
  message: `what went wrong: ${code}`,
  remedy: "what to do about it",
  retry,
});

/** An upgrade whose preflight pod is like this, beside the old version. */
function gate(
  change: Partial<PodView>,
  more: { readonly job?: Partial<JobView>; readonly op?: object } = {},
): Decision {
  const attempt = attemptOf(OP(1, 2));
  const changed = job({
    generation: 2,
    spec: spec({ args: ["2"] }),
    status: stableStatus({ jobId: JOB_ID, op: operation(more.op) }),
    ...more.job,
  });
  const pods = [...runningPods(), pod({ component: "preflight", attempt, ...change })];
  return look({ job: changed, seen: observed({ pods, jobManager: jobManager() }) });
}

const reported = (code: string): Decision => gate({ phase: "Failed", ended: ended(failure(code)) });
const waits = (reason: string, message = "the kubelet's words"): Decision =>
  gate({ phase: "Pending", waiting: { reason, message } });
const log = (head: NonNullable<PodReportView["log"]>): Decision =>
  gate({ phase: "Succeeded", ended: ended({ ...OK, log: head }) });

/** A job that runs, or ought to. */
function running(seen: Partial<Observed>, status: Partial<JobStatus> = {}): Decision {
  const all = observed({ pods: runningPods(), jobManager: jobManager(), ...seen });
  return look({ job: job({ status: stableStatus(status) }), seen: all });
}

/** A new version in this step, for longer than its deadline. */
function overdue(step: "Deploy" | "Verify", seen: Partial<JobManagerView>): Decision {
  const op = operation({ id: OP(), generation: 1, kind: "Deploy", step, stepAt: ago(3_600_000) });
  const status: JobStatus = {
    everStateful: true,
    op,
    deployed: deployed({ startedAt: ago(3_600_000) }),
    deployedSpec: spec(),
  };
  return look({ job: job({ status }), seen: observed({ pods: runningPods(), jobManager: jobManager(seen) }) });
}

const first = (change: Partial<PodView>): readonly PodView[] =>
  runningPods().map((one, at) => (at === 0 ? { ...one, ...change } : one));

const late = { deadline: ago(1_000) };
const configMap = { job: { configMap: { name: "jobs", key: "sum.ts" } } };

const STALLED: Readonly<Record<string, () => Decision>> = {
  InvalidSpec: () => look({ job: job({ problems: ["spec.parallelism: 0 is not a number of subtasks"] }) }),
  MemoryTooSmall: () =>
    look({
      job: job({ spec: spec({ taskManager: { ...spec().taskManager, resources: { cpu: "1", memory: "64Mi" } } }) }),
    }),
  PodRefused: () => {
    const op = operation();
    const refused = { opId: op.id, what: "Pod ns/sum", status: 422, message: "podTemplate is wrong" };
    const attempt = attemptOf(OP(1, 2));
    const passed = ended({ ...OK, log: exists(UID) });
    const pods = [...runningPods(), pod({ component: "preflight", attempt, phase: "Succeeded", ended: passed })];
    return look({
      job: job({ generation: 2, spec: spec({ args: ["2"] }), status: stableStatus({ op }) }),
      seen: observed({ pods, jobManager: jobManager(), trial: { opId: op.id, refused } }),
    });
  },
  ImagePullFailed: () => waits("ImagePullBackOff"),
  SecretMissing: () => waits("CreateContainerConfigError", 'secret "minio" not found'),
  ConfigMapMissing: () =>
    gate({ phase: "Failed", ended: ended(failure("JOB_MODULE_NOT_FOUND")) }, { job: { spec: spec(configMap) } }),
  ContainerRefused: () => waits("CreateContainerError"),
  ContainerCrashed: () => gate({ phase: "Failed", ended: ended(undefined, { exitCode: 139 }) }, { op: { tries: 4 } }),
  PodFailed: () => gate({ phase: "Failed", reason: "Evicted", message: "low on memory" }, { op: { tries: 4 } }),
  NodeLost: () => gate({ phase: "Running", isNodeLost: true }, { op: { tries: 4 } }),
  Unschedulable: () => gate({ phase: "Pending", unschedulable: "0/3 nodes are available" }, { op: late }),
  PreflightTimeout: () => gate({ phase: "Running" }, { op: late }),
  JobModuleNotFound: () => reported("JOB_MODULE_NOT_FOUND"),
  JobModuleInvalid: () => reported("JOB_MODULE_INVALID"),
  JobMainFailed: () => reported("JOB_MAIN_FAILED"),
  JobMainTimeout: () => reported("JOB_MAIN_TIMEOUT"),
  ConfigInvalid: () => reported("CONFIG_INVALID"),
  ConfigUnknownKey: () => reported("CONFIG_UNKNOWN_KEY"),
  ConfigNotImplemented: () => reported("CONFIG_NOT_IMPLEMENTED"),
  JobGraphInvalid: () => reported("JOB_GRAPH_INVALID"),
  StorageDenied: () => reported("STORAGE_DENIED"),
  StorageUnavailable: () =>
    gate({ phase: "Failed", ended: ended(failure("STORAGE_UNAVAILABLE", "backoff")) }, { op: { tries: 4 } }),
  InputNotFound: () => reported("INPUT_NOT_FOUND"),
  ExistingData: () => {
    const pf = pod({
      component: "preflight",
      phase: "Succeeded",
      ended: ended({ ...OK, log: exists("other") }),
    });
    const status = { op: operation({ id: OP(), generation: 1, kind: "Deploy" }) };
    return look({ job: job({ status }), seen: observed({ pods: [pf] }) });
  },
  StateMissing: () => log({ kind: "absent" }),
  JobFinished: () => log(exists(UID, "finished")),
  SavepointFailed: () => {
    const op = operation({ step: "Stop", tries: 3, triggerId: "b".repeat(32) });
    return look({
      job: job({ generation: 2, spec: spec({ args: ["2"] }), status: stableStatus({ op }) }),
      seen: observed({
        pods: runningPods(),
        jobManager: jobManager(),
        operation: { type: "failed", message: "the store is full" },
      }),
    });
  },
  StateIncompatible: () =>
    running({ pods: first({ lastEnded: ended({ ...failure("STATE_INCOMPATIBLE"), event: "fatal" }) }) }),
  JobClosed: () => running({ pods: first({ lastEnded: ended({ ...failure("JOB_CLOSED"), event: "fatal" }) }) }),
  JobForeign: () => running({ pods: first({ lastEnded: ended({ ...failure("JOB_FOREIGN"), event: "fatal" }) }) }),
  NotRunning: () => overdue("Deploy", { state: "INITIALIZING", isRunning: false }),
  NotStable: () => overdue("Verify", { completedCheckpoints: 0 }),
  CrashLoop: () => running({ pods: first({ restartCount: 8 }), jobManager: jobManager({ lastCheckpoint: undefined }) }),
  OutOfMemory: () => gate({ phase: "Failed", ended: ended(undefined, { reason: "OOMKilled", exitCode: 137 }) }),
  JobFailed: () => running({ jobManager: jobManager({ state: "FAILED", isRunning: false }) }),
};

const DEGRADED: Readonly<Record<string, () => Decision>> = {
  JobManagerSilent: () => running({ jobManager: undefined }),
  JobNotRunning: () => running({ jobManager: jobManager({ state: "RESTARTING", isRunning: false }) }),
  TaskManagersMissing: () =>
    running({ pods: runningPods().map((one, at) => (at === 1 ? { ...one, isReady: false } : one)) }),
  OutOfMemory: () =>
    running({
      pods: first({ restartCount: 1, lastEnded: ended(undefined, { reason: "OOMKilled", atMs: NOW - 5_000 }) }),
    }),
  RequestRefused: () =>
    running({ refused: { opId: undefined, what: "Pod ns/sum", status: 403, message: "forbidden" } }),
};

/** Ready says it: the JobManager runs, the job does not yet. */
const READY: Readonly<Record<string, () => Decision>> = {
  WaitingForSlots: () => running({ jobManager: jobManager({ isRunning: false, registeredTaskManagers: 0 }) }),
};

const PAGE = readFileSync(join(import.meta.dirname, "../../../docs/operator/troubleshooting.md"), "utf8");

/** The names in the first column of the table under that heading. */
function reasonsOf(heading: string): readonly string[] {
  const section = PAGE.split(`## ${heading}\n`)[1]?.split("\n## ")[0] ?? "";
  return section
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .flatMap((line) => [...(line.split("|")[1] ?? "").matchAll(/`(\w+)`/gu)].map(([, name]) => name ?? ""));
}

test("the page and the cases name the same reasons", () => {
  expect(Object.keys(STALLED).toSorted()).toEqual(reasonsOf("Reasons of Stalled").toSorted());
  expect(Object.keys({ ...DEGRADED, ...READY }).toSorted()).toEqual(reasonsOf("Reasons of Degraded").toSorted());
});

const WRITTEN = [
  /\breason: "([A-Z][a-z]\w+)"/gu,
  /\breason: [\w.]+ \? "([A-Z][a-z]\w+)" : "([A-Z][a-z]\w+)"/gu,
  /\bready\("\w+", "([A-Z][a-z]\w+)"/gu,
  /\b(?:is|wait)\("([A-Z][a-z]\w+)"/gu,
];

test("no reason is missing in the troubleshooting page", () => {
  const files = readdirSync(import.meta.dirname).filter(
    (name) => name.endsWith(".ts") && !/\.(?:test|fixture)\.ts$/u.test(name),
  );
  const reasons = new Set(
    files.flatMap((name) => {
      const source = readFileSync(join(import.meta.dirname, name), "utf8");
      return WRITTEN.flatMap((pattern) => [...source.matchAll(pattern)].flatMap(([, ...found]) => found));
    }),
  );
  expect(reasons.size).toBeGreaterThan(20);
  expect([...reasons].filter((reason) => reason !== undefined && !PAGE.includes(`\`${reason}\``))).toEqual([]);
});

describe.each([
  ["Stalled", "True", STALLED],
  ["Degraded", "True", DEGRADED],
  ["Ready", "False", READY],
] as const)("%s", (type, status, cases) => {
  test.each(Object.entries(cases))("%s", (reason, make) => {
    const found = make().status.conditions?.find((one) => one.type === type);
    expect(`${found?.status} ${found?.reason}: ${found?.message}`).toMatch(
      new RegExp(`^${status} ${reason}: .{12}`, "u"),
    );
  });
});
