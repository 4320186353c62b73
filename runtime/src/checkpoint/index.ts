// Public module of checkpoint/: alignment, the commit log, the coordinator, recovery.

export { BarrierAligner } from "./aligner.ts";
export type { AlignerDecision, AlignerTime } from "./aligner.ts";
export { assignState, fitPlan, fitVertices, keyGroupRangeOf } from "./assign.ts";
export type { StateAssignment, SubtaskRestore } from "./assign.ts";
export { CommitLog, ID_BLOCK_COUNT, readCommit, readCommitHead } from "./commit-log.ts";
export type { AppendOutcome, ClaimResult, CommitChange, CommitLogEnv } from "./commit-log.ts";
export { commitPath, commitSeq, readCommitRecord, writeCommitRecord } from "./commit-record.ts";
export { dealOperatorState } from "./deal.ts";
export { compareJob } from "./compatibility.ts";
export type { Compatibility, CompatibilityInput, OperatorVerdict, StateVerdict, Verdict } from "./compatibility.ts";
export { CheckpointCoordinator } from "./coordinator-shell.ts";
export type { CoordinatorOptions } from "./coordinator-shell.ts";
export {
  cachedOpener,
  directoryOfMetadata,
  jobDirectory,
  joinPath,
  objectsDirectory,
  placeName,
  placeOf,
  recordedPath,
  uriOf,
} from "./location.ts";
export type { CheckpointPlace, StoreOpener } from "./location.ts";
export {
  checkpointDirectory,
  checkpointIdOfPath,
  metadataPath,
  readCheckpointMetadata,
  referencedObjects,
  writeCheckpointMetadata,
} from "./metadata.ts";
export {
  allSettled,
  findOperation,
  OPERATIONS_RUNNING_MAX,
  OPERATIONS_SETTLED_MAX,
  settledAtEnd,
  withOutcome,
  withStarted,
} from "./operations.ts";
export type {
  OperationKind,
  OperationOutcome,
  OperationRequest,
  RecordedOperation,
  RecordedOperations,
  ResourceRequirements,
  SavepointFormat,
} from "./operations.ts";
export {
  ALLOW_REPLAY_KEY,
  decideDamaged,
  loadCheckpoint,
  loadOrigin,
  recover,
  regressionChange,
  retractionOf,
} from "./recovery.ts";
export type { Damage, DamagedObject, DamageDecision, DamageOptions, LoadedCheckpoint, Recovery } from "./recovery.ts";
export {
  closeJob,
  collectGarbage,
  inspectJob,
  jobDirectories,
  pinCheckpoint,
  purgeable,
  purgeJob,
  QUARANTINE_MS,
  unpin,
} from "./store-admin.ts";
export type { AdminPlace, GarbageOutcome, JobInspection } from "./store-admin.ts";
export { isStartPin, startHolder, withoutStartPins } from "./pins.ts";
export type { OriginPlace } from "./origin.ts";
export { confirmOrigin, disposeSavepoint, releaseOrigin, renewOrigin, takeOrigin } from "./origin.ts";
export { decideStart, endedBySubmission, endStateOf, isEnded, onlyPublishes } from "./start.ts";
export { lineageOfOutput } from "./incomplete-uploads.ts";
export type { SurveyedUpload } from "./incomplete-uploads.ts";
export { retryStorage } from "./storage-retry.ts";
export { keptRefs } from "./survey.ts";
export type { KeptCheckpoint, ObjectClass, Survey, SurveyedObject } from "./survey.ts";
export { checkpointVertices } from "./vertices.ts";
export { DEFAULT_CHECKPOINT_CONFIG } from "./types.ts";
export type {
  CheckpointConfig,
  CheckpointCoordination,
  CheckpointDecline,
  CheckpointPin,
  CheckpointRef,
  CheckpointStats,
  CheckpointStatsSnapshot,
  CheckpointStatus,
  CheckpointTrigger,
  CheckpointVertex,
  CommitRecord,
  CoordinatorListener,
  EndedJobState,
  ExpectedHead,
  RecordedJobState,
  RecordedOverride,
  RecordedRescale,
  RestoredCheckpointStats,
  SavepointOrder,
  StartDecision,
  StartRequest,
  SubtaskStats,
  TakenSavepoint,
  TaskGateway,
  VertexStats,
} from "./types.ts";
