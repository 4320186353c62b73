// Keyed operators: KeyedProcessFunction and KeyedCoProcessFunction.
//
// Invariants:
//   KO1. The task has set the current key before `processElement`; nothing here knows how.
//
// Not here: keyed state itself (state/), captured by the task.

import { assert } from "@sluice/kit";
import type {
  KeyedCoProcessFunction,
  KeyedContext,
  KeyedProcessFunction,
  KeyedStateAccess,
  OneInputOperator,
  OperatorContext,
  OperatorFactory,
  RestoredOperatorState,
  SubtaskInfo,
  TwoInputOperator,
} from "../model/index.ts";
import { FunctionContext } from "./function-context.ts";
import { FunctionOperator } from "./function-operator.ts";
import { instantiate, refusePromise, type FunctionOrSupplier } from "./user-function.ts";

class CurrentKey extends FunctionContext implements KeyedContext<unknown> {
  readonly #keyed: KeyedStateAccess;

  constructor(context: OperatorContext, keyed: KeyedStateAccess) {
    super(context);
    this.#keyed = keyed;
  }

  getCurrentKey(): unknown {
    return this.#keyed.getCurrentKey();
  }
}

function keyContext(context: OperatorContext): CurrentKey {
  assert(context.keyed !== undefined, "KO1: a keyed operator runs in a keyed task");
  return new CurrentKey(context, context.keyed);
}

class KeyedProcessOperator extends FunctionOperator implements OneInputOperator {
  readonly #function: KeyedProcessFunction<unknown, unknown, unknown>;
  #key!: CurrentKey;

  constructor(fn: KeyedProcessFunction<unknown, unknown, unknown>, subtask: SubtaskInfo) {
    super(subtask, fn);
    this.#function = fn;
  }

  override open(context: OperatorContext, restored: RestoredOperatorState | undefined): void {
    this.#key = keyContext(context);
    super.open(context, restored);
  }

  processElement(record: unknown): void {
    const result = this.#function.processElement(record, this.#key, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }
}

class KeyedCoProcessOperator extends FunctionOperator implements TwoInputOperator {
  readonly #function: KeyedCoProcessFunction<unknown, unknown, unknown, unknown>;
  #key!: CurrentKey;

  constructor(fn: KeyedCoProcessFunction<unknown, unknown, unknown, unknown>, subtask: SubtaskInfo) {
    super(subtask, fn);
    this.#function = fn;
  }

  override open(context: OperatorContext, restored: RestoredOperatorState | undefined): void {
    this.#key = keyContext(context);
    super.open(context, restored);
  }

  processElement1(record: unknown): void {
    const result = this.#function.processElement1(record, this.#key, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }

  processElement2(record: unknown): void {
    const result = this.#function.processElement2(record, this.#key, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }
}

export function keyedProcessFactory(
  fn: FunctionOrSupplier<KeyedProcessFunction<unknown, unknown, unknown>>,
): OperatorFactory {
  return { kind: "oneInput", create: (subtask) => new KeyedProcessOperator(instantiate(fn, subtask), subtask) };
}

export function keyedCoProcessFactory(
  fn: FunctionOrSupplier<KeyedCoProcessFunction<unknown, unknown, unknown, unknown>>,
): OperatorFactory {
  return { kind: "twoInput", create: (subtask) => new KeyedCoProcessOperator(instantiate(fn, subtask), subtask) };
}
