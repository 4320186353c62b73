// Rates of a TaskManager's tasks, for /metrics and for heartbeats: each reader keeps its own.
//
// Invariants:
//   TP1. A rate covers the last seconds, however often it is read.
//   TP2. Rates of tasks that are gone are forgotten.

import { RateWindow } from "../../metrics/index.ts";

/** Figures that grow, and whose growth per second is told as `<name>PerSecond`. */
export const RATED = [
  "busyTimeMs",
  "idleTimeMs",
  "backPressuredTimeMs",
  "numRecordsIn",
  "numRecordsOut",
  "numBytesIn",
  "numBytesOut",
] as const;

export type Rates = Readonly<Record<`${(typeof RATED)[number]}PerSecond`, number>>;

export class TaskRates {
  #windows = new Map<string, RateWindow>();
  #seen = new Map<string, RateWindow>();

  /** Of a task's attempt; between two calls of `forgetOthers` every task is asked for. */
  of(key: string, nowMs: number, figures: Readonly<Partial<Record<(typeof RATED)[number], number>>>): Rates {
    const window = this.#windows.get(key) ?? new RateWindow();
    this.#seen.set(key, window);
    const rates = window.perSecond(
      nowMs,
      RATED.map((name) => figures[name] ?? 0),
    );
    return Object.fromEntries(
      RATED.map((name, i) => [`${name}PerSecond`, name.endsWith("Ms") ? wholeMs(rates[i] ?? 0) : (rates[i] ?? 0)]),
    ) as Rates;
  }

  /** TP2. */
  forgetOthers(): void {
    this.#windows = this.#seen;
    this.#seen = new Map();
  }
}

/** Flink rounds to whole milliseconds within [0, 1000]; measuring one thing twice must not exceed a second. */
function wholeMs(value: number): number {
  return Math.round(Math.min(Math.max(value, 0), 1_000));
}
