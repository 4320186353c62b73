// Recovery: reads and verifies the head, and decides what a damaged one means.
//
// Invariants: CL2, CL3, CL6 of types.ts, and
//   RC1. Only the head is restored; nothing is ever found by listing `chk-*`.
//   RC2. Going below the head repeats or hides published output: only if every sink can retract, or the user said so, and only
//        through a record of the log.
//   RC3. "Not there" is what the store said; a failed read is a failure, never damage.
//
// Not here: repairing from local copies (the JobManager asks the TaskManagers, then recovers again), handing state out (assign.ts).

import { assert, Failure } from "@sluice/kit";
import type { ObjectStore, Rng, Timers } from "@sluice/kit/env";
import { createHash } from "node:crypto";
import type { CheckpointId, CheckpointMetadata } from "../model/index.ts";
import type { CommitChange, CommitLog } from "./commit-log.ts";
import { joinPath, objectsDirectory, placeOf, uriOf } from "./location.ts";
import type { CheckpointPlace, StoreOpener } from "./location.ts";
import { METADATA_VERSION, readCheckpointMetadata } from "./metadata.ts";
import { retryStorage } from "./storage-retry.ts";
import type { CheckpointRef, CommitRecord, RecordedOverride } from "./types.ts";

/** The key that allows a replay below the head. */
export const ALLOW_REPLAY_KEY = "execution.state-recovery.allow-replay";
const STAT_CONCURRENCY = 16;

/** One object of a checkpoint that is not what the metadata says. `object` is a store path. */
export interface DamagedObject {
  readonly object: string;
  readonly kind: "metadata" | "part";
  readonly reason: string;
}

export interface Damage {
  readonly ref: Pick<CheckpointRef, "id" | "path">;
  readonly objects: readonly DamagedObject[];
  /** Undefined when the metadata itself is damaged. */
  readonly metadata: CheckpointMetadata | undefined;
}

export type LoadedCheckpoint =
  | { readonly type: "ok"; readonly metadata: CheckpointMetadata; readonly place: CheckpointPlace }
  | { readonly type: "damaged"; readonly damage: Damage };

/** Reads `_metadata` and looks at every object it refers to (existence and size; contents are checked by who reads them). */
export async function loadCheckpoint(options: {
  readonly store: ObjectStore;
  readonly openStore: StoreOpener;
  readonly ref: Pick<CheckpointRef, "id" | "path"> & { readonly sha256?: string };
  readonly env: { readonly timers: Timers; readonly rng: Rng };
  readonly signal: AbortSignal;
}): Promise<LoadedCheckpoint> {
  const { ref, env, signal } = options;
  const place = await placeOf(ref.path, options);
  const { store, metadataPath } = place;
  const bytes = await retryStorage(env, signal, "checkpoint-read", () => store.get(metadataPath, signal)); // RC3
  const broken = (reason: string): LoadedCheckpoint => ({
    type: "damaged",
    damage: { ref, objects: [{ object: metadataPath, kind: "metadata", reason }], metadata: undefined },
  });
  if (bytes === undefined) return broken("missing");
  if (ref.sha256 !== undefined && createHash("sha256").update(bytes).digest("hex") !== ref.sha256) {
    return broken("its sha256 is not the one in the commit log");
  }
  const content = readCheckpointMetadata(bytes);
  if (content.type === "unsupported") {
    throw new Failure("FORMAT_UNSUPPORTED", {
      retry: "never",
      message: `${uriOf(store, metadataPath)} cannot be read: ${content.reason}`,
      remedy:
        content.version < METADATA_VERSION
          ? "version 0 was never released as stable: start without this state (--new-lineage), or go on with the release that wrote it"
          : "go on with the release that wrote it, or a newer one",
    });
  }
  if (content.type === "damaged") return broken(content.reason);
  const { metadata } = content;
  const directory = objectsDirectory(place, metadata);
  const objects = await damagedParts({ store, directory, metadata, env, signal });
  if (objects.length === 0) return { type: "ok", metadata, place };
  return { type: "damaged", damage: { ref, objects, metadata } };
}

async function damagedParts(options: {
  readonly store: ObjectStore;
  readonly directory: string;
  readonly metadata: CheckpointMetadata;
  readonly env: { readonly timers: Timers; readonly rng: Rng };
  readonly signal: AbortSignal;
}): Promise<readonly DamagedObject[]> {
  const { store, directory, metadata, env, signal } = options;
  const wanted = new Map<string, number>();
  for (const vertex of metadata.vertices) {
    for (const subtask of vertex.subtasks) {
      for (const part of subtask.parts) {
        const path = joinPath(directory, part.object);
        wanted.set(path, Math.max(wanted.get(path) ?? 0, part.offset + part.lengthBytes));
      }
    }
  }
  const entries = [...wanted];
  const damaged: DamagedObject[] = [];
  for (let i = 0; i < entries.length; i += STAT_CONCURRENCY) {
    const infos = await Promise.all(
      entries.slice(i, i + STAT_CONCURRENCY).map(async ([object, bytesMin]) => {
        const info = await retryStorage(env, signal, "checkpoint-stat", () => store.stat(object, signal));
        return { object, bytesMin, info };
      }),
    );
    for (const { object, bytesMin, info } of infos) {
      if (info === undefined) damaged.push({ object, kind: "part", reason: "missing" });
      else if (info.sizeBytes < bytesMin) {
        damaged.push({ object, kind: "part", reason: `${info.sizeBytes} bytes where ${bytesMin} were written` });
      }
    }
  }
  return damaged;
}

