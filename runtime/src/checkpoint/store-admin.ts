// Looking after the store of jobs that run, rest or are dead: inspect, collect garbage, pin, close, purge.
//
// Everything goes through the commit log, as with the JobManager itself: what is deleted was condemned by a record before, and a
// JobManager that runs meanwhile follows those records (they carry its epoch) or, after `close`, is fenced by one.
//
// Invariants: CL3, CL7, CL8, CL12 of types.ts, SV1-SV4 of survey.ts, and
//   SA1. Nothing is deleted before a record that names it stands; `_metadata` of a checkpoint goes first.
//   SA2. A pin stands only if the same record does not condemn what it holds.
//   SA3. Only a closed job is purged, and its last record stays: the name does not start empty by accident.
//
// Not here: classes of objects (survey.ts), text for people (packages/cli).

import { Failure, toFailure } from "@sluice/kit";
import type { ObjectInfo, ObjectStore, StagedUploads } from "@sluice/kit/env";
import type { CheckpointId } from "../model/index.ts";
import { closeCommitLog, CommitLog, readCommit, type CommitChange, type CommitLogEnv } from "./commit-log.ts";
import { commitSeq, commitsDirectory } from "./commit-record.ts";
import {
  discardUpload,
  listStaged,
  listUploads,
  outputUploads,
  ownUploads,
  type SurveyedUpload,
} from "./incomplete-uploads.ts";
import { metadataPath, readCheckpointMetadata } from "./metadata.ts";
import { isEnded } from "./start.ts";
import { retryStorage } from "./storage-retry.ts";
import { keptRefs, survey, type KeptCheckpoint, type Survey, type SurveyedObject } from "./survey.ts";
import type { CheckpointPin, CheckpointRef, CommitRecord } from "./types.ts";

/** Objects younger than this are left alone: longer than checkpoints may take (their timeout is 10 min by default). */
export const QUARANTINE_MS = 3_600_000;
const REMOVE_CONCURRENCY = 8;
const ATTEMPTS_MAX = 5;

export interface AdminPlace {
  readonly store: ObjectStore;
  readonly jobDir: string;
  readonly env: CommitLogEnv;
  readonly signal: AbortSignal;
  /** Of the same store, where it has uploads in parts. */
  readonly uploads?: StagedUploads;
  /** Directories that file sinks of the job write to. */
  readonly outputs?: readonly StagedUploads[];
}

/** A job as its directory shows it. */
export interface JobInspection {
  readonly jobDir: string;
  readonly record: CommitRecord;
  readonly recordCount: number;
  readonly survey: Survey;
  /** Uploads in parts that were begun and not completed, and objects that a sink has staged and not published. */
  readonly uploads: readonly SurveyedUpload[];
}

export interface GarbageOutcome {
  readonly inspection: JobInspection;
  /** What is garbage and may be deleted now, condemned objects included. */
  readonly victims: readonly SurveyedObject[];
  readonly deletedCount: number;
  readonly deletedBytes: number;
  /** Uploads that are garbage, and how many of them were aborted. */
  readonly uploads: readonly SurveyedUpload[];
  readonly abortedCount: number;
}

/** Directories with a commit log, ascending, in a list of a whole store; and what lies in none of them. */
export function jobDirectories(listed: readonly ObjectInfo[]): {
  readonly jobs: ReadonlyMap<string, readonly ObjectInfo[]>;
  readonly others: readonly ObjectInfo[];
} {
  const jobs = new Map<string, ObjectInfo[]>();
  for (const { path } of listed) {
    const match = /^(.+)\/commits\/\d{12}$/u.exec(path);
    if (match?.[1] !== undefined) jobs.set(match[1], []);
  }
  const others: ObjectInfo[] = [];
  for (const object of listed) {
    let at = object.path.lastIndexOf("/");
    while (at > 0 && !jobs.has(object.path.slice(0, at))) at = object.path.lastIndexOf("/", at - 1);
    const of = at > 0 ? jobs.get(object.path.slice(0, at)) : undefined;
    (of ?? others).push(object);
  }
  return { jobs, others };
}

