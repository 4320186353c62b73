// The simulated API server keeps the rules of a real one that the controller builds on (KS1-KS6, FM1-FM4, GC1-GC3, KV1-KV4).

import { describe, expect, test } from "@jest/globals";
import {
  CONFIG_MAPS,
  controllerRef,
  isAlreadyExists,
  isConflict,
  isExpired,
  isNotFound,
  isUnknownOutcome,
  KubeClient,
  NAMESPACES,
  PODS,
  resourceType,
} from "@sluice/controller/internal/kube";
import type { ConfigMap, KubeObject, Pod, WatchEvent } from "@sluice/controller/internal/kube";
import { kubeBench, simKubeClient } from "./index.ts";
import type { KubeBench } from "./index.ts";

interface Thing extends KubeObject {
  readonly spec?: { readonly size?: number; readonly colour?: string };
  readonly status?: { readonly seen?: number };
}
const THINGS = resourceType<Thing>({
  group: "example.dev",
  version: "v1",
  plural: "things",
  kind: "Thing",
  namespaced: true,
});
const AT = { namespace: "ns", name: "one" };

function thing(spec: Thing["spec"], metadata: Thing["metadata"] = AT): Thing {
  return { apiVersion: "example.dev/v1", kind: "Thing", metadata, ...(spec && { spec }) };
}

interface Bench extends KubeBench {
  readonly client: KubeClient;
  readonly wait: (ms: number) => Promise<void>;
}

function bench(seed = 1): Bench {
  const made = kubeBench(seed);
  const client = new KubeClient(simKubeClient(made.server, "test"), { fieldManager: "test" });
  return { ...made, client, wait: made.pass };
}

/** The error of a call that must fail. */
async function errorOf(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => {
      throw new Error("the call should have failed");
    },
    (thrown: unknown) => thrown,
  );
}

