// What lies in a job's directory of the store, object by object, and what of it is garbage. Pure.
//
// Invariants (tests cite them):
//   SV1. Every object is in exactly one class.
//   SV2. Only a name that Sluice writes can be garbage; everything else is foreign and never touched.
//   SV3. Metadata of a checkpoint that is kept and that cannot be read stops everything: then nothing is garbage (G1).
//   SV4. What may still be on its way is no garbage: while the job is active, ids above the head that this epoch was given, and
//        whatever is younger than the quarantine.
//
// Not here: listing, condemning and deleting (store-admin.ts), what a living job deletes by itself (garbage.ts).

import type { ObjectInfo } from "@sluice/kit/env";
import type { CheckpointId, CheckpointMetadata } from "../model/index.ts";
import { commitSeq } from "./commit-record.ts";
import { referencedObjects } from "./metadata.ts";
import { isEnded } from "./start.ts";
import type { CheckpointRef, CommitRecord } from "./types.ts";

/**
 * log: commit records. live: reached from what is kept. condemned: the log gave it up already. inFlight: may still become a
 * checkpoint. quarantined: garbage that is too young to be sure. garbage: nothing needs it. foreign: not written by Sluice, or by a
 * newer one.
 */
export type ObjectClass = "log" | "live" | "condemned" | "inFlight" | "quarantined" | "garbage" | "foreign";

export interface SurveyedObject extends ObjectInfo {
  readonly class: ObjectClass;
  /** Of objects below `chk-{id}/`. */
  readonly checkpointId: CheckpointId | undefined;
}

/** Metadata of a kept checkpoint, or why it cannot be read. */
export interface KeptCheckpoint {
  readonly ref: Pick<CheckpointRef, "id" | "path" | "kind">;
  /** Why it is kept: "head", "retained", "origin", or the holder of its pin. */
  readonly reasons: readonly string[];
  readonly content: CheckpointMetadata | { readonly unreadable: string };
}

export interface Survey {
  readonly objects: readonly SurveyedObject[];
  readonly kept: readonly KeptCheckpoint[];
  /** Set by SV3. */
  readonly blockedBy: string | undefined;
}

/** Names below `chk-{id}/` that this release writes (P2: packs carry epoch, attempt, TaskManager and chance). */
const OWN_NAME = /^chk-(\d+)\/(?:_metadata|x-\d+\.\d+\.[^/]+)$/u;

/** What the log keeps alive in the job's own directory, and why. Expired pins hold nothing. */
export function keptRefs(
  record: CommitRecord,
  wallMs: number,
): ReadonlyMap<string, { readonly ref: CheckpointRef; readonly reasons: readonly string[] }> {
  const kept = new Map<string, { readonly ref: CheckpointRef; readonly reasons: string[] }>();
  const keep = (ref: CheckpointRef, reason: string): void => {
    const entry = kept.get(ref.path) ?? { ref, reasons: [] };
    entry.reasons.push(reason);
    kept.set(ref.path, entry);
  };
  if (record.head !== null) keep(record.head, "head");
  for (const ref of record.retained) keep(ref, "retained");
  for (const pin of record.pins) {
    if (pin.expiresAtMs === null || pin.expiresAtMs > wallMs) keep(pin.ref, `pinned by ${pin.holder}`);
  }
  return kept;
}

/** Sorts every object of the directory into its class (SV1). */
export function survey(options: {
  readonly jobDir: string;
  readonly listed: readonly ObjectInfo[];
  readonly record: CommitRecord;
  readonly kept: readonly KeptCheckpoint[];
  /** Highest id that was given out before the epoch of `record` began: what lies at or below it is no longer on its way. */
  readonly idHighBefore: number;
  readonly quarantineMs: number;
  readonly wallMs: number;
}): Survey {
  const { jobDir, record, kept, wallMs, quarantineMs } = options;
  const unreadable = kept.find(({ content }) => "unreadable" in content);
  const live = new Set<string>();
  for (const { ref, content } of kept) {
    live.add(ref.path);
    if (!("unreadable" in content)) for (const path of referencedObjects(jobDir, content)) live.add(path);
  }
  const condemned = new Set(record.condemned);
  const condemnedObjects = new Set(record.condemnedObjects);
  const headId = record.head?.id ?? 0;
  const classOf = (object: ObjectInfo): Pick<SurveyedObject, "class" | "checkpointId"> => {
    if (commitSeq(jobDir, object.path) !== undefined) return { class: "log", checkpointId: undefined };
    const name = object.path.slice(jobDir.length + 1);
    const match = OWN_NAME.exec(name);
    const checkpointId = match === null ? undefined : (Number(match[1]) as CheckpointId);
    if (live.has(object.path)) return { class: "live", checkpointId };
    if (checkpointId === undefined) return { class: "foreign", checkpointId }; // SV2
    if (condemned.has(checkpointId) || condemnedObjects.has(name)) return { class: "condemned", checkpointId };
    const isActive = !isEnded(record.jobState) && !record.closed;
    if (isActive && checkpointId > headId && checkpointId > options.idHighBefore)
      return { class: "inFlight", checkpointId }; // SV4
    const isYoung = object.modifiedMs > wallMs - quarantineMs;
    if (isYoung || unreadable !== undefined) return { class: "quarantined", checkpointId };
    return { class: "garbage", checkpointId };
  };
  const reason =
    unreadable !== undefined && "unreadable" in unreadable.content
      ? `${unreadable.ref.path}: ${unreadable.content.unreadable}`
      : undefined;
  return {
    objects: options.listed.map((object) => ({ ...object, ...classOf(object) })),
    kept,
    blockedBy: reason,
  };
}
