// Looking after a store: what is garbage and what is not, beside a job that runs, rests, or was deleted.

import { createHash } from "node:crypto";

import { beforeEach, describe, expect, test } from "@jest/globals";
import { isFailure, SeededRng } from "@sluice/kit";
import { UploadSpace } from "@sluice/sim";
import type { AttemptNumber, CheckpointId, CheckpointMetadata } from "../model/index.ts";
import { CommitLog, readCommitHead } from "./commit-log.ts";
import { memoryEnv, MemoryStore } from "./memory-store.fixture.ts";
import { metadataPath, writeCheckpointMetadata } from "./metadata.ts";
import {
  closeJob,
  collectGarbage,
  inspectJob,
  jobDirectories,
  pinCheckpoint,
  purgeable,
  purgeJob,
  unpin,
} from "./store-admin.ts";
import type { AdminPlace } from "./store-admin.ts";
import type { CheckpointRef, CommitRecord } from "./types.ts";

const NEVER = new AbortController().signal;
const JOB = "ns/j";
const NOW_MS = 10_000_000;
const ALL = { quarantineMs: 0, deletes: true };

let store: MemoryStore;
let seed = 0;
beforeEach(() => void (store = new MemoryStore()));

function place(): AdminPlace {
  const env = memoryEnv((seed += 1));
  return { store, jobDir: JOB, env: { ...env, clock: { nowMs: () => 0, wallMs: () => NOW_MS } }, signal: NEVER };
}

async function claim(options: { readonly lineage?: string; readonly newLineage?: boolean } = {}): Promise<CommitLog> {
  const { lineage = "l", newLineage = false } = options;
  const request = { jobName: "j", uid: "u", lineage, newLineage, mayCreate: true };
  const env = memoryEnv((seed += 1));
  return (await CommitLog.claim({ store, jobDir: JOB, env, request, planDigest: "p", signal: NEVER })).log;
}

/** Commits checkpoint `id` with one pack; keeps the newest two. */
async function commit(log: CommitLog, id: number): Promise<CheckpointRef> {
  const object = `chk-${id}/x-${log.epoch}.0.tm-1.aaaa-0`;
  const metadata: CheckpointMetadata = {
    checkpointId: id as CheckpointId,
    kind: "checkpoint",
    base: "job",
    lineage: "l",
    epoch: log.epoch,
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
        subtasks: [
          {
            subtaskIndex: 0,
            finished: false,
            parts: [{ uid: "u", stateName: "s", kind: "operator", object, offset: 0, lengthBytes: 3, crc32c: 0 }],
          },
        ],
      },
    ],
  };
  const bytes = writeCheckpointMetadata(metadata);
  await store.put(`${JOB}/${object}`, new Uint8Array(3));
  const path = metadataPath(JOB, id as CheckpointId);
  await store.put(path, bytes);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const ref: CheckpointRef = { kind: "checkpoint", id: id as CheckpointId, path, sha256 };
  await log.append((previous) => {
    const all = [...previous.retained, ref];
    const dropped = all.slice(0, -2).map((other) => other.id);
    return { head: ref, retained: all.slice(-2), condemned: [...previous.condemned, ...dropped] };
  }, NEVER);
  return ref;
}

async function leave(...names: readonly string[]): Promise<void> {
  for (const name of names) await store.put(`${JOB}/${name}`, new Uint8Array(5));
}

const left = (): readonly string[] =>
  [...store.objects.keys()]
    .filter((path) => !path.includes("/commits/"))
    .map((path) => path.slice(JOB.length + 1))
    .sort();

async function head(): Promise<CommitRecord> {
  const record = await readCommitHead(store, JOB);
  if (record === undefined) throw new Error("no record");
  return record;
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "none";
  } catch (thrown) {
    return isFailure(thrown) ? thrown.code : String(thrown);
  }
}

const PACK = (id: number, epoch = 1): readonly string[] => [
  `chk-${id}/_metadata`,
  `chk-${id}/x-${epoch}.0.tm-1.aaaa-0`,
];

