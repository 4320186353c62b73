// When a job lets go of what it started from, over a store that is away or a log that keeps it. The acts themselves: origin.test.ts.

import { describe, expect, test } from "@jest/globals";

import { Failure } from "@sluice/kit";
import type { Log, Timers } from "@sluice/kit/env";
import { MemoryStore, memoryEnv } from "./memory-store.fixture.ts";
import { ORIGIN_PIN_RENEWAL_MS } from "./origin.ts";
import { OriginRelease, SparseTries } from "./origin-release.ts";
import type { CommitRecord, RecordedClaim } from "./types.ts";

const ORIGIN = "far://a/chk-1";
const CLAIM: RecordedClaim = {
  path: "far://a/savepoint-1/_metadata",
  kind: "savepoint",
  lineage: "l",
  isCondemned: true,
};

/** A job whose origin's store answers `code` to everything. Timers fire when they are told. */
function release(code: "STORAGE_DENIED" | "FENCED" = "STORAGE_DENIED") {
  const seen: string[] = [];
  const armed: { delayMs: number; run: () => void; isCancelled: boolean }[] = [];
  const timers: Timers = {
    after(delayMs, label, run) {
      const timer = { delayMs, run, isCancelled: false };
      if (label === "origin-pin") armed.push(timer);
      return () => (timer.isCancelled = true);
    },
  };
  const log: Log = {
    debug() {},
    info: (m) => void seen.push(m),
    warn: (m) => void seen.push(m),
    error() {},
    with: () => log,
  };
  const life = { isOver: false };
  const head: { head: unknown; uid: string } = { head: null, uid: "u" };
  let opened = 0;
  const of = new OriginRelease({
    env: { ...memoryEnv(1), timers, log },
    store: new MemoryStore(),
    openStore() {
      opened += 1;
      return Promise.reject(new Failure(code, { retry: "never", message: code }));
    },
    commitLog: {
      jobDir: "j",
      head: head as unknown as CommitRecord,
      isFenced: false,
      append: () => Promise.reject(new Error("nothing is deleted: nothing to record")),
      verifyOwnership: () => Promise.resolve(),
    },
    life: {
      get isOver() {
        return life.isOver;
      },
      signal: new AbortController().signal,
      guard: (task) => void task.catch((thrown: Failure) => seen.push(`guarded ${thrown.code}`)),
    },
  });
  const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return { of, seen, armed, life, head, settled, tries: () => opened };
}

test("OX2: tries become rare, and stay possible", () => {
  const tries = new SparseTries(8);
  const due = Array.from({ length: 40 }, (_, at) => at + 1).filter(() => tries.isDue());
  expect(due).toEqual([1, 3, 7, 15, 23, 31, 39]);
});

describe("OX2: what cannot be let go", () => {
  test("is tried again with later commits, though only the first of them names the origin", async () => {
    const { of, seen, settled, tries } = release();
    of.committed({ origin: ORIGIN, condemned: [] });
    await settled();
    for (let commit = 2; commit <= 7; commit += 1) {
      of.committed({ origin: null, condemned: [] });
      await settled();
    }
    expect([tries(), seen]).toEqual([
      3,
      Array.from({ length: 3 }, () => "what the job started from is not let go yet"),
    ]);
  });

  test("is not tried twice at the same time", async () => {
    const { of, settled, tries } = release();
    for (let commit = 1; commit <= 7; commit += 1) of.committed({ origin: ORIGIN, condemned: [] });
    await settled();
    expect(tries()).toBe(1);
  });

  test("is a condemned claim too, with tries of its own", async () => {
    const { of, settled, tries } = release();
    of.committed({ origin: null, condemned: [CLAIM] });
    await settled();
    of.committed({ origin: null, condemned: [CLAIM] });
    await settled();
    expect(tries()).toBe(1);
  });

  test("ends the coordinator only when the log is somebody else's", async () => {
    const { of, seen, settled } = release("FENCED");
    of.committed({ origin: ORIGIN, condemned: [] });
    await settled();
    expect(seen).toEqual(["guarded FENCED"]);
  });
});

test("CS2: nothing is let go after the end", async () => {
  const { of, life, settled, tries } = release();
  of.committed({ origin: ORIGIN, condemned: [CLAIM] });
  life.isOver = true;
  await settled();
  expect(tries()).toBe(0);
});

describe("OX3: the pin is renewed", () => {
  test("once a day, also after a day on which it could not be", async () => {
    const { of, armed, seen, settled } = release();
    of.armRenewal(ORIGIN);
    for (const day of [1, 2]) {
      armed[day - 1]?.run();
      await settled();
      expect([armed.length, seen.length]).toEqual([day + 1, day]);
    }
    expect(new Set(armed.map(({ delayMs }) => delayMs))).toEqual(new Set([ORIGIN_PIN_RENEWAL_MS]));
  });

  test("until there is an own checkpoint, which cancels it", async () => {
    const { of, armed, head, settled, tries } = release();
    of.armRenewal(ORIGIN);
    head.head = { id: 1 };
    armed[0]?.run();
    await settled();
    expect([armed.length, tries()]).toEqual([1, 0]);
    of.armRenewal(ORIGIN);
    of.committed({ origin: ORIGIN, condemned: [] });
    expect(armed[1]?.isCancelled).toBe(true);
  });

  test("or until the end", () => {
    const { of, armed } = release();
    of.armRenewal(ORIGIN);
    of.end();
    expect(armed[0]?.isCancelled).toBe(true);
  });
});
