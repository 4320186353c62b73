// The checkpoint or savepoint that a new lineage starts from: taken before the log says so, let go once it is not needed any more.
//
// Invariants (tests cite them): SF1, SF3 of savepoint-files.ts, and
//   OR1. NO_CLAIM never deletes it and commits nothing that waits in it; nobody else deletes it before the first own checkpoint:
//        a checkpoint is pinned in the log of its job, a savepoint by the record of the job that starts from it.
//   OR2. CLAIM: one job alone takes it over, publishes what waits in it, and deletes it once `num-retained` own checkpoints have
//        replaced it. A checkpoint stays with the log that keeps it: only its output is taken over.
//   OR3. What its log has condemned, or does not know, is no checkpoint (CL2) and is refused.
//
// Not here: reading it (recovery.ts), the record (commit-log.ts).

import { Failure, toFailure } from "@sluice/kit";
import type { Log, ObjectStore } from "@sluice/kit/env";
import type { CheckpointMetadata } from "../model/index.ts";
import { type CommitLogEnv, readCommitHead } from "./commit-log.ts";
import { type CheckpointPlace, objectsDirectory, placeOf, recordedPath, type StoreOpener } from "./location.ts";
import { loadOrigin } from "./recovery.ts";
import {
  BEING_DISPOSED,
  claimSavepoint,
  deleteSavepoint,
  describeClaim,
  identityOf,
  isBeingDisposed,
  isSameClaim,
  markDisposal,
  readClaim,
  readSavepoint,
  releaseMark,
  type SavepointClaim,
  type SavepointIo,
} from "./savepoint-files.ts";
import { jobDirectories, pinCheckpoint, unpin } from "./store-admin.ts";
import type { CommitRecord, RecordedClaim } from "./types.ts";

/** A pin in the log of another job ends by itself, should nobody take it back ... */
export const ORIGIN_PIN_MS = 7 * 24 * 3_600_000;
/** ... and is renewed this often by the job that needs it, as long as that runs. */
export const ORIGIN_PIN_RENEWAL_MS = 24 * 3_600_000;

export interface OriginPlace {
  readonly store: ObjectStore;
  readonly openStore: StoreOpener;
  /** Of the job that starts from it. */
  readonly jobDir: string;
  readonly uid: string;
  readonly env: CommitLogEnv & { readonly log: Log };
  readonly signal: AbortSignal;
}

export interface OriginOrder {
  /** As the log will name it. */
  readonly origin: string;
  readonly claimMode: "NO_CLAIM" | "CLAIM";
}

/** Before the record: reads it, and pins or claims it (OR1, OR2). Rejects when nobody could start from it; nothing is written then. */
export async function takeOrigin(order: OriginOrder, place: OriginPlace): Promise<RecordedClaim | null> {
  const { metadata, place: at } = await loadOrigin({ ...place, origin: order.origin });
  const own: SavepointClaim = { by: "job", jobDir: place.jobDir, uid: place.uid };
  const owner = await readClaim(at, metadata, place);
  if (owner !== undefined && !isSameClaim(owner, own)) throw notFree(order.origin, describeClaim(owner));
  if (await isBeingDisposed(at, metadata, place)) throw notFree(order.origin, BEING_DISPOSED);
  if (metadata.base === "job") await keepCheckpoint(order, place, { metadata, at });
  if (order.claimMode === "NO_CLAIM") return null;
  const winner = await claimSavepoint(at, metadata, { ...place, claim: own });
  if (!isSameClaim(winner, own)) throw notFree(order.origin, describeClaim(winner));
  return { path: recordedPath(at), kind: metadata.kind, lineage: metadata.lineage, isCondemned: false };
}

/** After the record: a disposal that was faster has won (SF3). */
export async function confirmOrigin(origin: string, place: OriginPlace): Promise<void> {
  const { metadata, place: at } = await loadOrigin({ ...place, origin });
  if (await isBeingDisposed(at, metadata, place)) throw notFree(origin, BEING_DISPOSED);
}

