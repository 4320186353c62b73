// Time of a cluster inside a test: real, except that it does not run while the process stands still.
//
// A debugger that holds the process at a breakpoint, or a suspended laptop, must not look like seconds of silence of
// every other part: nobody would get far in a debugger before heartbeats and checkpoints time out.
//
// Invariants (tests cite them):
//   SC1. Between two looks at it the clock moves at most STEP_MS_MAX; while it is held (`hold`) somebody looks often.
//   SC2. Timers follow the clock, not the system: one that was due while the process stood still waits for its rest.

import type { Cancel, Clock, Timers } from "@sluice/kit/env";

const LOOK_MS = 50;
/** Longer than the event loop is ever busy with what is not a breakpoint; shorter than any timeout. */
const STEP_MS_MAX = 500;

export interface SystemTime {
  readonly nowMs: () => number;
  readonly wallMs: () => number;
}

const SYSTEM: SystemTime = { nowMs: () => performance.now(), wallMs: () => Date.now() };

export class SteadyClock implements Clock, Timers {
  readonly #system: SystemTime;
  readonly #ticker: NodeJS.Timeout;
  #systemMs: number;
  #nowMs = 0;
  #holds = 0;

  constructor(system: SystemTime = SYSTEM) {
    this.#system = system;
    this.#systemMs = system.nowMs();
    this.#ticker = setInterval(() => this.nowMs(), LOOK_MS);
    this.#ticker.unref();
  }

  nowMs(): number {
    const systemMs = this.#system.nowMs();
    this.#nowMs += Math.min(systemMs - this.#systemMs, STEP_MS_MAX); // SC1
    this.#systemMs = systemMs;
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#system.wallMs();
  }

  after(delayMs: number, _label: string, run: () => void): Cancel {
    const dueMs = this.nowMs() + delayMs;
    let timer: NodeJS.Timeout;
    const arm = (): void => {
      const restMs = Math.ceil(dueMs - this.nowMs());
      if (restMs <= 0) run();
      else timer = wait(restMs, arm);
    };
    timer = wait(Math.max(0, Math.ceil(delayMs)), arm); // SC2
    return () => clearTimeout(timer);
  }

  /** Keeps the process alive while `waiting` is pending: nothing else of a cluster does. */
  async hold<T>(waiting: Promise<T>): Promise<T> {
    this.#holds += 1;
    this.#ticker.ref();
    try {
      return await waiting;
    } finally {
      this.#holds -= 1;
      if (this.#holds === 0) this.#ticker.unref();
    }
  }

  /** No more looks; timers that are armed still fire. */
  stop(): void {
    clearInterval(this.#ticker);
  }
}

function wait(delayMs: number, run: () => void): NodeJS.Timeout {
  const timer = setTimeout(run, Math.min(delayMs, 2 ** 31 - 1));
  timer.unref();
  return timer;
}
