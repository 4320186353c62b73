// A JobManagerView made of plain data, for tests of REST and metrics.

import type { CheckpointId, JobPlan } from "../src/model/index.ts";
import type { CheckpointStats, CheckpointStatsSnapshot, OperationRequest } from "../src/checkpoint/index.ts";
import { DEFAULT_CHECKPOINT_CONFIG } from "../src/checkpoint/index.ts";
import { requirementsOf } from "../src/jobmanager/rescale.ts";
import { perExecutionState, perJobState } from "../src/jobmanager/rest/source.ts";
import type {
  ExecutionState,
  JobManagerView,
  JobView,
  ProcessView,
  RestSource,
  SubtaskView,
} from "../src/jobmanager/rest/source.ts";

export const JID = "0123456789abcdef0123456789abcdef";
export const SOURCE_ID = "a".repeat(32);
export const SUM_ID = "b".repeat(32);
/** When the job started. */
export const START_MS = 1_795_444_097_562;
export const NOW_MS = START_MS + 20_000;

const LONG = { kind: "LONG" } as const;

const PLAN: JobPlan = {
  formatVersion: 0,
  jobName: 'sum "by" key',
  digest: "d".repeat(64),
  arguments: [],
  configuration: {},
  vertices: [
    {
      id: SOURCE_ID,
      name: "Source: flights",
      parallelism: 2,
      maxParallelism: 128,
      chain: [{ transformationId: 0, name: "Source: flights", uid: "flights", kind: "source", stateful: true }],
      inputs: [],
      splits: [],
    },
    {
      id: SUM_ID,
      name: "sum -> sink",
      parallelism: 2,
      maxParallelism: 128,
      chain: [
        { transformationId: 1, name: "sum", uid: "sum", kind: "oneInput", stateful: true },
        { transformationId: 2, name: "sink", uid: "sink", kind: "sink", stateful: true },
      ],
      inputs: [
        { id: 0, sourceVertexId: SOURCE_ID, targetVertexId: SUM_ID, inputIndex: 0, partitioning: "HASH", type: LONG },
      ],
      splits: [],
    },
  ],
};

export function subtask(subtaskIndex: number, state: ExecutionState, change: Partial<SubtaskView> = {}): SubtaskView {
  const ended = state === "FINISHED" || state === "CANCELED" || state === "FAILED";
  return {
    subtaskIndex,
    state,
    attempt: 0,
    endpoint: "localhost:41335",
    taskManagerId: "tm1",
    startedAtMs: START_MS + 500,
    endedAtMs: ended ? START_MS + 15_000 : -1,
    runningAtMs: START_MS + 700,
    metrics: {
      readRecords: 100,
      readBytes: 1_000,
      writeRecords: 50,
      writeBytes: 500,
      busyMs: 1_500.4,
      idleMs: 200.2,
      backPressuredMs: 10.1,
    },
    enteredAtMs: {
      ...perExecutionState(0),
      CREATED: START_MS + 100,
      SCHEDULED: START_MS + 110,
      DEPLOYING: START_MS + 500,
      INITIALIZING: START_MS + 600,
      RUNNING: START_MS + 700,
      ...(ended ? { [state]: START_MS + 15_000 } : {}),
    },
    figures: {
      numRecordsIn: 100 * (subtaskIndex + 1),
      numRecordsOut: 50,
      numBytesIn: 1_000,
      numBytesOut: 500,
      busyTimeMs: 1_500.4,
      idleTimeMs: 200.2,
      backPressuredTimeMs: 10.1,
      isBackPressured: 0,
      checkpointAlignmentMs: 1.5,
      checkpointStartDelayMs: 2,
      numRecordsSkipped: 0,
      busyTimeMsPerSecond: 575,
      idleTimeMsPerSecond: 0,
      backPressuredTimeMsPerSecond: subtaskIndex === 0 ? 425 : 40,
      numRecordsInPerSecond: 336.5,
      numRecordsOutPerSecond: 10,
      numBytesInPerSecond: 100,
      numBytesOutPerSecond: 100,
    },
    ...change,
  };
}

/** A completed checkpoint of the plan's four subtasks; `change` makes another of it. */
export function checkpoint(id: number, change: Partial<CheckpointStats> = {}): CheckpointStats {
  const triggerTimestampMs = START_MS + id * 1_000;
  return {
    id: id as CheckpointId,
    status: "COMPLETED",
    isSavepoint: false,
    isFinal: false,
    triggerTimestampMs,
    latestAckTimestampMs: triggerTimestampMs + 40,
    endToEndDurationMs: 50,
    stateSizeBytes: 4_000,
    subtaskCount: 4,
    acknowledgedCount: 4,
    vertices: [SOURCE_ID, SUM_ID].map((vertexId) => ({
      vertexId,
      subtaskCount: 2,
      acknowledgedCount: 2,
      latestAckTimestampMs: triggerTimestampMs + 40,
      stateSizeBytes: 2_000,
      endToEndDurationMs: 40,
      subtasks: [0, 1].map((subtaskIndex) => ({
        subtaskIndex,
        ackTimestampMs: triggerTimestampMs + 40,
        endToEndDurationMs: 40,
        startDelayMs: 5.5,
        alignmentMs: 1.2,
        syncMs: 0.4,
        asyncMs: 12.7,
        stateSizeBytes: 1_000,
      })),
    })),
    externalPath: `default/sum/chk-${id}/_metadata`,
    discarded: false,
    failureMessage: "",
    failureTimestampMs: -1,
    ...change,
  };
}