/** A checkpoint is kept by its own log: pinned there, unless that is the log of the job that starts (which keeps it itself). */
async function keepCheckpoint(
  order: OriginOrder,
  place: OriginPlace,
  from: { readonly metadata: CheckpointMetadata; readonly at: CheckpointPlace },
): Promise<void> {
  const { metadata, at } = from;
  const { env, signal } = place;
  const jobDir = objectsDirectory(at, metadata);
  const head = await readCommitHead(at.store, jobDir, signal);
  if (head === undefined) return; // copied without its log: nobody deletes it
  const { metadataPath } = at;
  const kept = [...head.retained, ...head.pins.map((pin) => pin.ref), ...(head.head === null ? [] : [head.head])];
  const isOrigin = head.origin !== null && head.origin === recordedPath(at);
  if (!kept.some((ref) => nameInJob(ref.path) === nameInJob(metadataPath)) && !isOrigin) {
    throw new Failure("INPUT_NOT_FOUND", {
      retry: "never",
      message: `checkpoint ${order.origin} is not kept by the job that took it: it was replaced, or never completed`, // OR3
      remedy: `start from one that is kept: ${kept.map(({ id }) => `chk-${id}`).join(", ") || "there is none"}`,
    });
  }
  if (isOwnLog(at, jobDir, place)) return;
  try {
    await pin(place, at, metadata);
  } catch (thrown) {
    const failure = toFailure(thrown);
    if (failure.code !== "STORAGE_DENIED") throw thrown;
    env.log.warn(
      "the checkpoint to start from cannot be pinned: keep its job from replacing it until the first checkpoint",
      {
        checkpoint: order.origin,
        failure: failure.message,
      },
    );
  }
}

/** (Until) seven days from now. */
async function pin(place: OriginPlace, at: CheckpointPlace, metadata: CheckpointMetadata): Promise<void> {
  const { env, signal } = place;
  const expiresAtMs = env.clock.wallMs() + ORIGIN_PIN_MS;
  await pinCheckpoint(
    { store: at.store, jobDir: objectsDirectory(at, metadata), env, signal },
    { checkpointId: metadata.checkpointId, holder: holderOf(place), expiresAtMs },
  );
}

/** The job that starts keeps its own checkpoints without pins. */
function isOwnLog(at: CheckpointPlace, jobDir: string, place: Pick<OriginPlace, "jobDir">): boolean {
  return at.storeUri === undefined && jobDir === place.jobDir;
}

/**
 * While there is no own checkpoint: pins the origin anew (OR1). False: there is nothing to pin, ever. Rejects when the log that keeps it
 * cannot be written, or does not keep it any more.
 */
export async function renewOrigin(origin: string, place: OriginPlace): Promise<boolean> {
  const { metadata, place: at } = await loadOrigin({ ...place, origin });
  if (metadata.base !== "job") return false;
  const jobDir = objectsDirectory(at, metadata);
  if (isOwnLog(at, jobDir, place)) return false;
  if ((await readCommitHead(at.store, jobDir, place.signal)) === undefined) return false; // copied without its log
  await pin(place, at, metadata);
  return true;
}

/** `chk-7/_metadata`: records name paths from the root of the store their job was started with, which may not be the root here. */
function nameInJob(path: string): string {
  return path.split("/").slice(-2).join("/");
}

/** After the first own checkpoint, or behind another lineage: whoever owns it may delete it now. Pins end by themselves when this fails. */
export async function releaseOrigin(origin: string, place: OriginPlace): Promise<void> {
  const { metadata, place: at } = await loadOrigin({ ...place, origin });
  if (metadata.base !== "job") return;
  const jobDir = objectsDirectory(at, metadata);
  if (isOwnLog(at, jobDir, place)) return;
  if ((await readCommitHead(at.store, jobDir, place.signal)) === undefined) return;
  const { env, signal } = place;
  const { checkpointId } = metadata;
  await unpin({ store: at.store, jobDir, env, signal }, { holder: holderOf(place), checkpointId });
}

/**
 * Deletes a claimed savepoint that a record has condemned (OR2). False: somebody still needs it, or `mayDelete` says no. Asks last, before
 * it deletes, who owns the log (CL8): `verifyOwnership` rejects with FENCED. Whoever took it over in between does not start from what
 * it has condemned (SD6).
 */
