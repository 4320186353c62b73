// A savepoint's directory: who owns it, and its end.
//
//   {savepoint}/_metadata               written last when it is taken, deleted last when it is disposed of
//   {savepoint}/x-...                   its packs
//   {savepoint}/CLAIM-{lineage}         one frame of kind savepoint-claim, JSON of SavepointClaim; {lineage} is that of the savepoint
//   {savepoint}/DISPOSAL-{random}       an empty object: somebody wants to delete the savepoint. One for each who does
//
// Invariants (tests cite them):
//   SF1. At most one claim of a savepoint succeeds: create-if-absent of one name decides (docs/design/0010-savepoints.md).
//   SF2. Nothing is deleted that cannot be parsed, and nothing whose name Sluice does not write.
//   SF3. Disposal condemns first (a mark of its own), then looks whether anybody needs it, then deletes; whoever restores records
//        that it needs it first, then looks for such marks. Whatever the order, one of the two sees the other. Nobody takes back
//        another's mark, so two disposals at once do not expose each other.
//   SF4. A disposal that was interrupted can be repeated: `_metadata` goes last.
//
// Not here: which jobs need a savepoint (origin.ts), taking one (coordinator-shell.ts).

import { Failure } from "@sluice/kit";
import type { ObjectStore, Rng, Timers } from "@sluice/kit/env";
import type { CheckpointMetadata } from "../model/index.ts";
import { readFrame, writeFrame } from "./frame.ts";
import { type CheckpointPlace, directoryOfMetadata, uriOf } from "./location.ts";
import { readCheckpointMetadata } from "./metadata.ts";
import { retryStorage } from "./storage-retry.ts";

const CLAIM_VERSION = 1;
const DISPOSAL_PREFIX = "DISPOSAL-";
const OWN_NAME = /^(?:x-\d+\.\d+\.[^/]+|CLAIM-[^/]+|DISPOSAL-[0-9a-f]+)$/u;

/** What is said of a savepoint that is about to be deleted. */
export const BEING_DISPOSED = "is being disposed of";

/** Who owns a savepoint. */
export interface SavepointClaim {
  /** `disposal`: it is about to be deleted. Only older versions wrote that; now there are marks. */
  readonly by: "job" | "disposal";
  /** `{namespace}/{job}` of the job that owns it. */
  readonly jobDir: string;
  readonly uid: string;
}

export interface SavepointIo {
  readonly env: { readonly timers: Timers; readonly rng: Rng };
  readonly signal: AbortSignal;
}

/** Owner of a savepoint, or undefined. An unreadable claim belongs to somebody: SNAPSHOT_DAMAGED. */
export async function readClaim(
  place: CheckpointPlace,
  metadata: Pick<CheckpointMetadata, "lineage">,
  { env, signal }: SavepointIo,
): Promise<SavepointClaim | undefined> {
  const path = claimPath(place, metadata);
  const bytes = await retryStorage(env, signal, "savepoint-claim", () => place.store.get(path, signal));
  if (bytes === undefined) return undefined;
  const frame = readFrame("savepoint-claim", bytes);
  if (frame.type === "ok" && frame.version === CLAIM_VERSION) return frame.json as SavepointClaim;
  throw new Failure("SNAPSHOT_DAMAGED", {
    retry: "never",
    message: `${uriOf(place.store, path)}, which says who owns the savepoint, cannot be read`,
    remedy: "find out which job has claimed it; without one, delete this object",
  });
}

/** SF1. Returns the owner: the one that was given when the claim is new, or was its own before. */
export async function claimSavepoint(
  place: CheckpointPlace,
  metadata: Pick<CheckpointMetadata, "lineage">,
  options: SavepointIo & { readonly claim: SavepointClaim },
): Promise<SavepointClaim> {
  const { claim, env, signal } = options;
  const bytes = writeFrame("savepoint-claim", CLAIM_VERSION, claim);
  for (;;) {
    const outcome = await retryStorage(env, signal, "savepoint-claim", () =>
      place.store.putIfAbsent(claimPath(place, metadata), bytes, signal),
    );
    if (outcome === "created") return claim;
    const found = await readClaim(place, metadata, options);
    if (found !== undefined) return found; // unknown, and not there: the same bytes again
  }
}

/** SF3: marks the savepoint for deletion, under a name that nobody else uses. Path of the mark. */
export async function markDisposal(place: CheckpointPlace, { env, signal }: SavepointIo): Promise<string> {
  const random = [env.rng.u32(), env.rng.u32()].map((word) => word.toString(16).padStart(8, "0")).join("");
  const path = `${directoryOfMetadata(place.metadataPath)}${DISPOSAL_PREFIX}${random}`;
  const put = async (): Promise<void> => {
    if ((await place.store.put(path, new Uint8Array(), signal)) === "stored") return;
    throw new Failure("STORAGE_UNAVAILABLE", {
      retry: "backoff",
      message: `${uriOf(place.store, path)}: outcome unknown`,
    });
  };
  await retryStorage(env, signal, "savepoint-mark", put);
  return path;
}

