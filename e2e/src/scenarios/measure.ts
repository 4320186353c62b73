// The numbers: each taken from the times that the records themselves carry, with nothing else running.

import { killPod } from "../harness/index.ts";
import type { Component, Strike } from "../harness/index.ts";
import { outageAt } from "../ledger/index.ts";
import type { LedgerFile } from "../ledger/index.ts";
import { ENDLESS } from "../scenario.ts";
import type { Context, LedgerJob, Scenario } from "../scenario.ts";

export const GOALS_MS = {
  start: 15_000,
  upgrade: 15_000,
  taskManager: 10_000,
  jobManager: 15_000,
} as const;

const REPETITIONS = 3;

async function numbers(context: Context): Promise<void> {
  for (let n = 1; n <= REPETITIONS; n += 1) await oneJob(context, n);
}

/** Applied, upgraded, both kinds of process killed; then stopped and audited. */
async function oneJob(context: Context, n: number): Promise<void> {
  const ledger = context.ledger(`sum-${n}`, { count: ENDLESS });
  const { job } = ledger;
  const appliedMs = await ledger.start(20_000);

  const upgradedMs = await job.apply(ledger.args("v2"));
  await job.untilStable();
  await ledger.untilVisible(90_000);

  const taskManager = await kill(context, ledger, "taskmanager");
  await ledger.untilVisible(150_000);
  const jobManager = await kill(context, ledger, "jobmanager");

  const uid = job.uid;
  const files = await ledger.stopAndAudit(210_000);
  context.measure("StreamJob applied to first record", since(files, appliedMs), GOALS_MS.start);
  const upgrade = ledger.crossed(files, upgradedMs, "upgrade with a savepoint");
  context.measure("savepoint upgrade: gap between records", gapOf(upgrade), GOALS_MS.upgrade);
  parts(context, uid, upgradedMs, upgrade);
  context.measure("TaskManager pod killed to first new record", since(files, taskManager.atMs), GOALS_MS.taskManager);
  context.measure("JobManager pod killed to first new record", since(files, jobManager.atMs), GOALS_MS.jobManager);
  await job.delete();
}

async function kill(context: Context, ledger: LedgerJob, component: Component): Promise<Strike> {
  const strike = await killPod(context.world, ledger.job, component, "pod");
  context.proof(await strike.proof());
  await ledger.job.until("the job runs again", ({ job }) => job?.status?.jobState === "RUNNING");
  return strike;
}

/** From the fault to the first record that an attempt opened after it has published. */
function since(files: readonly LedgerFile[], faultMs: number): number | undefined {
  const { firstAfterMs } = outageAt(files, faultMs);
  return firstAfterMs === undefined ? undefined : firstAfterMs - faultMs;
}

interface Gap {
  readonly lastBeforeMs: number | undefined;
  readonly firstAfterMs: number | undefined;
}

function gapOf({ lastBeforeMs, firstAfterMs }: Gap): number | undefined {
  return lastBeforeMs === undefined || firstAfterMs === undefined ? undefined : firstAfterMs - lastBeforeMs;
}

/** The parts of an upgrade, as its steps were seen; the preflight runs beside the old version and is no part of the gap. */
function parts(
  context: Context,
  uid: string,
  upgradedMs: number,
  outage: Gap & { readonly openedMs: number | undefined },
): void {
  const { timelines } = context.world;
  const at = (step: string): number | undefined =>
    timelines.firstMs(uid, upgradedMs, (entry) => entry.step.endsWith(`/${step}`));
  const running = timelines.firstMs(uid, at("Deploy") ?? upgradedMs, (entry) => entry.jobState === "RUNNING");
  const points: readonly (readonly [name: string, from: number | undefined, to: number | undefined])[] = [
    ["upgrade: preflight (the old version runs)", upgradedMs, at("Stop")],
    ["upgrade: from the last record to the savepoint in status", outage.lastBeforeMs, at("Fence")],
    ["upgrade: fence", at("Fence"), at("Deploy")],
    ["upgrade: deploy until functions are opened", at("Deploy"), outage.openedMs],
    ["upgrade: opened to first record", outage.openedMs, outage.firstAfterMs],
    ["upgrade: deploy until RUNNING is seen", at("Deploy"), running],
  ];
  for (const [name, from, to] of points) if (from !== undefined && to !== undefined) context.measure(name, to - from);
}

export const MEASURE: readonly Scenario[] = [
  { name: "numbers", about: "start, upgrade and recovery times, three times each", lane: "quiet", run: numbers },
];
