// One step of a task ends by rows and by time.
//
// The story: user functions that take 0.4 ms each made one step of 4,096 rows last 1.6 s, and barriers, cancellations and the
// slot's other tasks waited for it: checkpoints of a slow job took seconds.

import { describe, expect, test } from "@jest/globals";

import { NOTHING_READ } from "../model/index.ts";
import { hashLong } from "@sluice/kit";
import type { AttemptNumber, CheckpointId, Epoch, SlotPort, SourceOperator } from "../model/index.ts";
import type { ChannelHead, InputGate } from "../network/index.ts";
import { HeapKeyedStateBackend } from "../state/index.ts";
import { SlotCounters, slotCountersBytes } from "./counters.ts";
import { TaskMetrics } from "./operator-context.ts";
import { Task } from "./task.ts";
import type { TaskOptions } from "./task.ts";

const ROWS_MAX = 4_096;
const WALL_AHEAD_MS = 1_000_000;

/** A clock that moves only when a row is processed. */
class Work {
  nowMs = 0;
  rows = 0;
  /** The wall clock is not the monotonic one. */
  readonly clock = { nowMs: (): number => this.nowMs, wallMs: (): number => this.nowMs + WALL_AHEAD_MS };

  do(rows: number, perRowMs: number): void {
    this.rows += rows;
    this.nowMs += rows * perRowMs;
  }
}

const port: SlotPort = {
  poll: () => undefined,
  send() {},
  submitSnapshot() {},
  fetchParts: () => Promise.resolve({ contents: [], read: NOTHING_READ }),
};

async function runningTask(
  work: Work,
  parts: Pick<TaskOptions, "chain" | "gate" | "headLoops"> & Partial<Pick<TaskOptions, "keyedState">>,
): Promise<Task> {
  const log = { debug() {}, info() {}, warn() {}, error() {}, with: () => log };
  const task = new Task({
    subtask: { vertexId: "v", subtaskIndex: 0 },
    epoch: 1 as Epoch,
    attempt: 0 as AttemptNumber,
    restore: undefined,
    mode: "EXACTLY_ONCE",
    checkpointingEnabled: true,
    endsAtOnce: false,
    bufferTimeoutMs: 1_000_000,
    writers: [],
    keyedState: undefined,
    metrics: new TaskMetrics({ clock: { nowMs: () => work.nowMs }, log }),
    counters: new SlotCounters(new SharedArrayBuffer(slotCountersBytes(1))).task(0),
    port,
    clock: work.clock,
    log,
    wake() {},
    ...parts,
  } as TaskOptions);
  await task.initialize();
  expect(task.state).toBe("RUNNING");
  return task;
}

function chainOf(operator: Partial<SourceOperator>): TaskOptions["chain"] {
  const link = { uid: "u", name: "n", operator, open() {}, attribute: (thrown: unknown) => thrown };
  return [
    { ...link, output: { numRecords: 0, collect() {} }, sideOutputs: [] } as unknown as TaskOptions["chain"][number],
  ];
}

const sourceTask = (work: Work, perRowMs: number): Promise<Task> =>
  runningTask(work, {
    chain: chainOf({
      wakeAtMs: Number.POSITIVE_INFINITY,
      poll(recordsMax) {
        work.do(recordsMax, perRowMs);
        return "more";
      },
    }),
    gate: undefined,
    headLoops: [],
  });

/** An input that never runs dry, in frames of 1,000 rows. */
const inputTask = (work: Work, perRowMs: number, operator: Partial<SourceOperator> = {}): Promise<Task> => {
  const head = { channel: 0, inputIndex: 0, kind: "RECORDS", rowCount: 1_000, cursor: 0 } as unknown as ChannelHead;
  const gate = {
    channelCount: 1,
    rowsRead: 0,
    bytesRead: 0,
    nextReady: () => 0,
    head: () => head,
    consume: () => (head.cursor = 0),
  };
  return runningTask(work, {
    chain: chainOf(operator),
    gate: gate as unknown as InputGate,
    headLoops: [{ process: (_reader: unknown, from: number, to: number) => work.do(to - from, perRowMs) }],
  } as unknown as Pick<TaskOptions, "chain" | "gate" | "headLoops">);
};

describe.each([
  ["a source", sourceTask],
  ["a task with inputs", inputTask],
])("%s", (_name, start) => {
  test("whose rows cost nothing measurable takes as many as a step may", async () => {
    const work = new Work();
    const task = await start(work, 0);
    task.runStep(work.nowMs); // its chunks grow
    const before = work.rows;
    task.runStep(work.nowMs);
    expect(work.rows - before).toBe(ROWS_MAX);
  });

  test("whose rows are slow gives way after some milliseconds, from its first step on", async () => {
    const work = new Work();
    const task = await start(work, 0.4);
    const stepsMs: number[] = [];
    for (let step = 0; step < 20; step += 1) {
      const startedMs = work.nowMs;
      task.runStep(startedMs);
      stepsMs.push(work.nowMs - startedMs);
    }
    expect(Math.max(...stepsMs)).toBeLessThan(10);
  });
});

test("TK3: an operator that can take no more holds its task up until it can", async () => {
  const work = new Work();
  const operator = { isAvailable: true };
  const task = await inputTask(work, 1, operator);
  task.runStep(work.nowMs);
  const before = work.rows;
  expect(before).toBeGreaterThan(0);
  operator.isAvailable = false;
  expect(task.runStep(work.nowMs)).toBe(false);
  expect([work.rows, task.backPressured]).toEqual([before, true]);
  operator.isAvailable = true;
  task.runStep(work.nowMs);
  expect(work.rows).toBeGreaterThan(before);
});

