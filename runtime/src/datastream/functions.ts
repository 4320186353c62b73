// From a user's function to what is added to the graph; plain and keyed streams share it.

import {
  containsGeneric,
  describeType,
  RichFunction,
  type BroadcastProcessFunction,
  type CoFlatMapFunction,
  type CoMapFunction,
  type FilterFunction,
  type FlatMapFunction,
  type KeyedBroadcastProcessFunction,
  type MapFunction,
  type MapStateDescriptor,
  type RichFilterFunction,
  type RichFlatMapFunction,
  type RichMapFunction,
  type RichSinkFunction,
  type SinkFunction,
  type TypeDescriptor,
  type TypeInformation,
} from "../model/index.ts";
import {
  broadcastProcessFactory,
  coFlatMapFactory,
  coMapFactory,
  filterFactory,
  flatMapFactory,
  isCheckpointed,
  keyedBroadcastProcessFactory,
  mapFactory,
  sinkFunctionFactory,
  type FunctionOrSupplier,
} from "../operators/index.ts";
import { invalid, type Added } from "./operator-settings.ts";

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

/** Nothing that a function has done to the world outside can be taken back by the runtime. */
export function sinkOf<T>(fn: SinkFunction<T> | RichSinkFunction<T>, type: TypeInformation<T>): AddedFunction<T> {
  const factory = sinkFunctionFactory(fn as SinkFunction<unknown>);
  return { fn: richOf(fn), name: "sink", factory, stateful: false, type, canRetract: false };
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

/** A descriptor of broadcast state, whatever its types. */
export type AnyMapDescriptor = Pick<MapStateDescriptor<unknown, unknown>, "kind" | "name" | "ttl"> & {
  readonly keyType: { readonly descriptor: TypeDescriptor };
  readonly valueType: { readonly descriptor: TypeDescriptor };
};

/** Refuses what could not be kept, while the job is built. */
export function checkBroadcastStates(
  states: readonly AnyMapDescriptor[],
): readonly MapStateDescriptor<unknown, unknown>[] {
  for (const { name, keyType, valueType } of states) {
    const generic = [keyType, valueType].find(({ descriptor }) => containsGeneric(descriptor));
    if (generic !== undefined) {
      throw invalid(
        `broadcast state "${name}" is declared with ${describeType(generic.descriptor)}`,
        "declare its types without GENERIC: state outlives the code that wrote it",
      );
    }
    if (states.filter((other) => other.name === name).length > 1)
      throw invalid(`two broadcast states of one stream are called "${name}"`, "give every state its own name");
  }
  return states as readonly MapStateDescriptor<unknown, unknown>[];
}

export function broadcastOf<A, B, O>(
  fn: FunctionOrSupplier<BroadcastProcessFunction<A, B, O>>,
  states: readonly MapStateDescriptor<unknown, unknown>[],
  type: TypeInformation<O>,
): AddedFunction<O> {
  const factory = broadcastProcessFactory(
    fn as FunctionOrSupplier<BroadcastProcessFunction<unknown, unknown, unknown>>,
    states,
  );
  return { fn, name: "broadcast process", factory, stateful: true, type };
}

export function keyedBroadcastOf<K, A, B, O>(
  fn: FunctionOrSupplier<KeyedBroadcastProcessFunction<K, A, B, O>>,
  states: readonly MapStateDescriptor<unknown, unknown>[],
  type: TypeInformation<O>,
): AddedFunction<O> {
  const factory = keyedBroadcastProcessFactory(
    fn as FunctionOrSupplier<KeyedBroadcastProcessFunction<unknown, unknown, unknown, unknown>>,
    states,
  );
  return { fn, name: "keyed broadcast process", factory, stateful: true, type };
}
