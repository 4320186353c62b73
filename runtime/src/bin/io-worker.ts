// Entry of a TaskManager's I/O thread: snapshots to the store and back, off the thread that heartbeats.
//
// Not here: everything that it does (taskmanager/io).

import { createHash } from "node:crypto";
import { join } from "node:path";
import { type MessagePort, parentPort, workerData } from "node:worker_threads";

import { assert } from "@sluice/kit";
import { NodeClock, NodeDisk, NodeHost, nodeRng, NodeTimers } from "@sluice/kit/env/node";
import { cachedOpener } from "../checkpoint/index.ts";
import type { LocalCopySettings } from "../model/configuration/index.ts";
import type { S3Config, StoreConfig } from "../model/index.ts";
import type { IoRequest } from "../task/index.ts";
import { IoService } from "../taskmanager/index.ts";
import type { IoCommand, SlotOrigin } from "../taskmanager/index.ts";
import { openStore, processLog } from "./process-shell.ts";

/** What the thread is started with. */
export interface IoWorkerData {
  readonly taskManagerId: string;
  readonly workDir: string;
  readonly store: StoreConfig | undefined;
  /** To reach any other S3 store by. */
  readonly s3: S3Config;
  readonly localCopies: LocalCopySettings;
}

/** A slot's port, handed over by the main thread. */
export interface AttachSlot {
  readonly type: "attachSlot";
  readonly origin: SlotOrigin;
  readonly port: MessagePort;
}

const { taskManagerId, workDir, store, s3, localCopies } = workerData as IoWorkerData;
const main = parentPort;
assert(main !== null, "the I/O service runs in a worker thread");
const log = processLog({ process: "taskmanager", taskManager: taskManagerId, thread: "io" });
const service = new IoService({
  env: {
    clock: new NodeClock(),
    timers: new NodeTimers(),
    rng: nodeRng(),
    log,
    host: new NodeHost({ log, name: taskManagerId }),
  },
  store: store === undefined ? undefined : await openStore(store),
  openStore: cachedOpener((uri) => openStore({ uri, ...s3 })),
  localCopies: { ...localCopies, disks: localCopyRoots().map((root) => new NodeDisk(root)) },
  send: (event) => main.postMessage(event),
});

/**
 * Directories for local copies. One that others use too gets a place of this TaskManager's own inside, named after its work
 * directory: a process that is started again in the same place finds what the one before has left.
 */
function localCopyRoots(): readonly string[] {
  if (!localCopies.enabled) return [];
  const place = createHash("sha256").update(workDir).digest("hex").slice(0, 12);
  return localCopies.directories?.map((directory) => join(directory, `${taskManagerId}-${place}`)) ?? [workDir];
}

main.on("message", (message: IoCommand | AttachSlot) => {
  if (message.type !== "attachSlot") {
    service.onCommand(message);
    return;
  }
  const { origin, port } = message;
  port.on("message", (request: IoRequest) => {
    service.onSlotRequest(origin, request, (reply, transfer) => port.postMessage(reply, [...transfer]));
  });
});