describe("while the job runs", () => {
  test("SV4: what earlier epochs left is garbage, what this one may be writing is not", async () => {
    const first = await claim();
    await commit(first, 1);
    await leave("chk-9/x-1.0.tm-1.bbbb-0", "chk-9/_metadata"); // of epoch 1: never committed
    const second = await claim();
    await commit(second, 65);
    await leave("chk-66/x-2.0.tm-1.cccc-0"); // above the head, of the running epoch
    const outcome = await collectGarbage(place(), ALL);
    expect(outcome.victims.map(({ path }) => path.slice(JOB.length + 1))).toEqual([
      "chk-9/_metadata",
      "chk-9/x-1.0.tm-1.bbbb-0",
    ]);
    expect(left()).toEqual([...PACK(1), ...PACK(65, 2), "chk-66/x-2.0.tm-1.cccc-0"].sort());
    expect(store.removed[0]).toMatch(/chk-9\/_metadata$/u); // SA1
    await commit(second, 66); // the JobManager follows the administrator's records and is not fenced
    expect(await head()).toMatchObject({ head: { id: 66 }, epoch: 2, condemned: [1] });
  });

  test("a leftover beside a checkpoint that is kept is condemned by its name, and goes alone", async () => {
    const log = await claim();
    await commit(log, 1);
    await leave("chk-1/x-1.0.tm-2.zzzz-0");
    const before = (await head()).seq;
    await collectGarbage(place(), ALL);
    expect(left()).toEqual(PACK(1));
    const record = await log.append(() => ({}), NEVER);
    expect(record).toMatchObject({
      type: "appended",
      record: { seq: before + 3, condemned: [], condemnedObjects: [] },
    });
  });

  test("what the running job condemned is left to it; nothing is garbage twice", async () => {
    const log = await claim();
    for (const id of [1, 2, 3]) await commit(log, id);
    expect((await head()).condemned).toEqual([1]);
    expect(await collectGarbage(place(), ALL)).toMatchObject({ victims: [], deletedCount: 0 });
    expect(left()).toContain("chk-1/_metadata");
  });

  test("quarantine: an object that is young is not deleted, and is said to be there", async () => {
    await commit(await claim(), 1);
    await leave("chk-40/x-1.0.tm-1.bbbb-0");
    await claim();
    const options = { quarantineMs: NOW_MS + 1, deletes: true };
    const { inspection, victims } = await collectGarbage(place(), options);
    expect(victims).toEqual([]);
    expect(inspection.survey.objects.filter((o) => o.class === "quarantined")).toHaveLength(1);
    expect(left()).toContain("chk-40/x-1.0.tm-1.bbbb-0");
  });

  test("SV2, SV3: foreign names stay; metadata that is kept and unreadable stops everything", async () => {
    const log = await claim();
    await commit(log, 1);
    await leave("chk-9/x-1.0.tm-1.bbbb-0", "notes.txt", "chk-9/somebody.bin", "savepoint-ab/_metadata", "shared/s-1");
    await claim();
    store.objects.set(`${JOB}/chk-1/_metadata`, new Uint8Array(7));
    const blocked = await collectGarbage(place(), ALL);
    expect(blocked.inspection.survey.blockedBy).toMatch(/chk-1\/_metadata/u);
    expect(store.removed).toEqual([]);
    await commit(await claim(), 1); // whole again
    await collectGarbage(place(), ALL);
    expect(left()).toEqual(
      expect.arrayContaining(["notes.txt", "chk-9/somebody.bin", "savepoint-ab/_metadata", "shared/s-1"]),
    );
    expect(left()).not.toContain("chk-9/x-1.0.tm-1.bbbb-0");
  });

  test("a JobManager that claims the log meanwhile makes the collection start over", async () => {
    await commit(await claim(), 1);
    await leave("chk-9/x-1.0.tm-1.bbbb-0");
    const run = await claim();
    await run.append(() => ({ jobState: "cancelled" }), NEVER);
    const original = store.list.bind(store);
    let races = 1;
    store.list = async (prefix) => {
      const listed = await original(prefix);
      if (prefix === `${JOB}/` && races-- > 0) {
        await claim({ lineage: "next" }); // the cancelled submission itself is not claimed again
        await leave("chk-130/x-3.0.tm-1.cccc-0"); // its first upload: garbage to the record that was read before
      }
      return listed;
    };
    await collectGarbage(place(), ALL);
    expect(left()).toEqual([...PACK(1), "chk-130/x-3.0.tm-1.cccc-0"].sort());
  });
});