/** What somebody who recovers knows besides the store. */
export interface DamageOptions {
  /** Store paths of objects that a TaskManager holds a verified local copy of. */
  readonly localCopies: ReadonlySet<string>;
  readonly allSinksCanRetract: boolean;
  /** `execution.state-recovery.allow-replay`. */
  readonly allowReplay: CheckpointId | undefined;
  /** Retained checkpoints that were looked at and are whole. */
  readonly whole: readonly CheckpointRef[];
}

export type DamageDecision =
  | { readonly type: "repair"; readonly objects: readonly string[] }
  | { readonly type: "rollback"; readonly to: CheckpointRef; readonly reason: "all-sinks-retract" | "allow-replay" }
  | { readonly type: "stop"; readonly failure: Failure };

/** Pure: the rule for a damaged newest checkpoint (protocols 1; RC2). */
export function decideDamaged(damage: Damage, options: DamageOptions): DamageDecision {
  const isRepairable = damage.objects.every((d) => d.kind === "part" && options.localCopies.has(d.object));
  if (isRepairable) return { type: "repair", objects: damage.objects.map((d) => d.object) };
  const older = options.whole.filter((ref) => ref.id < damage.ref.id).sort((a, b) => a.id - b.id);
  const newest = older.at(-1);
  if (options.allSinksCanRetract && newest !== undefined)
    return { type: "rollback", to: newest, reason: "all-sinks-retract" };
  const allowed = older.find((ref) => ref.id === options.allowReplay);
  if (allowed !== undefined) return { type: "rollback", to: allowed, reason: "allow-replay" };
  return { type: "stop", failure: damageFailure(damage, options, older) };
}

function damageFailure(damage: Damage, options: DamageOptions, older: readonly CheckpointRef[]): Failure {
  const shown = damage.objects.slice(0, 3).map((d) => `${d.object} (${d.reason})`);
  const more = damage.objects.length > shown.length ? ` and ${damage.objects.length - shown.length} more` : "";
  const ids = older.map((ref) => ref.id).join(", ");
  const ignored =
    options.allowReplay === undefined
      ? ""
      : `; ${ALLOW_REPLAY_KEY} names ${options.allowReplay}, which is not one of the whole older ones`;
  return new Failure("SNAPSHOT_DAMAGED", {
    retry: "never",
    message: `checkpoint ${damage.ref.id}, the newest, is damaged: ${shown.join(", ")}${more}${ignored}`,
    remedy:
      "its output is published already, so an older checkpoint would repeat it. Either restore the damaged objects from a copy, or " +
      (older.length === 0
        ? "start with --new-lineage: no older checkpoint is whole"
        : `accept repeated output by setting ${ALLOW_REPLAY_KEY} to one of the whole older checkpoints: ${ids}`),
  });
}

/**
 * The record that makes an older retained checkpoint the head again (CL6). What lay above it is condemned. A drain is taken back with its
 * savepoint: the older checkpoint's input has not ended, so the job stops with it and can go on, instead of being finished without the rest.
 */
export function regressionChange(
  previous: CommitRecord,
  to: CheckpointRef,
  reason: Extract<RecordedOverride, { readonly type: "head-regression" }>["reason"],
): CommitChange {
  assert(previous.head !== null && previous.head.id > to.id, "CL6: a regression goes below the head");
  assert(
    previous.retained.some((ref) => ref.id === to.id),
    "CL3: only a retained checkpoint becomes the head again",
  );
  const dropped = previous.retained.filter((ref) => ref.id > to.id).map((ref) => ref.id);
  // A second regression before the next commit: what the first one hid stays hidden.
  const standing = previous.override?.type === "head-regression" ? previous.override.fromId : previous.head.id;
  const fromId = standing > previous.head.id ? standing : previous.head.id;
  return {
    head: to,
    ...(previous.jobState === "draining" ? { jobState: "stopping" } : {}),
    retained: previous.retained.filter((ref) => ref.id <= to.id),
    condemned: [...new Set<CheckpointId>([...previous.condemned, ...dropped, previous.head.id])].sort((a, b) => a - b),
    override: { type: "head-regression", fromId, toId: to.id, reason },
  };
}

