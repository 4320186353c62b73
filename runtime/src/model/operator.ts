// The contract between a task and the operators of its chain. Users never see it; datastream and connectors implement it.
//
// Invariants:
//   OP1. All calls of one operator come from its task's thread, one after the other.
//   OP2. `snapshotState` sees exactly the records before the barrier: what must be captured is captured before it returns,
//        also when it returns a promise.
//   OP3. Side effects of checkpoint n become visible only in `notifyCheckpointComplete(m >= n)` or when n is restored.
//   OP4. After `finish` nothing is emitted.
//
// Not here: the loop that calls this (task/), keyed state (state/).

import type { Clock, Log, StagedUploads } from "@sluice/kit/env";
import type { AttemptNumber, Barrier, CheckpointId, Epoch, OperatorStateMode } from "./checkpoint.ts";
import type { Collector, OutputTag, TimerService } from "./functions.ts";
import type { MetricGroup } from "./metrics.ts";
import type { KeyedStateStore, StateDescriptor } from "./state.ts";
import type { StateSchema } from "./schema.ts";
import type { TypeDescriptor } from "./type-descriptor.ts";

/** Which subtask of which operator this is. */
export interface SubtaskInfo {
  readonly jobName: string;
  /** Identity of the output: changes only with an explicit new lineage (protocols 1, invariant 11). */
  readonly lineage: string;
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly operatorName: string;
  readonly uid: string;
  readonly subtaskIndex: number;
  readonly parallelism: number;
  readonly maxParallelism: number;
}

/** One item of operator state: anything JSON can hold, or bytes. */
export type OperatorStateItem = { readonly json: unknown } | { readonly bytes: Uint8Array };

/** One named operator state of one subtask. */
export interface OperatorStateContent {
  readonly mode: OperatorStateMode;
  /** Of all items, which are bytes in its encoding then; it is stored with them, so that others can read them and a restore compare. */
  readonly itemType?: TypeDescriptor;
  readonly items: readonly OperatorStateItem[];
}

/** Operator state as it was at the restored checkpoint. */
export interface RestoredOperatorState {
  readonly checkpointId: CheckpointId;
  /**
   * Set when the job goes back behind the newest checkpoint (damaged head): output of checkpoints in (`checkpointId`, this] that was
   * already published must be hidden before the first record. Output of checkpoints above it is another epoch's: untouchable.
   */
  readonly retractThrough: CheckpointId | undefined;
  /**
   * Set when the state of another lineage was taken over (CLAIM): output of that lineage which waits in it is published under the names
   * that it records, as if it were the own one. Otherwise output of another lineage is neither published nor dropped.
   */
  readonly claimedLineage?: string | undefined;
  /**
   * What this subtask was dealt, by state name, items in the order of the old subtasks. A name is there, if need be without items,
   * iff the operator had that state at the checkpoint: absence means a new state, not a subtask that was dealt nothing.
   */
  readonly states: ReadonlyMap<string, OperatorStateContent>;
}

/** Operator state to store, by state name. A state that the operator has is always there, also without items. */
export type OperatorState = ReadonlyMap<string, OperatorStateContent>;

/** What functions may know of the job's call. */
export interface JobContext {
  readonly parameters: Readonly<Record<string, string | number | boolean>>;
  /** Declared variables, secrets among them; one that is absent is optional and not set. */
  readonly environment: ReadonlyMap<string, string | undefined>;
}

export interface OperatorContext {
  readonly subtask: SubtaskInfo;
  /** Where results go: the next operator of the chain or the task's outputs. */
  readonly output: Collector<unknown>;
  /** Where records of a side output go. Failures: see SideOutputContext. */
  sideOutput(tag: OutputTag<unknown>): Collector<unknown>;
  readonly metrics: MetricGroup;
  readonly job: JobContext;
  readonly clock: Clock;
  readonly log: Log;
  /** The key of the current record; only keyed operators have one. */
  readonly keyed: KeyedStateAccess | undefined;
  /** False: no checkpoints are taken, side effects become visible at the end of input. */
  readonly checkpointingEnabled: boolean;
  /**
   * Staged uploads at `s3://bucket/prefix`, which are tried again until the store answers. Credentials are the TaskManager's, and never in
   * reach of user code. Failure CONFIG_INVALID.
   */
  openUploads(uri: string): Promise<StagedUploads>;
  /** Makes the task poll this operator again soon; callable from promises. */
  wake(): void;
}

