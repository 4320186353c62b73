// What the TaskManager's main thread and its I/O thread say to each other. Structured-cloneable.
//
// Slots talk to the I/O thread over ports of their own (task/thread-port.ts: IoRequest, IoReply).

import type { FailureJson } from "@sluice/kit";
import type { CheckpointDecline } from "../../checkpoint/index.ts";
import type { AttemptNumber, CheckpointAck, CheckpointId, Epoch, SubtaskId } from "../../model/index.ts";

/** Main thread to I/O thread. */
export type IoCommand =
  | {
      readonly type: "attemptStarted";
      readonly epoch: Epoch;
      readonly attempt: AttemptNumber;
      readonly taskManagerId: string;
      /** Store directory of the job: snapshots go below it. */
      readonly jobDir: string;
      /** Store directory that restored parts are relative to. */
      readonly restoreDir: string;
      /** URI of the store that it is in; null: the job's own. */
      readonly restoreStore: string | null;
      /** Subtasks of this attempt that will submit snapshots from here. */
      readonly subtaskCount: number;
      readonly restoredCheckpointId: CheckpointId | null;
    }
  /** The subtask takes part in no further checkpoint. */
  | {
      readonly type: "subtaskFinished";
      readonly epoch: Epoch;
      readonly attempt: AttemptNumber;
      readonly subtask: SubtaskId;
    }
  /** Its uploads are given up. */
  | { readonly type: "attemptEnded"; readonly epoch: Epoch; readonly attempt: AttemptNumber }
  | { readonly type: "checkpointCompleted"; readonly checkpointId: CheckpointId }
  | { readonly type: "checkpointAborted"; readonly checkpointId: CheckpointId }
  /** Which copies lie here, by their paths in the store? Not verified. */
  | { readonly type: "listLocalCopies"; readonly requestId: number }
  | {
      readonly type: "findLocalCopies";
      readonly requestId: number;
      readonly jobDir: string;
      readonly objects: readonly string[];
    }
  | {
      readonly type: "repairObjects";
      readonly requestId: number;
      readonly jobDir: string;
      readonly objects: readonly string[];
    };

/** I/O thread to main thread. */
export type IoEvent =
  | { readonly type: "acknowledged"; readonly ack: CheckpointAck }
  | { readonly type: "declined"; readonly decline: CheckpointDecline }
  | { readonly type: "objectDamaged"; readonly object: string; readonly reason: string }
  | { readonly type: "objects"; readonly requestId: number; readonly objects: readonly string[] }
  | { readonly type: "requestFailed"; readonly requestId: number; readonly failure: FailureJson };