/** What lies in the job's directory. Failure INPUT_NOT_FOUND without a log; SNAPSHOT_DAMAGED, FORMAT_UNSUPPORTED on its newest record. */
export async function inspectJob(
  place: AdminPlace,
  options: { readonly quarantineMs: number },
): Promise<JobInspection> {
  return await inspect(place, await attach(place), options);
}

async function attach(place: AdminPlace): Promise<CommitLog> {
  const log = await CommitLog.attach(place);
  if (log !== undefined) return log;
  throw new Failure("INPUT_NOT_FOUND", {
    retry: "never",
    message: `${place.store.uri}/${place.jobDir} has no commit log`,
    remedy: "name the directory of a job, or one above it",
  });
}

async function inspect(
  place: AdminPlace,
  log: CommitLog,
  options: { readonly quarantineMs: number },
): Promise<JobInspection> {
  const { store, jobDir, env, signal } = place;
  const record = log.head;
  const wallMs = env.clock.wallMs();
  // Before the list: an object that is listed belongs to this record or an older one, or is on its way.
  const kept = await readKept(place, record, wallMs);
  const idHighBefore = await idHighBeforeEpoch(place, record);
  const listed = await retryStorage(env, signal, "store-list", () => store.list(`${jobDir}/`, signal));
  const { quarantineMs } = options;
  const known = { jobDir, record, kept, idHighBefore, quarantineMs, wallMs };
  return {
    jobDir,
    record,
    recordCount: listed.filter(({ path }) => commitSeq(jobDir, path) !== undefined).length,
    survey: survey({ ...known, listed }),
    uploads: await surveyUploads(place, (objects) => survey({ ...known, listed: objects }).objects, known),
  };
}

async function surveyUploads(
  place: AdminPlace,
  classify: (objects: readonly ObjectInfo[]) => readonly SurveyedObject[],
  options: { readonly record: CommitRecord; readonly quarantineMs: number; readonly wallMs: number },
): Promise<readonly SurveyedUpload[]> {
  const { jobDir, uploads, outputs = [] } = place;
  const found: SurveyedUpload[] = [];
  if (uploads !== undefined) {
    const listed = await listUploads(uploads, `${jobDir}/`, place);
    const asObjects = listed.map(({ path, startedMs }) => ({ path, sizeBytes: 0, modifiedMs: startedMs }));
    found.push(...ownUploads(uploads, listed, classify(asObjects), options));
  }
  for (const output of outputs) {
    const listed = [...(await listUploads(output, "", place)), ...(await listStaged(output, place))];
    found.push(...outputUploads(output, listed, options));
  }
  return found;
}

/** Asks before each who owns the log (CL8): no record names an upload, because nothing that the log keeps can consist of one. */
async function abortAll(place: AdminPlace, log: CommitLog, victims: readonly SurveyedUpload[]): Promise<void> {
  const { env, signal } = place;
  for (const victim of victims) {
    await log.verifyOwnership(signal);
    await retryStorage(env, signal, "upload-abort", () => discardUpload(victim, signal));
  }
}

async function readKept(place: AdminPlace, record: CommitRecord, wallMs: number): Promise<readonly KeptCheckpoint[]> {
  const { jobDir } = place;
  const wanted: Pick<KeptCheckpoint, "ref" | "reasons">[] = [...keptRefs(record, wallMs).values()];
  if (record.head === null && record.origin?.startsWith(`${jobDir}/chk-`) === true) {
    const path = record.origin.endsWith("/_metadata") ? record.origin : `${record.origin}/_metadata`;
    wanted.push({ ref: { id: 0 as CheckpointId, kind: "checkpoint", path }, reasons: ["origin"] });
  }
  const kept: KeptCheckpoint[] = [];
  for (const { ref, reasons } of wanted.filter(({ ref: { kind } }) => kind === "checkpoint"))
    // savepoints lie elsewhere
    kept.push({ ref, reasons, content: await readMetadata(place, ref.path) });
  return kept;
}

async function readMetadata(place: AdminPlace, path: string): Promise<KeptCheckpoint["content"]> {
  const { store, env, signal } = place;
  const bytes = await retryStorage(env, signal, "checkpoint-read", () => store.get(path, signal));
  if (bytes === undefined) return { unreadable: "it is missing" };
  const content = readCheckpointMetadata(bytes);
  if (content.type === "ok") return content.metadata;
  return {
    unreadable: content.type === "unsupported" ? `format version ${content.version} is not known here` : content.reason,
  };
}

