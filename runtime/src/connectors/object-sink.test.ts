// The file sink on an object store: what is visible is exactly what is durable, through crashes, rescaling and a store that fails.

import { beforeEach, describe, expect, test } from "@jest/globals";
import { SeededRng } from "@sluice/kit";
import { UploadSpace } from "@sluice/sim";
import fc from "fast-check";

import { lineageOfOutput } from "../checkpoint/index.ts";
import type { CheckpointId, OneInputOperator, OperatorState, RestoredOperatorState } from "../model/index.ts";
import { OperatorHarness, restoredStates, testSubtask } from "../operators/index.ts";
import { Encoders, FileSink, retryingUploads } from "./index.ts";
import { ObjectFiles } from "./object-files.ts";
import { rescaled } from "./rescaled.fixture.ts";

type Harness = OperatorHarness<OneInputOperator>;

let space: UploadSpace;
beforeEach(() => void (space = new UploadSpace(new SeededRng(1))));

const silent = { debug() {}, info() {}, warn() {}, error() {}, with: () => silent };
/** Timers that fire at once: a retry waits for nothing. */
const timers = {
  after: (_delayMs: number, _label: string, run: () => void) => {
    let isCancelled = false;
    queueMicrotask(() => !isCancelled && run());
    return () => void (isCancelled = true);
  },
};
const uploads = (): ReturnType<typeof retryingUploads> =>
  retryingUploads(space.client(), { timers, rng: new SeededRng(3), log: silent });

interface Place {
  readonly subtaskIndex?: number;
  readonly parallelism?: number;
  readonly attempt?: number;
  readonly lineage?: string;
  readonly states?: RestoredOperatorState["states"] | undefined;
  readonly checkpointingEnabled?: boolean;
  readonly claimedLineage?: string;
}

async function openSink(place: Place = {}): Promise<Harness> {
  const { subtaskIndex = 0, parallelism = 1, attempt = 0, lineage = "L1", states, checkpointingEnabled = true } = place;
  const { claimedLineage } = place;
  const subtask = { ...testSubtask({ subtaskIndex, parallelism }), attempt: attempt as never, lineage };
  const sink = FileSink.forRowFormat("s3://bucket/out", Encoders.ndjson<unknown>());
  return await new OperatorHarness(sink.createOperator(subtask), {
    subtask,
    checkpointingEnabled,
    openUploads: () => Promise.resolve(uploads()),
    ...(states === undefined
      ? {}
      : { restored: { checkpointId: 1 as CheckpointId, retractThrough: undefined, claimedLineage, states } }),
  }).open();
}

const complete = (harness: Harness, id: number): Promise<void> =>
  Promise.resolve(harness.operator.notifyCheckpointComplete?.(id as CheckpointId));
const published = (): readonly number[] =>
  [...space.objects.values()]
    .flatMap((bytes) => new TextDecoder().decode(bytes).split("\n"))
    .filter((line) => line !== "")
    .map(Number)
    .sort((a, b) => a - b);
const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i);

test("IU2: the lineage of an upload is in its name, whatever it is called", async () => {
  for (const lineage of ["0a1b2c", "op-1", "ä/b~c.d"]) {
    const sink = await openSink({ lineage });
    sink.process({ n: 1 });
    await sink.snapshot(1);
    const [upload] = (await space.client().list("")).filter(({ path }) => lineageOfOutput(path) === lineage);
    expect(upload?.path).toMatch(/^part-/u);
  }
  for (const name of ["part-1.csv", "part-a-b.csv", "notes", "part-%E0%A4%A-out-0-1.0-0"])
    expect(lineageOfOutput(name)).not.toBe("a");
});

