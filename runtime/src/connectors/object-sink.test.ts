// The file sink on an object store: what is visible is exactly what is durable, through crashes, rescaling and a store that fails.

import { beforeEach, describe, expect, test } from "@jest/globals";
import { SeededRng } from "@sluice/kit";
import type { StagedUploads } from "@sluice/kit/env";
import { UploadSpace } from "@sluice/sim";
import fc from "fast-check";

import { lineageOfOutput } from "../checkpoint/index.ts";
import type { Barrier, CheckpointId, OneInputOperator, OperatorState, RestoredOperatorState } from "../model/index.ts";
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

const barrierOf = (id: number): Barrier =>
  ({ checkpointId: id as CheckpointId, timestampMs: 0, isFinal: false }) as unknown as Barrier;

function filesOver(
  over: StagedUploads,
  options: Partial<ConstructorParameters<typeof ObjectFiles>[0]> = {},
): ObjectFiles {
  const [extension, header, checkpointingEnabled] = [".txt", "", true];
  const subtask = { ...testSubtask({}), lineage: "L1" };
  return new ObjectFiles({
    uploads: over,
    extension,
    header,
    subtask,
    checkpointingEnabled,
    wake: () => {},
    ...options,
  });
}

const complete = (harness: Harness, id: number): Promise<void> =>
  Promise.resolve(harness.operator.notifyCheckpointComplete?.(id as CheckpointId));
/** What readers see: they skip names that begin with a dot. */
const visible = (): readonly (readonly [path: string, bytes: Uint8Array])[] =>
  [...space.objects].filter(([path]) => !path.startsWith("."));
const stagedNames = (): readonly string[] => [...space.objects.keys()].filter((path) => path.startsWith(".staged-"));
const published = (): readonly number[] =>
  visible()
    .flatMap(([, bytes]) => new TextDecoder().decode(bytes).split("\n"))
    .filter((line) => line !== "")
    .map(Number)
    .sort((a, b) => a - b);
const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i);

