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

export class MetricsPage {
  readonly #registry = new Registry();
  readonly #gauges = new Map<string, Gauge>();

  /** Adds one series; all series of a name have the same label names. */
  add(name: string, help: string, labels: Labels, value: number): void {
    if (!Number.isFinite(value)) return;
    let gauge = this.#gauges.get(name);
    if (gauge === undefined) {
      gauge = new Gauge({ name, help, labelNames: Object.keys(labels), registers: [this.#registry] });
      this.#gauges.set(name, gauge);
    }
    gauge.set({ ...labels }, value);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  render(): Promise<string> {
    return this.#registry.metrics();
  }
}
