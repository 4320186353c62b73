// Metrics of operators and of users' functions (Flink's names).
//
// Invariants:
//   MT1. One name in one group is one metric of one kind; asking twice gives the same one.
//   MT2. Metrics belong to a subtask of an attempt: they start anew with it and are no state.

/** A figure that goes up and down by steps (Flink: Counter). */
export interface Counter {
  inc(by?: number): void;
  dec(by?: number): void;
  readonly count: number;
}

/** How often something happens (Flink: Meter). */
export interface Meter {
  markEvent(count?: number): void;
  /** Events per second over the last minute. */
  readonly rate: number;
  readonly count: number;
}

/** The distribution of values (Flink: Histogram), over the last ones. */
export interface Histogram {
  update(value: number): void;
  readonly count: number;
  getStatistics(): HistogramStatistics;
}

export interface HistogramStatistics {
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  readonly stdDev: number;
  /** `quantile` from 0 to 1; NaN without values. */
  getQuantile(quantile: number): number;
}

/** Where metrics are registered (Flink: MetricGroup). They appear on the TaskManager's Prometheus page and in REST. */
export interface MetricGroup {
  counter(name: string): Counter;
  /** `read` is called about once a second; what it throws is logged, and the figure left out. */
  gauge(name: string, read: () => number | boolean): void;
  meter(name: string): Meter;
  /** `windowSize`: how many of the last values count; default 1,000. */
  histogram(name: string, options?: { readonly windowSize?: number }): Histogram;
  /** A group inside this one: its name becomes part of the metrics' names, with `value` also a label of that name. */
  addGroup(name: string, value?: string): MetricGroup;
}

/** A metric as it was at one moment, on its way out of the slot. */
export interface MetricSample {
  /** Names of the groups, then of the metric. */
  readonly path: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly kind: "counter" | "gauge" | "meter" | "histogram";
  /** Of a counter, gauge, or the rate of a meter; the number of updates of a histogram. */
  readonly value: number;
  /** Of a histogram that has values. */
  readonly statistics?: Readonly<Record<HistogramFigure, number>>;
}

/** Flink's figures of a histogram, as REST names them. */
export const HISTOGRAM_FIGURES = [
  "min",
  "max",
  "mean",
  "median",
  "stddev",
  "p75",
  "p90",
  "p95",
  "p98",
  "p99",
  "p999",
] as const;
export type HistogramFigure = (typeof HISTOGRAM_FIGURES)[number];

/** The metrics of one operator of a task. */
export interface OperatorMetrics {
  readonly uid: string;
  readonly samples: readonly MetricSample[];
}