test("IU2: the lineage of an object is in its name, staged or published, whatever it is called", async () => {
  for (const lineage of ["0a1b2c", "op-1", "ä/b~c.d"]) {
    const sink = await openSink({ lineage });
    sink.process({ n: 1 });
    await sink.snapshot(1);
    const [staged] = stagedNames().filter((path) => lineageOfOutput(path) === lineage);
    expect(staged).toMatch(/^\.staged-part-/u);
    await complete(sink, 1);
    expect(visible().some(([path]) => lineageOfOutput(path) === lineage)).toBe(true);
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
    expect([published(), stagedNames().length]).toEqual([[], 2]);
    await complete(sink, 2);
    expect([...space.objects.keys()]).toEqual([
      expect.stringMatching(/^part-L1-.+-0-\d+\.0-0\.ndjson$/u),
      expect.stringMatching(/^part-L1-.+-0-\d+\.0-1\.ndjson$/u),
    ]);
    expect(published()).toEqual([0, 1]);
    await sink.operator.close(false);
    expect([published(), stagedNames(), space.openCount]).toEqual([[0, 1], [], 0]);
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

  test("OF3: a fork neither publishes nor deletes what it inherits", async () => {
    const sink = await openSink();
    sink.process(0);
    const state = await sink.snapshot(1);
    const fork = await openSink({ lineage: "L2", states: restoredStates(state) });
    await fork.operator.close(false);
    expect([published(), stagedNames().length]).toEqual([[], 1]);
    await openSink({ attempt: 1, states: restoredStates(state) });
    expect([published(), stagedNames().length]).toEqual([[0], 0]);
    await openSink({ attempt: 2, states: restoredStates(state) }); // OF1: twice is once
    expect(published()).toEqual([0]);
  });

  test("OF3: whoever claims a savepoint publishes what waits in it, once, and nothing of a third lineage", async () => {
    const sink = await openSink();
    sink.process(0);
    const state = await sink.snapshot(1);
    await openSink({ lineage: "L2", claimedLineage: "L3", states: restoredStates(state) });
    expect([published(), stagedNames().length]).toEqual([[], 1]);
    for (const attempt of [0, 1]) {
      await openSink({ lineage: "L2", attempt, claimedLineage: "L1", states: restoredStates(state) });
      expect([published(), stagedNames().length]).toEqual([[0], 0]);
    }
  });

  test("OF4: an object that is neither staged nor published is a failure that names it", async () => {
    const sink = await openSink();
    sink.process(0);
    const state = await sink.snapshot(1);
    const [staged = ""] = stagedNames();
    space.objects.delete(staged);
    const name = staged.slice(".staged-".length);
    space.objects.set(name, new Uint8Array(1)); // of another size: not ours
    const restoring = (): Promise<Harness> => openSink({ attempt: 1, states: restoredStates(state) });
    const expected = { code: "STORAGE_CONFLICT", message: expect.stringContaining(name) };
    await expect(restoring()).rejects.toMatchObject(expected);
    space.objects.delete(name);
    await expect(restoring()).rejects.toMatchObject(expected);
  });

  test("OF2: what waits for its publication is in every later checkpoint, until it was published", async () => {
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    const held = {
      ...uploads(),
      copy: (...args: Parameters<ReturnType<typeof uploads>["copy"]>) => gate.then(() => uploads().copy(...args)),
    };
    const files = filesOver(held);
    files.append("0\n");
    await files.snapshot(barrierOf(1));
    const publishing = files.complete(1 as CheckpointId);
    files.append("1\n");
    const second = await files.snapshot(barrierOf(2));
    expect(second.items.length).toBe(2);
    expect(published()).toEqual([]);
    // Checkpoint 2 is durable, and the process dies before the copy of the first object was asked for.
    await openSink({ attempt: 1, states: restoredStates(new Map([["sink-pending", second]])) });
    expect([published(), stagedNames()]).toEqual([[0, 1], []]);
    open();
    await publishing; // one that was thought dead: nothing changes
    expect([published(), stagedNames()]).toEqual([[0, 1], []]);
    expect((await files.snapshot(barrierOf(3))).items.length).toBe(1);
  });

  test("OF8: what dead attempts staged goes with the first own checkpoint, and nothing else does", async () => {
    const [dead, fork, neighbour] = [
      await openSink(),
      await openSink({ lineage: "L2" }),
      await openSink({ subtaskIndex: 1, parallelism: 2 }),
    ];
    for (const sink of [dead, fork, neighbour]) {
      sink.process(7);
      await sink.snapshot(1);
    }
    const younger = ".staged-part-L1-op-0-9.0-0.ndjson";
    const otherUid = ".staged-part-L1-op-1-0-0.0-0.ndjson";
    for (const path of [younger, otherUid]) space.objects.set(path, new Uint8Array(3));
    const sink = await openSink({ attempt: 1, parallelism: 2 });
    sink.process(0);
    await sink.snapshot(2);
    expect(stagedNames().length).toBe(6);
    await complete(sink, 2);
    expect(published()).toEqual([0]);
    expect(stagedNames().length).toBe(4);
    expect(stagedNames()).toEqual(
      expect.arrayContaining([
        younger,
        otherUid,
        expect.stringMatching(/^\.staged-part-L1-.+-1-\d+\.0-0/u),
        expect.stringMatching(/^\.staged-part-L2-/u),
      ]),
    );
  });

  test("uploads that state of an older release records are completed as they were", async () => {
    const upload = await space.client().begin("part-L1-op-0-1.0-0.ndjson");
    const part = await space.client().putPart(upload, { number: 1, bytes: new TextEncoder().encode("5\n") });
    const items = [{ json: { lineage: "L1", upload, parts: [part] } }];
    const states = restoredStates(new Map([["sink-pending", { mode: "split", items }]]));
    await openSink({ lineage: "L2", states });
    expect([published(), space.openCount]).toEqual([[], 1]);
    for (const attempt of [1, 2]) {
      await openSink({ attempt, states });
      expect([published(), space.openCount]).toEqual([[5], 0]);
    }
    space.objects.clear();
    await expect(openSink({ attempt: 3, states })).rejects.toMatchObject({ code: "STORAGE_CONFLICT" });
  });

  test("an object that is full before its checkpoint is followed by another one of the same checkpoint", async () => {
    const files = filesOver(uploads(), { partBytes: 4, objectBytes: 8 });
    for (let i = 0; i < 10; i += 1) files.append(`${i}\n`);
    const state = await files.snapshot(barrierOf(1));
    expect(state.items.map((item) => (item as { json: { sizeBytes: number } }).json.sizeBytes)).toEqual([8, 8, 4]);
    await files.complete(1 as CheckpointId);
    expect([published(), stagedNames(), space.openCount]).toEqual([upTo(10), [], 0]);
  });

  test("a completion that destroys its upload fails the checkpoint that would need it", async () => {
    const files = filesOver(uploads(), { partBytes: 4 });
    space.destroyProbability = 1;
    for (let i = 0; i < 5; i += 1) files.append(`${i}\n`);
    await expect(files.snapshot(barrierOf(1))).rejects.toMatchObject({ code: "STORAGE_UNAVAILABLE", retry: "backoff" });
    expect(() => files.append("6\n")).toThrow(expect.objectContaining({ code: "STORAGE_UNAVAILABLE" }));
  });

  test("OF5: parts leave as they fill; too many on their way make it unavailable until the store has taken them", async () => {
    let woken = 0;
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    const slow = { ...uploads(), begin: (path: string) => gate.then(() => space.client().begin(path)) };
    const files = filesOver(slow, { header: "h\n", wake: () => void (woken += 1), partBytes: 10 });
    for (let i = 0; i < 4; i += 1) {
      expect(files.isAvailable).toBe(true);
      files.append("0123456789\n");
    }
    expect(files.isAvailable).toBe(false);
    const snapshot = files.snapshot(barrierOf(1));
    open();
    await snapshot;
    await Promise.resolve();
    expect([files.isAvailable, woken]).toEqual([true, 4]);
    await files.complete(1 as CheckpointId);
    expect(visible().map(([, bytes]) => new TextDecoder().decode(bytes))).toEqual([`h\n${"0123456789\n".repeat(4)}`]);
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