test("of a job that has ended everything that nothing keeps is garbage, condemned objects too", async () => {
  const log = await claim();
  for (const id of [1, 2, 3]) await commit(log, id);
  await leave("chk-4/x-1.0.tm-1.bbbb-0");
  await log.append(() => ({ closed: true, jobState: "finished" }), NEVER);
  expect(await collectGarbage(place(), { quarantineMs: 0, deletes: false })).toMatchObject({ deletedCount: 0 });
  expect(store.removed).toEqual([]);
  expect(await collectGarbage(place(), ALL)).toMatchObject({ deletedCount: 3 });
  expect(left()).toEqual([...PACK(2), ...PACK(3)].sort());
  expect(await head()).toMatchObject({ condemned: [], closed: true, jobState: "finished", head: { id: 3 } });
  expect(await collectGarbage(place(), ALL)).toMatchObject({ victims: [] });
});

describe("pins", () => {
  test("SA2: what is pinned survives the job's own deletion, until it is taken back", async () => {
    const log = await claim();
    await commit(log, 1);
    expect(await pinCheckpoint(place(), { checkpointId: undefined, holder: "h", expiresAtMs: null })).toMatchObject({
      ref: { id: 1 },
    });
    for (const id of [2, 3]) await commit(log, id);
    expect((await head()).pins).toMatchObject([{ holder: "h", ref: { id: 1 } }]);
    const { survey } = await inspectJob(place(), { quarantineMs: 0 });
    expect(survey.kept.map(({ ref, reasons }) => [ref.id, ...reasons])).toEqual([
      [3, "head", "retained"],
      [2, "retained"],
      [1, "pinned by h"],
    ]);
    expect(await codeOf(pinCheckpoint(place(), { checkpointId: 7, holder: "h", expiresAtMs: null }))).toBe(
      "INPUT_NOT_FOUND",
    );
    expect(await unpin(place(), { holder: "h", checkpointId: undefined })).toBe(1);
    expect(await unpin(place(), { holder: "h", checkpointId: undefined })).toBe(0);
  });

  test("a pin that has run out holds nothing", async () => {
    await commit(await claim(), 1);
    await pinCheckpoint(place(), { checkpointId: 1, holder: "h", expiresAtMs: NOW_MS - 1 });
    const { survey } = await inspectJob(place(), { quarantineMs: 0 });
    expect(survey.kept[0]?.reasons).toEqual(["head", "retained"]);
  });
});

describe("the end of a job", () => {
  test("CL12: close fences whoever runs it; nobody continues it", async () => {
    const log = await claim();
    await commit(log, 1);
    await closeJob(place());
    expect(await codeOf(log.append(() => ({}), NEVER))).toBe("FENCED");
    expect(await codeOf(claim({ lineage: "other" }))).toBe("JOB_CLOSED");
    expect(await closeJob(place())).toMatchObject({ closed: true, epoch: 2, jobState: "cancelled" }); // twice is once
  });

  test("SA3: only a closed job is purged, not what somebody has pinned; the last record stays", async () => {
    const log = await claim();
    for (const id of [1, 2, 3]) await commit(log, id);
    await leave("chk-4/x-1.0.tm-1.bbbb-0", "notes.txt");
    await pinCheckpoint(place(), { checkpointId: 3, holder: "h", expiresAtMs: null });
    expect(await codeOf(purgeJob(place(), {}))).toBe("OPERATION_CONFLICT");
    await closeJob(place());
    expect(await codeOf(purgeJob(place(), {}))).toBe("OPERATION_CONFLICT");
    await unpin(place(), { holder: "h", checkpointId: undefined });
    expect(await purgeJob(place(), {})).toMatchObject({ deletedCount: 7 });
    expect(left()).toEqual(["notes.txt"]);
    const record = await head();
    expect([...store.objects.keys()].filter((path) => path.includes("/commits/"))).toHaveLength(1);
    expect(record).toMatchObject({ closed: true, head: null, override: { type: "state-deleted", reason: "purge" } });
    expect(await codeOf(claim({ lineage: "other" }))).toBe("JOB_CLOSED");
    const next = await claim({ lineage: "other", newLineage: true });
    expect(next.peekId()).toBeGreaterThan(64); // CL4: names never recur
  });

  test("a job without a log is an error, not an empty answer", async () => {
    expect(await codeOf(collectGarbage(place(), ALL))).toBe("INPUT_NOT_FOUND");
    expect(await codeOf(closeJob(place()))).toBe("INPUT_NOT_FOUND");
  });
});

