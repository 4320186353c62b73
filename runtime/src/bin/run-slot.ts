// One slot from its specification to its end: the job's graph built anew, compared with the plan, run.
//
// Invariants:
//   SW1. Code or a graph that differs from the plan's never runs: PLAN_MISMATCH.
//   SW2. "slotEnded" is sent whatever happens; what went wrong before the tasks ran is every task's failure.
//
// Not here: everything that a slot does (task/), the thread around it (slot-worker.ts).

import { Failure, failureToJson, toFailure } from "@sluice/kit";
import { buildGraph } from "../datastream/index.ts";
import type { JobMain } from "../datastream/index.ts";
import { buildPlan } from "../graph/index.ts";
import { configurationOf, runtimeSettings } from "../model/configuration/index.ts";
import type { SlotSpec } from "../model/index.ts";
import { buildSlot, SlotCounters } from "../task/index.ts";
import type { SlotEnvironment } from "../task/index.ts";

export interface SlotRun {
  readonly spec: SlotSpec;
  /** file: URL of the job's module, or its main function. */
  readonly job: string | JobMain;
  /** Of the job's code as this process has it; the plan's digest holds that of the planning process. */
  readonly bundleHash: string;
  readonly env: SlotEnvironment;
}

/** Resolves when the slot has ended; what failed is said by its port. */
export async function runSlot({ spec, job, bundleHash, env }: SlotRun): Promise<void> {
  const counters = new SlotCounters(spec.counters);
  try {
    counters.enterModule(); // the stuck watch sees a module or main that does not return
    const { plan } = spec;
    const graph = await buildGraph({
      job,
      arguments: plan.arguments,
      configuration: plan.configuration,
      jobName: plan.jobName,
      readEnvironment: (name) => plan.environment?.values[name],
    });
    const { digest } = buildPlan(graph, { bundleHash });
    if (digest !== plan.digest) throw mismatch(spec, digest);
    const settings = runtimeSettings(configurationOf(plan.configuration));
    const runner = buildSlot(
      spec,
      graph,
      {
        mode: settings.checkpoints.mode,
        checkpointingEnabled: settings.checkpoints.intervalMs !== null,
        bufferTimeoutMs: settings.bufferTimeoutMs,
      },
      env,
    );
    counters.park();
    await runner.run();
  } catch (thrown) {
    counters.park();
    const failure = failureToJson(toFailure(thrown));
    for (const { subtask } of spec.tasks) env.port.send({ type: "taskState", subtask, state: "FAILED", failure });
    env.port.send({ type: "slotEnded" });
  }
}

function mismatch({ moduleUrl, plan }: SlotSpec, digest: string): Failure {
  return new Failure("PLAN_MISMATCH", {
    retry: "never",
    message: `${moduleUrl}, with what it imports, is other code here, or builds another graph (digest ${digest.slice(0, 12)}), than when the job was planned (${plan.digest.slice(0, 12)})`,
    remedy:
      "deploy the same files to every process of a run. Code that was changed meanwhile takes a new start: it continues from the newest " +
      "checkpoint. If nothing was changed: main must build the same graph for the same arguments everywhere, whatever time, chance or files say",
  });
}
