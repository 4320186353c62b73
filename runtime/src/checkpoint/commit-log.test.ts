// The commit log over a store in memory whose answers a script decides: unknown outcomes, conflicts, two writers.

import { describe, expect, test } from "@jest/globals";
import { Failure, SeededRng } from "@sluice/kit";
import type { ObjectInfo, ObjectStore, PutIfAbsentOutcome, Timers } from "@sluice/kit/env";
import { CommitLog, ID_BLOCK_COUNT, readCommitHead } from "./commit-log.ts";
import { commitPath } from "./commit-record.ts";
import { regressionChange } from "./recovery.ts";
import { START_PINS_MAX, withoutStartPins } from "./pins.ts";
import type { CheckpointRef, CommitRecord, StartRequest } from "./types.ts";

type Fault = "refused" | "unknown, done" | "unknown, not done" | "exists, but it was me" | "denied";

/** Answers at once; `faults` strike the next conditional writes, in order. */
class ScriptedStore implements ObjectStore {
  readonly uri = "mem://";
  readonly objects = new Map<string, { bytes: Uint8Array; modifiedMs: number }>();
  readonly faults: Fault[] = [];
  nowMs = 0;

  get(path: string): Promise<Uint8Array | undefined> {
    return Promise.resolve(this.objects.get(path)?.bytes);
  }
  getRange(): Promise<undefined> {
    return Promise.resolve(undefined);
  }
  put(path: string, bytes: Uint8Array): Promise<"stored"> {
    this.objects.set(path, { bytes, modifiedMs: this.nowMs });
    return Promise.resolve("stored");
  }
  putIfAbsent(path: string, bytes: Uint8Array): Promise<PutIfAbsentOutcome> {
    const fault = this.faults.shift();
    if (fault === "refused")
      return Promise.reject(new Failure("STORAGE_UNAVAILABLE", { retry: "backoff", message: "503" }));
    if (fault === "denied") return Promise.reject(new Failure("STORAGE_DENIED", { retry: "never", message: "403" }));
    if (fault === "unknown, not done") return Promise.resolve("unknown");
    if (this.objects.has(path)) return Promise.resolve("exists");
    this.objects.set(path, { bytes, modifiedMs: this.nowMs });
    if (fault === "unknown, done") return Promise.resolve("unknown");
    return Promise.resolve(fault === undefined ? "created" : "exists");
  }
  stat(): Promise<undefined> {
    return Promise.resolve(undefined);
  }
  list(prefix: string): Promise<readonly ObjectInfo[]> {
    const paths = [...this.objects.keys()].filter((path) => path.startsWith(prefix)).sort();
    return Promise.resolve(
      paths.map((path) => ({ path, sizeBytes: 1, modifiedMs: this.objects.get(path)?.modifiedMs ?? 0 })),
    );
  }
  remove(path: string): Promise<void> {
    this.objects.delete(path);
    return Promise.resolve();
  }
}

const timers: Timers = {
  after: (_delayMs, _label, run) => {
    let isCancelled = false;
    queueMicrotask(() => !isCancelled && run());
    return () => (isCancelled = true);
  },
};
const NEVER = new AbortController().signal;
const env = (seed: number) => ({ timers, rng: new SeededRng(seed), clock: { nowMs: () => 0, wallMs: () => 5 } });
const ref = (id: number): CheckpointRef => ({
  kind: "checkpoint",
  id: id as CheckpointRef["id"],
  path: `j/chk-${id}/_metadata`,
  sha256: "0",
});

let seed = 0;
async function claim(store: ObjectStore, changes: Partial<StartRequest> = {}): Promise<CommitLog> {
  const request = { jobName: "j", uid: "u", lineage: "l", newLineage: false, mayCreate: true, ...changes };
  seed += 1;
  return (await CommitLog.claim({ store, jobDir: "j", env: env(seed), request, planDigest: "p", signal: NEVER })).log;
}

const head = (id: number) => () => ({ head: ref(id), retained: [ref(id)] });

test("P0: a claim raises the epoch, reserves ids and carries the head", async () => {
  const store = new ScriptedStore();
  const first = await claim(store);
  expect([first.epoch, first.takeId(), first.head.idHigh]).toEqual([1, 1, ID_BLOCK_COUNT]);
  await first.append(head(1), NEVER);
  const second = await claim(store);
  expect([second.epoch, second.takeId(), second.head.idHigh, second.head.head?.id]).toEqual([
    2,
    ID_BLOCK_COUNT + 1,
    2 * ID_BLOCK_COUNT,
    1,
  ]);
  expect([...store.objects.keys()]).toEqual([commitPath("j", 1), commitPath("j", 2), commitPath("j", 3)]);
});

