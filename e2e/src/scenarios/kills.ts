// Processes and pods killed while a job runs, and while it is upgraded.

import { killLeader, killPod } from "../harness/index.ts";
import type { Component, KillKind, Strike } from "../harness/index.ts";
import { CROSSING_MIN, ENDLESS } from "../scenario.ts";
import type { Context, Scenario } from "../scenario.ts";

const BEFORE = 30_000;

async function killEach(context: Context, component: Component): Promise<void> {
  const ledger = context.ledger("sum", { count: ENDLESS });
  const { job } = ledger;
  await ledger.start(BEFORE);
  const strikes: Strike[] = [];
  for (const kind of ["process", "pod"] as const satisfies readonly KillKind[]) {
    await ledger.untilVisible(BEFORE * (1 + strikes.length * 3));
    const strike = await killPod(context.world, job, component, kind);
    strikes.push(strike);
    context.proof(await strike.proof());
    await job.until("the job is ready again", ({ job: seen }) => seen?.status?.jobState === "RUNNING");
  }
  const files = await ledger.stopAndAudit(BEFORE * 5.5);
  for (const [index, { atMs, victim }] of strikes.entries()) {
    ledger.crossed(files, atMs, `${index === 0 ? "SIGKILL of the process" : "loss of the pod"} ${victim}`);
  }
}

async function killController(context: Context): Promise<void> {
  const ledger = context.ledger("sum", { count: ENDLESS });
  const { job } = ledger;
  await ledger.start(BEFORE);
  const before = ledger.processes();
  const first = await killLeader(context.world, "process");
  context.proof(await first.proof());
  await ledger.untilVisible(BEFORE * 2);
  context.check(ledger.processes() === before, "the job's pods changed when the controller was killed");

  const upgradeMs = await job.apply({ ...ledger.args("v2"), parallelism: 3 });
  await job.until("the upgrade has stopped the job, or is about to", ({ job: seen }) =>
    ["Stop", "Fence", "Deploy"].includes(seen?.status?.op?.step ?? ""),
  );
  const step = job.job?.status?.op?.step;
  const second = await killLeader(context.world, "pod");
  context.proof(`in the step ${step} of an upgrade: ${await second.proof()}`);
  const upgraded = await job.untilStable();
  context.check(upgraded.status?.deployed?.parallelism === 3, "the upgrade was not carried through");
  const files = await ledger.stopAndAudit(CROSSING_MIN * 1.3);
  ledger.crossed(files, upgradeMs, "upgrade with the leading controller killed");
}

export const KILLS: readonly Scenario[] = [
  {
    name: "kill-task-manager",
    about: "a TaskManager: SIGKILL of its process, then its pod lost",
    lane: "parallel",
    run: (context) => killEach(context, "taskmanager"),
  },
  {
    name: "kill-job-manager",
    about: "the JobManager: SIGKILL of its process, then its pod lost",
    lane: "parallel",
    run: (context) => killEach(context, "jobmanager"),
  },
  {
    name: "kill-controller",
    about: "the leading controller, while a job runs and in the middle of an upgrade",
    lane: "parallel",
    run: killController,
  },
];
