// Operators with one input and no keys of their own: map, filter, flatMap, process.
//
// Hot path: the user's function is called directly, the collector it gets is the operator's own output; the task attributes
// exceptions (task/chain.ts).

import {
  RichFunction,
  type FilterFunction,
  type FlatMapFunction,
  type MapFunction,
  type OneInputOperator,
  type OperatorContext,
  type OperatorFactory,
  type ProcessFunction,
  type RestoredOperatorState,
  type RichFilterFunction,
  type RichFlatMapFunction,
  type RichMapFunction,
  type SubtaskInfo,
} from "../model/index.ts";
import { FunctionContext } from "./function-context.ts";
import { FunctionOperator } from "./function-operator.ts";
import { instantiate, isThenable, refusePromise, type FunctionOrSupplier } from "./user-function.ts";

class MapOperator extends FunctionOperator implements OneInputOperator {
  readonly #map: MapFunction<unknown, unknown>;

  constructor(map: MapFunction<unknown, unknown>, subtask: SubtaskInfo, rich?: RichFunction) {
    super(subtask, rich);
    this.#map = map;
  }

  processElement(record: unknown): void {
    const map = this.#map; // a call through the private field would pass this operator as `this`
    const result = map(record);
    if (isThenable(result)) refusePromise(result, this.subtask);
    this.output.collect(result);
  }
}

class FilterOperator extends FunctionOperator implements OneInputOperator {
  readonly #filter: FilterFunction<unknown>;

  constructor(filter: FilterFunction<unknown>, subtask: SubtaskInfo, rich?: RichFunction) {
    super(subtask, rich);
    this.#filter = filter;
  }

  processElement(record: unknown): void {
    const filter = this.#filter;
    const keep: unknown = filter(record);
    if (keep === false) return;
    if (keep !== true) {
      refusePromise(keep, this.subtask); // a promise is truthy: every record would pass
      if (!keep) return;
    }
    this.output.collect(record);
  }
}

class FlatMapOperator extends FunctionOperator implements OneInputOperator {
  readonly #flatMap: FlatMapFunction<unknown, unknown>;

  constructor(flatMap: FlatMapFunction<unknown, unknown>, subtask: SubtaskInfo, rich?: RichFunction) {
    super(subtask, rich);
    this.#flatMap = flatMap;
  }

  processElement(record: unknown): void {
    const flatMap = this.#flatMap;
    const result = flatMap(record, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }
}

class ProcessOperator extends FunctionOperator implements OneInputOperator {
  readonly #function: ProcessFunction<unknown, unknown>;
  #context!: FunctionContext;

  constructor(fn: ProcessFunction<unknown, unknown>, subtask: SubtaskInfo) {
    super(subtask, fn);
    this.#function = fn;
  }

  override open(context: OperatorContext, restored: RestoredOperatorState | undefined): void {
    this.#context = new FunctionContext(context);
    super.open(context, restored);
  }

  processElement(record: unknown): void {
    const result = this.#function.processElement(record, this.#context, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }
}

export function mapFactory(map: MapFunction<unknown, unknown> | RichMapFunction<unknown, unknown>): OperatorFactory {
  return {
    kind: "oneInput",
    create: (subtask) => {
      if (!(map instanceof RichFunction)) return new MapOperator(map, subtask);
      const rich = instantiate(map, subtask);
      return new MapOperator((value) => rich.map(value), subtask, rich);
    },
  };
}

export function filterFactory(filter: FilterFunction<unknown> | RichFilterFunction<unknown>): OperatorFactory {
  return {
    kind: "oneInput",
    create: (subtask) => {
      if (!(filter instanceof RichFunction)) return new FilterOperator(filter, subtask);
      const rich = instantiate(filter, subtask);
      return new FilterOperator((value) => rich.filter(value), subtask, rich);
    },
  };
}

export function flatMapFactory(
  flatMap: FlatMapFunction<unknown, unknown> | RichFlatMapFunction<unknown, unknown>,
): OperatorFactory {
  return {
    kind: "oneInput",
    create: (subtask) => {
      if (!(flatMap instanceof RichFunction)) return new FlatMapOperator(flatMap, subtask);
      const rich = instantiate(flatMap, subtask);
      return new FlatMapOperator((value, out) => rich.flatMap(value, out), subtask, rich);
    },
  };
}

export function processFactory(fn: FunctionOrSupplier<ProcessFunction<unknown, unknown>>): OperatorFactory {
  return { kind: "oneInput", create: (subtask) => new ProcessOperator(instantiate(fn, subtask), subtask) };
}
