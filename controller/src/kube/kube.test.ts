// Events, the write gate, metrics and health (ER1-ER4, WG1-WG4, ME1-ME2, HE1).

import { describe, expect, test } from "@jest/globals";
import { SeededRng } from "@sluice/kit";
import type { Clock, Log, Timers } from "@sluice/kit/env";
import { kubeBench, simKubeClient, unreliable } from "@sluice/sim/kube";
import type { KubeBench } from "@sluice/sim/kube";
import { Registry } from "prom-client";
import {
  cacheIsSynced,
  CONFIG_MAPS,
  Controller,
  EventRecorder,
  EVENTS,
  HealthChecks,
  KubeClient,
  KubeMetrics,
  ObjectCache,
  PODS,
  queueMoves,
  Reflector,
  watchIsFresh,
  WriteGate,
} from "./index.ts";
import type { ConfigMap, KubeObject, Pod, ReconcileResult, Stored } from "./index.ts";

const LOG: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, with: () => LOG };

interface TestEnv {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly rng: SeededRng;
  readonly log: Log;
}

function envOf({ world }: KubeBench): TestEnv {
  const { loop, owner } = world;
  return {
    clock: { nowMs: () => loop.nowMs, wallMs: () => 1_700_000_000_000 + loop.nowMs },
    timers: { after: (delayMs, label, run) => loop.at(delayMs, owner, label, run) },
    rng: new SeededRng(7),
    log: LOG,
  };
}

function map(name: string, data: Readonly<Record<string, string>> = {}): ConfigMap {
  return { apiVersion: "v1", kind: "ConfigMap", metadata: { namespace: "ns", name }, data };
}

describe("events", () => {
  const setUp = (bench: KubeBench): { readonly recorder: EventRecorder; readonly pod: Stored<Pod> } => ({
    recorder: new EventRecorder({
      client: new KubeClient(simKubeClient(bench.server, "controller"), { fieldManager: "c" }),
      env: envOf(bench),
      reportingController: "sluice.dev/controller",
      reportingInstance: "controller-0",
    }),
    pod: bench.server.seed(PODS, { metadata: { namespace: "ns", name: "p" }, spec: { containers: [] } }),
  });
  const upgrade = { type: "Normal", reason: "Upgraded", action: "Upgrade", note: "to generation 2" } as const;

  test("ER2: the same again is a series of one event; something else, or the same much later, is another", async () => {
    const bench = kubeBench(1);
    await bench.run(async () => {
      const { recorder, pod } = setUp(bench);
      for (let i = 0; i < 50; i += 1) {
        recorder.record(pod, { ...upgrade, note: `number ${i}` });
        await bench.pass(1_000);
      }
      recorder.record(pod, { ...upgrade, reason: "Failed", type: "Warning", note: "ß日😀".repeat(500) });
      await recorder.flush();
      const events = bench.server.state.all(EVENTS);
      expect(events.map((event) => [event.reason, event.series?.count])).toEqual(
        expect.arrayContaining([
          ["Upgraded", 50],
          ["Failed", undefined],
        ]),
      );
      expect(events).toHaveLength(2);
      expect(bench.server.callCounts["patch events"]).toBeLessThanOrEqual(4); // every 30 s, and at the end
      const [failed] = events.filter((event) => event.reason === "Failed");
      expect(failed!.note).toMatch(/^(ß日😀)+(ß日?)?…$/);
      expect(Buffer.byteLength(failed!.note!)).toBeLessThanOrEqual(1_024);
      expect(failed!.regarding).toMatchObject({ kind: "Pod", namespace: "ns", name: "p", uid: pod.metadata.uid });
      await bench.pass(400_000);
      recorder.record(pod, upgrade);
      await recorder.flush();
      expect(bench.server.state.all(EVENTS)).toHaveLength(3);
    });
  });

  test("ER1, ER3: what the server refuses is dropped, a server that is down is waited for, a flood ends at its limit", async () => {
    const bench = kubeBench(2);
    await bench.run(async () => {
      const { recorder, pod } = setUp(bench);
      bench.server.failNext("lostAfter", ({ request }) => request.type.plural === "events");
      recorder.record(pod, upgrade); // done, though the answer was lost: not an event too many
      await recorder.flush();
      expect(bench.server.state.all(EVENTS)).toHaveLength(1);
      bench.server.setDown(true);
      recorder.record(pod, { ...upgrade, reason: "Late" });
      await bench.pass(5_000);
      bench.server.setDown(false);
      await recorder.flush();
      expect(bench.server.state.all(EVENTS)).toHaveLength(2);
      for (let i = 0; i < 100; i += 1) recorder.record(pod, { ...upgrade, reason: `Reason${i}` });
      await recorder.flush();
      expect(bench.server.state.all(EVENTS)).toHaveLength(25); // the burst of one object
      expect(recorder.droppedCount).toBe(77);
      bench.server.state
        .all(EVENTS)
        .forEach((event) => bench.server.state.remove(EVENTS, { namespace: "ns", name: event.metadata.name }));
      recorder.record(pod, upgrade); // its event has expired meanwhile: it is made again
      await recorder.flush();
      await bench.pass(1_000);
      await recorder.flush();
      expect(bench.server.state.all(EVENTS).map((event) => event.series?.count)).toEqual([2]);
    });
  });
});

