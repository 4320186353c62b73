// State as user functions see it: descriptors and handles (Flink's names).
//
// Invariants:
//   ST1. A handle of keyed state speaks of the current key only; outside a key scope it throws Failure STATE_ACCESS_INVALID.
//   ST2. A name means one kind of state with one type within an operator.
//
// Not here: where the values live (state/).

import type { TypeInformation } from "./types.ts";

/** When reading an entry renews its time to live (Flink: StateTtlConfig.UpdateType). */
export type TtlUpdateType = "OnCreateAndWrite" | "OnReadAndWrite";
/** Whether an entry that has expired, but was not cleaned up, may still be seen (Flink: StateVisibility). */
export type TtlStateVisibility = "NeverReturnExpired" | "ReturnExpiredIfNotCleanedUp";

/**
 * Time to live of state, in processing time (Flink: StateTtlConfig). Lists and maps expire element by element.
 *
 * What has expired is taken out when it is met, and by a sweep that looks at a few rows with every access and at some more ten times a
 * second; snapshots leave it out. A job may get, change and lose the time to live of a state with a restart: values that had none begin
 * their life when they are restored, values that lose theirs are kept until they are cleared. Declare such a state in `open`.
 */
export interface StateTtlConfig {
  readonly ttlMs: number;
  /** Default "OnCreateAndWrite". */
  readonly updateType?: TtlUpdateType;
  /** Default "NeverReturnExpired". */
  readonly stateVisibility?: TtlStateVisibility;
}

/** What all descriptors share. `name` is unique within an operator. */
interface StateDescriptorBase {
  readonly name: string;
  /** Undefined: kept until it is cleared. */
  readonly ttl: StateTtlConfig | undefined;
}

/** Options of every descriptor of keyed state. */
export interface StateDescriptorOptions {
  readonly ttl?: StateTtlConfig;
}

/** Names one keyed value of type T. */
export class ValueStateDescriptor<T> implements StateDescriptorBase {
  readonly kind = "value";
  readonly name: string;
  readonly type: TypeInformation<T>;
  readonly ttl: StateTtlConfig | undefined;

  constructor(name: string, type: TypeInformation<T>, options: StateDescriptorOptions = {}) {
    this.name = name;
    this.type = type;
    this.ttl = options.ttl;
  }
}

/** Names a list with elements of type T: keyed, or operator state of a CheckpointedFunction. */
export class ListStateDescriptor<T> implements StateDescriptorBase {
  readonly kind = "list";
  readonly name: string;
  readonly elementType: TypeInformation<T>;
  readonly ttl: StateTtlConfig | undefined;

  constructor(name: string, elementType: TypeInformation<T>, options: StateDescriptorOptions = {}) {
    this.name = name;
    this.elementType = elementType;
    this.ttl = options.ttl;
  }
}

/** Names a map from K to V: keyed, or broadcast state. */
export class MapStateDescriptor<K, V> implements StateDescriptorBase {
  readonly kind = "map";
  readonly name: string;
  readonly keyType: TypeInformation<K>;
  readonly valueType: TypeInformation<V>;
  readonly ttl: StateTtlConfig | undefined;

  constructor(
    name: string,
    keyType: TypeInformation<K>,
    valueType: TypeInformation<V>,
    options: StateDescriptorOptions = {},
  ) {
    this.name = name;
    this.keyType = keyType;
    this.valueType = valueType;
    this.ttl = options.ttl;
  }
}

/** Combines two values of one type; must be associative. */
export type ReduceFunction<T> = (a: T, b: T) => T;

/** Names a value that `add` reduces into. */
export class ReducingStateDescriptor<T> implements StateDescriptorBase {
  readonly kind = "reducing";
  readonly name: string;
  readonly reduce: ReduceFunction<T>;
  readonly type: TypeInformation<T>;
  readonly ttl: StateTtlConfig | undefined;

