// The few asynchronous tools that shells need. Time and timers are injected, so all of it runs in simulated time.
//
// Invariants:
//   A1. A timer or abort listener set up here is taken back on every way out.
//   A2. SerialQueue runs one job at a time per key, in the order offered, and refuses beyond its limit.
//   A3. retry() never sleeps past its deadline and never retries a Failure whose `retry` says never.

import { assert } from "./assert.ts";
import { Backoff } from "./backoff.ts";
import type { BackoffOptions } from "./backoff.ts";
import type { Clock, Rng, Timers } from "./env/index.ts";
import { Failure, toFailure } from "./failure.ts";

/** A promise and its two handles. The first call of a handle wins. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (reason: unknown) => void;
}

export function deferred<T>(): Deferred<T> {
  return Promise.withResolvers<T>();
}

/** The outcome of `promise`, or what `onTimeout` returns or throws when `timeoutMs` pass first; the late outcome is dropped. */
export async function withTimeout<T, U>(
  promise: Promise<T>,
  timers: Timers,
  timeoutMs: number,
  onTimeout: () => U | Promise<U>,
): Promise<T | U> {
  const expired = Promise.withResolvers<U>();
  const cancel = timers.after(timeoutMs, "withTimeout", () => {
    try {
      expired.resolve(onTimeout());
    } catch (thrown) {
      expired.reject(thrown);
    }
  });
  promise.catch(() => {}); // after the timeout nobody listens any more
  try {
    return await Promise.race([promise, expired.promise]);
  } finally {
    cancel();
  }
}

/** Resolves after `delayMs`; rejects with Failure CANCELED when `signal` aborts first. */
export function sleep(timers: Timers, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(canceled());
      return;
    }
    const onAbort = (): void => {
      cancel();
      reject(canceled());
    };
    const cancel = timers.after(delayMs, "sleep", () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** The Failure of a call whose caller gave up. */
export function canceled(what = "the operation"): Failure {
  return new Failure("CANCELED", { retry: "never", message: `${what} was canceled by its caller` });
}

/** Throws Failure CANCELED when the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined, what?: string): void {
  if (signal?.aborted === true) throw canceled(what);
}

export interface RetryOptions {
  readonly backoff: BackoffOptions;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly rng: Rng;
  readonly signal?: AbortSignal;
  /** Time for all tries together, from now; Infinity for no limit. */
  readonly deadlineMs: number;
  /** Told before each wait; for logs and counters. */
  readonly onRetry?: (failure: Failure, attempt: number, delayMs: number) => void;
}

/**
 * Runs `run` until it succeeds. Gives up with the last Failure when that says `never`, or when the next wait would end past
 * the deadline; with CANCELED when the signal fires. `attempt` counts from 1.
 */
export async function retry<T>(run: (attempt: number) => Promise<T>, options: RetryOptions): Promise<T> {
  const { clock, timers, signal } = options;
  const backoff = new Backoff(options.backoff, options.rng);
  const endMs = clock.nowMs() + options.deadlineMs;
  for (let attempt = 1; ; attempt += 1) {
    throwIfAborted(signal);
    let failure: Failure;
    try {
      return await run(attempt);
    } catch (thrown) {
      failure = toFailure(thrown);
    }
    if (failure.retry === "never") throw failure;
    const nowMs = clock.nowMs();
    // The first `now` goes at once; from the second failure on everybody backs off, so nothing spins.
    const delayMs = failure.retry === "now" && attempt === 1 ? 0 : backoff.nextDelayMs(nowMs);
    if (nowMs + delayMs >= endMs) throw failure;
    options.onRetry?.(failure, attempt, delayMs);
    if (delayMs > 0) await sleep(timers, delayMs, signal);
  }
}

interface QueuedJob {
  readonly run: () => Promise<unknown>;
  readonly settled: Deferred<unknown>;
}

/** Asynchronous jobs in order, one at a time per key; different keys run side by side. */
export class SerialQueue {
  readonly #countMax: number;
  readonly #waiting = new Map<string, QueuedJob[]>();
  #count = 0;

  constructor(options: { readonly countMax: number }) {
    assert(Number.isSafeInteger(options.countMax) && options.countMax > 0, "a queue holds at least one job");
    this.#countMax = options.countMax;
  }

  /** Jobs waiting or running, over all keys. */
  get count(): number {
    return this.#count;
  }

  /** The result of the job once its turn came, or undefined when the queue is full (the caller keeps the job: backpressure). */
  offer<T>(key: string, run: () => Promise<T>): Promise<T> | undefined {
    if (this.#count >= this.#countMax) return undefined;
    this.#count += 1;
    const settled = deferred<unknown>();
    const job: QueuedJob = { run, settled };
    const line = this.#waiting.get(key);
    if (line === undefined) {
      this.#waiting.set(key, [job]);
      void this.#work(key);
    } else {
      line.push(job);
    }
    return settled.promise as Promise<T>;
  }

  /** Resolves when no job of the key waits or runs any more; jobs offered meanwhile count too. */
  async idle(key: string): Promise<void> {
    for (let line = this.#waiting.get(key); line !== undefined; line = this.#waiting.get(key)) {
      await line.at(-1)?.settled.promise.catch(() => {});
      await Promise.resolve();
    }
  }

  async #work(key: string): Promise<void> {
    const line = this.#waiting.get(key);
    assert(line !== undefined, "A2: a worked key has a line");
    while (line.length > 0) {
      const job = line[0]!;
      try {
        job.settled.resolve(await job.run());
      } catch (thrown) {
        job.settled.reject(thrown);
      }
      line.shift();
      this.#count -= 1;
    }
    this.#waiting.delete(key);
    assert(this.#count >= 0, "A2: the count is never negative");
  }
}
