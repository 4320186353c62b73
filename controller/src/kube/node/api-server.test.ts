// The controller's core against a real API server with etcd: what the simulated one promises, and what only a real one has.

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { connect, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { sleep } from "@sluice/kit";
import type { Log } from "@sluice/kit/env";
import { NodeClock, nodeRng, NodeTimers } from "@sluice/kit/env/node";
import { kubernetes, startApiServer } from "@sluice/tools/peers";
import type { ApiServer } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";
import {
  CONFIG_MAPS,
  controllerRef,
  EventRecorder,
  EVENTS,
  isAlreadyExists,
  isApiError,
  isConflict,
  isExpired,
  isNotFound,
  keyOf,
  KubeClient,
  LeaseElection,
  LEASES,
  NAMESPACES,
  ObjectCache,
  PODS,
  Reflector,
  withoutManagedFields,
  WriteGate,
} from "../index.ts";
import type { ConfigMap, KubeApi, LeaderTerm, Pod, Stored, WatchEvent } from "../index.ts";
import { HttpKubeApi, kubeconfigCredentials } from "./index.ts";
import type { CredentialSource } from "./index.ts";

const LOG: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, with: () => LOG };
const SEED = 20;
const env = { clock: new NodeClock(), timers: new NodeTimers(), rng: nodeRng(SEED), log: LOG };

/** Relays TCP, and cuts it. */
interface TcpProxy {
  readonly port: number;
  /** Resets all connections; while blocked, new ones too. */
  readonly cut: (isBlocked: boolean) => void;
  readonly cutCount: () => number;
  readonly close: () => void;
}

async function startTcpProxy(target: URL): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let isBlocked = false;
  let cutCount = 0;
  const server: Server = createServer((client) => {
    if (isBlocked) {
      client.resetAndDestroy();
      return;
    }
    const upstream = connect(Number(target.port), target.hostname);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = (blocked: boolean): void => {
    isBlocked = blocked;
    for (const socket of sockets) {
      cutCount += 1;
      socket.resetAndDestroy();
    }
  };
  return {
    port: (server.address() as AddressInfo).port,
    cut,
    cutCount: () => cutCount,
    close: () => {
      cut(true);
      server.close();
    },
  };
}

function credentialsOf(server: ApiServer, port?: number): CredentialSource {
  return {
    server: port === undefined ? server.url : `https://127.0.0.1:${port}`,
    namespace: "default",
    current: () =>
      Promise.resolve({ headers: { authorization: `Bearer ${server.adminToken}` }, tls: { ca: server.ca } }),
  };
}

function apiOf(server: ApiServer, port?: number): HttpKubeApi {
  return new HttpKubeApi({ credentials: credentialsOf(server, port), userAgent: "sluice-test" });
}

function map(namespace: string, name: string, data: Readonly<Record<string, string>> = {}): ConfigMap {
  return { apiVersion: "v1", kind: "ConfigMap", metadata: { namespace, name }, data };
}

async function errorOf(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => "it did not fail",
    (thrown: unknown) => thrown,
  );
}

async function until(holds: () => boolean | Promise<boolean>, what: string, limitMs = 60_000): Promise<void> {
  const endMs = env.clock.nowMs() + limitMs;
  while (!(await holds())) {
    if (env.clock.nowMs() > endMs) throw new Error(`${what} did not happen within ${limitMs} ms`);
    await sleep(env.timers, 20);
  }
}

interface Followed {
  readonly cache: ObjectCache<ConfigMap>;
  readonly reflector: Reflector<ConfigMap>;
  readonly stop: () => Promise<void>;
}

function follow(api: KubeApi, namespace: string): Followed {
  const cache = new ObjectCache<ConfigMap>({ onHandlerError: () => {} });
  const reflector = new Reflector({
    api,
    type: CONFIG_MAPS,
    namespace,
    cache,
    env,
    pageCount: 7,
    trim: withoutManagedFields,
  });
  const abort = new AbortController();
  const running = reflector.run(abort.signal);
  return {
    cache,
    reflector,
    stop: async () => {
      abort.abort();
      await running;
    },
  };
}

function texts(objects: readonly Stored<ConfigMap>[]): string {
  return objects
    .map((one) => `${keyOf(one)} ${one.metadata.uid} ${one.metadata.resourceVersion}`)
    .sort()
    .join("\n");
}

