// Functions of a stream that is connected to a broadcast stream (Flink's broadcast state pattern).
//
// Invariants:
//   BF1. Broadcast state is written on the broadcast side only. All subtasks see all broadcast records, but in between they see records of
//        the other side, and of several broadcast subtasks in different orders: what is done to the state must not depend on that.
//   BF2. A keyed function sees the state of its current key on the other side; on the broadcast side there is no current key, only
//        `applyToKeyedState`.
//
// Not here: operators around them (operators/broadcast.ts), the state (checkpointed.ts).

import type { BroadcastState, ReadOnlyBroadcastState } from "./checkpointed.ts";
import {
  RichFunction,
  type Collector,
  type KeyedContext,
  type OnTimerContext,
  type SideOutputContext,
} from "./functions.ts";
import type {
  AggregatingState,
  AggregatingStateDescriptor,
  ListState,
  ListStateDescriptor,
  MapState,
  MapStateDescriptor,
  ReducingState,
  ReducingStateDescriptor,
  StateKind,
  ValueState,
  ValueStateDescriptor,
} from "./state.ts";

/** With records of the stream that is not broadcast (Flink: ReadOnlyContext). */
export interface ReadOnlyBroadcastContext extends SideOutputContext {
  /** Failure STATE_ACCESS_INVALID for a descriptor that was not given to `broadcast(...)`. */
  getBroadcastState<K, V>(descriptor: MapStateDescriptor<K, V>): ReadOnlyBroadcastState<K, V>;
}

/** With broadcast records (Flink: Context). */
export interface BroadcastContext extends SideOutputContext {
  getBroadcastState<K, V>(descriptor: MapStateDescriptor<K, V>): BroadcastState<K, V>;
}

export interface KeyedReadOnlyBroadcastContext<K> extends ReadOnlyBroadcastContext, KeyedContext<K> {}

/** Of a timer: the current key is the one that registered it. */
export interface KeyedBroadcastOnTimerContext<K> extends KeyedReadOnlyBroadcastContext<K>, OnTimerContext<K> {}

/** The handle of the keyed state that a descriptor names. */
export type StateOf<D> =
  D extends ValueStateDescriptor<infer T>
    ? ValueState<T>
    : D extends ListStateDescriptor<infer T>
      ? ListState<T>
      : D extends MapStateDescriptor<infer K, infer V>
        ? MapState<K, V>
        : D extends ReducingStateDescriptor<infer T>
          ? ReducingState<T>
          : D extends AggregatingStateDescriptor<infer I, infer _A, infer O>
            ? AggregatingState<I, O>
            : never;

export interface KeyedBroadcastContext<K> extends BroadcastContext {
  /** Calls `fn` once for every key of this subtask that has an entry in the state (Flink: applyToKeyedState). */
  applyToKeyedState<D extends { readonly kind: StateKind; readonly name: string }>(
    descriptor: D,
    fn: (key: K, state: StateOf<D>) => void,
  ): void;
}

/** Flink: BroadcastProcessFunction. */
export abstract class BroadcastProcessFunction<I1, I2, O> extends RichFunction {
  abstract processElement(value: I1, ctx: ReadOnlyBroadcastContext, out: Collector<O>): void;
  abstract processBroadcastElement(value: I2, ctx: BroadcastContext, out: Collector<O>): void;
}

/** Flink: KeyedBroadcastProcessFunction. */
export abstract class KeyedBroadcastProcessFunction<K, I1, I2, O> extends RichFunction {
  abstract processElement(value: I1, ctx: KeyedReadOnlyBroadcastContext<K>, out: Collector<O>): void;
  abstract processBroadcastElement(value: I2, ctx: KeyedBroadcastContext<K>, out: Collector<O>): void;
  /** A timer of this key has come to its time. */
  onTimer(_timestampMs: number, _ctx: KeyedBroadcastOnTimerContext<K>, _out: Collector<O>): void {}
}
