// The sinks of buffering-sink.ts: over snapshots, restores and other parallelisms, and with processes of a MiniCluster killed.

import { describe, expect, test } from "@jest/globals";
import { GeneratorSource, Types, type RichSinkFunction, type StreamExecutionEnvironment } from "@sluice/runtime";
import { MemoryObjectStore, MiniCluster, oneInputTestHarness } from "@sluice/runtime/testing";
import type { OneInputTestHarness, OperatorSnapshot, TestHarnessOptions } from "@sluice/runtime/testing";
import fc from "fast-check";

import { BufferingSink, ConfirmedSink } from "./buffering-sink.ts";

const SEED = 4_171;
const THRESHOLD = 4;

const numbersTo = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i);
const sorted = (numbers: Iterable<number>): readonly number[] => [...numbers].toSorted((a, b) => a - b);

/** A subtask of the sink; what it sends is added to `sent`. */
function buffering(sent: number[], options?: TestHarnessOptions): Promise<OneInputTestHarness<number, never>> {
  return oneInputTestHarness(
    Types.LONG(),
    (numbers) => numbers.addSink(new BufferingSink(THRESHOLD, (batch) => sent.push(...batch))),
    options,
  );
}

test("BufferingSink: what was held back at a snapshot goes out after the restore, once, at any parallelism", async () => {
  const run = fc.record({ parallelism: fc.integer({ min: 1, max: 4 }), count: fc.nat(20), lost: fc.nat(9) });
  await fc.assert(
    fc.asyncProperty(fc.array(run, { minLength: 1, maxLength: 5 }), async (runs) => {
      const kept: number[] = [];
      let fed = 0;
      let restore: readonly OperatorSnapshot[] = [];
      let subtasks: OneInputTestHarness<number, never>[] = [];
      const restart = async (parallelism: number, sent: number[]): Promise<void> => {
        subtasks = [];
        for (let subtaskIndex = 0; subtaskIndex < parallelism; subtaskIndex += 1)
          subtasks.push(await buffering(sent, { restore, parallelism, subtaskIndex }));
      };
      for (const { parallelism, count, lost } of runs) {
        const sent: number[] = [];
        await restart(parallelism, sent);
        for (const end = fed + count; fed < end; fed += 1) subtasks[fed % parallelism]?.processElement(fed);
        restore = await Promise.all(subtasks.map((subtask) => subtask.snapshot()));
        kept.push(...sent);
        // The attempt fails later: what it took and sent after the snapshot is taken and sent again by the next one.
        for (let i = 0; i < lost; i += 1) subtasks[0]?.processElement(fed + i);
      }
      await restart(2, kept);
      for (const subtask of subtasks) await subtask.close();
      expect(sorted(kept)).toEqual(numbersTo(fed));
    }),
    { seed: SEED, numRuns: 60 },
  );
});

const COUNT = 3_000;

function job(sink: () => RichSinkFunction<number>): (env: StreamExecutionEnvironment) => void {
  return (env) => {
    env.enableCheckpointing(40);
    const numbers = new GeneratorSource({ count: COUNT, ratePerSecond: 3_000, generate: (i) => i, type: Types.LONG() });
    env.fromSource(numbers).uid("numbers").rebalance().addSink(sink()).uid("sink");
  };
}

/** Runs the job at three parallelisms, with a TaskManager killed in each and once the JobManager too. */
async function runWithKills(sink: () => RichSinkFunction<number>, sentCount: () => number): Promise<void> {
  const store = new MemoryObjectStore();
  for (const parallelism of [2, 3]) {
    await using cluster = await MiniCluster.start(job(sink), { parallelism, taskManagers: 2, store });
    await cluster.triggerCheckpoint();
    const before = sentCount();
    await cluster.waitUntil("output", () => sentCount() >= before + 200);
    cluster.killTaskManager(1);
    await cluster.waitUntil("a restart", ({ restarts, isRunning }) => restarts > 0 && isRunning);
    await cluster.triggerCheckpoint();
    if (parallelism === 3) cluster.killJobManager();
  }
  await using last = await MiniCluster.start(job(sink), { parallelism: 1, store });
  expect(await last.waitForEnd()).toBe("FINISHED");
}

describe("with kills, at 2, 3 and 1 subtasks", () => {
  test("ConfirmedSink: every number is sent once, under one name", async () => {
    const batches = new Map<string, readonly number[]>();
    const send = (name: string, records: readonly number[]): void => {
      if (batches.has(name)) expect([name, batches.get(name)]).toEqual([name, records]);
      batches.set(name, records);
    };
    await runWithKills(
      () => new ConfirmedSink(send),
      () => batches.values().reduce((sum, batch) => sum + batch.length, 0),
    );
    expect(sorted([...batches.values()].flat())).toEqual(numbersTo(COUNT));
  });

  test("BufferingSink: nothing is lost", async () => {
    const sent: number[] = [];
    await runWithKills(
      () => new BufferingSink(THRESHOLD, (batch) => sent.push(...batch)),
      () => sent.length,
    );
    expect(sorted(new Set(sent))).toEqual(numbersTo(COUNT));
  });
});
