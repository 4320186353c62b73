// The TaskManager's /metrics: names and labels of Flink's Prometheus reporter.
//
// Not here: where the figures come from (whoever implements TaskManagerMetricsView).

import { addProcessFigures, MetricsPage } from "../../metrics/index.ts";
import type { HistogramFigure, MetricSample, OperatorMetrics } from "../../model/index.ts";
import type { HeapFigures, Labels, ProcessFigures } from "../../metrics/index.ts";
import { TaskRates } from "./task-rates.ts";
import type { Rates } from "./task-rates.ts";

/** Sums over the life of a task's attempt, and its current states. The names are those of the counters of a slot. */
export interface TaskFigures {
  readonly numRecordsIn: number;
  readonly numRecordsOut: number;
  readonly numBytesIn: number;
  readonly numBytesOut: number;
  readonly busyTimeMs: number;
  readonly backPressuredTimeMs: number;
  readonly idleTimeMs: number;
  /** 1 while the task cannot write. */
  readonly isBackPressured: number;
  /** Of the last checkpoint. */
  readonly checkpointAlignmentMs: number;
  /** Of the last checkpoint: from its trigger to its first barrier here. */
  readonly checkpointStartDelayMs: number;
  readonly stateSizeBytes: number;
  readonly numRecordsSkipped: number;
  /** Of the restore with which the task began; 0 without one. */
  readonly restoreMs: number;
  readonly restoreReadMs: number;
  readonly restoredLocalParts: number;
  readonly restoredLocalBytes: number;
  readonly restoredStoreParts: number;
  readonly restoredStoreBytes: number;
}

/** An operator of a chain; what is not counted for it alone is left out. */
export interface OperatorFigures {
  readonly uid: string;
  readonly name: string;
  readonly numRecordsIn?: number;
  readonly numRecordsOut?: number;
  /** What it registered itself. */
  readonly samples?: readonly MetricSample[];
}

export interface TaskMetricsView {
  /** Id of the vertex in the plan. */
  readonly vertexId: string;
  readonly taskName: string;
  readonly subtaskIndex: number;
  readonly attempt: number;
  /** Head first. */
  readonly operators: readonly OperatorFigures[];
  readonly figures: TaskFigures;
}

/** What /metrics of a TaskManager needs; snapshots, read-only. */
export interface TaskManagerMetricsView {
  readonly taskManagerId: string;
  readonly host: string;
  /** Monotonic. */
  nowMs(): number;
  /** Undefined before it has tasks of one. */
  job(): { readonly jid: string; readonly name: string } | undefined;
  tasks(): readonly TaskMetricsView[];
  /** Heaps of the slots' threads, as last seen. */
  slotHeaps(): readonly HeapFigures[];
  readonly slots: number;
  freeSlots(): number;
}

/** Operators of a chain when only the task as a whole is counted: records in at the head, out at the tail. */
export function operatorsOfChain(
  chain: readonly { readonly uid: string; readonly name: string }[],
  figures: Pick<TaskFigures, "numRecordsIn" | "numRecordsOut">,
  metrics: readonly OperatorMetrics[] = [],
): readonly OperatorFigures[] {
  return chain.map(({ uid, name }, index) => ({
    uid,
    name,
    ...(index === 0 ? { numRecordsIn: figures.numRecordsIn } : {}),
    ...(index === chain.length - 1 ? { numRecordsOut: figures.numRecordsOut } : {}),
    samples: metrics.find((of) => of.uid === uid)?.samples ?? [],
  }));
}

/** Makes the page at every scrape; keeps what rates need between them. */
export class TaskManagerPages {
  readonly #view: TaskManagerMetricsView;
  readonly #rates = new TaskRates();

  constructor(view: TaskManagerMetricsView) {
    this.#view = view;
  }

  page(figures: ProcessFigures): MetricsPage {
    const page = new MetricsPage();
    const view = this.#view;
    const labels = { host: view.host, tm_id: view.taskManagerId };
    page.add("flink_taskmanager_taskSlotsTotal", "Slots of this TaskManager.", labels, view.slots);
    page.add("flink_taskmanager_taskSlotsAvailable", "Slots without tasks.", labels, view.freeSlots());
    const job = view.job();
    for (const task of job === undefined ? [] : view.tasks()) {
      const key = `${task.vertexId}/${task.subtaskIndex}/${task.attempt}`;
      const rates = this.#rates.of(key, view.nowMs(), task.figures);
      const taskLabels = {
        ...labels,
        job_id: job?.jid ?? "",
        job_name: job?.name ?? "",
        task_id: task.vertexId,
        task_name: task.taskName,
        task_attempt_num: String(task.attempt),
        subtask_index: String(task.subtaskIndex),
      };
      addTask(page, task, taskLabels, rates);
    }
    this.#rates.forgetOthers();
    addProcessFigures(page, "taskmanager", labels, figures, view.slotHeaps());
    return page;
  }
}

