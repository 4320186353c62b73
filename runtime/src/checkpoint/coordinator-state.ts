// The state of the checkpoint coordinator, what happens to it, and what it has done: the words of coordinator.ts.
//
// Not here: decisions (coordinator.ts).

import type { Failure } from "@sluice/kit";
import type {
  AttemptNumber,
  CheckpointAck,
  CheckpointId,
  CheckpointMetadata,
  Epoch,
  SubtaskId,
} from "../model/index.ts";
import type {
  CheckpointConfig,
  CheckpointDecline,
  CheckpointRef,
  CheckpointTrigger,
  CheckpointVertex,
  CommitRecord,
} from "./types.ts";

/** After a failed final checkpoint the next try waits this long (it waits for no interval and no pause). */
export const FINAL_RETRY_DELAY_MS = 1_000;

/**
 * Checkpoints that are deleted at the same time. As many still under way hold back triggers (Flink: cleaning checkpoints), so that
 * slow deletes cannot pile up; after a storm of aborted checkpoints the rest waits for later commits instead of stopping them.
 */
export const CLEANING_COUNT_MAX = 8;

/** Savepoints that are taken at the same time; a keyed backend bears 30 snapshots in flight. */
export const SAVEPOINTS_PENDING_MAX = 4;

/** A savepoint that somebody asked for. */
export interface SavepointRequest {
  /** Tells it from the others of this process. */
  readonly token: number;
  /** URI of its directory, which is its own alone. */
  readonly location: string;
  /** Whether the job ends with it (Flink: stop-with-savepoint). A drain ends the input first, and the job for good. */
  readonly stops: "no" | "suspend" | "drain";
  /** Of a stop: the operation that its record settles. */
  readonly operationId: string | null;
}

export interface PendingCheckpoint {
  readonly id: CheckpointId;
  /** Nothing is triggered after it: the final checkpoint, or a stop. */
  readonly isFinal: boolean;
  /** null: a checkpoint. */
  readonly savepoint: SavepointRequest | null;
  readonly timestampMs: number;
  /** Subtasks that had finished before the trigger: part of the metadata without an ack. */
  readonly finishedBefore: ReadonlySet<string>;
  readonly waitingFor: ReadonlySet<string>;
  readonly acks: ReadonlyMap<string, CheckpointAck>;
  readonly progress: "acks" | "acked" | "metadata" | "committing";
  /** Timeouts that passed while its commit was in doubt (C3). */
  readonly overdueCount: number;
}

export interface CoordinatorState {
  readonly config: CheckpointConfig;
  readonly vertices: readonly CheckpointVertex[];
  readonly epoch: Epoch;
  readonly lineage: string;
  readonly planDigest: string;
  readonly phase: "suspended" | "running" | "stopped";
  readonly attempt: AttemptNumber;
  readonly running: ReadonlySet<string>;
  readonly finished: ReadonlySet<string>;
  /** Source subtasks without further input. */
  readonly ended: ReadonlySet<string>;
  /** Ascending by id. */
  readonly pending: readonly PendingCheckpoint[];
  readonly isFinalDone: boolean;
  /** Savepoints that are not triggered yet, in the order in which they were asked for. */
  readonly savepointRequests: readonly SavepointRequest[];
  readonly latestCompletedId: CheckpointId | null;
  readonly lastCompletionMs: number | null;
  readonly consecutiveFailureCount: number;
  /** When the next periodic checkpoint is due; Infinity: never. */
  readonly dueMs: number;
  readonly finalDueMs: number;
  readonly isTriggerRequested: boolean;
  readonly isReservingIds: boolean;
  /** Ids that will never commit: condemned with the next commit. */
  readonly abandoned: readonly CheckpointId[];
  /** Condemned by a record of this epoch, to be deleted after the next commit (P6). */
  readonly deletable: readonly CheckpointId[];
  /** Being deleted: too many of them hold back triggers (Flink: cleaning checkpoints). */
  readonly cleaning: readonly CheckpointId[];
  /** Deleted: leave the record's list of condemned with the next commit. */
  readonly deleted: readonly CheckpointId[];
}

