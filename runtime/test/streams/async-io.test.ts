// Asynchronous I/O in whole jobs: inputs in flight at a barrier are neither lost nor doubled, wherever in a chain they wait.

import { setTimeout as sleep } from "node:timers/promises";

import { describe, expect, test } from "@jest/globals";

import {
  AsyncDataStream,
  AsyncRetryStrategies,
  type DataStream,
  GeneratorSource,
  type JobMain,
  type SingleOutputStreamOperator,
  Types,
} from "../../src/index.ts";
import { ArraySink, Slots, type SlotsOptions } from "../support/slots.ts";

const COUNT = 300;
const all = Array.from({ length: COUNT }, (_, i) => i);
const ascending = (records: readonly number[]): readonly number[] => records.toSorted((a, b) => a - b);
const numbers = (count = COUNT): GeneratorSource<number> =>
  new GeneratorSource({ count, generate: (i) => i, type: Types.LONG() });

/** Another system, whose answers the test gives. */
class Peer {
  readonly calls: {
    readonly input: number;
    readonly answer: (result: number) => void;
    readonly fail: (e: Error) => void;
  }[] = [];
  #isOpen = false;

  readonly ask = (input: number): Promise<number> => {
    if (this.#isOpen) return Promise.resolve(input);
    return new Promise((answer, fail) => void this.calls.push({ input, answer, fail }));
  };

  /** Answers the last calls first. */
  answer(count: number): void {
    for (const { input, answer } of this.calls.splice(-count).toReversed()) answer(input);
  }

  /** Answers everything from now on. */
  open(): void {
    this.#isOpen = true;
    this.answer(this.calls.length);
  }
}

type Shape = (
  stream: DataStream<number>,
  wait: (of: DataStream<number>) => SingleOutputStreamOperator<number>,
) => DataStream<number>;

const SHAPES: readonly (readonly [name: string, vertices: number, shape: Shape])[] = [
  ["chained between a source and a sink", 1, (stream, wait) => wait(stream)],
  [
    "at the head of its task, with operators behind it",
    2,
    (stream, wait) => wait(stream.rebalance()).filter(() => true),
  ],
  ["behind another operator of its task", 2, (stream, wait) => wait(stream.rebalance().map((n) => n, Types.LONG()))],
  [
    "with an exchange behind it, two of them",
    3,
    (stream, wait) =>
      wait(
        wait(stream.rebalance())
          .map((n) => n, Types.LONG())
          .uid("m"),
      ).rebalance(),
  ],
];

describe.each(SHAPES)("%s", (_name, vertices, shape) => {
  test.each(["orderedWait", "unorderedWait"] as const)("%s: exactly once over a failure", async (mode) => {
    let peer = new Peer();
    const sink = new ArraySink<number>();
    const main: JobMain = (env) => {
      let uid = 0;
      const wait = (stream: DataStream<number>): SingleOutputStreamOperator<number> =>
        AsyncDataStream[mode](stream, (input: number) => peer.ask(input), 60_000, 10, Types.LONG()).uid(`ask-${uid++}`);
      shape(env.fromSource(numbers()).uid("n"), wait).sinkTo(sink);
    };
    const first = await Slots.start(main, { checkpointing: true });
    expect(first.plan.vertices).toHaveLength(vertices);
    for (let round = 0; round < 4; round += 1) {
      await first.until(() => peer.calls.length >= 10);
      peer.answer(mode === "orderedWait" ? peer.calls.length : 7);
    }
    await first.until(() => peer.calls.length >= 10);
    const snapshot = first.trigger(1);
    await first.until(() => {
      if (snapshot.submissions.size === vertices) return true;
      peer.answer(1); // the barrier is behind inputs for which there is no room yet
      return false;
    });
    const waiting = [...snapshot.submissions.values()]
      .flatMap(({ parts }) => parts)
      .filter(({ stateName }) => stateName === "_async_wait_operator_state_")
      .reduce((sum, { itemCount = 0 }) => sum + itemCount, 0);
    expect(waiting).toBeGreaterThan(3);
    peer.answer(5);
    await sleep(5);
    await first.cancel();
    peer.open(); // answers that nobody waits for any more
    const before = sink.recordsAt(1);
    expect(before.length).toBeLessThan(COUNT);

    peer = new Peer();
    const second = await Slots.start(main, { checkpointing: true, restore: snapshot });
    await second.until(() => peer.calls.length >= Math.min(10, waiting));
    peer.open();
    await second.finishWith(2);
    const results = [...before, ...sink.records];
    expect(ascending(results)).toEqual(all);
    if (mode === "orderedWait") expect(results).toEqual(all);
  });
});

async function started(
  main: (stream: DataStream<number>, sink: ArraySink<number>) => void,
  options: SlotsOptions = {},
): Promise<{ readonly slots: Slots; readonly sink: ArraySink<number> }> {
  const sink = new ArraySink<number>();
  const slots = await Slots.start((env) => main(env.fromSource(numbers()).uid("n"), sink), options);
  return { slots, sink };
}

test("the end of input waits for all answers, and the final checkpoint comes after them", async () => {
  const peer = new Peer();
  const { slots, sink } = await started(
    (stream, of) =>
      AsyncDataStream.unorderedWait(stream.rebalance(), peer.ask, 0, 400, Types.LONG())
        .uid("ask")
        .rebalance()
        .sinkTo(of),
    { checkpointing: true },
  );
  await slots.until(() => peer.calls.length === COUNT);
  const states = (): readonly string[] => [...slots.states.values()];
  expect(states()).toEqual(["DRAINED", "RUNNING", "RUNNING"]);
  const ordinary = await slots.checkpoint(1); // others go on: the inputs are in them
  expect([...ordinary.submissions.values()].some(({ finished }) => finished)).toBe(false);
  const final = slots.trigger(2, true);
  await slots.until(() => final.submissions.size === 1); // the source, which is drained
  peer.answer(COUNT - 1);
  await slots.until(() => sink.records.length === COUNT - 1);
  expect(final.submissions.size).toBe(1);
  peer.answer(1);
  await slots.until(() => final.submissions.size === 3);
  expect([...final.submissions.values()].every(({ finished }) => finished)).toBe(true);
  expect(ascending(sink.recordsAt(2))).toEqual(all);
  slots.confirm(2);
  await slots.finish();
});

test("no more than the capacity is read while nobody answers", async () => {
  const peer = new Peer();
  const { slots, sink } = await started((stream, of) =>
    AsyncDataStream.orderedWait(stream, peer.ask, 0, 7, Types.LONG()).uid("ask").sinkTo(of),
  );
  await slots.until(() => peer.calls.length === 7);
  await sleep(20);
  expect([peer.calls.length, sink.records.length]).toEqual([7, 0]);
  peer.open();
  await slots.finish();
  expect(sink.records).toEqual(all);
});

test("a rejected promise fails the job and names the operator; nothing is emitted afterwards", async () => {
  const peer = new Peer();
  const { slots, sink } = await started((stream, of) =>
    AsyncDataStream.unorderedWait(stream, peer.ask, 0, 10, Types.LONG()).name("ask").uid("a").sinkTo(of),
  );
  await slots.until(() => peer.calls.length === 10);
  const last = peer.calls.at(-1);
  last?.fail(new RangeError("refused"));
  await expect(slots.finish()).rejects.toMatchObject({
    code: "USER_FUNCTION_FAILED",
    message: 'operator "ask" (uid a): RangeError: refused',
  });
  peer.open();
  await sleep(5);
  expect(sink.records).toEqual([]);
});

test("time passes without input: a timeout fails the job, a retry is made", async () => {
  const silent = await started((stream, of) =>
    AsyncDataStream.orderedWait(stream, () => new Promise<number>(() => {}), 30, 10, Types.LONG())
      .uid("a")
      .sinkTo(of),
  );
  await expect(silent.slots.finish()).rejects.toThrow("an input was not answered within 30 ms");

  const failed = new Set<number>();
  const ask = (input: number): Promise<number> => {
    if (input % 50 !== 0 || failed.has(input)) return Promise.resolve(input);
    failed.add(input);
    return Promise.reject(new Error("busy"));
  };
  const retry = AsyncRetryStrategies.exponentialBackoff<number>({ maxAttempts: 1, initialDelayMs: 5, maxDelayMs: 10 });
  const { slots, sink } = await started((stream, of) =>
    AsyncDataStream.orderedWaitWithRetry(stream, ask, 60_000, 10, retry, Types.LONG()).uid("a").sinkTo(of),
  );
  await slots.finish();
  expect([sink.records, failed.size]).toEqual([all, 6]);
});

test.each([1, 2])("a drain takes its savepoint behind the last answers, in %i tasks", async (tasks) => {
  const peer = new Peer();
  const sink = new ArraySink<number>();
  const slots = await Slots.start(
    (env) => {
      const source = env.fromSource(numbers(Infinity)).uid("n");
      const stream = tasks === 1 ? source : source.rebalance();
      AsyncDataStream.orderedWait(stream, peer.ask, 0, 10, Types.LONG()).uid("ask").sinkTo(sink);
    },
    { checkpointing: true },
  );
  await slots.until(() => peer.calls.length === 10);
  peer.answer(10);
  await slots.until(() => peer.calls.length === 10);
  const savepoint = slots.trigger(1, true, { location: "memory://savepoint", stops: true });
  if (tasks === 1) {
    await sleep(5);
    expect([savepoint.submissions.size, peer.calls.length]).toEqual([0, 10]);
  }
  peer.open();
  await slots.until(() => savepoint.submissions.size === tasks);
  const inputs = [...savepoint.submissions.values()].flatMap(({ parts }) =>
    parts.filter(({ stateName }) => stateName === "_async_wait_operator_state_").map(({ itemCount }) => itemCount),
  );
  expect(inputs).toEqual([0]);
  const seen = sink.recordsAt(1);
  expect(seen.length).toBeGreaterThan(10);
  expect(seen).toEqual(seen.map((_, i) => i));
  slots.confirm(1);
  await slots.finish();
  expect(sink.records).toEqual(seen);
});
