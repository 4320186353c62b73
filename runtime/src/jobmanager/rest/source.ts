// What REST and the JobManager's metrics need to know, as read-only snapshots, and the few things they may ask for.
//
// Invariants:
//   RS1. Reading changes nothing: a snapshot is taken at the call and stays as it is.
//   RS2. All times named `...Ms` next to `wall` or `At` are wall-clock milliseconds since the epoch; durations are milliseconds.
//   RS3. Nothing here is a decision: whoever implements it copies what it knows.
//
// Not here: the JSON of REST (handlers), Prometheus names (../metrics).

import { EXECUTION_STATE_NAMES, JOB_STATE_NAMES } from "@sluice/api";
import type { ExecutionStateName, JobStateName } from "@sluice/api";
import type {
  CheckpointConfig,
  CheckpointStatsSnapshot,
  OperationRequest,
  RecordedOperation,
  ResourceRequirements,
} from "../../checkpoint/index.ts";
import type { CheckpointId, EndOfLog, JobPlan } from "../../model/index.ts";

/** Flink: JobStatus. */
export type JobStatus = JobStateName;

/** Flink: ExecutionState. */
export type ExecutionState = ExecutionStateName;

/** Sums over the life of one subtask's current attempt, from the newest heartbeat. */
export interface SubtaskMetrics {
  readonly readRecords: number;
  readonly readBytes: number;
  readonly writeRecords: number;
  readonly writeBytes: number;
  readonly busyMs: number;
  readonly idleMs: number;
  readonly backPressuredMs: number;
}

/** Figures by name, as a TaskManager sent them with its newest heartbeat (task/counters, taskmanager/metrics/task-rates). */
export type Figures = Readonly<Record<string, number>>;

/** One subtask of a vertex: its current attempt. */
export interface SubtaskView {
  readonly subtaskIndex: number;
  readonly state: ExecutionState;
  /** Counts deployments of this subtask, from 0. */
  readonly attempt: number;
  /** `host:port` of its TaskManager's data; empty before it is placed. */
  readonly endpoint: string;
  /** Empty before it is placed. */
  readonly taskManagerId: string;
  /** When its deployment began; -1 before. */
  readonly startedAtMs: number;
  /** When it ended; -1 before. */
  readonly endedAtMs: number;
  /** When it first became RUNNING; -1 before. */
  readonly runningAtMs: number;
  /** When its current attempt entered each state; 0: never. */
  readonly enteredAtMs: Readonly<Record<ExecutionState, number>>;
  readonly metrics: SubtaskMetrics;
  /** Empty before the first heartbeat of its attempt. */
  readonly figures: Figures;
}

/** Subtasks of one vertex; vertex id, name and parallelism are those of the plan. */
export interface VertexView {
  readonly id: string;
  readonly subtasks: readonly SubtaskView[];
}

/** One failure of the job, for the exception history. */
export interface ExceptionView {
  /** Failure code, or the class of the user's error: what REST calls `exceptionName`. */
  readonly name: string;
  /** Code, what, where, what to do; then the stack of the user's code when there is one. */
  readonly text: string;
  readonly atMs: number;
  /** `name (1/2) - execution #3`; null when the failure belongs to no task. */
  readonly taskName: string | null;
  /** `host:port`; null when unknown. */
  readonly endpoint: string | null;
  readonly taskManagerId: string | null;
}

/** The job, as known at one moment. */
export interface JobView {
  /** 32 hex digits. */
  readonly jid: string;
  readonly state: JobStatus;
  /** When each state was entered last; 0: never. */
  readonly timestamps: Readonly<Record<JobStatus, number>>;
  /** Time spent in each state so far, the current one included. */
  readonly stateTotalsMs: Readonly<Record<JobStatus, number>>;
  readonly startedAtMs: number;
  /** -1 while the job lives. */
  readonly endedAtMs: number;
  /** When the state or a task last changed. */
  readonly lastModifiedAtMs: number;
  readonly plan: JobPlan;
  readonly vertices: readonly VertexView[];
  readonly restartCount: number;
  /** Newest first, bounded (Flink: web.exception-history-size, 16). */
  readonly exceptions: readonly ExceptionView[];
  /** True when older exceptions were dropped. */
  readonly exceptionsTruncated: boolean;
  readonly checkpoints: CheckpointStatsSnapshot;
  /** Settings in force. */
  readonly checkpointConfig: CheckpointConfig;
  /** Effective Flink-named configuration of the job. */
  readonly configuration: Readonly<Record<string, string>>;
  /** URI of the checkpoint store; undefined without one. */
  readonly storeUri: string | undefined;
  /** How the running attempt, or the newest that did, came by its state; undefined: none has restored anything yet. */
  readonly restored: RestoreSummary | undefined;
  /** Attempts that began because somebody asked for another parallelism. */
  readonly rescaleCount: number;
  /** What somebody asked for; else what it has. */
  readonly requirements: ResourceRequirements;
}

