// Entry of a slot thread: loads the job's module, proves that it builds the planned graph, runs the slot, ends.
//
// Invariants:
//   SW1. A graph whose digest differs from the plan's never runs: PLAN_MISMATCH.
//   SW2. The thread ends after "slotEnded", or without it: then the TaskManager reports every unfinished task as lost.
//
// Not here: everything that a slot does (task/).

import { setImmediate as immediate } from "node:timers/promises";
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { assert, Failure, failureToJson, plantBugs, toFailure } from "@sluice/kit";
import { NodeClock, NodeLog } from "@sluice/kit/env/node";
import { buildGraph } from "../datastream/index.ts";
import { buildPlan } from "../graph/index.ts";
import { configurationOf, runtimeSettings } from "../model/configuration/index.ts";
import { buildSlot, type IoReply, SlotCounters, type SlotWorkerData, ThreadSlotPort } from "../task/index.ts";

const { spec, logLevel, ioPort } = workerData as SlotWorkerData & { readonly ioPort: MessagePort };
const main = parentPort;
assert(main !== null, "a slot runs in a worker thread");
plantBugs(spec.plantedBugs);

const clock = new NodeClock();
const log = new NodeLog({ level: logLevel, fields: { slot: spec.slotIndex, attempt: spec.attempt } });
const port = new ThreadSlotPort({ mailbox: spec.mailbox, io: ioPort, main });
ioPort.on("message", (reply: IoReply) => port.onIoReply(reply));

const counters = new SlotCounters(spec.counters);

try {
  counters.enterModule(); // the stuck watch sees a module or main that does not return
  const graph = await buildGraph({
    job: spec.moduleUrl,
    arguments: spec.plan.arguments,
    configuration: spec.plan.configuration,
    jobName: spec.plan.jobName,
  });
  const rebuilt = buildPlan(graph, { bundleHash: "" });
  if (rebuilt.digest !== spec.plan.digest) {
    throw new Failure("PLAN_MISMATCH", {
      retry: "never",
      message: `the job's module builds another graph here (digest ${rebuilt.digest.slice(0, 12)}) than the plan says (${spec.plan.digest.slice(0, 12)})`,
      remedy:
        "main must build the same graph for the same arguments in every process; it must not depend on time, chance or files that change",
    });
  }
  const settings = runtimeSettings(configurationOf(spec.plan.configuration));
  const runner = buildSlot(
    spec,
    graph,
    {
      mode: settings.checkpoints.mode,
      checkpointingEnabled: settings.checkpoints.intervalMs !== null,
      bufferTimeoutMs: settings.bufferTimeoutMs,
    },
    { clock, log, port, yieldToEvents: () => immediate() },
  );
  counters.park();
  await runner.run();
} catch (thrown) {
  counters.park();
  const failure = failureToJson(toFailure(thrown));
  for (const { subtask } of spec.tasks) main.postMessage({ type: "taskState", subtask, state: "FAILED", failure });
  main.postMessage({ type: "slotEnded" });
} finally {
  ioPort.close();
  main.close();
}
