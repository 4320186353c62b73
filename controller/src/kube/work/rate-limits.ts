// When something that failed may be tried again: per item exponentially, and for all items together by a token bucket.
//
// Invariants:
//   RL1. The nth failure in a row of an item waits baseMs * 2^(n-1), at most maxMs.
//   RL2. Over any stretch of time at most burst + rate * seconds tries are let through without waiting.

import { assert } from "@sluice/kit";
import type { Clock } from "@sluice/kit/env";

/** RL1. Holds one number per item that failed and was not forgotten. */
export class ItemBackoff {
  readonly #baseMs: number;
  readonly #maxMs: number;
  readonly #failures = new Map<string, number>();

  constructor(options: { readonly baseMs: number; readonly maxMs: number }) {
    assert(options.baseMs > 0, "the first delay is positive");
    assert(options.maxMs >= options.baseMs, "the longest delay is not below the first");
    this.#baseMs = options.baseMs;
    this.#maxMs = options.maxMs;
  }

  /** Counts a failure; the time to wait. */
  nextDelayMs(item: string): number {
    const failures = this.#failures.get(item) ?? 0;
    this.#failures.set(item, failures + 1);
    return Math.min(this.#baseMs * 2 ** Math.min(failures, 60), this.#maxMs);
  }

  failuresOf(item: string): number {
    return this.#failures.get(item) ?? 0;
  }

  /** It succeeded, or is no longer of interest. */
  forget(item: string): void {
    this.#failures.delete(item);
  }
}

/** RL2. */
export class TokenBucket {
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #clock: Clock;
  #tokens: number;
  #atMs: number;

  constructor(options: { readonly perSecond: number; readonly burst: number; readonly clock: Clock }) {
    assert(options.perSecond > 0, "a bucket fills");
    assert(options.burst >= 1, "a bucket holds at least one token");
    this.#perSecond = options.perSecond;
    this.#burst = options.burst;
    this.#clock = options.clock;
    this.#tokens = options.burst;
    this.#atMs = options.clock.nowMs();
  }

  /** Takes a token, on credit if there is none; the time until it may be used. */
  reserveMs(): number {
    this.#refill();
    this.#tokens -= 1;
    return this.#tokens >= 0 ? 0 : (-this.#tokens / this.#perSecond) * 1_000;
  }

  /** Takes a token if there is one. */
  tryTake(): boolean {
    this.#refill();
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  #refill(): void {
    const nowMs = this.#clock.nowMs();
    const added = ((nowMs - this.#atMs) / 1_000) * this.#perSecond;
    this.#tokens = Math.min(this.#burst, this.#tokens + Math.max(0, added));
    this.#atMs = nowMs;
  }
}
