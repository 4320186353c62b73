// Asynchronous I/O as users see it (Flink: AsyncDataStream, AsyncRetryStrategies).

import { asyncWaitFactory } from "../operators/index.ts";
import {
  AsyncFunction,
  Types,
  type AsyncInvoke,
  type AsyncRetryStrategy,
  type RichFunction,
  type TypeInformation,
} from "../model/index.ts";
import { checkInt } from "./checkpoint-config.ts";
import type { DataStream, SingleOutputStreamOperator } from "./data-stream.ts";

/** Inputs that wait at once, by default (Flink: 100). */
const CAPACITY_DEFAULT = 100;

interface Waiting<I, O> {
  readonly stream: DataStream<I>;
  readonly fn: AsyncFunction<I, O> | AsyncInvoke<I, O>;
  readonly isOrdered: boolean;
  readonly timeoutMs: number;
  readonly capacity: number;
  readonly type: TypeInformation<O>;
  readonly retry?: AsyncRetryStrategy<O>;
}

function add<I, O>(options: Waiting<I, O>): SingleOutputStreamOperator<O> {
  const { stream, fn, isOrdered, type, retry } = options;
  const timeoutMs = checkInt("timeout of asynchronous I/O", options.timeoutMs, 0);
  const capacity = checkInt("capacity of asynchronous I/O", options.capacity, 1);
  const rich: RichFunction | undefined = fn instanceof AsyncFunction ? fn : undefined;
  return stream.addFunction(stream.inputs(0), {
    fn: rich,
    name: isOrdered ? "async wait (ordered)" : "async wait (unordered)",
    factory: asyncWaitFactory({
      fn: fn as AsyncFunction<unknown, unknown> | AsyncInvoke<unknown, unknown>,
      isOrdered,
      timeoutMs,
      capacity,
      retry: retry as AsyncRetryStrategy<unknown> | undefined,
      inputType: stream.type.descriptor,
      outputType: type.descriptor,
    }),
    stateful: true,
    type,
  });
}

/**
 * Calls other systems without waiting for each answer (Flink: AsyncDataStream). Up to `capacity` inputs wait for answers at once; beyond
 * that the stream is held back. Inputs that wait are state (they need a `uid` and a declared type): after a failure they are asked for
 * again, so none is lost and no answer is emitted twice. An input without an answer after `timeoutMs` (0: no limit) fails the job, unless
 * the function implements `timeout(input)`.
 */
export const AsyncDataStream = {
  /** Emits answers as they come. */
  unorderedWait<I, O>(
    stream: DataStream<I>,
    fn: AsyncFunction<I, O> | AsyncInvoke<I, O>,
    timeoutMs: number,
    capacity: number = CAPACITY_DEFAULT,
    type: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return add({ stream, fn, isOrdered: false, timeoutMs, capacity, type });
  },

  /** Emits answers in the order of the inputs. */
  orderedWait<I, O>(
    stream: DataStream<I>,
    fn: AsyncFunction<I, O> | AsyncInvoke<I, O>,
    timeoutMs: number,
    capacity: number = CAPACITY_DEFAULT,
    type: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return add({ stream, fn, isOrdered: true, timeoutMs, capacity, type });
  },

  /** As {@link unorderedWait}; `retry` says which errors and answers ask again. `timeoutMs` covers all calls for an input. */
  unorderedWaitWithRetry<I, O>(
    stream: DataStream<I>,
    fn: AsyncFunction<I, O> | AsyncInvoke<I, O>,
    timeoutMs: number,
    capacity: number,
    retry: AsyncRetryStrategy<O>,
    type: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return add({ stream, fn, isOrdered: false, timeoutMs, capacity, type, retry });
  },

  /** As {@link orderedWait}; `retry` says which errors and answers ask again. `timeoutMs` covers all calls for an input. */
  orderedWaitWithRetry<I, O>(
    stream: DataStream<I>,
    fn: AsyncFunction<I, O> | AsyncInvoke<I, O>,
    timeoutMs: number,
    capacity: number,
    retry: AsyncRetryStrategy<O>,
    type: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return add({ stream, fn, isOrdered: true, timeoutMs, capacity, type, retry });
  },
} as const;

/** What a retry strategy is made of. */
export interface RetryOptions<O> {
  /** Calls after the first. */
  readonly maxAttempts: number;
  /** Which errors ask again. Default: all. */
  readonly ifException?: (error: unknown) => boolean;
  /** Which answers ask again. Default: none. */
  readonly ifResult?: (records: readonly O[]) => boolean;
}

function strategy<O>(options: RetryOptions<O>, delayMsAfter: (attempts: number) => number): AsyncRetryStrategy<O> {
  const { ifException = () => true, ifResult } = options;
  const maxAttempts = checkInt("maxAttempts of a retry strategy", options.maxAttempts, 0);
  return {
    canRetry: (attempts) => attempts <= maxAttempts,
    getBackoffTimeMs: delayMsAfter,
    retryPredicate: { exception: ifException, result: ifResult },
  };
}

/** Flink: AsyncRetryStrategies. */
export const AsyncRetryStrategies = {
  /** The same delay before every further call. */
  fixedDelay<O = unknown>(options: RetryOptions<O> & { readonly delayMs: number }): AsyncRetryStrategy<O> {
    const delayMs = checkInt("delayMs of a retry strategy", options.delayMs, 0);
    return strategy(options, () => delayMs);
  },

  /** A delay that grows by `multiplier` up to `maxDelayMs`. */
  exponentialBackoff<O = unknown>(
    options: RetryOptions<O> & {
      readonly initialDelayMs: number;
      readonly maxDelayMs: number;
      /** Default 2. */
      readonly multiplier?: number;
    },
  ): AsyncRetryStrategy<O> {
    const { multiplier = 2 } = options;
    const initialMs = checkInt("initialDelayMs of a retry strategy", options.initialDelayMs, 0);
    const maxMs = checkInt("maxDelayMs of a retry strategy", options.maxDelayMs, initialMs);
    return strategy(options, (attempts) => Math.min(maxMs, initialMs * multiplier ** (attempts - 1)));
  },
} as const;
