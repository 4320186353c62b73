// Operators with two inputs and no keys of their own: co-map, co-flatMap, co-process.

import type {
  CoFlatMapFunction,
  CoMapFunction,
  CoProcessFunction,
  OperatorContext,
  OperatorFactory,
  RestoredOperatorState,
  RichFunction,
  SubtaskInfo,
  TwoInputOperator,
} from "../model/index.ts";
import { FunctionContext } from "./function-context.ts";
import { FunctionOperator } from "./function-operator.ts";
import { instantiate, isThenable, refusePromise, type FunctionOrSupplier } from "./user-function.ts";

abstract class CoOperator<F extends RichFunction> extends FunctionOperator implements TwoInputOperator {
  readonly fn: F;

  constructor(fn: F, subtask: SubtaskInfo) {
    super(subtask, fn);
    this.fn = fn;
  }

  abstract processElement1(record: unknown): void;
  abstract processElement2(record: unknown): void;
}

class CoMapOperator extends CoOperator<CoMapFunction<unknown, unknown, unknown>> {
  processElement1(record: unknown): void {
    this.#emit(this.fn.map1(record));
  }

  processElement2(record: unknown): void {
    this.#emit(this.fn.map2(record));
  }

  #emit(result: unknown): void {
    if (isThenable(result)) refusePromise(result, this.subtask);
    this.output.collect(result);
  }
}

class CoFlatMapOperator extends CoOperator<CoFlatMapFunction<unknown, unknown, unknown>> {
  processElement1(record: unknown): void {
    const result = this.fn.flatMap1(record, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }

  processElement2(record: unknown): void {
    const result = this.fn.flatMap2(record, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }
}

class CoProcessOperator extends CoOperator<CoProcessFunction<unknown, unknown, unknown>> {
  #context!: FunctionContext;

  override open(context: OperatorContext, restored: RestoredOperatorState | undefined): void {
    this.#context = new FunctionContext(context);
    super.open(context, restored);
  }

  processElement1(record: unknown): void {
    const result = this.fn.processElement1(record, this.#context, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }

  processElement2(record: unknown): void {
    const result = this.fn.processElement2(record, this.#context, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }
}

export function coMapFactory(fn: FunctionOrSupplier<CoMapFunction<unknown, unknown, unknown>>): OperatorFactory {
  return { kind: "twoInput", create: (subtask) => new CoMapOperator(instantiate(fn, subtask), subtask) };
}

export function coFlatMapFactory(
  fn: FunctionOrSupplier<CoFlatMapFunction<unknown, unknown, unknown>>,
): OperatorFactory {
  return { kind: "twoInput", create: (subtask) => new CoFlatMapOperator(instantiate(fn, subtask), subtask) };
}

export function coProcessFactory(
  fn: FunctionOrSupplier<CoProcessFunction<unknown, unknown, unknown>>,
): OperatorFactory {
  return { kind: "twoInput", create: (subtask) => new CoProcessOperator(instantiate(fn, subtask), subtask) };
}
