// `sluice pod taskmanager`: a TaskManager that finds its JobManager by the name of a Service, whenever there is one.
//
// Invariants:
//   PT1. The module lies here before anything can be deployed: slots load it by the path that the JobManager's plan was made from.
//   PT2. What the user's code sets itself (its own configuration) comes with a deployment; the process has what pod.json says.

import { mkdirSync } from "node:fs";

import type { PodConfig } from "@sluice/api";
import { PROCESS_LOADERS } from "@sluice/runtime/internal/bin";
import type { TaskManagerConfig } from "@sluice/runtime/internal/model";

import type { PodEnvironment } from "./environment.ts";
import { podConfiguration, podStore } from "./plan.ts";
import { placeSource } from "./source.ts";

export async function podTaskManager(config: PodConfig, at: PodEnvironment): Promise<void> {
  const own = taskManagerConfig(config, at);
  mkdirSync(at.workDir, { recursive: true });
  const [run] = await Promise.all([PROCESS_LOADERS.taskManager(), placeSource(config, at.jobDir)]); // PT1
  await run(own);
}

export function taskManagerConfig(config: PodConfig, at: PodEnvironment): TaskManagerConfig {
  return {
    id: at.name,
    jobManagerAddress: at.jobManagerOf(config.job),
    dataAddress: at.listen.data,
    ...(at.ip === undefined ? {} : { dataHost: at.ip }),
    metricsAddress: at.listen.metrics,
    slots: config.slots,
    workDir: at.workDir,
    store: podStore(config),
    ioHeapBytes: config.memory.ioHeapBytes,
    configuration: podConfiguration(config),
    plantedBugs: [],
  };
}
