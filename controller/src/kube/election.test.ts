// Whoever acts, acts alone (LE1-LE5).

import { describe, expect, test } from "@jest/globals";
import { isFailure, SeededRng, sleep } from "@sluice/kit";
import { kubeBench, simKubeClient, unreliable } from "@sluice/sim/kube";
import type { KubeBench } from "@sluice/sim/kube";
import { CONFIG_MAPS, isApiError, KubeClient, LeaseElection, LEASES } from "./index.ts";
import type { LeaderTerm } from "./index.ts";

const AT = { namespace: "system", name: "controller" };

interface Candidate {
  readonly name: string;
  readonly election: () => LeaseElection | undefined;
  readonly start: () => void;
  readonly stop: () => Promise<void>;
  readonly pause: (durationMs: number) => void;
  readonly crash: () => void;
  readonly isUp: () => boolean;
}

/** A process that wants to lead and, while it does, writes about every 200 ms: "act of TERM". */
function candidate(
  bench: KubeBench,
  name: string,
  options: { readonly fenced: boolean } = { fenced: true },
): Candidate {
  const { world, server } = bench;
  const node = world.node(name);
  let election: LeaseElection | undefined;
  let abort: AbortController;
  let running: Promise<void> = Promise.resolve();
  let termCount = 0;
  return {
    name,
    election: () => (node.isUp ? election : undefined),
    isUp: () => node.isUp,
    pause: (durationMs) => node.pause(durationMs),
    crash: () => node.crash("the test said so"),
    stop: async () => {
      abort.abort();
      await running;
    },
    start: () => {
      abort = new AbortController();
      const { signal } = abort;
      const owner = node.start(async (env) => {
        const api = simKubeClient(server, name, owner);
        const client = new KubeClient(api, { fieldManager: name });
        election = new LeaseElection({ client, env, ...AT, identity: owner.name });
        const lead = async (term: LeaderTerm): Promise<void> => {
          termCount += 1;
          const data = { term: `${name} ${termCount}` };
          const acting = new KubeClient(options.fenced ? term.guard(api) : api, { fieldManager: name });
          while (options.fenced ? !term.signal.aborted : !signal.aborted) {
            const metadata = { namespace: "ns", generateName: "act-" };
            await acting
              .create(CONFIG_MAPS, { apiVersion: "v1", kind: "ConfigMap", metadata, data })
              .catch(ignoreWorld);
            await sleep(env.timers, 200, options.fenced ? term.signal : signal).catch(ignoreWorld);
          }
        };
        running = election.run(signal, lead);
        await running;
      });
    },
  };
}

function ignoreWorld(thrown: unknown): void {
  if (!isApiError(thrown) && !isFailure(thrown)) throw thrown;
}

/** Terms in the order of their acts, each time another one acts. */
function turns({ server }: KubeBench): readonly string[] {
  const acts = [...server.state.all(CONFIG_MAPS)].sort(
    (a, b) => Number(a.metadata.resourceVersion) - Number(b.metadata.resourceVersion),
  );
  const terms = acts.map((act) => act.data!["term"]!);
  return terms.filter((term, i) => term !== terms[i - 1]);
}

