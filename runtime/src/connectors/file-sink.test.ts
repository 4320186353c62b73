// The protocol of pending and published files, against a model: whatever happens, what is published is exactly the output up
// to the last durable checkpoint.

import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import fc from "fast-check";

import { Failure } from "@sluice/kit";
import type {
  AttemptNumber,
  CheckpointId,
  OneInputOperator,
  OperatorState,
  RestoredOperatorState,
} from "../model/index.ts";
import { OperatorHarness, restoredStates, testSubtask } from "../operators/index.ts";
import { Encoders, FileSink, parsePublishedName } from "./index.ts";
import { localFiles, type LocalFiles } from "./local-files.ts";
import { publishedName } from "./pending-files.ts";
import { rescaled } from "./rescaled.fixture.ts";
import { Types } from "../model/index.ts";

let directory = "";
beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), "sluice-sink-"))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

interface Opening {
  readonly subtaskIndex?: number;
  readonly parallelism?: number;
  readonly attempt?: number;
  readonly lineage?: string;
  readonly uid?: string;
  readonly restored?: RestoredOperatorState;
  readonly checkpointingEnabled?: boolean;
  readonly files?: LocalFiles;
}

type Harness = OperatorHarness<OneInputOperator>;

function openSink(opening: Opening = {}): Promise<Harness> {
  const { subtaskIndex = 0, parallelism = 1, attempt = 0, lineage = "L1", uid = "out", restored, files } = opening;
  const subtask = testSubtask({ subtaskIndex, parallelism, attempt: attempt as AttemptNumber, lineage, uid });
  const sink = FileSink.forRowFormat(directory, Encoders.ndjson<unknown>(), files ?? localFiles);
  return new OperatorHarness(sink.createOperator(subtask), {
    subtask,
    checkpointingEnabled: opening.checkpointingEnabled ?? true,
    ...(restored === undefined ? {} : { restored }),
  }).open();
}

function restoredFrom(id: number, states: OperatorState, retractThrough?: number): RestoredOperatorState {
  const retract = retractThrough as CheckpointId | undefined;
  return { checkpointId: id as CheckpointId, retractThrough: retract, states: restoredStates(states) };
}

const complete = (harness: Harness, id: number): Promise<void> =>
  Promise.resolve(harness.operator.notifyCheckpointComplete?.(id as CheckpointId));

const names = (prefix = "part-"): string[] =>
  readdirSync(directory)
    .filter((name) => name.startsWith(prefix))
    .toSorted();

