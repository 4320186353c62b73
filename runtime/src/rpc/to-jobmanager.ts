// What a TaskManager tells its JobManager.
//
// Invariants:
//   TJ1. Whatever concerns tasks names epoch and attempt: what an older attempt says late changes nothing.
//
// Not here: how messages travel (peer.ts).

import type { FailureJson } from "@sluice/kit";
import type { CheckpointDecline } from "../checkpoint/index.ts";
import type { AttemptNumber, CheckpointAck, Epoch, SubtaskId, TaskRestored, TaskState } from "../model/index.ts";
import { ack, attempt, checkpointId, epoch, failure, subtask } from "./common.ts";
import { count, list, nullable, number, oneOf, optional, record, text, type, variants } from "./shape.ts";
import type { Shape } from "./shape.ts";

/** First request after the handshake. */
export interface RegisterRequest {
  readonly type: "register";
  readonly taskManagerId: string;
  /** Differs for every start of the process. */
  readonly instanceId: string;
  readonly slotCount: number;
  readonly dataAddress: string;
  readonly metricsAddress: string;
  readonly processId: number;
  /** Local copies of packs, by their paths in the store: its slots are preferred for what they hold. Not verified. */
  readonly localCopies: readonly string[];
  readonly hardware: {
    readonly cpuCores: number;
    readonly physicalMemoryBytes: number;
    /** Largest heap that its V8 isolates may use together. */
    readonly heapLimitBytes: number;
  };
}

/** One-way messages. */
export type TaskManagerMessage =
  | {
      readonly type: "taskState";
      readonly epoch: Epoch;
      readonly attempt: AttemptNumber;
      readonly subtask: SubtaskId;
      readonly state: TaskState;
      readonly failure?: FailureJson | undefined;
      readonly restored?: TaskRestored | undefined;
      /** Of a task that has ended: its last figures, which no heartbeat may tell any more. */
      readonly counters?: Readonly<Record<string, number>> | undefined;
    }
  | { readonly type: "acknowledgeCheckpoint"; readonly ack: CheckpointAck }
  | { readonly type: "declineCheckpoint"; readonly decline: CheckpointDecline }
  /** All threads of the attempt are gone: its slots are free. */
  | { readonly type: "attemptEnded"; readonly epoch: Epoch; readonly attempt: AttemptNumber }
  /** An object of the restored checkpoint has other contents than its checksum says, and there is no local copy here. */
  | { readonly type: "objectDamaged"; readonly object: string; readonly reason: string };

/** Figures of one task, by name (task/counters). */
export interface TaskReport {
  readonly subtask: SubtaskId;
  readonly counters: Readonly<Record<string, number>>;
}

/** Goes with every heartbeat. */
export interface TaskManagerReport {
  /** What it runs; null: nothing. */
  readonly running: { readonly epoch: Epoch; readonly attempt: AttemptNumber } | null;
  readonly tasks: readonly TaskReport[];
  /** Tasks that have been in one step for long; user code holds them. */
  readonly stuck: readonly { readonly subtask: SubtaskId; readonly sinceMs: number }[];
  readonly residentBytes: number;
  readonly freeMemoryBytes: number;
  /** Of the process, under Flink's names. */
  readonly metrics: Readonly<Record<string, number>>;
}

export const registerRequest: Shape<RegisterRequest> = record<RegisterRequest>({
  type: type("register"),
  taskManagerId: text,
  instanceId: text,
  slotCount: count(),
  dataAddress: text,
  metricsAddress: text,
  processId: count(),
  localCopies: list(text),
  hardware: record<RegisterRequest["hardware"]>({
    cpuCores: number,
    physicalMemoryBytes: number,
    heapLimitBytes: number,
  }),
});

const decline: Shape<CheckpointDecline> = record<CheckpointDecline>({
  checkpointId,
  epoch,
  attempt,
  subtask,
  reason: oneOf("async-failure", "not-ready", "superseded", "storage", "input-ended"),
  message: text,
});

const taskRestored: Shape<TaskRestored> = record<TaskRestored>({
  localParts: count(),
  localBytes: count(),
  storeParts: count(),
  storeBytes: count(),
  readMs: number,
  restoreMs: number,
});

const counters: Shape<Readonly<Record<string, number>>> = {
  problem: (value, at) =>
    typeof value === "object" && value !== null && Object.values(value).every((figure) => typeof figure === "number")
      ? undefined
      : `${at} holds something else than numbers`,
};

type Of<T extends TaskManagerMessage["type"]> = Extract<TaskManagerMessage, { readonly type: T }>;

export const taskManagerMessage: Shape<TaskManagerMessage> = variants<TaskManagerMessage>({
  taskState: record<Of<"taskState">>({
    type: type("taskState"),
    epoch,
    attempt,
    subtask,
    state: oneOf("INITIALIZING", "RUNNING", "DRAINED", "FINISHED", "CANCELED", "FAILED"),
    failure: optional(failure),
    restored: optional(taskRestored),
    counters: optional(counters),
  }),
  acknowledgeCheckpoint: record<Of<"acknowledgeCheckpoint">>({ type: type("acknowledgeCheckpoint"), ack }),
  declineCheckpoint: record<Of<"declineCheckpoint">>({ type: type("declineCheckpoint"), decline }),
  attemptEnded: record<Of<"attemptEnded">>({ type: type("attemptEnded"), epoch, attempt }),
  objectDamaged: record<Of<"objectDamaged">>({ type: type("objectDamaged"), object: text, reason: text }),
});

export const taskManagerReport: Shape<TaskManagerReport> = record<TaskManagerReport>({
  running: nullable(record<{ readonly epoch: Epoch; readonly attempt: AttemptNumber }>({ epoch, attempt })),
  tasks: list(record<TaskReport>({ subtask, counters })),
  stuck: list(record<TaskManagerReport["stuck"][number]>({ subtask, sinceMs: number })),
  residentBytes: number,
  freeMemoryBytes: number,
  metrics: counters,
});