test("a list of a store falls apart into jobs, the innermost directory counts", async () => {
  for (const path of ["a/j/commits/000000000001", "a/j/chk-1/_metadata", "b/commits/000000000001", "a/x", "b/c/d"])
    await store.put(path, new Uint8Array(1));
  const { jobs, others } = jobDirectories(await store.list(""));
  expect([...jobs].map(([name, objects]) => [name, objects.length])).toEqual([
    ["a/j", 2],
    ["b", 2],
  ]);
  expect(others.map(({ path }) => path)).toEqual(["a/x"]);
});

describe("uploads that nobody has completed", () => {
  const spaces = { own: new UploadSpace(new SeededRng(1)), output: new UploadSpace(new SeededRng(2)) };
  beforeEach(() => {
    spaces.own = new UploadSpace(new SeededRng(1));
    spaces.output = new UploadSpace(new SeededRng(2));
  });
  const at = (): AdminPlace => ({ ...place(), uploads: spaces.own.client(), outputs: [spaces.output.client()] });
  const names = async (space: UploadSpace): Promise<readonly string[]> =>
    (await space.client().list("")).map(({ path }) => path);

  /** A job that runs in its second epoch, with uploads of both, of other jobs, and of somebody else. */
  async function running(): Promise<CommitLog> {
    await commit(await claim(), 1);
    const log = await claim();
    await commit(log, 65);
    for (const name of ["chk-9/x-1.0.tm-1.bbbb-0", "chk-66/x-2.0.tm-1.cccc-0", "chk-65/x-2.0.tm-1.aaaa-0", "notes"])
      await spaces.own.client().begin(`${JOB}/${name}`);
    await spaces.own.client().begin("ns/other/chk-9/x-1.0.tm-1.bbbb-0");
    for (const name of ["part-l-out-0-1.0-7.ndjson", "part-l2-out-0-1.0-7.ndjson", "part-of-mine.csv"])
      await spaces.output.client().begin(name);
    return log;
  }

  test("IU1: gc says which are garbage, and aborts those that nobody can be writing; a sink's stay while its job may go on", async () => {
    await running();
    const dry = await collectGarbage(at(), { ...ALL, deletes: false });
    const garbage = ["chk-65/x-2.0.tm-1.aaaa-0", "chk-9/x-1.0.tm-1.bbbb-0"].map((name) => `${JOB}/${name}`);
    expect([dry.uploads.map(({ upload }) => upload.path), dry.abortedCount]).toEqual([garbage, 0]);
    expect([spaces.own.openCount, spaces.output.openCount]).toEqual([5, 3]);
    expect((await collectGarbage(at(), { quarantineMs: NOW_MS + 1, deletes: true })).abortedCount).toBe(0);
    expect((await collectGarbage(at(), ALL)).abortedCount).toBe(2);
    expect(await names(spaces.own)).toEqual([
      `${JOB}/chk-66/x-2.0.tm-1.cccc-0`,
      `${JOB}/notes`,
      "ns/other/chk-9/x-1.0.tm-1.bbbb-0",
    ]);
    expect(spaces.output.openCount).toBe(3);
  });

  test("SV3: a checkpoint that is kept and cannot be read stops this too", async () => {
    await running();
    store.objects.set(`${JOB}/chk-65/_metadata`, new Uint8Array(7));
    expect((await collectGarbage(at(), ALL)).abortedCount).toBe(0);
    expect(spaces.own.openCount).toBe(5);
  });

  test("IU2: purge aborts those of the closed job, in its store and its sinks' output, and nobody else's", async () => {
    await running();
    expect(await codeOf(purgeJob(at(), {}))).toBe("OPERATION_CONFLICT");
    expect(await codeOf(purgeable(at()))).toBe("OPERATION_CONFLICT");
    await closeJob(place());
    const { objects, uploads } = await purgeable(at());
    expect([objects.length, uploads.length]).toEqual([4, 4]);
    expect([spaces.own.openCount, spaces.output.openCount, store.removed]).toEqual([5, 3, []]);
    expect(await purgeJob(at(), {})).toMatchObject({ deletedCount: 4, abortedCount: 4 });
    expect(await names(spaces.own)).toEqual([`${JOB}/notes`, "ns/other/chk-9/x-1.0.tm-1.bbbb-0"]);
    expect(await names(spaces.output)).toEqual(["part-l2-out-0-1.0-7.ndjson", "part-of-mine.csv"]);
    expect(left()).toEqual([]);
  });
});
