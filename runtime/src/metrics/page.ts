// One page of Prometheus text, built anew for every scrape from values that others keep.
//
// Invariants:
//   PG1. A page holds a metric once, whatever the number of its series; all are gauges, as Flink's reporter has them
//        (Flink's counters start again with every attempt, which Prometheus allows for gauges only).
//   PG2. A value that is not finite is left out.
//   PG3. The library is loaded by the first scrape: slots and short-lived processes, which reach this module too, never need it.
//
// Not here: names and values (jobmanager/metrics, taskmanager/metrics), HTTP (server.ts).

export type Labels = Readonly<Record<string, string>>;

interface Series {
  readonly labels: Labels;
  readonly value: number;
}

export class MetricsPage {
  /** Of Prometheus's text format. */
  readonly contentType = "text/plain; version=0.0.4; charset=utf-8";
  readonly #metrics = new Map<string, { readonly help: string; readonly series: Series[] }>();

  /** Adds one series; series of one name may have different labels. */
  add(name: string, help: string, labels: Labels, value: number): void {
    if (!Number.isFinite(value)) return;
    const metric = this.#metrics.get(name) ?? { help, series: [] };
    this.#metrics.set(name, metric);
    metric.series.push({ labels, value });
  }

  async render(): Promise<string> {
    const { Gauge, Registry } = await import("prom-client"); // PG3
    const registry = new Registry();
    for (const [name, { help, series }] of this.#metrics) {
      const labelNames = [...new Set(series.flatMap(({ labels }) => Object.keys(labels)))];
      const gauge = new Gauge({ name, help, labelNames, registers: [registry] });
      for (const { labels, value } of series) gauge.set({ ...labels }, value);
    }
    return await registry.metrics();
  }
}