function addTask(page: MetricsPage, task: TaskMetricsView, labels: Labels, rates: Rates): void {
  const { figures } = task;
  const add = (name: string, help: string, value: number): void =>
    page.add(`flink_taskmanager_job_task_${name}`, help, labels, value);
  add("numRecordsIn", "Records that the task has read.", figures.numRecordsIn);
  add("numRecordsInPerSecond", "Records that the task reads per second.", rates.numRecordsInPerSecond);
  add("numRecordsOut", "Records that the task has written.", figures.numRecordsOut);
  add("numRecordsOutPerSecond", "Records that the task writes per second.", rates.numRecordsOutPerSecond);
  add("numBytesIn", "Bytes that the task has read.", figures.numBytesIn);
  add("numBytesInPerSecond", "Bytes that the task reads per second.", rates.numBytesInPerSecond);
  add("numBytesOut", "Bytes that the task has written.", figures.numBytesOut);
  add("numBytesOutPerSecond", "Bytes that the task writes per second.", rates.numBytesOutPerSecond);
  add("busyTimeMsPerSecond", "Milliseconds per second in which the task works.", rates.busyTimeMsPerSecond);
  add("idleTimeMsPerSecond", "Milliseconds per second in which the task waits for input.", rates.idleTimeMsPerSecond);
  add(
    "backPressuredTimeMsPerSecond",
    "Milliseconds per second in which the task cannot write.",
    rates.backPressuredTimeMsPerSecond,
  );
  add(
    "hardBackPressuredTimeMsPerSecond",
    "As backPressuredTimeMsPerSecond: all of it is hard.",
    rates.backPressuredTimeMsPerSecond,
  );
  add("softBackPressuredTimeMsPerSecond", "There is no soft backpressure; 0.", 0);
  add("isBackPressured", "1 while the task cannot write, else 0.", figures.isBackPressured);
  add(
    "checkpointAlignmentTime",
    "Nanoseconds that the last checkpoint took to align.",
    Math.round(figures.checkpointAlignmentMs * 1e6),
  );
  add(
    "checkpointStartDelayNanos",
    "Nanoseconds from the trigger of the last checkpoint to its first barrier.",
    Math.round(figures.checkpointStartDelayMs * 1e6),
  );
  add("stateSizeBytes", "Bytes of state in the last snapshot.", figures.stateSizeBytes);
  add("numRecordsSkipped", "Malformed records that were skipped.", figures.numRecordsSkipped);
  add(
    "restoreTimeMs",
    "Milliseconds from the order to restore until the task ran; 0 without a restore.",
    figures.restoreMs,
  );
  add("restoreReadTimeMs", "Milliseconds of the restore in which state was read and verified.", figures.restoreReadMs);
  for (const [source, parts, bytes] of [
    ["local", figures.restoredLocalParts, figures.restoredLocalBytes],
    ["store", figures.restoredStoreParts, figures.restoredStoreBytes],
  ] as const) {
    page.add(
      "flink_taskmanager_job_task_restoredParts",
      "Parts of state that the task restored, by where they came from.",
      { ...labels, source },
      parts,
    );
    page.add(
      "flink_taskmanager_job_task_restoredBytes",
      "Bytes of state that the task restored, by where they came from.",
      { ...labels, source },
      bytes,
    );
  }
  for (const operator of task.operators) {
    const operatorLabels = { ...labels, operator_id: operator.uid, operator_name: operator.name };
    const addOperator = (name: string, help: string, value: number | undefined): void => {
      if (value !== undefined) page.add(`flink_taskmanager_job_task_operator_${name}`, help, operatorLabels, value);
    };
    addOperator("numRecordsIn", "Records that the operator has read.", operator.numRecordsIn);
    addOperator("numRecordsOut", "Records that the operator has written.", operator.numRecordsOut);
    for (const sample of operator.samples ?? []) addSample(page, sample, operatorLabels);
  }
}

/** Quantiles as Flink's reporter has them. */
const QUANTILES: readonly (readonly [quantile: string, figure: HistogramFigure])[] = [
  ["0.5", "median"],
  ["0.75", "p75"],
  ["0.95", "p95"],
  ["0.98", "p98"],
  ["0.99", "p99"],
  ["0.999", "p999"],
];
/** Own figures of operators under the same prefix. */
const TAKEN: readonly string[] = ["numRecordsIn", "numRecordsOut"];

/** A metric that an operator or a user's function registered; one that takes a name of ours is left out, as in Flink. */
function addSample(page: MetricsPage, sample: MetricSample, labels: Labels): void {
  const { path, kind, value, statistics } = sample;
  if (path.length === 1 && TAKEN.includes(path[0] ?? "")) return;
  const name = `flink_taskmanager_job_task_operator_${path.map((part) => part.replaceAll(/[^a-zA-Z0-9:_]/g, "_")).join("_")}`;
  const own = Object.entries(sample.labels).map(([key, label]) => [key.replaceAll(/[^a-zA-Z0-9_]/g, "_"), label]);
  const all: Labels = { ...(Object.fromEntries(own) as Labels), ...labels };
  const help = `${path.join(".")}, a ${kind} of the job.`;
  if (kind !== "histogram") {
    page.add(name, help, all, value);
    return;
  }
  page.add(`${name}_count`, help, all, value);
  for (const [quantile, figure] of QUANTILES)
    page.add(name, help, { ...all, quantile }, statistics?.[figure] ?? Number.NaN);
}