/** SV4: the records of the head's epoch are walked back to the one before them. */
async function idHighBeforeEpoch(place: AdminPlace, head: CommitRecord): Promise<number> {
  const { store, jobDir, env, signal } = place;
  if (isEnded(head.jobState)) return head.idHigh; // nobody writes any more
  for (let seq = head.seq - 1; seq >= 1; seq -= 1) {
    const record = await retryStorage(env, signal, "commit-log-read", () => readCommit(store, jobDir, seq, signal));
    if (record === undefined) return 0; // trimmed: everything above the head may be on its way
    if (record.epoch !== head.epoch) return record.idHigh;
  }
  return 0;
}

/**
 * Finds garbage and, with `deletes`, condemns and deletes it. What a running job condemned itself it deletes itself; that of an ended job
 * is deleted here. A job that moves on meanwhile makes this start over.
 */
export async function collectGarbage(
  place: AdminPlace,
  options: {
    readonly quarantineMs: number;
    readonly deletes: boolean;
    readonly onProgress?: (deleted: number, of: number) => void;
  },
): Promise<GarbageOutcome> {
  return await startingOver(async () => {
    const log = await attach(place);
    const inspection = await inspect(place, log, options);
    const { blockedBy, objects } = inspection.survey;
    const hasEnded = isEnded(inspection.record.jobState);
    const victims =
      blockedBy !== undefined
        ? []
        : objects.filter((o) => o.class === "garbage" || (hasEnded && o.class === "condemned"));
    const uploads = blockedBy === undefined ? inspection.uploads.filter((u) => u.class === "garbage") : [];
    const found = { inspection, victims, uploads };
    if (!options.deletes) return { ...found, deletedCount: 0, deletedBytes: 0, abortedCount: 0 };
    await abortAll(place, log, uploads);
    const abortedCount = uploads.length;
    if (victims.length === 0) return { ...found, deletedCount: 0, deletedBytes: 0, abortedCount };
    await append(place, log, (previous) => condemnation(place.jobDir, previous, victims));
    await removeAll(place, log, victims, options.onProgress);
    const looked = log.head.condemned;
    const left = await leftovers(place, looked);
    await append(place, log, (previous) => ({
      condemned: previous.condemned.filter((id) => left.has(id) || !looked.includes(id)),
      condemnedObjects: [],
    }));
    const deletedBytes = victims.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    return { ...found, deletedCount: victims.length, deletedBytes, abortedCount };
  });
}

/** A whole checkpoint that nothing keeps is condemned by its id, a leftover beside one that is kept by its name. */
function condemnation(jobDir: string, previous: CommitRecord, victims: readonly SurveyedObject[]): CommitChange {
  const kept = new Set<number>(
    [...previous.retained, ...previous.pins.map((pin) => pin.ref), ...(previous.head === null ? [] : [previous.head])]
      .filter((ref) => ref.path === metadataPath(jobDir, ref.id))
      .map((ref) => ref.id),
  );
  const condemned = new Set(previous.condemned);
  const names = new Set(previous.condemnedObjects);
  for (const { path, checkpointId } of victims) {
    if (checkpointId === undefined) continue;
    if (kept.has(checkpointId)) names.add(path.slice(jobDir.length + 1));
    else condemned.add(checkpointId);
  }
  return { condemned: [...condemned].sort((a, b) => a - b), condemnedObjects: [...names].sort() };
}

/** SA1. Asks again and again whether this writer may still delete (CL8). */
async function removeAll(
  place: AdminPlace,
  log: CommitLog,
  victims: readonly ObjectInfo[],
  onProgress: ((deleted: number, of: number) => void) | undefined,
): Promise<void> {
  const { store, env, signal } = place;
  const isMetadata = ({ path }: ObjectInfo): boolean => path.endsWith("/_metadata");
  const inOrder = [...victims.filter(isMetadata), ...victims.filter((object) => !isMetadata(object))];
  for (let i = 0; i < inOrder.length; i += REMOVE_CONCURRENCY) {
    await log.verifyOwnership(signal);
    await Promise.all(
      inOrder
        .slice(i, i + REMOVE_CONCURRENCY)
        .map(({ path }) => retryStorage(env, signal, "store-remove", () => store.remove(path, signal))),
    );
    onProgress?.(Math.min(inOrder.length, i + REMOVE_CONCURRENCY), inOrder.length);
  }
}