export type Recovery =
  /** No checkpoint yet: start from the beginning. */
  | { readonly type: "empty" }
  | {
      readonly type: "restore";
      readonly metadata: CheckpointMetadata;
      readonly place: CheckpointPlace;
      readonly isOrigin: boolean;
      /**
       * Set after a regression of the head, until the next commit: before the first record every sink that can retract hides what
       * it published, or could still publish, for checkpoints in (aboveId, throughId]. Hiding twice is harmless, also by a zombie.
       */
      readonly retract: { readonly aboveId: CheckpointId; readonly throughId: CheckpointId } | null;
    }
  /** Have these objects put back from local copies (same path, same bytes), then recover again. */
  | { readonly type: "repair"; readonly objects: readonly string[] };

/**
 * What to restore, for a log that was claimed: the head, or the origin of a new lineage without a head. A damaged head is repaired,
 * replaced through a record of the log, or rejected with SNAPSHOT_DAMAGED (decideDamaged).
 */
export async function recover(options: {
  readonly store: ObjectStore;
  readonly openStore: StoreOpener;
  readonly log: CommitLog;
  readonly env: { readonly timers: Timers; readonly rng: Rng };
  readonly localCopies: ReadonlySet<string>;
  readonly allSinksCanRetract: boolean;
  readonly allowReplay: CheckpointId | undefined;
  readonly signal: AbortSignal;
}): Promise<Recovery> {
  const { store, openStore, log, env, signal } = options;
  const { head, origin, retained } = log.head;
  if (head === null) return origin === null ? { type: "empty" } : loadOrigin({ store, openStore, origin, env, signal });
  const loaded = await loadCheckpoint({ store, openStore, ref: head, env, signal });
  if (loaded.type === "ok")
    return {
      type: "restore",
      metadata: loaded.metadata,
      place: loaded.place,
      isOrigin: false,
      retract: retractionOf(log.head),
    };
  // A newer JobManager may have deleted what this one takes for the newest checkpoint: fenced is not damaged.
  await retryStorage(env, signal, "commit-log-verify", () => log.verifyOwnership(signal));
  const whole: CheckpointRef[] = [];
  const loadedOf = new Map<CheckpointId, Extract<LoadedCheckpoint, { readonly type: "ok" }>>();
  for (const ref of retained) {
    if (ref.id >= head.id) continue;
    const older = await loadCheckpoint({ store, openStore, ref, env, signal });
    if (older.type === "damaged") continue;
    whole.push(ref);
    loadedOf.set(ref.id, older);
  }
  const decision = decideDamaged(loaded.damage, { ...options, whole });
  if (decision.type === "stop") throw decision.failure;
  if (decision.type === "repair") return decision;
  const outcome = await log.append((previous) => regressionChange(previous, decision.to, decision.reason), signal);
  if (outcome.type === "failed") throw outcome.failure;
  const to = loadedOf.get(decision.to.id);
  assert(to !== undefined, "a rollback goes to a checkpoint that was read");
  const { metadata, place } = to;
  return { type: "restore", metadata, place, isOrigin: false, retract: retractionOf(log.head) };
}

/** The range of {@link Recovery}'s `retract`, for whoever restores the head of this record by other means. */
export function retractionOf(record: CommitRecord): Extract<Recovery, { readonly type: "restore" }>["retract"] {
  const { override } = record;
  return override?.type === "head-regression" ? { aboveId: override.toId, throughId: override.fromId } : null;
}

/** Where somebody who starts a new lineage begins. */
export interface OriginOptions {
  readonly store: ObjectStore;
  readonly openStore: StoreOpener;
  readonly origin: string;
  readonly env: { readonly timers: Timers; readonly rng: Rng };
  readonly signal: AbortSignal;
}

/** Reads the checkpoint or savepoint of another lineage. Rejects with SNAPSHOT_DAMAGED when nobody could start from it. */
export async function loadOrigin(options: OriginOptions): Promise<Extract<Recovery, { readonly type: "restore" }>> {
  const ref = { id: 0 as CheckpointId, path: options.origin };
  const loaded = await loadCheckpoint({ ...options, ref });
  if (loaded.type === "ok") {
    const { metadata, place } = loaded;
    return { type: "restore", metadata, place, isOrigin: true, retract: null };
  }
  const [first] = loaded.damage.objects;
  const { store, metadataPath } = await placeOf(options.origin, options);
  const isAbsent = first?.kind === "metadata" && first.reason === "missing";
  throw new Failure("SNAPSHOT_DAMAGED", {
    retry: "never",
    message: isAbsent
      ? `there is no checkpoint or savepoint to start from: ${uriOf(store, metadataPath)} does not exist`
      : `the checkpoint to start from is damaged: ${uriOf(store, first?.object ?? metadataPath)}: ${first?.reason ?? "unreadable"}`,
    remedy: "name another checkpoint or savepoint with --from, or start with --new-lineage alone",
  });
}
