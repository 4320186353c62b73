// What JobManager and TaskManagers of the coordinator world say to each other: JSON in one frame.

import type { CheckpointDecline, CheckpointTrigger, SubtaskRestore } from "@sluice/runtime/internal/checkpoint";
import type { AttemptNumber, CheckpointAck, CheckpointId, Epoch, SubtaskId } from "@sluice/runtime/internal/model";

interface OfAttempt {
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
}

export type ToJobManager =
  | { readonly type: "register"; readonly taskManager: string }
  | { readonly type: "heartbeat" }
  | ({ readonly type: "running" | "ended" | "finished"; readonly subtask: SubtaskId } & OfAttempt)
  | { readonly type: "ack"; readonly ack: CheckpointAck }
  | { readonly type: "decline"; readonly decline: CheckpointDecline };

export type ToTaskManager =
  | { readonly type: "heartbeat" }
  | ({
      readonly type: "deploy";
      readonly lineage: string;
      readonly parallelism: number;
      readonly restoredId: CheckpointId | null;
      readonly restoreDir: string;
      /** The job was stopped with it: publish, process nothing. */
      readonly endsAtOnce: boolean;
      readonly retract: { readonly aboveId: CheckpointId; readonly throughId: CheckpointId } | null;
      readonly subtasks: readonly SubtaskRestore[];
    } & OfAttempt)
  | { readonly type: "trigger"; readonly subtask: SubtaskId; readonly trigger: CheckpointTrigger }
  | ({ readonly type: "complete" | "aborted"; readonly id: CheckpointId } & OfAttempt);

export function encode(message: ToJobManager | ToTaskManager): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(message));
}

/** Frames of this world come from this world only. */
export function decode<T extends ToJobManager | ToTaskManager>(frame: Uint8Array): T {
  return JSON.parse(new TextDecoder().decode(frame)) as T;
}
