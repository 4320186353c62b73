// A new version of a job that runs: in each mode, with other arguments, another image and another parallelism.

import { setTimeout as sleep } from "node:timers/promises";

import { recordsPerVersion } from "../ledger/index.ts";
import { CROSSING_MIN, ENDLESS, FINISH_RATE, LedgerJob } from "../scenario.ts";
import type { Context, Scenario } from "../scenario.ts";

/** At the rate of the first version 80 s, a third of which was ever used: a slow machine reaches its fault before the end, too. */
const COUNT = 480_000;
/** Of a version that has them for itself: it begins from nothing, or where the stopped one before has ended. */
const OWN_COUNT = 120_000;
const BEFORE = 40_000;

async function savepoint(context: Context): Promise<void> {
  const { otherImage } = context.world;
  const ledger = context.ledger("sum", { count: COUNT, spec: { upgradeMode: "Savepoint" } });
  const { job } = ledger;
  await ledger.start(BEFORE);
  const before = ledger.processes();
  const faultMs = await job.apply({ ...ledger.args("v2", { rate: FINISH_RATE }), parallelism: 3, image: otherImage });
  const upgraded = await job.untilStable();
  const { lastSavepoint, deployed } = upgraded.status ?? {};
  context.check(lastSavepoint !== undefined, "the upgrade left no savepoint in the status");
  context.check(deployed?.parallelism === 3, `parallelism is ${deployed?.parallelism}, not 3`);
  context.check(deployed?.image === otherImage, `the image is ${deployed?.image}, not ${otherImage}`);
  context.check(ledger.processes() !== before, "the pods are the same as before");
  context.proof(
    `stopped with savepoint ${lastSavepoint?.path}, generation ${upgraded.metadata.generation} runs at parallelism 3 from another image`,
  );
  const files = await ledger.finishAndAudit();
  ledger.crossed(files, faultMs, "upgrade with a savepoint");
  await checkVersions(context, files, ["v1", "v2"]);
}

async function lastState(context: Context): Promise<void> {
  const ledger = context.ledger("sum", { count: COUNT, spec: { upgradeMode: "LastState" } });
  const { job } = ledger;
  await ledger.start(BEFORE);
  const savepoints = job.job?.status?.lastSavepoint?.path;
  const faultMs = await job.apply({ ...ledger.args("v2", { rate: FINISH_RATE }), parallelism: 1 });
  const upgraded = await job.untilStable();
  context.check(upgraded.status?.lastSavepoint?.path === savepoints, "LastState took a savepoint");
  context.check(upgraded.status?.deployed?.parallelism === 1, "parallelism is not 1");
  context.proof(
    `generation ${upgraded.metadata.generation} goes on from the newest checkpoint at parallelism 1, without a savepoint`,
  );
  const files = await ledger.finishAndAudit();
  ledger.crossed(files, faultMs, "upgrade from the last state");
  await checkVersions(context, files, ["v1", "v2"]);
}

async function stateless(context: Context): Promise<void> {
  const ledger = context.ledger("sum", { count: ENDLESS, spec: { upgradeMode: "Stateless" } });
  const { job } = ledger;
  await ledger.start(BEFORE);
  const faultMs = await job.apply({ ...ledger.args("v2", { count: OWN_COUNT, rate: FINISH_RATE / 2 }) });
  await job.untilStable();
  await job.untilLifecycle("Finished");
  const files = await ledger.auditParts("lineage", { v1: undefined, v2: OWN_COUNT });
  ledger.crossed(files, faultMs, "upgrade without state");
}

async function suspendResume(context: Context): Promise<void> {
  const ledger = context.ledger("sum", { count: ENDLESS });
  const { job } = ledger;
  await ledger.start(BEFORE);
  const faultMs = await job.apply({ state: "Suspended" });
  await job.untilLifecycle("Suspended");
  await job.until("a suspended job has no pods", ({ pods }) => pods.length === 0);
  const stopped = await ledger.audit(undefined, undefined, " while suspended");
  await sleep(2_000); // nothing may be written now: there is no event to wait for
  context.check((await ledger.read()).length === stopped.length, "a suspended job has written output");
  context.proof(
    `suspended with savepoint ${job.job?.status?.lastSavepoint?.path}: no pods, all output up to it is published`,
  );
  const count = LedgerJob.records(stopped) + OWN_COUNT;
  await job.apply({ ...ledger.args("v2", { count, rate: FINISH_RATE / 2 }), state: "Running", parallelism: 3 });
  await job.untilStable();
  const files = await ledger.finishAndAudit(count);
  ledger.crossed(files, faultMs, "suspended and resumed at parallelism 3");
}

async function restartNonce(context: Context): Promise<void> {
  const ledger = context.ledger("sum", { count: ENDLESS });
  const { job } = ledger;
  await ledger.start(BEFORE);
  const before = ledger.processes();
  const faultMs = await job.apply({ restartNonce: 1 });
  const restarted = await job.untilStable();
  context.check(ledger.processes() !== before, "the pods are the same as before");
  context.check(restarted.status?.lastSavepoint === undefined, "a restart took a savepoint");
  const files = await ledger.stopAndAudit(CROSSING_MIN * 1.3);
  ledger.crossed(files, faultMs, "restarted by its nonce");
}

async function checkVersions(
  context: Context,
  files: Parameters<typeof recordsPerVersion>[0],
  wanted: readonly string[],
): Promise<void> {
  const versions = recordsPerVersion(files);
  context.check(
    [...versions.keys()].join() === wanted.join(),
    `versions ${[...versions.keys()].join()} have written, not ${wanted.join()}`,
  );
  context.proof([...versions].map(([version, records]) => `${version} wrote ${records} records`).join(", "));
}

export const UPGRADES: readonly Scenario[] = [
  {
    name: "upgrade-savepoint",
    about: "other arguments, another image, parallelism 2 -> 3, from a savepoint",
    lane: "parallel",
    run: savepoint,
  },
  {
    name: "upgrade-last-state",
    about: "other arguments, parallelism 2 -> 1, from the newest checkpoint",
    lane: "parallel",
    run: lastState,
  },
  {
    name: "upgrade-stateless",
    about: "other arguments, from nothing, in a new lineage",
    lane: "parallel",
    run: stateless,
  },
  {
    name: "suspend-resume",
    about: "suspended with a savepoint, resumed at parallelism 3",
    lane: "parallel",
    run: suspendResume,
  },
  { name: "restart-nonce", about: "restarted without a savepoint", lane: "parallel", run: restartNonce },
];
