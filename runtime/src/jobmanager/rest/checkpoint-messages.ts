// Checkpoint statistics as REST messages. Pure.
//
// Not here: which path asks for which (routes.ts).

import type {
  CheckpointConfigMessage,
  CheckpointHistoryEntry,
  CheckpointingMessage,
  CheckpointSubtasksMessage,
  CheckpointTaskSummary,
  CompletedCheckpointMessage,
  FailedCheckpointMessage,
  RestoredCheckpointMessage,
  StatsSummary,
} from "@sluice/api";
import { placeName } from "../../checkpoint/index.ts";
import type { CheckpointStats, RestoredCheckpointStats, VertexStats } from "../../checkpoint/index.ts";
import { CheckpointingOptions, configurationOf } from "../../model/index.ts";
import { ascending, quantileOf, sumOf } from "./distribution.ts";
import type { JobView } from "./source.ts";

/** GET /jobs/:id/checkpoints */
export function checkpointing(job: JobView): CheckpointingMessage {
  const { counts, latestCompleted, latestSavepoint, latestFailed, latestRestored, history } = job.checkpoints;
  const sizes = summary(job.checkpoints.completedSizesBytes);
  const nothing = summary(job.checkpoints.completedSizesBytes.map(() => 0));
  return {
    counts: {
      restored: counts.restored,
      total: counts.total,
      in_progress: counts.inProgress,
      completed: counts.completed,
      failed: counts.failed,
    },
    summary: {
      checkpointed_size: sizes,
      state_size: sizes,
      end_to_end_duration: summary(job.checkpoints.completedDurationsMs),
      // nothing is in flight in an aligned checkpoint, and its records are not counted
      alignment_buffered: nothing,
      processed_data: nothing,
      persisted_data: nothing,
    },
    latest: {
      completed: latestCompleted === null ? null : completed(job, latestCompleted, false),
      savepoint: latestSavepoint === null ? null : completed(job, latestSavepoint, false),
      failed: latestFailed === null ? null : failed(latestFailed, false),
      restored: latestRestored === null ? null : restored(job, latestRestored),
    },
    history: history.map((stats) => entry(job, stats, false)),
  };
}

/** GET /jobs/:id/checkpoints/details/:n; undefined when it is not remembered (any more). */
export function checkpointDetails(job: JobView, id: number): CheckpointHistoryEntry | undefined {
  const stats = findCheckpoint(job, id);
  return stats === undefined ? undefined : entry(job, stats, true);
}

/** GET /jobs/:id/checkpoints/details/:n/subtasks/:vertex; undefined when either is unknown. */
export function checkpointSubtasks(job: JobView, id: number, vertexId: string): CheckpointSubtasksMessage | undefined {
  const stats = findCheckpoint(job, id);
  const vertex = stats?.vertices.find((candidate) => candidate.vertexId === vertexId);
  if (stats === undefined || vertex === undefined) return undefined;
  const of = (value: (subtask: VertexStats["subtasks"][number]) => number): StatsSummary =>
    summary(vertex.subtasks.map(value));
  const byIndex = new Map(vertex.subtasks.map((subtask) => [subtask.subtaskIndex, subtask]));
  return {
    ...taskSummary(stats, vertex),
    summary: {
      checkpointed_size: of((s) => s.stateSizeBytes),
      state_size: of((s) => s.stateSizeBytes),
      end_to_end_duration: of((s) => s.endToEndDurationMs),
      checkpoint_duration: { sync: of((s) => s.syncMs), async: of((s) => s.asyncMs) },
      alignment: {
        buffered: of(() => 0),
        processed: of(() => 0),
        persisted: of(() => 0),
        duration: of((s) => s.alignmentMs),
      },
      start_delay: of((s) => s.startDelayMs),
    },
    subtasks: Array.from({ length: vertex.subtaskCount }, (_, index) => {
      const subtask = byIndex.get(index);
      if (subtask === undefined) return { className: "pending", index, status: "pending_or_failed" } as const;
      return {
        className: "completed",
        index,
        ack_timestamp: subtask.ackTimestampMs,
        end_to_end_duration: subtask.endToEndDurationMs,
        checkpointed_size: subtask.stateSizeBytes,
        state_size: subtask.stateSizeBytes,
        checkpoint: { sync: Math.round(subtask.syncMs), async: Math.round(subtask.asyncMs) },
        alignment: { buffered: 0, processed: 0, persisted: 0, duration: Math.round(subtask.alignmentMs) },
        start_delay: Math.round(subtask.startDelayMs),
        unaligned_checkpoint: false,
        aborted: false,
        status: "completed",
      } as const;
    }),
  };
}

