// Public module of controller/src/status: the write-ahead log of one StreamJob (its schema is packages/api/src/streamjob/status.ts),
// conditions and the list of decisions.

import type {
  Decision,
  DeployedVersion,
  OperationKind,
  OperationStep,
  StreamJobSpec,
  StreamJobStatus,
} from "@sluice/api";

export type JobStatus = StreamJobStatus;
export type Deployed = DeployedVersion;
export type OpKind = OperationKind;
export type OpStep = OperationStep;
export type DecisionRecord = Decision;
export type StopMode = StreamJobSpec["upgradeMode"];
export type { Condition, EndedState, LifecycleState, Operation, PodRef, SnapshotStatus } from "@sluice/api";

export { shortened, withCondition, withDecision, withoutCondition } from "./conditions.ts";
export type { ConditionDraft } from "./conditions.ts";
