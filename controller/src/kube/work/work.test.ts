// The work queue and the loop around it (WQ1-WQ5, RL1-RL2, CO1-CO4).

import { describe, expect, test } from "@jest/globals";
import { Failure, SeededRng, sleep } from "@sluice/kit";
import type { Clock, Timers } from "@sluice/kit/env";
import { kubeBench } from "@sluice/sim/kube";
import type { KubeBench } from "@sluice/sim/kube";
import { Controller, ItemBackoff, LOW_PRIORITY, TokenBucket, WorkQueue } from "../index.ts";
import type { ControllerOptions, Reconcile } from "../index.ts";

type Time = { readonly clock: Clock; readonly timers: Timers };

/** Clock and timers of virtual time, without skew. */
function timeOf({ world }: KubeBench): Time {
  const { loop, owner } = world;
  return {
    clock: { nowMs: () => loop.nowMs, wallMs: () => loop.nowMs },
    timers: { after: (delayMs, label, run) => loop.at(delayMs, owner, label, run) },
  };
}

const SILENT = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, with: () => SILENT };

describe("rate limits", () => {
  test("RL1: an item waits 5 ms, 10 ms, ... at most 1000 s, from the start after a success", () => {
    const backoff = new ItemBackoff({ baseMs: 5, maxMs: 1_000_000 });
    const delays = Array.from({ length: 30 }, () => backoff.nextDelayMs("a"));
    expect(delays.slice(0, 4)).toEqual([5, 10, 20, 40]);
    expect(delays.slice(-2)).toEqual([1_000_000, 1_000_000]);
    expect(backoff.nextDelayMs("b")).toBe(5);
    backoff.forget("a");
    expect(backoff.nextDelayMs("a")).toBe(5);
  });

  test("RL2: a hundred at once, then ten a second", () => {
    let nowMs = 0;
    const bucket = new TokenBucket({ perSecond: 10, burst: 100, clock: { nowMs: () => nowMs, wallMs: () => 0 } });
    const delays = Array.from({ length: 130 }, () => bucket.reserveMs());
    expect(delays.slice(0, 100).every((delay) => delay === 0)).toBe(true);
    expect(delays.slice(100, 103)).toEqual([100, 200, 300]);
    expect(bucket.tryTake()).toBe(false);
    nowMs = 3_100; // 30 on credit are paid back, one more came
    expect(bucket.tryTake()).toBe(true);
    expect(bucket.tryTake()).toBe(false);
  });
});

describe("queue", () => {
  test("WQ2, WQ3: a key waits once, with its highest priority; first come first served within one", async () => {
    const bench = kubeBench(1);
    const queue = new WorkQueue(timeOf(bench));
    for (const key of ["a", "b", "c"]) queue.add(key, LOW_PRIORITY);
    for (const key of ["d", "e", "d", "b"]) queue.add(key);
    expect(queue.depth).toBe(5);
    const order: (string | undefined)[] = [];
    for (let i = 0; i < 5; i += 1) order.push(await queue.take());
    expect(order).toEqual(["b", "d", "e", "a", "c"]);
  });

  test("WQ1: what is added while it is worked on is handed out once more after done", async () => {
    const queue = new WorkQueue(timeOf(kubeBench(1)));
    queue.add("a");
    expect(await queue.take()).toBe("a");
    queue.add("a");
    queue.add("a");
    expect(queue.depth).toBe(0);
    queue.done("a");
    expect(queue.depth).toBe(1);
    expect(await queue.take()).toBe("a");
    queue.done("a");
    expect(queue.depth).toBe(0);
    expect(() => queue.done("a")).toThrow("WQ1");
  });

  test("WQ4: the earliest delay counts; a shutdown frees the takers and takes nothing any more", async () => {
    const bench = kubeBench(1);
    const queue = new WorkQueue(timeOf(bench));
    await bench.run(async () => {
      queue.addAfter("a", 5_000);
      queue.addAfter("a", 1_000);
      queue.addAfter("a", 9_000);
      await bench.pass(999);
      expect(queue.depth).toBe(0);
      await bench.pass(2);
      expect(queue.depth).toBe(1);
      await bench.pass(20_000);
      expect(queue.depth).toBe(1);
      expect(await queue.take()).toBe("a");
      const taker = queue.take();
      queue.addAfter("b", 1_000);
      queue.shutDown();
      expect(await taker).toBeUndefined();
      await bench.pass(2_000);
      expect(queue.depth).toBe(0);
      queue.done("a");
    });
  });
});

interface Work {
  readonly controller: Controller;
  readonly stop: () => Promise<void>;
}

function start(bench: KubeBench, reconcile: Reconcile, options: Partial<ControllerOptions> = {}): Work {
  const env = { ...timeOf(bench), log: SILENT };
  const controller = new Controller({ name: "test", reconcile, env, ...options });
  const abort = new AbortController();
  const running = controller.run(abort.signal);
  return {
    controller,
    stop: async () => {
      abort.abort();
      await running;
    },
  };
}

