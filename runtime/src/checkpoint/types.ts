// The vocabulary of checkpointing: commit records, start requests, the seams of the coordinator, statistics.
//
// Invariants (numbers as in docs/internals/commit-log.md; tests cite them as CL1..CL12):
//   CL1.  The head changes only by an append; seq and epoch never decrease.
//   CL2.  A checkpoint exists iff the commit log says so.
//   CL3.  Everything reachable from retained and pins exists, with its checksum.
//   CL4.  Ids and names never recur.
//   CL5.  No side effect of checkpoint n before the head is n or later.
//   CL6.  The head regresses only by a recorded override.
//   CL7.  Only what a record of the current epoch condemned is deleted.
//   CL8.  The fenced neither notify nor delete.
//   CL9.  Acks count only from the attempt that was triggered.
//   CL11. One lineage per transaction prefix.
//   CL12. Closed is final for its lineage.
//
// Not here: behaviour.

import type { Failure } from "@sluice/kit";
import type {
  AttemptNumber,
  Barrier,
  CheckpointAck,
  CheckpointId,
  CheckpointingMode,
  CheckpointMetadata,
  Epoch,
  SubtaskCheckpointStats,
  SubtaskId,
} from "../model/index.ts";
import type { RecordedOperations, ResourceRequirements } from "./operations.ts";

/** Where a committed checkpoint lies. `path` names the `_metadata` object: in the job's store, or by URI in another one (location.ts). */
export interface CheckpointRef {
  readonly kind: "checkpoint" | "savepoint";
  readonly id: CheckpointId;
  readonly path: string;
  /** sha256 hex of the bytes of `_metadata`. */
  readonly sha256: string;
}

/** Keeps a checkpoint alive for somebody other than the running job. */
export interface CheckpointPin {
  readonly ref: CheckpointRef;
  readonly holder: string;
  /** Wall clock; null: until it is taken back. */
  readonly expiresAtMs: number | null;
}

/**
 * What became of the job, as the log remembers it. Only `finished` and a deletion close a lineage (CL12). `stopping` and `draining`:
 * the savepoint that the job stops with is the head; what it holds must be published, but nothing may be processed any more.
 */
export type RecordedJobState = "active" | "stopping" | "draining" | EndedJobState;

/** `stopped`: with a savepoint, and the next start goes on from it; `finished`: nothing is left to do, also after a drain. */
export type EndedJobState = "stopped" | "finished" | "failed" | "cancelled";

/**
 * Why the head of this record is not simply the next checkpoint after the head before (CL6). A regression stands in all records
 * until the next commit: whoever restores must hide the output of (toId, fromId]. A deletion stands as long as there is no head:
 * it is the only reason for which a job that had state starts empty.
 */
export type RecordedOverride =
  | { readonly type: "new-lineage"; readonly previousLineage: string; readonly restoredFrom: string | null }
  | {
      readonly type: "head-regression";
      readonly fromId: CheckpointId;
      readonly toId: CheckpointId;
      readonly reason: "all-sinks-retract" | "allow-replay";
    }
  | {
      readonly type: "state-deleted";
      /** The head until then. */
      readonly fromId: CheckpointId;
      readonly reason: "delete-on-cancellation" | "purge";
    };

/** A checkpoint or savepoint of another lineage that this job owns alone (origin.ts). */
export interface RecordedClaim {
  /** Of its `_metadata`, as in {@link CheckpointRef}. */
  readonly path: string;
  readonly kind: CheckpointRef["kind"];
  /** The lineage whose pending output it holds: published by whoever restores it under this claim. */
  readonly lineage: string;
  /** Own checkpoints have replaced it: it is deleted one commit later, and nobody starts from it any more (decideStart). */
  readonly isCondemned: boolean;
}

/** So many earlier lineages are remembered: each of them takes an explicit `--from` or `--new-lineage`. */
export const LINEAGES_MAX = 256;

/** Another parallelism than the planned one, asked for while the job ran. It stands for the submission that was asked. */
export interface RecordedRescale {
  readonly requirements: ResourceRequirements;
  /** Chosen within them, by vertex id. */
  readonly parallelism: Readonly<Record<string, number>>;
}

