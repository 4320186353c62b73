// A node lost with the JobManager and a TaskManager on it; its processes wake up later, and must not write.
//
// Kubernetes says that a node is lost after its controller manager's --node-monitor-grace-period (40 to 50 s); the operator replaces the
// pods on it then, without waiting for their eviction.

import { setTimeout as sleep } from "node:timers/promises";

import { loseNode, RESOURCES, workerToLose } from "../harness/index.ts";
import type { LostNode, PodObject } from "../harness/index.ts";
import { CROSSING_MIN, ENDLESS } from "../scenario.ts";
import type { Context, LedgerJob, Scenario } from "../scenario.ts";

const BEFORE = 30_000;
const LOOK_INTERVAL_MS = 500;
const FENCED_TIMEOUT_MS = 60_000;

/** The JobManager on that node as long as it is there; TaskManagers keep apart by themselves. */
function preferring(node: string): Readonly<Record<string, unknown>> {
  const matchExpressions = [{ key: "kubernetes.io/hostname", operator: "In", values: [node] }];
  const preferred = [{ weight: 100, preference: { matchExpressions } }];
  const spec = { affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: preferred } } };
  return { jobManager: { ...RESOURCES.jobManager, podTemplate: { spec } } };
}

async function nodeLoss(context: Context): Promise<void> {
  const { world } = context;
  const victim = await workerToLose(world);
  const ledger = context.ledger("sum", { count: ENDLESS, spec: preferring(victim) });
  const { job } = ledger;
  await ledger.start(BEFORE);
  const lost = (["jobmanager", "taskmanager"] as const).flatMap((component) =>
    job.pods(component).filter(({ spec }) => spec.nodeName === victim),
  );
  const [jobManager, taskManager] = lost;
  if (jobManager === undefined || taskManager === undefined || lost.length !== 2)
    throw new Error(`not one JobManager and one TaskManager are on ${victim}: ${job.describe()}`);

  const node = await loseNode(world, victim);
  try {
    await comeBack(context, ledger, { node, jobManager, taskManager });
  } finally {
    await node.giveBack();
  }
  await job.until("the pods of before are gone", ({ pods }) =>
    pods.every(({ metadata }) => lost.every((one) => one.metadata.uid !== metadata.uid)),
  );
  context.proof(`${victim} is ready again, and the pods of before are gone from it`);
  const files = await ledger.stopAndAudit(CROSSING_MIN * 1.3);
  const outage = ledger.crossed(files, node.atMs, `loss of ${victim}`);
  const { lastBeforeMs = Number.POSITIVE_INFINITY, firstAfterMs = 0 } = outage;
  context.check(
    lastBeforeMs < firstAfterMs,
    "processes of the lost node have published records after their successors",
  );
  context.measure(
    "node lost to first new record (most of it until Kubernetes says that it is lost)",
    firstAfterMs - node.atMs,
  );
}

interface Lost {
  readonly node: LostNode;
  readonly jobManager: PodObject;
  readonly taskManager: PodObject;
}

/** The job goes on elsewhere; then what was lost wakes up. */
async function comeBack(context: Context, ledger: LedgerJob, { node, jobManager, taskManager }: Lost): Promise<void> {
  const { job } = ledger;
  const isElsewhere = ({ spec }: PodObject): boolean => spec.nodeName !== undefined && spec.nodeName !== node.name;
  await job.until("the job runs on the other node", ({ job: seen }) => {
    const pods = [...job.pods("jobmanager"), ...job.pods("taskmanager")];
    return pods.length === 3 && pods.every(isElsewhere) && seen?.status?.jobState === "RUNNING";
  });
  context.proof(
    `${node.name} lost with ${jobManager.metadata.name} and ${taskManager.metadata.name}: all runs elsewhere`,
  );
  await ledger.untilVisible(BEFORE * 3);
  await node.wake();
  const log = await untilFenced(node, jobManager);
  context.proof(`${jobManager.metadata.name} woke up and was refused: ${log}`);
  await ledger.untilVisible(BEFORE * 4);
}

/** The line in which the JobManager of before says that it has a successor. */
async function untilFenced(node: LostNode, pod: PodObject): Promise<string> {
  const endMs = performance.now() + FENCED_TIMEOUT_MS;
  for (;;) {
    const log = await node.logOf(pod);
    const fenced = log.split("\n").find((line) => line.includes("FENCED"));
    if (fenced !== undefined) return fenced.slice(0, 300);
    if (performance.now() > endMs)
      throw new Error(`${pod.metadata.name} woke up and was not fenced: ${log.slice(-3_000)}`);
    await sleep(LOOK_INTERVAL_MS);
  }
}

export const NODES: readonly Scenario[] = [
  {
    name: "node-loss",
    about: "a node frozen with the JobManager and a TaskManager on it; later they wake up and must not write",
    lane: "quiet",
    run: nodeLoss,
  },
];
