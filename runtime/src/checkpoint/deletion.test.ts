// A cancelled job whose checkpoints go with it: the record, and what is deleted after it, over a store in memory.

import { createHash } from "node:crypto";

import { describe, expect, test } from "@jest/globals";
import { Failure } from "@sluice/kit";
import type { Host, Log, PutIfAbsentOutcome, Timers } from "@sluice/kit/env";
import type { AttemptNumber, CheckpointId, Epoch } from "../model/index.ts";
import { emptyMetadata, ONE_TASK, ONE_VERTEX } from "./checkpoint.fixture.ts";
import { CommitLog, readCommitHead } from "./commit-log.ts";
import { CheckpointCoordinator } from "./coordinator-shell.ts";
import { cancellationChange } from "./deletion.ts";
import type { StoreOpener } from "./location.ts";
import { memoryEnv, MemoryStore, noOtherStore } from "./memory-store.fixture.ts";
import { metadataPath, writeCheckpointMetadata } from "./metadata.ts";
import { takeOrigin } from "./origin.ts";
import { recover } from "./recovery.ts";
import type { CheckpointPin, CheckpointRef, CommitRecord } from "./types.ts";
import { DEFAULT_CHECKPOINT_CONFIG } from "./types.ts";

const NEVER = new AbortController().signal;
const ids = (...of: readonly number[]): readonly CheckpointId[] => of as readonly CheckpointId[];
const ref = (id: number, kind: CheckpointRef["kind"] = "checkpoint"): CheckpointRef => ({
  kind,
  id: id as CheckpointId,
  path: `j/chk-${id}/_metadata`,
  sha256: "0",
});
const pin = (id: number, expiresAtMs: number | null): CheckpointPin => ({ ref: ref(id), holder: "h", expiresAtMs });

function record(changes: Partial<CommitRecord>): CommitRecord {
  return {
    formatVersion: 0,
    seq: 7,
    epoch: 2 as Epoch,
    nonce: "n",
    uid: "u",
    lineage: "l",
    submission: "earlier",
    closed: false,
    jobState: "active",
    idHigh: 64,
    planDigest: "p",
    head: ref(9),
    origin: null,
    retained: [ref(7), ref(8), ref(9)],
    condemned: ids(5),
    pins: [],
    ops: [],
    override: null,
    writtenMs: 0,
    ...changes,
  };
}

describe("the record of a cancellation that deletes", () => {
  const plain = { abandoned: ids(), deleted: ids() };
  test.each<
    readonly [
      what: string,
      record: Partial<CommitRecord>,
      options: typeof plain,
      condemned: readonly number[],
      fromId: number | undefined,
    ]
  >([
    ["everything retained and what was condemned before", {}, plain, [5, 7, 8, 9], 9],
    [
      "aborted ones too, but not what is deleted already",
      {},
      { abandoned: ids(10), deleted: ids(5) },
      [7, 8, 9, 10],
      9,
    ],
    ["nothing pinned", { pins: [pin(8, null), pin(7, 200)] }, plain, [5, 9], 9],
    ["what a pin held until a while ago", { pins: [pin(8, 99)] }, plain, [5, 7, 8, 9], 9],
    ["no savepoint: it is its owner's", { head: ref(9, "savepoint"), retained: [ref(8)] }, plain, [5, 8], 9],
    ["DE3: no head, nothing given up", { head: null, retained: [], origin: "x/chk-1" }, plain, [5], undefined],
  ])("condemns %s", (_what, changes, options, condemned, fromId) => {
    const previous = record(changes);
    const change = cancellationChange(previous, { ...options, wallMs: 100 });
    expect(change).toMatchObject({ closed: false, jobState: "cancelled", head: null, retained: [], condemned });
    expect(change.override).toEqual(
      fromId === undefined ? undefined : { type: "state-deleted", fromId, reason: "delete-on-cancellation" },
    );
    expect({ ...previous, ...change }.origin).toBe(previous.origin);
  });
});

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} } as unknown as Log;
const host = {
  name: "jm",
  crash: (reason: string) => {
    throw new Error(reason);
  },
} as unknown as Host;

/** Refuses the removal of a checkpoint, or lets something happen after the next conditional write. */
class StubbornStore extends MemoryStore {
  refused = "";
  afterWrite: (() => Promise<unknown>) | undefined;

