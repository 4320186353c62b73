// Two skewed inputs drawn from a seed, and what a correct run must make of them, computed by one thread.
//
// Invariants:
//   KM1. The same seed gives the same inputs and the same expectation.
//   KM2. Positions are unique over both inputs; increments are positive, so that the sums of a key grow.
//
// Not here: the job (job.ts), the comparison (auditor.ts).

import { SeededRng } from "@sluice/kit";

/** One line of an input file. */
export interface InputRecord {
  /** Unique over both inputs. */
  readonly position: number;
  readonly key: number;
  readonly increment: number;
}

export interface Inputs {
  /** Large and read as fast as back pressure lets: its barriers wait behind full channels. */
  readonly flood: readonly InputRecord[];
  /** Small and read at a limited rate: its barriers arrive at once. */
  readonly trickle: readonly InputRecord[];
}

/** What the output of a correct run holds. */
export interface Expectation {
  readonly byPosition: ReadonlyMap<number, InputRecord>;
  readonly sumByKey: ReadonlyMap<number, number>;
}

export interface InputSizes {
  readonly floodCount: number;
  readonly trickleCount: number;
  readonly keyCount: number;
}

const INCREMENT_MAX = 1_000;

/** KM1. */
export function drawInputs(seed: number, sizes: InputSizes): Inputs {
  const rng = new SeededRng(seed).fork("inputs");
  const draw = (count: number, firstPosition: number): InputRecord[] =>
    Array.from({ length: count }, (_, i) => ({
      position: firstPosition + i,
      // The lower of two draws: some keys are hot.
      key: Math.min(rng.below(sizes.keyCount), rng.below(sizes.keyCount)),
      increment: 1 + rng.below(INCREMENT_MAX),
    }));
  return { flood: draw(sizes.floodCount, 0), trickle: draw(sizes.trickleCount, sizes.floodCount) };
}

/** The single-threaded computation. */
export function expectationOf(inputs: Inputs): Expectation {
  const byPosition = new Map<number, InputRecord>();
  const sumByKey = new Map<number, number>();
  for (const record of [...inputs.flood, ...inputs.trickle]) {
    byPosition.set(record.position, record);
    sumByKey.set(record.key, (sumByKey.get(record.key) ?? 0) + record.increment);
  }
  return { byPosition, sumByKey };
}

/** Content of an NDJSON file. */
export function toNdjson(records: readonly InputRecord[]): string {
  return records.map((record) => `${JSON.stringify(record)}\n`).join("");
}

/** Content of a CSV file with a header. */
export function toCsv(records: readonly InputRecord[]): string {
  const lines = records.map(({ position, key, increment }) => `${increment},${position},${key}\n`);
  return `increment,position,key\n${lines.join("")}`;
}