describe("timers", () => {
  /** A task of a keyed operator with timers at these times, each of which costs `perTimerMs`; its input is at its end, or endless. */
  async function timerTask(
    work: Work,
    options: {
      readonly timersMs: readonly number[];
      readonly perTimerMs: number;
      readonly input: "none" | "end" | "records";
    },
  ): Promise<{ readonly task: Task; readonly fired: number[] }> {
    const keyedState = new HeapKeyedStateBackend({
      keyType: { kind: "LONG" },
      keyGroups: [0, 127],
      maxParallelism: 128,
      uid: "u",
      clock: work.clock,
    });
    const fired: number[] = [];
    const timers = keyedState.getTimerService({
      onProcessingTime(timestampMs) {
        work.nowMs += options.perTimerMs;
        fired.push(timestampMs - WALL_AHEAD_MS);
      },
    });
    options.timersMs.forEach((timerMs, key) => {
      keyedState.setCurrentKey(key, hashLong(key));
      timers.registerProcessingTimeTimer(timerMs + WALL_AHEAD_MS);
    });
    const head = { kind: options.input === "end" ? "END_OF_DATA" : "RECORDS", rowCount: 8, cursor: 0 };
    let ended = false;
    const gate = {
      channelCount: 1,
      nextReady: () => (options.input === "none" || ended ? -1 : 0),
      head: () => head,
      consume() {
        head.cursor = 0;
        ended = options.input === "end";
      },
    };
    const task = await runningTask(work, {
      chain: chainOf({}),
      gate: gate as unknown as InputGate,
      headLoops: [{ process: (_reader: unknown, from: number, to: number) => work.do(to - from, 1) }],
      keyedState,
    } as unknown as Pick<TaskOptions, "chain" | "gate" | "headLoops">);
    return { task, fired };
  }

  test("TK8: a burst of slow timers holds up neither the slot's other tasks nor the task's own input", async () => {
    const work = new Work();
    const timersMs = Array.from({ length: 2_000 }, (_, i) => 2_000 - i);
    const { task, fired } = await timerTask(work, { timersMs, perTimerMs: 0.5, input: "records" });
    work.nowMs = 5_000;
    const stepsMs: number[] = [];
    while (fired.length < timersMs.length) {
      const [startedMs, rowsBefore] = [work.nowMs, work.rows];
      task.runStep(startedMs);
      stepsMs.push(work.nowMs - startedMs);
      expect(work.rows).toBeGreaterThan(rowsBefore);
    }
    expect(fired).toEqual(timersMs.toReversed());
    expect(Math.max(...stepsMs.slice(6))).toBeLessThan(25);
  });

  test("the loop sleeps until the earliest timer is due, by the wall clock", async () => {
    const work = new Work();
    const { task, fired } = await timerTask(work, { timersMs: [700, 300, 301], perTimerMs: 0, input: "none" });
    expect(task.nextRunMs()).toBe(300);
    work.nowMs = 299;
    expect(task.runStep(work.nowMs)).toBe(false);
    work.nowMs = 301;
    expect(task.runStep(work.nowMs)).toBe(true);
    expect([fired, task.nextRunMs()]).toEqual([[300, 301], 700]);
  });

  test("after the end of the input no timer fires any more", async () => {
    const work = new Work();
    const { task, fired } = await timerTask(work, { timersMs: [10, 20], perTimerMs: 0, input: "end" });
    work.nowMs = 10;
    task.runStep(work.nowMs);
    expect([fired, task.state]).toEqual([[10], "DRAINED"]);
    work.nowMs = 30;
    task.runStep(work.nowMs);
    expect(fired).toEqual([10]);
  });
});

test("a task without room for output waits for the bell alone: it had counted the time to its next flush and never slept", async () => {
  const work = new Work();
  const writer = { available: false, drain: () => false, flush() {}, bytesWritten: 0, broadcastEndOfData() {} };
  const task = await runningTask(work, {
    chain: chainOf({ wakeAtMs: 5, poll: () => "idle" }),
    gate: undefined,
    headLoops: [],
    writers: [writer],
  } as unknown as Pick<TaskOptions, "chain" | "gate" | "headLoops">);
  work.nowMs = 2_000_000; // the buffer timeout has long passed
  expect(task.runStep(work.nowMs)).toBe(false);
  expect(task.nextRunMs()).toBe(Number.POSITIVE_INFINITY);
});

test("TK6: a task ends also when the answer to an older confirmation comes after that to the final one", async () => {
  const work = new Work();
  const older = Promise.withResolvers<void>();
  const told: CheckpointId[] = [];
  const operator: Partial<SourceOperator> = {
    wakeAtMs: Number.POSITIVE_INFINITY,
    poll: () => "finished",
    notifyCheckpointComplete(id) {
      told.push(id);
      return told.length === 1 ? older.promise : undefined;
    },
    close: () => Promise.resolve(),
  };
  const task = await runningTask(work, { chain: chainOf(operator), gate: undefined, headLoops: [] });
  const [first, final] = [1, 2] as CheckpointId[] as [CheckpointId, CheckpointId];
  task.triggerCheckpoint({ checkpointId: first, timestampMs: 0, isFinal: false }, 0);
  task.runStep(work.nowMs);
  expect(task.state).toBe("DRAINED");
  task.triggerCheckpoint({ checkpointId: final, timestampMs: 0, isFinal: true }, 0);
  task.notifyCheckpointComplete(first);
  task.notifyCheckpointComplete(final); // answered at once
  expect([told, task.state]).toEqual([[first, final], "DRAINED"]);
  older.resolve();
  await new Promise((resolve) => setImmediate(resolve)); // whatever waited for the answer has run
  expect(task.state).toBe("FINISHED");
});
