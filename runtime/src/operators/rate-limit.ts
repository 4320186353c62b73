// Rate limit of a source subtask.
//
// Invariants:
//   RL1. Over any stretch of time at most rate * stretch + one burst of BURST_MS passes: time lost to back pressure or
//        recovery is not made up for.

import { assert } from "@sluice/kit";

/** How much may pass at once after a pause. */
const BURST_MS = 100;
/** A limited source is woken no more often than this. */
const WAKE_INTERVAL_MS = 5;
/** What sums of fractions may be off. */
const ROUNDING = 1e-6;

export class RateLimit {
  readonly #perMs: number;
  #allowance = 0;
  #lastMs: number;

  constructor(options: { readonly ratePerSecond: number; readonly nowMs: number }) {
    assert(options.ratePerSecond > 0, "a rate is positive");
    this.#perMs = options.ratePerSecond / 1_000;
    this.#lastMs = options.nowMs;
  }

  /** How many records may be emitted now, at most `wanted`. */
  available(nowMs: number, wanted: number): number {
    const burst = Math.max(1, BURST_MS * this.#perMs);
    this.#allowance = Math.min(burst, this.#allowance + Math.max(0, nowMs - this.#lastMs) * this.#perMs);
    this.#lastMs = nowMs;
    return Math.min(wanted, Math.floor(this.#allowance + ROUNDING));
  }

  take(count: number): void {
    assert(count <= this.#allowance + ROUNDING, "RL1: nobody takes more than is available");
    this.#allowance -= count;
  }

  /** When the next record, or the next few, may pass. */
  nextMs(): number {
    const missing = Math.max(0, 1 - this.#allowance);
    return this.#lastMs + Math.max(WAKE_INTERVAL_MS, missing / this.#perMs);
  }
}

/** The limit of one subtask out of the limit of the whole source; undefined: unlimited. */
export function subtaskRateLimit(options: {
  readonly ratePerSecond: number | undefined;
  readonly parallelism: number;
  readonly nowMs: number;
}): RateLimit | undefined {
  const { ratePerSecond, parallelism, nowMs } = options;
  return ratePerSecond === undefined ? undefined : new RateLimit({ ratePerSecond: ratePerSecond / parallelism, nowMs });
}
