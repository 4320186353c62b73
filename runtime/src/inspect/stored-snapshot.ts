// A checkpoint or savepoint as it lies in a store: its metadata, the states in it, and their parts. Needs no job.
//
// Invariants:
//   SS1. Nothing but `_metadata` is read before somebody asks for more.
//   SS2. Objects are relative to what `base` says: the parent of the directory, or the directory itself.
//
// Not here: bytes of parts (stored-part.ts), which snapshots there are (listing.ts).

import { Failure } from "@sluice/kit";
import type { ObjectStore } from "@sluice/kit/env";
import { readCheckpointMetadata } from "../checkpoint/index.ts";
import type { CheckpointMetadata } from "../model/index.ts";
import type { PartDescription } from "../state/index.ts";
import { StoredPart } from "./stored-part.ts";

/** One state of one operator over all subtasks. */
export interface StoredState {
  readonly uid: string;
  readonly stateName: string;
  readonly kind: "keyed" | "operator";
  readonly parallelism: number;
  readonly maxParallelism: number;
  readonly parts: readonly StoredPart[];
  readonly sizeBytes: number;
  /** Entries or items; undefined when a part does not say. */
  readonly itemCount: number | undefined;
}

export interface StoredSnapshot {
  readonly store: ObjectStore;
  /** Of `_metadata`, without a slash at its end. */
  readonly directory: string;
  readonly metadata: CheckpointMetadata;
  readonly metadataBytes: number;
  /** In the order of the vertices, operators and names. */
  readonly states: readonly StoredState[];
}

/**
 * Reads the snapshot whose `_metadata` lies in `directory`.
 * @throws Failure INPUT_NOT_FOUND, SNAPSHOT_DAMAGED, FORMAT_UNSUPPORTED, STORAGE_*
 */
export async function openSnapshot(store: ObjectStore, directory: string): Promise<StoredSnapshot> {
  const path = `${directory}/_metadata`;
  const bytes = await store.get(path);
  if (bytes === undefined) {
    throw new Failure("INPUT_NOT_FOUND", {
      retry: "never",
      message: `there is no checkpoint or savepoint ${store.uri}/${directory}: it has no _metadata`,
      remedy: "sluice snapshot ls shows what there is",
    });
  }
  const content = readCheckpointMetadata(bytes);
  if (content.type === "ok") {
    const states = statesOf(store, directory, content.metadata);
    return { store, directory, metadata: content.metadata, metadataBytes: bytes.length, states };
  }
  throw new Failure(content.type === "damaged" ? "SNAPSHOT_DAMAGED" : "FORMAT_UNSUPPORTED", {
    retry: "never",
    message: `${store.uri}/${path} cannot be read: ${content.reason}`,
    remedy:
      content.type === "damaged"
        ? "use another checkpoint or savepoint, or put the object back from a copy"
        : "read it with the release that wrote it, or a newer one",
  });
}

/** Directory that the objects of all parts are relative to (SS2). */
function objectsBase(directory: string, metadata: CheckpointMetadata): string {
  if (metadata.base === "self") return `${directory}/`;
  const at = directory.lastIndexOf("/");
  return at < 0 ? "" : directory.slice(0, at + 1);
}

function statesOf(store: ObjectStore, directory: string, metadata: CheckpointMetadata): readonly StoredState[] {
  const base = objectsBase(directory, metadata);
  const states = new Map<string, Omit<StoredState, "sizeBytes" | "itemCount" | "parts"> & { parts: StoredPart[] }>();
  for (const vertex of metadata.vertices) {
    const { parallelism, maxParallelism } = vertex;
    const handles = vertex.subtasks.flatMap(({ subtaskIndex, parts }) =>
      parts.map((handle) => ({ subtaskIndex, handle })),
    );
    for (const { subtaskIndex, handle } of handles) {
      const { uid, stateName, kind } = handle;
      const name = JSON.stringify([uid, kind, stateName]);
      const state = states.get(name) ?? { uid, stateName, kind, parallelism, maxParallelism, parts: [] };
      states.set(name, state);
      state.parts.push(new StoredPart({ store, path: `${base}${handle.object}`, handle, subtaskIndex }));
    }
  }
  return [...states.values()].map((state) => ({
    ...state,
    sizeBytes: state.parts.reduce((sum, { handle }) => sum + handle.lengthBytes, 0),
    itemCount: state.parts.reduce<number | undefined>(
      (sum, { handle }) => (sum === undefined || handle.itemCount === undefined ? undefined : sum + handle.itemCount),
      0,
    ),
  }));
}

/** What a state says of itself: the description of its first part. All subtasks of a job write the same. */
export async function describeState(state: StoredState): Promise<PartDescription> {
  const [part] = state.parts;
  if (part === undefined) throw new Failure("INTERNAL", { retry: "never", message: "a state has at least one part" });
  return (await part.header()).description;
}

/** The state of this name. Failure INPUT_NOT_FOUND that says what there is. */
export function findState(
  snapshot: StoredSnapshot,
  wanted: { readonly uid: string; readonly stateName: string },
): StoredState {
  const { uid, stateName } = wanted;
  const found = snapshot.states.find((state) => state.uid === uid && state.stateName === stateName);
  if (found !== undefined) return found;
  const ofOperator = snapshot.states.filter((state) => state.uid === uid);
  const uids = [...new Set(snapshot.states.map((state) => state.uid))];
  const isKnown = ofOperator.length > 0;
  throw new Failure("INPUT_NOT_FOUND", {
    retry: "never",
    message: isKnown
      ? `operator uid ${uid} has no state "${stateName}" in ${snapshot.directory}`
      : `no operator uid ${uid} has state in ${snapshot.directory}`,
    remedy: isKnown
      ? `Its states are: ${ofOperator.map((state) => state.stateName).join(", ")}.`
      : uids.length === 0
        ? "There is no state at all in it."
        : `There are: ${uids.join(", ")}.`,
  });
}