describe("election", () => {
  test("one leads, the others wait; a shutdown hands over at once, a crash after the lease has run out", async () => {
    const bench = kubeBench(1);
    const { run, until, world, server } = bench;
    await run(async () => {
      const [a, b] = [candidate(bench, "a"), candidate(bench, "b")];
      a.start();
      await until(() => a.election()?.isLeader === true, "a leads");
      b.start();
      await bench.pass(60_000);
      expect(b.election()?.isLeader).toBe(false);
      expect(b.election()?.holder).toBe("a.1");
      const stoppedMs = world.loop.nowMs;
      await a.stop();
      await until(() => b.election()?.isLeader === true, "b leads");
      expect(world.loop.nowMs - stoppedMs).toBeLessThan(5_000);
      expect(server.state.find(LEASES, AT)?.spec).toMatchObject({ leaseTransitions: 1, holderIdentity: "b.1" });
      a.crash(); // a process that has ended may start again
      a.start();
      await bench.pass(5_000);
      const crashedMs = world.loop.nowMs;
      b.crash();
      await until(() => a.election()?.isLeader === true, "a leads again");
      const gapMs = world.loop.nowMs - crashedMs;
      expect(gapMs).toBeGreaterThan(10_000);
      expect(gapMs).toBeLessThan(20_000);
      await a.stop();
    });
    expect(turns(bench)).toEqual(["a 1", "b 1", "a 2"]);
  });

  test("LE3: a leader that stood still for longer than its lease does not write when it goes on", async () => {
    const bench = kubeBench(2);
    const { run, until, pass, server } = bench;
    await run(async () => {
      const [a, b] = [candidate(bench, "a"), candidate(bench, "b")];
      a.start();
      await until(() => a.election()?.isLeader === true, "a leads");
      b.start();
      await pass(3_000);
      a.pause(60_000);
      await until(() => b.election()?.isLeader === true, "b leads");
      const acts = (): number => server.state.all(CONFIG_MAPS).filter((one) => one.data?.["term"] === "a 1").length;
      const before = acts();
      await pass(120_000);
      expect(acts()).toBe(before);
      expect(a.election()?.isLeader).toBe(false);
      await Promise.all([a.stop(), b.stop()]);
    });
  });

  test("LE1: a leader that cannot reach the API server stops before anybody else may begin", async () => {
    const bench = kubeBench(3);
    const { run, until, world, server } = bench;
    await run(async () => {
      const a = candidate(bench, "a");
      a.start();
      await until(() => a.election()?.isLeader === true, "a leads");
      const downMs = world.loop.nowMs;
      server.setDown(true);
      await until(() => a.election()?.isLeader === false, "a gives up");
      expect(world.loop.nowMs - downMs).toBeLessThan(12_000);
      server.setDown(false);
      await until(() => a.election()?.isLeader === true, "a leads again");
      await a.stop();
      expect(server.state.find(LEASES, AT)?.spec).toMatchObject({ holderIdentity: "", leaseTransitions: 0 });
    });
  });

  const chaos = async (seed: number, fenced: boolean): Promise<KubeBench> => {
    const bench = kubeBench(seed);
    const rng = new SeededRng(seed);
    await bench.run(async () => {
      bench.server.faults = unreliable(0.2);
      const all = ["a", "b", "c"].map((name) => candidate(bench, name, { fenced }));
      for (const one of all) one.start();
      for (let i = 0; i < 40; i += 1) {
        await bench.pass(rng.below(20_000));
        const one = all[rng.below(3)]!;
        const what = rng.below(3);
        if (!one.isUp()) one.start();
        else if (what === 0) one.crash();
        else one.pause(what === 1 ? rng.below(8_000) : rng.below(60_000));
      }
      bench.server.heal();
      await bench.pass(60_000); // whoever stood still goes on
      for (const one of all) if (!one.isUp()) one.start();
      await bench.until(() => all.some((one) => one.election()?.isLeader === true), "somebody leads again", 120_000);
    });
    return bench;
  };

  test.each(Array.from({ length: 6 }, (_, i) => i + 1))(
    "seed %d: faults, crashes, processes that stand still, clocks that differ: terms never overlap (LE1-LE5)",
    async (seed) => {
      const seen = turns(await chaos(seed, true));
      expect(seen.length).toBeGreaterThan(5);
      expect(new Set(seen).size).toBe(seen.length); // a term that acted before another one never acts after it
    },
  );

  test("without the fence the same worlds show two that act: the audit can fail", async () => {
    let overlaps = 0;
    for (let seed = 1; seed <= 2; seed += 1) {
      const seen = turns(await chaos(seed, false));
      overlaps += seen.length - new Set(seen).size;
    }
    expect(overlaps).toBeGreaterThan(0);
  });
});
