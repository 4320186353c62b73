// What an attempt restores, over a store in memory: the head, or what a recorded regression put in its place.

import { createHash } from "node:crypto";

import { describe, expect, test } from "@jest/globals";
import type { Log } from "@sluice/kit/env";

import { CommitLog, endStateOf, metadataPath, writeCheckpointMetadata } from "../checkpoint/index.ts";
import type { CheckpointRef } from "../checkpoint/index.ts";
import { memoryEnv, MemoryStore, noOtherStore } from "../checkpoint/memory-store.fixture.ts";
import type { AttemptNumber, CheckpointId, CheckpointMetadata, Epoch, JobPlan } from "../model/index.ts";
import { prepareRestore } from "./restore.ts";
import type { PreparedRestore } from "./restore.ts";

const NEVER = new AbortController().signal;
const JOB_DIR = "ns/job";
const SINK = { transformationId: 0, name: "out", uid: "out", kind: "sink", stateful: true, canRetract: true } as const;
const PLAN: JobPlan = {
  formatVersion: 0,
  jobName: "job",
  digest: "d",
  arguments: [],
  configuration: {},
  vertices: [{ id: "v", name: "v", parallelism: 2, maxParallelism: 128, chain: [SINK], inputs: [], splits: [] }],
};
const noLog = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} } as unknown as Log;

let seed = 0;

async function claim(store: MemoryStore, submission = "l"): Promise<CommitLog> {
  seed += 1;
  const request = { jobName: "job", uid: "u", lineage: submission, newLineage: false, mayCreate: true };
  const env = memoryEnv(seed);
  return (await CommitLog.claim({ store, jobDir: JOB_DIR, env, request, planDigest: "d", signal: NEVER })).log;
}

/** Commits checkpoint `id` of two subtasks without parts; or a drained savepoint, as the record before the job has ended says it. */
async function commit(store: MemoryStore, log: CommitLog, id: number, as?: "drained"): Promise<void> {
  const checkpointId = id as CheckpointId;
  const kind = as === undefined ? "checkpoint" : "savepoint";
  const metadata: CheckpointMetadata = {
    checkpointId,
    kind,
    base: as === undefined ? "job" : "self",
    lineage: "l",
    epoch: 1 as Epoch,
    attempt: 0 as AttemptNumber,
    planDigest: "d",
    timestampMs: 0,
    isFinal: as === "drained",
    vertices: [
      {
        vertexId: "v",
        parallelism: 2,
        maxParallelism: 128,
        uids: ["out"],
        subtasks: [0, 1].map((subtaskIndex) => ({ subtaskIndex, finished: false, parts: [] })),
      },
    ],
  };
  const bytes = writeCheckpointMetadata(metadata);
  const path = as === undefined ? metadataPath(JOB_DIR, checkpointId) : `savepoints/s${id}/_metadata`;
  await store.put(path, bytes);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const ref: CheckpointRef = { kind, id: checkpointId, path, sha256 };
  if (as === "drained") await log.append(() => ({ head: ref, jobState: "draining" }), NEVER);
  else await log.append(({ retained }) => ({ head: ref, retained: [...retained, ref] }), NEVER);
}

function prepare(store: MemoryStore, log: CommitLog): Promise<PreparedRestore> {
  return prepareRestore({
    store,
    openStore: noOtherStore,
    log,
    plan: PLAN,
    env: { ...memoryEnv(99), log: noLog },
    copies: { find: () => Promise.resolve(new Set()), repair: () => Promise.resolve([]) },
    damaged: new Map(),
    allowReplay: undefined,
    unclaimedState: "fail",
    signal: NEVER,
  });
}

const restored = (prepared: PreparedRestore): readonly unknown[] =>
  [...prepared.tasks].map(([key, { checkpointId, retractThrough }]) => [key, checkpointId, retractThrough]);

describe("the range that sinks retract", () => {
  test("a whole head retracts nothing", async () => {
    const store = new MemoryStore();
    const log = await claim(store);
    for (const id of [1, 2, 3]) await commit(store, log, id);
    expect(restored(await prepare(store, log))).toEqual([
      ["v/0", 3, undefined],
      ["v/1", 3, undefined],
    ]);
  });

  test("RC2: going back to 1 retracts through the old head 3, also for the next JobManager, and no more after the next commit", async () => {
    const store = new MemoryStore();
    const log = await claim(store);
    for (const id of [1, 2, 3]) await commit(store, log, id);
    for (const id of [2, 3]) store.objects.delete(metadataPath(JOB_DIR, id as CheckpointId));
    const back = [
      ["v/0", 1, 3],
      ["v/1", 1, 3],
    ];
    expect(restored(await prepare(store, log))).toEqual(back);
    const next = await claim(store);
    expect(restored(await prepare(store, next))).toEqual(back);
    // The older JobManager still believes in its own record: its range ends where its knowledge does.
    await commit(store, next, 65);
    expect(restored(await prepare(store, log))).toEqual(back);
    expect(restored(await prepare(store, next))).toEqual([
      ["v/0", 65, undefined],
      ["v/1", 65, undefined],
    ]);
  });
});

describe("after a drain", () => {
  const drained = async (store: MemoryStore): Promise<CommitLog> => {
    const log = await claim(store);
    await commit(store, log, 1);
    await commit(store, log, 2, "drained");
    return log;
  };

  test("nothing is processed any more, also when the run that published it failed, or was cancelled, and somebody starts the job again", async () => {
    for (const jobState of ["draining", "failed", "cancelled"] as const) {
      const store = new MemoryStore();
      await (await drained(store)).append(() => ({ jobState }), NEVER);
      const prepared = await prepare(store, await claim(store, "another run"));
      expect([jobState, prepared.metadata?.checkpointId, prepared.endsAtOnce]).toEqual([jobState, 2, true]);
    }
  });

  test("CL6: a job whose drained savepoint is lost stops with an older checkpoint and is not finished: what came after that is not lost", async () => {
    const store = new MemoryStore();
    const log = await drained(store);
    store.objects.delete("savepoints/s2/_metadata");
    const prepared = await prepare(store, log);
    expect(restored(prepared)[0]).toEqual(["v/0", 1, 2]);
    expect([prepared.endsAtOnce, log.head.jobState, endStateOf(log.head)]).toEqual([true, "stopping", "stopped"]);
    expect((await prepare(store, await claim(store, "another run"))).endsAtOnce).toBe(false);
  });
});
