// The cache follows the API server through everything that watches do (RF1-RF5, OC1-OC5).

import { describe, expect, test } from "@jest/globals";
import { SeededRng } from "@sluice/kit";
import { kubeBench, simKubeClient, unreliable } from "@sluice/sim/kube";
import type { KubeBench } from "@sluice/sim/kube";
import { CONFIG_MAPS, keyOf, ObjectCache, PODS, Reflector, withoutManagedFields } from "../index.ts";
import type { CacheChange, ConfigMap, KubeObject, Pod, ReflectorOptions, Stored } from "../index.ts";
import { compareVersions, hasReached } from "./versions.ts";

interface Followed {
  readonly cache: ObjectCache<ConfigMap>;
  readonly reflector: Reflector<ConfigMap>;
  readonly changes: CacheChange<ConfigMap>[];
  readonly stop: () => Promise<void>;
}

function follow(bench: KubeBench, options: Partial<ReflectorOptions<ConfigMap>> = {}): Followed {
  const { world, server } = bench;
  const changes: CacheChange<ConfigMap>[] = [];
  const cache = new ObjectCache<ConfigMap>({
    indexes: { colour: (object) => [object.metadata.labels?.["colour"] ?? "none"] },
    onHandlerError: () => {},
  });
  cache.onChange((change) => void changes.push(change));
  const abort = new AbortController();
  let running: Promise<void> | undefined;
  let reflector: Reflector<ConfigMap> | undefined;
  world.node("controller").start(async (env) => {
    reflector = new Reflector({ api: simKubeClient(server, "controller"), type: CONFIG_MAPS, cache, env, ...options });
    running = reflector.run(abort.signal);
    await running;
  });
  return {
    cache,
    changes,
    get reflector() {
      return reflector!;
    },
    stop: async () => {
      abort.abort();
      await running;
    },
  };
}

function map(
  name: string,
  data: Readonly<Record<string, string>> = {},
  labels = {},
): Omit<ConfigMap, "kind" | "apiVersion"> {
  return { metadata: { namespace: "ns", name, labels }, data };
}

/** Everything that the server has, by uid: what a cache should equal. */
function texts(objects: readonly Stored<KubeObject>[]): readonly string[] {
  return objects.map((one) => `${keyOf(one)} ${one.metadata.uid} ${one.metadata.resourceVersion}`).sort();
}

/** OC5: indexes and maps name exactly the objects held. */
function expectWhole(cache: ObjectCache<ConfigMap>): void {
  const all = cache.all();
  for (const object of all) {
    expect(cache.get(keyOf(object))).toBe(object);
    expect(cache.byUid(object.metadata.uid)).toBe(object);
  }
  const byColour = ["none", "red", "blue", "green"].flatMap((colour) => cache.byIndex("colour", colour));
  expect(texts(byColour)).toEqual(texts(all));
}

test.each([
  ["1", "2", -1],
  ["10", "9", 1],
  ["7", "7", 0],
  ["99999999999999999998", "99999999999999999999", -1],
  ["a7", "8", undefined],
  ["", "8", undefined],
] as const)("resourceVersions %p and %p compare as %p; what cannot be compared counts as reached", (a, b, expected) => {
  const order = compareVersions(a, b);
  expect(order === undefined ? undefined : Math.sign(order)).toBe(expected);
  expect(hasReached(a, b)).toBe(expected === undefined || expected >= 0);
});

