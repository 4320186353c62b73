// Asynchronous I/O as users write it: the one place where user code may be asynchronous (Flink: AsyncFunction).
//
// Invariants:
//   AF1. An input is asked for at least once: after a failure those without emitted results are asked for again.
//   AF2. What a promise gives is emitted by the task, in its own time; nothing is emitted after the task failed or was cancelled.

import { RichFunction } from "./functions.ts";

/**
 * What a call gives: one record, or any number of them in an array, a set or what a generator yields; `undefined` is none.
 * Strings, maps and bytes are records. A record that is an array itself (TUPLE, LIST) is returned in an array: `return [[key, 1]]`.
 */
export type AsyncResult<O> = Iterable<O> | O | undefined;

/** Flink: RichAsyncFunction. `asyncInvoke` is called for many inputs before the first is answered. */
export abstract class AsyncFunction<I, O> extends RichFunction {
  abstract asyncInvoke(input: I): Promise<AsyncResult<O>>;
  /** Called when an input was not answered in time, instead of failing the job; what it gives is the answer. */
  timeout?(input: I): AsyncResult<O> | Promise<AsyncResult<O>>;
}

/** An {@link AsyncFunction} that is only its `asyncInvoke`. */
export type AsyncInvoke<I, O> = (input: I) => Promise<AsyncResult<O>>;

/** When and how often an input is asked for again (Flink: AsyncRetryStrategy). All of it must fit into the operator's timeout. */
export interface AsyncRetryStrategy<O> {
  /** After `attempts` calls (1: the first): whether there may be another. */
  canRetry(attempts: number): boolean;
  /** How long to wait after `attempts` calls. */
  getBackoffTimeMs(attempts: number): number;
  /** Which answers and errors ask for another call; undefined: none. */
  readonly retryPredicate: {
    readonly result?: ((records: readonly O[]) => boolean) | undefined;
    readonly exception?: ((error: unknown) => boolean) | undefined;
  };
}
