// `sluice pod jobmanager`: the plan, then the JobManager, in one process.
//
// Invariants:
//   PJ1. A container that starts again begins the same submission: all that it starts with is in pod.json.
//   PJ2. Pods of one attempt are numbered: one that comes back where nobody could reach it does not take the log from its successor.
//   PJ3. A container that has owned the commit log once and starts again in its pod may not begin one: a log that is missing then was
//        lost, and the job would begin anew without a word.

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import type { PodConfig } from "@sluice/api";
import { PROCESS_LOADERS } from "@sluice/runtime/internal/bin";
import type { JobManagerConfig } from "@sluice/runtime/internal/model";

import { podOrdinal } from "./environment.ts";
import type { PodEnvironment } from "./environment.ts";
import { makePodPlan } from "./plan.ts";
import type { PodPlan } from "./plan.ts";

export async function podJobManager(config: PodConfig, at: PodEnvironment): Promise<void> {
  const planning = makePodPlan(config, { jobDir: at.jobDir, onOutput: (output) => process.stderr.write(output) });
  // While the plan process works, this one loads what it becomes.
  const [planned, run] = await Promise.all([planning, PROCESS_LOADERS.jobManager()]);
  for (const warning of planned.warnings) process.stderr.write(`warning: ${warning}\n`);
  const marker = join(at.workDir, `claimed-${config.submission}`); // the work directory lives as long as the pod
  const { start, ...rest } = jobManagerConfig(config, planned, at);
  const mayCreate = start.mayCreate === true && !existsSync(marker); // PJ3
  const onClaimed = (): void => {
    mkdirSync(at.workDir, { recursive: true });
    writeFileSync(marker, "");
  };
  const plan = { ...planned.plan, jobName: config.job.name };
  await run({ ...rest, start: { ...start, mayCreate } }, { plan, onClaimed });
}

export function jobManagerConfig(config: PodConfig, planned: PodPlan, at: PodEnvironment): JobManagerConfig {
  const { job, submission, start } = config;
  const { order, expectHead } = start;
  return {
    jobName: job.name,
    namespace: job.namespace,
    uid: job.uid,
    moduleUrl: planned.moduleUrl,
    planPath: "", // it is given
    configuration: planned.configuration,
    store: planned.store,
    rpcAddress: at.listen.rpc,
    restAddress: at.listen.rest,
    start: {
      lineage: submission,
      newLineage: start.newLineage,
      from: start.from,
      allowReplay: undefined,
      mayCreate: start.mayCreate,
      onForeignLog: start.onForeignLog,
      pinRestored: start.pinRestored,
      ...(order === undefined ? {} : { order: [...order, podOrdinal(at.name)] }), // PJ2
      ...(expectHead === undefined ? {} : { expectHead }),
    },
    plantedBugs: [],
  };
}
