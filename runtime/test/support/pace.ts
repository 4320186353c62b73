// A user function that takes its time, so that a run is long enough to be struck and its input channels are full.
//
// Invariants:
//   PC1. The pace changes when records are processed, never which or how.
//   PC2. Once the drain file exists nothing is slowed any more: a run ends soon after its last strike, on any machine.
//   PC3. The pace is what was asked for: a slower one than short sleeps can keep is refused, so that an input's duration can be known.

import { existsSync } from "node:fs";

/** Records between two looks at the clock; a slow pace looks at every record, else the longest sleep would not be enough. */
const STRIDE = 8;
/** Longest single sleep of the slot's thread: other tasks of the slot want their turns, and barriers must get through. */
const SLEEP_MAX_MS = 5;
const PER_SECOND_MIN = 1_000 / SLEEP_MAX_MS;

export class Pace {
  readonly #perMs: number;
  readonly #stride: number;
  readonly #drainFile: string;
  readonly #cell = new Int32Array(new SharedArrayBuffer(4));
  #count = 0;
  #dueMs = 0;
  #draining = false;

  constructor(options: { readonly recordsPerSecond: number; readonly drainFile: string }) {
    const { recordsPerSecond } = options;
    if (recordsPerSecond < PER_SECOND_MIN) {
      throw new RangeError(`a pace of ${recordsPerSecond} records per second: give ${PER_SECOND_MIN} or more`); // PC3
    }
    this.#perMs = recordsPerSecond / 1_000;
    this.#stride = STRIDE / this.#perMs > SLEEP_MAX_MS ? 1 : STRIDE;
    this.#drainFile = options.drainFile;
  }

  /** Called once per record. */
  step(): void {
    this.#count += 1;
    if (this.#draining || this.#count % this.#stride !== 0) return;
    const nowMs = performance.now();
    this.#dueMs = Math.max(this.#dueMs, nowMs - SLEEP_MAX_MS) + this.#stride / this.#perMs;
    const waitMs = this.#dueMs - nowMs;
    if (waitMs < 1) return;
    this.#draining = existsSync(this.#drainFile);
    if (!this.#draining) Atomics.wait(this.#cell, 0, 0, Math.min(waitMs, SLEEP_MAX_MS));
  }
}
