// ReducingState and AggregatingState: a value that is read, combined and written. The table of the value decides how it is held, so
// a number reduces at the speed of a ValueState of numbers.
//
// Invariants:
//   AC1. What `reduce` and `add` return is checked by the table as any value is; the functions themselves are never stored.
//
// Not here: the tables.

import type { AggregateFunction, AggregatingState, ReduceFunction, ReducingState, ValueState } from "../model/index.ts";

export class ReducingHandle<T> implements ReducingState<T> {
  readonly #state: ValueState<T>;
  readonly #reduce: ReduceFunction<T>;

  constructor(state: ValueState<T>, reduce: ReduceFunction<T>) {
    this.#state = state;
    this.#reduce = reduce;
  }

  get(): T | undefined {
    return this.#state.value();
  }

  add(value: T): void {
    const before = this.#state.value();
    this.#state.update(before === undefined ? value : this.#reduce(before, value));
  }

  clear(): void {
    this.#state.clear();
  }
}

export class AggregatingHandle<I, A, O> implements AggregatingState<I, O> {
  readonly #state: ValueState<A>;
  readonly #aggregate: AggregateFunction<I, A, O>;

  constructor(state: ValueState<A>, aggregate: AggregateFunction<I, A, O>) {
    this.#state = state;
    this.#aggregate = aggregate;
  }

  get(): O | undefined {
    const accumulator = this.#state.value();
    return accumulator === undefined ? undefined : this.#aggregate.getResult(accumulator);
  }

  add(value: I): void {
    const before = this.#state.value() ?? this.#aggregate.createAccumulator();
    this.#state.update(this.#aggregate.add(value, before));
  }

  clear(): void {
    this.#state.clear();
  }
}