describe("controller", () => {
  test.each([1, 2, 3, 4, 5, 6])(
    "seed %d: no key runs twice at once, and after the last change of a key it is reconciled (CO1, CO2)",
    async (seed) => {
      const bench = kubeBench(seed);
      const rng = new SeededRng(seed);
      const { timers } = timeOf(bench);
      await bench.run(async () => {
        const wanted = new Map<string, number>();
        const reached = new Map<string, number>();
        const running = new Set<string>();
        let mostAtOnce = 0;
        let throwCount = 0;
        const work = start(
          bench,
          async (key) => {
            expect(running.has(key)).toBe(false);
            running.add(key);
            mostAtOnce = Math.max(mostAtOnce, running.size);
            const seen = wanted.get(key)!;
            try {
              await sleep(timers, rng.below(300));
              throwCount += 1;
              if (rng.chance(0.2)) throw new TypeError("a bug");
              if (rng.chance(0.2)) throw new Failure("PEER_LOST", { retry: "backoff", message: "gone" });
              throwCount -= 1;
              reached.set(key, seen);
              return rng.chance(0.1) ? { requeueAfterMs: rng.below(1_000) } : {};
            } finally {
              running.delete(key);
            }
          },
          { concurrentCountMax: 3 },
        );
        for (let i = 0; i < 400; i += 1) {
          const key = `k${rng.below(10)}`;
          wanted.set(key, i);
          if (rng.chance(0.2)) work.controller.queue.addAfter(key, rng.below(2_000));
          else work.controller.queue.add(key, rng.chance(0.3) ? LOW_PRIORITY : 0);
          await bench.pass(rng.below(100));
        }
        await bench.until(() => [...wanted].every(([key, i]) => reached.get(key) === i), "every key is up to date");
        expect(mostAtOnce).toBe(3);
        expect(throwCount).toBeGreaterThan(20);
        await work.stop();
        expect(running.size).toBe(0);
      });
    },
  );

  test("CO2: a key that always throws is tried ever less often and delays nobody else", async () => {
    const bench = kubeBench(1);
    const outcomes: string[] = [];
    let panics = 0;
    const nothing = (): void => {};
    await bench.run(async () => {
      const tries = { bad: 0, good: 0 };
      const work = start(
        bench,
        async (key) => {
          tries[key as "bad" | "good"] += 1;
          if (key === "bad") throw new Error("always");
          return await Promise.resolve({});
        },
        {
          observer: {
            queue: { added: nothing, retried: nothing, started: nothing, finished: nothing },
            reconciled: (outcome) => void outcomes.push(outcome),
            panicked: () => (panics += 1),
            timedOut: nothing,
          },
        },
      );
      work.controller.queue.add("bad");
      for (let i = 0; i < 60; i += 1) {
        work.controller.queue.add("good");
        await bench.pass(1_000);
      }
      expect(tries.good).toBe(60);
      expect(tries.bad).toBeGreaterThan(10); // 5 ms, 10 ms, ... 20 s, 40 s
      expect(tries.bad).toBeLessThan(16);
      expect(panics).toBe(tries.bad);
      expect(outcomes.filter((outcome) => outcome === "success")).toHaveLength(60);
      await work.stop();
    });
  });

  test("CO3, CO1: a reconcile that hangs is aborted, then left; its key stays locked, others go on", async () => {
    const bench = kubeBench(1);
    await bench.run(async () => {
      let wasAborted = false;
      const release = Promise.withResolvers<void>();
      const runs: string[] = [];
      const work = start(
        bench,
        async (key, signal) => {
          runs.push(key);
          signal.addEventListener("abort", () => (wasAborted = true));
          if (key === "stuck" && runs.length === 1) await release.promise;
          return {};
        },
        { timeoutMs: 1_000 },
      );
      work.controller.queue.add("stuck");
      await bench.pass(900);
      work.controller.queue.add("other");
      work.controller.queue.add("stuck");
      await bench.pass(50);
      expect(wasAborted).toBe(false);
      await bench.pass(10_000);
      expect(wasAborted).toBe(true);
      expect(runs).toEqual(["stuck", "other"]);
      expect(work.controller.activeCount).toBe(1);
      release.resolve();
      await bench.pass(100);
      expect(runs).toEqual(["stuck", "other", "stuck"]);
      await work.stop();
    });
  });

  test("CO4: when told to stop it takes nothing more and ends with its last reconcile", async () => {
    const bench = kubeBench(1);
    await bench.run(async () => {
      const { timers } = timeOf(bench);
      let ended = 0;
      const work = start(bench, async () => {
        await sleep(timers, 500);
        ended += 1;
        return {};
      });
      for (const key of ["a", "b", "c"]) work.controller.queue.add(key);
      await bench.pass(100);
      expect(work.controller.isRunning).toBe(true);
      await work.stop();
      expect(ended).toBe(1);
      expect(work.controller.isRunning).toBe(false);
    });
  });
});