/** Sums over the tasks of an attempt that restored a checkpoint. A task of which something came from the store is not local. */
export interface RestoreSummary {
  readonly checkpointId: CheckpointId;
  /** From the order to deploy until the last task ran. */
  readonly durationMs: number;
  /** Wall clock of that moment. */
  readonly finishedAtMs: number;
  readonly localSubtasks: number;
  readonly localBytes: number;
  readonly storeSubtasks: number;
  readonly storeBytes: number;
  /** `vertex/0 local 1.2 MB, vertex/1 store 3.4 MB ...`, for people. */
  readonly tasks: string;
}

export interface TaskManagerView {
  readonly id: string;
  /** `host:port` of its control connection. */
  readonly rpcAddress: string;
  /** `host:port` for data. */
  readonly dataAddress: string;
  readonly slots: number;
  readonly freeSlots: number;
  /** Tasks deployed on it. */
  readonly taskCount: number;
  readonly lastHeartbeatAtMs: number;
  readonly cpuCores: number;
  readonly physicalMemoryBytes: number;
  readonly freeMemoryBytes: number;
  /** Resident set of the process, 0 before its first heartbeat. */
  readonly residentBytes: number;
  /** Largest heap that its V8 isolates may use together. */
  readonly heapLimitBytes: number;
  /** Of the process, under Flink's names (metrics/process-figures); empty before its first heartbeat. */
  readonly metrics: Figures;
}

/** What the newest record of the commit log says. */
export interface LogView extends EndOfLog {
  readonly epoch: number;
  readonly pins: readonly { readonly holder: string; readonly id: CheckpointId; readonly path: string }[];
}

/** All that REST and /metrics see of a JobManager. A JobManager has exactly one job. */
export interface JobManagerView {
  readonly host: string;
  /** Wall clock. */
  wallMs(): number;
  job(): JobView;
  /** Those registered now. */
  taskManagers(): readonly TaskManagerView[];
  /** Slots that the job needs to run. */
  slotsRequired(): number;
  /** The start that this JobManager belongs to (`JobManagerConfig.start.lineage`). */
  submission(): string;
  /** Undefined: it is not claimed yet, or there is none. */
  log(): LogView | undefined;
  /**
   * Has something done, once per id (checkpoint/operations.ts). Resolves when it is recorded and begun, or was before; `operation`
   * tells what came of it. Rejects with OPERATION_CONFLICT (the id stands for something else, or too many run),
   * CONFIG_NOT_IMPLEMENTED, or a failure of the store: then ask again under the same id.
   */
  startOperation(id: string, request: OperationRequest): Promise<void>;
  /** An id for an operation whose asker gave none: 32 hex digits, never drawn before. */
  newOperationId(): string;
  /** Undefined: nobody asked for it, or it was forgotten. */
  operation(id: string): RecordedOperation | undefined;
}

/** A record with one value per state: for building JobView.timestamps and stateTotalsMs. */
export function perJobState(value: number): Record<JobStatus, number> {
  return Object.fromEntries(JOB_STATE_NAMES.map((state) => [state, value])) as Record<JobStatus, number>;
}

/** Flink's terminal states. */
export function isTerminal(state: JobStatus): boolean {
  return state === "FINISHED" || state === "CANCELED" || state === "FAILED";
}

/** A record with one value per state of a task. */
export function perExecutionState(value: number): Record<ExecutionState, number> {
  return Object.fromEntries(EXECUTION_STATE_NAMES.map((state) => [state, value])) as Record<ExecutionState, number>;
}

/** What REST needs besides the JobManager's own view: its process. */
export interface ProcessView {
  /** Figures of this process under Flink's names. */
  metrics(): Figures;
  readonly environment: { readonly version: string; readonly arch: string; readonly options: readonly string[] };
  /** The newest lines of its log. */
  log(): { readonly name: string; readonly text: string; readonly modifiedMs: number };
  /** Ends the processes of the job without ending the job. Returns at once. */
  shutDown(): void;
}

export interface RestSource {
  readonly view: JobManagerView;
  readonly own: ProcessView;
}