  override async putIfAbsent(path: string, bytes: Uint8Array): Promise<PutIfAbsentOutcome> {
    const outcome = await super.putIfAbsent(path, bytes);
    const { afterWrite } = this;
    this.afterWrite = undefined;
    await afterWrite?.();
    return outcome;
  }

  override remove(path: string): Promise<void> {
    if (this.refused !== "" && path.includes(this.refused))
      return Promise.reject(new Failure("STORAGE_UNAVAILABLE", { retry: "backoff", message: "503" }));
    return super.remove(path);
  }
}

let seed = 0;

/** Every claim is of another submission: one that has ended is not claimed again. */
async function claim(store: MemoryStore): Promise<CommitLog> {
  seed += 1;
  const request = { jobName: "j", uid: "u", lineage: `run-${seed}`, newLineage: false, mayCreate: true };
  return (await CommitLog.claim({ store, jobDir: "j", env: memoryEnv(seed), request, planDigest: "p", signal: NEVER }))
    .log;
}

function coordinatorOf(store: MemoryStore, commitLog: CommitLog): CheckpointCoordinator {
  return new CheckpointCoordinator({
    env: { ...memoryEnv(77), log, host },
    store,
    openStore: noOtherStore,
    commitLog,
    vertices: [],
    config: DEFAULT_CHECKPOINT_CONFIG,
    gateway: { triggerCheckpoint: () => {}, notifyComplete: () => {}, notifyAborted: () => {} },
    listener: {
      failJob: () => {},
      fenced: () => {},
      completed: () => {},
      finalCompleted: () => {},
      stopFailed: () => {},
    },
  });
}

/** Checkpoints 1 to 3 of one part each; 1 is pinned, 4 is an orphan, another job lies beside. */
async function threeCheckpoints(store: MemoryStore): Promise<CommitLog> {
  const commitLog = await claim(store);
  const refs: CheckpointRef[] = [];
  for (const checkpointId of ids(1, 2, 3)) {
    const bytes = writeCheckpointMetadata(emptyMetadata(checkpointId));
    const path = metadataPath("j", checkpointId);
    await store.put(`j/chk-${checkpointId}/x-1`, new Uint8Array(3));
    await store.put(path, bytes);
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    refs.push({ kind: "checkpoint", id: checkpointId, path, sha256 });
    await commitLog.append(() => ({ head: refs.at(-1) ?? null, retained: [...refs] }), NEVER);
  }
  const [first] = refs;
  if (first === undefined) throw new Error("no checkpoint");
  await commitLog.append(() => ({ pins: [{ ref: first, holder: "somebody", expiresAtMs: null }] }), NEVER);
  await store.put("j/chk-4/x-1", new Uint8Array(3));
  await store.put("other/chk-2/x-1", new Uint8Array(3));
  return commitLog;
}

const left = (store: MemoryStore): readonly string[] =>
  [...store.objects.keys()].filter((path) => path.includes("/chk-")).sort();
const PINNED = ["j/chk-1/_metadata", "j/chk-1/x-1"];
const OTHERS = ["other/chk-2/x-1"];

