// A job from kubectl apply to kubectl delete, and what a second one of the same name finds.

import { kubectl, ledgerSource } from "../harness/index.ts";
import { CROSSING_MIN, ENDLESS, FINISH_RATE } from "../scenario.ts";
import type { Context, Scenario } from "../scenario.ts";

/** Of a version that begins from nothing. */
const OWN_COUNT = 30_000;

async function configMap(context: Context): Promise<void> {
  const { world, namespace } = context;
  const manifest = {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "jobs", namespace },
    data: { "ledger.ts": ledgerSource() },
  };
  await kubectl(world, ["apply", "-f", "-"], JSON.stringify(manifest));
  const ledger = context.ledger("from-config-map", {
    count: 120_000,
    rate: 12_000,
    spec: { job: { configMap: { name: "jobs", key: "ledger.ts" } } },
  });
  const { job } = ledger;
  await job.apply();
  await ledger.finishAndAudit();
  const checkpoints = `${context.place("checkpoints")}/`;
  const before = (await world.bucket.list(checkpoints)).length;
  context.check(before > 0, "the job left no checkpoints");
  await job.delete();
  const left = await kubectl(world, [
    "-n",
    namespace,
    "get",
    "pods,services,configmaps,secrets",
    "-l",
    "sluice.dev/job",
    "-o",
    "name",
  ]);
  context.check(left.trim() === "", `the deleted StreamJob left ${left}`);
  const after = (await world.bucket.list(checkpoints)).length;
  context.check(after > 0, "the data of a deleted StreamJob is gone");
  context.proof(`finished, deleted: no object of it is left, its data is (${after} objects of checkpoints)`);
}

async function deleteAndApply(context: Context): Promise<void> {
  const ledger = context.ledger("sum", { count: ENDLESS });
  const { job } = ledger;
  await ledger.start(30_000);
  const first = job.uid;
  const faultMs = Date.now();
  await job.delete();
  context.proof("deleted while it ran: its pods are gone");
  await job.apply();
  const message = await job.untilStalled("ExistingData");
  context.check(job.uid !== first, "it is the same StreamJob");
  for (const choice of ["Resume", "NewLineage"])
    context.check(message.includes(choice), `the message does not name ${choice}: ${message}`);
  context.check(job.pods("jobmanager").length === 0, "a JobManager was started over the data of another StreamJob");
  context.proof(`applied again: ExistingData: ${message.split("\n")[0]}`);
  await job.apply({ onExistingData: "Resume" });
  await job.untilStable();
  const files = await ledger.stopAndAudit(CROSSING_MIN * 1.3);
  ledger.crossed(files, faultMs, "deleted, applied again, resumed");
  await job.delete();
  const own = ledger.args("v2", { count: OWN_COUNT, rate: FINISH_RATE / 2 });
  await job.apply({ ...own, state: "Running", onExistingData: "NewLineage" });
  await job.untilLifecycle("Finished");
  await ledger.auditParts("lineage", { v1: undefined, v2: OWN_COUNT });
}

export const LIFECYCLE: readonly Scenario[] = [
  {
    name: "config-map",
    about: "a job out of a ConfigMap: applied, finished, deleted, its data kept",
    lane: "parallel",
    run: configMap,
  },
  {
    name: "delete-and-apply",
    about: "deleted while it runs, applied again: refused, then resumed; then begun anew beside its data",
    lane: "parallel",
    run: deleteAndApply,
  },
];
