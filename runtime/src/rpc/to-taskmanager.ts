// What a JobManager tells its TaskManagers.
//
// Invariants:
//   JT1. Whatever concerns tasks names epoch and attempt; a TaskManager obeys only for the attempt that it runs.
//
// Not here: how messages travel (peer.ts).

import type {
  AttemptNumber,
  Barrier,
  CheckpointId,
  Epoch,
  JobPlan,
  RestorePart,
  SubtaskId,
  TaskRestore,
  TaskSpec,
} from "../model/index.ts";
import { attempt, barrier, checkpointId, epoch, partFields, subtask } from "./common.ts";
import { count, flag, list, nullable, optional, pair, record, text, type, variants } from "./shape.ts";
import type { Shape } from "./shape.ts";

/** Where a slot of the job lives. */
export interface SlotOwner {
  readonly taskManagerId: string;
  readonly dataAddress: string;
}

/** The share of one TaskManager in an attempt. */
export interface DeployRequest {
  readonly type: "deploy";
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  /** 32 hex digits, as REST shows it. */
  readonly jobId: string;
  readonly lineage: string;
  readonly moduleUrl: string;
  readonly plan: JobPlan;
  /** By slot of the job: subtask i of every vertex runs in slot i. */
  readonly slotOwners: readonly SlotOwner[];
  /** The slots of this TaskManager. */
  readonly slots: readonly { readonly slotIndex: number; readonly tasks: readonly TaskSpec[] }[];
  /** Store directory of this job. */
  readonly jobDir: string;
  /** Store directory that the restored parts are relative to. */
  readonly restoreDir: string;
  /** URI of the store that it is in; null: the job's own. */
  readonly restoreStore: string | null;
  readonly restoredCheckpointId: CheckpointId | null;
  /** False: nothing is ever stored. */
  readonly checkpointing: boolean;
  /** The job was stopped with the savepoint that is restored: publish what it holds, process nothing. */
  readonly endsAtOnce: boolean;
}

/** Which of these objects (relative to the job's directory) lie here in a verified local copy? */
export interface FindLocalCopiesRequest {
  readonly type: "findLocalCopies";
  readonly jobDir: string;
  readonly objects: readonly string[];
}

/** Put these objects back into the store from local copies: same path, same bytes. */
export interface RepairObjectsRequest {
  readonly type: "repairObjects";
  readonly jobDir: string;
  readonly objects: readonly string[];
}

export type JobManagerRequest = DeployRequest | FindLocalCopiesRequest | RepairObjectsRequest;

/** Answer to findLocalCopies and repairObjects. */
export interface ObjectsReply {
  readonly objects: readonly string[];
}

/** One-way messages. */
export type JobManagerMessage =
  | { readonly type: "cancelAttempt"; readonly epoch: Epoch; readonly attempt: AttemptNumber }
  | {
      readonly type: "triggerCheckpoint";
      readonly epoch: Epoch;
      readonly attempt: AttemptNumber;
      readonly subtask: SubtaskId;
      readonly barrier: Barrier;
    }
  | { readonly type: "notifyCheckpointComplete"; readonly epoch: Epoch; readonly checkpointId: CheckpointId }
  | {
      readonly type: "notifyCheckpointAborted";
      readonly epoch: Epoch;
      readonly checkpointId: CheckpointId;
      readonly latestCompletedId: CheckpointId | null;
    }
  /** The job has ended for good: the process may go. */
  | { readonly type: "shutdown"; readonly reason: string };

const restorePart: Shape<RestorePart> = record<RestorePart>({ ...partFields, items: optional(pair(count())) });
const restore: Shape<TaskRestore> = record<TaskRestore>({
  checkpointId,
  retractThrough: optional(checkpointId),
  claimedLineage: optional(text),
  parts: list(restorePart),
});
const taskSpec: Shape<TaskSpec> = record<TaskSpec>({ subtask, restore: optional(restore) });

/** The plan was checked by whoever made it; here only what the TaskManager itself walks over. */
const plan: Shape<JobPlan> = {
  problem: (value, at) => {
    const vertices =
      typeof value === "object" && value !== null ? (value as { readonly vertices?: unknown }).vertices : undefined;
    return Array.isArray(vertices) ? undefined : `${at}.vertices is not a list`;
  },
};

export const jobManagerRequest: Shape<JobManagerRequest> = variants<JobManagerRequest>({
  deploy: record<DeployRequest>({
    type: type("deploy"),
    epoch,
    attempt,
    jobId: text,
    lineage: text,
    moduleUrl: text,
    plan,
    slotOwners: list(record<SlotOwner>({ taskManagerId: text, dataAddress: text })),
    slots: list(record<DeployRequest["slots"][number]>({ slotIndex: count(), tasks: list(taskSpec) })),
    jobDir: text,
    restoreDir: text,
    restoreStore: nullable(text),
    restoredCheckpointId: nullable(checkpointId),
    checkpointing: flag,
    endsAtOnce: flag,
  }),
  findLocalCopies: record<FindLocalCopiesRequest>({
    type: type("findLocalCopies"),
    jobDir: text,
    objects: list(text),
  }),
  repairObjects: record<RepairObjectsRequest>({ type: type("repairObjects"), jobDir: text, objects: list(text) }),
});

export const objectsReply: Shape<ObjectsReply> = record<ObjectsReply>({ objects: list(text) });

type Of<T extends JobManagerMessage["type"]> = Extract<JobManagerMessage, { readonly type: T }>;

export const jobManagerMessage: Shape<JobManagerMessage> = variants<JobManagerMessage>({
  cancelAttempt: record<Of<"cancelAttempt">>({ type: type("cancelAttempt"), epoch, attempt }),
  triggerCheckpoint: record<Of<"triggerCheckpoint">>({
    type: type("triggerCheckpoint"),
    epoch,
    attempt,
    subtask,
    barrier,
  }),
  notifyCheckpointComplete: record<Of<"notifyCheckpointComplete">>({
    type: type("notifyCheckpointComplete"),
    epoch,
    checkpointId,
  }),
  notifyCheckpointAborted: record<Of<"notifyCheckpointAborted">>({
    type: type("notifyCheckpointAborted"),
    epoch,
    checkpointId,
    latestCompletedId: nullable(checkpointId),
  }),
  shutdown: record<Of<"shutdown">>({ type: type("shutdown"), reason: text }),
});
