// What is written for one checkpoint, over a store in memory that fails as it is told.

import { describe, expect, test } from "@jest/globals";

import { Failure } from "@sluice/kit";
import type { ObjectStore, Timers } from "@sluice/kit/env";
import type { CheckpointId } from "../model/index.ts";
import { emptyMetadata } from "./checkpoint.fixture.ts";
import { CheckpointWrites } from "./checkpoint-writes.ts";
import type { AppendOutcome } from "./commit-log.ts";
import type { CoordinatorEffect, CoordinatorEvent } from "./coordinator-state.ts";
import type { StoreOpener } from "./location.ts";
import { memoryEnv, MemoryStore, noOtherStore } from "./memory-store.fixture.ts";
import { metadataPath, readCheckpointMetadata } from "./metadata.ts";
import type { CommitRecord } from "./types.ts";

const ID = 5 as CheckpointId;
const METADATA = emptyMetadata(ID);

type Answer = "stored" | "unknown" | "503" | "403" | "never";

/** Answers puts as told, the last answer for ever. */
class PlannedStore extends MemoryStore {
  readonly puts: Uint8Array[] = [];
  readonly #answers: Answer[];
  constructor(...answers: Answer[]) {
    super();
    this.#answers = answers;
  }
  override async put(path: string, bytes: Uint8Array): Promise<never> {
    this.puts.push(bytes);
    const answer = (this.#answers.length > 1 ? this.#answers.shift() : this.#answers[0]) as Answer;
    if (answer === "never") await new Promise(() => {});
    if (answer === "503") throw new Failure("STORAGE_UNAVAILABLE", { retry: "backoff", message: answer });
    if (answer === "403") throw new Failure("STORAGE_DENIED", { retry: "never", message: answer });
    if (answer === "stored") await super.put(path, bytes);
    return answer as never;
  }
}

/** Fires a turn of the event loop later, so that tests get their turn between two tries. */
const timers: Timers = {
  after: (_delayMs, _label, run) => {
    const timer = setImmediate(run);
    return () => clearImmediate(timer);
  },
};

function writes(
  options: { readonly store?: ObjectStore; readonly openStore?: StoreOpener; readonly outcome?: AppendOutcome } = {},
) {
  const { store = new MemoryStore(), openStore = noOtherStore, outcome } = options;
  const events: CoordinatorEvent[] = [];
  const life = { isOver: false };
  const asked: AbortSignal[] = [];
  const answer = (signal: AbortSignal): Promise<AppendOutcome> => {
    asked.push(signal);
    return outcome === undefined
      ? new Promise((resolve) =>
          signal.addEventListener("abort", () =>
            resolve({ type: "failed", failure: new Failure("CANCELED", { retry: "never", message: "given up" }) }),
          ),
        )
      : Promise.resolve(outcome);
  };
  const of = new CheckpointWrites({
    env: { ...memoryEnv(1), timers },
    store,
    openStore,
    commitLog: { jobDir: "j", append: (_change, signal) => answer(signal), reserveIds: (signal) => answer(signal) },
    config: { timeoutMs: 60_000, retainedMax: 1 },
    life,
    onEvent: (event) => void events.push(event),
  });
  return { of, events, life };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const commitOf = { type: "commit", ref: { kind: "checkpoint", id: ID, path: "p", sha256: "0" } } as unknown as Extract<
  CoordinatorEffect,
  { readonly type: "commit" }
>;

describe("CW1: metadata", () => {
  test("is put again with the same bytes until it is known to be stored, then told once", async () => {
    const store = new PlannedStore("unknown", "503", "503", "stored");
    const { of, events } = writes({ store });
    await of.writeMetadata(METADATA, null);
    expect(new Set(store.puts.map((bytes) => Buffer.from(bytes).toString("hex"))).size).toBe(1);
    expect([store.puts.length, events]).toMatchObject([
      4,
      [{ type: "metadataWritten", ref: { kind: "checkpoint", id: ID, path: metadataPath("j", ID) } }],
    ]);
    expect(of.metadataOf(ID)).toBe(METADATA);
    expect(readCheckpointMetadata((await store.get(metadataPath("j", ID))) ?? new Uint8Array())?.type).toBe("ok");
  });

  test("that the store refuses is not tried again", async () => {
    const store = new PlannedStore("503", "403");
    const { of, events } = writes({ store });
    await of.writeMetadata(METADATA, null);
    expect([store.puts.length, events]).toMatchObject([2, [{ type: "metadataFailed", id: ID }]]);
  });

  test("of a savepoint goes to its own place, and is tried again while that cannot be reached", async () => {
    const elsewhere = new MemoryStore();
    let isAway = true;
    const { of, events } = writes({
      openStore: () =>
        isAway
          ? ((isAway = false),
            Promise.reject(new Failure("STORAGE_UNAVAILABLE", { retry: "backoff", message: "away" })))
          : Promise.resolve(elsewhere),
    });
    await of.writeMetadata(METADATA, "s3://elsewhere/sp");
    expect([events.length, [...elsewhere.objects.keys()]]).toEqual([1, [expect.stringMatching(/_metadata$/u)]]);
  });
});

describe("CW2: nothing is told", () => {
  test("of metadata that was given up between two tries", async () => {
    const store = new PlannedStore("503");
    const { of, events } = writes({ store });
    const writing = of.writeMetadata(METADATA, null);
    while (store.puts.length < 3) await settled();
    of.abort(ID);
    await writing;
    expect(events).toEqual([]);
  });

  test("of metadata that is stored after the end of the coordinator", async () => {
    const { of, events, life } = writes({ store: new PlannedStore("stored") });
    const writing = of.writeMetadata(METADATA, null);
    life.isOver = true;
    await writing;
    expect(events).toEqual([]);
  });

  test("of what was forgotten: its signal is nobody's any more", async () => {
    const { of } = writes();
    await of.writeMetadata(METADATA, null);
    expect(of.ids).toEqual([ID]);
    of.forget(ID);
    expect([of.ids, of.metadataOf(ID)]).toEqual([[], undefined]);
  });
});

describe("a commit", () => {
  test("that was appended is told with its record", async () => {
    const record = { seq: 9 } as CommitRecord;
    const { of, events } = writes({ outcome: { type: "appended", record } as AppendOutcome });
    expect(await of.commit(commitOf)).toBe(true);
    expect(events).toEqual([{ type: "committed", id: ID, record }]);
  });

  test("that is given up is told as failed", async () => {
    const { of, events } = writes();
    const committing = of.commit(commitOf);
    of.abortAll();
    expect(await committing).toBe(false);
    expect(events).toMatchObject([{ type: "commitFailed", id: ID, failure: { code: "CANCELED" } }]);
  });
});

test("ids are reserved for as long as a checkpoint may take", async () => {
  expect(await writes().of.reserveIds()).toMatchObject({ code: "CANCELED" }); // timers of these tests fire at once
  const appended = { type: "appended", record: {} as CommitRecord } as AppendOutcome;
  expect(await writes({ outcome: appended }).of.reserveIds()).toBeUndefined();
});
