// Shapes of what both directions carry: subtasks, failures, parts, acknowledgements.

import type { FailureJson } from "@sluice/kit";
import type {
  AttemptNumber,
  Barrier,
  CheckpointAck,
  CheckpointId,
  Epoch,
  PartHandle,
  SavepointTarget,
  SubtaskCheckpointStats,
  SubtaskId,
} from "../model/index.ts";
import { count, flag, list, number, oneOf, optional, pair, record, text } from "./shape.ts";
import type { Fields, Shape } from "./shape.ts";

/** Grows with every incompatible change of a message; peers of different versions refuse each other. */
export const RPC_VERSION = 2;

export const checkpointId = count<CheckpointId>();
export const epoch = count<Epoch>();
export const attempt = count<AttemptNumber>();

export const subtask: Shape<SubtaskId> = record<SubtaskId>({ vertexId: text, subtaskIndex: count() });

export const failure: Shape<FailureJson> = record<FailureJson>({
  // A newer peer may know codes that this one does not: failureFromJson keeps them readable.
  code: text as Shape<FailureJson["code"]>,
  retry: oneOf("now", "backoff", "never"),
  message: text,
  remedy: text,
  stack: text,
});

export const partFields: Fields<PartHandle> = {
  uid: text,
  stateName: text,
  kind: oneOf("keyed", "operator"),
  keyGroups: optional(pair(count())),
  mode: optional(oneOf("split", "union", "broadcast")),
  itemCount: optional(count()),
  object: text,
  offset: count(),
  lengthBytes: count(),
  crc32c: count(),
};

export const part: Shape<PartHandle> = record<PartHandle>(partFields);

export const barrier: Shape<Barrier> = record<Barrier>({
  checkpointId,
  timestampMs: number,
  isFinal: flag,
  savepoint: optional(record<SavepointTarget>({ location: text, stops: flag })),
});

const stats: Shape<SubtaskCheckpointStats> = record<SubtaskCheckpointStats>({
  startDelayMs: number,
  alignmentMs: number,
  syncMs: number,
  asyncMs: number,
  stateSizeBytes: number,
});

export const ack: Shape<CheckpointAck> = record<CheckpointAck>({
  checkpointId,
  epoch,
  attempt,
  subtask,
  parts: list(part),
  finished: flag,
  stats,
});
