// Asynchronous I/O: many inputs wait for answers at once, and are operator state while they do (Flink: AsyncWaitOperator).
//
// Invariants (tests cite them):
//   AW1. An input is held from its arrival until the task has emitted its answer; a snapshot holds exactly the inputs that are held, in
//        the order of arrival. Answers are not stored: their inputs are asked for again.
//   AW2. Records are emitted only in `emitReady`, all records of one input at once. A callback only notes an answer and wakes the task.
//   AW3. At most `capacity` inputs are being asked for or wait to be emitted. What user code before this operator emits beyond it waits
//        here as well, unasked; the task reads no more input meanwhile (`room`).
//   AW4. Ordered: answers leave in the order of arrival. Unordered: in the order in which they came.
//   AW5. An input has one answer: what comes after its timeout, after a newer call or after `close` is ignored.
//   AW6. The timeout covers all calls for an input and their delays.
//
// Not here: when the task emits (task/deferred.ts).

import { Failure } from "@sluice/kit";
import type { Clock } from "@sluice/kit/env";
import {
  AsyncFunction,
  containsGeneric,
  describeType,
  ListStateDescriptor,
  TypeInformation,
  type AsyncInvoke,
  type AsyncRetryStrategy,
  type Barrier,
  type DeferringOperator,
  type ListState,
  type OperatorContext,
  type OperatorFactory,
  type OperatorState,
  type RestoredOperatorState,
  type RichFunction,
  type SubtaskInfo,
  type TypeDescriptor,
} from "../model/index.ts";
import { FunctionOperator } from "./function-operator.ts";
import { HeapOperatorStateStore } from "./operator-state-store.ts";
import { instantiate } from "./user-function.ts";

/** The state of inputs that wait (Flink's name). */
const STATE_NAME = "_async_wait_operator_state_";

export interface AsyncWaitOptions {
  readonly fn: AsyncFunction<unknown, unknown> | AsyncInvoke<unknown, unknown>;
  readonly isOrdered: boolean;
  /** 0: none. */
  readonly timeoutMs: number;
  readonly capacity: number;
  readonly retry: AsyncRetryStrategy<unknown> | undefined;
  readonly inputType: TypeDescriptor;
  readonly outputType: TypeDescriptor;
}

/** One input on its way. */
interface Entry {
  readonly input: unknown;
  /** Calls so far; an answer of an older one is ignored (AW5). */
  calls: number;
  deadlineMs: number;
  /** Set while the next call waits for its time. */
  retryAtMs: number | undefined;
  isTimedOut: boolean;
  /** The answer. */
  records: readonly unknown[] | undefined;
}

class AsyncWaitOperator extends FunctionOperator implements DeferringOperator {
  readonly #options: AsyncWaitOptions;
  readonly #rich: AsyncFunction<unknown, unknown> | undefined;
  readonly #invoke: AsyncInvoke<unknown, unknown>;
  #inputs!: ListState<unknown>;
  #clock!: Clock;
  #wake: () => void = () => {};
  /** In the order of arrival (AW1). */
  readonly #held = new Set<Entry>();
  /** Held, beyond the capacity, not yet asked for (AW3). */
  readonly #waiting = new Set<Entry>();
  /** Answered, in the order of the answers; unordered mode. */
  readonly #answered = new Set<Entry>();
  /** By deadline: all have the same timeout. */
  readonly #deadlines = new Set<Entry>();
  readonly #delayed = new Set<Entry>();
  #failure: { readonly thrown: unknown } | undefined;
  #isClosed = false;

  constructor(options: AsyncWaitOptions, subtask: SubtaskInfo) {
    const { fn } = options;
    const rich = fn instanceof AsyncFunction ? instantiate(fn, subtask) : undefined;
    super(subtask, rich);
    this.#options = options;
    this.#rich = rich;
    this.#invoke = fn instanceof AsyncFunction ? (input) => fn.asyncInvoke(input) : fn;
  }

