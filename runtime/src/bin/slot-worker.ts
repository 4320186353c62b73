// Entry of a slot thread: runs its slot, then ends.
//
// Invariants:
//   SW4. User code does not find the credentials of the store: they are taken out before the job's module is loaded.
//   SW3. The thread ends after "slotEnded", or without it: then the TaskManager reports every unfinished task as lost.
//
// Not here: the slot (run-slot.ts).

import { setImmediate as immediate } from "node:timers/promises";
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { assert, plantBugs } from "@sluice/kit";
import { NodeClock, NodeLog, nodeRng, NodeTimers, openStagedUploads } from "@sluice/kit/env/node";
import { retryingUploads } from "../connectors/index.ts";
import { type IoReply, type SlotWorkerData, ThreadSlotPort } from "../task/index.ts";
import { bundleHash } from "./bundle-hash.ts";
import { countCollections } from "./collections.ts";
import { runSlot } from "./run-slot.ts";
import type { SlotThreadData } from "./slot-host.ts";

const data = workerData as SlotWorkerData & SlotThreadData<MessagePort>;
const { spec, logLevel, ioPort, s3, collections } = data;
data.s3 = undefined; // SW4
const main = parentPort;
assert(main !== null, "a slot runs in a worker thread");
plantBugs(spec.plantedBugs);
countCollections(collections);

const port = new ThreadSlotPort({ mailbox: spec.mailbox, io: ioPort, main });
ioPort.on("message", (reply: IoReply) => port.onIoReply(reply));

const log = new NodeLog({ level: logLevel, fields: { slot: spec.slotIndex, attempt: spec.attempt } });
const retryEnv = { timers: new NodeTimers(), rng: nodeRng(), log };

try {
  await runSlot({
    spec,
    job: spec.moduleUrl,
    bundleHash: bundleHash(spec.moduleUrl),
    env: {
      clock: new NodeClock(),
      log,
      port,
      yieldToEvents: () => immediate(),
      readEnvironment: (name) => process.env[name],
      openUploads: async (uri) => retryingUploads(await openStagedUploads(uri, { s3: s3 ?? {} }), retryEnv),
    },
  });
} finally {
  ioPort.close();
  main.close();
}
