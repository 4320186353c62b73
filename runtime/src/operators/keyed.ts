// Keyed operators: KeyedProcessFunction and KeyedCoProcessFunction.
//
// Invariants:
//   KO1. The task has set the current key before `processElement` and for each timer; nothing here knows how.
//
// Not here: keyed state itself (state/), captured by the task.

import { assert } from "@sluice/kit";
import type {
  KeyedCoProcessFunction,
  KeyedProcessFunction,
  KeyedStateAccess,
  OneInputOperator,
  OnTimerContext,
  OperatorContext,
  OperatorFactory,
  RestoredOperatorState,
  SubtaskInfo,
  TimeDomain,
  TimerService,
  TimerTarget,
  TwoInputOperator,
} from "../model/index.ts";
import { FunctionContext } from "./function-context.ts";
import { FunctionOperator } from "./function-operator.ts";
import { instantiate, refusePromise, type FunctionOrSupplier } from "./user-function.ts";

/** The context of records and timers of one operator. */
class CurrentKey extends FunctionContext implements OnTimerContext<unknown> {
  readonly #keyed: KeyedStateAccess;
  readonly #timers: TimerService;

  constructor(context: OperatorContext, keyed: KeyedStateAccess, target: TimerTarget) {
    super(context);
    this.#keyed = keyed;
    this.#timers = keyed.getTimerService(target);
  }

  getCurrentKey(): unknown {
    return this.#keyed.getCurrentKey();
  }

  timerService(): TimerService {
    return this.#timers;
  }

  timeDomain(): TimeDomain {
    return "PROCESSING_TIME";
  }
}

function keyContext(context: OperatorContext, target: TimerTarget): CurrentKey {
  assert(context.keyed !== undefined, "KO1: a keyed operator runs in a keyed task");
  return new CurrentKey(context, context.keyed, target);
}

class KeyedProcessOperator extends FunctionOperator implements OneInputOperator, TimerTarget {
  readonly #function: KeyedProcessFunction<unknown, unknown, unknown>;
  #key!: CurrentKey;

  constructor(fn: KeyedProcessFunction<unknown, unknown, unknown>, subtask: SubtaskInfo) {
    super(subtask, fn);
    this.#function = fn;
  }

  override open(context: OperatorContext, restored: RestoredOperatorState | undefined): void {
    this.#key = keyContext(context, this);
    super.open(context, restored);
  }

  processElement(record: unknown): void {
    const result = this.#function.processElement(record, this.#key, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }

  onProcessingTime(timestampMs: number): void {
    const result = this.#function.onTimer(timestampMs, this.#key, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }
}

class KeyedCoProcessOperator extends FunctionOperator implements TwoInputOperator, TimerTarget {
  readonly #function: KeyedCoProcessFunction<unknown, unknown, unknown, unknown>;
  #key!: CurrentKey;

  constructor(fn: KeyedCoProcessFunction<unknown, unknown, unknown, unknown>, subtask: SubtaskInfo) {
    super(subtask, fn);
    this.#function = fn;
  }

  override open(context: OperatorContext, restored: RestoredOperatorState | undefined): void {
    this.#key = keyContext(context, this);
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

  onProcessingTime(timestampMs: number): void {
    const result = this.#function.onTimer(timestampMs, this.#key, this.output) as unknown;
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
