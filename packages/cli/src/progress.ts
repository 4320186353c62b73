// What a running job looks like at one moment, and that as text.
//
// Invariants:
//   PR1. Text is made by pure functions from a snapshot; nothing here asks or prints.
//
// Not here: redrawing (display.ts), asking (run.ts).

import type { CheckpointingMessage, ClusterOverviewMessage, JobDetailsMessage } from "@sluice/api";
import { formatBytes, formatDuration } from "@sluice/kit";

export interface Progress {
  readonly name: string;
  readonly state: string;
  readonly elapsedMs: number;
  /** What sources have emitted, and what vertices without consumers have read, in this attempt of the job. */
  readonly recordsIn: number;
  readonly recordsOut: number;
  /** Undefined: there is no earlier moment to compare with. */
  readonly recordsInPerSecond: number | undefined;
  readonly recordsOutPerSecond: number | undefined;
  readonly lastCheckpoint:
    | { readonly id: number; readonly durationMs: number; readonly sizeBytes: number; readonly ageMs: number }
    | undefined;
  readonly restoredCheckpointId: number | undefined;
  readonly checkpointsCompleted: number;
  readonly checkpointsFailed: number;
  readonly restarts: number;
  readonly taskManagers: number;
  readonly tasksRunning: number;
  readonly tasks: number;
}

/** The snapshot of REST's answers; `before` is the one that rates are computed against. */
export function progressOf(
  answers: {
    readonly job: JobDetailsMessage;
    readonly checkpoints: CheckpointingMessage;
    readonly overview: ClusterOverviewMessage;
    readonly restarts: number;
  },
  before: Progress | undefined,
): Progress {
  const { job, checkpoints, overview, restarts } = answers;
  const consumed = new Set(job.plan.nodes.flatMap((node) => (node.inputs ?? []).map((input) => input.id)));
  const sources = new Set(job.plan.nodes.filter((node) => node.inputs === undefined).map((node) => node.id));
  let [recordsIn, recordsOut, tasksRunning, tasks] = [0, 0, 0, 0];
  for (const vertex of job.vertices) {
    // a source that is chained to all that follows writes to nobody
    if (sources.has(vertex.id)) recordsIn += vertex.metrics["read-records"];
    if (!consumed.has(vertex.id)) recordsOut += vertex.metrics["read-records"];
    tasksRunning += vertex.tasks.RUNNING;
    tasks += vertex.parallelism;
  }
  const latest = checkpoints.latest.completed;
  const seconds = before === undefined ? 0 : (job.duration - before.elapsedMs) / 1_000;
  // a restart counts from 0 again: no rate across it
  const rate = (now: number, then: number | undefined): number | undefined =>
    then === undefined ? undefined : seconds <= 0 || now < then ? 0 : (now - then) / seconds;
  return {
    name: job.name,
    state: job.state,
    elapsedMs: job.duration,
    recordsIn,
    recordsOut,
    recordsInPerSecond: rate(recordsIn, before?.recordsIn),
    recordsOutPerSecond: rate(recordsOut, before?.recordsOut),
    lastCheckpoint:
      latest === null
        ? undefined
        : {
            id: latest.id,
            durationMs: latest.end_to_end_duration,
            sizeBytes: latest.state_size,
            ageMs: Math.max(0, job.now - latest.latest_ack_timestamp),
          },
    restoredCheckpointId: checkpoints.latest.restored?.id,
    checkpointsCompleted: checkpoints.counts.completed,
    checkpointsFailed: checkpoints.counts.failed,
    restarts,
    taskManagers: overview.taskmanagers,
    tasksRunning,
    tasks,
  };
}

/** 1234567 -> "1.23 M". */
export function formatCount(count: number): string {
  for (const [unit, factor] of [
    ["G", 1e9],
    ["M", 1e6],
    ["k", 1e3],
  ] as const) {
    if (count >= factor * 0.9995) {
      const value = count / factor;
      return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${unit}`;
    }
  }
  return String(Math.round(count));
}

function formatRate(perSecond: number | undefined): string {
  return perSecond === undefined ? "" : ` (${formatCount(perSecond)}/s)`;
}

/** The picture on a terminal: lines of at most `width` characters. */
export function progressLines(progress: Progress, width: number): readonly string[] {
  const { lastCheckpoint: last } = progress;
  const checkpoint =
    last === undefined
      ? "none yet"
      : `#${last.id} in ${formatDuration(last.durationMs)}, ${formatBytes(last.sizeBytes)}, ${formatDuration(last.ageMs)} ago`;
  const failed = progress.checkpointsFailed === 0 ? "" : `, ${progress.checkpointsFailed} failed`;
  const restored = progress.restoredCheckpointId === undefined ? "" : `, restored #${progress.restoredCheckpointId}`;
  return [
    `${progress.name}  ${progress.state}  ${formatDuration(progress.elapsedMs)}`,
    `  records      ${formatCount(progress.recordsIn)} in${formatRate(progress.recordsInPerSecond)}, ${formatCount(progress.recordsOut)} out${formatRate(progress.recordsOutPerSecond)}`,
    `  checkpoints  ${checkpoint}; ${progress.checkpointsCompleted} completed${failed}`,
    `  processes    ${progress.taskManagers} TaskManagers, ${progress.tasksRunning}/${progress.tasks} tasks running, ${progress.restarts} restarts${restored}`,
  ].map((line) => (line.length > width ? line.slice(0, Math.max(0, width)) : line));
}

/** Metrics of the JobManager about the last restore. */
export const RESTORE_METRICS = [
  "lastRestoreCheckpointId",
  "lastRestoreFinishedTimestamp",
  "lastRestoreDuration",
  "lastRestoreLocalSubtasks",
  "lastRestoreLocalBytes",
  "lastRestoreStoreSubtasks",
  "lastRestoreStoreBytes",
] as const;

export type RestoreMetrics = Readonly<Partial<Record<(typeof RESTORE_METRICS)[number], number>>>;

/** Where the tasks had their state from, in one line. */
export function restoredLine(metrics: RestoreMetrics): string {
  const source = (subtasks: number | undefined, bytes: number | undefined, place: string): string =>
    `${subtasks ?? 0} ${subtasks === 1 ? "task" : "tasks"} from ${place}${(bytes ?? 0) > 0 ? ` (${formatBytes(bytes ?? 0)})` : ""}`;
  return [
    `restored checkpoint ${metrics.lastRestoreCheckpointId} in ${formatDuration(metrics.lastRestoreDuration ?? 0)}`,
    [
      source(metrics.lastRestoreLocalSubtasks, metrics.lastRestoreLocalBytes, "local copies"),
      source(metrics.lastRestoreStoreSubtasks, metrics.lastRestoreStoreBytes, "the store"),
    ].join(", "),
  ].join(": ");
}

/** One line, for logs. */
export function progressLine(progress: Progress): string {
  const { lastCheckpoint: last } = progress;
  const checkpoint =
    last === undefined
      ? "no checkpoint"
      : `checkpoint ${last.id} (${formatDuration(last.durationMs)}, ${formatBytes(last.sizeBytes)})`;
  return [
    progress.state,
    `${formatCount(progress.recordsIn)} records in${formatRate(progress.recordsInPerSecond)}`,
    `${formatCount(progress.recordsOut)} out`,
    checkpoint,
    `${progress.restarts} restarts`,
    ...(progress.restoredCheckpointId === undefined ? [] : [`restored checkpoint ${progress.restoredCheckpointId}`]),
    `${progress.taskManagers} TaskManagers`,
  ].join(", ");
}
