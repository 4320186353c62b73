// Jobs in a MiniCluster, as users test them.

import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { describe, expect, test } from "@jest/globals";

import { GeneratorSource } from "../connectors/index.ts";
import type { StreamExecutionEnvironment } from "../datastream/index.ts";
import { KeyedProcessFunction, MapStateDescriptor, Types, ValueStateDescriptor } from "../model/index.ts";
import type { Collector, KeyedContext, MapState, OnTimerContext, RuntimeContext, ValueState } from "../model/index.ts";
import { CollectSink, MemoryObjectStore, MiniCluster } from "./index.ts";
import type { MiniClusterOptions } from "./index.ts";

class KeyedCount extends KeyedProcessFunction<string, number, string> {
  readonly #seen: ((value: number) => void) | undefined;
  #count!: ValueState<number>;

  constructor(seen?: (value: number) => void) {
    super();
    this.#seen = seen;
  }

  override open(context: RuntimeContext): void {
    this.#count = context.getState(new ValueStateDescriptor("count", Types.LONG()));
  }

  override processElement(value: number, ctx: KeyedContext<string>, out: Collector<string>): void {
    this.#seen?.(value);
    const count = (this.#count.value() ?? 0) + 1;
    this.#count.update(count);
    out.collect(`${ctx.getCurrentKey()} ${count}`);
  }
}

interface CountJob {
  readonly count: number;
  readonly ratePerSecond?: number;
  /** Undefined: no checkpoints. */
  readonly intervalMs?: number;
  readonly seen?: (value: number) => void;
}

/** Counts numbers by key; the source is rate-limited so that there is something to kill. */
function countJob(sink: CollectSink<string>, job: CountJob): (env: StreamExecutionEnvironment) => void {
  const { count, ratePerSecond } = job;
  return (env) => {
    if (job.intervalMs !== undefined) env.enableCheckpointing(job.intervalMs);
    env
      .fromSource(
        new GeneratorSource({
          count,
          generate: (i) => i,
          type: Types.LONG(),
          ...(ratePerSecond === undefined ? {} : { ratePerSecond }),
        }),
      )
      .uid("numbers")
      .keyBy((n) => (n % 2 === 0 ? "even" : "odd"), Types.STRING())
      .process(() => new KeyedCount(job.seen), Types.STRING())
      .uid("count")
      .sinkTo(sink)
      .uid("out");
  };
}

/** Holds every number for 50 ms: a map of numbers by key, and a timer for each millisecond that has some. */
class Delay extends KeyedProcessFunction<number, number, number> {
  #held!: MapState<number, number>;

  override open(context: RuntimeContext): void {
    this.#held = context.getMapState(new MapStateDescriptor("held", Types.LONG(), Types.INSTANT()));
  }

  override processElement(value: number, ctx: KeyedContext<number>): void {
    const timers = ctx.timerService();
    const dueMs = timers.currentProcessingTime() + 50;
    this.#held.put(value, dueMs);
    timers.registerProcessingTimeTimer(dueMs);
  }