/** One record of the commit log. The highest one is the truth about the job's checkpoints. */
export interface CommitRecord {
  readonly formatVersion: 0;
  readonly seq: number;
  readonly epoch: Epoch;
  /** Tells the writer's own record from another's after an unknown outcome. */
  readonly nonce: string;
  /** Identity of the job that owns this log: the resource's uid, or what the CLI derives from the job. */
  readonly uid: string;
  /** Transaction prefix of the sinks (CL11). */
  readonly lineage: string;
  /** Lineages that this log had before, oldest first, the newest {@link LINEAGES_MAX}: none of them is ever begun again (SD2). */
  readonly pastLineages?: readonly string[];
  /** The submission (`StartRequest.lineage`) whose JobManager claimed this epoch: its restarts know what it has ended itself. */
  readonly submission: string;
  /** `StartRequest.order` of that submission: a start that comes before it is refused (SD4). */
  readonly order?: readonly number[];
  /** Uids that this log had before, oldest first, the newest {@link LINEAGES_MAX}: none of them gets it back by `resume` (SD5). */
  readonly pastUids?: readonly string[];
  readonly closed: boolean;
  readonly jobState: RecordedJobState;
  /** Ids up to and including this one are given out to some epoch. */
  readonly idHigh: number;
  readonly planDigest: string;
  readonly head: CheckpointRef | null;
  /** While `head` is null: the checkpoint of another lineage that this one starts from (path of its `_metadata`), or null. */
  readonly origin: string | null;
  /** What this lineage has taken over from another one (claim mode CLAIM), until it is deleted. */
  readonly claim?: RecordedClaim | null;
  /** Condemned claims of earlier lineages of this log: still to be deleted. */
  readonly condemnedClaims?: readonly RecordedClaim[];
  /** Ascending by id; the last one is the head unless the head is a savepoint. */
  readonly retained: readonly CheckpointRef[];
  /** Ids whose `chk-{id}/` may be deleted, one commit later (P6). */
  readonly condemned: readonly CheckpointId[];
  /** Single objects that may be deleted, relative to the job's directory: what uploads left beside checkpoints that are kept. */
  readonly condemnedObjects?: readonly string[];
  readonly pins: readonly CheckpointPin[];
  /** Oldest first (operations.ts). */
  readonly ops: RecordedOperations;
  readonly override: RecordedOverride | null;
  /** Absent: the job runs as it was planned. */
  readonly rescale?: RecordedRescale | null;
  /** Wall clock of the writer; for people and for trimming. */
  readonly writtenMs: number;
}

/** What somebody who starts a job over an existing or absent log asks for. */
export interface StartRequest {
  readonly jobName: string;
  readonly uid: string;
  /**
   * Lineage to create if one has to be created; drawn once per submission and repeated by every restart of it, so that a
   * restarted JobManager continues the lineage it began instead of beginning another.
   */
  readonly lineage: string;
  readonly newLineage: boolean;
  /**
   * Path of a checkpoint's directory or `_metadata` to start from, in the same store; implies a new lineage. Looked at only where that
   * lineage is created: a restart with the same `lineage` goes on with its own log, and what it started from may be gone.
   */
  readonly from?: string;
  /** False: an absent log is a failure (a job that had state must not silently start empty). */
  readonly mayCreate: boolean;
  /** What to do with a log of another uid; default `refuse`. `resume` continues it and makes it this one's; a uid that has lost a log so never gets it back. */
  readonly onForeignLog?: "refuse" | "resume" | "newLineage";
  /** What the head must be when this submission claims for the first time; else HEAD_MOVED: somebody has written meanwhile. */
  readonly expectHead?: ExpectedHead;
  /** Keep the checkpoint that this submission continues from until somebody takes the pin back (pins.ts). */
  readonly pinRestored?: boolean;
  /** Place among the starts of this uid, by whoever makes them; one that is below the recorded one is FENCED. Compared from the left. */
  readonly order?: readonly number[];
}

/** Of a commit log's head. Absent fields are not compared. */
export interface ExpectedHead {
  /** null: there is no checkpoint yet. */
  readonly id?: number | null;
  /** Of its `_metadata`, as records name it. */
  readonly path?: string;
}

export type StartDecision =
  | { readonly type: "create"; readonly lineage: string; readonly restoreFrom: string | null }
  | { readonly type: "continue" }
  | { readonly type: "new-lineage"; readonly lineage: string; readonly restoreFrom: string | null }
  | { readonly type: "refuse"; readonly failure: Failure };

