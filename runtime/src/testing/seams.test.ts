// The seams that a MiniCluster gives its parts.

import { describe, expect, test } from "@jest/globals";
import { netContract, storeContract } from "@sluice/kit/env/contract";
import type { ContractCase } from "@sluice/kit/env/contract";

import { Life } from "./life.ts";
import { MemoryNet } from "./memory-net.ts";
import { MemoryDisk, MemoryObjectStore } from "./memory-store.ts";
import { SteadyClock } from "./steady-clock.ts";

function testAll(cases: readonly ContractCase[]): void {
  test.each(cases.map((one) => [one.name, one.run] as const))("%s", async (_, run) => run());
}

function alive(name: string): Life {
  return new Life(name, (thrown) => {
    throw thrown;
  });
}

describe("a store in memory", () => {
  testAll(storeContract(() => Promise.resolve(new MemoryObjectStore())));
});

describe("a network in memory", () => {
  const options = { listenAddress: "here:0", deadAddress: "there:1" };
  testAll(netContract(() => Promise.resolve(new MemoryNet().of(alive("x"))), options));

  test("MN2: the end of a life closes its connections and frees its addresses; frames on their way are lost", async () => {
    const wires = new MemoryNet();
    const [server, client] = [alive("server"), alive("client")];
    const seen: string[] = [];
    await wires.of(server).listen("server:1", (conn) => {
      conn.onFrame = () => seen.push("frame");
    });
    const conn = await wires.of(client).connect("server:1", new AbortController().signal);
    const closed = new Promise<void>((resolve) => {
      conn.onClose = (reason) => {
        seen.push(reason);
        resolve();
      };
    });
    conn.send(new Uint8Array(1));
    server.end();
    await closed;
    expect(seen).toEqual(["closed by the peer"]);
    await wires.of(alive("next")).listen("server:1", () => {});
  });
});

describe("a life", () => {
  test("LI1: after its end no answer and no timer reaches it", async () => {
    const life = alive("a");
    const store = new MemoryObjectStore();
    const disk = new MemoryDisk();
    const seen: string[] = [];
    const settled = (what: string) => () => void seen.push(what);
    life.timers({ after: (_ms, _label, run) => (setImmediate(run), () => {}) }).after(1, "x", settled("timer"));
    life.store(store).put("a", new Uint8Array(1)).then(settled("put"), settled("put failed"));
    life
      .disk(disk)
      .write("a", [new Uint8Array(1)])
      .then(settled("write"), settled("write failed"));
    life.end();
    life.store(store).put("b", new Uint8Array(1)).then(settled("put"), settled("put failed"));
    for (let i = 0; i < 3; i += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(seen).toEqual([]);
    expect((await store.list("")).map(({ path }) => path)).toEqual(["a"]); // what it had asked for happened
  });

  test("LI2: what nobody expected is told once, and not after the end", async () => {
    const told: unknown[] = [];
    const life = new Life("a", (thrown) => told.push(thrown));
    life.run(() => {
      throw new Error("one");
    });
    life.begin(() => Promise.reject(new Error("two")));
    await Promise.resolve();
    life.end();
    life.begin(() => Promise.reject(new Error("three")));
    await Promise.resolve();
    expect(told.map((thrown) => (thrown as Error).message)).toEqual(["one", "two"]);
  });
});

describe("the clock", () => {
  test("SC1, SC2: a minute at a breakpoint is half a second, for timers too", async () => {
    let systemMs = 1_000;
    const clock = new SteadyClock({ nowMs: () => systemMs, wallMs: () => systemMs });
    expect(clock.nowMs()).toBe(0);
    systemMs += 20;
    expect(clock.nowMs()).toBe(20);
    systemMs += 60_000;
    expect(clock.nowMs()).toBe(520);

    const fired: number[] = [];
    await new Promise<void>((resolve) => {
      clock.after(3, "x", () => {
        fired.push(clock.nowMs());
        resolve();
      });
      // the system's timer comes after 3 ms of its own time, of which this clock has seen one
      systemMs += 1;
      setTimeout(() => (systemMs += 2), 20);
    });
    expect(fired).toEqual([523]);
    clock.stop();
  });

  test("a wait keeps the process alive, and gives its result", async () => {
    const clock = new SteadyClock();
    const late = new Promise<string>((resolve) => void clock.after(1, "x", () => resolve("done")));
    expect(await clock.hold(late)).toBe("done");
    clock.stop();
  });
});