export async function deleteClaimed(
  claim: RecordedClaim,
  place: OriginPlace & { readonly mayDelete: () => boolean; readonly verifyOwnership: () => Promise<void> },
): Promise<boolean> {
  if (claim.kind === "checkpoint") return true;
  const at = await placeOf(claim.path, place);
  let metadata: CheckpointMetadata;
  try {
    metadata = await readSavepoint(at, place);
  } catch (thrown) {
    if (toFailure(thrown).code === "INPUT_NOT_FOUND") return true;
    throw thrown;
  }
  const others = await usersOf(at, { ...place, stores: [place.store], except: place.jobDir });
  if (others.length > 0) return false;
  await place.verifyOwnership();
  return await deleteSavepoint(at, metadata, place);
}

/**
 * Disposal: deletes one savepoint, unless a job in `stores` needs it (SF3). Rejects with the reason; then nothing is deleted.
 */
export async function disposeSavepoint(options: {
  readonly name: string;
  /** Of the jobs that are asked; a name may be relative to the first. */
  readonly stores: readonly ObjectStore[];
  readonly openStore: StoreOpener;
  readonly env: CommitLogEnv;
  readonly signal: AbortSignal;
}): Promise<{ readonly location: string }> {
  const at = await placeOf(options.name, { ...options, store: options.stores[0] });
  const metadata = await readSavepoint(at, options);
  const location = identityOf(at.store, at.metadataPath).replace(/\/_metadata$/u, "");
  const refuse = async (): Promise<void> => {
    const users = await usersOf(at, options);
    if (users.length === 0) return;
    throw new Failure("OPERATION_CONFLICT", {
      retry: "never",
      message: `savepoint ${location} is needed: ${users.join("; ")}`,
      remedy: "dispose of it once those jobs have completed a checkpoint of their own, or are purged",
    });
  };
  await refuse();
  const mark = await markDisposal(at, options);
  try {
    const owner = await readClaim(at, metadata, options);
    if (owner?.by === "job") {
      throw new Failure("OPERATION_CONFLICT", {
        retry: "never",
        message: `savepoint ${location} ${describeClaim(owner)}, which deletes it when it is not needed any more`,
        remedy: "leave it to that job",
      });
    }
    await refuse();
  } catch (thrown) {
    await releaseMark(at, mark, options);
    throw thrown;
  }
  await deleteSavepoint(at, metadata, { ...options, mayDelete: () => true });
  return { location };
}

/** The jobs whose logs lie in these stores and that need the savepoint, as sentences. */
async function usersOf(
  at: CheckpointPlace,
  options: SavepointIo & { readonly stores: readonly ObjectStore[]; readonly except?: string },
): Promise<readonly string[]> {
  const users: string[] = [];
  for (const store of options.stores) users.push(...(await usersIn(store, at, options)));
  return users;
}

async function usersIn(
  store: ObjectStore,
  at: CheckpointPlace,
  options: SavepointIo & { readonly except?: string },
): Promise<readonly string[]> {
  const { signal, except } = options;
  const wanted = identityOf(at.store, at.metadataPath);
  const isMeant = (path: string | null | undefined): boolean =>
    typeof path === "string" && (/^[a-z][a-z0-9+.-]*:/iu.test(path) ? path : identityOf(store, path)) === wanted;
  const users: string[] = [];
  for (const jobDir of jobDirectories(await store.list("", signal)).jobs.keys()) {
    if (jobDir === except) continue;
    const record = await readCommitHead(store, jobDir, signal);
    if (record === undefined || record.closed) continue;
    const why = useOf(record, isMeant);
    if (why !== undefined) users.push(`${why} of job ${jobDir}`);
  }
  return users;
}

function useOf(record: CommitRecord, isMeant: (path: string | null | undefined) => boolean): string | undefined {
  if (isMeant(record.head?.path)) return "it is the newest state";
  if (isMeant(record.origin)) return "it is the state";
  if (record.claim?.isCondemned === false && isMeant(record.claim.path)) return "it is the property";
  return record.pins.some((pin) => isMeant(pin.ref.path)) ? "it is a pinned state" : undefined;
}

function holderOf({ jobDir, uid }: Pick<OriginPlace, "jobDir" | "uid">): string {
  return `restore:${jobDir}:${uid}`;
}

function notFree(origin: string, why: string): Failure {
  return new Failure("OPERATION_CONFLICT", {
    retry: "never",
    message: `${origin} ${why}: nobody else can start from it`,
    remedy:
      "start from another checkpoint or savepoint, or from a copy of the directory without its CLAIM and DISPOSAL objects",
  });
}
