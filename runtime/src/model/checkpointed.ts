// Operator state of user functions, and what they learn of checkpoints (Flink's names).
//
// Invariants:
//   CP1. `initializeState` runs before `open`; a restored state is dealt to the subtasks of now: a list state each item to one of them,
//        a union list state all to everyone, a broadcast state one copy to each.
//   CP2. `snapshotState` sees exactly the records before the barrier; what the handles hold when it returns is stored.
//
// Not here: where the values live (operators/operator-state-store.ts), who is dealt what (checkpoint/).

import type { KeyedStateStore, ListState, ListStateDescriptor, MapState, MapStateDescriptor } from "./state.ts";

/** Broadcast state where it may only be read (Flink: ReadOnlyBroadcastState). */
export type ReadOnlyBroadcastState<K, V> = Pick<MapState<K, V>, "get" | "contains"> & {
  immutableEntries(): Iterable<readonly [K, V]>;
};

/** A map that is the same in all subtasks, because all do the same to it (Flink: BroadcastState). */
export type BroadcastState<K, V> = MapState<K, V> & ReadOnlyBroadcastState<K, V>;

/**
 * State of an operator's subtask as a whole (Flink: OperatorStateStore). One name means one state; another kind or type under it is a
 * Failure: STATE_INCOMPATIBLE when the checkpoint has it, STATE_ACCESS_INVALID when the function itself has asked so before.
 */
export interface OperatorStateStore {
  /** Restored at another parallelism, each item goes to one subtask. */
  getListState<T>(descriptor: ListStateDescriptor<T>): ListState<T>;
  /** Restored, every subtask gets the items of all: each takes what it needs and clears the rest. */
  getUnionListState<T>(descriptor: ListStateDescriptor<T>): ListState<T>;
  getBroadcastState<K, V>(descriptor: MapStateDescriptor<K, V>): BroadcastState<K, V>;
}

/** Flink: FunctionInitializationContext. */
export interface FunctionInitializationContext {
  /** The job began from a checkpoint; of a function that is new in it, all states are empty. */
  isRestored(): boolean;
  getRestoredCheckpointId(): number | undefined;
  getOperatorStateStore(): OperatorStateStore;
  /** The same as the RuntimeContext gives in `open`; only after keyBy. */
  getKeyedStateStore(): KeyedStateStore;
}

/** Flink: FunctionSnapshotContext. */
export interface FunctionSnapshotContext {
  getCheckpointId(): number;
  /** Wall clock of the trigger, in milliseconds. */
  getCheckpointTimestamp(): number;
}

/**
 * A function with operator state (Flink: CheckpointedFunction). Any function class may implement it: the methods are found by their
 * names. The operator needs a `uid`.
 */
export interface CheckpointedFunction {
  initializeState(context: FunctionInitializationContext): void;
  snapshotState(context: FunctionSnapshotContext): void;
}

/** A function that hears of checkpoints (Flink: CheckpointListener); told at best, never promised: n stands for all up to n. */
export interface CheckpointListener {
  notifyCheckpointComplete(checkpointId: number): void;
  notifyCheckpointAborted?(checkpointId: number): void;
}
