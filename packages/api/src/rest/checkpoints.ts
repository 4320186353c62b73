// REST messages about checkpoints.

/** Quantiles are "NaN" where there is nothing to compute them from. */
export interface StatsSummary {
  readonly min: number;
  readonly max: number;
  readonly avg: number;
  readonly p50: number | "NaN";
  readonly p90: number | "NaN";
  readonly p95: number | "NaN";
  readonly p99: number | "NaN";
  readonly p999: number | "NaN";
}

export interface CheckpointCounts {
  readonly restored: number;
  readonly total: number;
  readonly in_progress: number;
  readonly completed: number;
  readonly failed: number;
}

/** One vertex's share of a checkpoint. */
export interface CheckpointTaskSummary {
  readonly id: number;
  readonly status: "IN_PROGRESS" | "COMPLETED" | "FAILED";
  readonly latest_ack_timestamp: number;
  readonly checkpointed_size: number;
  readonly state_size: number;
  readonly end_to_end_duration: number;
  readonly alignment_buffered: number;
  readonly processed_data: number;
  readonly persisted_data: number;
  readonly num_subtasks: number;
  readonly num_acknowledged_subtasks: number;
}

interface CheckpointBase extends CheckpointTaskSummary {
  readonly is_savepoint: boolean;
  readonly savepointFormat: string | null;
  readonly trigger_timestamp: number;
  readonly checkpoint_type: "CHECKPOINT" | "SAVEPOINT";
  /** By vertex id; empty outside of details. */
  readonly tasks: Readonly<Record<string, CheckpointTaskSummary>>;
}

export interface PendingCheckpointMessage extends CheckpointBase {
  readonly className: "in_progress";
}

export interface CompletedCheckpointMessage extends CheckpointBase {
  readonly className: "completed";
  /** URI of the checkpoint's directory. */
  readonly external_path: string;
  /** True once it was deleted. */
  readonly discarded: boolean;
}

export interface FailedCheckpointMessage extends CheckpointBase {
  readonly className: "failed";
  readonly failure_timestamp: number;
  readonly failure_message: string;
}

export type CheckpointHistoryEntry = PendingCheckpointMessage | CompletedCheckpointMessage | FailedCheckpointMessage;

/** GET /jobs/:id/checkpoints/details/:n */
export type CheckpointDetails = CheckpointHistoryEntry;

export interface RestoredCheckpointMessage {
  readonly id: number;
  readonly restore_timestamp: number;
  readonly is_savepoint: boolean;
  readonly external_path: string;
}

/** GET /jobs/:id/checkpoints */
export interface CheckpointingMessage {
  readonly counts: CheckpointCounts;
  readonly summary: {
    readonly checkpointed_size: StatsSummary;
    readonly state_size: StatsSummary;
    readonly end_to_end_duration: StatsSummary;
    readonly alignment_buffered: StatsSummary;
    readonly processed_data: StatsSummary;
    readonly persisted_data: StatsSummary;
  };
  readonly latest: {
    readonly completed: CompletedCheckpointMessage | null;
    readonly savepoint: CompletedCheckpointMessage | null;
    readonly failed: FailedCheckpointMessage | null;
    readonly restored: RestoredCheckpointMessage | null;
  };
  /** Newest first. */
  readonly history: readonly CheckpointHistoryEntry[];
}

/** GET /jobs/:id/checkpoints/config */
export interface CheckpointConfigMessage {
  readonly mode: "exactly_once" | "at_least_once";
  /** -1: no periodic checkpoints (Flink: the largest long, which JSON numbers do not carry). */
  readonly interval: number;
  readonly timeout: number;
  readonly min_pause: number;
  readonly max_concurrent: number;
  readonly externalization: { readonly enabled: boolean; readonly delete_on_cancellation: boolean };
  readonly state_backend: string;
  readonly checkpoint_storage: string;
  readonly unaligned_checkpoints: boolean;
  readonly tolerable_failed_checkpoints: number;
  readonly aligned_checkpoint_timeout: number;
  readonly checkpoints_after_tasks_finish: boolean;
  readonly state_changelog_enabled: boolean;
  readonly changelog_periodic_materialization_interval: number;
  readonly changelog_storage: string;
}

export interface CheckpointSubtask {
  readonly className: "completed";
  readonly index: number;
  readonly ack_timestamp: number;
  readonly end_to_end_duration: number;
  readonly checkpointed_size: number;
  readonly state_size: number;
  readonly checkpoint: { readonly sync: number; readonly async: number };
  readonly alignment: {
    readonly buffered: number;
    readonly processed: number;
    readonly persisted: number;
    readonly duration: number;
  };
  readonly start_delay: number;
  readonly unaligned_checkpoint: boolean;
  readonly aborted: boolean;
  readonly status: "completed";
}

/** GET /jobs/:id/checkpoints/details/:n/subtasks/:vertex */
export interface CheckpointSubtasksMessage extends CheckpointTaskSummary {
  readonly summary: {
    readonly checkpointed_size: StatsSummary;
    readonly state_size: StatsSummary;
    readonly end_to_end_duration: StatsSummary;
    readonly checkpoint_duration: { readonly sync: StatsSummary; readonly async: StatsSummary };
    readonly alignment: {
      readonly buffered: StatsSummary;
      readonly processed: StatsSummary;
      readonly persisted: StatsSummary;
      readonly duration: StatsSummary;
    };
    readonly start_delay: StatsSummary;
  };
  /** Those that acknowledged, and the others by index only. */
  readonly subtasks: readonly (
    CheckpointSubtask | { readonly className: "pending"; readonly index: number; readonly status: "pending_or_failed" }
  )[];
}
