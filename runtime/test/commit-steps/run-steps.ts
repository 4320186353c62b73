// One job, whose JobManager is killed at one step of the commit protocol after the other; after each the garbage in its store is
// looked for, and at the end the published output is audited.
//
// Invariants:
//   ST1. A strike counts only if output had been published, the fault switch says that it struck, its log names the step, and another
//        JobManager was started and restored a checkpoint.
//   ST2. A few commits after a strike there is no garbage, except uploads that were on their way: packs of the epochs before, of
//        checkpoints that never were. Then collecting removes exactly those.
//
// Not here: which steps on which store (main.ts).

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import type { LocalCluster } from "@sluice/cli";
import type { FaultPoint } from "@sluice/kit";
import type { ObjectStore } from "@sluice/kit/env";

import type { Audit } from "../kills/auditor.ts";
import { endOf, NumbersRun, untilCompleted } from "../support/numbers-run.ts";
import { collectAll, garbageOf } from "./garbage.ts";

const STEP_TIMEOUT_MS = 60_000;
const JOB_MANAGER = { kind: "jobmanager", index: 0 } as const;
/** Commits of the JobManager that follows: one condemns what it found, the next one deletes it, and one more for a slow sweep. */
const CLEANING_COMMITS = 3;
/** Slow enough that the input outlasts all strikes of a run. */
const COUNT = 100_000;
const PER_SECOND = 250;

export interface StepsOptions {
  readonly points: readonly FaultPoint[];
  readonly seed: number;
  readonly storeUri?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly s3Endpoint?: string;
  readonly configuration?: Readonly<Record<string, string>>;
  readonly plantedBugs?: readonly string[];
  readonly openStore: (run: NumbersRun) => Promise<ObjectStore>;
  /** Called between the arming of a strike and what follows: for uploads that are held back. */
  readonly around?: (point: FaultPoint, strike: () => Promise<void>, cluster: LocalCluster) => Promise<void>;
}

export interface StepResult {
  readonly point: FaultPoint;
  readonly restoredId: number;
  /** Objects that were on their way and had to be collected. */
  readonly collected: readonly string[];
  readonly elapsedMs: number;
}

export interface StepsResult {
  readonly steps: readonly StepResult[];
  readonly audit: Audit;
  /** At the end: what nobody needs, before anybody collects. */
  readonly garbageAtEnd: readonly string[];
}

/** Rejects when a strike did not come, or what follows does not. */
export async function runSteps(options: StepsOptions): Promise<StepsResult> {
  const run = new NumbersRun({
    seed: options.seed,
    count: COUNT,
    ...(options.storeUri === undefined ? {} : { storeUri: options.storeUri }),
  });
  try {
    const switchDirectory = run.at("switch");
    mkdirSync(switchDirectory);
    const cluster = await run.start(
      { sourcePerSecond: PER_SECOND },
      {
        taskManagers: 1,
        slots: 2,
        plantedBugs: options.plantedBugs ?? [],
        restarts: { initialMs: 20, maxMs: 100 },
        env: { SLUICE_FAULT_SWITCH: switchDirectory, ...options.env },
        configuration: {
          // Quick: a block of ids is used up (P1) within seconds, and every commit condemns an older checkpoint (P6).
          "execution.checkpointing.interval": "20 ms",
          "execution.checkpointing.min-pause": "0 ms",
          "execution.checkpointing.num-retained": "2",
          "execution.checkpointing.tolerable-failed-checkpoints": "1000",
          ...(options.s3Endpoint === undefined ? {} : { "s3.endpoint": options.s3Endpoint }),
          ...options.configuration,
        },
      },
    );
    const store = await options.openStore(run);
    const jobDir = `default/${run.name}`;
    const steps: StepResult[] = [];
    const around = options.around ?? ((_point, strike) => strike());
    for (const point of options.points) {
      await untilCompleted(cluster, 1);
      await cluster.until("output is published", () => run.publishedFileCount > 0, { timeoutMs: STEP_TIMEOUT_MS });
      const startedMs = performance.now();
      await around(point, () => strike(cluster, { switchDirectory, point }), cluster);
      const restoredId = await cluster.until(
        `${point}: the next JobManager restores`,
        async () => (await cluster.rest.checkpoints()).latest.restored?.id,
        { timeoutMs: STEP_TIMEOUT_MS },
      );
      await untilCompleted(cluster, 1);
      const collected = await withoutGarbage(cluster, { store, jobDir });
      steps.push({ point, restoredId, collected, elapsedMs: performance.now() - startedMs });
    }
    run.drain();
    const outcome = await endOf(cluster);
    if (outcome.state !== "FINISHED") throw new Error(`the job is ${outcome.state}: ${outcome.message}`);
    const garbageAtEnd = await garbageOf({ store, jobDir });
    return { steps, audit: run.audit(), garbageAtEnd };
  } finally {
    await run.dispose();
  }
}

/** ST1, all but the restore. */
async function strike(
  cluster: LocalCluster,
  where: { readonly switchDirectory: string; readonly point: FaultPoint },
): Promise<void> {
  const { switchDirectory, point } = where;
  const before = cluster.process(JOB_MANAGER);
  const struckBefore = struck(switchDirectory).length;
  writeFileSync(join(switchDirectory, "arming"), point);
  renameSync(join(switchDirectory, "arming"), join(switchDirectory, "armed")); // nobody reads half of it
  if (point.startsWith("P0")) cluster.kill(JOB_MANAGER); // its successor claims, and is struck
  await cluster.until(`${point} strikes`, () => struck(switchDirectory).length === struckBefore + 1, {
    timeoutMs: STEP_TIMEOUT_MS,
  });
  const startsMin = before.starts + (point.startsWith("P0") ? 2 : 1);
  await cluster.until(
    `${point}: another JobManager listens`,
    () => {
      const now = cluster.process(JOB_MANAGER);
      return now.starts >= startsMin && now.isListening;
    },
    { timeoutMs: STEP_TIMEOUT_MS },
  );
  const log = readFileSync(before.logPath, "utf8");
  if (!new RegExp(`this process is killed.*${point}`).test(log)) throw new Error(`no log line says ${point}`);
  if (existsSync(join(switchDirectory, "armed"))) throw new Error(`${point} is still armed`);
}

function struck(directory: string): readonly string[] {
  return readdirSync(directory).filter((name) => name.startsWith("struck-"));
}

/** ST2. What had to be collected, by path. */
async function withoutGarbage(
  cluster: LocalCluster,
  place: { readonly store: ObjectStore; readonly jobDir: string },
): Promise<readonly string[]> {
  const { counts } = await cluster.rest.checkpoints();
  let left: readonly string[] = [];
  await cluster.until(
    "no garbage, or some that nobody will ever delete",
    async () => {
      left = await garbageOf(place);
      if (left.length === 0) return true;
      return (await cluster.rest.checkpoints()).counts.completed > counts.completed + CLEANING_COMMITS;
    },
    { timeoutMs: STEP_TIMEOUT_MS },
  );
  return left.length === 0 ? [] : await collectAll(place, left);
}
