// What goes wrong in a run: which kinds of faults exist, and how often.
//
// Invariants:
//   FP1. Everything is drawn from the seed: first which kinds exist at all, then their rates (swarm testing).
//   FP2. `healthy` has delays only: what a world must survive to be live.

import type { Rng } from "@sluice/kit/env";

export interface FaultPlan {
  readonly net: {
    readonly delayMinMs: number;
    readonly delayMaxMs: number;
    /** Per frame: the connection breaks instead of delivering it. */
    readonly breakProbability: number;
    /** Mean time between partitions; 0: none. */
    readonly partitionMeanMs: number;
    readonly isOneWay: boolean;
    /** Per connection: its reader takes ten times as long. */
    readonly slowReaderProbability: number;
  };
  readonly store: {
    readonly latencyMinMs: number;
    readonly latencyMaxMs: number;
    /** Rejected, certainly not done. */
    readonly failProbability: number;
    /** Answer lost; half of them are done, some of those only later. */
    readonly unknownProbability: number;
    /** A created object is answered with `exists`: the client library repeated its own success. */
    readonly conflictProbability: number;
    readonly slowProbability: number;
    readonly slowMs: number;
    /** Mean time between phases in which the store is full; 0: none. */
    readonly fullMeanMs: number;
  };
  readonly disk: {
    readonly fullProbability: number;
    /** Per read, write or removal: DISK_FAILED. */
    readonly failProbability: number;
    /** At a crash: a file whose write was under way is torn. */
    readonly tornProbability: number;
    /** At a crash: everything is lost (another machine). */
    readonly lossProbability: number;
  };
  readonly crashMeanMs: number;
  readonly pauseMeanMs: number;
}

export const HEALTHY: FaultPlan = {
  net: {
    delayMinMs: 1,
    delayMaxMs: 5,
    breakProbability: 0,
    partitionMeanMs: 0,
    isOneWay: false,
    slowReaderProbability: 0,
  },
  store: {
    latencyMinMs: 2,
    latencyMaxMs: 15,
    failProbability: 0,
    unknownProbability: 0,
    conflictProbability: 0,
    slowProbability: 0,
    slowMs: 0,
    fullMeanMs: 0,
  },
  disk: { fullProbability: 0, failProbability: 0, tornProbability: 0, lossProbability: 0 },
  crashMeanMs: 0,
  pauseMeanMs: 0,
};

/** A plan for one run (FP1). */
export function swarm(rng: Rng): FaultPlan {
  const rate = (max: number): number => (rng.chance(0.5) ? (rng.below(1_000) / 1_000) * max : 0);
  const mean = (minMs: number, maxMs: number): number => (rng.chance(0.5) ? minMs + rng.below(maxMs - minMs) : 0);
  return {
    net: {
      delayMinMs: 1,
      delayMaxMs: 2 + rng.below(40),
      breakProbability: rate(0.01),
      partitionMeanMs: mean(800, 4_000),
      isOneWay: rng.chance(0.5),
      slowReaderProbability: rate(0.3),
    },
    store: {
      latencyMinMs: 1,
      latencyMaxMs: 5 + rng.below(60),
      failProbability: rate(0.2),
      unknownProbability: rate(0.2),
      conflictProbability: rate(0.2),
      slowProbability: rate(0.15),
      slowMs: 200 + rng.below(1_500),
      fullMeanMs: mean(1_000, 4_000),
    },
    disk: {
      fullProbability: rate(0.1),
      failProbability: rate(0.1),
      tornProbability: rate(0.5),
      lossProbability: rate(0.5),
    },
    crashMeanMs: mean(500, 3_000),
    pauseMeanMs: mean(500, 3_000),
  };
}