  constructor(name: string, reduce: ReduceFunction<T>, type: TypeInformation<T>, options: StateDescriptorOptions = {}) {
    this.name = name;
    this.reduce = reduce;
    this.type = type;
    this.ttl = options.ttl;
  }
}

/** Flink: AggregateFunction. `add` may change and return the accumulator it was given, or return a new one. */
export interface AggregateFunction<I, A, O> {
  createAccumulator(): A;
  add(value: I, accumulator: A): A;
  getResult(accumulator: A): O;
  merge(a: A, b: A): A;
}

/** Names an accumulator of type A that takes values of type I and yields O. */
export class AggregatingStateDescriptor<I, A, O> implements StateDescriptorBase {
  readonly kind = "aggregating";
  readonly name: string;
  readonly aggregate: AggregateFunction<I, A, O>;
  readonly accumulatorType: TypeInformation<A>;
  readonly ttl: StateTtlConfig | undefined;

  constructor(
    name: string,
    aggregate: AggregateFunction<I, A, O>,
    accumulatorType: TypeInformation<A>,
    options: StateDescriptorOptions = {},
  ) {
    this.name = name;
    this.aggregate = aggregate;
    this.accumulatorType = accumulatorType;
    this.ttl = options.ttl;
  }
}

/** Any descriptor. */
export type StateDescriptor =
  | ValueStateDescriptor<unknown>
  | ListStateDescriptor<unknown>
  | MapStateDescriptor<unknown, unknown>
  | ReducingStateDescriptor<unknown>
  | AggregatingStateDescriptor<unknown, unknown, unknown>;

export type StateKind = StateDescriptor["kind"];
/** What a part of a keyed snapshot may hold: a state of the user, or timers. */
export type StoredStateKind = StateKind | "timers";

/** One value per key (Flink: ValueState). */
export interface ValueState<T> {
  /** The value of the current key, or undefined when none was set. */
  value(): T | undefined;
  update(value: T): void;
  clear(): void;
}

/** A list (Flink: ListState). */
export interface ListState<T> {
  /** The elements in order; empty when there are none. */
  get(): Iterable<T>;
  add(value: T): void;
  addAll(values: Iterable<T>): void;
  /** Replaces all elements. */
  update(values: Iterable<T>): void;
  clear(): void;
}

/** A map (Flink: MapState). The order of iteration is not specified: it may change with a restore or the state backend. */
export interface MapState<K, V> {
  get(key: K): V | undefined;
  put(key: K, value: V): void;
  putAll(entries: Iterable<readonly [K, V]>): void;
  remove(key: K): void;
  contains(key: K): boolean;
  entries(): Iterable<readonly [K, V]>;
  keys(): Iterable<K>;
  values(): Iterable<V>;
  isEmpty(): boolean;
  clear(): void;
}

/** Takes values of I, yields O (Flink: AppendingState). */
interface AppendingState<I, O> {
  /** Undefined when nothing was added. */
  get(): O | undefined;
  add(value: I): void;
  clear(): void;
}

/** Flink: ReducingState. */
export type ReducingState<T> = AppendingState<T, T>;
/** Flink: AggregatingState. */
export type AggregatingState<I, O> = AppendingState<I, O>;

/**
 * The keyed states of an operator, by descriptor (Flink: KeyedStateStore); only after keyBy. The same name with another kind or type
 * is a Failure: STATE_INCOMPATIBLE when the snapshot has it, STATE_ACCESS_INVALID when the job itself has.
 */
export interface KeyedStateStore {
  getState<T>(descriptor: ValueStateDescriptor<T>): ValueState<T>;
  getListState<T>(descriptor: ListStateDescriptor<T>): ListState<T>;
  getMapState<K, V>(descriptor: MapStateDescriptor<K, V>): MapState<K, V>;
  getReducingState<T>(descriptor: ReducingStateDescriptor<T>): ReducingState<T>;
  getAggregatingState<I, A, O>(descriptor: AggregatingStateDescriptor<I, A, O>): AggregatingState<I, O>;
}