/** Settings of the coordinator; names and defaults are Flink's `execution.checkpointing.*` except where noted. */
export interface CheckpointConfig {
  readonly mode: CheckpointingMode;
  /** null: no periodic checkpoints; the final one is still taken. */
  readonly intervalMs: number | null;
  /** Flink: 10 min. */
  readonly timeoutMs: number;
  /** Flink: 0. Above 0 implies one checkpoint at a time. */
  readonly minPauseMs: number;
  /** Flink: 1. */
  readonly concurrentMax: number;
  /** Consecutive failures that do not fail the job. Flink: 0. */
  readonly tolerableFailedCount: number;
  /** Flink: 1; here 3. */
  readonly retainedMax: number;
  /** Flink: cleaner.parallel-mode. The objects of one checkpoint are deleted side by side, or one after the other. */
  readonly cleansInParallel: boolean;
  /** Flink: web.checkpoints.history. */
  readonly historyMax: number;
}

export const DEFAULT_CHECKPOINT_CONFIG: CheckpointConfig = {
  mode: "EXACTLY_ONCE",
  intervalMs: null,
  timeoutMs: 600_000,
  minPauseMs: 0,
  concurrentMax: 1,
  tolerableFailedCount: 0,
  retainedMax: 3,
  cleansInParallel: true,
  historyMax: 10,
};

/** What the coordinator must know of a vertex; see `checkpointVertices(plan)`. */
export interface CheckpointVertex {
  readonly vertexId: string;
  readonly parallelism: number;
  readonly maxParallelism: number;
  /** Nobody set maxParallelism: state that is restored decides it. */
  readonly derivesMaxParallelism: boolean;
  /** Its head has keyed inputs. */
  readonly isKeyed: boolean;
  /** Operators of the chain, head first. */
  readonly uids: readonly string[];
  /** Ids of the vertices it reads from; empty for a source. */
  readonly inputVertexIds: readonly string[];
}

/**
 * The coordinator's way to the tasks. Calls are messages: they return at once, may be lost, and never throw. Whoever carries them
 * adds the attempt that is running at the call, and a TaskManager drops what is not of its running (epoch, attempt): a task of an
 * older attempt may hold transactions with lower ids that never committed, and a later `notifyComplete` must not publish them.
 */
export interface TaskGateway {
  /** To a subtask without running predecessors: start this checkpoint. */
  triggerCheckpoint(subtask: SubtaskId, trigger: CheckpointTrigger): void;
  /** To all subtasks of the running attempt: checkpoint `id` is the head, sinks may publish everything up to it. */
  notifyComplete(epoch: Epoch, id: CheckpointId): void;
  /** To all subtasks: `id` will never complete. A sink must not discard output for it: a later checkpoint carries it. */
  notifyAborted(epoch: Epoch, id: CheckpointId, latestCompletedId: CheckpointId | null): void;
}

export interface CheckpointTrigger {
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly barrier: Barrier;
}

/** A subtask could not take part. `declined-not-ready` and `superseded` are not counted as failures. */
export interface CheckpointDecline {
  readonly checkpointId: CheckpointId;
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly subtask: SubtaskId;
  readonly reason: "async-failure" | "not-ready" | "superseded" | "storage" | "input-ended";
  readonly message: string;
}

/** What the coordinator tells its owner (the JobManager). */
export interface CoordinatorListener {
  /** Too many consecutive checkpoint failures: restart the job by its restart strategy. */
  failJob(failure: Failure): void;
  /** A newer JobManager owns the log, or it is closed: end this process; nothing more is notified or deleted (CL8). */
  fenced(failure: Failure): void;
  /** After P4 and P5 of every checkpoint; of an intermediate savepoint, which has neither, once it is complete. */
  completed(metadata: CheckpointMetadata): void;
  /** The final checkpoint, or a stop, is committed and notified: tasks will finish; afterwards call `close` with `endStateOf`. */
  finalCompleted(id: CheckpointId): void;
  /** A stop failed: its sources emit nothing more. Restart the job from its newest checkpoint; it did not fail. */
  stopFailed(failure: Failure): void;
}

/** What a savepoint is asked for with. */
export interface SavepointOrder {
  /** URI of a directory that is its own alone; `_metadata` and packs go there. */
  readonly location: string;
  readonly stops: "no" | "suspend" | "drain";
  /** Of a stop: the operation whose outcome is recorded together with the new head. */
  readonly operationId: string | null;
}

export interface TakenSavepoint {
  readonly id: CheckpointId;
  readonly location: string;
}