/** What is true now, asked by the shell for every event. */
export interface StepContext {
  readonly nowMs: number;
  readonly wallMs: number;
  /** The id that the next checkpoint would get; undefined: the block is used up. */
  readonly nextId: CheckpointId | undefined;
}

export type CoordinatorEvent =
  | {
      readonly type: "attemptStarted";
      readonly attempt: AttemptNumber;
      /** As deployed: with the key groups of the state that is restored (AG4 of assign.ts). */
      readonly vertices: readonly CheckpointVertex[];
      readonly initialDelayMs: number;
      /** It only publishes what a stop has committed: nothing is triggered. */
      readonly isStopping: boolean;
    }
  | { readonly type: "taskRunning"; readonly subtask: SubtaskId }
  | { readonly type: "taskFinished"; readonly subtask: SubtaskId }
  | { readonly type: "sourceEnded"; readonly subtask: SubtaskId }
  | { readonly type: "tick" }
  | { readonly type: "triggerRequested" }
  | { readonly type: "savepointRequested"; readonly request: SavepointRequest }
  /** It waited too long to be triggered. */
  | { readonly type: "savepointOverdue"; readonly token: number }
  | { readonly type: "idsReserved" }
  | { readonly type: "idsNotReserved" }
  | { readonly type: "acked"; readonly ack: CheckpointAck }
  | { readonly type: "declined"; readonly decline: CheckpointDecline }
  | { readonly type: "timedOut"; readonly id: CheckpointId }
  | { readonly type: "metadataWritten"; readonly ref: CheckpointRef }
  | { readonly type: "metadataFailed"; readonly id: CheckpointId; readonly failure: Failure }
  | { readonly type: "committed"; readonly id: CheckpointId; readonly record: CommitRecord }
  | { readonly type: "commitFailed"; readonly id: CheckpointId; readonly failure: Failure }
  | { readonly type: "orphansFound"; readonly ids: readonly CheckpointId[] }
  | { readonly type: "cleaned"; readonly ids: readonly CheckpointId[] }
  | { readonly type: "notCleaned"; readonly ids: readonly CheckpointId[] }
  | { readonly type: "suspended" }
  | { readonly type: "stopped" };

export type CoordinatorEffect =
  /** Take the id, remember the start, send the trigger to these subtasks. */
  | {
      readonly type: "trigger";
      readonly id: CheckpointId;
      readonly trigger: CheckpointTrigger;
      readonly targets: readonly SubtaskId[];
      readonly expectedCount: number;
      readonly savepoint: SavepointRequest | null;
    }
  | { readonly type: "armTick"; readonly delayMs: number }
  | { readonly type: "armTimeout"; readonly id: CheckpointId; readonly delayMs: number }
  | { readonly type: "reserveIds" }
  | { readonly type: "ackAccepted"; readonly id: CheckpointId; readonly ack: CheckpointAck }
  /** `location`: of a savepoint. */
  | { readonly type: "writeMetadata"; readonly metadata: CheckpointMetadata; readonly location: string | null }
  | { readonly type: "cancelMetadata"; readonly id: CheckpointId }
  | {
      readonly type: "commit";
      readonly ref: CheckpointRef;
      readonly abandoned: readonly CheckpointId[];
      readonly deleted: readonly CheckpointId[];
      /** Set when the job stops with it. */
      readonly stop: SavepointRequest | null;
    }
  | { readonly type: "giveUpCommit"; readonly id: CheckpointId }
  | { readonly type: "notifyComplete"; readonly id: CheckpointId }
  | {
      readonly type: "completed";
      readonly id: CheckpointId;
      readonly isFinal: boolean;
      readonly savepoint: SavepointRequest | null;
    }
  /** `id` null: it was never triggered. What lies at its place is of no use to anybody. */
  | {
      readonly type: "savepointFailed";
      readonly request: SavepointRequest;
      readonly id: CheckpointId | null;
      readonly failure: Failure;
    }
  /** C10: the job goes on from its newest checkpoint. */
  | { readonly type: "stopFailed"; readonly failure: Failure }
  | {
      readonly type: "aborted";
      readonly id: CheckpointId;
      readonly latestCompletedId: CheckpointId | null;
      readonly reason: string;
      /** CANCELED: by a restart or the end of the job, not by its own failure. */
      readonly code: "CHECKPOINT_DECLINED" | "CANCELED";
      readonly notifies: boolean;
    }
  | { readonly type: "delete"; readonly ids: readonly CheckpointId[] }
  | { readonly type: "failJob"; readonly failure: Failure };

