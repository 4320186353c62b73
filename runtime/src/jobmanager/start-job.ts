// What happens before a job runs: settings and storage checked, the commit log claimed.
//
// Invariants: P0 of protocols 1, and
//   SJ1. Checkpointing without storage is refused before anything is started.
//   SJ2. A job without checkpointing touches no store.
//   SJ3. A checkpoint to start from is read before the log says that a lineage starts from it: a typo costs nothing. Afterwards nobody
//        looks for it by what was typed: a restarted JobManager goes on from its log, wherever that place is by then.

import { Failure, toFailure } from "@sluice/kit";
import type { Clock, Log, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import { createHash } from "node:crypto";
import {
  CommitLog,
  confirmOrigin,
  endedBySubmission,
  jobDirectory,
  placeOf,
  readCommitHead,
  recordedPath,
  releaseOrigin,
  renewOrigin,
  retryStorage,
  takeOrigin,
} from "../checkpoint/index.ts";
import type { ClaimResult, CommitRecord, ExpectedHead, OriginPlace, StoreOpener } from "../checkpoint/index.ts";
import type { RuntimeSettings } from "../model/configuration/index.ts";
import type { JobManagerConfig, JobPlan, StoreConfig } from "../model/index.ts";
import type { JobStorage } from "./job-master.ts";

/** 32 hex digits (Flink: JobID): the same for every JobManager of this lineage. */
export function jobIdOf(config: Pick<JobManagerConfig, "namespace" | "jobName" | "uid" | "start">): string {
  const said = [config.namespace, config.jobName, config.uid, config.start.lineage];
  return createHash("sha256").update(JSON.stringify(said)).digest("hex").slice(0, 32);
}

/** The configuration of the store, undefined when no checkpoints are taken (SJ2). Throws CONFIG_INVALID (SJ1). */
export function storeOf(config: Pick<JobManagerConfig, "store">, settings: RuntimeSettings): StoreConfig | undefined {
  if (settings.checkpoints.intervalMs === null) return undefined;
  const store = config.store ?? settings.store;
  if (store !== undefined) return store;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: "checkpointing is on (execution.checkpointing.interval), but there is no place for checkpoints",
    remedy:
      "set execution.checkpointing.dir, for example to file:///var/lib/sluice/checkpoints or s3://bucket/checkpoints",
  });
}

/** Claimed, or: this submission has recorded the job's end before (its JobManager died on its way out); nothing is left to run. */
export type StartedJob =
  | { readonly type: "claimed"; readonly storage: JobStorage }
  | {
      readonly type: "ended";
      readonly state: "FINISHED" | "CANCELED" | "FAILED";
      /** The record that says so. */
      readonly record: CommitRecord;
    };

const SOON_MS = 5_000;
const ENDED = { stopped: "FINISHED", finished: "FINISHED", cancelled: "CANCELED", failed: "FAILED" } as const;

/** Does what may fail, and holds up the start of the job for {@link SOON_MS} at most. */
async function soon(place: OriginPlace, label: string, act: (place: OriginPlace) => Promise<unknown>): Promise<void> {
  const { env, signal } = place;
  const late = new AbortController();
  const cancel = env.timers.after(SOON_MS, label, () => late.abort());
  try {
    await act({ ...place, signal: AbortSignal.any([signal, late.signal]) });
  } catch (thrown) {
    env.log.warn("the pin of what the job starts from, or started from, stays as it is", {
      failure: toFailure(thrown).message,
    });
  } finally {
    cancel();
  }
}

/**
 * People name checkpoints by path or URI; the log names those in its own store relative to that. A place that cannot be opened keeps
 * its name: whoever has to read it tells why it cannot (SJ3).
 */
async function recordedName(
  named: string,
  options: { readonly store: ObjectStore; readonly openStore: StoreOpener },
): Promise<string> {
  try {
    return recordedPath(await placeOf(named, options));
  } catch {
    return named;
  }
}

async function recordedHead(
  { path, ...rest }: NonNullable<JobManagerConfig["start"]["expectHead"]>,
  stores: { readonly store: ObjectStore; readonly openStore: StoreOpener },
): Promise<ExpectedHead> {
  return { ...rest, ...(path === undefined ? {} : { path: await recordedName(path, stores) }) };
}

/** Opens and claims. Rejects with what checkpoint/decideStart refuses, or with a failure of the store. */
export async function claimJob(options: {
  readonly config: JobManagerConfig;
  readonly plan: JobPlan;
  readonly settings: RuntimeSettings;
  readonly store: ObjectStore;
  readonly openStore: StoreOpener;
  readonly env: { readonly clock: Clock; readonly timers: Timers; readonly rng: Rng; readonly log: Log };
  readonly signal: AbortSignal;
}): Promise<StartedJob> {
  const { config, plan, settings, store, openStore, env, signal } = options;
  const { start } = config;
  const stores = { store, openStore };
  const jobDir = jobDirectory(config.namespace, config.jobName);
  const before = await retryStorage(env, signal, "commit-log-read", () => readCommitHead(store, jobDir, signal));
  const submission = { lineage: start.lineage, uid: config.uid };
  const ended = endedBySubmission(before, submission);
  if (ended !== undefined && before !== undefined) return { type: "ended", state: ENDED[ended], record: before };
  const named = start.from ?? settings.restorePath;
  const from = named === undefined ? undefined : await recordedName(named, stores);
  const place = { ...stores, jobDir, uid: config.uid, env, signal };
  const claiming = CommitLog.claim({
    store,
    jobDir,
    env,
    request: {
      jobName: config.jobName,
      uid: config.uid,
      lineage: start.lineage,
      newLineage: start.newLineage,
      ...(from === undefined ? {} : { from }),
      mayCreate: start.mayCreate ?? true,
      onForeignLog: start.onForeignLog ?? "refuse",
      pinRestored: start.pinRestored ?? false,
      ...(start.order === undefined ? {} : { order: start.order }),
      ...(start.expectHead === undefined ? {} : { expectHead: await recordedHead(start.expectHead, stores) }),
    },
    planDigest: plan.digest,
    takeOrigin: (path) => takeOrigin({ origin: path, claimMode: settings.claimMode }, place),
    signal,
  });
  let claimed: ClaimResult;
  try {
    claimed = await claiming;
  } catch (thrown) {
    // A JobManager of this submission may have recorded the end meanwhile.
    const code = toFailure(thrown).code;
    const now =
      code === "JOB_CLOSED" || code === "JOB_FINISHED" ? await readCommitHead(store, jobDir, signal) : undefined;
    const end = endedBySubmission(now, submission);
    if (end === undefined || now === undefined) throw thrown;
    return { type: "ended", state: ENDED[end], record: now };
  }
  const { log, decision, previous } = claimed;
  const { head, origin } = log.head;
  if (head === null && origin !== null) await confirmOrigin(origin, place);
  // The pin of another job's checkpoint: this JobManager may have been away for days ...
  if (decision.type === "continue" && head === null && origin !== null)
    await soon(place, "renew-origin", (at) => renewOrigin(origin, at));
  // ... or the lineage that needed it is not run any more.
  if (decision.type === "new-lineage" && previous?.head === null && previous.origin !== null) {
    const { origin: former, uid } = previous;
    if (former !== origin) await soon(place, "release-origin", (at) => releaseOrigin(former, { ...at, uid }));
  }
  return { type: "claimed", storage: { store, openStore, log } };
}
