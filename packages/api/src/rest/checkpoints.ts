// REST messages about checkpoints.

import { anyOf, flag, integer, list, literal, map, named, nullable, number, object, oneOf, text } from "../schema.ts";
import type { Message } from "../schema.ts";

const quantile = anyOf(number(), literal("NaN"));

/** Quantiles are "NaN" where there is nothing to compute them from. */
export const StatsSummary = named(
  "StatsSummary",
  object({
    min: number(),
    max: number(),
    avg: number(),
    p50: quantile,
    p90: quantile,
    p95: quantile,
    p99: quantile,
    p999: quantile,
  }),
);
export type StatsSummary = Message<typeof StatsSummary>;

export const CheckpointCounts = object({
  restored: integer(),
  total: integer(),
  in_progress: integer(),
  completed: integer(),
  failed: integer(),
});
export type CheckpointCounts = Message<typeof CheckpointCounts>;

const TASK_SUMMARY_FIELDS = {
  id: integer(),
  status: oneOf(["IN_PROGRESS", "COMPLETED", "FAILED"]),
  latest_ack_timestamp: integer("-1: none"),
  checkpointed_size: integer(),
  state_size: integer(),
  end_to_end_duration: number(),
  alignment_buffered: integer(),
  processed_data: integer(),
  persisted_data: integer(),
  num_subtasks: integer(),
  num_acknowledged_subtasks: integer(),
};

/** One vertex's share of a checkpoint. */
export const CheckpointTaskSummary = named("CheckpointTask", object(TASK_SUMMARY_FIELDS));
export type CheckpointTaskSummary = Message<typeof CheckpointTaskSummary>;

const BASE_FIELDS = {
  ...TASK_SUMMARY_FIELDS,
  is_savepoint: flag(),
  savepointFormat: nullable(text()),
  trigger_timestamp: integer(),
  checkpoint_type: oneOf(["CHECKPOINT", "SAVEPOINT"]),
  tasks: map(CheckpointTaskSummary, "By vertex id; empty outside of details."),
};

export const PendingCheckpointMessage = named(
  "PendingCheckpoint",
  object({ className: literal("in_progress"), ...BASE_FIELDS }),
);
export type PendingCheckpointMessage = Message<typeof PendingCheckpointMessage>;

export const CompletedCheckpointMessage = named(
  "CompletedCheckpoint",
  object({
    className: literal("completed"),
    ...BASE_FIELDS,
    external_path: text("URI of the checkpoint's directory."),
    discarded: flag("True once it was deleted."),
  }),
);
export type CompletedCheckpointMessage = Message<typeof CompletedCheckpointMessage>;

export const FailedCheckpointMessage = named(
  "FailedCheckpoint",
  object({
    className: literal("failed"),
    ...BASE_FIELDS,
    failure_timestamp: integer(),
    failure_message: text(),
  }),
);
export type FailedCheckpointMessage = Message<typeof FailedCheckpointMessage>;

/** GET /jobs/:jobid/checkpoints/details/:checkpointid, and one entry of the history. */
export const CheckpointHistoryEntry = anyOf(
  PendingCheckpointMessage,
  CompletedCheckpointMessage,
  FailedCheckpointMessage,
);
export type CheckpointHistoryEntry = Message<typeof CheckpointHistoryEntry>;
export type CheckpointDetails = CheckpointHistoryEntry;

export const RestoredCheckpointMessage = named(
  "RestoredCheckpoint",
  object({ id: integer(), restore_timestamp: integer(), is_savepoint: flag(), external_path: text() }),
);
export type RestoredCheckpointMessage = Message<typeof RestoredCheckpointMessage>;

/** GET /jobs/:jobid/checkpoints */
export const CheckpointingMessage = object({
  counts: CheckpointCounts,
  summary: object({
    checkpointed_size: StatsSummary,
    state_size: StatsSummary,
    end_to_end_duration: StatsSummary,
    alignment_buffered: StatsSummary,
    processed_data: StatsSummary,
    persisted_data: StatsSummary,
  }),
  latest: object({
    completed: nullable(CompletedCheckpointMessage),
    savepoint: nullable(CompletedCheckpointMessage),
    failed: nullable(FailedCheckpointMessage),
    restored: nullable(RestoredCheckpointMessage),
  }),
  history: list(CheckpointHistoryEntry, "Newest first."),
});
export type CheckpointingMessage = Message<typeof CheckpointingMessage>;

/** GET /jobs/:jobid/checkpoints/config */
export const CheckpointConfigMessage = object({
  mode: oneOf(["exactly_once", "at_least_once"]),
  interval: integer("-1: no periodic checkpoints (Flink: the largest long, which JSON numbers do not carry)."),
  timeout: integer(),
  min_pause: integer(),
  max_concurrent: integer(),
  externalization: object({ enabled: flag(), delete_on_cancellation: flag() }),
  state_backend: text(),
  checkpoint_storage: text(),
  unaligned_checkpoints: flag(),
  tolerable_failed_checkpoints: integer(),
  aligned_checkpoint_timeout: integer(),
  checkpoints_after_tasks_finish: flag(),
  state_changelog_enabled: flag(),
  changelog_periodic_materialization_interval: integer(),
  changelog_storage: text(),
});
export type CheckpointConfigMessage = Message<typeof CheckpointConfigMessage>;

export const CheckpointSubtask = named(
  "CheckpointSubtask",
  object({
    className: literal("completed"),
    index: integer(),
    ack_timestamp: integer(),
    end_to_end_duration: number(),
    checkpointed_size: integer(),
    state_size: integer(),
    checkpoint: object({ sync: integer(), async: integer() }),
    alignment: object({ buffered: integer(), processed: integer(), persisted: integer(), duration: integer() }),
    start_delay: integer(),
    unaligned_checkpoint: flag(),
    aborted: flag(),
    status: literal("completed"),
  }),
);
export type CheckpointSubtask = Message<typeof CheckpointSubtask>;

/** GET /jobs/:jobid/checkpoints/details/:checkpointid/subtasks/:vertexid */
export const CheckpointSubtasksMessage = object({
  ...TASK_SUMMARY_FIELDS,
  summary: object({
    checkpointed_size: StatsSummary,
    state_size: StatsSummary,
    end_to_end_duration: StatsSummary,
    checkpoint_duration: object({ sync: StatsSummary, async: StatsSummary }),
    alignment: object({
      buffered: StatsSummary,
      processed: StatsSummary,
      persisted: StatsSummary,
      duration: StatsSummary,
    }),
    start_delay: StatsSummary,
  }),
  subtasks: list(
    anyOf(
      CheckpointSubtask,
      object({ className: literal("pending"), index: integer(), status: literal("pending_or_failed") }),
    ),
    "Those that acknowledged, and the others by index only.",
  ),
});
export type CheckpointSubtasksMessage = Message<typeof CheckpointSubtasksMessage>;