describe("objects", () => {
  test("KS1, KS3, KS4: versions rise; generation counts changes of the spec; status and spec never write each other", async () => {
    const { client, run } = bench();
    await run(async () => {
      await client.tryCreate(THINGS, thing({ size: 1 }));
      expect(await client.find(THINGS, AT)).toBeUndefined();
      const made = await client.create(THINGS, { ...thing({ size: 1 }), status: { seen: 9 } });
      expect(isAlreadyExists(await errorOf(client.tryCreate(THINGS, thing({ size: 1 }))))).toBe(true);
      expect(made.status).toBeUndefined();
      expect(made.metadata.generation).toBe(1);
      const withStatus = await client.updateStatus(THINGS, { ...made, spec: { size: 7 }, status: { seen: 1 } });
      expect(withStatus).toMatchObject({ spec: { size: 1 }, status: { seen: 1 }, metadata: { generation: 1 } });
      const grown = await client.update(THINGS, { ...withStatus, spec: { size: 2 }, status: { seen: 5 } });
      expect(grown).toMatchObject({ spec: { size: 2 }, status: { seen: 1 }, metadata: { generation: 2 } });
      const labelled = await client.mergePatch(THINGS, AT, { metadata: { labels: { a: "b" } } });
      expect(labelled.metadata).toMatchObject({ generation: 2, labels: { a: "b" } });
      const versions = [made, withStatus, grown, labelled].map((one) => Number(one.metadata.resourceVersion));
      expect(versions).toEqual([...versions].sort((a, b) => a - b));
      expect(new Set(versions).size).toBe(4);
    });
  });

  test("KS2, KS6: an old version, another uid, a taken name are refused; a write of nothing takes no version", async () => {
    const { client, server, run } = bench();
    await run(async () => {
      const made = await client.create(THINGS, thing({ size: 1 }));
      await client.update(THINGS, { ...made, spec: { size: 2 } });
      const before = server.state.version;
      expect(isConflict(await errorOf(client.update(THINGS, { ...made, spec: { size: 3 } })))).toBe(true);
      expect(isConflict(await errorOf(client.delete(THINGS, AT, { uid: "another" })))).toBe(true);
      expect(isAlreadyExists(await errorOf(client.create(THINGS, thing({ size: 4 }))))).toBe(true);
      await client.mergePatch(THINGS, AT, { spec: { size: 2 } });
      expect(server.state.version).toBe(before);
      expect(server.state.find(THINGS, AT)?.spec).toEqual({ size: 2 });
      await client.delete(THINGS, AT, { uid: made.metadata.uid });
      expect(isNotFound(await errorOf(client.get(THINGS, AT)))).toBe(true);
    });
  });

  test("KS5: finalizers and pods on nodes hold a deletion up; an unscheduled pod goes at once", async () => {
    const { client, server, run } = bench();
    await run(async () => {
      await client.create(THINGS, thing({}, { ...AT, finalizers: ["a/b"] }));
      await client.delete(THINGS, AT);
      expect(server.state.find(THINGS, AT)?.metadata).toMatchObject({
        generation: 2,
        deletionTimestamp: expect.any(String),
      });
      await client.mergePatch(THINGS, AT, { metadata: { finalizers: null } });
      expect(server.state.find(THINGS, AT)).toBeUndefined();

      const pod: Pod = { apiVersion: "v1", kind: "Pod", metadata: AT, spec: { containers: [] } };
      await client.create(PODS, pod);
      await client.delete(PODS, AT);
      expect(server.state.find(PODS, AT)).toBeUndefined();
      await client.create(PODS, { ...pod, spec: { ...pod.spec, nodeName: "n1" } });
      await client.delete(PODS, AT);
      await client.mergePatch(PODS, AT, { metadata: { labels: { x: "y" } } });
      expect(server.state.find(PODS, AT)?.metadata.deletionGracePeriodSeconds).toBe(30);
      await client.delete(PODS, AT, { gracePeriodSeconds: 0 }); // the kubelet's last word
      expect(server.state.find(PODS, AT)).toBeUndefined();
    });
  });

  test("GC1-GC3: dependents follow their owner, first when in the foreground; a namespace takes its objects along", async () => {
    const { client, server, run, wait } = bench();
    await run(async () => {
      const map = (name: string, owner?: Awaited<ReturnType<typeof client.get<Thing>>>): ConfigMap => ({
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { namespace: "ns", name, ...(owner && { ownerReferences: [controllerRef(owner)] }) },
      });
      const owner = await client.create(THINGS, thing({}));
      await client.create(CONFIG_MAPS, map("owned", owner));
      await client.create(CONFIG_MAPS, map("free"));
      await client.delete(THINGS, AT, { propagationPolicy: "Foreground" });
      expect(server.state.find(THINGS, AT)?.metadata.finalizers).toEqual(["foregroundDeletion"]);
      await wait(1_000);
      expect(server.state.find(THINGS, AT)).toBeUndefined();
      expect(server.state.all(CONFIG_MAPS).map((one) => one.metadata.name)).toEqual(["free"]);
      await client.create(CONFIG_MAPS, map("late", owner)); // its owner is gone already
      await wait(1_000);
      expect(server.state.find(CONFIG_MAPS, { namespace: "ns", name: "late" })).toBeUndefined();

      const metadata = { name: "ns", finalizers: ["kubernetes"] };
      await client.create(NAMESPACES, { apiVersion: "v1", kind: "Namespace", metadata });
      await client.delete(NAMESPACES, { name: "ns" });
      expect(await errorOf(client.create(CONFIG_MAPS, map("new")))).toMatchObject({ status: 403 });
      await wait(1_000);
      expect(server.state.all(CONFIG_MAPS)).toEqual([]);
      expect(server.state.find(NAMESPACES, { name: "ns" })).toBeUndefined();
    });
  });

  test("FM1-FM4: an apply owns what it names, drops what it no longer names, and yields to nobody when forced", async () => {
    const { client, server, run } = bench();
    const other = new KubeClient(simKubeClient(server, "other"), { fieldManager: "other" });
    await run(async () => {
      await client.apply(THINGS, AT, { spec: { size: 1, colour: "red" }, metadata: { labels: { a: "1", b: "2" } } });
      await other.apply(THINGS, AT, { metadata: { labels: { c: "3" } } });
      const shrunk = await client.apply(THINGS, AT, { spec: { size: 1 }, metadata: { labels: { a: "1" } } });
      expect(shrunk).toMatchObject({ spec: { size: 1 }, metadata: { labels: { a: "1", c: "3" }, generation: 2 } });
      expect(shrunk.spec).not.toHaveProperty("colour");
      await other.mergePatch(THINGS, AT, { spec: { size: 5 } });
      const body = { apiVersion: "example.dev/v1", kind: "Thing", metadata: AT, spec: { size: 1 } };
      const patch = { verb: "patch", type: THINGS, ...AT, patchType: "apply", fieldManager: "test", body } as const;
      expect(isConflict(await errorOf(client.api.request({ ...patch, force: false })))).toBe(true);
      expect((await client.apply(THINGS, AT, { spec: { size: 1 } })).spec).toEqual({ size: 1 });

      const pod = await client.apply(PODS, AT, { spec: { containers: [{ name: "main", image: "i:1" }] } });
      await other.apply(PODS, AT, { spec: { containers: [{ name: "side", image: "s:1" }] } });
      const both = await client.apply(PODS, AT, { spec: { containers: [{ name: "main", image: "i:2" }] } });
      expect(both.metadata.uid).toBe(pod.metadata.uid);
      expect(both.spec.containers.map((one) => `${one.name} ${one.image}`)).toEqual(["main i:2", "side s:1"]);
    });
  });

  test("lists come in pages of one version; a page asked for after a compaction is expired; names can be generated", async () => {
    const { client, server, run } = bench();
    await run(async () => {
      const metadata = { namespace: "ns", generateName: "map-" };
      for (let i = 0; i < 5; i += 1)
        await client.create(CONFIG_MAPS, { apiVersion: "v1", kind: "ConfigMap", metadata });
      const first = await client.list(CONFIG_MAPS, { limit: 2 });
      await client.delete(CONFIG_MAPS, { namespace: "ns", name: first.items[0]!.metadata.name });
      const second = await client.list(CONFIG_MAPS, { limit: 2, continue: first.metadata.continue! });
      const third = await client.list(CONFIG_MAPS, { limit: 2, continue: second.metadata.continue! });
      const names = [first, second, third].flatMap((page) => page.items.map((one) => one.metadata.name));
      expect(new Set(names).size).toBe(5);
      expect(third.metadata.continue).toBeUndefined();
      expect(third.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
      const again = await client.list(CONFIG_MAPS, { limit: 1 });
      await client.create(CONFIG_MAPS, { apiVersion: "v1", kind: "ConfigMap", metadata });
      server.state.compact();
      expect(isExpired(await errorOf(client.list(CONFIG_MAPS, { limit: 1, continue: again.metadata.continue! })))).toBe(
        true,
      );
    });
  });
});

describe("watches", () => {
  test("KV3: changes of the selection in order, entering and leaving it included, then a bookmark and the end", async () => {
    const { client, server, run, wait } = bench(3);
    const seen: string[] = [];
    await run(async () => {
      const resourceVersion = String(server.state.version);
      const reading = (async () => {
        const request = { verb: "watch", type: THINGS, labelSelector: "on=yes", resourceVersion } as const;
        for await (const event of client.api.watch({ ...request, allowWatchBookmarks: true, timeoutSeconds: 30 })) {
          seen.push(describeEvent(event));
        }
      })();
      await wait(100);
      await client.create(THINGS, thing({ size: 1 }, { ...AT, labels: { on: "no" } }));
      await client.mergePatch(THINGS, AT, { metadata: { labels: { on: "yes" } } });
      await client.mergePatch(THINGS, AT, { spec: { size: 2 } });
      await client.mergePatch(THINGS, AT, { metadata: { labels: { on: "no" } } });
      await client.mergePatch(THINGS, AT, { metadata: { labels: { on: "yes" } } });
      await client.delete(THINGS, AT);
      await reading;
    });
    const version = (n: number): string => String(n + 1);
    expect(seen).toEqual([
      "OPENED",
      `ADDED ${version(2)}`,
      `MODIFIED ${version(3)}`,
      `DELETED ${version(4)}`,
      `ADDED ${version(5)}`,
      `DELETED ${version(6)}`,
      `BOOKMARK ${version(6)}`,
    ]);
    expect(server.watcherCount).toBe(0);
  });

  test("a compacted version is answered 410, as an answer or as an event; a future one is refused", async () => {
    const kinds = new Set<string>();
    for (let seed = 1; seed <= 12; seed += 1) {
      const { client, server, run } = bench(seed);
      await run(async () => {
        await client.create(THINGS, thing({}));
        await client.mergePatch(THINGS, AT, { spec: { size: 1 } });
        server.state.compact();
        const watch = (resourceVersion: string): Promise<WatchEvent[]> =>
          Array.fromAsync(
            client.api.watch({
              verb: "watch",
              type: THINGS,
              resourceVersion,
              allowWatchBookmarks: true,
              timeoutSeconds: 5,
            }),
          );
        const [first] = await watch("1").catch((thrown: unknown) => [{ type: "thrown", error: thrown } as const]);
        expect(first !== undefined && "error" in first && isExpired(first.error)).toBe(true);
        kinds.add(first!.type);
        expect(await errorOf(watch("999"))).toMatchObject({ status: 504 });
      });
    }
    expect([...kinds].sort()).toEqual(["ERROR", "thrown"]);
  });
});

describe("faults", () => {
  test("before: not done; after: done; either way the client cannot know", async () => {
    const { client, server, run } = bench();
    await run(async () => {
      server.failNext("lostBefore");
      expect(isUnknownOutcome(await errorOf(client.create(THINGS, thing({}))))).toBe(true);
      expect(server.state.find(THINGS, AT)).toBeUndefined();
      server.failNext("lostAfter");
      expect(isUnknownOutcome(await errorOf(client.create(THINGS, thing({}))))).toBe(true);
      expect(server.state.find(THINGS, AT)).toBeDefined();
      server.failNext("tooManyRequests");
      expect(await errorOf(client.get(THINGS, AT))).toMatchObject({
        status: 429,
        retryAfterMs: 1_000,
        outcome: "refused",
      });
      server.failNext("hang");
      expect(await errorOf(client.get(THINGS, AT, { timeoutMs: 500 }))).toMatchObject({ reason: "ClientTimeout" });
      server.setDown(true);
      expect(await errorOf(client.get(THINGS, AT))).toMatchObject({ reason: "ConnectionFailed", outcome: "refused" });
      server.heal();
      expect((await client.get(THINGS, AT)).metadata.name).toBe("one");
      expect(server.struck).toEqual({ lostBefore: 1, lostAfter: 1, tooManyRequests: 1, hang: 1 });
    });
  });

  test("KV2, KV4: a client that dies before a call has not called; one that dies after it never learns", async () => {
    for (const phase of ["before", "after"] as const) {
      const { world, server } = bench();
      const node = world.node("controller");
      let answered = false;
      server.onCall((call, at) => {
        if (call.client === "controller" && at === phase) node.crash(`at call ${call.number}`);
      });
      const owner = node.start(async () => {
        const client = new KubeClient(simKubeClient(server, "controller", owner), { fieldManager: "c" });
        await client.create(THINGS, thing({}));
        answered = true;
      });
      await world.runUntil(() => false, { virtualMs: 60_000, events: 1_000 });
      expect(answered).toBe(false);
      expect(node.isUp).toBe(false);
      expect(server.state.find(THINGS, AT) !== undefined).toBe(phase === "after");
    }
  });
});

function describeEvent(event: WatchEvent): string {
  if (event.type === "ERROR" || event.type === "OPENED") return event.type;
  return `${event.type} ${event.type === "BOOKMARK" ? event.resourceVersion : event.object.metadata.resourceVersion}`;
}
