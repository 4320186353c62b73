// Public module of the StreamJob resource and of what its controller and pods say to each other.

export { flinkConfigurationOf } from "./configuration.ts";
export { FIELD_KEYS, OPERATOR_KEYS } from "./configuration-keys.ts";
export { streamJobCrd } from "./crd.ts";
export {
  CONTAINER_NAME,
  OWN_LABEL_PREFIX,
  OWN_VOLUME_PREFIX,
  POD_PATHS,
  STREAM_JOB_API_VERSION,
  STREAM_JOB_GROUP,
  STREAM_JOB_KIND,
  STREAM_JOB_NAME_CHARS_MAX,
  STREAM_JOB_PLURAL,
  STREAM_JOB_VERSION,
} from "./names.ts";
export {
  ExpectedHead,
  ON_FOREIGN_LOG,
  POD_CONFIG_FORMAT_VERSION,
  PodConfig,
  PodJobSource,
  PodMemory,
  readPodConfig,
  StartInstructions,
  writePodConfig,
} from "./pod-config.ts";
export {
  LOG_JOB_STATES,
  LogHead,
  PlanSummary,
  POD_REPORT_BYTES_MAX,
  POD_REPORT_FORMAT_VERSION,
  PodReport,
  readPodReport,
  ReportedFailure,
  reportedFailure,
  writePodReport,
} from "./pod-report.ts";
export type { ReadPodReport } from "./pod-report.ts";
export { OWN_VARIABLES, PodTemplate } from "./pod-template.ts";
export {
  Checkpointing,
  DESIRED_STATES,
  IMAGE_PULL_POLICIES,
  JobManagerSpec,
  JobSource,
  ObjectStore,
  ON_EXISTING_DATA,
  RestartStrategy,
  Stability,
  TaskManagerSpec,
  UPGRADE_MODES,
} from "./spec-fields.ts";
export type { Resources } from "./spec-fields.ts";
export { StreamJobSpec } from "./spec.ts";
export {
  Condition,
  Decision,
  LIFECYCLE_STATES,
  Operation,
  OPERATION_KINDS,
  OPERATION_STEPS,
  SnapshotStatus,
  StreamJobStatus,
} from "./status.ts";
export type {
  DeployedVersion,
  EndedState,
  LifecycleState,
  OperationKind,
  OperationStep,
  PodRef,
  StableVersion,
} from "./status.ts";
export { StreamJob } from "./stream-job.ts";
