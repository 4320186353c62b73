// What goes wrong again and again in a world of JobManagers and TaskManagers, until it is healed.
//
// Not here: faults that wires and stores draw by themselves (net.ts, store.ts), who is a victim (the worlds).

import type { Rng } from "@sluice/kit/env";

import type { SimNode, World } from "../index.ts";

export interface NemesisOptions {
  readonly world: World;
  readonly rng: Rng;
  /** Nothing is done any more. */
  readonly isHealed: () => boolean;
}

export class Nemesis {
  readonly #options: NemesisOptions;

  constructor(options: NemesisOptions) {
    this.#options = options;
  }

  /** Acts after random times around `meanMs`; 0: never. */
  repeat(meanMs: number, label: string, act: () => void): void {
    const { world, rng, isHealed } = this.#options;
    if (meanMs === 0) return;
    world.after(1 + rng.below(meanMs * 2), label, () => {
      if (isHealed()) return;
      act();
      this.repeat(meanMs, label, act);
    });
  }

  /** Cuts the newest JobManager off from some TaskManager for a while, as the world's faults say. */
  partitions(newestJobManager: () => SimNode | undefined, taskManagers: readonly SimNode[]): void {
    const { world, rng } = this.#options;
    const { partitionMeanMs, isOneWay } = world.faults.net;
    this.repeat(partitionMeanMs, "nemesis partitions", () => {
      const jm = newestJobManager()?.name ?? "jm0";
      const tm = taskManagers[rng.below(taskManagers.length)]?.name ?? "tm0";
      world.wires.cut(jm, tm);
      if (!isOneWay) world.wires.cut(tm, jm);
      world.after(100 + rng.below(1_500), "partition ends", () => world.wires.heal());
    });
  }
}
