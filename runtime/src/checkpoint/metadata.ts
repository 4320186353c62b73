// `_metadata` of a checkpoint: names, writer and reader.
//
//   {jobDir}/chk-{id}/_metadata      one frame of kind checkpoint-metadata, JSON of CheckpointMetadata, formatVersion 0
//
// Not here: what the parts hold (state/), who may write it (coordinator-shell.ts).

import type { CheckpointId, CheckpointMetadata } from "../model/index.ts";
import { readFrame, writeFrame } from "./frame.ts";

const METADATA_VERSION = 0;

export type MetadataContent =
  | { readonly type: "ok"; readonly metadata: CheckpointMetadata }
  | { readonly type: "unsupported"; readonly version: number }
  | { readonly type: "damaged"; readonly reason: string };

/** Directory of checkpoint `id`, with a trailing slash. Everything exclusive to it lies below (P2). */
export function checkpointDirectory(jobDir: string, id: CheckpointId): string {
  return `${jobDir}/chk-${id}/`;
}

export function metadataPath(jobDir: string, id: CheckpointId): string {
  return `${checkpointDirectory(jobDir, id)}_metadata`;
}

/** The id in a path below `{jobDir}/chk-{id}/`, or undefined. */
export function checkpointIdOfPath(jobDir: string, path: string): CheckpointId | undefined {
  if (!path.startsWith(`${jobDir}/chk-`)) return undefined;
  const match = /^chk-([0-9]+)(?:\/|$)/u.exec(path.slice(jobDir.length + 1));
  return match === null ? undefined : (Number(match[1]) as CheckpointId);
}

export function writeCheckpointMetadata(metadata: CheckpointMetadata): Uint8Array {
  return writeFrame("checkpoint-metadata", METADATA_VERSION, metadata);
}

export function readCheckpointMetadata(bytes: Uint8Array): MetadataContent {
  const frame = readFrame("checkpoint-metadata", bytes);
  if (frame.type === "damaged") return frame;
  if (frame.version !== METADATA_VERSION) return { type: "unsupported", version: frame.version };
  const json = frame.json as Partial<CheckpointMetadata> | null;
  const isWhole =
    typeof json === "object" &&
    json !== null &&
    Number.isSafeInteger(json.checkpointId) &&
    Array.isArray(json.vertices);
  return isWhole
    ? { type: "ok", metadata: json as CheckpointMetadata }
    : { type: "damaged", reason: "not checkpoint metadata" };
}

/** Store paths of every object that the parts of this checkpoint lie in. */
export function referencedObjects(jobDir: string, metadata: CheckpointMetadata): ReadonlySet<string> {
  const objects = new Set<string>();
  for (const vertex of metadata.vertices) {
    for (const subtask of vertex.subtasks) for (const part of subtask.parts) objects.add(`${jobDir}/${part.object}`);
  }
  return objects;
}