describeWithPeer(kubernetes, "on a real API server", () => {
  let server: ApiServer;
  let api: HttpKubeApi;
  let client: KubeClient;
  let proxy: TcpProxy;

  beforeAll(async () => {
    server = await startApiServer({ controllers: ["garbage-collector-controller"] });
    proxy = await startTcpProxy(new URL(server.url));
    api = apiOf(server);
    client = new KubeClient(api, { fieldManager: "sluice-controller" });
    for (const name of ["follow", "apply", "events", "gate", "pages"]) {
      await client.create(NAMESPACES, { apiVersion: "v1", kind: "Namespace", metadata: { name } });
    }
  }, 180_000);
  afterAll(async () => {
    api.close();
    proxy.close();
    await server.stop();
  });

  test("a kubeconfig leads to it", async () => {
    const credentials = await kubeconfigCredentials({ path: server.kubeconfig });
    const own = new HttpKubeApi({ credentials, userAgent: "sluice-test" });
    const { items } = await new KubeClient(own, { fieldManager: "f" }).list(NAMESPACES);
    expect(items.map((one) => one.metadata.name)).toContain("default");
    own.close();
  });

  test("server-side apply, conflicts, status, preconditions and owners are as simulated", async () => {
    const at = { namespace: "apply", name: "m" };
    const other = new KubeClient(api, { fieldManager: "other" });
    await client.apply(CONFIG_MAPS, at, { data: { a: "1", b: "2" }, metadata: { labels: { x: "y" } } });
    await other.apply(CONFIG_MAPS, at, { data: { c: "3" } });
    const shrunk = await client.apply(CONFIG_MAPS, at, { data: { a: "1" } });
    expect(shrunk.data).toEqual({ a: "1", c: "3" });
    expect(shrunk.metadata.labels).toBeUndefined();
    const again = await client.apply(CONFIG_MAPS, at, { data: { a: "1" } });
    expect(again.metadata.resourceVersion).toBe(shrunk.metadata.resourceVersion); // nothing changed, no version taken
    const body = { ...map("apply", "m", { a: "9" }) };
    const unforced = {
      verb: "patch",
      type: CONFIG_MAPS,
      ...at,
      patchType: "apply",
      fieldManager: "other",
      body,
    } as const;
    expect(isConflict(await errorOf(api.request(unforced)))).toBe(true);
    expect(isAlreadyExists(await errorOf(client.create(CONFIG_MAPS, map("apply", "m"))))).toBe(true);
    expect(
      isConflict(
        await errorOf(
          client.update(CONFIG_MAPS, { ...shrunk, metadata: { ...shrunk.metadata, resourceVersion: "1" } }),
        ),
      ),
    ).toBe(true);

    const spec = { containers: [{ name: "main", image: "none" }] };
    const pod: Pod = { apiVersion: "v1", kind: "Pod", metadata: { namespace: "apply", name: "p" }, spec };
    await client.tryCreate(CONFIG_MAPS, map("apply", "tried"));
    expect(await client.find(CONFIG_MAPS, { namespace: "apply", name: "tried" })).toBeUndefined();
    const badPod = await errorOf(client.tryCreate(PODS, { ...pod, spec: { containers: [] } }));
    expect(badPod).toMatchObject({ status: 422, message: expect.stringContaining("spec.containers: Required value") });
    const made = await client.create(PODS, pod).catch(() => undefined);
    if (made !== undefined) {
      // (Without its service account an API server may refuse pods.)
      const reported = await client.mergePatch(
        PODS,
        { namespace: "apply", name: "p" },
        { status: { message: "seen" } },
        { subresource: "status" },
      );
      expect(reported.status?.message).toBe("seen");
    }
    const owned = map("apply", "owned");
    await client.create(CONFIG_MAPS, {
      ...owned,
      metadata: { ...owned.metadata, ownerReferences: [controllerRef(again)] },
    });
    expect(isConflict(await errorOf(client.delete(CONFIG_MAPS, at, { uid: "another" })))).toBe(true);
    await client.delete(CONFIG_MAPS, at, { uid: again.metadata.uid });
    expect(isNotFound(await errorOf(client.delete(CONFIG_MAPS, at)))).toBe(true);
    await until(
      async () => (await client.find(CONFIG_MAPS, { namespace: "apply", name: "owned" })) === undefined,
      "garbage collection",
    );
    const invalid = await errorOf(client.create(CONFIG_MAPS, map("apply", "Not A Name")));
    expect(invalid).toMatchObject({ status: 422, reason: "Invalid", outcome: "refused" });
  }, 90_000);

  test("a watch tells the version that others' changes have led to, and ends after its time", async () => {
    const { metadata } = await client.list(CONFIG_MAPS, { namespace: "follow" });
    const { resourceVersion } = metadata;
    const request = { verb: "watch", type: CONFIG_MAPS, namespace: "follow", resourceVersion } as const;
    const events: WatchEvent[] = [];
    let elsewhere: Promise<Stored<ConfigMap>> | undefined;
    for await (const event of api.watch({ ...request, allowWatchBookmarks: true, timeoutSeconds: 5 })) {
      events.push(event);
      elsewhere ??= client.create(CONFIG_MAPS, map("apply", "elsewhere"));
    }
    const made = await elsewhere!;
    const bookmark = { type: "BOOKMARK", resourceVersion: made.metadata.resourceVersion };
    expect(events[0]).toEqual({ type: "OPENED" });
    expect(events.slice(1).length).toBeGreaterThan(0);
    for (const event of events.slice(1)) expect(event).toEqual(bookmark);
  });

  test("RF2: a list of a version shows what came after it, also in pages; else a watch that expired would expire again for ever", async () => {
    const before = await client.create(CONFIG_MAPS, map("pages", "before"));
    await client.create(CONFIG_MAPS, map("pages", "after"));
    const { resourceVersion } = before.metadata;
    const at = { verb: "list", type: CONFIG_MAPS, namespace: "pages", resourceVersion } as const;
    const listed = await api.request({ ...at, limit: 500 });
    expect(listed.items.map(({ metadata }) => metadata.name)).toContain("after");
    expect(Number(listed.metadata.resourceVersion)).toBeGreaterThan(Number(resourceVersion));
  });

  test("the reflector follows over a proxy that cuts its connections at random", async () => {
    for (let i = 0; i < 20; i += 1) await client.create(CONFIG_MAPS, map("follow", `old${i}`));
    const cutApi = apiOf(server, proxy.port);
    const { cache, reflector, stop } = follow(cutApi, "follow");
    await cache.whenSynced();
    expect(cache.size).toBeGreaterThanOrEqual(20);
    expect(cache.all().some((one) => Object.hasOwn(one.metadata, "managedFields"))).toBe(false);
    for (let i = 0; i < 120; i += 1) {
      const name = `m${env.rng.below(8)}`;
      const at = { namespace: "follow", name };
      const found = await client.find(CONFIG_MAPS, at);
      if (found === undefined) await client.create(CONFIG_MAPS, map("follow", name, { i: `ß日😀${i}` }));
      else if (env.rng.chance(0.4)) await client.delete(CONFIG_MAPS, at);
      else await client.mergePatch(CONFIG_MAPS, at, { data: { i: `ß日😀${i}` } });
      if (i % 40 === 20) {
        const { watches } = reflector.counts;
        proxy.cut(false);
        await until(() => reflector.counts.watches > watches, "a new watch");
      }
    }
    const wanted = texts((await client.list(CONFIG_MAPS, { namespace: "follow" })).items);
    await until(() => texts(cache.all()) === wanted, "the cache equals the server", 90_000);
    expect(proxy.cutCount()).toBeGreaterThan(3);
    expect(reflector.counts.errors).toBeGreaterThanOrEqual(3); // the cuts did strike
    expect(reflector.counts).toMatchObject({ lists: 1, expired: 0, missed: 0 }); // and each watch went on where it was
    await stop();
    cutApi.close();
  }, 180_000);

  test("the lease passes from a holder that is cut off to the other, and never to both", async () => {
    const times = { leaseDurationMs: 3_000, renewDeadlineMs: 2_000, retryPeriodMs: 400 };
    const cutApi = apiOf(server, proxy.port);
    const acts: string[] = [];
    const abort = new AbortController();
    const start = (
      identity: string,
      through: KubeApi,
    ): { readonly election: LeaseElection; readonly running: Promise<void> } => {
      const own = new KubeClient(through, { fieldManager: identity });
      const election = new LeaseElection({
        client: own,
        env,
        namespace: "default",
        name: "controller",
        identity,
        ...times,
      });
      const lead = async (term: LeaderTerm): Promise<void> => {
        while (!term.signal.aborted) {
          if (term.mayAct()) acts.push(identity);
          await sleep(env.timers, 20, term.signal).catch(() => {});
        }
      };
      return { election, running: election.run(abort.signal, lead) };
    };
    const a = start("a", cutApi);
    await until(() => a.election.isLeader, "a leads");
    const b = start("b", api);
    proxy.cut(true);
    await until(() => b.election.isLeader, "b leads");
    expect(a.election.isLeader).toBe(false);
    proxy.cut(false);
    await until(() => acts.filter((act) => act === "b").length > 20, "b acts");
    const turns = acts.filter((act, i) => act !== acts[i - 1]);
    expect(turns).toEqual(["a", "b"]);
    abort.abort();
    await Promise.all([a.running, b.running]);
    const lease = await client.get(LEASES, { namespace: "default", name: "controller" });
    expect(lease.spec?.leaseTransitions).toBe(1);
    expect(lease.spec?.holderIdentity ?? "").toBe("");
    cutApi.close();
  }, 90_000);

  test("events are accepted, and repeated ones become a series", async () => {
    const about = await client.create(CONFIG_MAPS, map("events", "m"));
    const recorder = new EventRecorder({
      client,
      env,
      reportingController: "sluice.dev/controller",
      reportingInstance: "controller-0",
    });
    const what = { type: "Warning", reason: "UpgradeRejected", action: "Upgrade", note: "ß日😀".repeat(500) } as const;
    for (let i = 0; i < 5; i += 1) recorder.record(about, what);
    await recorder.flush();
    recorder.record(about, what);
    await recorder.flush();
    const { items } = await client.list(EVENTS, { namespace: "events" });
    expect(items).toHaveLength(1);
    expect(items[0]).toMatchObject({
      reason: "UpgradeRejected",
      series: { count: 6 },
      regarding: { uid: about.metadata.uid },
    });
    expect(recorder.droppedCount).toBe(0);
  });

  test("the write gate waits for the watch to show what was written", async () => {
    const { cache, stop } = follow(api, "gate");
    await cache.whenSynced();
    const gate = new WriteGate({ api, clock: env.clock });
    gate.register(CONFIG_MAPS, cache);
    const writer = new KubeClient(gate.api("owner"), { fieldManager: "f" });
    for (let i = 0; i < 20; i += 1) {
      const written = await writer.apply(CONFIG_MAPS, { namespace: "gate", name: "m" }, { data: { i: String(i) } });
      await until(async () => (await gate.settle("owner")).ready, "settled");
      expect(cache.get("gate/m")?.metadata.resourceVersion).toBe(written.metadata.resourceVersion);
    }
    await writer.delete(CONFIG_MAPS, { namespace: "gate", name: "m" });
    await until(async () => (await gate.settle("owner")).ready, "settled");
    expect(cache.size).toBe(0);
    expect(gate.liveReadCount).toBe(0);
    await stop();
  }, 60_000);
});