/** Takes a mark of one's own back: the savepoint is needed. */
export async function releaseMark(place: CheckpointPlace, path: string, { env, signal }: SavepointIo): Promise<void> {
  await retryStorage(env, signal, "savepoint-mark", () => place.store.remove(path, signal));
}

/** Whether somebody is about to delete it, or began to and was interrupted (SF3, SF4). */
export async function isBeingDisposed(
  place: CheckpointPlace,
  metadata: Pick<CheckpointMetadata, "lineage">,
  { env, signal }: SavepointIo,
): Promise<boolean> {
  const prefix = `${directoryOfMetadata(place.metadataPath)}${DISPOSAL_PREFIX}`;
  const marks = await retryStorage(env, signal, "savepoint-list", () => place.store.list(prefix, signal));
  return marks.length > 0 || (await readClaim(place, metadata, { env, signal }))?.by === "disposal";
}

export function isSameClaim(a: SavepointClaim, b: SavepointClaim): boolean {
  return a.by === b.by && a.jobDir === b.jobDir && a.uid === b.uid;
}

export function describeClaim(claim: SavepointClaim): string {
  return claim.by === "disposal" ? BEING_DISPOSED : `was claimed by job ${claim.jobDir} (uid ${claim.uid})`;
}

/** `_metadata` of a savepoint. Failure INPUT_NOT_FOUND, SNAPSHOT_DAMAGED, or CONFIG_INVALID for a checkpoint (SF2). */
export async function readSavepoint(place: CheckpointPlace, { env, signal }: SavepointIo): Promise<CheckpointMetadata> {
  const { store, metadataPath } = place;
  const where = uriOf(store, metadataPath);
  const bytes = await retryStorage(env, signal, "savepoint-read", () => store.get(metadataPath, signal));
  if (bytes === undefined) {
    throw new Failure("INPUT_NOT_FOUND", {
      retry: "never",
      message: `there is no savepoint: ${where} does not exist`,
      remedy: "name the directory of a savepoint",
    });
  }
  const content = readCheckpointMetadata(bytes);
  if (content.type !== "ok") {
    throw new Failure(content.type === "unsupported" ? "FORMAT_UNSUPPORTED" : "SNAPSHOT_DAMAGED", {
      retry: "never",
      message: `${where} cannot be read (${content.reason}), so nothing beside it is deleted`,
      remedy: "delete the directory by hand if it is of no use",
    });
  }
  if (content.metadata.kind === "savepoint") return content.metadata;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `${where} belongs to a checkpoint: its job deletes it, nobody else`,
    remedy: "name a savepoint; `sluice store` looks after the checkpoints of jobs that have ended",
  });
}

/** Deletes a savepoint (SF2, SF4), after it was condemned. `mayDelete` is asked before each object. False: it said no. */
export async function deleteSavepoint(
  place: CheckpointPlace,
  metadata: CheckpointMetadata,
  options: SavepointIo & { readonly mayDelete: () => boolean },
): Promise<boolean> {
  const { env, signal, mayDelete } = options;
  const { store, metadataPath } = place;
  const directory = directoryOfMetadata(metadataPath);
  const referenced = new Set(metadata.vertices.flatMap((v) => v.subtasks.flatMap((s) => s.parts.map((p) => p.object))));
  const listed = await retryStorage(env, signal, "savepoint-list", () => store.list(directory, signal));
  const names = listed.map(({ path }) => path.slice(directory.length));
  const victims = names.filter((name) => referenced.has(name) || OWN_NAME.test(name));
  const isSign = (name: string): boolean => name.startsWith("CLAIM-") || name.startsWith(DISPOSAL_PREFIX);
  // Claims and marks keep others away to the end, and `_metadata` lets this be repeated.
  const inOrder = [...victims.filter((name) => !isSign(name)), "_metadata", ...victims.filter(isSign)];
  for (const name of inOrder) {
    if (!mayDelete()) return false;
    await retryStorage(env, signal, "savepoint-remove", () => store.remove(`${directory}${name}`, signal));
  }
  return true;
}

function claimPath(place: CheckpointPlace, metadata: Pick<CheckpointMetadata, "lineage">): string {
  return `${directoryOfMetadata(place.metadataPath)}CLAIM-${encodeURIComponent(metadata.lineage)}`;
}

/** A store that a process may have opened by another name: where a `_metadata` lies, comparable. */
export function identityOf(store: Pick<ObjectStore, "uri">, metadataPath: string): string {
  return uriOf(store, metadataPath).replace(/^s3[ap]:/u, "s3:");
}
