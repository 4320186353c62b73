// Entry of a slot thread: loads the job's module, proves that it builds the planned graph, runs the slot, ends.
//
// Invariants:
//   SW1. Code or a graph that differs from the plan's never runs: PLAN_MISMATCH.
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
import { bundleHash } from "./bundle-hash.ts";

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
  const rebuilt = buildPlan(graph, { bundleHash: bundleHash(spec.moduleUrl) });
  if (rebuilt.digest !== spec.plan.digest) {
    throw new Failure("PLAN_MISMATCH", {
      retry: "never",
      message: `${spec.moduleUrl}, with what it imports, is other code here, or builds another graph (digest ${rebuilt.digest.slice(0, 12)}), than when the job was planned (${spec.plan.digest.slice(0, 12)})`,
      remedy:
        "deploy the same files to every process of a run. Code that was changed meanwhile takes a new start: it continues from the newest " +
        "checkpoint. If nothing was changed: main must build the same graph for the same arguments everywhere, whatever time, chance or files say",
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