describeWithPeer(kubernetes, "on a real API server that compacts every second", () => {
  test("410: the reflector lists anew what changed while it was cut off", async () => {
    const server = await startApiServer({ flags: ["--watch-cache=false", "--etcd-compaction-interval=1s"] });
    const proxy = await startTcpProxy(new URL(server.url));
    const api = apiOf(server);
    const cutApi = apiOf(server, proxy.port);
    try {
      const client = new KubeClient(api, { fieldManager: "f" });
      await client.create(CONFIG_MAPS, map("default", "gone"));
      const { cache, reflector, stop } = follow(cutApi, "default");
      await until(() => cache.get("default/gone") !== undefined, "listed");
      const { resourceVersion } = cache;
      proxy.cut(true);
      await client.delete(CONFIG_MAPS, { namespace: "default", name: "gone" });
      await client.create(CONFIG_MAPS, map("default", "new"));
      const isCompacted = async (): Promise<boolean> => {
        await client.mergePatch(
          CONFIG_MAPS,
          { namespace: "default", name: "new" },
          { data: { at: String(env.clock.nowMs()) } },
        );
        const request = {
          verb: "watch",
          type: CONFIG_MAPS,
          resourceVersion,
          allowWatchBookmarks: true,
          timeoutSeconds: 1,
        } as const;
        try {
          for await (const event of api.watch(request)) if (event.type === "ERROR") return isExpired(event.error);
          return false;
        } catch (thrown) {
          if (isApiError(thrown)) return isExpired(thrown);
          throw thrown;
        }
      };
      await until(isCompacted, "the version is compacted away");
      proxy.cut(false);
      await until(
        () => cache.get("default/new") !== undefined && cache.get("default/gone") === undefined,
        "listed anew",
        90_000,
      );
      expect(reflector.counts.expired).toBeGreaterThan(0);
      expect(reflector.counts.lists).toBeGreaterThan(1);
      await stop();
    } finally {
      proxy.close();
      cutApi.close();
      api.close();
      await server.stop();
    }
  }, 240_000);
});
