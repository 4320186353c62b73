// From pod.json to what processes are started with: the plan of the user's `main`, the configuration in force, the store.
//
// Invariants:
//   PN1. Preflight and JobManager make their plan by this function: what the one accepts the other starts.
//   PN2. What contradicts itself is said before the user's code runs.
//
// Not here: the source (source.ts), the processes (jobmanager.ts, taskmanager.ts).

import type { PodConfig } from "@sluice/api";
import { runPlanProcess } from "@sluice/runtime/internal/bin";
import { configurationOf, runtimeSettings } from "@sluice/runtime/internal/model";
import type { JobPlan, RuntimeSettings, StoreConfig } from "@sluice/runtime/internal/model";

import { placeSource } from "./source.ts";

export interface PodPlan {
  readonly moduleUrl: string;
  /** As the user's code made it: with the name that it gives itself. */
  readonly plan: JobPlan;
  /** In force, for all processes. */
  readonly configuration: Readonly<Record<string, string>>;
  readonly settings: RuntimeSettings;
  /** Keys of pod.json that change nothing; they are not in `configuration` any more. */
  readonly warnings: readonly string[];
  /** Where checkpoints and the commit log go; undefined: the job has no store. */
  readonly store: StoreConfig | undefined;
}

/** The configuration of pod.json, with the heaps that fit the containers. Throws CONFIG_*. */
export function podConfiguration({ configuration, memory }: PodConfig): Readonly<Record<string, string>> {
  const typed = configurationOf(configuration, "file").toRecord();
  return { "sluice.taskmanager.slot-heap-size": `${memory.slotHeapBytes} b`, ...typed };
}

export function podStore({ store }: PodConfig): StoreConfig | undefined {
  const { uri, endpoint, region } = store;
  if (uri === undefined) return undefined;
  return {
    uri,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
  };
}

/** Failures: of the source, of {@link runPlanProcess}, CONFIG_*. `onOutput` hears what `main` printed, also when it fails. */
export async function makePodPlan(
  config: PodConfig,
  options: { readonly jobDir: string; readonly onOutput: (output: string) => void },
): Promise<PodPlan> {
  const given = podConfiguration(config);
  const before = runtimeSettings(configurationOf(given)); // PN2
  const moduleUrl = await placeSource(config, options.jobDir);
  const { plan } = await runPlanProcess({
    moduleUrl,
    arguments: config.arguments,
    configuration: given,
    jobName: config.job.name,
    timeoutMs: before.planTimeoutMs,
    heapBytes: config.memory.planHeapBytes,
    onOutput: options.onOutput,
  });
  const effective = configurationOf({ ...given, ...plan.configuration }); // the module's wins
  const settings = runtimeSettings(effective);
  return {
    moduleUrl,
    plan,
    configuration: effective.toRecord(),
    settings,
    warnings: configurationOf(config.configuration, "file").warnings,
    store: podStore(config) ?? settings.store,
  };
}