/** Which of these ids still have objects. */
async function leftovers(place: AdminPlace, ids: readonly CheckpointId[]): Promise<ReadonlySet<CheckpointId>> {
  const { store, jobDir, env, signal } = place;
  const left = new Set<CheckpointId>();
  for (const id of ids) {
    const objects = await retryStorage(env, signal, "store-list", () => store.list(`${jobDir}/chk-${id}/`, signal));
    if (objects.length > 0) left.add(id);
  }
  return left;
}

/** Keeps a checkpoint of the log for `holder` (SA2). The record that holds it. */
export async function pinCheckpoint(
  place: AdminPlace,
  options: {
    /** Undefined: the head. */
    readonly checkpointId: number | undefined;
    readonly holder: string;
    readonly expiresAtMs: number | null;
  },
): Promise<CheckpointPin> {
  const { checkpointId, holder, expiresAtMs } = options;
  let pin: CheckpointPin | undefined;
  await startingOver(async () => {
    await append(place, await attach(place), (previous) => {
      const ref = knownRef(place, previous, checkpointId);
      pin = { ref, holder, expiresAtMs };
      const others = previous.pins.filter((other) => other.holder !== holder || other.ref.path !== ref.path);
      return { pins: [...others, pin] };
    });
  });
  if (pin !== undefined) return pin;
  throw new Failure("INTERNAL", { retry: "never", message: "a pin was appended without being made" });
}

function knownRef(place: AdminPlace, record: CommitRecord, id: number | undefined): CheckpointRef {
  const refs = [
    ...record.retained,
    ...record.pins.map((pin) => pin.ref),
    ...(record.head === null ? [] : [record.head]),
  ];
  const ref = id === undefined ? record.head : refs.find((candidate) => candidate.id === id);
  const known = [...new Set(refs.map((candidate) => candidate.id))].sort((a, b) => a - b).join(", ");
  if (ref === undefined || ref === null) {
    throw new Failure("INPUT_NOT_FOUND", {
      retry: "never",
      message:
        id === undefined
          ? `${place.store.uri}/${place.jobDir} has no checkpoint`
          : `${place.store.uri}/${place.jobDir} has no checkpoint ${id}`,
      remedy: known === "" ? "pin one when the job has completed a checkpoint" : `these are kept now: ${known}`,
    });
  }
  return ref;
}

/** Takes the pins of `holder` back; how many there were. */
export async function unpin(
  place: AdminPlace,
  options: { readonly holder: string; readonly checkpointId: number | undefined },
): Promise<number> {
  const { holder, checkpointId } = options;
  let count = 0;
  await startingOver(async () => {
    const log = await attach(place);
    const isMeant = (pin: CheckpointPin): boolean =>
      pin.holder === holder && (checkpointId === undefined || pin.ref.id === checkpointId);
    count = log.head.pins.filter(isMeant).length;
    if (count > 0) await append(place, log, (previous) => ({ pins: previous.pins.filter((pin) => !isMeant(pin)) }));
  });
  return count;
}

/** The job is deleted: whoever runs it is fenced, nobody continues it. Its checkpoints stay. Closing twice is closing once. */
export async function closeJob(place: AdminPlace): Promise<CommitRecord> {
  const record = await closeCommitLog(place);
  if (record !== undefined) return record;
  throw new Failure("INPUT_NOT_FOUND", {
    retry: "never",
    message: `${place.store.uri}/${place.jobDir} has no commit log`,
    remedy: "name the directory of a job",
  });
}

/** What {@link purgeJob} would delete and abort now. Rejects as it does. */
export async function purgeable(place: AdminPlace): Promise<{
  readonly objects: readonly SurveyedObject[];
  readonly uploads: readonly SurveyedUpload[];
}> {
  const log = await attach(place);
  refusePurge(place, log.head);
  return purgeableOf(await inspect(place, log, { quarantineMs: 0 }));
}

