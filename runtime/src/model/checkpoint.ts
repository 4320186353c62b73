// Checkpoints as all processes of a job speak of them: ids, barriers, parts, acknowledgements, metadata.
//
// Invariants (protocols 1 and 2; tests cite them by name):
//   CK1. A checkpoint exists iff the commit log says so.
//   CK2. A part is immutable and addressed by (object, offset, length), with its crc32c beside it.
//
// Not here: who decides (checkpoint/), where bytes go (taskmanager/io), what is inside a part (state/format).

import type { Brand } from "@sluice/kit";

/** Grows for the life of a lineage, never reused (protocols 1, P1). */
export type CheckpointId = Brand<number, "CheckpointId">;
/** Grows with every JobManager that claimed the commit log. */
export type Epoch = Brand<number, "Epoch">;
/** Counts deployments of the whole job within an epoch, from 0. */
export type AttemptNumber = Brand<number, "AttemptNumber">;

export type CheckpointingMode = "EXACTLY_ONCE" | "AT_LEAST_ONCE";

/** In-band marker between the records before and after a checkpoint. */
export interface Barrier {
  readonly checkpointId: CheckpointId;
  /** Wall clock of the trigger at the JobManager. */
  readonly timestampMs: number;
  /** The last checkpoint: taken after all input has ended (Flink: final checkpoint). A drain makes the sources end their input first. */
  readonly isFinal: boolean;
  /** Set for a savepoint. */
  readonly savepoint?: SavepointTarget | undefined;
}

/** What everybody who takes part in a savepoint must know; it travels in the barrier, so that nobody can see the one without the other. */
export interface SavepointTarget {
  /** URI of the savepoint's directory, without a slash at its end; at most {@link SAVEPOINT_LOCATION_BYTES_MAX} bytes. */
  readonly location: string;
  /** The job stops with it: nothing is processed after the barrier, and tasks end once it is confirmed. */
  readonly stops: boolean;
}

/** A barrier fits into a slot of a ring. */
export const SAVEPOINT_LOCATION_BYTES_MAX = 2_048;

/**
 * How the items of a named operator state are handed out again (Flink: OperatorStateHandle.Mode).
 * split: every item goes to exactly one subtask. union: every subtask gets the items of all. broadcast: all subtasks hold the same
 * items, each gets one copy.
 */
export type OperatorStateMode = "split" | "union" | "broadcast";

/** What a part holds. */
export type PartKind = "keyed" | "operator";

/** One part of a subtask's snapshot, before it has an address. */
export interface SnapshotPart {
  readonly uid: string;
  /** State name; operator parts use the operator's own names, e.g. "source-splits". */
  readonly stateName: string;
  readonly kind: PartKind;
  /** Inclusive range for keyed parts. */
  readonly keyGroups?: readonly [first: number, last: number];
  /** Operator parts: how their items are dealt at a restore. */
  readonly mode?: OperatorStateMode;
  /** Items of an operator part, entries of a keyed one. */
  readonly itemCount?: number;
  /** Contents, in order. */
  readonly chunks: readonly Uint8Array[];
}

/** Where a part lies (CK2). `object` is a path relative to the directory that the metadata's `base` names. */
export interface PartHandle {
  readonly uid: string;
  readonly stateName: string;
  readonly kind: PartKind;
  readonly keyGroups?: readonly [first: number, last: number];
  readonly mode?: OperatorStateMode;
  readonly itemCount?: number;
  readonly object: string;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly crc32c: number;
}

/** One subtask of one vertex: `vertexId` is the stable id in the plan. */
export interface SubtaskId {
  readonly vertexId: string;
  readonly subtaskIndex: number;
}

/** `vertexId/subtaskIndex`, the key of maps and messages. */
export function subtaskKey(id: SubtaskId): string {
  return `${id.vertexId}/${id.subtaskIndex}`;
}

/** Times and sizes of one subtask's part in a checkpoint, as REST shows them. */
export interface SubtaskCheckpointStats {
  readonly startDelayMs: number;
  readonly alignmentMs: number;
  readonly syncMs: number;
  readonly asyncMs: number;
  readonly stateSizeBytes: number;
}

/** A subtask's acknowledgement: counts only from the attempt that was triggered (P2). */
export interface CheckpointAck {
  readonly checkpointId: CheckpointId;
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly subtask: SubtaskId;
  readonly parts: readonly PartHandle[];
  /** The subtask had reached the end of its input: nothing of it will run after a restore. */
  readonly finished: boolean;
  readonly stats: SubtaskCheckpointStats;
}

/** A restored or completed checkpoint, whole: what `_metadata` says (checkpoint/metadata.ts writes and reads it). */
export interface CheckpointMetadata {
  readonly checkpointId: CheckpointId;
  readonly kind: "checkpoint" | "savepoint";
  /**
   * What the objects of all parts are relative to: the job's directory (two levels above `_metadata`; checkpoints), or the directory
   * of `_metadata` itself (savepoints: self-contained, so they can be moved).
   */
  readonly base: "job" | "self";
  readonly lineage: string;
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly planDigest: string;
  readonly timestampMs: number;
  readonly isFinal: boolean;
  readonly vertices: readonly {
    readonly vertexId: string;
    readonly parallelism: number;
    readonly maxParallelism: number;
    /** Operator uids of the chain, head first. */
    readonly uids: readonly string[];
    readonly subtasks: readonly {
      readonly subtaskIndex: number;
      readonly finished: boolean;
      readonly parts: readonly PartHandle[];
    }[];
  }[];
}