describe("following", () => {
  test("lists in pages, then hears of everything; a name that comes back is another object (OC1)", async () => {
    const bench = kubeBench(1);
    const { server, run, pass, until } = bench;
    for (let i = 0; i < 7; i += 1) server.seed(CONFIG_MAPS, map(`m${i}`));
    await run(async () => {
      const followed = follow(bench, { pageCount: 3 });
      await until(() => followed.cache.isSynced, "synced");
      expect(server.callCounts["list configmaps"]).toBe(3);
      expect(followed.changes.map((change) => change.type === "added" && change.isInitial)).toEqual(
        Array(7).fill(true),
      );
      followed.changes.length = 0;
      const before = followed.cache.get("ns/m3")!;
      server.state.remove(CONFIG_MAPS, { namespace: "ns", name: "m3" });
      server.seed(CONFIG_MAPS, map("m3", { again: "yes" }));
      await pass(1_000);
      expect(followed.changes.map((change) => change.type)).toEqual(["deleted", "added"]);
      expect(followed.cache.get("ns/m3")!.metadata.uid).not.toBe(before.metadata.uid);
      expect(followed.cache.byUid(before.metadata.uid)).toBeUndefined();
      expect(followed.cache.resourceVersion).toBe(String(server.state.version));
      await followed.stop();
    });
  });

  test("delete and create while nobody watches: two changes, not an update (OC1)", async () => {
    const bench = kubeBench(2);
    const { server, run, until } = bench;
    server.seed(CONFIG_MAPS, map("m"));
    await run(async () => {
      const followed = follow(bench);
      await until(() => followed.cache.isSynced, "synced");
      followed.changes.length = 0;
      server.setDown(true);
      server.state.remove(CONFIG_MAPS, { namespace: "ns", name: "m" });
      server.seed(CONFIG_MAPS, map("m"));
      server.state.compact();
      server.setDown(false);
      await until(() => followed.changes.length >= 2, "both changes");
      expect(followed.changes.map((change) => change.type)).toEqual(["deleted", "added"]);
      await followed.stop();
    });
  });

  test("RF1: an API server that is down for a day is asked ever less often, and found again within a minute", async () => {
    const bench = kubeBench(3);
    const { server, world, run, pass, until } = bench;
    await run(async () => {
      const followed = follow(bench);
      await until(() => followed.cache.isSynced, "synced");
      server.setDown(true);
      await pass(60_000);
      const before = server.callCounts["watch configmaps"]!;
      await pass(3_600_000);
      const perHour = server.callCounts["watch configmaps"]! - before;
      expect(perHour).toBeGreaterThan(40); // 60 s with jitter
      expect(perHour).toBeLessThan(100);
      expect(followed.reflector.stalenessMs).toBeGreaterThan(3_500_000);
      server.setDown(false);
      server.seed(CONFIG_MAPS, map("late"));
      const upMs = world.loop.nowMs;
      await until(() => followed.cache.get("ns/late") !== undefined, "the new object");
      expect(world.loop.nowMs - upMs).toBeLessThan(85_000);
      expect(followed.reflector.stalenessMs).toBeLessThan(5_000);
      await followed.stop();
    });
  });

  test("RF2: bookmarks carry a quiet watch over a compaction; without them a list not older than known follows", async () => {
    const bench = kubeBench(4);
    const { server, run, pass, until } = bench;
    server.seed(CONFIG_MAPS, map("m"));
    await run(async () => {
      const followed = follow(bench, { auditIntervalMs: Number.POSITIVE_INFINITY });
      await until(() => followed.cache.isSynced, "synced");
      for (let minute = 0; minute < 60; minute += 1) {
        for (let i = 0; i < 5; i += 1)
          server.seed(PODS, { metadata: { namespace: "ns", name: `p${minute}-${i}` }, spec: { containers: [] } });
        await pass(60_000);
        server.state.compact(server.state.version - 10);
      }
      expect(followed.reflector.counts).toMatchObject({ lists: 1, expired: 0, errors: 0 });
      expect(followed.reflector.counts.watches).toBeGreaterThan(5);
      const lists: (string | undefined)[] = [];
      server.onCall((call, phase) => {
        if (call.request.verb === "list" && phase === "before") lists.push(call.request.resourceVersion);
      });
      const known = followed.cache.resourceVersion;
      server.setDown(true);
      server.state.edit(CONFIG_MAPS, { namespace: "ns", name: "m" }, (object) => ({ ...object, data: { a: "1" } }));
      server.state.edit(CONFIG_MAPS, { namespace: "ns", name: "m" }, (object) => ({ ...object, data: { a: "2" } }));
      server.state.compact();
      server.setDown(false);
      await until(() => followed.cache.get("ns/m")?.data?.["a"] === "2", "the missed change");
      expect(lists).toEqual([known]);
      expect(followed.reflector.counts).toMatchObject({ lists: 2, expired: 1 });
      await followed.stop();
    });
  });

  test("RF3: a watch that goes silent is given up, and nothing is lost by it", async () => {
    const bench = kubeBench(5);
    const { server, run, until, pass } = bench;
    server.faults = { ...server.faults, watchSilent: 1 };
    await run(async () => {
      const followed = follow(bench, { auditIntervalMs: Number.POSITIVE_INFINITY });
      await until(() => followed.cache.isSynced, "synced");
      for (let i = 0; i < 20; i += 1) {
        server.seed(CONFIG_MAPS, map(`m${i}`));
        await pass(1_000);
      }
      await until(() => followed.cache.size === 20, "all objects", 3_600_000);
      expect(followed.reflector.counts.silent).toBeGreaterThan(0);
      expect(followed.reflector.counts.lists).toBe(1);
      await followed.stop();
    });
  });

  test("RF3: a quiet resource, of which servers send no bookmarks, is not taken for a dead connection", async () => {
    const bench = kubeBench(7);
    const { server, run, until, pass } = bench;
    server.sendsBookmarks = false;
    await run(async () => {
      const followed = follow(bench, { auditIntervalMs: Number.POSITIVE_INFINITY });
      await until(() => followed.cache.isSynced, "synced");
      let longestMs = 0;
      for (let minute = 0; minute < 60; minute += 1) {
        await pass(60_000);
        longestMs = Math.max(longestMs, followed.reflector.stalenessMs);
      }
      expect(longestMs).toBeLessThan(200_000);
      expect(followed.reflector.counts).toMatchObject({ lists: 1, errors: 0, missed: 0 });
      await followed.stop();
    });
  });

  test("RF4: what no watch told of is found by the audit, counted and repaired; lag and deletions are no misses", async () => {
    const bench = kubeBench(6);
    const { server, run, until, pass } = bench;
    await run(async () => {
      const followed = follow(bench, { auditIntervalMs: 60_000 });
      await until(() => followed.cache.isSynced, "synced");
      server.seed(CONFIG_MAPS, map("kept"));
      for (let i = 0; i < 200; i += 1) {
        const name = `m${i % 5}`;
        if (server.state.find(CONFIG_MAPS, { namespace: "ns", name }) === undefined)
          server.seed(CONFIG_MAPS, map(name));
        else server.state.remove(CONFIG_MAPS, { namespace: "ns", name });
        await pass(2_000);
      }
      expect(followed.reflector.counts.audits).toBeGreaterThan(2);
      expect(followed.reflector.counts.missed).toBe(0);
      // A bug of a server or of ours: an object vanishes from the cache, another one stays in it for ever.
      followed.cache.learnGone(followed.cache.get("ns/kept")!);
      const ghost = { ...map("ghost"), apiVersion: "v1", kind: "ConfigMap" } as const;
      const metadata = { ...ghost.metadata, name: "ghost", uid: "ghost", resourceVersion: "1" };
      followed.cache.learn({ ...ghost, metadata });
      await until(() => followed.reflector.counts.missed === 2, "both misses");
      await until(
        () => followed.cache.get("ns/kept") !== undefined && followed.cache.byUid("ghost") === undefined,
        "repaired",
      );
      await followed.stop();
    });
  });

  test("OC3: a handler that throws disturbs nobody; OC2: an older state is ignored", () => {
    const errors: unknown[] = [];
    const seen: string[] = [];
    const cache = new ObjectCache<ConfigMap>({ onHandlerError: (thrown) => void errors.push(thrown) });
    cache.onChange(() => {
      throw new Error("a bad handler");
    });
    cache.onChange((change) => void seen.push(`${change.type} ${change.object.metadata.resourceVersion}`));
    const at = (resourceVersion: string, uid = "u"): Stored<ConfigMap> => ({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { namespace: "ns", name: "m", uid, resourceVersion },
    });
    cache.upsert(at("5"));
    cache.upsert(at("4"));
    cache.upsert(at("5"));
    cache.upsert(at("6"));
    cache.upsert(at("9", "v")); // the same name, another object
    cache.upsert(at("7")); // and a late word about the first one
    cache.remove(at("8"));
    expect(seen).toEqual(["added 5", "updated 6", "deleted 6", "added 9"]);
    expect(errors).toHaveLength(4);
    expect(cache.size).toBe(1);
  });

  test("managedFields are not kept", () => {
    const metadata = { name: "m", uid: "u", resourceVersion: "1", managedFields: [{}] };
    const pod: Stored<Pod> = { apiVersion: "v1", kind: "Pod", metadata, spec: { containers: [] } };
    expect(withoutManagedFields(pod).metadata).toEqual({ name: "m", uid: "u", resourceVersion: "1" });
    expect(pod.metadata).toHaveProperty("managedFields");
  });
});