/** Whom timers call, with the key of the timer as the current one. */
export interface TimerTarget {
  onProcessingTime(timestampMs: number): void;
}

/** Keyed state as an operator uses it. */
export interface KeyedStateAccess extends KeyedStateStore {
  /** The timers of the operator; asked for in `open`, since restored timers may be overdue. */
  getTimerService(target: TimerTarget): TimerService;
  getCurrentKey(): unknown;
  /**
   * Calls `visit` once for every key that has an entry in the state, with that key as the current one; what it does to the state changes
   * nothing about which keys those are. Afterwards there is no current key.
   */
  forEachKey(descriptor: StateDescriptor, visit: (key: unknown) => void): void;
}

export interface Operator {
  /** Before the first record; restores, then opens user functions. `restored` is undefined on a fresh start. */
  open(context: OperatorContext, restored: RestoredOperatorState | undefined): void | Promise<void>;
  /** OP2. Only for operators that have operator state; keyed state is captured by the task. */
  snapshotState?(barrier: Barrier): OperatorState | Promise<OperatorState>;
  /** Checkpoint `id` and all below it are durable. May be called again for the same or a lower id. */
  notifyCheckpointComplete?(id: CheckpointId): void | Promise<void>;
  notifyCheckpointAborted?(id: CheckpointId): void;
  /**
   * False while the operator can take no more records: its task stands still, as with a full output, until the operator has called
   * `wake()` and this is true again. Asked between chunks of rows: up to a chunk of records may still come after it became false.
   */
  readonly isAvailable?: boolean;
  /** All input was seen: emit what is still held back. */
  finish?(): void;
  /** After `open`: the operator state that the user's function has asked for. For who compares a job with a snapshot. */
  declaredStates?(): readonly StateSchema[];
  /** Always called once, also after failures; `succeeded` false: leave pending side effects for the next attempt. */
  close(succeeded: boolean): void | Promise<void>;
}

export interface OneInputOperator extends Operator {
  processElement(record: unknown): void;
}

/**
 * An operator whose results come later than its inputs (asynchronous I/O). It emits nothing by itself: the task asks it in its steps
 * (OP1), after `wake()` and at `wakeAtMs`.
 */
export interface DeferringOperator extends OneInputOperator {
  /** How many more inputs it takes without queueing them; 0: the task reads no input. */
  readonly room: number;
  /** True: it holds no input. The task calls `finish` of this operator and of those behind it only then. */
  readonly isIdle: boolean;
  /** Clock time (ms) at which it has something to do though nobody called `wake()`, or Infinity. */
  readonly wakeAtMs: number;
  /** Emits the results of at most `inputsMax` inputs and says of how many. */
  emitReady(inputsMax: number): number;
}

export interface TwoInputOperator extends Operator {
  processElement1(record: unknown): void;
  processElement2(record: unknown): void;
}

/** `more`: call again now; `idle`: nothing until `wake()` or `wakeAtMs`; `finished`: never more. */
export type SourceStatus = "more" | "idle" | "finished";

export interface SourceOperator extends Operator {
  /** Emits at most `recordsMax` records; never blocks. */
  poll(recordsMax: number): SourceStatus;
  /** After `idle`: clock time (ms) at which `poll` may have more, or Infinity when only `wake()` tells. */
  readonly wakeAtMs: number;
}

/** Makes one operator for one subtask; the instance is used by that subtask only. `splits` are the plan's (sources). */
export type OperatorFactory =
  | {
      readonly kind: "source";
      create(options: { readonly splits: readonly unknown[]; readonly subtask: SubtaskInfo }): SourceOperator;
    }
  | { readonly kind: "oneInput"; create(subtask: SubtaskInfo): OneInputOperator }
  | { readonly kind: "twoInput"; create(subtask: SubtaskInfo): TwoInputOperator }
  | { readonly kind: "sink"; create(subtask: SubtaskInfo): OneInputOperator };
