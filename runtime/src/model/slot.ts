// The boundary between a TaskManager and the slots it hosts: what a slot is told, and what it tells.
//
// Invariants:
//   SL1. A slot runs subtasks of one attempt of one job, then it is gone; a restart gets a fresh slot.
//   SL2. Control reaches a slot that is busy: it comes through shared memory that the slot polls between batches.
//
// Not here: the loop inside a slot (task/), threads (taskmanager/), bytes of channels (network/).

import type { FailureJson } from "@sluice/kit";
import type {
  AttemptNumber,
  Barrier,
  CheckpointId,
  Epoch,
  PartHandle,
  SnapshotPart,
  SubtaskCheckpointStats,
  SubtaskId,
} from "./checkpoint.ts";
import type { OperatorMetrics } from "./metrics.ts";
import type { JobPlan } from "./plan.ts";

/** One direction of one edge between two subtasks. */
export interface ChannelSpec {
  readonly edgeId: number;
  readonly source: SubtaskId;
  readonly target: SubtaskId;
  /** The ring of this channel; for a remote peer the TaskManager's bridge holds the other end. */
  readonly ring: SharedArrayBuffer;
  /** The bell of whoever holds the other end: another slot, the TaskManager's bridge, or this slot itself. */
  readonly peerDoorbell: SharedArrayBuffer;
}

/** A part to restore, whole, or (operator parts) only the items [from, to) of it. */
export interface RestorePart extends PartHandle {
  readonly items?: readonly [from: number, to: number];
}

/** What a task restores. */
export interface TaskRestore {
  readonly checkpointId: CheckpointId;
  /**
   * Set while a regression of the head stands: sinks hide their output of checkpoints in (`checkpointId`, this]. The bound comes
   * from the log's record; without it a zombie that restores an old head could hide output of checkpoints it knows nothing of.
   */
  readonly retractThrough: CheckpointId | undefined;
  /** The lineage whose waiting output this job has taken over (CLAIM): sinks publish what the restored state records of it. */
  readonly claimedLineage?: string | undefined;
  readonly parts: readonly RestorePart[];
}

export interface TaskSpec {
  readonly subtask: SubtaskId;
  readonly restore: TaskRestore | undefined;
}

/** Everything a slot needs to build and run its tasks. Structured-cloneable. */
export interface SlotSpec {
  readonly slotIndex: number;
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly lineage: string;
  /** file: URL of the job's module. */
  readonly moduleUrl: string;
  readonly plan: JobPlan;
  readonly tasks: readonly TaskSpec[];
  /** All channels that start or end in this slot. */
  readonly channels: readonly ChannelSpec[];
  /** Int32[2] {sequence, parked}: rung by whoever made work for this slot (network/doorbell). */
  readonly doorbell: SharedArrayBuffer;
  /** The job was stopped with the savepoint that is restored: publish what it holds, process nothing. */
  readonly endsAtOnce: boolean;
  /** Control messages (network/mailbox). */
  readonly mailbox: SharedArrayBuffer;
  /** Float64 counters, layout in task/counters. */
  readonly counters: SharedArrayBuffer;
  /** Names of planted bugs (tests only). */
  readonly plantedBugs: readonly string[];
}

/** TaskManager to slot, through the mailbox, as JSON. */
export type SlotCommand =
  | { readonly type: "triggerCheckpoint"; readonly barrier: Barrier }
  | { readonly type: "notifyCheckpointComplete"; readonly checkpointId: CheckpointId }
  | { readonly type: "notifyCheckpointAborted"; readonly checkpointId: CheckpointId }
  | { readonly type: "cancel" };

/** How a task came by its state. */
export interface TaskRestored extends PartsRead {
  /** From the order to restore to RUNNING: reading, building the state, opening the operators. */
  readonly restoreMs: number;
}

export type TaskState = "INITIALIZING" | "RUNNING" | "DRAINED" | "FINISHED" | "CANCELED" | "FAILED";

/** Nothing follows this state. */
export function isTaskOver(state: TaskState): boolean {
  return state === "FINISHED" || state === "CANCELED" || state === "FAILED";
}

/** Slot to TaskManager. */
export type SlotEvent =
  /** DRAINED: all input seen and processed; waits for the final checkpoint (or finishes at once without checkpoints). */
  | {
      readonly type: "taskState";
      readonly subtask: SubtaskId;
      readonly state: TaskState;
      readonly failure?: FailureJson;
      /** With RUNNING, of a task that restored something. */
      readonly restored?: TaskRestored;
    }
  | {
      readonly type: "declineCheckpoint";
      readonly subtask: SubtaskId;
      readonly checkpointId: CheckpointId;
      readonly failure: FailureJson;
    }
  /** Metrics that operators and users' functions registered, as they are now. */
  | { readonly type: "metrics"; readonly subtask: SubtaskId; readonly operators: readonly OperatorMetrics[] }
  /** All tasks of the slot have ended; the thread may go. */
  | { readonly type: "slotEnded" };

/** A subtask's snapshot on its way to the store; the answer to the JobManager is the acknowledgement with addresses. */
export interface SnapshotSubmission {
  readonly checkpointId: CheckpointId;
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly subtask: SubtaskId;
  readonly parts: readonly SnapshotPart[];
  /** URI of the savepoint's directory that they go to; undefined: a checkpoint of the job. */
  readonly savepoint?: string | undefined;
  readonly finished: boolean;
  /** `asyncMs` so far; the store adds its own time. */
  readonly stats: SubtaskCheckpointStats;
}

/** Where the parts of a restore came from, and how long reading and verifying them took. */
export interface PartsRead {
  /** From the TaskManager's own copies. */
  readonly localParts: number;
  readonly localBytes: number;
  readonly storeParts: number;
  readonly storeBytes: number;
  readonly readMs: number;
}

export interface FetchedParts {
  readonly contents: readonly Uint8Array[];
  readonly read: PartsRead;
}

export const NOTHING_READ: PartsRead = { localParts: 0, localBytes: 0, storeParts: 0, storeBytes: 0, readMs: 0 };

/** The slot's way to its TaskManager and to the store. Implemented over threads (taskmanager/) and in one process (tests). */
export interface SlotPort {
  /** The next command, or undefined; cheap enough to be asked between batches. */
  poll(): SlotCommand | undefined;
  send(event: SlotEvent): void;
  /** Hands a snapshot over; the buffers of its chunks are given away (transferred). */
  submitSnapshot(submission: SnapshotSubmission): void;
  /** Contents of the parts, verified by checksum, in order. Rejects with SNAPSHOT_DAMAGED naming the object, or STORAGE_*. */
  fetchParts(parts: readonly PartHandle[]): Promise<FetchedParts>;
}
