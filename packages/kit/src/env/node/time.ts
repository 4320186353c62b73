// The real clock, timers and randomness of this process.

import { randomBytes } from "node:crypto";

import { SeededRng } from "../../rng.ts";
import type { Cancel, Clock, Rng, Timers } from "../time.ts";

/** setTimeout fires at once above this; a longer timer is as good as this one (24.8 days). */
const DELAY_MS_MAX = 2 ** 31 - 1;

/** `performance.now()` and `Date.now()`. */
export class NodeClock implements Clock {
  nowMs(): number {
    return performance.now();
  }

  wallMs(): number {
    return Date.now();
  }
}

/** setTimeout, unref'd: a pending timer does not keep the process alive. */
export class NodeTimers implements Timers {
  after(delayMs: number, _label: string, run: () => void): Cancel {
    const timer = setTimeout(run, Math.min(Math.max(delayMs, 0), DELAY_MS_MAX));
    timer.unref();
    return () => clearTimeout(timer);
  }
}

/** A generator seeded by the system's randomness; a fixed `seed` makes a process test repeatable. */
export function nodeRng(seed?: number): Rng {
  if (seed !== undefined) return new SeededRng(seed);
  const bytes = randomBytes(8);
  return new SeededRng(bytes.readInt32LE(0), bytes.readInt32LE(4));
}
