// The operator's worlds, by seed.
//
// `operator`: a script of a user, drawn by the seed, under random faults. `operator-crashes`: one upgrade without other faults, whose
// controller is killed before or after its n-th call to the API server: the seed says which mode, which call, which side, so that
// enough seeds are all of them.

import { StreamJobSpec, withDefaults } from "@sluice/api";
import { SeededRng } from "@sluice/kit";
import type { Rng } from "@sluice/kit/env";
import type { RunOptions, RunResult } from "../run.ts";
import { FORBIDDEN_LABEL, runOperatorWorld } from "./world.ts";
import type { Mode, OperatorWorldOptions, UserStep } from "./world.ts";

const MODES: readonly Mode[] = ["Savepoint", "LastState", "Stateless"];
/** More calls than an upgrade makes; a seed beyond runs without a crash. */
export const CRASH_SEEDS = MODES.length * 2 * 36;

async function run(options: OperatorWorldOptions): Promise<RunResult> {
  const { failure, hash, eventCount, virtualMs, counts, trace } = await runOperatorWorld(options);
  return { seed: options.seed, failure, hash, eventCount, virtualMs, counts, trace };
}

/** Crash before and after every call of an upgrade in each mode. */
export async function runOperatorCrashWorld({ seed, keepsTrace }: RunOptions): Promise<RunResult> {
  const index = seed - 1;
  const mode = MODES[index % MODES.length] ?? "Savepoint";
  const phase = Math.floor(index / MODES.length) % 2 === 0 ? ("before" as const) : ("after" as const);
  const call = Math.floor(index / (2 * MODES.length)) + 1;
  return await run({
    seed,
    mode,
    keepsTrace,
    steps: [{ atMs: 1_000, change: { args: ["2"] } }],
    crashAt: { call, phase },
  });
}

/** A user and a nemesis by chance. */
export async function runOperatorChaosWorld({ seed, keepsTrace }: RunOptions): Promise<RunResult> {
  const rng = new SeededRng(seed).fork("script");
  const mode = MODES[rng.below(MODES.length)] ?? "Savepoint";
  const steps = script(rng);
  // A bucket that somebody empties while the job is suspended or restarted must never be begun anew.
  const isWiped = rng.chance(0.1);
  if (isWiped) {
    const restart: UserStep[] = [{ atMs: 5_000, change: { restartNonce: 1 } }];
    return await run({ seed, mode: "LastState", keepsTrace, steps: restart, wipeAtMs: 4_900 });
  }
  return await run({ seed, mode, keepsTrace, steps, chaos: rng.chance(0.9) });
}

/** One to three things that a user does, seconds or moments apart. */
function script(rng: Rng): readonly UserStep[] {
  const steps: UserStep[] = [];
  let atMs = 1_000;
  const count = 1 + rng.below(3);
  for (let index = 0; index < count; index += 1) {
    steps.push({ atMs, change: changeOf(rng, index) });
    atMs += rng.below(rng.chance(0.5) ? 3_000 : 20_000);
  }
  return steps;
}

/** What preflight's pod passes and a TaskManager does not: only a dry run finds it before the job is stopped. */
const FORBIDDEN: StreamJobSpec["taskManager"] = withDefaults(StreamJobSpec, {
  job: { path: "x" },
  taskManager: { podTemplate: { metadata: { labels: { [FORBIDDEN_LABEL]: "yes" } } } },
}).taskManager;

function changeOf(rng: Rng, index: number): Partial<StreamJobSpec> | "delete" {
  switch (rng.below(8)) {
    case 0:
      return { state: "Suspended" };
    case 1:
      return { state: "Running", parallelism: 1 + rng.below(3) };
    case 2:
      return { restartNonce: index + 1 };
    case 3:
      return { args: [`--bad`] };
    case 4:
      return rng.chance(0.5) ? "delete" : { args: [`good-${index}`] };
    case 5:
      if (rng.chance(0.3)) return { taskManager: FORBIDDEN };
      return { parallelism: 1 + rng.below(3) };
    default:
      return { args: [`good-${index}`] };
  }
}