describe("CO1: an append goes on until it knows", () => {
  test.each<readonly [string, readonly Fault[], string]>([
    ["refused writes are repeated", ["refused", "refused"], "appended"],
    ["done, but the answer was lost", ["unknown, done"], "appended"],
    ["not done, and the answer was lost", ["unknown, not done", "refused"], "appended"],
    ["the client library repeated its own success", ["exists, but it was me"], "appended"],
    ["in doubt, then denied: still asks", ["unknown, not done", "denied"], "appended"],
    ["denied: certainly not written", ["denied"], "failed"],
  ])("%s", async (_name, faults, expected) => {
    const store = new ScriptedStore();
    const log = await claim(store);
    store.faults.push(...faults);
    expect((await log.append(head(1), NEVER)).type).toBe(expected);
    const after = await log.append(head(2), NEVER);
    expect(after.type).toBe("appended");
    expect((await readCommitHead(store, "j"))?.seq).toBe(expected === "appended" ? 3 : 2);
  });

  test("giving up is honoured only while nothing can have been written", async () => {
    const store = new ScriptedStore();
    const log = await claim(store);
    store.faults.push("refused");
    expect((await log.append(head(1), AbortSignal.abort())).type).toBe("failed");
    store.faults.push("unknown, not done", "refused", "unknown, done");
    expect((await log.append(head(1), AbortSignal.abort())).type).toBe("appended");
  });
});

test("CL1, CL8: the older writer is fenced by its next append, for ever", async () => {
  const store = new ScriptedStore();
  const zombie = await claim(store);
  const log = await claim(store);
  await expect(zombie.append(head(1), NEVER)).rejects.toMatchObject({ code: "FENCED" });
  await expect(zombie.append(head(1), NEVER)).rejects.toMatchObject({ code: "FENCED" });
  await expect(zombie.settled()).rejects.toMatchObject({ code: "FENCED" });
  expect((await log.append(head(65), NEVER)).type).toBe("appended");
});

test("a writer that waits learns that it is fenced", async () => {
  const store = new ScriptedStore();
  const zombie = await claim(store);
  await zombie.verifyOwnership(NEVER);
  await claim(store);
  await expect(zombie.verifyOwnership(NEVER)).rejects.toMatchObject({ code: "FENCED" });
});

test("P1: the block of ids is renewed with appends and by itself, without a gap", async () => {
  const log = await claim(new ScriptedStore());
  const ids: number[] = [];
  for (let i = 0; i < 3 * ID_BLOCK_COUNT; i += 1) {
    if (log.peekId() === undefined) await log.reserveIds(NEVER);
    ids.push(log.takeId() ?? -1);
  }
  expect(ids).toEqual(Array.from({ length: 3 * ID_BLOCK_COUNT }, (_, i) => i + 1));
});

test("CL11, CL12: a new lineage after the end keeps the old checkpoints, by pins, and remembers where it started", async () => {
  const store = new ScriptedStore();
  const old = await claim(store);
  await old.append(head(1), NEVER);
  await old.append(() => ({ closed: true, jobState: "finished" as const }), NEVER);
  await expect(claim(store)).rejects.toMatchObject({ code: "JOB_FINISHED" });
  const fresh = await claim(store, { lineage: "l2", from: "j/chk-1" });
  expect(fresh.head).toMatchObject({ lineage: "l2", closed: false, head: null, origin: "j/chk-1", retained: [] });
  expect(fresh.head.pins).toEqual([{ ref: ref(1), holder: "lineage:l", expiresAtMs: null }]);
  expect(fresh.head.override).toEqual({ type: "new-lineage", previousLineage: "l", restoredFrom: "j/chk-1" });
  const restarted = await claim(store, { lineage: "l2", from: "j/chk-1" });
  expect(restarted.head).toMatchObject({ lineage: "l2", origin: "j/chk-1", override: null });
});

test("SD1: changed code continues the log, and the record says which plan it is", async () => {
  const store = new ScriptedStore();
  await (await claim(store)).append(head(1), NEVER);
  const request = { jobName: "j", uid: "u", lineage: "another start", newLineage: false, mayCreate: true };
  const claimed = await CommitLog.claim({
    store,
    jobDir: "j",
    env: env(1_000),
    request,
    planDigest: "other code",
    signal: NEVER,
  });
  expect(claimed.decision).toEqual({ type: "continue" });
  expect(claimed.log.head).toMatchObject({ epoch: 2, head: { id: 1 }, lineage: "l", planDigest: "other code" });
});