describe("one sink", () => {
  test("OF1: visible with the notification of its checkpoint or a later one, as objects with the writer's name", async () => {
    const sink = await openSink();
    sink.process(0);
    await sink.snapshot(1);
    sink.process(1);
    await sink.snapshot(2);
    sink.process(2);
    expect([published(), space.openCount]).toEqual([[], 2]);
    await complete(sink, 2);
    expect([...space.objects.keys()]).toEqual([
      expect.stringMatching(/^part-L1-.+-0-\d+\.0-0\.ndjson$/u),
      expect.stringMatching(/^part-L1-.+-0-\d+\.0-1\.ndjson$/u),
    ]);
    expect(published()).toEqual([0, 1]);
    await sink.operator.close(false); // what no snapshot knows is given up
    expect(space.openCount).toBe(0);
  });

  test("a barrier without records makes no object", async () => {
    const sink = await openSink();
    await sink.snapshot(1);
    await complete(sink, 1);
    expect([space.objects.size, space.openCount]).toEqual([0, 0]);
  });

  test("without checkpoints everything appears at the end", async () => {
    const sink = await openSink({ checkpointingEnabled: false });
    sink.process(0);
    expect(published()).toEqual([]);
    sink.operator.finish?.();
    await sink.operator.close(true);
    expect(published()).toEqual([0]);
  });

  test("OF3: a fork neither completes nor aborts what it inherits", async () => {
    const sink = await openSink();
    sink.process(0);
    const state = await sink.snapshot(1);
    const fork = await openSink({ lineage: "L2", states: restoredStates(state) });
    await fork.operator.close(false);
    expect([published(), space.openCount]).toEqual([[], 1]);
    await openSink({ attempt: 1, states: restoredStates(state) });
    expect([published(), space.openCount]).toEqual([[0], 0]);
    await openSink({ attempt: 2, states: restoredStates(state) }); // OF1: twice is once
    expect(published()).toEqual([0]);
  });

  test("OF3: whoever claims a savepoint completes the uploads that wait in it, once, and those of no third lineage", async () => {
    const sink = await openSink();
    sink.process(0);
    const state = await sink.snapshot(1);
    await openSink({ lineage: "L2", claimedLineage: "L3", states: restoredStates(state) });
    expect([published(), space.openCount]).toEqual([[], 1]);
    for (const attempt of [0, 1]) {
      await openSink({ lineage: "L2", attempt, claimedLineage: "L1", states: restoredStates(state) });
      expect([published(), space.openCount]).toEqual([[0], 0]);
    }
  });

  test("OF4: an upload that the store gave up is a failure that names the object", async () => {
    const sink = await openSink();
    sink.process(0);
    const state = await sink.snapshot(1);
    const [item] = state.get("sink-pending")?.items ?? [];
    const { upload } = (item as { readonly json: { readonly upload: { path: string; uploadId: string } } }).json;
    await space.client().abort(upload);
    await expect(openSink({ attempt: 1, states: restoredStates(state) })).rejects.toMatchObject({
      code: "STORAGE_CONFLICT",
      message: expect.stringContaining(upload.path),
    });
  });

  test("OF5: parts leave as they fill; too many on their way make it unavailable until the store has taken them", async () => {
    let woken = 0;
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    const slow = { ...uploads(), begin: (path: string) => gate.then(() => space.client().begin(path)) };
    const files = new ObjectFiles({
      uploads: slow,
      extension: ".txt",
      header: "h\n",
      subtask: testSubtask({}),
      checkpointingEnabled: true,
      wake: () => void (woken += 1),
      partBytes: 10,
    });
    for (let i = 0; i < 4; i += 1) {
      expect(files.isAvailable).toBe(true);
      files.append("0123456789\n");
    }
    expect(files.isAvailable).toBe(false);
    const barrier = { checkpointId: 1 as CheckpointId, timestampMs: 0, isFinal: false };
    const snapshot = files.snapshot(barrier as Parameters<typeof files.snapshot>[0]);
    open();
    await snapshot;
    await Promise.resolve();
    expect([files.isAvailable, woken]).toEqual([true, 4]);
    await files.complete(1 as CheckpointId);
    expect([...space.objects.values()].map((bytes) => new TextDecoder().decode(bytes))).toEqual([
      `h\n${"0123456789\n".repeat(4)}`,
    ]);
  });
});

type Step =
  | { readonly type: "write"; readonly count: number }
  | { readonly type: "barrier" }
  | { readonly type: "complete" }
  | { readonly type: "crash"; readonly isCommitted: boolean; readonly parallelism: number };

const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ type: fc.constant("write" as const), count: fc.integer({ min: 1, max: 4 }) }) },
    { weight: 3, arbitrary: fc.record({ type: fc.constant("barrier" as const) }) },
    { weight: 3, arbitrary: fc.record({ type: fc.constant("complete" as const) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        type: fc.constant("crash" as const),
        isCommitted: fc.boolean(),
        parallelism: fc.integer({ min: 1, max: 3 }),
      }),
    },
  ),
  { maxLength: 40 },
);

interface Checkpoint {
  readonly id: number;
  readonly position: number;
  readonly states: readonly OperatorState[];
}

/** Plays the steps; true when at every step exactly the durable records are visible. `commitEarly` is the planted bug. */
async function play(script: readonly Step[], seed: number, commitEarly = false): Promise<boolean> {
  space = new UploadSpace(new SeededRng(seed));
  space.failProbability = 0.2;
  let sinks: readonly Harness[] = [await openSink()];
  let attempt = 0;
  let position = 0;
  let lastId = 0;
  let head: Checkpoint | undefined;
  let pending: Checkpoint[] = [];
  const barrier = async (): Promise<Checkpoint> => {
    lastId += 1;
    const states = await Promise.all(sinks.map((sink) => sink.snapshot(lastId)));
    if (commitEarly) await Promise.all(sinks.map((sink) => complete(sink, lastId)));
    return { id: lastId, position, states };
  };
  const commit = async (checkpoint: Checkpoint): Promise<void> => {
    head = checkpoint;
    pending = [];
    await Promise.all(sinks.map((sink) => complete(sink, checkpoint.id)));
  };
  for (const step of script) {
    if (step.type === "write") {
      for (let i = 0; i < step.count; i += 1) sinks[position % sinks.length]?.process(position++);
    } else if (step.type === "barrier") {
      pending.push(await barrier());
    } else if (step.type === "complete") {
      const newest = pending.at(-1);
      if (newest !== undefined) await commit(newest);
    } else {
      if (step.isCommitted) head = pending.at(-1) ?? head; // killed after the record, before anybody was told
      pending = [];
      attempt += 1;
      const { parallelism } = step;
      const dealt = head === undefined ? [] : rescaled(head.states, parallelism);
      sinks = await Promise.all(
        Array.from({ length: parallelism }, (_, subtaskIndex) =>
          openSink({ subtaskIndex, parallelism, attempt, states: dealt[subtaskIndex] }),
        ),
      );
      position = head?.position ?? 0;
    }
    if (JSON.stringify(published()) !== JSON.stringify(upTo(head?.position ?? 0))) return false;
  }
  await commit(await barrier());
  return JSON.stringify(published()) === JSON.stringify(upTo(position));
}

test("what is visible is exactly what is durable, through crashes, other parallelisms and a store that fails", () =>
  fc.assert(
    fc.asyncProperty(steps, fc.integer(), async (script, seed) => {
      expect(await play(script, seed)).toBe(true);
    }),
    { numRuns: 100 },
  ));

test("the law notices a sink that completes before the commit record", async () => {
  const crash = { type: "crash", isCommitted: false, parallelism: 1 } as const;
  const script: Step[] = [{ type: "write", count: 2 }, { type: "barrier" }, crash];
  expect(await play(script, 1)).toBe(true);
  expect(await play(script, 1, true)).toBe(false);
});
