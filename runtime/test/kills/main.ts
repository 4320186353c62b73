// `npm run soak -- kills`: real processes killed at random points, the output audited against a single-threaded model.
//
//   --seeds N     how many seeds (default 20)
//   --from S      the first one (default 0)
//   --mode M      exactly-once | at-least-once | both (default both: every seed runs once in each)
//   --planted B   plants a bug; the run then succeeds when the exactly-once audit fails for some seed
//   --side-by-side N   runs at the same time (default 1)
//   --keep        keeps the directories of runs that failed
//
// One line per run; the last line is JSON. Exit code 0: every audit passed, every seed has a counted kill, every kind of kill was
// counted as often as the seeds allow, and at-least-once runs showed a duplicate.

import { parseArgs } from "node:util";

import type { Guarantee } from "./auditor.ts";
import { runSeed } from "./run-seed.ts";
import type { SeedResult } from "./run-seed.ts";
import { KILL_KINDS } from "./scenario.ts";

const MODES = ["exactly-once", "at-least-once", "both"] as const;
/** Of each kind, over a whole soak. */
const COUNTED_PER_KIND_MIN = 4;

interface Settings {
  readonly seeds: readonly number[];
  readonly guarantees: readonly Guarantee[];
  readonly planted: string | undefined;
  readonly sideBySide: number;
  readonly keep: boolean;
}

function settings(): Settings {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string", default: "20" },
      from: { type: "string", default: "0" },
      mode: { type: "string" },
      planted: { type: "string" },
      "side-by-side": { type: "string", default: "1" },
      keep: { type: "boolean", default: false },
    },
  });
  const mode = values.mode ?? (values.planted === undefined ? "both" : "exactly-once");
  if (!(MODES as readonly string[]).includes(mode)) throw new Error(`--mode ${mode}: one of ${MODES.join(", ")}`);
  const count = Number(values.seeds);
  const first = Number(values.from);
  if (!Number.isSafeInteger(count) || count < 1) throw new Error(`--seeds ${values.seeds}: a positive number`);
  if (!Number.isSafeInteger(first) || first < 0) throw new Error(`--from ${values.from}: a number from 0`);
  return {
    seeds: Array.from({ length: count }, (_, i) => first + i),
    guarantees: mode === "both" ? ["exactly-once", "at-least-once"] : [mode as Guarantee],
    planted: values.planted,
    sideBySide: Math.max(1, Number(values["side-by-side"])),
    keep: values.keep,
  };
}

function describe(result: SeedResult): string {
  const { seed, guarantee, evidence, audit, auditorMissed, elapsedMs } = result;
  const kills = evidence.map(
    (kill) =>
      `${kill.kind}${kill.counted ? "" : " (not counted)"}: committed ${kill.committedRecordCount} in ${kill.committedFileCount} files, ` +
      `restored ${kill.restoredCheckpointId ?? "none"}, replayed ${kill.replayedCount}, back in ${kill.recoveryMs} ms`,
  );
  const verdict = audit.passed ? "PASSED" : `FAILED ${JSON.stringify(audit.problems)}`;
  const counts = `${audit.outputCount}/${audit.expectedCount} records, ${audit.lostCount} lost, ${audit.duplicateCount} twice, ${audit.foreignCount} foreign, ${audit.wrongSumKeyCount} wrong sums`;
  const control = auditorMissed.length === 0 ? "" : ` AUDITOR: ${auditorMissed.join("; ")}`;
  return `seed ${seed} ${guarantee}: ${kills.join("; ")}; ${counts}; ${(elapsedMs / 1_000).toFixed(1)} s; ${verdict}${control}`;
}

async function main(): Promise<number> {
  const { seeds, guarantees, planted, sideBySide, keep } = settings();
  const results: SeedResult[] = [];
  const broken: string[] = [];
  const runs = guarantees.flatMap((guarantee) => seeds.map((seed) => ({ seed, guarantee })));
  const work = async (): Promise<void> => {
    for (let run = runs.shift(); run !== undefined; run = runs.shift()) {
      const { seed, guarantee } = run;
      try {
        const plantedBugs = planted === undefined ? [] : [planted];
        const result = await runSeed({ seed, guarantee, plantedBugs, keep, say: console.log });
        results.push(result);
        console.log(describe(result));
        if (planted !== undefined && !result.audit.passed) runs.length = 0; // it is found
      } catch (thrown) {
        const reason = thrown instanceof Error ? thrown.message : String(thrown);
        broken.push(`seed ${seed} ${guarantee}: ${reason}`);
        console.log(`seed ${seed} ${guarantee}: DID NOT GET THROUGH: ${reason}`);
      }
    }
  };
  await Promise.all(Array.from({ length: sideBySide }, work));
  const problems = planted === undefined ? problemsOf(results, seeds.length) : [];
  const counted = results.flatMap(({ evidence }) => evidence.filter((kill) => kill.counted));
  const sum = (of: (result: SeedResult) => number): number => results.reduce((total, result) => total + of(result), 0);
  const found = results.some(({ audit }) => !audit.passed);
  const passed = planted === undefined ? problems.length === 0 && broken.length === 0 : found;
  console.log(
    JSON.stringify({
      runs: results.length,
      passed: results.filter(({ audit }) => audit.passed).length,
      failed: results.filter(({ audit }) => !audit.passed).length,
      brokenRuns: broken,
      countedKills: Object.fromEntries(
        KILL_KINDS.map((kind) => [kind, counted.filter((kill) => kill.kind === kind).length]),
      ),
      checkpointsRestored: sum(({ evidence }) => evidence.filter((kill) => kill.restoredCheckpointId !== null).length),
      recordsReplayed: sum(({ evidence }) => evidence.reduce((total, kill) => total + kill.replayedCount, 0)),
      lost: sum(({ audit }) => audit.lostCount),
      duplicates: Object.fromEntries(
        guarantees.map((guarantee) => [
          guarantee,
          results
            .filter((result) => result.guarantee === guarantee)
            .reduce((total, { audit }) => total + audit.duplicateCount, 0),
        ]),
      ),
      ...(planted === undefined ? {} : { planted, found }),
      problems,
      verdict: passed ? "passed" : "failed",
    }),
  );
  return passed ? 0 : 1;
}

/** What a run without planted bugs must show. */
function problemsOf(results: readonly SeedResult[], seedCount: number): readonly string[] {
  const problems: string[] = [];
  for (const { seed, guarantee, audit, auditorMissed, evidence } of results) {
    const run = `seed ${seed} ${guarantee}`;
    if (!audit.passed) problems.push(`${run}: the audit failed`);
    if (!evidence.some(({ counted }) => counted)) problems.push(`${run}: no kill counted`);
    for (const missed of auditorMissed) problems.push(`${run}: ${missed}`);
  }
  for (const kind of KILL_KINDS) {
    const count = results
      .flatMap(({ evidence }) => evidence)
      .filter((kill) => kill.kind === kind && kill.counted).length;
    // Two seeds plan one of each kind (KS2); a whole soak must show several.
    const wanted = Math.min(COUNTED_PER_KIND_MIN, Math.floor((seedCount - 1) / 2));
    if (count < wanted) problems.push(`${count} counted kills of kind ${kind}, wanted ${wanted}`);
  }
  const loose = results.filter(({ guarantee }) => guarantee === "at-least-once");
  if (loose.length > 0 && loose.every(({ audit }) => audit.duplicateCount === 0)) {
    problems.push("at-least-once runs show no duplicate: the inputs do not skew the barriers");
  }
  return problems;
}

process.exitCode = await main();
