// Rates of growing figures for metrics such as busyTimeMsPerSecond: what changed over the last seconds, whoever asks and how often.
//
// Invariants:
//   RT1. Reading often does not shorten the window: samples are at least a second apart.
//   RT2. A figure that fell (a new attempt began) starts anew; a rate is never negative.

const SPACING_MS = 1_000;
const WINDOW_MS = 10_000;
const SAMPLES_MAX = 64;

interface Sample {
  readonly atMs: number;
  readonly values: readonly number[];
}

/** Rates of a fixed set of figures of one thing. */
export class RateWindow {
  #samples: Sample[] = [];

  /** Takes the figures as of now and gives each one's growth per second; 0 before there is anything to compare with. */
  perSecond(nowMs: number, values: readonly number[]): readonly number[] {
    const last = this.#samples.at(-1);
    if (last !== undefined && values.some((value, i) => value < (last.values[i] ?? 0))) this.#samples = []; // RT2
    const base = this.#base(nowMs);
    const previous = this.#samples.at(-1);
    if (previous === undefined || nowMs - previous.atMs >= SPACING_MS) this.#samples.push({ atMs: nowMs, values });
    if (this.#samples.length > SAMPLES_MAX) this.#samples.shift();
    if (base === undefined || nowMs <= base.atMs) return values.map(() => 0);
    const seconds = (nowMs - base.atMs) / 1_000;
    return values.map((value, i) => (value - (base.values[i] ?? 0)) / seconds);
  }

  /** The oldest sample within the window, or the newest one before it. */
  #base(nowMs: number): Sample | undefined {
    const fromMs = nowMs - WINDOW_MS;
    while (this.#samples.length > 1 && (this.#samples[0] as Sample).atMs < fromMs) {
      const second = this.#samples[1] as Sample;
      if (second.atMs > nowMs - SPACING_MS) break; // too young to compare with
      this.#samples.shift();
    }
    return this.#samples[0];
  }
}