test("a damaged record is named", async () => {
  const store = new ScriptedStore();
  await claim(store);
  const path = commitPath("j", 1);
  const bytes = store.objects.get(path)?.bytes.slice(0, 40) ?? new Uint8Array();
  store.objects.set(path, { bytes, modifiedMs: 0 });
  await expect(claim(store)).rejects.toThrow(`commit record mem:///${path} is damaged`);
});

test("CO2: appends queue up, each follows the one before", async () => {
  const store = new ScriptedStore();
  const log = await claim(store);
  const outcomes = await Promise.all([1, 2, 3].map((id) => log.append(head(id), NEVER)));
  expect(outcomes.map((o) => (o.type === "appended" ? o.record.seq : 0))).toEqual([2, 3, 4]);
});

test("trimming keeps the newest thousand and seven days", async () => {
  const store = new ScriptedStore();
  const log = await claim(store);
  for (let id = 1; id <= 1_010; id += 1) {
    if (id === 6) store.nowMs = 8 * 24 * 3_600_000;
    await log.append(head(id), NEVER);
  }
  expect(await log.trim(1_000, NEVER)).toBe(6);
  expect([...store.objects.keys()][0]).toBe(commitPath("j", 7));
});

test("CL6: a regression stands, also for the next claimant, until a newer head", async () => {
  const store = new ScriptedStore();
  const log = await claim(store);
  await log.append(() => ({ head: ref(2), retained: [ref(1), ref(2)] }), NEVER);
  await log.append((previous) => regressionChange(previous, ref(1), "all-sinks-retract"), NEVER);
  const regression = { type: "head-regression", fromId: 2, toId: 1, reason: "all-sinks-retract" };
  const next = await claim(store);
  expect(next.head).toMatchObject({ head: { id: 1 }, override: regression });
  await next.reserveIds(NEVER);
  expect(next.head.override).toEqual(regression);
  await next.append(head(65), NEVER);
  expect(next.head.override).toBeNull();
});

test("a new lineage whose origin cannot be read is never recorded: the old one goes on", async () => {
  const store = new ScriptedStore();
  const old = await claim(store);
  await old.append(head(1), NEVER);
  const before = await readCommitHead(store, "j");
  const gone = new Failure("SNAPSHOT_DAMAGED", { retry: "never", message: "it is not there" });
  const request = { jobName: "j", uid: "u", lineage: "l2", newLineage: false, from: "j/chk-9", mayCreate: true };
  const checked: string[] = [];
  const start = (from: string): Promise<unknown> =>
    CommitLog.claim({
      store,
      jobDir: "j",
      env: env(1_000),
      request: { ...request, from },
      planDigest: "p",
      takeOrigin(path) {
        checked.push(path);
        return path === "j/chk-1" ? Promise.resolve(null) : Promise.reject(gone);
      },
      signal: NEVER,
    });
  await expect(start("j/chk-9")).rejects.toBe(gone);
  expect(await readCommitHead(store, "j")).toEqual(before);
  await start("j/chk-1");
  await start("j/chk-1"); // a restart of the same submission continues: its origin may be gone by then
  expect(checked).toEqual(["j/chk-9", "j/chk-1"]);
  expect(await readCommitHead(store, "j")).toMatchObject({ lineage: "l2", origin: "j/chk-1" });
});