/** All published records, in no particular order of files. */
function published(): unknown[] {
  return names().flatMap((name) =>
    readFileSync(join(directory, name), "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as unknown),
  );
}

const sorted = (values: readonly unknown[]): unknown[] => values.toSorted((a, b) => Number(a) - Number(b));

describe("one checkpoint at a time", () => {
  test("PF1: nothing is visible before its checkpoint is complete; names carry lineage, checkpoint, uid, subtask", async () => {
    const sink = await openSink({ subtaskIndex: 1, parallelism: 2 });
    sink.process({ n: 1 });
    const state = await sink.snapshot(7);
    sink.process({ n: 2 });
    expect([...state.keys()]).toEqual(["sink-pending"]);
    expect(names()).toEqual([]);
    await complete(sink, 7);
    expect(names()).toEqual(["part-L1-7-out-1-0.ndjson"]);
    expect(published()).toEqual([{ n: 1 }]);
    await complete(sink, 7); // PF2
    expect(published()).toEqual([{ n: 1 }]);
    await sink.snapshot(9);
    await complete(sink, 9);
    await sink.operator.close(true);
    expect(names()).toEqual(["part-L1-7-out-1-0.ndjson", "part-L1-9-out-1-0.ndjson"]);
    expect(names(".")).toEqual([]);
  });

  test("a checkpoint without records leaves no file", async () => {
    const sink = await openSink();
    await sink.snapshot(1);
    await complete(sink, 1);
    await sink.operator.close(true);
    expect(readdirSync(directory)).toEqual([]);
  });

  test("without checkpoints output appears at the end of input, and a run again replaces it", async () => {
    for (const attempt of [0, 1]) {
      const sink = await openSink({ checkpointingEnabled: false, attempt });
      sink.process(attempt);
      expect(published()).toEqual([]);
      sink.operator.finish?.();
      await sink.operator.close(true);
      expect(published()).toEqual([attempt]);
    }
    expect(names(".retracted-")).toEqual([".retracted-part-L1-0-out-0-0.ndjson"]);
  });

  test("an encoder's header begins every file", async () => {
    const csv = FileSink.forRowFormat(directory, Encoders.csv(Types.ROW({ a: Types.STRING(), "b,c": Types.LONG() })));
    const sink = await new OperatorHarness(csv.createOperator(testSubtask({ lineage: "L1", uid: "out" }))).open();
    for (const id of [1, 2]) {
      sink.process({ a: `say "${id}"`, "b,c": id });
      await sink.snapshot(id);
      await complete(sink, id);
    }
    const texts = names().map((name) => readFileSync(join(directory, name), "utf8"));
    expect(texts).toEqual(['a,"b,c"\n"say ""1""",1\n', 'a,"b,c"\n"say ""2""",2\n']);
    expect(names()[0]).toBe("part-L1-1-out-0-0.csv");
  });

  test("names survive the round trip, and odd ones cannot leave the directory or be taken for others", () => {
    const name = { lineage: "L1", checkpointId: 12, uid: "a-3-b", subtaskIndex: 4, n: 0 };
    expect(parsePublishedName(publishedName(name, ".csv"))).toEqual(name);
    expect(publishedName({ ...name, lineage: "x-1", uid: "../ä" }, ".txt")).toBe("part-x~2d1-12-..~2f~c3~a4-4-0.txt");
    for (const other of ["part-L1-1.ndjson", "report.csv", ".pending-part-L1-1-out-0-0.ndjson"]) {
      expect(parsePublishedName(other)).toBeUndefined();
    }
  });
});

describe("restoring", () => {
  test("PF1: a checkpoint that nobody was told of is published by restoring it, before the first record", async () => {
    const first = await openSink();
    first.process(1);
    const state = await first.snapshot(3);
    first.process(2);
    await first.operator.close(false);
    const second = await openSink({ attempt: 1, restored: restoredFrom(3, state) });
    expect(published()).toEqual([1]);
    expect(names(".pending-")).toEqual([]); // PF3: record 2 will be written again
    await second.operator.close(false);
  });

  test("PF3: an aborted checkpoint's file is gone when the job restores an older one", async () => {
    const first = await openSink();
    first.process(1);
    const state = await first.snapshot(3);
    first.process(2);
    await first.snapshot(4);
    await openSink({ attempt: 1, restored: restoredFrom(3, state) });
    expect([published(), names(".")]).toEqual([[1], []]);
  });

  test("PF7: going back hides what was published in (restored, retractThrough], of the own subtask only", async () => {
    const states: OperatorState[] = [];
    for (const subtaskIndex of [0, 1]) {
      const sink = await openSink({ subtaskIndex, parallelism: 2 });
      for (const id of [1, 2, 3, 4]) {
        sink.process(id);
        states.push(await sink.snapshot(id));
        await complete(sink, id);
      }
    }
    writeFileSync(join(directory, "part-L2-3-out-0-0.ndjson"), "");
    writeFileSync(join(directory, "part-L1-3-other-0-0.ndjson"), "");
    await openSink({ parallelism: 2, attempt: 1, restored: restoredFrom(1, states[0] as OperatorState, 3) });
    expect(names(".retracted-")).toEqual([
      ".retracted-part-L1-2-out-0-0.ndjson",
      ".retracted-part-L1-3-out-0-0.ndjson",
    ]);
    expect(names()).toEqual([
      "part-L1-1-out-0-0.ndjson",
      "part-L1-1-out-1-0.ndjson",
      "part-L1-2-out-1-0.ndjson",
      "part-L1-3-other-0-0.ndjson",
      "part-L1-3-out-1-0.ndjson",
      "part-L1-4-out-0-0.ndjson",
      "part-L1-4-out-1-0.ndjson",
      "part-L2-3-out-0-0.ndjson",
    ]);
  });

  test("PF5: a fork neither publishes nor deletes what it inherits", async () => {
    const first = await openSink();
    first.process(1);
    const state = await first.snapshot(3);
    await openSink({ lineage: "L2", restored: restoredFrom(3, state) });
    expect([names(), names(".pending-")]).toEqual([[], [".pending-part-L1-3-out-0-0.ndjson~1.0"]]);
  });

  test("PF4: after scaling down, subtask i clears what subtasks j with j % parallelism === i left behind", async () => {
    for (const subtaskIndex of [0, 1, 2, 3]) {
      const sink = await openSink({ subtaskIndex, parallelism: 4 });
      sink.process(subtaskIndex);
      await sink.snapshot(5);
      sink.process(subtaskIndex);
      await sink.snapshot(6);
    }
    await openSink({ subtaskIndex: 1, parallelism: 2, attempt: 1, restored: restoredFrom(5, new Map()) });
    // Files of checkpoint 5 may be recorded in the state of another subtask: only what is above it is certainly nobody's.
    const left = [0, 1, 2, 3].map(
      (i) => names(".pending-").filter((name) => parsePublishedName(name.slice(9, -4))?.subtaskIndex === i).length,
    );
    expect(left).toEqual([2, 1, 2, 1]);
  });

  test("PF3, PF4: scaled down, whoever is dealt files publishes them; the rest goes with the first complete, and only that", async () => {
    const states: OperatorState[] = [];
    for (const subtaskIndex of [0, 1, 2, 3]) {
      const sink = await openSink({ subtaskIndex, parallelism: 4 });
      sink.process(subtaskIndex);
      states.push(await sink.snapshot(5));
    }
    // What a paused attempt wrote after everybody had looked: of a checkpoint that never was.
    for (const i of [0, 1]) writeFileSync(join(directory, `.pending-part-L1-4-out-${i}-0.ndjson~1.0`), "-1\n");
    const [first, second] = rescaled(states, 2);
    const from = { checkpointId: 5 as CheckpointId, retractThrough: undefined };
    const late = { subtaskIndex: 1, parallelism: 2, attempt: 1, restored: { ...from, states: second ?? new Map() } };
    const one = await openSink({ parallelism: 2, attempt: 1, restored: { ...from, states: first ?? new Map() } });
    expect(published()).toEqual([0, 1]);
    await complete(one, 5); // told again of what it restored: the other subtask has perhaps not opened yet
    expect(names(".pending-")).toHaveLength(4);
    const two = await openSink(late);
    expect(published()).toEqual([0, 1, 2, 3]);
    await one.snapshot(6);
    await complete(one, 6);
    expect(names(".pending-")).toEqual([".pending-part-L1-4-out-1-0.ndjson~1.0"]);
    await complete(two, 6);
    expect(names(".")).toEqual([]);
  });

  test("PF8: an attempt that was thought dead and opens late takes nothing from the one that runs", async () => {
    const first = await openSink();
    first.process(1);
    const one = await first.snapshot(1);
    const live = await openSink({ attempt: 2, restored: restoredFrom(1, one) });
    live.process(2);
    await live.snapshot(3);
    live.process("x".repeat(70_000)); // so much that the open file is there
    await openSink({ attempt: 1, restored: restoredFrom(1, one) });
    await openSink({ attempt: 0 }); // one that restores nothing
    const state = await live.snapshot(4);
    await complete(live, 4);
    expect(published()).toEqual([1, 2, "x".repeat(70_000)]);
    await openSink({ attempt: 3, restored: restoredFrom(4, state) });
    expect([published().length, names(".")]).toEqual([3, []]);
  });

  test("PF2: a file that another attempt publishes at the same moment is published", async () => {
    const first = await openSink();
    first.process(1);
    const state = await first.snapshot(1);
    const files: LocalFiles = {
      ...localFiles,
      rename(from, to) {
        if (to.includes("/part-")) localFiles.rename(from, to); // the other one was faster
        localFiles.rename(from, to);
      },
    };
    await openSink({ attempt: 1, restored: restoredFrom(1, state), files });
    expect(published()).toEqual([1]);
  });

  test("a recorded file that somebody took away stops the job with a remedy, and nothing is lost silently", async () => {
    const first = await openSink();
    first.process(1);
    const state = await first.snapshot(3);
    renameSync(join(directory, ".pending-part-L1-3-out-0-0.ndjson~1.0"), join(directory, "taken"));
    await expect(openSink({ attempt: 1, restored: restoredFrom(3, state) })).rejects.toMatchObject({
      code: "DISK_FAILED",
      retry: "never",
      message: expect.stringContaining("part-L1-3-out-0-0.ndjson"),
    });
  });
});

describe("PF6: a disk that fails", () => {
  const full = (): Failure => new Failure("DISK_FULL", { retry: "backoff", message: "full", remedy: "free space" });

  test("a full disk fails the barrier; the attempt after it writes everything once", async () => {
    let isFull = false;
    const files: LocalFiles = {
      ...localFiles,
      write(descriptor, bytes, path) {
        if (!isFull) return localFiles.write(descriptor, bytes, path);
        localFiles.write(descriptor, bytes.subarray(0, 3), path); // a torn write
        throw full();
      },
    };
    const first = await openSink({ files });
    first.process({ long: 1 });
    const state = await first.snapshot(1);
    await complete(first, 1);
    isFull = true;
    first.process({ long: 2 });
    await expect(first.snapshot(2)).rejects.toMatchObject({ code: "DISK_FULL" });
    isFull = false;
    await expect(first.snapshot(3)).rejects.toMatchObject({ code: "DISK_FULL" }); // which bytes are there is not known
    await first.operator.close(false);
    const second = await openSink({ files, attempt: 1, restored: restoredFrom(1, state) });
    second.process({ long: 2 });
    await second.snapshot(4);
    await complete(second, 4);
    expect(published()).toEqual([{ long: 1 }, { long: 2 }]);
  });

  test("a failed sync declines the checkpoint and every later one of this attempt", async () => {
    const files: LocalFiles = { ...localFiles, sync: () => Promise.reject(full()) };
    const sink = await openSink({ files });
    sink.process(1);
    await expect(sink.snapshot(1)).rejects.toMatchObject({ code: "DISK_FULL" });
    await expect(sink.snapshot(2)).rejects.toMatchObject({ code: "DISK_FULL" });
    expect(published()).toEqual([]);
  });

  test("a directory that cannot be made names itself and the remedy", async () => {
    writeFileSync(join(directory, "file"), "");
    const sink = FileSink.forRowFormat(join(directory, "file", "below"), Encoders.ndjson());
    const opening = new OperatorHarness(sink.createOperator(testSubtask())).open();
    await expect(opening).rejects.toMatchObject({
      message: expect.stringContaining("file/below"),
      remedy: expect.stringMatching(/./),
    });
  });
});

// ---- the law

type Step =
  | { readonly type: "write"; readonly count: number }
  | { readonly type: "barrier" }
  | { readonly type: "complete" }
  | { readonly type: "crash"; readonly committed: boolean; readonly toldCount: number; readonly parallelism: number };

const stepsAt = (parallelism: fc.Arbitrary<number>): fc.Arbitrary<readonly Step[]> =>
  fc.array(
    fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({ type: fc.constant("write" as const), count: fc.integer({ min: 1, max: 4 }) }),
      },
      { weight: 3, arbitrary: fc.record({ type: fc.constant("barrier" as const) }) },
      { weight: 3, arbitrary: fc.record({ type: fc.constant("complete" as const) }) },
      {
        weight: 1,
        arbitrary: fc.record({
          type: fc.constant("crash" as const),
          committed: fc.boolean(),
          toldCount: fc.integer({ min: 0, max: 3 }),
          parallelism,
        }),
      },
    ),
    { maxLength: 40 },
  );