/** The coordinator as the JobManager uses it; implemented by CheckpointCoordinator (coordinator-shell.ts). */
export interface CheckpointCoordination {
  /** A new deployment of all tasks begins; nothing is triggered before every subtask is running or finished. */
  attemptStarted(
    attempt: AttemptNumber,
    restored: CheckpointMetadata | null,
    /** As planned for this attempt; without them those of the attempt before. */
    vertices?: readonly CheckpointVertex[],
  ): void;
  taskRunning(subtask: SubtaskId): void;
  taskFinished(subtask: SubtaskId): void;
  /** A source subtask has emitted its last record (and waits for the final checkpoint). */
  sourceEnded(subtask: SubtaskId): void;
  ack(ack: CheckpointAck): void;
  decline(decline: CheckpointDecline): void;
  /**
   * Asks for a checkpoint at once, beside the periodic ones (still one of `concurrentMax`), or as soon as all tasks run. Resolves when
   * it has completed, or a newer one that subsumes it; rejects with why it failed, because it could not begin within the checkpoint's timeout, or because the attempt
   * that it was asked of is restarted or ends meanwhile.
   */
  triggerCheckpoint(): Promise<CheckpointId>;
  /**
   * Takes a savepoint as soon as all tasks run. Resolves when it is complete (a stop: when it is the head); rejects with why it failed.
   * What is left of a failed one is removed.
   */
  takeSavepoint(order: SavepointOrder): Promise<TakenSavepoint>;
  /**
   * Before a restart or a cancellation: aborts what is pending, waits until no append is in doubt, and returns the head record,
   * which is what a restart restores. Rejects with FENCED.
   */
  suspend(): Promise<CommitRecord>;
  /**
   * Suspends, then records what became of the job; `finished` closes the lineage. With `deletesCheckpoints` (only of a cancelled
   * job) the same record condemns all its checkpoints, which are deleted then; what could not be deleted stays condemned.
   */
  close(jobState: EndedJobState, options?: { readonly deletesCheckpoints: boolean }): Promise<CommitRecord>;
  /** Drops timers and ignores everything from now on (fenced, or the process ends). */
  dispose(): void;
  stats(): CheckpointStatsSnapshot;
}

export type CheckpointStatus = "IN_PROGRESS" | "COMPLETED" | "FAILED";

export interface SubtaskStats extends SubtaskCheckpointStats {
  readonly subtaskIndex: number;
  readonly ackTimestampMs: number;
  readonly endToEndDurationMs: number;
}

export interface VertexStats {
  readonly vertexId: string;
  readonly subtaskCount: number;
  readonly acknowledgedCount: number;
  readonly latestAckTimestampMs: number;
  readonly stateSizeBytes: number;
  readonly endToEndDurationMs: number;
  /** Only the subtasks that acknowledged. */
  readonly subtasks: readonly SubtaskStats[];
}

export interface CheckpointStats {
  readonly id: CheckpointId;
  readonly status: CheckpointStatus;
  readonly isSavepoint: boolean;
  readonly isFinal: boolean;
  readonly triggerTimestampMs: number;
  /** -1 before the first ack. */
  readonly latestAckTimestampMs: number;
  readonly endToEndDurationMs: number;
  readonly stateSizeBytes: number;
  readonly subtaskCount: number;
  readonly acknowledgedCount: number;
  readonly vertices: readonly VertexStats[];
  /** Store path of `_metadata`; empty unless completed. */
  readonly externalPath: string;
  readonly discarded: boolean;
  /** Empty unless failed. */
  readonly failureMessage: string;
  readonly failureTimestampMs: number;
}

export interface RestoredCheckpointStats {
  readonly id: CheckpointId;
  readonly restoreTimestampMs: number;
  readonly isSavepoint: boolean;
  readonly externalPath: string;
}

/** What REST shows of checkpoints; read-only. */
export interface CheckpointStatsSnapshot {
  readonly counts: {
    readonly restored: number;
    readonly total: number;
    readonly inProgress: number;
    readonly completed: number;
    readonly failed: number;
  };
  /** No savepoint. */
  readonly latestCompleted: CheckpointStats | null;
  readonly latestSavepoint: CheckpointStats | null;
  readonly latestFailed: CheckpointStats | null;
  readonly latestRestored: RestoredCheckpointStats | null;
  /** Newest first, at most `web.checkpoints.history` plus those in progress. */
  readonly history: readonly CheckpointStats[];
  /** Of all completed ones in this process: for the summary of REST. */
  readonly completedDurationsMs: readonly number[];
  readonly completedSizesBytes: readonly number[];
}
