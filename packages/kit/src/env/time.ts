// Time and chance. `nowMs` measures and sets deadlines; `wallMs` is written down, and is the time that users mean: their timers, the
// time to live of their state.

/** Takes back what a call set up; calling it twice is harmless. */
export type Cancel = () => void;

export interface Clock {
  /** Monotonic milliseconds, fractional; for durations and deadlines. */
  nowMs(): number;
  /** Milliseconds since the epoch; written into metadata and logs, and processing time of user code. May jump, also back. */
  wallMs(): number;
}

export interface Timers {
  /** Runs `run` once after `delayMs`; `label` names it in traces. A pending timer does not keep a process alive. */
  after(delayMs: number, label: string, run: () => void): Cancel;
}

export interface Rng {
  /** Uniform in [0, 2^32). */
  u32(): number;
  /** Uniform integer in [0, countMax). */
  below(countMax: number): number;
  /** True with the given probability. */
  chance(probability: number): boolean;
  /** An own stream per component, so that a draw added here moves nothing there. */
  fork(label: string): Rng;
}
