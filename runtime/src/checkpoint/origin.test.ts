// Who may start from a savepoint, claim it, and delete it, over a store in memory.

import { expect, test } from "@jest/globals";
import type { Log } from "@sluice/kit/env";
import type { AttemptNumber, CheckpointId, CheckpointMetadata, Epoch } from "../model/index.ts";
import { CommitLog } from "./commit-log.ts";
import { writeFrame } from "./frame.ts";
import { memoryEnv, MemoryStore, noOtherStore } from "./memory-store.fixture.ts";
import { writeCheckpointMetadata } from "./metadata.ts";
import { confirmOrigin, deleteClaimed, disposeSavepoint, takeOrigin } from "./origin.ts";
import type { SavepointClaim } from "./savepoint-files.ts";
import type { RecordedClaim, StartRequest } from "./types.ts";

const signal = new AbortController().signal;
const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, with: () => log };
const env = { ...memoryEnv(1), log };
const SAVEPOINT = "sp/savepoint-1";

function savepoint(kind: CheckpointMetadata["kind"] = "savepoint"): Uint8Array {
  const part = { uid: "u", stateName: "s", kind: "operator", mode: "split", itemCount: 1 } as const;
  const where = { object: "x-1.0.tm.aa-0", offset: 0, lengthBytes: 3, crc32c: 1 };
  return writeCheckpointMetadata({
    checkpointId: 5 as CheckpointId,
    kind,
    base: kind === "savepoint" ? "self" : "job",
    lineage: "old",
    epoch: 1 as Epoch,
    attempt: 0 as AttemptNumber,
    planDigest: "p",
    timestampMs: 0,
    isFinal: false,
    vertices: [
      {
        vertexId: "v",
        parallelism: 1,
        maxParallelism: 128,
        uids: ["u"],
        subtasks: [{ subtaskIndex: 0, finished: false, parts: [{ ...part, ...where }] }],
      },
    ],
  });
}

async function storeWithSavepoint(): Promise<MemoryStore> {
  const store = new MemoryStore();
  await store.put(`${SAVEPOINT}/_metadata`, savepoint());
  await store.put(`${SAVEPOINT}/x-1.0.tm.aa-0`, new Uint8Array(3));
  await store.put(`${SAVEPOINT}/x-1.0.tm.bb-1`, new Uint8Array(3)); // of an upload that came too late
  await store.put(`${SAVEPOINT}/notes.txt`, new Uint8Array(1));
  return store;
}

const placeOfJob = (store: MemoryStore, jobDir: string) => ({
  store,
  openStore: noOtherStore,
  jobDir,
  uid: "u",
  env,
  signal,
});
const take = (store: MemoryStore, jobDir: string, claimMode: "NO_CLAIM" | "CLAIM"): Promise<RecordedClaim | null> =>
  takeOrigin({ origin: `${SAVEPOINT}/_metadata`, claimMode }, placeOfJob(store, jobDir));
const dispose = (store: MemoryStore, name = SAVEPOINT): Promise<{ readonly location: string }> =>
  disposeSavepoint({ name, stores: [store], openStore: noOtherStore, env, signal });

/** A job whose newest record names the savepoint as what it starts from. */
async function startFrom(store: MemoryStore, jobDir: string, claim: RecordedClaim | null): Promise<CommitLog> {
  const request: StartRequest = {
    jobName: jobDir,
    uid: "u",
    lineage: jobDir,
    newLineage: false,
    mayCreate: true,
    from: `${SAVEPOINT}/_metadata`,
  };
  const takes = (): Promise<RecordedClaim | null> => Promise.resolve(claim);
  return (await CommitLog.claim({ store, jobDir, env, request, planDigest: "p", takeOrigin: takes, signal })).log;
}

const left = (store: MemoryStore): readonly string[] =>
  [...store.objects.keys()]
    .filter((path) => path.startsWith("sp/"))
    .map((path) => path.slice(SAVEPOINT.length + 1))
    .sort();

test("SF2: disposal deletes what Sluice writes and nothing else", async () => {
  const store = await storeWithSavepoint();
  expect(await dispose(store)).toEqual({ location: "mem://store/sp/savepoint-1" });
  expect(left(store)).toEqual(["notes.txt"]);
  expect(store.removed.at(-2)).toMatch(/_metadata$/u); // SF4: before it everything, after it only the claim
  await expect(dispose(store)).rejects.toMatchObject({ code: "INPUT_NOT_FOUND" });
});

test.each([
  ["what cannot be parsed", new Uint8Array([1, 2, 3]), "SNAPSHOT_DAMAGED"],
  ["a checkpoint", savepoint("checkpoint"), "CONFIG_INVALID"],
])("SF2: %s is not disposed of", async (_name, bytes, code) => {
  const store = await storeWithSavepoint();
  store.objects.set(`${SAVEPOINT}/_metadata`, bytes);
  await expect(dispose(store)).rejects.toMatchObject({ code });
  expect(store.removed).toEqual([]);
});

