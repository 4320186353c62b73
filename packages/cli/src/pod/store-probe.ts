// Whether a job could work with its store: asked before anything of it is touched.
//
// Invariants:
//   PR1. The commit log is read, never written. What is written is one object of our own name, which is removed again.
//   PR2. A failure names what is wrong with what: the bucket, its credentials, its endpoint, one right that is missing, the log.
//   PR3. What may go by itself is tried again for a while, not for ever: the operator decides what then.
//
// Not here: what the head of the log means for a start (checkpoint/decideStart, controller/src/decide).

import type { LogHead } from "@sluice/api";
import { Failure, toFailure } from "@sluice/kit";
import type { Log, ObjectStore } from "@sluice/kit/env";
import { NodeTimers, nodeRng } from "@sluice/kit/env/node";
import { openStore } from "@sluice/runtime/internal/bin";
import { jobDirectory, placeName, placeOf, readCommitHead, retryStorage } from "@sluice/runtime/internal/checkpoint";
import type { StoreConfig } from "@sluice/runtime/internal/model";

import { logHead } from "./report.ts";

/** PR3. */
const TIMEOUT_MS = 20_000;
const CONTENT = new TextEncoder().encode("Sluice tries whether it may write here. This may be deleted.\n");

export interface ProbeRequest {
  readonly store: StoreConfig;
  /** URI of savepoints, in the same store or another one. */
  readonly savepointDirectory: string | undefined;
  /** A snapshot that the job is to start from. */
  readonly from: string | undefined;
  readonly job: { readonly namespace: string; readonly name: string };
  readonly attempt: string;
  readonly log: Log;
}

/** The head of the commit log, once everything else is known to work. Rejects with STORAGE_*, CONFIG_*, SNAPSHOT_DAMAGED, INPUT_NOT_FOUND. */
export async function probeStore(request: ProbeRequest): Promise<LogHead> {
  const { store: config, job, attempt, savepointDirectory, from } = request;
  const trying = trier(request.log);
  const store = await openStore(config);
  const jobDir = jobDirectory(job.namespace, job.name);
  const head = await trying("read the commit log", (signal) => readCommitHead(store, jobDir, signal));
  await tryWriting(store, `${jobDir}/preflight-${attempt}`, trying);
  if (savepointDirectory !== undefined) {
    const savepoints = await openStore({ ...config, uri: savepointDirectory });
    await trying("list the savepoints' directory", (signal) => savepoints.list("preflight-", signal));
    await tryWriting(savepoints, `preflight-${attempt}`, trying);
  }
  if (from !== undefined) await mustExist(from, { store, config, trying });
  if (head === undefined) return { kind: "absent" };
  const newest = head.head === null ? null : { id: head.head.id, path: placeName(store, head.head.path) };
  return logHead({ ...head, head: newest });
}

type Trying = <T>(what: string, call: (signal: AbortSignal) => Promise<T>) => Promise<T>;

function trier(log: Log): Trying {
  const env = { timers: new NodeTimers(), rng: nodeRng(), log };
  return (what, call) => {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    return retryStorage(env, signal, what, () => call(signal));
  };
}

/** Create-if-absent is what the commit log stands on: the second one must be refused. */
async function tryWriting(store: ObjectStore, path: string, trying: Trying): Promise<void> {
  try {
    await trying("create an object", (signal) => store.putIfAbsent(path, CONTENT, signal));
    const again = await trying("create it once more", (signal) => store.putIfAbsent(path, CONTENT, signal));
    if (again === "created") {
      throw new Failure("CONFIG_INVALID", {
        retry: "never",
        message: `the store ${store.uri} overwrites objects that are to be created once (If-None-Match: *)`,
        remedy: "use a store that supports conditional writes; two JobManagers could not be told apart otherwise",
      });
    }
    await trying("remove it", (signal) => store.remove(path, signal));
  } catch (thrown) {
    const failure = toFailure(thrown);
    if (failure.code !== "STORAGE_DENIED") throw thrown;
    throw new Failure("STORAGE_DENIED", {
      retry: failure.retry,
      message: `${store.uri} can be read with these credentials, but not written: ${failure.message}`,
      remedy: "the policy must allow get, put, delete and list under this prefix",
      cause: failure,
    });
  }
}

async function mustExist(
  from: string,
  by: { readonly store: ObjectStore; readonly config: StoreConfig; readonly trying: Trying },
): Promise<void> {
  const openOther = (uri: string): Promise<ObjectStore> => openStore({ ...by.config, uri });
  const place = await placeOf(from, { store: by.store, openStore: openOther });
  const found = await by.trying("look for the snapshot", (signal) => place.store.stat(place.metadataPath, signal));
  if (found !== undefined) return;
  throw new Failure("INPUT_NOT_FOUND", {
    retry: "never",
    message: `there is no snapshot at ${from}: it has no _metadata`,
    remedy: "name the directory of a savepoint or of a retained checkpoint",
  });
}