  override onTimer(timestampMs: number, ctx: OnTimerContext<number>, out: Collector<number>): void {
    for (const [value, dueMs] of this.#held.entries()) {
      if (value % 7 !== ctx.getCurrentKey()) throw new Error(`${value} is not of key ${ctx.getCurrentKey()}`);
      if (dueMs !== timestampMs) continue;
      this.#held.remove(value);
      out.collect(value);
    }
  }
}

/** Every number counted once: each key has 1 to its count, once each. */
function expectExact(sink: CollectSink<string>, count: number): void {
  const expected = Array.from({ length: count }, (_, i) => `${i % 2 === 0 ? "even" : "odd"} ${Math.floor(i / 2) + 1}`);
  expect(sink.values().toSorted()).toEqual(expected.toSorted());
}

const TWO: MiniClusterOptions = { parallelism: 2, taskManagers: 2 };

describe("a MiniCluster", () => {
  test("runs a job to its end, without checkpoints too", async () => {
    const sink = new CollectSink<string>();
    const cluster = await MiniCluster.start(countJob(sink, { count: 1_000 }), TWO);
    expect(await cluster.waitForEnd()).toBe("FINISHED");
    expectExact(sink, 1_000);
    await cluster.stop(); // harmless
  });

  test("MC1, CO1: killed TaskManagers and JobManagers cost nothing and double nothing", async () => {
    const sink = new CollectSink<string>();
    await using cluster = await MiniCluster.start(
      countJob(sink, { count: 2_000, ratePerSecond: 2_000, intervalMs: 50 }),
      TWO,
    );
    await cluster.triggerCheckpoint();
    await cluster.waitUntil("output", () => sink.values().length >= 300);
    cluster.killTaskManager(1);
    await cluster.waitUntil("a restart", ({ restarts, isRunning }) => restarts > 0 && isRunning);
    expect(cluster.status().restoredCheckpointId).toBeGreaterThan(0);
    await cluster.waitUntil("more output", () => sink.values().length >= 800);
    cluster.killJobManager();
    await cluster.waitUntil("output under the next JobManager", () => sink.values().length >= 1_200);
    cluster.killTaskManager(0);
    expect(await cluster.waitForEnd()).toBe("FINISHED");
    expectExact(sink, 2_000);
  });

  test("timers and maps survive killed TaskManagers: what they hold is given once, overdue or not", async () => {
    const sink = new CollectSink<number>();
    const count = 3_000;
    const job = (env: StreamExecutionEnvironment): void => {
      env.enableCheckpointing(40);
      env
        .fromSource(new GeneratorSource({ count, generate: (i) => i, type: Types.LONG(), ratePerSecond: 2_000 }))
        .uid("numbers")
        .keyBy((n) => n % 7, Types.LONG())
        .process(() => new Delay(), Types.LONG())
        .uid("delay")
        .sinkTo(sink)
        .uid("out");
    };
    await using cluster = await MiniCluster.start(job, TWO);
    for (const [index, seen] of [300, 1_000].entries()) {
      await cluster.waitUntil("output", () => sink.values().length >= seen);
      cluster.killTaskManager(index);
      await cluster.waitUntil("a restart", ({ restarts, isRunning }) => restarts > index && isRunning);
    }
    await cluster.waitForEnd();
    const values = sink.values().toSorted((a, b) => a - b);
    // What was held when the input ended stays in the state, as in Flink: the last numbers, far less than a thousand.
    expect(new Set(values).size).toBe(values.length);
    expect(values.slice(0, 2_000)).toEqual(Array.from({ length: 2_000 }, (_, i) => i));
  });

  test("the audit itself: without checkpoints a kill fails the job, and the test learns why", async () => {
    const sink = new CollectSink<string>();
    await using cluster = await MiniCluster.start(countJob(sink, { count: 100_000, ratePerSecond: 1_000 }), TWO);
    await cluster.waitUntil("output", () => sink.values().length >= 10);
    cluster.killTaskManager();
    await expect(cluster.waitForEnd()).rejects.toMatchObject({ code: "PEER_LOST" });
  });

  test("an exception in the job's code: restarted from the checkpoint, and failed with its stack when it stays", async () => {
    const sink = new CollectSink<string>();
    let isBroken = true;
    const seen = (value: number): void => {
      if (value === 500 && isBroken) throw new Error("value 500 is not liked");
    };
    const job = countJob(sink, { count: 1_000, ratePerSecond: 2_000, intervalMs: 50, seen });
    await using cluster = await MiniCluster.start(job);
    await cluster.waitUntil("the exception", ({ failures }) => failures.length > 0);
    isBroken = false;
    await cluster.waitForEnd();
    expectExact(sink, 1_000);

    isBroken = true;
    await using hopeless = await MiniCluster.start(
      countJob(new CollectSink(), { count: 1_000, intervalMs: 50, seen }),
      {
        configuration: { "restart-strategy.fixed-delay.attempts": "2" },
      },
    );
    const failed = hopeless.waitForEnd();
    await expect(failed).rejects.toMatchObject({ code: "USER_FUNCTION_FAILED" });
    await expect(failed).rejects.toThrow(/value 500 is not liked[^]*mini-cluster\.test\.ts/u);
  });

  test("restart-strategy failure-rate ends the job with one failure too many; web.exception-history-size keeps the newest", async () => {
    const seen = (value: number): void => {
      if (value === 500) throw new Error("value 500 is not liked");
    };
    await using cluster = await MiniCluster.start(countJob(new CollectSink(), { count: 1_000, intervalMs: 50, seen }), {
      configuration: {
        "restart-strategy.type": "failure-rate",
        "restart-strategy.failure-rate.max-failures-per-interval": "3",
        "restart-strategy.failure-rate.failure-rate-interval": "1 h",
        "restart-strategy.failure-rate.delay": "1 ms",
        "web.exception-history-size": "2",
      },
    });
    await expect(cluster.waitForEnd()).rejects.toMatchObject({ code: "USER_FUNCTION_FAILED" });
    const { restarts, failures } = cluster.status();
    expect(restarts).toBe(3);
    expect(failures).toHaveLength(2); // of four
  });

  test("stopped and started again on the same store the job goes on, in memory and in files", async () => {
    const folder = mkdtempSync(join(tmpdir(), "sluice-mini-"));
    for (const store of [new MemoryObjectStore(), pathToFileURL(folder).href]) {
      const sink = new CollectSink<string>();
      const job = countJob(sink, { count: 600, ratePerSecond: 1_000, intervalMs: 50 });
      const first = await MiniCluster.start(job, { store });
      await first.waitUntil("output", () => sink.values().length >= 100);
      await first.stop();
      await expect(first.waitForEnd()).rejects.toMatchObject({ code: "CANCELED" });
      const second = await MiniCluster.start(job, { store });
      await second.waitForEnd();
      expectExact(sink, 600);
      await expect(MiniCluster.start(job, { store }).then((third) => third.waitForEnd())).rejects.toMatchObject({
        code: "JOB_FINISHED",
      });
    }
    expect(readdirSync(folder)).toContain("test");
    rmSync(folder, { recursive: true });
  });

  test("cancel", async () => {
    await using cluster = await MiniCluster.start(
      countJob(new CollectSink(), { count: 1_000_000, ratePerSecond: 1_000, intervalMs: 50 }),
    );
    await cluster.triggerCheckpoint();
    await cluster.cancel();
    expect(await cluster.waitForEnd()).toBe("CANCELED");
  });

  test("MC2: a breakpoint that holds for longer than every timeout changes nothing", async () => {
    const sink = new CollectSink<string>();
    const held = new Int32Array(new SharedArrayBuffer(4));
    let holds = 0;
    const seen = (value: number): void => {
      if (value === 300 && (holds += 1) === 1) Atomics.wait(held, 0, 0, 3_000); // as a debugger does: the whole thread
    };
    const job = countJob(sink, { count: 600, ratePerSecond: 1_000, intervalMs: 50, seen });
    await using cluster = await MiniCluster.start(job, {
      ...TWO,
      configuration: {
        "heartbeat.interval": "100 ms",
        "heartbeat.timeout": "1500 ms",
        "execution.checkpointing.timeout": "1500 ms",
        "execution.checkpointing.tolerable-failed-checkpoints": "0",
      },
    });
    await cluster.waitForEnd();
    expect([holds, cluster.status().restarts, cluster.status().failures]).toEqual([1, 0, []]);
    expectExact(sink, 600);
  });

  test("MC3: a wait says what it waited for", async () => {
    const job = countJob(new CollectSink(), { count: 1_000_000, ratePerSecond: 100, intervalMs: 50 });
    await using cluster = await MiniCluster.start(job);
    await expect(cluster.waitUntil("a wonder", () => false, { timeoutMs: 50 })).rejects.toThrow(
      /waited 0\.05 s for a wonder; the job is/u,
    );
    const waiting = cluster.waitUntil("a wonder", () => false);
    await cluster.cancel();
    await expect(waiting).rejects.toThrow("the job ended (CANCELED) while a test waited for a wonder");
    expect(() => cluster.killTaskManager(7)).toThrow("there is no TaskManager 7");
  });

  test("what is wrong with the job is told by start", async () => {
    const job = countJob(new CollectSink(), { count: 1 });
    await expect(MiniCluster.start(job, { parallelism: 4, slotsPerTaskManager: 1 })).rejects.toThrow("needs 4 slots");
    await expect(MiniCluster.start(job, { configuration: { "paralelism.default": "2" } })).rejects.toMatchObject({
      code: "CONFIG_UNKNOWN_KEY",
    });
    const broken = (): never => {
      throw new Error("no graph today");
    };
    await expect(MiniCluster.start(broken)).rejects.toMatchObject({ code: "JOB_MAIN_FAILED" });
  });
});