  override open(context: OperatorContext, restored: RestoredOperatorState | undefined): void {
    this.#clock = context.clock;
    this.#wake = () => context.wake();
    super.open(context, restored);
    for (const input of this.#inputs.get()) this.processElement(input);
    this.#inputs.clear();
  }

  /** The function's own states, if it has any, and the inputs. */
  protected override stateOf(
    _fn: RichFunction | undefined,
    restored: RestoredOperatorState | undefined,
  ): HeapOperatorStateStore {
    const { subtask } = this;
    const store = new HeapOperatorStateStore({ subtask, restored });
    const type = new TypeInformation<unknown>(this.#options.inputType);
    this.#inputs = store.getListState(new ListStateDescriptor(STATE_NAME, type));
    return store;
  }

  get room(): number {
    return Math.max(0, this.#options.capacity - this.#held.size);
  }

  get isIdle(): boolean {
    return this.#held.size === 0 && this.#failure === undefined;
  }

  get wakeAtMs(): number {
    let atMs = Number.POSITIVE_INFINITY;
    for (const { deadlineMs } of this.#deadlines) {
      atMs = deadlineMs;
      break;
    }
    for (const { retryAtMs } of this.#delayed) atMs = Math.min(atMs, retryAtMs ?? atMs);
    return atMs;
  }

  processElement(input: unknown): void {
    const entry: Entry = {
      input,
      calls: 0,
      deadlineMs: Number.POSITIVE_INFINITY,
      retryAtMs: undefined,
      isTimedOut: false,
      records: undefined,
    };
    this.#held.add(entry);
    if (this.#held.size - this.#waiting.size > this.#options.capacity) this.#waiting.add(entry);
    else this.#start(entry);
  }

  emitReady(inputsMax: number): number {
    const nowMs = this.#clock.nowMs();
    for (const entry of this.#deadlines) {
      if (entry.deadlineMs > nowMs) break;
      this.#timeOut(entry);
    }
    for (const entry of this.#delayed) if ((entry.retryAtMs ?? 0) <= nowMs) this.#call(entry);
    if (this.#failure !== undefined) throw this.#failure.thrown;
    let emitted = 0;
    for (const entry of this.#options.isOrdered ? this.#held : this.#answered) {
      const { records } = entry;
      if (records === undefined || emitted === inputsMax) break;
      this.#held.delete(entry);
      this.#answered.delete(entry);
      emitted += 1;
      for (let i = 0; i < records.length; i += 1) this.output.collect(records[i]);
    }
    for (const entry of this.#waiting) {
      if (this.#held.size - this.#waiting.size >= this.#options.capacity) break;
      this.#waiting.delete(entry);
      this.#start(entry);
    }
    return emitted;
  }

  /** AW1. */
  override snapshotState(barrier: Barrier): OperatorState {
    this.#inputs.update([...this.#held].map(({ input }) => input));
    return super.snapshotState(barrier);
  }

  override close(): void {
    this.#isClosed = true;
    for (const entries of [this.#held, this.#waiting, this.#answered, this.#deadlines, this.#delayed]) entries.clear();
    super.close();
  }

  #start(entry: Entry): void {
    const { timeoutMs } = this.#options;
    if (timeoutMs > 0) {
      entry.deadlineMs = this.#clock.nowMs() + timeoutMs;
      this.#deadlines.add(entry);
    }
    this.#call(entry);
  }

  #call(entry: Entry): void {
    this.#delayed.delete(entry);
    entry.retryAtMs = undefined;
    entry.calls += 1;
    this.#follow(entry, () => this.#invoke(entry.input));
  }

  /** Runs user code and follows what it gives; only the newest call of an entry counts (AW5). */
  #follow(entry: Entry, run: () => unknown): void {
    const { calls, isTimedOut } = entry;
    const isCurrent = (): boolean =>
      !this.#isClosed && entry.records === undefined && entry.calls === calls && entry.isTimedOut === isTimedOut;
    // The promise's own executor catches what a function throws at once.
    new Promise<unknown>((resolve) => resolve(run()))
      .then((result) => {
        if (isCurrent()) this.#onAnswer(entry, recordsOf(result, this.#options.outputType));
      })
      .catch((thrown: unknown) => {
        if (isCurrent()) this.#onError(entry, thrown);
      });
  }

  #onAnswer(entry: Entry, records: readonly unknown[]): void {
    const { retry } = this.#options;
    if (retry?.retryPredicate.result?.(records) === true && this.#delay(entry, retry)) return;
    entry.records = records;
    this.#deadlines.delete(entry);
    if (!this.#options.isOrdered) this.#answered.add(entry);
    this.#wake();
  }

  #onError(entry: Entry, thrown: unknown): void {
    const { retry } = this.#options;
    if (retry?.retryPredicate.exception?.(thrown) === true && this.#delay(entry, retry)) return;
    this.#failure ??= { thrown };
    this.#wake();
  }

  /** False: no further call is allowed. */
  #delay(entry: Entry, retry: AsyncRetryStrategy<unknown>): boolean {
    if (entry.isTimedOut || !retry.canRetry(entry.calls)) return false;
    entry.retryAtMs = this.#clock.nowMs() + Math.max(0, retry.getBackoffTimeMs(entry.calls));
    this.#delayed.add(entry);
    this.#wake();
    return true;
  }

  #timeOut(entry: Entry): void {
    this.#deadlines.delete(entry);
    this.#delayed.delete(entry);
    entry.isTimedOut = true;
    entry.retryAtMs = undefined;
    const rich = this.#rich;
    if (rich?.timeout !== undefined) {
      this.#follow(entry, () => rich.timeout?.(entry.input));
      return;
    }
    const { operatorName, uid } = this.subtask;
    const thrown = new Failure("USER_FUNCTION_FAILED", {
      retry: "backoff",
      message: `operator "${operatorName}" (uid ${uid}): an input was not answered within ${this.#options.timeoutMs} ms`,
      remedy: "give more time, or implement timeout(input) of the AsyncFunction",
    });
    this.#failure ??= { thrown };
  }
}

/** See AsyncResult. Failure TYPE_MISMATCH for an array of what cannot be records: most likely a record that should be in one. */
function recordsOf(result: unknown, type: TypeDescriptor): readonly unknown[] {
  if (result === undefined) return [];
  const isMany =
    typeof result === "object" &&
    result !== null &&
    Symbol.iterator in result &&
    !(result instanceof Map) &&
    !(result instanceof Uint8Array);
  if (!isMany) return [result];
  const records = [...(result as Iterable<unknown>)];
  if ((type.kind === "TUPLE" || type.kind === "LIST") && !records.every((record) => Array.isArray(record))) {
    throw new Failure("TYPE_MISMATCH", {
      retry: "never",
      message: `an asynchronous function returned an array whose elements are no ${describeType(type)}`,
      remedy: "an array is the list of the results: return one record as [record], that is [[a, b]]",
    });
  }
  return records;
}

/** Failure JOB_GRAPH_INVALID for inputs of no declared type. */
export function asyncWaitFactory(options: AsyncWaitOptions): OperatorFactory {
  if (containsGeneric(options.inputType)) {
    throw new Failure("JOB_GRAPH_INVALID", {
      retry: "never",
      message: `asynchronous I/O over a stream of ${describeType(options.inputType)}: inputs in flight are state, whose type is declared`,
      remedy: "declare the output type of the operator before it, for example .map(fn, Types.STRING())",
    });
  }
  return { kind: "oneInput", create: (subtask) => new AsyncWaitOperator(options, subtask) };
}