/** GET /jobs/:id/checkpoints/config: what is in force, the mode above all. */
export function checkpointConfig(job: JobView): CheckpointConfigMessage {
  const config = job.checkpointConfig;
  const retention = configurationOf(job.configuration).get(CheckpointingOptions.EXTERNALIZED_RETENTION);
  return {
    mode: config.mode === "EXACTLY_ONCE" ? "exactly_once" : "at_least_once",
    interval: config.intervalMs ?? -1,
    timeout: config.timeoutMs,
    min_pause: config.minPauseMs,
    max_concurrent: config.concurrentMax,
    externalization: {
      enabled: retention !== "NO_EXTERNALIZED_CHECKPOINTS",
      delete_on_cancellation: retention !== "RETAIN_ON_CANCELLATION",
    },
    state_backend: "HashMapStateBackend",
    checkpoint_storage: "FileSystemCheckpointStorage",
    unaligned_checkpoints: false,
    tolerable_failed_checkpoints: config.tolerableFailedCount,
    aligned_checkpoint_timeout: 0,
    checkpoints_after_tasks_finish: true,
    state_changelog_enabled: false,
    changelog_periodic_materialization_interval: 0,
    changelog_storage: "none",
  };
}

/** URI of a checkpoint's directory from the name of its `_metadata`: a path in the job's store, or a URI. */
export function externalPath(job: JobView, metadataPath: string): string {
  return placeName({ uri: job.storeUri ?? "" }, metadataPath);
}

function findCheckpoint(job: JobView, id: number): CheckpointStats | undefined {
  const { history, latestCompleted, latestSavepoint, latestFailed } = job.checkpoints;
  return [...history, latestCompleted, latestSavepoint, latestFailed].find((stats) => stats?.id === id) ?? undefined;
}

function entry(job: JobView, stats: CheckpointStats, withTasks: boolean): CheckpointHistoryEntry {
  switch (stats.status) {
    case "COMPLETED":
      return completed(job, stats, withTasks);
    case "FAILED":
      return failed(stats, withTasks);
    case "IN_PROGRESS":
      return { className: "in_progress", ...base(stats, withTasks) };
  }
}

function completed(job: JobView, stats: CheckpointStats, withTasks: boolean): CompletedCheckpointMessage {
  return {
    className: "completed",
    ...base(stats, withTasks),
    external_path: externalPath(job, stats.externalPath),
    discarded: stats.discarded,
  };
}

function failed(stats: CheckpointStats, withTasks: boolean): FailedCheckpointMessage {
  return {
    className: "failed",
    ...base(stats, withTasks),
    failure_timestamp: stats.failureTimestampMs,
    failure_message: stats.failureMessage,
  };
}

function base(
  stats: CheckpointStats,
  withTasks: boolean,
): Omit<CompletedCheckpointMessage, "className" | "external_path" | "discarded"> {
  return {
    id: stats.id,
    status: stats.status,
    is_savepoint: stats.isSavepoint,
    savepointFormat: stats.isSavepoint ? "NATIVE" : null,
    trigger_timestamp: stats.triggerTimestampMs,
    latest_ack_timestamp: stats.latestAckTimestampMs,
    checkpointed_size: stats.stateSizeBytes,
    state_size: stats.stateSizeBytes,
    end_to_end_duration: stats.endToEndDurationMs,
    alignment_buffered: 0,
    processed_data: 0,
    persisted_data: 0,
    num_subtasks: stats.subtaskCount,
    num_acknowledged_subtasks: stats.acknowledgedCount,
    checkpoint_type: stats.isSavepoint ? "SAVEPOINT" : "CHECKPOINT",
    tasks: withTasks
      ? Object.fromEntries(stats.vertices.map((vertex) => [vertex.vertexId, taskSummary(stats, vertex)]))
      : {},
  };
}

function taskSummary(stats: CheckpointStats, vertex: VertexStats): CheckpointTaskSummary {
  return {
    id: stats.id,
    status: stats.status,
    latest_ack_timestamp: vertex.latestAckTimestampMs,
    checkpointed_size: vertex.stateSizeBytes,
    state_size: vertex.stateSizeBytes,
    end_to_end_duration: vertex.endToEndDurationMs,
    alignment_buffered: 0,
    processed_data: 0,
    persisted_data: 0,
    num_subtasks: vertex.subtaskCount,
    num_acknowledged_subtasks: vertex.acknowledgedCount,
  };
}

function restored(job: JobView, stats: RestoredCheckpointStats): RestoredCheckpointMessage {
  return {
    id: stats.id,
    restore_timestamp: stats.restoreTimestampMs,
    is_savepoint: stats.isSavepoint,
    external_path: externalPath(job, stats.externalPath),
  };
}

/** Flink's summary. */
function summary(values: readonly number[]): StatsSummary {
  if (values.length === 0)
    return { min: 0, max: 0, avg: 0, p50: "NaN", p90: "NaN", p95: "NaN", p99: "NaN", p999: "NaN" };
  const sorted = ascending(values);
  const quantile = (q: number): number => quantileOf(sorted, q);
  return {
    min: sorted[0] as number,
    max: sorted.at(-1) as number,
    avg: Math.floor(sumOf(sorted) / sorted.length),
    p50: quantile(0.5),
    p90: quantile(0.9),
    p95: quantile(0.95),
    p99: quantile(0.99),
    p999: quantile(0.999),
  };
}