describe("write gate", () => {
  interface Rig {
    readonly gate: WriteGate;
    readonly cache: ObjectCache<ConfigMap>;
    readonly client: KubeClient;
  }
  const setUp = async (bench: KubeBench): Promise<Rig> => {
    const api = simKubeClient(bench.server, "controller");
    const cache = new ObjectCache<ConfigMap>({ onHandlerError: () => {} });
    const reflector = new Reflector({ api, type: CONFIG_MAPS, cache, env: envOf(bench) });
    void reflector.run(new AbortController().signal);
    await cache.whenSynced();
    const gate = new WriteGate({ api, clock: envOf(bench).clock });
    gate.register(CONFIG_MAPS, cache);
    return { gate, cache, client: new KubeClient(gate.api("owner"), { fieldManager: "c" }) };
  };

  test("WG1: not ready until the cache shows creation, change and deletion; other owners are not held up", async () => {
    const bench = kubeBench(1);
    bench.server.faults = { ...bench.server.faults, watchLagMs: { min: 3_000, max: 3_000 } };
    await bench.run(async () => {
      const { gate, cache, client } = await setUp(bench);
      const isReady = async (owner = "owner"): Promise<boolean> => (await gate.settle(owner)).ready;
      expect(await isReady()).toBe(true);
      const made = await client.create(CONFIG_MAPS, map("m"));
      expect([await isReady(), await isReady("another")]).toEqual([false, true]);
      expect(cache.get("ns/m")).toBeUndefined();
      await bench.pass(3_500);
      expect([await isReady(), cache.get("ns/m")?.metadata.uid]).toEqual([true, made.metadata.uid]);
      await client.mergePatch(CONFIG_MAPS, { namespace: "ns", name: "m" }, { data: { a: "1" } });
      expect(await isReady()).toBe(false);
      await bench.pass(3_500);
      expect([await isReady(), cache.get("ns/m")?.data]).toEqual([true, { a: "1" }]);
      await client.delete(CONFIG_MAPS, { namespace: "ns", name: "m" }, { uid: made.metadata.uid });
      expect(await isReady()).toBe(false);
      await bench.pass(3_500);
      expect([await isReady(), cache.size, gate.waitingCount, gate.liveReadCount]).toEqual([true, 0, 0, 0]);
    });
  });

  test("WG2: an unknown outcome, a refusal for staleness, and a cache that does not follow are settled by reading", async () => {
    const bench = kubeBench(2);
    await bench.run(async () => {
      const { gate, cache, client } = await setUp(bench);
      bench.server.faults = { ...bench.server.faults, watchLagMs: { min: 60_000, max: 60_000 } };
      bench.server.failNext("lostAfter");
      await expect(client.create(CONFIG_MAPS, map("m", { a: "1" }))).rejects.toThrow("reset");
      expect(await gate.settle("owner")).toEqual({ ready: true });
      expect(cache.get("ns/m")?.data).toEqual({ a: "1" });
      await expect(client.create(CONFIG_MAPS, map("m"))).rejects.toThrow("already exists");
      await client.mergePatch(CONFIG_MAPS, { namespace: "ns", name: "m" }, { data: { a: "2" } });
      expect((await gate.settle("owner")).ready).toBe(false);
      await bench.pass(10_000);
      expect((await gate.settle("owner")).ready).toBe(true);
      expect(cache.get("ns/m")?.data).toEqual({ a: "2" });
      bench.server.state.remove(CONFIG_MAPS, { namespace: "ns", name: "m" });
      await expect(client.delete(CONFIG_MAPS, { namespace: "ns", name: "m" })).rejects.toThrow("not found");
      expect((await gate.settle("owner")).ready).toBe(true);
      expect(cache.get("ns/m")).toBeUndefined();
      expect(gate.liveReadCount).toBe(3);
    });
  });

  test.each([1, 2, 3, 4, 5, 6])(
    "seed %d: a counter kept by a reconciler under faults and stale watches never counts twice nor forgets",
    async (seed) => {
      // Each reconcile makes the next numbered object unless one of its number exists in the cache. Without the gate a stale
      // cache makes it try a number again: the API server would refuse it, and the test counts that.
      const bench = kubeBench(seed);
      let staleCount = 0;
      await bench.run(async () => {
        const { gate, cache, client } = await setUp(bench);
        bench.server.faults = { ...unreliable(0.3, 8_000), conflict: 0 };
        let unsureCount = 0;
        const controller = new Controller({
          name: "counter",
          gate,
          env: envOf(bench),
          reconcile: async (): Promise<ReconcileResult> => {
            const next = cache.size;
            if (next === 30) return {};
            try {
              await client.create(CONFIG_MAPS, map(`n${next}`));
            } catch (thrown) {
              if ((thrown as { reason?: string }).reason === "AlreadyExists") staleCount += 1;
              else unsureCount += 1;
              throw thrown;
            }
            return { requeueAfterMs: 1 };
          },
        });
        const abort = new AbortController();
        const running = controller.run(abort.signal);
        controller.queue.add("owner");
        await bench.until(() => cache.size === 30, "all thirty", 7_200_000);
        abort.abort();
        await running;
        expect(unsureCount).toBeGreaterThan(0);
        expect(bench.server.state.all(CONFIG_MAPS)).toHaveLength(30);
      });
      expect(staleCount).toBe(0);
    },
  );
});

