// Exponential backoff with jitter, as Flink's exponential-delay restart strategy: pure, the caller waits.
//
// Invariants:
//   K1. A delay lies within [delay * (1 - jitter), delay * (1 + jitter)], and the undisturbed delay never exceeds maxMs.
//   K2. After `resetAfterMs` without a failure the next delay is the initial one again.

import { assert } from "./assert.ts";
import type { Rng } from "./env/index.ts";

export interface BackoffOptions {
  readonly initialMs: number;
  readonly maxMs: number;
  /** Factor from one delay to the next, at least 1. */
  readonly multiplier: number;
  /** Share of the delay that chance adds or takes, within [0, 1]. */
  readonly jitter: number;
  /** Time without a failure after which counting starts anew; Infinity for never. */
  readonly resetAfterMs: number;
}

/** Delays of one thing that is tried again and again. */
export class Backoff {
  readonly #options: BackoffOptions;
  readonly #rng: Rng;
  #delayMs: number;
  #attempts = 0;
  #lastFailureMs = Number.NEGATIVE_INFINITY;

  constructor(options: BackoffOptions, rng: Rng) {
    assert(options.initialMs > 0, "the initial delay is positive");
    assert(options.maxMs >= options.initialMs, "the longest delay is not below the initial one");
    assert(options.multiplier >= 1, "delays do not shrink");
    assert(options.jitter >= 0 && options.jitter <= 1, "jitter is a share");
    assert(options.resetAfterMs > 0, "the reset threshold is positive");
    this.#options = options;
    this.#rng = rng;
    this.#delayMs = options.initialMs;
  }

  /** Failures since the last reset. */
  get attempts(): number {
    return this.#attempts;
  }

  /** Counts a failure at `nowMs` (monotonic) and says how long to wait before the next try. */
  nextDelayMs(nowMs: number): number {
    const o = this.#options;
    // The time waited does not count as time without failure: only what ran after it.
    if (nowMs - this.#lastFailureMs >= o.resetAfterMs) this.reset();
    const base = this.#delayMs;
    this.#delayMs = Math.min(base * o.multiplier, o.maxMs);
    this.#attempts += 1;
    const spread = o.jitter === 0 ? 0 : base * o.jitter * ((2 * this.#rng.u32()) / 0xffffffff - 1);
    const delayMs = base + spread;
    this.#lastFailureMs = nowMs + delayMs;
    assert(delayMs >= 0, "K1: a delay is not negative");
    return delayMs;
  }

  /** Starts anew, after a success. */
  reset(): void {
    this.#delayMs = this.#options.initialMs;
    this.#attempts = 0;
    this.#lastFailureMs = Number.NEGATIVE_INFINITY;
  }
}
