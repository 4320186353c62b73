// What a coordinator deletes by and by, over a store in memory. The last deletions of a job: deletion.test.ts.

import { describe, expect, test } from "@jest/globals";

import { Failure } from "@sluice/kit";
import type { Log, Timers } from "@sluice/kit/env";
import type { CheckpointId } from "../model/index.ts";
import { CheckpointCleaning, TRIM_EVERY_COMMITS } from "./cleaning.ts";
import { memoryEnv, MemoryStore, noOtherStore } from "./memory-store.fixture.ts";
import type { CommitRecord } from "./types.ts";

const ids = (...of: readonly number[]): readonly CheckpointId[] => of as readonly CheckpointId[];
const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, with: () => log };
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class RefusingStore extends MemoryStore {
  refused = "nothing";
  override remove(path: string): Promise<void> {
    if (!path.includes(this.refused)) return super.remove(path);
    return Promise.reject(new Failure("STORAGE_UNAVAILABLE", { retry: "backoff", message: "503" }));
  }
}

/** A job whose log condemns 1 to 4, of which all but 4 lie in the store. */
function cleaning(options: { readonly timers?: Timers } = {}) {
  const store = new RefusingStore();
  for (const id of [1, 2, 3]) void store.put(`j/chk-${id}/x-1`, new Uint8Array(1));
  const seen: string[] = [];
  const life = { isOver: false };
  const trims: PromiseWithResolvers<number>[] = [];
  const head = { condemned: ids(1, 2, 3, 4), retained: [], pins: [], head: null, origin: null };
  const of = new CheckpointCleaning({
    env: { ...memoryEnv(1), ...options, log },
    store,
    openStore: noOtherStore,
    commitLog: {
      jobDir: "j",
      head: head as unknown as CommitRecord,
      isFenced: false,
      append: () => Promise.reject(new Error("no record is needed here")),
      verifyOwnership: () => Promise.reject(new Error("nobody asks")),
      trim() {
        seen.push("trim");
        const trim = Promise.withResolvers<number>();
        trims.push(trim);
        return trim.promise;
      },
    },
    config: { cleansInParallel: false },
    life: {
      get isOver() {
        return life.isOver;
      },
      guard: (task) => void task.catch((thrown: unknown) => seen.push(`guarded ${String(thrown)}`)),
    },
    onCleaned: (id, isRemoved) => void seen.push(`${id} ${isRemoved ? "cleaned" : "not cleaned"}`),
    onRemoved: (id) => void seen.push(`${id} removed`),
    onOrphans: (found) => void seen.push(`orphans ${found.join(" ")}`),
  });
  return { of, store, seen, life, trims };
}

describe("CQ2: a deletion", () => {
  test("is told when it is done; what is gone already counts as deleted", async () => {
    const { of, seen, store } = cleaning();
    of.delete(ids(1, 4));
    await of.settled();
    expect([seen, store.removed]).toEqual([["1 removed", "1 cleaned", "4 removed", "4 cleaned"], ["j/chk-1/x-1"]]);
  });

  test("that fails is told, holds up no other, and is done when it is asked for again", async () => {
    const { of, seen, store } = cleaning();
    store.refused = "chk-1/";
    of.delete(ids(1, 2));
    await of.settled();
    expect(seen).toEqual(["1 not cleaned", "2 removed", "2 cleaned"]);
    store.refused = "nothing";
    of.delete(ids(1));
    await of.settled();
    expect(seen.slice(3)).toEqual(["1 removed", "1 cleaned"]);
  });

  test("CL8: is none after the end", async () => {
    const { of, seen, store, life } = cleaning();
    of.delete(ids(1));
    life.isOver = true;
    await of.settled();
    expect([seen, store.removed]).toEqual([["1 not cleaned"], []]);
  });
});

test("CQ1: the log is trimmed every so many commits, after the deletions before it and before those after it", async () => {
  const { of, seen, trims } = cleaning();
  for (let commit = 1; commit < TRIM_EVERY_COMMITS; commit += 1) of.committed();
  await of.settled();
  expect(seen).toEqual([]);
  of.delete(ids(1));
  of.committed();
  of.delete(ids(2));
  await settled();
  expect(seen).toEqual(["1 removed", "1 cleaned", "trim"]);
  trims[0]?.reject(new Failure("STORAGE_UNAVAILABLE", { retry: "backoff", message: "503" }));
  await of.settled();
  expect(seen.slice(3)).toEqual(["2 removed", "2 cleaned"]);
  for (let commit = 1; commit < TRIM_EVERY_COMMITS; commit += 1) of.committed();
  await settled();
  expect(trims.length).toBe(1);
});

test("leftovers of earlier epochs are found up to their last id, and only what the log does not know", async () => {
  const { of, store, seen } = cleaning();
  for (const id of [5, 6, 70]) await store.put(`j/chk-${id}/x-1`, new Uint8Array(1));
  of.sweep(0);
  await of.settled();
  expect(seen).toEqual([]);
  of.sweep(64);
  await of.settled();
  expect(seen).toEqual(["orphans 5 6"]);
});

test("leftovers of a savepoint go twice, since uploads may come late; after the end they stay", async () => {
  const late: (() => void)[] = [];
  const { of, store, life } = cleaning({ timers: { after: (_ms, _label, run) => (late.push(run), () => {}) } });
  const leaveOne = (): Promise<unknown> => store.put("sp/savepoint-1/x-1", new Uint8Array(1));
  await store.put("sp/savepoint-10/x-1", new Uint8Array(1));
  of.discard("sp/savepoint-1");
  expect(late.length).toBe(2);
  for (const run of late) {
    await leaveOne();
    run();
    await settled();
  }
  expect(store.removed).toEqual(["sp/savepoint-1/x-1", "sp/savepoint-1/x-1"]);
  await leaveOne();
  life.isOver = true;
  late[1]?.();
  await settled();
  expect(store.removed.length).toBe(2);
});
