// REST messages. Field names and shapes are Flink 2.3's (runtime/test/fixtures/flink-rest holds recordings of it), so that
// programs written for Flink's REST can read Sluice's.
//
// Invariants:
//   RM1. Absent is `null`, -1 or 0 exactly where Flink says so; fields are never left out.
//   RM2. Times are milliseconds since the epoch, durations milliseconds, sizes bytes, unless a comment says otherwise.

export type {
  ClusterConfigMessage,
  ClusterOverviewMessage,
  ErrorMessage,
  MetricEntry,
  TaskManagerMessage,
  TaskManagersMessage,
} from "./cluster.ts";
export type {
  CheckpointConfigMessage,
  CheckpointCounts,
  CheckpointDetails,
  CheckpointHistoryEntry,
  CheckpointingMessage,
  CheckpointSubtask,
  CheckpointSubtasksMessage,
  CheckpointTaskSummary,
  CompletedCheckpointMessage,
  FailedCheckpointMessage,
  PendingCheckpointMessage,
  RestoredCheckpointMessage,
  StatsSummary,
} from "./checkpoints.ts";
export type {
  ExceptionEntry,
  ExecutionStateName,
  IoMetrics,
  JobConfigMessage,
  JobDetailsMessage,
  JobExceptionsMessage,
  JobIdsMessage,
  JobOverview,
  JobPlanMessage,
  JobsOverviewMessage,
  JobStateName,
  JobStatusMessage,
  JobVertexDetails,
  PlanNode,
  StateCounts,
} from "./jobs.ts";
