// From a user's function to what is added to the graph; plain and keyed streams share it.

import {
  RichFunction,
  type CoFlatMapFunction,
  type CoMapFunction,
  type FilterFunction,
  type FlatMapFunction,
  type MapFunction,
  type RichFilterFunction,
  type RichFlatMapFunction,
  type RichMapFunction,
  type TypeInformation,
} from "../model/index.ts";
import {
  coFlatMapFactory,
  coMapFactory,
  filterFactory,
  flatMapFactory,
  isCheckpointed,
  mapFactory,
  type FunctionOrSupplier,
} from "../operators/index.ts";
import type { Added } from "./operator-settings.ts";

/** How `sum("field")` and the like name a field: by name in rows, by position in tuples, not at all for plain values. */
export type FieldOf<T> = T extends readonly unknown[] ? number : T extends object ? keyof T & string : never;

/** What adding an operator around a function takes; `name` is used when the function's class has none. */
export interface AddedFunction<O> extends Added<O> {
  /** Undefined: a plain function, which has no life cycle and no instance. */
  readonly fn: FunctionOrSupplier<RichFunction> | undefined;
}

function richOf(fn: unknown): RichFunction | undefined {
  return fn instanceof RichFunction ? fn : undefined;
}

/**
 * Whether a function has operator state (CheckpointedFunction), so that its operator needs a uid. A supplier is asked for one more
 * instance, which is thrown away; one that fails here will fail, with its name, where it runs.
 */
export function keepsState(fn: FunctionOrSupplier<RichFunction> | undefined): boolean {
  if (typeof fn !== "function") return fn !== undefined && isCheckpointed(fn);
  try {
    return isCheckpointed(fn());
  } catch {
    return false;
  }
}

/** On a keyed stream: a function with a life cycle may have keyed state. */
export function keyed<O>(added: AddedFunction<O>): AddedFunction<O> {
  return { ...added, stateful: added.fn !== undefined };
}

export function mapOf<I, O>(fn: MapFunction<I, O> | RichMapFunction<I, O>, type: TypeInformation<O>): AddedFunction<O> {
  const factory = mapFactory(fn as MapFunction<unknown, unknown>);
  return { fn: richOf(fn), name: "map", factory, stateful: false, type };
}

export function filterOf<T>(fn: FilterFunction<T> | RichFilterFunction<T>, type: TypeInformation<T>): AddedFunction<T> {
  const factory = filterFactory(fn as FilterFunction<unknown>);
  return { fn: richOf(fn), name: "filter", factory, stateful: false, type };
}

export function flatMapOf<I, O>(
  fn: FlatMapFunction<I, O> | RichFlatMapFunction<I, O>,
  type: TypeInformation<O>,
): AddedFunction<O> {
  const factory = flatMapFactory(fn as FlatMapFunction<unknown, unknown>);
  return { fn: richOf(fn), name: "flatMap", factory, stateful: false, type };
}

export function coMapOf<A, B, O>(
  fn: FunctionOrSupplier<CoMapFunction<A, B, O>>,
  type: TypeInformation<O>,
): AddedFunction<O> {
  const factory = coMapFactory(fn as FunctionOrSupplier<CoMapFunction<unknown, unknown, unknown>>);
  return { fn, name: "co-map", factory, stateful: false, type };
}

export function coFlatMapOf<A, B, O>(
  fn: FunctionOrSupplier<CoFlatMapFunction<A, B, O>>,
  type: TypeInformation<O>,
): AddedFunction<O> {
  const factory = coFlatMapFactory(fn as FunctionOrSupplier<CoFlatMapFunction<unknown, unknown, unknown>>);
  return { fn, name: "co-flatMap", factory, stateful: false, type };
}
