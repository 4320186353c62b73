// Wake-up word in shared memory: Int32[2] {sequence, waiters}.
//
// Invariants (tests cite them by name):
//   DB1. No wake-up is lost: a ring after `sequence()` was read ends the wait that is given that value.
//   DB2. Ringing while nobody waits costs one atomic add and one atomic load.
//   DB3. One side waits on a bell at a time; any number of threads ring it.
//
// Why DB1 holds: the waiter adds itself to `waiters`, then compares the sequence (waitAsync does it under the engine's lock);
// the ringer adds to the sequence, then reads `waiters`. In the one total order of these operations either the ringer sees the
// waiter and notifies, or the waiter sees the new sequence and does not sleep.
//
// An idle waitAsync does not keep a Node event loop alive: a thread that waits here must hold something else that does
// (a worker its referenced message port; protocols 5).
//
// Not here: what the bell announces (ring.ts, mailbox.ts).

import { assert } from "@sluice/kit";
import type { Bell } from "./bell.ts";

/** Size of the shared word. */
export const DOORBELL_BYTES = 8;

const SEQUENCE = 0;
const WAITERS = 1;
/** waitAsync takes any number of milliseconds, but a timer of more than 2^31 ms fires at once in some engines. */
const WAIT_MS_MAX = 0x7fff_ffff;

export class Doorbell implements Bell {
  readonly #words: Int32Array<SharedArrayBuffer>;

  /** A view of a bell that other threads see as well. */
  constructor(shared: SharedArrayBuffer) {
    assert(shared.byteLength >= DOORBELL_BYTES, "a doorbell has two words");
    this.#words = new Int32Array(shared, 0, 2);
  }

  /** Memory for a new bell. */
  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer(DOORBELL_BYTES);
  }

  sequence(): number {
    return Atomics.load(this.#words, SEQUENCE);
  }

  ring(): void {
    Atomics.add(this.#words, SEQUENCE, 1);
    if (Atomics.load(this.#words, WAITERS) !== 0) Atomics.notify(this.#words, SEQUENCE);
  }

  /** True while somebody waits; for tests and metrics. */
  get parked(): boolean {
    return Atomics.load(this.#words, WAITERS) !== 0;
  }

  async waitPast(seen: number, timeoutMs: number): Promise<void> {
    const words = this.#words;
    Atomics.add(words, WAITERS, 1);
    try {
      const wait = Atomics.waitAsync(
        words,
        SEQUENCE,
        seen,
        timeoutMs > WAIT_MS_MAX ? WAIT_MS_MAX : Math.max(0, timeoutMs),
      );
      if (wait.async) await wait.value;
    } finally {
      Atomics.sub(words, WAITERS, 1);
    }
  }

  /** Waits for the next ring from now on. Prefer {@link waitPast}: what was announced before the call is not seen. */
  park(timeoutMs: number): Promise<void> {
    return this.waitPast(this.sequence(), timeoutMs);
  }
}