interface Checkpoint {
  readonly id: number;
  /** Records before its barrier. */
  readonly position: number;
  /** By subtask. */
  readonly states: readonly OperatorState[];
}

/** Opens all subtasks of an attempt, from a checkpoint of any parallelism. */
function openAll(parallelism: number, attempt: number, from: Checkpoint | undefined): Promise<readonly Harness[]> {
  const states = from === undefined ? [] : rescaled(from.states, parallelism);
  return Promise.all(
    Array.from({ length: parallelism }, (_, subtaskIndex) => {
      const own = states[subtaskIndex];
      const restored =
        from === undefined || own === undefined
          ? {}
          : { restored: { checkpointId: from.id as CheckpointId, retractThrough: undefined, states: own } };
      return openSink({ subtaskIndex, parallelism, attempt, ...restored });
    }),
  );
}

/** Plays the steps; returns after each what is published beside what must be. `commitEarly` is the planted bug. */
async function play(script: readonly Step[], commitEarly: boolean): Promise<boolean> {
  rmSync(directory, { recursive: true, force: true });
  let sinks = await openAll(1, 0, undefined);
  let attempt = 0;
  let position = 0;
  let lastId = 0;
  let pending: Checkpoint[] = [];
  /** What the commit log says. */
  let head: Checkpoint | undefined;
  const exact = (upTo: number): boolean => {
    const want = Array.from({ length: upTo }, (_, i) => i);
    return JSON.stringify(sorted(published())) === JSON.stringify(want);
  };
  const snapshotAll = (id: number): Promise<OperatorState[]> => Promise.all(sinks.map((sink) => sink.snapshot(id)));
  const tell = async (id: number, count = sinks.length): Promise<void> => {
    await Promise.all(sinks.slice(0, count).map((sink) => complete(sink, id)));
  };
  for (const step of script) {
    switch (step.type) {
      case "write":
        for (let i = 0; i < step.count; i += 1) {
          sinks[position % sinks.length]?.process(position);
          position += 1;
        }
        break;
      case "barrier": {
        lastId += 1;
        pending.push({ id: lastId, position, states: await snapshotAll(lastId) });
        if (commitEarly) await tell(lastId);
        break;
      }
      case "complete": {
        // The newest becomes durable; older ones are subsumed. One in three is aborted instead, by its id.
        const newest = pending.pop();
        if (newest === undefined) break;
        if (newest.id % 3 === 0) {
          for (const sink of sinks) sink.operator.notifyCheckpointAborted?.(newest.id as CheckpointId);
          break;
        }
        head = newest;
        pending = [];
        await tell(newest.id);
        break;
      }
      case "crash": {
        // Killed after the commit record, before anybody, or not everybody, was told.
        const untold = pending.pop();
        if (step.committed && untold !== undefined && untold.id % 3 !== 0) {
          head = untold;
          await tell(untold.id, step.toldCount);
        }
        pending = [];
        if (attempt % 2 === 1) for (const sink of sinks) await sink.operator.close(false); // a kill does not
        attempt += 1;
        sinks = await openAll(step.parallelism, attempt, head);
        position = head?.position ?? 0;
        break;
      }
    }
    if (!exact(head?.position ?? 0)) return false;
  }
  lastId += 1;
  for (const state of await snapshotAll(lastId)) expect(state.size).toBe(1);
  await tell(lastId);
  for (const sink of sinks) await sink.operator.close(true);
  return exact(position) && names(".").length === 0;
}

test("published output is exactly the records before the last durable checkpoint, through any crashes", () =>
  fc.assert(
    fc.asyncProperty(stepsAt(fc.constant(1)), async (script) => {
      expect(await play(script, false)).toBe(true);
    }),
    { numRuns: 100 },
  ));

test("the same at any parallelism after every crash; nothing is left of subtasks that are no more (PF3, PF4)", () =>
  fc.assert(
    fc.asyncProperty(stepsAt(fc.integer({ min: 1, max: 4 })), async (script) => {
      expect(await play(script, false)).toBe(true);
    }),
    { numRuns: 150 },
  ));

test("the law notices a sink that commits before the commit record", async () => {
  const crash = { type: "crash", committed: false, toldCount: 0, parallelism: 1 } as const;
  const script: Step[] = [{ type: "write", count: 2 }, { type: "barrier" }, crash];
  expect(await play(script, false)).toBe(true);
  expect(await play(script, true)).toBe(false);
});

test("a fresh start clears what an attempt before the first checkpoint left", async () => {
  const first = await openSink();
  first.process("x".repeat(100_000));
  expect(existsSync(directory) && names(".pending-open-").length).toBe(1);
  await openSink({ attempt: 1 });
  expect(readdirSync(directory)).toEqual([]);
});
