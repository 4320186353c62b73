// Virtual time for tests of what talks to the Kubernetes API: one world, one server, and the means to let time pass.

import { assert } from "@sluice/kit";
import { HEALTHY } from "../faults.ts";
import { World } from "../node.ts";
import { SimKubeServer } from "./server.ts";
import type { SimKubeOptions } from "./server.ts";

export interface KubeBench {
  readonly world: World;
  readonly server: SimKubeServer;
  /** Runs `body` in virtual time and gives its outcome. Fails when it does not end within a virtual day. */
  readonly run: <T>(body: () => Promise<T>) => Promise<T>;
  /** Inside of `run`: lets virtual time pass. */
  readonly pass: (durationMs: number) => Promise<void>;
  /** Inside of `run`: lets time pass until `holds`; fails with `what` when that takes longer than `limitMs`. */
  readonly until: (holds: () => boolean, what: string, limitMs?: number) => Promise<void>;
}

export function kubeBench(seed: number, options: SimKubeOptions = {}): KubeBench {
  const world = new World({ seed, faults: HEALTHY, keepsTrace: false });
  const server = new SimKubeServer(world, options);
  const pass = (durationMs: number): Promise<void> =>
    new Promise((resolve) => world.after(durationMs, "wait", () => resolve()));
  return {
    world,
    server,
    pass,
    run: async (body) => {
      let isDone = false;
      // Begun by an event, like everything: what it starts has settled before time passes.
      const begun = new Promise<void>((resolve) => world.after(0, "begin", () => resolve()));
      const running = begun.then(body).finally(() => (isDone = true));
      running.catch(() => {});
      const limits = { virtualMs: world.loop.nowMs + 86_400_000, events: world.loop.eventCount + 2_000_000 };
      const outcome = await world.runUntil(() => isDone, limits);
      assert(outcome === "done", `seed ${seed}: the run ends within its limits`);
      return await running;
    },
    until: async (holds, what, limitMs = 600_000) => {
      const endMs = world.loop.nowMs + limitMs;
      while (!holds()) {
        assert(world.loop.nowMs < endMs, `seed ${seed}: ${what} within ${limitMs} ms`);
        await pass(10);
      }
    },
  };
}
