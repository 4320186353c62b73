// Data for tests of decide: a StreamJob, pods, answers; each with what is usual, and a change.

import { StreamJobSpec, withDefaults } from "@sluice/api";

import { attemptOf, podName, specHash, submissionOf } from "../objects/index.ts";
import type { Ended, JobManagerView, Observed, PodReportView, PodView } from "../observe/index.ts";
import type { Deployed, JobStatus, Operation } from "../status/index.ts";
import { decide } from "./index.ts";
import type { Action, Decision, JobView } from "./index.ts";

export const NOW = Date.parse("2026-01-01T00:10:00Z");
export const ago = (ms: number): string => new Date(NOW - ms).toISOString();
export const UID = "u1";
export const OP = (tries = 1, generation = 1): string => `${UID}/${generation}/${tries}`;

export function spec(change: Partial<StreamJobSpec> = {}): StreamJobSpec {
  return withDefaults(StreamJobSpec, {
    job: { path: "/opt/sluice/job/sum.ts" },
    image: "jobs:1",
    parallelism: 2,
    checkpointing: { dir: "s3://bucket/jobs", interval: "1s" },
    objectStore: { endpoint: "http://minio:9000", secretRef: { name: "minio" } },
    ...change,
  } as StreamJobSpec);
}

export function job(change: Partial<JobView> = {}): JobView {
  return {
    uid: UID,
    namespace: "ns",
    name: "sum",
    generation: 1,
    hasFinalizer: true,
    isDeleting: false,
    spec: spec(),
    problems: [],
    status: {},
    ...change,
  };
}

export function pod(change: Partial<PodView> & Pick<PodView, "component">): PodView {
  const attempt = change.attempt ?? attemptOf(OP());
  const name = change.name ?? podName({ job: "sum", component: change.component, attempt, index: 0 });
  return {
    uid: `uid-${name}`,
    phase: "Running",
    isReady: true,
    isDeleting: false,
    deletingSinceMs: undefined,
    createdAtMs: NOW - 60_000,
    podIp: "10.0.0.1",
    node: "n1",
    isNodeLost: false,
    unschedulable: undefined,
    waiting: undefined,
    restartCount: 0,
    ended: undefined,
    lastEnded: undefined,
    reason: "",
    message: "",
    ...change,
    name,
    attempt,
  };
}

export function ended(report: PodReportView | undefined, change: Partial<Ended> = {}): Ended {
  return { exitCode: report?.event === "preflight" ? 0 : 1, reason: "Error", atMs: NOW - 1_000, report, ...change };
}

export function jobManager(change: Partial<JobManagerView> = {}): JobManagerView {
  return {
    run: "r/0",
    jobId: "a".repeat(32),
    state: "RUNNING",
    isRunning: true,
    restarts: 0,
    failure: undefined,
    registeredTaskManagers: 2,
    completedCheckpoints: 3,
    lastCheckpoint: { id: 3, path: "s3://bucket/chk-3", completedAtMs: NOW - 500, sizeBytes: 1 },
    lastSavepoint: undefined,
    keepsForStarts: false,
    ...change,
  };
}

export function observed(change: Partial<Observed> = {}): Observed {
  return {
    pods: [],
    jobManager: undefined,
    operation: undefined,
    isNamespaceTerminating: false,
    refused: undefined,
    trial: undefined,
    ...change,
  };
}

export const SETTINGS = { defaultImage: "sluice:0" };
export function look(of: { readonly job?: JobView; readonly seen?: Observed }): Decision {
  return decide({ job: of.job ?? job(), observed: of.seen ?? observed(), settings: SETTINGS, nowMs: NOW });
}

export const words = (actions: readonly Action[]): string =>
  actions
    .map((action) =>
      "object" in action
        ? `${action.type} ${action.object.metadata.name}`
        : "name" in action
          ? `${action.type} ${action.name}`
          : action.type,
    )
    .join(", ");

export const condition = (decision: Decision, type: string): string => {
  const one = decision.status.conditions?.find((each) => each.type === type);
  return `${one?.status} ${one?.reason}`;
};

export function deployed(change: Partial<Deployed> = {}): Deployed {
  const attempt = attemptOf(OP());
  const ref = (
    component: "jobmanager" | "taskmanager",
    index: number,
  ): { readonly index: number; readonly uid: string } => ({
    index,
    uid: `uid-${podName({ job: "sum", component, attempt, index })}`,
  });
  return {
    generation: 1,
    hash: specHash(spec()),
    attempt,
    submission: submissionOf(OP()),
    image: "jobs:1",
    parallelism: 2,
    restore: { mayCreate: true, newLineage: false, onForeignLog: "refuse", pinRestored: false },
    startedAt: ago(120_000),
    runningAt: ago(100_000),
    pods: { next: 3, jobManager: ref("jobmanager", 0), taskManagers: [ref("taskmanager", 1), ref("taskmanager", 2)] },
    process: { id: "r/0", restarts: 0 },
    ...change,
  };
}

export function runningPods(attempt = attemptOf(OP())): readonly PodView[] {
  return [
    pod({ component: "jobmanager", attempt }),
    ...[1, 2].map((index) =>
      pod({
        component: "taskmanager",
        attempt,
        name: podName({ job: "sum", component: "taskmanager", attempt, index }),
      }),
    ),
  ];
}

export function stableStatus(change: Partial<JobStatus> = {}): JobStatus {
  const { generation, hash, attempt } = deployed();
  return {
    observedGeneration: 1,
    lifecycleState: "Stable",
    everStateful: true,
    deployed: deployed(),
    deployedSpec: spec(),
    lastStable: { generation, hash, attempt, at: ago(90_000) },
    ...change,
  };
}

export function operation(change: Partial<Operation> = {}): Operation {
  return {
    id: OP(1, 2),
    kind: "Upgrade",
    step: "Preflight",
    generation: 2,
    hash: "h",
    tries: 1,
    mode: "Savepoint",
    startedAt: ago(5_000),
    stepAt: ago(5_000),
    deadline: new Date(NOW + 200_000).toISOString(),
    ...change,
  };
}

export const OK: PodReportView = { event: "preflight", ok: true, slots: 2, log: { kind: "absent" } };

/** The API server takes the pods of that operation. */
export const taken = (opId = OP()): Pick<Observed, "trial"> => ({ trial: { opId, refused: undefined } });

export function exists(uid: string, jobState: "active" | "finished" = "active"): NonNullable<PodReportView["log"]> {
  return {
    kind: "exists",
    uid,
    lineage: "l",
    submission: "s",
    seq: 3,
    jobState,
    closed: jobState === "finished",
    headPath: "s3://bucket/chk-3",
  };
}