test("SF3: a job that has recorded that it starts from it keeps it; one that comes later is refused", async () => {
  const store = await storeWithSavepoint();
  await take(store, "ns/first", "NO_CLAIM");
  await startFrom(store, "ns/first", null);
  const before = left(store);
  await expect(dispose(store)).rejects.toMatchObject({ code: "OPERATION_CONFLICT" });
  expect(left(store)).toEqual(before);
  await confirmOrigin(`${SAVEPOINT}/_metadata`, placeOfJob(store, "ns/first"));

  // The disposal came first, and stands still before it deletes.
  const other = await storeWithSavepoint();
  other.remove = () => Promise.reject(new Error("stands still"));
  await expect(dispose(other)).rejects.toThrow("stands still");
  await expect(take(other, "ns/late", "NO_CLAIM")).rejects.toMatchObject({ code: "OPERATION_CONFLICT" });
  await expect(confirmOrigin(`${SAVEPOINT}/_metadata`, placeOfJob(other, "ns/racing"))).rejects.toThrow(
    "is being disposed of",
  );
});

test("SF1, OR2: one claim; its owner may repeat it, everybody else is refused and told who holds it", async () => {
  const store = await storeWithSavepoint();
  const outcomes = await Promise.allSettled(["ns/a", "ns/b", "ns/c"].map((jobDir) => take(store, jobDir, "CLAIM")));
  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  const owner = ["ns/a", "ns/b", "ns/c"][outcomes.findIndex(({ status }) => status === "fulfilled")] ?? "";
  expect(await take(store, owner, "CLAIM")).toEqual({
    path: `${SAVEPOINT}/_metadata`,
    kind: "savepoint",
    lineage: "old",
    isCondemned: false,
  });
  for (const mode of ["CLAIM", "NO_CLAIM"] as const)
    await expect(take(store, "ns/other", mode)).rejects.toThrow(`was claimed by job ${owner}`);
  await expect(dispose(store)).rejects.toThrow(`was claimed by job ${owner}`);
});

test("OR1, OR2: what another job still starts from is not deleted by the one that claimed it", async () => {
  const store = await storeWithSavepoint();
  await take(store, "ns/first", "NO_CLAIM");
  const first = await startFrom(store, "ns/first", null);
  const claim = await take(store, "ns/owner", "CLAIM");
  if (claim === null) throw new Error("it was not claimed");
  await startFrom(store, "ns/owner", claim);
  const condemned = { ...claim, isCondemned: true };
  const end = (): Promise<boolean> =>
    deleteClaimed(condemned, {
      ...placeOfJob(store, "ns/owner"),
      mayDelete: () => true,
      verifyOwnership: () => Promise.resolve(),
    });
  expect(await end()).toBe(false);
  await first.append(() => ({ origin: null }), signal); // its first own checkpoint
  expect(await end()).toBe(true);
  expect(left(store)).toEqual(["notes.txt"]);
  expect(await end()).toBe(true);
});

test("SF3: of two disposals at once one finds that a job needs the savepoint; the other, which looked before, is still seen by that job", async () => {
  const base = await storeWithSavepoint();
  const view = (): MemoryStore => Object.assign(new MemoryStore(), { objects: base.objects });
  await take(base, "ns/racing", "NO_CLAIM"); // nobody disposes of it yet

  // Both look twice for jobs that need it: before and after their marks.
  const first = view();
  const gate = Promise.withResolvers<void>();
  const looksAgain = Promise.withResolvers<void>();
  const list = first.list.bind(first);
  let looks = 0;
  first.list = async (prefix) => {
    if (prefix === "" && (looks += 1) === 2) {
      looksAgain.resolve();
      await gate.promise;
    }
    return await list(prefix);
  };
  const refused = dispose(first);
  await looksAgain.promise;

  const second = view();
  const deletes = Promise.withResolvers<void>();
  second.remove = () => {
    deletes.resolve();
    return new Promise(() => {}); // stands still before it deletes anything
  };
  void dispose(second);
  await deletes.promise;

  await startFrom(base, "ns/racing", null);
  gate.resolve();
  await expect(refused).rejects.toMatchObject({
    code: "OPERATION_CONFLICT",
    message: expect.stringContaining("is needed"),
  });
  await expect(confirmOrigin(`${SAVEPOINT}/_metadata`, placeOfJob(base, "ns/racing"))).rejects.toThrow(
    "is being disposed of",
  );
});

test("SF4: a disposal that was interrupted is repeated, also one that marked it as older versions did", async () => {
  for (const interrupted of [
    (store: MemoryStore) => store.put(`${SAVEPOINT}/DISPOSAL-00000000deadbeef`, new Uint8Array()),
    (store: MemoryStore) =>
      store.put(
        `${SAVEPOINT}/CLAIM-old`,
        writeFrame("savepoint-claim", 1, { by: "disposal", jobDir: "", uid: "" } satisfies SavepointClaim),
      ),
  ]) {
    const store = await storeWithSavepoint();
    await interrupted(store);
    for (const mode of ["NO_CLAIM", "CLAIM"] as const)
      await expect(take(store, "ns/late", mode)).rejects.toThrow("is being disposed of");
    await dispose(store);
    expect(left(store)).toEqual(["notes.txt"]);
  }
});