describe("what is deleted when a job is cancelled", () => {
  test("RETAIN: nothing, and the next JobManager continues from the head", async () => {
    const store = new MemoryStore();
    const closed = await coordinatorOf(store, await threeCheckpoints(store)).close("cancelled");
    expect(closed).toMatchObject({ jobState: "cancelled", head: { id: 3 }, override: null });
    expect(store.removed).toEqual([]);
    expect((await claim(store)).head).toMatchObject({ head: { id: 3 } });
  });

  test("CL3, CL7: DELETE: all but what is pinned; orphans of earlier epochs too; the next start is empty, by record", async () => {
    const store = new MemoryStore();
    await threeCheckpoints(store);
    const closed = await coordinatorOf(store, await claim(store)).close("cancelled", { deletesCheckpoints: true });
    expect(closed).toMatchObject({ jobState: "cancelled", closed: false, head: null, retained: [], condemned: [] });
    expect(left(store)).toEqual([...PINNED, ...OTHERS]);
    const next = await claim(store);
    expect(next.head).toMatchObject({ head: null, override: { type: "state-deleted", fromId: 3 }, idHigh: 192 });
    const env = memoryEnv(5);
    const given = { localCopies: new Set<string>(), allSinksCanRetract: false, allowReplay: undefined, signal: NEVER };
    expect(await recover({ store, openStore: noOtherStore, log: next, env, ...given })).toEqual({ type: "empty" });
    await next.append(() => ({ head: ref(130), retained: [ref(130)] }), NEVER);
    expect(next.head.override).toBeNull();
  });

  test("what the store does not give up stays condemned, for the next JobManager", async () => {
    const store = new StubbornStore();
    const commitLog = await threeCheckpoints(store);
    store.refused = "chk-2/";
    const closed = await coordinatorOf(store, commitLog).close("cancelled", { deletesCheckpoints: true });
    expect(closed).toMatchObject({ head: null, condemned: [2] });
    expect((await claim(store)).head).toMatchObject({ head: null, condemned: [2] });
  });

  test("CL8: a JobManager that is fenced meanwhile deletes nothing", async () => {
    const store = new MemoryStore();
    const coordinator = coordinatorOf(store, await threeCheckpoints(store));
    const before = left(store);
    await claim(store);
    await expect(coordinator.close("cancelled", { deletesCheckpoints: true })).rejects.toMatchObject({
      code: "FENCED",
    });
    expect([left(store), (await readCommitHead(store, "j"))?.head?.id]).toEqual([before, 3]);
  });

  test("CL8: fenced between the record and the deletion: the next JobManager inherits the list", async () => {
    const store = new StubbornStore();
    const coordinator = coordinatorOf(store, await threeCheckpoints(store));
    const before = left(store);
    store.afterWrite = () => claim(store);
    await expect(coordinator.close("cancelled", { deletesCheckpoints: true })).rejects.toMatchObject({
      code: "FENCED",
    });
    const inherited = await readCommitHead(store, "j");
    expect(inherited).toMatchObject({ head: null, condemned: [2, 3], override: { type: "state-deleted", fromId: 3 } });
    expect(left(store)).toEqual(before);
  });
});

/** A coordinator of a job with one task that acknowledges at once; at its best it keeps one checkpoint. */
function runningCoordinator(options: {
  readonly store: MemoryStore;
  readonly openStore?: StoreOpener;
  readonly commitLog: CommitLog;
  readonly timers: Timers;
  readonly wallMs?: () => number;
  readonly fenced?: (failure: Failure) => void;
}): CheckpointCoordinator {
  const { store, openStore = noOtherStore, commitLog, timers, wallMs = () => 5, fenced = () => {} } = options;
  const coordinator: CheckpointCoordinator = new CheckpointCoordinator({
    env: { ...memoryEnv(1), timers, clock: { nowMs: () => 0, wallMs }, log, host },
    store,
    openStore,
    commitLog,
    vertices: [ONE_VERTEX],
    config: { ...DEFAULT_CHECKPOINT_CONFIG, retainedMax: 1 },
    gateway: {
      triggerCheckpoint: (_subtask, { epoch, attempt, barrier: { checkpointId } }) => {
        const stats = { startDelayMs: 0, alignmentMs: 0, syncMs: 0, asyncMs: 0, stateSizeBytes: 0 };
        const ack = { checkpointId, epoch, attempt, subtask: ONE_TASK, parts: [], finished: false, stats };
        queueMicrotask(() => coordinator.ack(ack));
      },
      notifyComplete: () => {},
      notifyAborted: () => {},
    },
    listener: {
      failJob: () => {},
      fenced,
      completed: () => {},
      finalCompleted: () => {},
      stopFailed: () => {},
    },
  });
  coordinator.attemptStarted(0 as AttemptNumber, null);
  coordinator.taskRunning(ONE_TASK);
  return coordinator;
}

/** Fires at once what does not carry one of these labels, and that never. */
function timersWithout(labels: readonly string[]): Timers {
  const { timers } = memoryEnv(1);
  return {
    after: (delayMs, label, run) => (labels.includes(label) ? () => {} : timers.after(delayMs, label, run)),
  };
}

test("OR1, C5: a job whose origin lies in a store that is away goes on taking checkpoints and deleting old ones, and ends", async () => {
  const store = new MemoryStore();
  const away = Object.assign(new MemoryStore(), {
    get: () => Promise.reject(new Failure("STORAGE_UNAVAILABLE", { retry: "backoff", message: "503" })),
  });
  const request = { jobName: "j", uid: "u", lineage: "l", newLineage: false, mayCreate: true, from: "far://a/b/chk-1" };
  const { log: commitLog } = await CommitLog.claim({
    store,
    jobDir: "j",
    env: memoryEnv(1),
    request,
    planDigest: "p",
    signal: NEVER,
  });
  const openStore = (): Promise<MemoryStore> => Promise.resolve(away);
  // Whoever waits for the store that is away waits for ever, and no checkpoint expires.
  const timers = timersWithout(["checkpoint-read", "checkpoint-timeout"]);
  const coordinator = runningCoordinator({ store, openStore, commitLog, timers });
  for (let i = 1; i <= 20; i += 1) expect(await coordinator.triggerCheckpoint()).toBe(i);
  await coordinator.close("failed");
  expect(left(store)).toEqual(["j/chk-20/_metadata"]);
});

