// What all operators with a user function share: instances, the runtime context, the check for promises.
//
// Invariants:
//   UF1, UF2: see model/functions.ts.

import { didYouMean, Failure } from "@sluice/kit";
import type { Log } from "@sluice/kit/env";
import type {
  AggregatingState,
  AggregatingStateDescriptor,
  KeyedStateAccess,
  ListState,
  ListStateDescriptor,
  MapState,
  MapStateDescriptor,
  MetricGroup,
  OperatorContext,
  ReducingState,
  ReducingStateDescriptor,
  RichFunction,
  RuntimeContext,
  SubtaskInfo,
  ValueState,
  ValueStateDescriptor,
} from "../model/index.ts";

/** A function instance, or a way to make one per subtask. */
export type FunctionOrSupplier<F extends RichFunction> = F | (() => F);

const taken = new WeakSet<RichFunction>();

/** The instance for one subtask (UF2): a supplier makes a new one, a given instance is handed out once per thread. */
export function instantiate<F extends RichFunction>(given: FunctionOrSupplier<F>, subtask: SubtaskInfo): F {
  const instance = typeof given === "function" ? given() : given;
  if (taken.has(instance)) {
    throw new Failure("JOB_GRAPH_INVALID", {
      retry: "never",
      message: `operator "${subtask.operatorName}" (uid ${subtask.uid}): its function object is already used by another subtask`,
      remedy: "pass a function that makes a new object: process(() => new MyFunction())",
    });
  }
  taken.add(instance);
  return instance;
}

/** Cheap per record: only an object with a `then` is one. */
export function isThenable(value: unknown): boolean {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

/** UF1. Throws; the promise's own rejection is silenced because this failure replaces it. */
export function refusePromise(result: unknown, subtask: SubtaskInfo): void {
  if (!isThenable(result)) return;
  void Promise.resolve(result).catch(() => undefined);
  throw new Failure("USER_FUNCTION_FAILED", {
    retry: "never",
    message: `operator "${subtask.operatorName}" (uid ${subtask.uid}) returned a promise: functions are synchronous; async I/O is an operator`,
    remedy: "remove `async` and `await` from the function",
  });
}

class OperatorRuntimeContext implements RuntimeContext {
  readonly #context: OperatorContext;

  constructor(context: OperatorContext) {
    this.#context = context;
  }

  get operatorName(): string {
    return this.#context.subtask.operatorName;
  }

  get operatorUid(): string {
    return this.#context.subtask.uid;
  }

  get indexOfThisSubtask(): number {
    return this.#context.subtask.subtaskIndex;
  }

  get numberOfParallelSubtasks(): number {
    return this.#context.subtask.parallelism;
  }

  get maxNumberOfParallelSubtasks(): number {
    return this.#context.subtask.maxParallelism;
  }

  get attemptNumber(): number {
    return this.#context.subtask.attempt;
  }

  getMetricGroup(): MetricGroup {
    return this.#context.metrics;
  }

  getLogger(): Log {
    return this.#context.log;
  }

  getJobParameters(): Readonly<Record<string, string | number | boolean>> {
    return this.#context.job.parameters;
  }

  getEnvironment(name: string): string | undefined {
    const { job, subtask } = this.#context;
    if (job.environment.has(name)) return job.environment.get(name);
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `operator "${subtask.operatorName}" (uid ${subtask.uid}) asked for environment variable ${name}, which the job does not declare${didYouMean(name, job.environment.keys())}`,
      remedy: `declare it in main: env.declareEnvironment("${name}", { secret: true })`,
    });
  }

  getState<T>(descriptor: ValueStateDescriptor<T>): ValueState<T> {
    return this.#keyed(descriptor.name).getState(descriptor);
  }

  getListState<T>(descriptor: ListStateDescriptor<T>): ListState<T> {
    return this.#keyed(descriptor.name).getListState(descriptor);
  }

  getMapState<K, V>(descriptor: MapStateDescriptor<K, V>): MapState<K, V> {
    return this.#keyed(descriptor.name).getMapState(descriptor);
  }

  getReducingState<T>(descriptor: ReducingStateDescriptor<T>): ReducingState<T> {
    return this.#keyed(descriptor.name).getReducingState(descriptor);
  }

  getAggregatingState<I, A, O>(descriptor: AggregatingStateDescriptor<I, A, O>): AggregatingState<I, O> {
    return this.#keyed(descriptor.name).getAggregatingState(descriptor);
  }

  #keyed(stateName: string): KeyedStateAccess {
    const { keyed, subtask } = this.#context;
    if (keyed !== undefined) return keyed;
    throw new Failure("STATE_ACCESS_INVALID", {
      retry: "never",
      message: `operator "${subtask.operatorName}" (uid ${subtask.uid}) asked for keyed state "${stateName}" without a key`,
      remedy: "call keyBy(...) before process(...)",
    });
  }
}

/** What functions of this operator learn in `open`; its keyed states fail where nothing is keyed. */
export function runtimeContextOf(context: OperatorContext): RuntimeContext {
  return new OperatorRuntimeContext(context);
}
