// Runs seeds of the simulated worlds: `node sim/src/main.ts --world all --seeds 200`; sim/README.md explains the options.
//
// Invariants:
//   M1. A failing seed is printed with its reason, the end of its trace, and the command that replays it.
//   M2. Of a sample of the seeds every one runs twice; different hashes are a failure (something reached around a seam).
//   M3. The last line is JSON; the exit code says whether what was expected happened.

import { plantBugs } from "@sluice/kit";
import { parseArgs } from "node:util";
import { runContracts } from "./contracts.ts";
import { armTripwires } from "./tripwires.ts";
import {
  runAlignerWorld,
  runCoordinatorWorld,
  runOperationsWorld,
  runOperatorChaosWorld,
  runOperatorCrashWorld,
  type RunOptions,
  type RunResult,
} from "./worlds/index.ts";

const WORLDS: Readonly<Record<string, (options: RunOptions) => Promise<RunResult>>> = {
  aligner: runAlignerWorld,
  coordinator: runCoordinatorWorld,
  operations: runOperationsWorld,
  operator: runOperatorChaosWorld,
  "operator-crashes": runOperatorCrashWorld,
};
const TWICE_EVERY = 20;
const TRACE_LINES_SHOWN = 40;

const monotonicMs = performance.now.bind(performance); // before the tripwires: this file reports real time

const { values } = parseArgs({
  options: {
    world: { type: "string", default: "all" },
    seeds: { type: "string", default: "200" },
    from: { type: "string", default: "1" },
    seed: { type: "string" },
    planted: { type: "string", multiple: true, default: [] },
    trace: { type: "boolean", default: false },
    contracts: { type: "boolean", default: false },
  },
});

if (values.contracts) {
  armTripwires();
  const failures = await runContracts();
  for (const { name, reason } of failures.failed) process.stdout.write(`FAIL ${name}: ${reason}\n`);
  process.stdout.write(
    `${JSON.stringify({ ok: failures.failed.length === 0, runs: failures.runs, findings: [], totals: {} })}\n`,
  );
  process.exit(failures.failed.length === 0 ? 0 : 1);
}

const names = values.world === "all" ? Object.keys(WORLDS) : [values.world];
for (const name of names) {
  if (WORLDS[name] === undefined) {
    process.stderr.write(`no such world: ${name}; one of ${Object.keys(WORLDS).join(", ")}, all\n`);
    process.exit(2);
  }
}
try {
  plantBugs(values.planted);
} catch (thrown) {
  process.stderr.write(`${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
  process.exit(2);
}
const from = Number(values.seed ?? values.from);
const count = values.seed === undefined ? Number(values.seeds) : 1;
if (!Number.isSafeInteger(from) || !Number.isSafeInteger(count) || count < 1) {
  process.stderr.write("--seeds, --from and --seed are whole numbers\n");
  process.exit(2);
}

process.on("unhandledRejection", (reason) => {
  process.stdout.write(
    `FAIL an unhandled rejection escaped a world: ${reason instanceof Error ? (reason.stack ?? reason.message) : String(reason)}\n`,
  );
  process.exit(1);
});

interface Finding {
  readonly world: string;
  readonly seed: number;
  readonly reason: string;
}

armTripwires();
const startedMs = monotonicMs();
const findings: Finding[] = [];
const totals: Record<string, number> = {};
let runs = 0;
let events = 0;
// With a planted bug the first find is the answer; without, one failure per world is enough to look at.
for (const name of names) {
  const world = WORLDS[name];
  if (world === undefined) continue;
  for (let seed = from; seed < from + count; seed += 1) {
    const options: RunOptions = { seed, planted: values.planted, keepsTrace: values.trace };
    const result = await world(options);
    runs += 1;
    events += result.eventCount;
    for (const [key, value] of Object.entries(result.counts))
      totals[`${name}.${key}`] = (totals[`${name}.${key}`] ?? 0) + value;
    if (values.trace) process.stdout.write(`${result.trace.join("\n")}\n`);
    let reason = result.failure;
    if (reason === undefined && (seed % TWICE_EVERY === 0 || values.seed !== undefined)) {
      const again = await world({ ...options, keepsTrace: false });
      if (again.hash !== result.hash)
        reason = `M2: two runs of the seed differ: hashes ${result.hash} and ${again.hash}`;
    }
    if (reason === undefined) continue;
    findings.push({ world: name, seed, reason });
    report(name, result, reason);
    break;
  }
  if (values.planted.length > 0 && findings.length > 0) break;
}
const seconds = (monotonicMs() - startedMs) / 1_000;
process.stdout.write(
  `${runs} runs, ${(runs / seconds).toFixed(1)} seeds/s, ${Math.round(events / seconds)} events/s\n`,
);
const isExpected = findings.length > 0 === values.planted.length > 0;
process.stdout.write(
  `${JSON.stringify({ ok: isExpected, runs, seconds: Number(seconds.toFixed(2)), events, planted: values.planted, findings, totals })}\n`,
);
process.exitCode = isExpected ? 0 : 1;

/** M1. */
function report(world: string, result: RunResult, reason: string): void {
  const planted = values.planted.map((bug) => ` --planted ${bug}`).join("");
  const lines = [
    `${values.planted.length > 0 ? "FOUND" : "FAIL"} world=${world} seed=${result.seed} after ${result.eventCount} events, ${Math.round(result.virtualMs)} virtual ms`,
    `  ${reason}`,
    ...result.trace.slice(-TRACE_LINES_SHOWN).map((line) => `  | ${line}`),
    `  replay: node sim/src/main.ts --world ${world} --seed ${result.seed}${planted} --trace`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}
