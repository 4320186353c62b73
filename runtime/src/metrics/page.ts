// One page of Prometheus text, built anew for every scrape from values that others keep.
//
// Invariants:
//   PG1. A page holds a metric once, whatever the number of its series; all are gauges, as Flink's reporter has them
//        (Flink's counters start again with every attempt, which Prometheus allows for gauges only).
//   PG2. A value that is not finite is left out.
//
// Not here: names and values (jobmanager/metrics, taskmanager/metrics), HTTP (server.ts).

import { Gauge, Registry } from "prom-client";

export type Labels = Readonly<Record<string, string>>;

interface Series {
  readonly labels: Labels;
  readonly value: number;
}

export class MetricsPage {
  readonly #registry = new Registry();
  readonly #metrics = new Map<string, { readonly help: string; readonly series: Series[] }>();

  /** Adds one series; series of one name may have different labels. */
  add(name: string, help: string, labels: Labels, value: number): void {
    if (!Number.isFinite(value)) return;
    const metric = this.#metrics.get(name) ?? { help, series: [] };
    this.#metrics.set(name, metric);
    metric.series.push({ labels, value });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  render(): Promise<string> {
    this.#registry.clear();
    for (const [name, { help, series }] of this.#metrics) {
      const labelNames = [...new Set(series.flatMap(({ labels }) => Object.keys(labels)))];
      const gauge = new Gauge({ name, help, labelNames, registers: [this.#registry] });
      for (const { labels, value } of series) gauge.set({ ...labels }, value);
    }
    return this.#registry.metrics();
  }
}