describe("a claimed savepoint that own checkpoints have replaced", () => {
  const SAVEPOINT = "sp/savepoint-1/_metadata";
  const savepoint = (store: MemoryStore): readonly string[] =>
    [...store.objects.keys()].filter((path) => path.startsWith("sp/"));

  /** Its owner stands still right before it deletes it; `wake` lets it go on. */
  async function standingStill(): Promise<{
    readonly store: MemoryStore;
    readonly wake: () => Promise<unknown>;
    readonly start: (lineage: string, from?: string) => Promise<CommitLog>;
  }> {
    const store = new MemoryStore();
    await store.put(
      SAVEPOINT,
      writeCheckpointMetadata({
        checkpointId: 5 as CheckpointId,
        kind: "savepoint",
        base: "self",
        lineage: "old",
        epoch: 1 as Epoch,
        attempt: 0 as AttemptNumber,
        planDigest: "p",
        timestampMs: 0,
        isFinal: false,
        vertices: [],
      }),
    );
    const start = async (lineage: string, from?: string): Promise<CommitLog> => {
      seed += 1;
      const env = { ...memoryEnv(seed), log };
      const place = { store, openStore: noOtherStore, jobDir: "j", uid: "u", env, signal: NEVER };
      const request = { jobName: "j", uid: "u", lineage, newLineage: false, mayCreate: true };
      const { log: claimed } = await CommitLog.claim({
        store,
        jobDir: "j",
        env,
        request: { ...request, ...(from === undefined ? {} : { from }) },
        planDigest: "p",
        takeOrigin: (origin) => takeOrigin({ origin, claimMode: "CLAIM" }, place),
        signal: NEVER,
      });
      return claimed;
    };
    const commitLog = await start("first", SAVEPOINT);
    const still = Promise.withResolvers<void>();
    const woken = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<unknown>();
    // It looks for jobs that need it, over the whole store, before it deletes it.
    const list = store.list.bind(store);
    store.list = async (prefix) => {
      if (prefix !== "") return await list(prefix);
      store.list = list;
      still.resolve();
      await woken.promise;
      return await list(prefix);
    };
    const timers = timersWithout(["checkpoint-timeout"]);
    const coordinator = runningCoordinator({ store, commitLog, timers, fenced: ended.resolve });
    await coordinator.triggerCheckpoint(); // condemns it
    expect(commitLog.head.claim).toMatchObject({ path: SAVEPOINT, isCondemned: true });
    await coordinator.triggerCheckpoint(); // begins to delete it
    await still.promise;
    return { store, start, wake: () => (woken.resolve(), ended.promise) };
  }

  test("SD6: nobody starts from it any more, whoever owns the log now, not even behind another lineage", async () => {
    const { store, start, wake } = await standingStill();
    const before = await readCommitHead(store, "j");
    await expect(start("second", SAVEPOINT)).rejects.toMatchObject({
      code: "OPERATION_CONFLICT",
      message: expect.stringContaining("about to be deleted"),
    });
    expect(await readCommitHead(store, "j")).toEqual(before);
    await store.put("sp/savepoint-2/_metadata", store.objects.get(SAVEPOINT) ?? new Uint8Array());
    const other = await start("third", "sp/savepoint-2/_metadata");
    await expect(start("fourth", SAVEPOINT)).rejects.toMatchObject({ code: "OPERATION_CONFLICT" });
    await wake();
    // What the first lineage has condemned is deleted by whoever owns the log.
    const next = runningCoordinator({ store, commitLog: other, timers: timersWithout(["checkpoint-timeout"]) });
    for (let i = 0; i < 10; i += 1) await next.triggerCheckpoint();
    expect(savepoint(store)).toEqual([]);
    expect(other.head).toMatchObject({ claim: null, condemnedClaims: [] });
    next.dispose();
  });

  test("CL8: a JobManager that was fenced while it stood still deletes nothing when it wakes", async () => {
    const { store, start, wake } = await standingStill();
    await start("second");
    expect(await wake()).toMatchObject({ code: "FENCED" });
    expect(savepoint(store)).toContain(SAVEPOINT);
  });
});

