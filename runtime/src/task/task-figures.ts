// A task's figures: counters that its slot shares with the TaskManager, and the metrics of operators and users.
//
// Invariants (tests cite them):
//   TG1. Figures are at most about PUBLISH_MS old while the task has steps, also when batches wait until they are full.
//   TG2. Operators' and users' metrics leave about once a second, and when the task has ended.
//
// Nothing here is touched per record: rows are counted where they pass (chain.ts, network/), and read from there.
//
// Not here: the layout of counters (counters.ts), names and labels of metrics (taskmanager/metrics).

import type { Clock } from "@sluice/kit/env";
import type { SlotPort, SubtaskId, TaskRestored } from "../model/index.ts";
import type { InputGate } from "../network/index.ts";
import type { ChainedOperator } from "./chained-operator.ts";
import type { TaskCounters } from "./counters.ts";
import type { TaskMetrics } from "./operator-context.ts";
import type { TaskOutputs } from "./task-outputs.ts";

/** Figures are not older than this, also when batches wait until they are full. */
export const PUBLISH_MS = 1_000;

export interface TaskFiguresOptions {
  readonly subtask: SubtaskId;
  readonly chain: readonly Pick<ChainedOperator, "output" | "sideOutputs">[];
  /** Undefined for a source. */
  readonly gate: Pick<InputGate, "rowsRead" | "bytesRead"> | undefined;
  readonly outputs: Pick<TaskOutputs, "bytesWritten">;
  readonly metrics: Pick<TaskMetrics, "sample" | "total">;
  readonly counters: TaskCounters;
  readonly port: Pick<SlotPort, "send">;
  readonly clock: Pick<Clock, "nowMs">;
}

export class TaskFigures {
  readonly #options: TaskFiguresOptions;
  #lastPublishMs = 0;
  #lastMetricsMs = 0;

  constructor(options: TaskFiguresOptions) {
    this.#options = options;
  }

  /** TG1. */
  isDue(nowMs: number): boolean {
    return nowMs - this.#lastPublishMs >= PUBLISH_MS;
  }

  /** Copies this task's figures into the shared counters; `isLast`: TG2. */
  publish(options: { readonly isLast: boolean }): void {
    const { counters, chain, gate, outputs, metrics, clock } = this.#options;
    this.#lastPublishMs = clock.nowMs();
    this.#publishMetrics(options.isLast);
    const first = chain[0];
    const last = chain.at(-1);
    counters.set("numRecordsIn", gate === undefined ? (first?.output.numRecords ?? 0) : gate.rowsRead);
    let recordsOut = last?.output.numRecords ?? 0;
    for (const { sideOutputs } of chain) for (const side of sideOutputs) recordsOut += side.numRecords;
    counters.set("numRecordsOut", recordsOut);
    counters.set("numBytesIn", gate?.bytesRead ?? 0);
    counters.set("numBytesOut", outputs.bytesWritten);
    counters.set("numRecordsSkipped", metrics.total("numRecordsSkipped"));
  }

  /** What the task restored, and from where. */
  restored(restored: TaskRestored): void {
    const { counters } = this.#options;
    counters.set("restoreMs", restored.restoreMs);
    counters.set("restoreReadMs", restored.readMs);
    counters.set("restoredLocalParts", restored.localParts);
    counters.set("restoredLocalBytes", restored.localBytes);
    counters.set("restoredStoreParts", restored.storeParts);
    counters.set("restoredStoreBytes", restored.storeBytes);
  }

  #publishMetrics(isLast: boolean): void {
    if (this.#lastPublishMs - this.#lastMetricsMs < PUBLISH_MS && !isLast) return;
    this.#lastMetricsMs = this.#lastPublishMs;
    const { metrics, port, subtask } = this.#options;
    const operators = metrics.sample();
    if (operators.length > 0) port.send({ type: "metrics", subtask, operators });
  }
}
