// One run: KeyedSum over the inputs of a seed, struck as the seed says, audited.
//
// Invariants:
//   RS1. Every run has its own directory and leaves no process behind, whatever happens.
//   RS2. The same seed strikes at the same steps; the point within a step is real time.
//
// Not here: many seeds (main.ts).

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { startLocalCluster } from "@sluice/cli";
import type { LocalCluster } from "@sluice/cli";

import { publishedText } from "../support/published.ts";
import { readTestimonies } from "../support/witness.ts";
import { audit, auditTheAuditor, parseOutput } from "./auditor.ts";
import type { Audit, Guarantee } from "./auditor.ts";
import { isCounted, replayedPerKill } from "./evidence.ts";
import type { Evidence } from "./evidence.ts";
import { encodeOptions } from "./job-options.ts";
import { drawInputs, expectationOf, toCsv, toNdjson } from "./model.ts";
import { PARALLELISM, planKills, taskManagerCount } from "./scenario.ts";
import { strike } from "./strike.ts";
import type { Strike } from "./strike.ts";

const SIZES = { floodCount: 120_000, trickleCount: 2_000, keyCount: 40 };
const CHECKPOINT_INTERVAL_MS = 400;
/** From the last strike to the end of the job: a run that needs longer hangs. */
const END_TIMEOUT_MS = 90_000;

/** Small enough that detection and recovery take about a second. */
const CONFIGURATION = {
  "parallelism.default": String(PARALLELISM),
  "execution.checkpointing.interval": `${CHECKPOINT_INTERVAL_MS} ms`,
  "execution.checkpointing.min-pause": "50 ms",
  "execution.checkpointing.tolerable-failed-checkpoints": "100",
  "restart-strategy.type": "fixed-delay",
  "restart-strategy.fixed-delay.attempts": "1000",
  "restart-strategy.fixed-delay.delay": "50 ms",
  "heartbeat.interval": "200 ms",
  "heartbeat.timeout": "1 s",
} as const;

export interface SeedOptions {
  readonly seed: number;
  readonly guarantee: Guarantee;
  readonly plantedBugs: readonly string[];
  /** Keeps the directory of the run and says where it is. */
  readonly keep: boolean;
  readonly say: (line: string) => void;
}

export interface SeedResult {
  readonly seed: number;
  readonly guarantee: Guarantee;
  readonly evidence: readonly Evidence[];
  readonly audit: Audit;
  /** What the auditor missed when one record was removed or doubled. */
  readonly auditorMissed: readonly string[];
  readonly elapsedMs: number;
}

/** Rejects when the run did not get through (a step that never came, a job that failed). */
export async function runSeed(options: SeedOptions): Promise<SeedResult> {
  const { seed, guarantee } = options;
  const startedMs = performance.now();
  const directory = mkdtempSync(join(tmpdir(), `sluice-kills-${seed}-`));
  const at = (name: string): string => join(directory, name);
  const inputs = drawInputs(seed, SIZES);
  writeFileSync(at("flood.ndjson"), toNdjson(inputs.flood));
  writeFileSync(at("trickle.csv"), toCsv(inputs.trickle));
  mkdirSync(at("witness"));
  let cluster: LocalCluster | undefined;
  let hasPassed = false;
  try {
    cluster = await startLocalCluster({
      job: fileURLToPath(new URL("./job.ts", import.meta.url)),
      arguments: [
        encodeOptions({
          floodPath: at("flood.ndjson"),
          tricklePath: at("trickle.csv"),
          outputDirectory: at("output"),
          witnessDirectory: at("witness"),
          drainFile: at("drain"),
          shape: seed % 3 === 0 ? "connect" : "union",
          tricklePerSecond: 400,
          sumPerSecond: 2_500,
          paddingBytes: 1_500,
        }),
      ],
      name: `kills-${seed}`,
      workDir: at("work"),
      taskManagers: taskManagerCount(seed),
      slots: 1,
      configuration: {
        ...CONFIGURATION,
        "execution.checkpointing.mode": guarantee === "exactly-once" ? "EXACTLY_ONCE" : "AT_LEAST_ONCE",
        "execution.checkpointing.dir": pathToFileURL(at("checkpoints")).href,
      },
      plantedBugs: options.plantedBugs,
    });
    const strikes: Strike[] = [];
    for (const kill of planKills(seed, { delayMaxMs: CHECKPOINT_INTERVAL_MS })) {
      strikes.push(await strike(cluster, kill, at("output")));
    }
    writeFileSync(at("drain"), "");
    const running = cluster;
    await running.until("the job ends", () => running.outcome !== undefined, { timeoutMs: END_TIMEOUT_MS });
    const outcome = await running.waitForEnd();
    if (outcome.state !== "FINISHED") throw new Error(`the job is ${outcome.state}: ${outcome.message}`);
    const output = parseOutput(publishedText(at("output")), at("output"));
    const expected = expectationOf(inputs);
    const result = audit(expected, output, guarantee);
    hasPassed = result.passed;
    return {
      seed,
      guarantee,
      evidence: gather(strikes, at("witness")),
      audit: result,
      auditorMissed:
        result.passed && guarantee === "exactly-once" ? auditTheAuditor(expected, output, seed * 7_919) : [],
      elapsedMs: performance.now() - startedMs,
    };
  } finally {
    await cluster?.stop(0);
    if (options.keep && !hasPassed) options.say(`seed ${seed}: kept ${directory}`);
    else rmSync(directory, { recursive: true, force: true });
  }
}

function gather(strikes: readonly Strike[], witnessDirectory: string): readonly Evidence[] {
  const replayed = replayedPerKill(
    strikes.map(({ atMs }) => atMs),
    readTestimonies(witnessDirectory),
  );
  return strikes.map((struck, i) => {
    const evidence = { ...struck, replayedCount: replayed[i] ?? 0 };
    return { ...evidence, counted: isCounted(evidence) };
  });
}
