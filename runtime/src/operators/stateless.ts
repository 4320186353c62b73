// Operators without keys: map, filter, process.
//
// Hot path: the user's function is called directly, the collector it gets is the operator's own output; the task attributes
// exceptions (task/chain.ts).

import { assert } from "@sluice/kit";
import type {
  Collector,
  FilterFunction,
  MapFunction,
  OneInputOperator,
  OperatorContext,
  OperatorFactory,
  ProcessFunction,
  SubtaskInfo,
} from "../model/index.ts";
import { FunctionContext } from "./function-context.ts";
import { instantiate, isThenable, openFunction, refusePromise, type FunctionOrSupplier } from "./user-function.ts";

const NOWHERE: Collector<unknown> = {
  collect() {
    assert(false, "an operator emits only between open and close");
  },
};

class MapOperator implements OneInputOperator {
  readonly #map: MapFunction<unknown, unknown>;
  readonly #subtask: SubtaskInfo;
  #output = NOWHERE;

  constructor(map: MapFunction<unknown, unknown>, subtask: SubtaskInfo) {
    this.#map = map;
    this.#subtask = subtask;
  }

  open(context: OperatorContext): void {
    this.#output = context.output;
  }

  processElement(record: unknown): void {
    const map = this.#map; // a call through the private field would pass this operator as `this`
    const result = map(record);
    if (isThenable(result)) refusePromise(result, this.#subtask);
    this.#output.collect(result);
  }

  close(): void {}
}

class FilterOperator implements OneInputOperator {
  readonly #filter: FilterFunction<unknown>;
  readonly #subtask: SubtaskInfo;
  #output = NOWHERE;

  constructor(filter: FilterFunction<unknown>, subtask: SubtaskInfo) {
    this.#filter = filter;
    this.#subtask = subtask;
  }

  open(context: OperatorContext): void {
    this.#output = context.output;
  }

  processElement(record: unknown): void {
    const filter = this.#filter;
    const keep: unknown = filter(record);
    if (keep === false) return;
    if (keep !== true) {
      refusePromise(keep, this.#subtask); // a promise is truthy: every record would pass
      if (!keep) return;
    }
    this.#output.collect(record);
  }

  close(): void {}
}

class ProcessOperator implements OneInputOperator {
  readonly #function: ProcessFunction<unknown, unknown>;
  readonly #subtask: SubtaskInfo;
  #output = NOWHERE;
  #context!: FunctionContext;

  constructor(fn: ProcessFunction<unknown, unknown>, subtask: SubtaskInfo) {
    this.#function = fn;
    this.#subtask = subtask;
  }

  open(context: OperatorContext): void {
    this.#output = context.output;
    this.#context = new FunctionContext(context);
    openFunction(this.#function, context);
  }

  processElement(record: unknown): void {
    const result = this.#function.processElement(record, this.#context, this.#output) as unknown;
    if (result !== undefined) refusePromise(result, this.#subtask);
  }

  close(): void {
    this.#function.close();
  }
}

export function mapFactory(map: MapFunction<unknown, unknown>): OperatorFactory {
  return { kind: "oneInput", create: (subtask) => new MapOperator(map, subtask) };
}

export function filterFactory(filter: FilterFunction<unknown>): OperatorFactory {
  return { kind: "oneInput", create: (subtask) => new FilterOperator(filter, subtask) };
}

export function processFactory(fn: FunctionOrSupplier<ProcessFunction<unknown, unknown>>): OperatorFactory {
  return { kind: "oneInput", create: (subtask) => new ProcessOperator(instantiate(fn, subtask), subtask) };
}
