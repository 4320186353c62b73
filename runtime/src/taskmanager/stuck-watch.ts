// Finds slots whose thread is held by user code: the same step (or opening, or loading of the module), sample after sample.
//
// Invariants:
//   SW1. A parked slot is never stuck, nor is one whose step sequence moved between two samples.
//   SW2. Time in which this process itself did not run does not count: a sample adds at most two intervals.
//
// Pure; the caller samples.

import type { SlotCountersView } from "../task/index.ts";

/** From this time on a step is reported (the job goes on). */
export const STUCK_REPORT_MS = 5_000;

export interface StuckStep {
  /** Index of the task within the slot, or the job's module. */
  readonly holder: number | "module";
  readonly sinceMs: number;
}

export class StuckWatch {
  readonly #intervalMs: number;
  #stepSequence = -1;
  #holder: number | "module" | undefined;
  #heldMs = 0;
  #lastMs = 0;

  constructor(options: { readonly intervalMs: number }) {
    this.#intervalMs = options.intervalMs;
  }

  /** The step that holds the slot, with the time it has been seen to, or undefined. */
  sample(view: Pick<SlotCountersView, "stepSequence" | "currentTask">, nowMs: number): StuckStep | undefined {
    const elapsedMs = Math.min(nowMs - this.#lastMs, 2 * this.#intervalMs); // SW2
    this.#lastMs = nowMs;
    const { stepSequence, currentTask } = view;
    if (currentTask === undefined || stepSequence !== this.#stepSequence || currentTask !== this.#holder) {
      this.#stepSequence = currentTask === undefined ? -1 : stepSequence; // SW1
      this.#holder = currentTask;
      this.#heldMs = 0;
      return undefined;
    }
    this.#heldMs += elapsedMs;
    return { holder: currentTask, sinceMs: this.#heldMs };
  }
}