export const NO_CHECKPOINTS: CheckpointStatsSnapshot = {
  counts: { restored: 0, total: 0, inProgress: 0, completed: 0, failed: 0 },
  latestCompleted: null,
  latestSavepoint: null,
  latestFailed: null,
  latestRestored: null,
  history: [],
  completedDurationsMs: [],
  completedSizesBytes: [],
};

/** A RUNNING job with two completed checkpoints. */
export function runningJob(change: Partial<JobView> = {}): JobView {
  return {
    jid: JID,
    state: "RUNNING",
    timestamps: { ...perJobState(0), INITIALIZING: START_MS, CREATED: START_MS + 10, RUNNING: START_MS + 20 },
    stateTotalsMs: { ...perJobState(0), INITIALIZING: 10, CREATED: 10, RUNNING: 19_980 },
    startedAtMs: START_MS,
    endedAtMs: -1,
    lastModifiedAtMs: START_MS + 700,
    plan: PLAN,
    vertices: [
      { id: SOURCE_ID, subtasks: [subtask(0, "RUNNING"), subtask(1, "RUNNING")] },
      { id: SUM_ID, subtasks: [subtask(0, "RUNNING"), subtask(1, "RUNNING")] },
    ],
    restartCount: 0,
    exceptions: [],
    exceptionsTruncated: false,
    checkpoints: {
      ...NO_CHECKPOINTS,
      counts: { restored: 0, total: 3, inProgress: 0, completed: 2, failed: 1 },
      latestCompleted: checkpoint(2),
      latestSavepoint: null,
      history: [checkpoint(2), checkpoint(1, { discarded: true })],
      completedDurationsMs: [50, 70],
      completedSizesBytes: [4_000, 3_000],
    },
    checkpointConfig: { ...DEFAULT_CHECKPOINT_CONFIG, intervalMs: 4_000 },
    configuration: {
      "execution.checkpointing.interval": "4 s",
      "execution.checkpointing.savepoint-dir": "file:///sp",
      "parallelism.default": "2",
    },
    storeUri: "file:///data/checkpoints",
    restored: undefined,
    rescaleCount: 0,
    requirements: requirementsOf(change.plan ?? PLAN),
    ...change,
  };
}

const TASK_MANAGER_METRICS = {
  "Status.JVM.Memory.Heap.Used": 600_000_000,
  "Status.JVM.Memory.Heap.Committed": 700_000_000,
  "Status.JVM.Memory.Heap.Max": 2_000_000_000,
  "Status.JVM.CPU.Load": 0.438,
  "Status.JVM.GarbageCollector.All.Count": 27,
  "Status.JVM.GarbageCollector.All.Time": 1_388,
};

/** An operation that was asked for. */
export interface Started {
  readonly id: string;
  readonly request: OperationRequest;
}

/** A view of `job` with one TaskManager of two slots; what is asked for is pushed to `started`, and none of it ever ends. */
export function viewOf(job: JobView, started: Started[] = []): JobManagerView {
  return {
    host: "localhost",
    wallMs: () => NOW_MS,
    job: () => job,
    taskManagers: () => [
      {
        id: "tm1",
        rpcAddress: "127.0.0.1:40000",
        dataAddress: "127.0.0.1:41335",
        slots: 2,
        freeSlots: 0,
        taskCount: 4,
        lastHeartbeatAtMs: NOW_MS - 300,
        cpuCores: 2,
        physicalMemoryBytes: 8_000_000_000,
        freeMemoryBytes: 1_000_000_000,
        residentBytes: 150_000_000,
        heapLimitBytes: 2_000_000_000,
        metrics: TASK_MANAGER_METRICS,
      },
    ],
    slotsRequired: () => 2,
    submission: () => "5ab1e",
    log: () => ({
      seq: 12,
      epoch: 3,
      uid: "u-1",
      lineage: "5ab1e",
      submission: "5ab1e",
      jobState: "active",
      closed: false,
      head: { id: 2 as CheckpointId, path: "file:///data/checkpoints/default/sum/chk-2" },
      pins: [],
    }),
    startOperation: (id, request) => {
      started.push({ id, request });
      return Promise.resolve();
    },
    newOperationId: () => "f".repeat(32),
    operation: (id) => {
      const known = started.find((one) => one.id === id);
      return known === undefined ? undefined : { ...known, outcome: null };
    },
  };
}

/** A process that tells nothing but constants; what it is told to do is pushed to `told`. */
export function processView(told: string[] = []): ProcessView {
  return {
    metrics: () => ({ "Status.JVM.CPU.Load": 0.25, "Status.JVM.Memory.Heap.Used": 1_000 }),
    environment: { version: "Node.js v24", arch: "x64", options: ["--max-old-space-size=100"] },
    log: () => ({ name: "jobmanager.log", text: "a line\n", modifiedMs: NOW_MS }),
    shutDown: () => told.push("shutDown"),
  };
}

export function sourceOf(job: JobView, started: Started[] = []): RestSource {
  return { view: viewOf(job, started), own: processView() };
}
