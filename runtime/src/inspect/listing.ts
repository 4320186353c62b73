// Which checkpoints and savepoints lie below a directory: what commit logs keep, and savepoints, which no log has to know.
//
// Invariants:
//   LS1. A checkpoint of a job is listed iff its log keeps it (AR1): a directory chk-N proves nothing.
//   LS2. What cannot be read is listed with the reason; it does not hide the others.
//
// Not here: what is inside (stored-snapshot.ts), garbage (store-admin).

import { toFailure } from "@sluice/kit";
import type { ObjectStore } from "@sluice/kit/env";
import { jobDirectories, keptRefs, readCommitHead } from "../checkpoint/index.ts";
import { openSnapshot } from "./stored-snapshot.ts";
import type { StoredSnapshot } from "./stored-snapshot.ts";

export interface ListedSnapshot {
  /** Directory in the store. */
  readonly directory: string;
  /** Of the job whose log keeps it; undefined: none does. */
  readonly jobDir: string | undefined;
  /** `head`, `retained`, `pinned by ...`; empty: no log knows it. */
  readonly reasons: readonly string[];
  readonly content: StoredSnapshot | { readonly unreadable: string };
}

const METADATA = "/_metadata";

/** Everything below `prefix` ("" or ending with a slash), by job, oldest first. */
export async function listSnapshots(
  store: ObjectStore,
  options: { readonly prefix: string; readonly wallMs: number },
): Promise<readonly ListedSnapshot[]> {
  const listed = await store.list(options.prefix);
  const { jobs } = jobDirectories(listed);
  const snapshots: ListedSnapshot[] = [];
  const seen = new Set<string>();
  for (const jobDir of [...jobs.keys()].sort()) {
    const record = await readCommitHead(store, jobDir);
    if (record === undefined) continue;
    const kept = [...keptRefs(record, options.wallMs).values()].toSorted((a, b) => a.ref.id - b.ref.id);
    for (const { ref, reasons } of kept) {
      const directory = ref.path.endsWith(METADATA) ? ref.path.slice(0, -METADATA.length) : ref.path;
      seen.add(directory);
      snapshots.push({ directory, jobDir, reasons, content: await contentOf(store, directory) });
    }
  }
  for (const { path } of listed) {
    if (!path.endsWith(METADATA)) continue;
    const directory = path.slice(0, -METADATA.length);
    const parent = directory.slice(0, Math.max(0, directory.lastIndexOf("/")));
    const isUnkeptCheckpoint = jobs.has(parent) && /\/chk-\d+$/u.test(directory); // LS1
    if (seen.has(directory) || isUnkeptCheckpoint) continue;
    snapshots.push({ directory, jobDir: undefined, reasons: [], content: await contentOf(store, directory) });
  }
  return snapshots;
}

async function contentOf(store: ObjectStore, directory: string): Promise<ListedSnapshot["content"]> {
  try {
    return await openSnapshot(store, directory);
  } catch (thrown) {
    return { unreadable: toFailure(thrown).message }; // LS2
  }
}