describe("what a start keeps and says of itself", () => {
  const pinsOf = ({ head: { pins } }: CommitLog): readonly string[] => pins.map((pin) => `${pin.holder} ${pin.ref.id}`);

  test("SP1: what it continues from is pinned with its first claim, through failovers, commits and new lineages", async () => {
    const store = new ScriptedStore();
    const first = await claim(store, { pinRestored: true });
    expect(pinsOf(first)).toEqual([]); // there was nothing to continue from
    await first.append(head(1), NEVER);
    const second = await claim(store, { lineage: "second", pinRestored: true });
    expect(pinsOf(second)).toEqual(["start:second 1"]);
    await second.append(head(2), NEVER);
    expect(pinsOf(second)).toEqual(["start:second 1"]);
    const restarted = await claim(store, { lineage: "second", pinRestored: true });
    expect(pinsOf(restarted)).toEqual(["start:second 1"]);
    const plain = await claim(store, { lineage: "third" });
    expect(pinsOf(plain)).toEqual(["start:second 1"]);
    const replaced = await claim(store, { lineage: "fourth", newLineage: true, pinRestored: true });
    expect(pinsOf(replaced)).toEqual(["start:second 1", "lineage:l 2"]);
  });

  test("SP2, SP3: a bounded number is kept, the oldest among them; what nothing else keeps is condemned", async () => {
    const store = new ScriptedStore();
    await (await claim(store)).append(head(1), NEVER);
    for (let i = 2; i <= START_PINS_MAX + 3; i += 1) {
      const log = await claim(store, { lineage: `s${i}`, pinRestored: true });
      await log.append(head(i), NEVER);
    }
    const log = await claim(store, { lineage: "last" });
    const ids = log.head.pins.map((pin) => pin.ref.id);
    expect(ids).toEqual([1, ...Array.from({ length: START_PINS_MAX - 1 }, (_, i) => i + 4)]);
    expect(log.head.condemned).toEqual([2, 3]);
  });

  test("SP3: a pin that is taken back frees only what nothing else keeps", () => {
    const pin = (holder: string, of: CheckpointRef) => ({ ref: of, holder, expiresAtMs: null });
    const savepoint = { ...ref(6), kind: "savepoint" as const };
    const record = {
      head: ref(9),
      retained: [ref(8), ref(9)],
      condemned: [ref(3).id],
      pins: [
        pin("start:a", ref(5)),
        pin("start:a", ref(8)),
        pin("start:b", ref(7)),
        pin("me", ref(7)),
        pin("start:b", savepoint),
        pin("start:b", ref(4)),
      ],
    } as unknown as CommitRecord;
    const freed = (holder: string | null) => {
      const { pins, condemned } = withoutStartPins(record, holder);
      return { pins: pins.map((one) => `${one.holder} ${one.ref.id}`), condemned };
    };
    expect(freed("start:a")).toEqual({
      pins: ["start:b 7", "me 7", "start:b 6", "start:b 4"],
      condemned: [3, 5],
    });
    expect(freed(null)).toEqual({ pins: ["me 7"], condemned: [3, 4, 5] });
    expect(freed("me").pins).toHaveLength(6); // pins of people are not touched
  });

  test("SD4, SD5: order and former owners stay in the log", async () => {
    const store = new ScriptedStore();
    const first = await claim(store, { order: [1, 0, 0] });
    await first.append(head(1), NEVER);
    expect([first.head.order, first.head.pastUids]).toEqual([[1, 0, 0], undefined]);
    expect((await claim(store)).head.order).toEqual([1, 0, 0]);
    await expect(claim(store, { order: [0, 9, 0] })).rejects.toMatchObject({ code: "FENCED", retry: "never" });
    const taken = await claim(store, { uid: "v", lineage: "m", onForeignLog: "resume", order: [1] });
    expect(taken.head).toMatchObject({ uid: "v", lineage: "l", submission: "m", order: [1], pastUids: ["u"] });
    expect(taken.head.head?.id).toBe(1);
    await expect(claim(store, { onForeignLog: "resume", order: [5] })).rejects.toMatchObject({ code: "JOB_FOREIGN" });
  });

  test("one of two starts that saw the same head wins; the other is told that it moved", async () => {
    const store = new ScriptedStore();
    await (await claim(store)).append(head(1), NEVER);
    const winner = await claim(store, { lineage: "a", expectHead: { id: 1, path: "j/chk-1/_metadata" } });
    await winner.append(head(2), NEVER);
    const late = claim(store, { lineage: "b", expectHead: { id: 1 } });
    await expect(late).rejects.toMatchObject({ code: "HEAD_MOVED", retry: "never" });
    expect((await claim(store, { lineage: "a", expectHead: { id: 1 } })).head.head?.id).toBe(2); // its own restart
  });

  test("AR1: a log is absent only when the store says so", async () => {
    for (const code of ["STORAGE_DENIED", "SNAPSHOT_DAMAGED"] as const) {
      const store = new ScriptedStore();
      const list = (): Promise<never> => Promise.reject(new Failure(code, { retry: "never", message: "no" }));
      for (const mayCreate of [true, false])
        await expect(claim(Object.assign(store, { list }), { mayCreate })).rejects.toMatchObject({ code });
      expect(store.objects.size).toBe(0);
    }
    await expect(claim(new ScriptedStore(), { mayCreate: false })).rejects.toMatchObject({ code: "SNAPSHOT_DAMAGED" });
  });
});
