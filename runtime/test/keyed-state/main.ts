// `npm run soak -- keyed-state`: every kind of keyed state, timers and times to live against plain data (world.ts).
//
//   --seeds N         how many seeds (default 500)
//   --from S          the first one (default 0)
//   --seed S          this one alone
//   --operations N    things done per seed (default 1,500)
//   --planted B       plants a bug; the run then succeeds when some seed finds it
//   --each-planted    plants one bug after the other; succeeds when each is found
//
// Prints a line per finding, with the seed and how to replay it; the last line is JSON. Every tenth seed runs twice, to the same digest.

import { parseArgs } from "node:util";

import { plantBugs } from "@sluice/kit";

import { KeyedWorld } from "./world.ts";
import type { Totals } from "./world.ts";

/** What this world must notice. */
const PLANTED = [
  "cut-misses-first-write",
  "typed-cut-misses-first-write",
  "captured-row-kept-again",
  "handed-out-value-not-encoded",
  "aborted-cut-keeps-its-bit",
  "key-groups-of-others-restored",
  "damaged-block-accepted",
  "timer-registered-twice",
  "restored-timer-not-armed",
  "time-to-live-doubled",
  "expired-rows-in-snapshot",
] as const;
const TWICE_EVERY = 10;

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "500" },
    from: { type: "string", default: "0" },
    seed: { type: "string" },
    operations: { type: "string", default: "1500" },
    planted: { type: "string" },
    "each-planted": { type: "boolean", default: false },
  },
});

function positive(name: string, text: string, min: number): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < min) throw new Error(`--${name} ${text}: a number from ${min}`);
  return number;
}

const first = positive("seed", values.seed ?? values.from, 0);
const count = values.seed === undefined ? positive("seeds", values.seeds, 1) : 1;
const operations = positive("operations", values.operations, 1);

type Finding = { readonly seed: number; readonly reason: string };

function runSeed(seed: number): Totals | Finding {
  const world = new KeyedWorld(seed);
  try {
    world.run(operations);
    return world.totals;
  } catch (thrown) {
    const text = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
    return { seed, reason: `after ${world.totals.operations} operations: ${text}` };
  }
}

const totals: Totals = {
  operations: 0,
  snapshots: 0,
  aborts: 0,
  crashes: 0,
  rescales: 0,
  fired: 0,
  damaged: 0,
  digest: 0,
};

/** Seeds until one finds something. */
function search(): Finding | undefined {
  for (let seed = first; seed < first + count; seed += 1) {
    const result = runSeed(seed);
    if ("reason" in result) return result;
    if (seed % TWICE_EVERY === 0 || values.seed !== undefined) {
      const again = runSeed(seed);
      if ("reason" in again || again.digest !== result.digest) return { seed, reason: "WO6: a second run differs" };
    }
    for (const name of Object.keys(totals) as (keyof Totals)[]) totals[name] += result[name];
  }
  return undefined;
}

function report(finding: Finding, planted: string | undefined): void {
  const plant = planted === undefined ? "" : ` --planted ${planted}`;
  process.stdout.write(
    `${planted === undefined ? "FAIL" : `FOUND ${planted}`} seed ${finding.seed} ${finding.reason}\n` +
      `  replay: node runtime/test/keyed-state/main.ts --seed ${finding.seed} --operations ${operations}${plant}\n`,
  );
}

const bugs = values["each-planted"] ? PLANTED : values.planted === undefined ? [] : [values.planted];
const missed: string[] = [];
for (const bug of bugs) {
  plantBugs([bug]);
  const finding = search();
  if (finding === undefined) missed.push(bug);
  else report({ ...finding, reason: finding.reason.split("\n")[0] ?? "" }, bug);
}
const finding = bugs.length === 0 ? search() : undefined;
if (finding !== undefined) report(finding, undefined);
const ok = finding === undefined && missed.length === 0;
const seeds = `${first}-${first + count - 1}`;
process.stdout.write(`${JSON.stringify({ ok, seeds, operations, planted: bugs, missed, totals })}\n`);
process.exitCode = ok ? 0 : 1;