export type Step = readonly [CoordinatorState, readonly CoordinatorEffect[]];

/** The state before any attempt; `claimed` is the record of this epoch's claim. */
export function initialCoordinatorState(options: {
  readonly config: CheckpointConfig;
  readonly vertices: readonly CheckpointVertex[];
  readonly claimed: CommitRecord;
}): CoordinatorState {
  const { config, claimed } = options;
  return {
    config,
    vertices: options.vertices,
    epoch: claimed.epoch,
    lineage: claimed.lineage,
    planDigest: claimed.planDigest,
    phase: "suspended",
    attempt: 0 as AttemptNumber,
    running: new Set(),
    finished: new Set(),
    ended: new Set(),
    pending: [],
    isFinalDone: false,
    savepointRequests: [],
    latestCompletedId: claimed.head?.id ?? null,
    lastCompletionMs: null,
    consecutiveFailureCount: 0,
    dueMs: Infinity,
    finalDueMs: 0,
    isTriggerRequested: false,
    isReservingIds: false,
    abandoned: [],
    deletable: claimed.condemned, // the claim carried the list into this epoch (CL7)
    cleaning: [],
    deleted: [],
  };
}

/** Text key of a subtask in the sets of the state. */
export function subtaskKeyOf(subtask: SubtaskId): string {
  return `${subtask.vertexId}/${subtask.subtaskIndex}`;
}

/** A subtask as people know it: by the uids of its operators. */
export function describeSubtask({ vertices }: Pick<CoordinatorState, "vertices">, subtask: SubtaskId): string {
  const vertex = vertices.find(({ vertexId }) => vertexId === subtask.vertexId);
  if (vertex === undefined || vertex.uids.length === 0) return `task ${subtaskKeyOf(subtask)}`;
  return `subtask ${subtask.subtaskIndex + 1}/${vertex.parallelism} of ${vertex.uids.join(" -> ")}`;
}

/** All subtasks of a vertex. */
export function subtasksOf(vertex: { readonly vertexId: string; readonly parallelism: number }): readonly SubtaskId[] {
  return Array.from({ length: vertex.parallelism }, (_, subtaskIndex) => ({ vertexId: vertex.vertexId, subtaskIndex }));
}

/** An id that will never commit. Of a savepoint nothing lies in the job's directory. */
export function givenUp(state: CoordinatorState, pending: PendingCheckpoint): CoordinatorState {
  const next = withoutPending(state, pending.id);
  return pending.savepoint === null ? { ...next, abandoned: [...next.abandoned, pending.id] } : next;
}

export function withPending(state: CoordinatorState, changed: PendingCheckpoint): CoordinatorState {
  return { ...state, pending: state.pending.map((p) => (p.id === changed.id ? changed : p)) };
}

export function withoutPending(state: CoordinatorState, id: CheckpointId): CoordinatorState {
  return { ...state, pending: state.pending.filter((p) => p.id !== id) };
}

export function added(set: ReadonlySet<string>, key: string): ReadonlySet<string> {
  return set.has(key) ? set : new Set([...set, key]);
}

export function removed(set: ReadonlySet<string>, key: string): ReadonlySet<string> {
  if (!set.has(key)) return set;
  const copy = new Set(set);
  copy.delete(key);
  return copy;
}
