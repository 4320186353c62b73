// A checkpoint with nothing in it, and a job of one task, for tests that are about something else.

import type { AttemptNumber, CheckpointId, CheckpointMetadata, Epoch } from "../model/index.ts";
import type { CheckpointVertex } from "./types.ts";

/** Metadata of a checkpoint without parts. */
export function emptyMetadata(checkpointId: CheckpointId): CheckpointMetadata {
  return {
    checkpointId,
    kind: "checkpoint",
    base: "job",
    lineage: "l",
    epoch: 1 as Epoch,
    attempt: 0 as AttemptNumber,
    planDigest: "p",
    timestampMs: 0,
    isFinal: false,
    vertices: [],
  };
}

/** The vertex of {@link ONE_TASK}. */
export const ONE_VERTEX: CheckpointVertex = {
  vertexId: "v",
  parallelism: 1,
  maxParallelism: 1,
  derivesMaxParallelism: false,
  isKeyed: false,
  uids: ["v"],
  inputVertexIds: [],
};
export const ONE_TASK = { vertexId: "v", subtaskIndex: 0 };
