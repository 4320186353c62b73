// Bad versions: the job that runs is not touched, the reason is said, and a good version is taken.

import { CROSSING_MIN, ENDLESS } from "../scenario.ts";
import type { Context, Scenario } from "../scenario.ts";

const THROWS = `export function main() {
  throw new Error("the table of rates is missing");
}
`;

async function badUpgrade(context: Context): Promise<void> {
  const ledger = context.ledger("sum", { count: ENDLESS });
  const { job } = ledger;
  await ledger.start(20_000);
  const before = ledger.processes();
  const { spec } = job;
  const bad: readonly (readonly [what: string, reason: RegExp, message: RegExp, changes: Record<string, unknown>])[] = [
    ["a module that throws", /./u, /the table of rates is missing/u, { job: { inline: THROWS } }],
    ["an image that is nowhere", /Image/u, /nowhere/u, { image: "localhost/nowhere:1" }],
    [
      "a secret that is not there",
      /Secret|Config/u,
      /absent/u,
      {
        objectStore: { ...(spec["objectStore"] as object), secretRef: { name: "absent" } },
      },
    ],
    [
      "a ConfigMap that is not there",
      /./u,
      /no-such-jobs/u,
      { job: { configMap: { name: "no-such-jobs", key: "a.ts" } } },
    ],
  ];
  let faultMs = 0;
  for (const [what, reason, message, changes] of bad) {
    const atMs = await job.apply({ ...spec, ...changes });
    faultMs ||= atMs;
    const stalled = await job.until(`${what} is refused`, ({ job: seen }) => {
      const found = seen?.status?.conditions?.find(({ type }) => type === "Stalled");
      const isCurrent = found?.status === "True" && found.observedGeneration === seen?.metadata.generation;
      return isCurrent ? found : undefined;
    });
    context.check(reason.test(stalled.reason), `${what}: the reason is ${stalled.reason}, not ${reason.source}`);
    context.check(message.test(stalled.message), `${what}: the message does not say it: ${stalled.message}`);
    context.check(ledger.processes() === before, `${what}: the pods of the old version were touched`);
    const ready = job.job?.status?.conditions?.find(({ type }) => type === "Ready");
    context.check(
      ready?.status === "True",
      `${what}: Ready is ${ready?.status}/${ready?.reason} though the old version runs`,
    );
    context.proof(`${what}: ${stalled.reason}: ${stalled.message.split("\n")[0]}; the old version runs on`);
  }
  await job.apply({ ...spec, ...ledger.args("v2") });
  await job.untilStable();
  context.check(ledger.processes() !== before, "the good version was not deployed");
  context.proof("a good version after them was taken");
  const files = await ledger.stopAndAudit(CROSSING_MIN * 1.3);
  ledger.crossed(files, faultMs, "bad versions, then a good one");
}

async function unstableUpgrade(context: Context): Promise<void> {
  const ledger = context.ledger("sum", { count: ENDLESS });
  const { job } = ledger;
  await ledger.start(30_000);
  const faultMs = await job.apply({
    ...ledger.args("v2", { throwAt: 0 }),
    stability: { checkpoints: 1, deadline: "25s" }, // it can never be stable: this only says how long it may try
  });
  const stalled = await job.until("the version that throws on every record is given up", ({ job: seen }) => {
    const found = seen?.status?.conditions?.find(({ type }) => type === "Stalled");
    return found?.status === "True" && found.observedGeneration === seen?.metadata.generation ? found : undefined;
  });
  const savepoint = job.job?.status?.lastSavepoint?.path;
  context.check(savepoint !== undefined, "no savepoint is in the status");
  context.check(stalled.message.includes("s3://"), `the message does not name the snapshot: ${stalled.message}`);
  await job.until("pods of the version that was given up are gone", ({ pods }) => pods.length === 0);
  context.proof(`a version that throws: Stalled, ${stalled.reason}: ${stalled.message.split("\n")[0]}`);
  await job.apply({ ...ledger.args("v3"), stability: { checkpoints: 1, deadline: "5m" } });
  await job.untilStable();
  const files = await ledger.stopAndAudit(CROSSING_MIN * 1.3);
  ledger.crossed(files, faultMs, "a version that was given up, then a good one");
}

/** Rules of the CRD: one message at once, from kubectl. */
async function refusedByKubectl(context: Context): Promise<void> {
  const job = context.streamJob("rules", { job: { path: "/opt/sluice/job/sum.ts" } });
  const rules: readonly (readonly [changes: Record<string, unknown>, said: RegExp])[] = [
    [{ job: { path: "/a.ts", inline: "x" } }, /exactly one of path, inline, configMap and uri/u],
    [{ job: { path: "sum" } }, /not an absolute path of a module/u],
    [{ parallelism: 0 }, /parallelism/u],
    [{ upgradeMode: "Sometimes" }, /upgradeMode|Unsupported value/u],
    [{ restartStrategy: { type: "none", fixedDelay: { attempts: 1 } } }, /fixedDelay belongs to type fixed-delay/u],
  ];
  for (const [changes, said] of rules) {
    const output = await job.applyRefused(changes);
    context.check(said.test(output), `${JSON.stringify(changes)} was refused with other words: ${output}`);
  }
  context.proof(`${rules.length} broken rules were refused by kubectl apply, each with its message`);
}

export const REFUSALS: readonly Scenario[] = [
  {
    name: "bad-upgrade",
    about: "module throws, image, secret and ConfigMap missing: the old version runs on, then a good one is taken",
    lane: "parallel",
    run: badUpgrade,
  },
  {
    name: "unstable-upgrade",
    about: "a version that throws on records: given up with its snapshot kept, then a good one goes on from it",
    lane: "parallel",
    run: unstableUpgrade,
  },
  { name: "kubectl-rules", about: "specs that kubectl apply must refuse", lane: "parallel", run: refusedByKubectl },
];
