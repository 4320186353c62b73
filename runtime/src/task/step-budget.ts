// How much a task does before it looks up: rows of a chunk, and chunks of a step.
//
// Invariants (tests cite them):
//   BU1. A step ends after a few milliseconds (plus one chunk) or ROWS_PER_STEP rows, whichever comes first: slow functions hold up
//        neither barriers and commands nor the slot's other tasks.
//   BU2. Chunks are sized by how long the last one took, between ROWS_PER_CHUNK_MIN, with which a task begins, and ROWS_PER_CHUNK rows.
//   BU3. While a snapshot of the slot is encoded, steps are shorter: encoding gets about half of the thread.
//
// Asked once per chunk, never per record.
//
// Not here: what is done in a chunk (gate-input.ts, source-input.ts, task-timers.ts).

import type { Clock } from "@sluice/kit/env";

/** Rows between two looks at output room and the clock; fewer while the user's functions are slow. */
export const ROWS_PER_CHUNK = 256;
export const ROWS_PER_CHUNK_MIN = 8;
/** A chunk that takes longer is halved, one that takes a quarter of it is doubled. */
const CHUNK_MS = 1;
/** Rows in one step at most, so that tasks of a slot take turns. */
export const ROWS_PER_STEP = 4_096;
/** Time of one step at most (plus one chunk). */
export const STEP_MS = 4;
/** The same while a snapshot of the slot is encoded: records wait no longer for it. */
export const STEP_WHILE_ENCODING_MS = 1;

export class StepBudget {
  readonly #clock: Pick<Clock, "nowMs">;
  #chunkRows = ROWS_PER_CHUNK_MIN; // nothing is known yet of how slow the functions are
  #stepMs = STEP_MS;
  #startedMs = 0;
  #chunkStartedMs = 0;

  constructor(clock: Pick<Clock, "nowMs">) {
    this.#clock = clock;
  }

  /** Rows that the next chunk takes at most (BU2). */
  get chunkRows(): number {
    return this.#chunkRows;
  }

  /** A step of the task begins; `sharesWithEncoding`: BU3. */
  enterStep(sharesWithEncoding: boolean): void {
    this.#stepMs = sharesWithEncoding ? STEP_WHILE_ENCODING_MS : STEP_MS;
  }

  /** The first chunk of one kind of work begins: timers and input have a budget each. */
  begin(): void {
    this.#startedMs = this.#clock.nowMs();
    this.#chunkStartedMs = this.#startedMs;
  }

  /** Sizes the next chunk by how long this one took. False: the time is over (BU1). */
  endChunk(): boolean {
    const nowMs = this.#clock.nowMs();
    const tookMs = nowMs - this.#chunkStartedMs;
    if (tookMs > CHUNK_MS) this.#chunkRows = Math.max(ROWS_PER_CHUNK_MIN, this.#chunkRows >>> 1);
    else if (tookMs < CHUNK_MS / 4 && this.#chunkRows < ROWS_PER_CHUNK) this.#chunkRows <<= 1;
    this.#chunkStartedMs = nowMs;
    return nowMs - this.#startedMs < this.#stepMs;
  }
}