describe("metrics and health", () => {
  test("the names of controller-runtime and client-go, without object names in labels", async () => {
    const bench = kubeBench(1);
    const registry = new Registry();
    const env = envOf(bench);
    const metrics = new KubeMetrics({ registry, clock: env.clock });
    const api = metrics.metered(simKubeClient(bench.server, "controller"));
    const cache = new ObjectCache<ConfigMap>({ onHandlerError: () => {} });
    const reflector = new Reflector({ api, type: CONFIG_MAPS, cache, env });
    metrics.showWatch(reflector, cache);
    metrics.showElection("controller", { isLeader: true });
    metrics.showGate("jobs", new WriteGate({ api, clock: env.clock }));
    let isBad = true;
    const controller = new Controller({
      name: "jobs",
      env,
      observer: metrics.observerFor("jobs"),
      reconcile: async () => {
        if (isBad) throw new TypeError("a bug");
        return await Promise.resolve({});
      },
    });
    metrics.showController(controller);
    const checks = new HealthChecks();
    checks.set("configmaps", cacheIsSynced("configmaps", cache));
    checks.set(
      "watch",
      watchIsFresh(reflector as unknown as Reflector<KubeObject>, () => true),
    );
    checks.set("queue", queueMoves(controller));
    expect(checks.report()).toEqual({
      ok: false,
      text: "[-]configmaps failed: configmaps not listed yet\n[+]watch ok\n[+]queue ok\nfailed\n",
    });
    const abort = new AbortController();
    await bench.run(async () => {
      bench.server.failNext("errorBefore");
      const running = [reflector.run(abort.signal), controller.run(abort.signal)];
      controller.queue.add("ns/secret-name");
      await bench.pass(1);
      isBad = false;
      await bench.until(() => cache.isSynced, "synced");
      await bench.pass(5_000);
      expect(checks.report().ok).toBe(true);
      abort.abort();
      await Promise.all(running);
    });
    const text = await registry.metrics();
    for (const line of [
      'controller_runtime_reconcile_total{controller="jobs",result="success"} 1',
      'controller_runtime_reconcile_total{controller="jobs",result="error"} 1',
      'controller_runtime_reconcile_errors_total{controller="jobs"} 1',
      'controller_runtime_reconcile_panics_total{controller="jobs"} 1',
      'controller_runtime_reconcile_time_seconds_count{controller="jobs"} 2',
      'controller_runtime_active_workers{controller="jobs"} 0',
      'controller_runtime_max_concurrent_reconciles{controller="jobs"} 1',
      'workqueue_depth{name="jobs",controller="jobs"} 0',
      'workqueue_adds_total{name="jobs",controller="jobs"} 2',
      'workqueue_retries_total{name="jobs",controller="jobs"} 1',
      'workqueue_queue_duration_seconds_count{name="jobs",controller="jobs"} 2',
      'workqueue_work_duration_seconds_count{name="jobs",controller="jobs"} 2',
      'workqueue_unfinished_work_seconds{name="jobs",controller="jobs"} 0',
      'workqueue_longest_running_processor_seconds{name="jobs",controller="jobs"} 0',
      'rest_client_requests_total{code="200",method="GET",resource="configmaps"} 2',
      'leader_election_master_status{name="controller"} 1',
      'sluice_watch_cache_objects{resource="configmaps"} 0',
    ]) {
      expect(text.split("\n")).toContain(line);
    }
    expect(text).toMatch(/rest_client_requests_total\{code="50[03]",method="GET",resource="configmaps"\} 1/);
    expect(text).not.toContain("secret-name");
  });

  test("HE1: a watch that hears nothing is unhealthy only while the API server answers; a reconcile that hangs is", async () => {
    const bench = kubeBench(2);
    const env = envOf(bench);
    const cache = new ObjectCache<ConfigMap>({ onHandlerError: () => {} });
    const reflector = new Reflector({ api: simKubeClient(bench.server, "c"), type: CONFIG_MAPS, cache, env });
    let answers = false;
    const fresh = watchIsFresh(reflector as unknown as Reflector<KubeObject>, () => answers);
    const controller = new Controller({ name: "jobs", env, reconcile: () => new Promise(() => {}) });
    const moves = queueMoves(controller);
    await bench.run(async () => {
      void controller.run(new AbortController().signal);
      controller.queue.add("a");
      await bench.pass(590_000);
      expect([fresh(), moves()]).toEqual([undefined, undefined]);
      await bench.pass(20_000);
      answers = true;
      expect(fresh()).toContain("no word about configmaps for 610 s");
      expect(moves()).toContain("a reconcile has been running for 610 s");
    });
  });
});