function purgeableOf({ survey: found, uploads }: JobInspection): Awaited<ReturnType<typeof purgeable>> {
  return { objects: found.objects.filter((object) => object.class !== "log" && object.class !== "foreign"), uploads };
}

/**
 * Deletes all checkpoints of a closed job (SA3), and aborts its unfinished uploads; its last record stays as a tombstone. Savepoints lie
 * elsewhere and stay; output that only a savepoint could still have published (by a claim) is gone with its staged object.
 */
export async function purgeJob(
  place: AdminPlace,
  options: { readonly onProgress?: (deleted: number, of: number) => void },
): Promise<{ readonly deletedCount: number; readonly deletedBytes: number; readonly abortedCount: number }> {
  const { store, jobDir, env, signal } = place;
  return await startingOver(async () => {
    const log = await attach(place);
    refusePurge(place, log.head);
    let deletedCount = 0;
    let deletedBytes = 0;
    const aborted = new Set<string>(); // a store may list for a while what is gone
    // Twice: an upload that was on its way when the job was closed may have ended since.
    for (;;) {
      const { objects: victims, uploads } = purgeableOf(await inspect(place, log, { quarantineMs: 0 }));
      const open = uploads.filter((found) => !aborted.has(identityOf(found)));
      await abortAll(place, log, open);
      for (const found of open) aborted.add(identityOf(found));
      if (victims.length === 0 && open.length === 0) break;
      if (victims.length === 0) continue;
      const ids = [...new Set(victims.flatMap(({ checkpointId }) => checkpointId ?? []))].sort((a, b) => a - b);
      await append(place, log, (previous) => ({
        head: null,
        retained: [],
        pins: [],
        condemned: ids,
        condemnedObjects: [],
        ...(previous.head === null
          ? {}
          : { override: { type: "state-deleted", fromId: previous.head.id, reason: "purge" } as const }),
      }));
      await removeAll(place, log, victims, options.onProgress);
      deletedCount += victims.length;
      deletedBytes += victims.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    }
    if (log.head.condemned.length > 0) await append(place, log, () => ({ condemned: [] }));
    for (const { path } of await store.list(commitsDirectory(jobDir), signal)) {
      const seq = commitSeq(jobDir, path);
      if (seq !== undefined && seq < log.head.seq)
        await retryStorage(env, signal, "store-remove", () => store.remove(path, signal));
    }
    return { deletedCount, deletedBytes, abortedCount: aborted.size };
  });
}

function identityOf({ uploads, upload }: SurveyedUpload): string {
  return JSON.stringify([uploads.uri, upload.path, upload.uploadId]);
}

function refusePurge(place: AdminPlace, record: CommitRecord): void {
  const where = `${place.store.uri}/${place.jobDir}`;
  if (!record.closed) {
    throw new Failure("OPERATION_CONFLICT", {
      retry: "never",
      message: `${where} is not closed (${record.jobState}): a job that can be continued is not purged`,
      remedy: "close it first; that ends a job which still runs",
    });
  }
  const wallMs = place.env.clock.wallMs();
  const holders = record.pins
    .filter((pin) => pin.expiresAtMs === null || pin.expiresAtMs > wallMs)
    .filter((pin) => !pin.holder.startsWith("lineage:"))
    .map((pin) => `${pin.holder} (checkpoint ${pin.ref.id})`);
  if (holders.length === 0) return;
  throw new Failure("OPERATION_CONFLICT", {
    retry: "never",
    message: `${where} has pinned checkpoints: ${holders.join(", ")}`,
    remedy: "take the pins back first: whoever holds one still needs that state",
  });
}

async function append(
  place: AdminPlace,
  log: CommitLog,
  change: (previous: CommitRecord) => CommitChange,
): Promise<void> {
  const outcome = await log.append(change, place.signal);
  if (outcome.type === "failed") throw outcome.failure;
}

/** A new JobManager claimed the log meanwhile: what was seen may be wrong, look again. */
async function startingOver<T>(run: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await run();
    } catch (thrown) {
      const failure = toFailure(thrown);
      if (failure.code !== "FENCED" || attempt === ATTEMPTS_MAX) throw thrown;
    }
  }
}
