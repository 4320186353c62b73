// Processes and pods killed, by others or by what they run, while a job runs, and while it is upgraded.

import { conditionOf, containerOf, killLeader, killPod, RESOURCES } from "../harness/index.ts";
import type { Component, KillKind, Strike } from "../harness/index.ts";
import { CROSSING_MIN, ENDLESS } from "../scenario.ts";
import type { Context, Scenario } from "../scenario.ts";

const BEFORE = 30_000;
/** Enough records before it are published by then. */
const EXHAUST_AT = 60_000;

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

/** User code that allocates until the kernel ends its process. */
async function outOfMemory(context: Context): Promise<void> {
  const ledger = context.ledger("sum", { count: ENDLESS });
  const { job } = ledger;
  await job.apply(ledger.args("v1", { exhaustAt: EXHAUST_AT }));
  const killed = await job.until("a TaskManager was killed for its memory and started again", ({ pods }) => {
    const pod = pods.find((one) => containerOf(one)?.lastState?.terminated?.reason === "OOMKilled");
    return pod !== undefined && containerOf(pod)?.state?.running !== undefined ? pod : undefined;
  });
  const { name } = killed.metadata;
  const { exitCode, finishedAt } = containerOf(killed)?.lastState?.terminated ?? {};
  context.proof(`${name}: OOMKilled, exit code ${exitCode}, restarts ${containerOf(killed)?.restartCount}`);
  const degraded = await job.until("the state names it", ({ job: seen }) => {
    const found = conditionOf(seen, "Degraded");
    return found?.status === "True" && found.reason === "OutOfMemory" ? found : undefined;
  });
  const { memory } = RESOURCES.taskManager.resources;
  for (const named of [name, memory, "taskManager.resources.memory"])
    context.check(degraded.message.includes(named), `the message does not name ${named}: ${degraded.message}`);
  context.proof(`Degraded, ${degraded.reason}: ${degraded.message}`);
  await job.untilStable();
  const files = await ledger.stopAndAudit(CROSSING_MIN * 1.3);
  ledger.crossed(files, Date.parse(finishedAt ?? ""), "a TaskManager out of memory");
}

/** A version whose TaskManagers crash again and again; four of them, because the kubelet starts each one ever later. */
async function crashLoop(context: Context): Promise<void> {
  const ledger = context.ledger("sum", { count: ENDLESS });
  const { job } = ledger;
  await ledger.start(BEFORE);
  const faultMs = await job.apply({ ...ledger.args("v2", { crashFrom: 0 }), parallelism: 4 });
  const message = await job.untilStalled("CrashLoop");
  const savepoint = job.job?.status?.lastSavepoint?.path ?? "no savepoint";
  for (const named of [savepoint, "crashes without a completed checkpoint", "memory"])
    context.check(message.includes(named), `the message does not name ${named}: ${message}`);
  await job.until("pods of the version that crashes are gone", ({ pods }) => pods.length === 0);
  context.proof(`a version that crashes: Stalled, CrashLoop: ${message}`);
  await job.apply({ ...ledger.args("v3"), parallelism: 2 });
  await job.untilStable();
  const files = await ledger.stopAndAudit(CROSSING_MIN * 1.3);
  ledger.crossed(files, faultMs, "a version that crashes again and again, then a good one");
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
    name: "crash-loop",
    about: "a version whose TaskManagers crash again and again: given up with its snapshot kept, then a good one",
    lane: "parallel",
    run: crashLoop,
  },
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
    name: "out-of-memory",
    about: "a TaskManager whose user code allocates until the kernel kills it, once",
    lane: "parallel",
    run: outOfMemory,
  },
  {
    name: "kill-controller",
    about: "the leading controller, while a job runs and in the middle of an upgrade",
    lane: "parallel",
    run: killController,
  },
];
