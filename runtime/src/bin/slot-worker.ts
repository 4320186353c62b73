// Entry of a slot thread: runs its slot, then ends.
//
// Invariants:
//   SW3. The thread ends after "slotEnded", or without it: then the TaskManager reports every unfinished task as lost.
//
// Not here: the slot (run-slot.ts).

import { setImmediate as immediate } from "node:timers/promises";
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { assert, plantBugs } from "@sluice/kit";
import { NodeClock, NodeLog } from "@sluice/kit/env/node";
import { type IoReply, type SlotWorkerData, ThreadSlotPort } from "../task/index.ts";
import { bundleHash } from "./bundle-hash.ts";
import { runSlot } from "./run-slot.ts";

const { spec, logLevel, ioPort } = workerData as SlotWorkerData & { readonly ioPort: MessagePort };
const main = parentPort;
assert(main !== null, "a slot runs in a worker thread");
plantBugs(spec.plantedBugs);

const port = new ThreadSlotPort({ mailbox: spec.mailbox, io: ioPort, main });
ioPort.on("message", (reply: IoReply) => port.onIoReply(reply));

try {
  await runSlot({
    spec,
    job: spec.moduleUrl,
    bundleHash: bundleHash(spec.moduleUrl),
    env: {
      clock: new NodeClock(),
      log: new NodeLog({ level: logLevel, fields: { slot: spec.slotIndex, attempt: spec.attempt } }),
      port,
      yieldToEvents: () => immediate(),
    },
  });
} finally {
  ioPort.close();
  main.close();
}