describe("property", () => {
  test.each(Array.from({ length: 8 }, (_, i) => i + 1))(
    "seed %d: under faults of every kind changes are seen in order, and after them the cache equals the server",
    async (seed) => {
      const bench = kubeBench(seed, { logCountMax: 40 });
      const { server, run, pass, until } = bench;
      const rng = new SeededRng(seed);
      await run(async () => {
        server.faults = unreliable(0.3);
        const followed = follow(bench, {
          pageCount: 3,
          auditIntervalMs: seed % 2 === 0 ? 20_000 : Number.POSITIVE_INFINITY,
        });
        for (let i = 0; i < 300; i += 1) {
          const at = { namespace: "ns", name: `m${rng.below(12)}` };
          const found = server.state.find(CONFIG_MAPS, at);
          const colour = ["red", "blue", "green"][rng.below(3)]!;
          if (found === undefined) server.seed(CONFIG_MAPS, map(at.name, {}, { colour }));
          else if (rng.chance(0.3)) server.state.remove(CONFIG_MAPS, at);
          else
            server.state.edit(CONFIG_MAPS, at, (it) => ({
              ...it,
              data: { n: String(i) },
              metadata: { ...it.metadata, labels: { colour } },
            }));
          if (rng.chance(0.02)) server.state.compact();
          await pass(rng.below(4_000));
        }
        server.heal();
        server.breakWatches(); // silent ones of before would stay silent for minutes
        await until(
          () => texts(followed.cache.all()).join() === texts(server.state.all(CONFIG_MAPS)).join(),
          "the cache equals the server",
          900_000,
        );
        expectWhole(followed.cache);
        expect(followed.reflector.counts.missed).toBe(0);
        // Per object: added, updates with rising versions, deleted; never twice.
        const versions = new Map<string, number>();
        for (const { type, object } of followed.changes) {
          const { uid, resourceVersion } = object.metadata;
          expect(versions.has(uid)).toBe(type !== "added");
          if (type !== "deleted") expect(Number(resourceVersion)).toBeGreaterThan(versions.get(uid) ?? 0);
          if (type === "deleted") versions.delete(uid);
          else versions.set(uid, Number(resourceVersion));
        }
        expect(versions.size).toBe(followed.cache.size);
        const struck = Object.keys(server.struck);
        expect(struck.length).toBeGreaterThan(3); // the faults did strike
        await followed.stop();
      });
    },
  );
});
