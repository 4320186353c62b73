// Public module of checkpoint/: alignment, the commit log, the coordinator, recovery.

export { BarrierAligner } from "./aligner.ts";
export type { AlignerDecision, AlignerTime } from "./aligner.ts";
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
  RecordedJobState,
  RecordedOperation,
  RecordedOverride,
  RestoredCheckpointStats,
  StartDecision,
  StartRequest,
  SubtaskStats,
  TaskGateway,
  VertexStats,
} from "./types.ts";
