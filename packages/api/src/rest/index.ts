// REST messages. Field names and shapes are Flink 2.3's (runtime/test/fixtures/flink-rest holds recordings of it), so that
// programs written for Flink's REST can read Sluice's. A message's description and its type have the same name.
//
// Invariants:
//   RM1. Absent is `null`, -1 or 0 exactly where Flink says so; fields are never left out.
//   RM2. Times are milliseconds since the epoch, durations milliseconds, sizes bytes, unless a description says otherwise.

export {
  AggregatedMetric,
  AggregatedMetricsMessage,
  ClusterConfigMessage,
  ClusterOverviewMessage,
  ConfigurationMessage,
  DatasetsMessage,
  EmptyMessage,
  EnvironmentMessage,
  ErrorMessage,
  FailureCause,
  HealthMessage,
  LogListMessage,
  MetricEntry,
  MetricsMessage,
  TaskManagerDetailsMessage,
  TaskManagerMessage,
  TaskManagersMessage,
} from "./cluster.ts";
export type { ResourceProfile } from "./cluster.ts";
export {
  CheckpointConfigMessage,
  CheckpointCounts,
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
export type { CheckpointDetails } from "./checkpoints.ts";
export {
  ExceptionEntry,
  ExecutionResultMessage,
  EXECUTION_STATE_NAMES,
  ExecutionStateName,
  IoMetrics,
  JobAccumulatorsMessage,
  JobConfigMessage,
  JobDetailsMessage,
  JobExceptionsMessage,
  JobIdsMessage,
  JobOverview,
  JobPlanMessage,
  JobsOverviewMessage,
  JOB_STATE_NAMES,
  JobStateName,
  JobStatusMessage,
  ResourceRequirementsMessage,
  StateCounts,
} from "./jobs.ts";
export type { JobVertexDetails, PlanNode } from "./jobs.ts";
export {
  CheckpointStatusMessage,
  CheckpointTriggerRequest,
  DisposalRequest,
  DisposalStatusMessage,
  OPERATION_ID_HEADER,
  SavepointStatusMessage,
  SavepointTriggerRequest,
  StopRequest,
  TriggerMessage,
  UnpinRequest,
} from "./operations.ts";
export { SluiceStatusMessage, SnapshotSummary } from "./status.ts";
export { PATH_PARAMETERS, REST_ROUTES } from "./routes.ts";
export type { PathParameterName, RouteDescription, RouteMethod, RouteName, RouteParameters } from "./routes.ts";
export {
  AGGREGATED_IO_NAMES,
  AttemptAccumulatorsMessage,
  BackPressureMessage,
  DURATION_STATES,
  SubtaskMessage,
  SubtasksAccumulatorsMessage,
  SubtaskTimesMessage,
  VertexAccumulatorsMessage,
  VertexMessage,
  VertexTaskManagersMessage,
} from "./vertices.ts";
export type { Aggregated, BackPressureLevel, Distribution } from "./vertices.ts";