describe("OR1: a checkpoint in another job's log, from which a job starts", () => {
  const DAY_MS = 24 * 3_600_000;
  const ORIGIN = "j/chk-2/_metadata";

  /** Job `k` starts from checkpoint 2 of job `j`. The test fires the timer of the pin, and moves the clock. */
  async function startedFromOther(): Promise<{
    readonly store: MemoryStore;
    readonly commitLog: CommitLog;
    readonly coordinator: CheckpointCoordinator;
    /** A day passes; false: nobody waits for it. */
    readonly day: () => Promise<boolean>;
    readonly pinned: () => Promise<readonly (readonly [id: number, expiresInMs: number | null])[]>;
  }> {
    const store = new MemoryStore();
    await threeCheckpoints(store);
    let wallMs = 5;
    seed += 1;
    const env = { ...memoryEnv(seed), clock: { nowMs: () => 0, wallMs: () => wallMs }, log };
    const place = { store, openStore: noOtherStore, jobDir: "k", uid: "u", env, signal: NEVER };
    const { log: commitLog } = await CommitLog.claim({
      store,
      jobDir: "k",
      env,
      request: { jobName: "k", uid: "u", lineage: "k1", newLineage: false, mayCreate: true, from: ORIGIN },
      planDigest: "p",
      takeOrigin: (origin) => takeOrigin({ origin, claimMode: "NO_CLAIM" }, place),
      signal: NEVER,
    });
    const { timers: atOnce } = memoryEnv(seed);
    const waiting: (() => void)[] = [];
    const timers: Timers = {
      after: (delayMs, label, run) => {
        if (label === "checkpoint-timeout" || label === "sleep") return () => {}; // no answer is too late
        if (label !== "origin-pin") return atOnce.after(delayMs, label, run);
        expect(delayMs).toBe(DAY_MS);
        waiting.push(run);
        return () => waiting.splice(waiting.indexOf(run), 1);
      },
    };
    const coordinator = runningCoordinator({ store, commitLog, timers, wallMs: () => wallMs });
    return {
      store,
      commitLog,
      coordinator,
      day: async () => {
        wallMs += DAY_MS;
        const run = waiting.shift();
        run?.();
        for (let i = 0; run !== undefined && waiting.length === 0 && i < 1_000; i += 1) await Promise.resolve();
        return run !== undefined;
      },
      pinned: async () => {
        const pins = (await readCommitHead(store, "j"))?.pins ?? [];
        return pins
          .filter(({ holder }) => holder.startsWith("restore:k:"))
          .map(({ ref: { id }, expiresAtMs }) => [id, expiresAtMs === null ? null : expiresAtMs - wallMs] as const);
      },
    };
  }

  test("is pinned anew every day for seven more, and let go with the first own checkpoint", async () => {
    const { coordinator, day, pinned } = await startedFromOther();
    expect(await pinned()).toEqual([[2, 7 * DAY_MS]]);
    for (let i = 0; i < 30; i += 1) {
      expect(await day()).toBe(true);
      expect(await pinned()).toEqual([[2, 7 * DAY_MS]]);
    }
    await coordinator.triggerCheckpoint();
    await coordinator.close("failed");
    expect(await pinned()).toEqual([]);
    expect(await day()).toBe(false);
  });

  test("is let go with a later checkpoint, when its store did not answer; other pins of that log stay", async () => {
    const { store, coordinator, pinned } = await startedFromOther();
    const put = store.putIfAbsent.bind(store);
    let refusals = 1;
    store.putIfAbsent = (path, bytes) =>
      path.startsWith("j/") && (refusals -= 1) >= 0
        ? Promise.reject(new Failure("STORAGE_DENIED", { retry: "never", message: "403" }))
        : put(path, bytes);
    for (let i = 0; i < 8; i += 1) await coordinator.triggerCheckpoint();
    await coordinator.close("failed");
    expect(refusals).toBe(-1); // refused once, and asked for once more
    expect(await pinned()).toEqual([]);
    expect((await readCommitHead(store, "j"))?.pins).toHaveLength(1);
  });
});
