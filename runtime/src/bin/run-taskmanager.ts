// A TaskManager process, from its configuration to its exit: main thread for RPC and network, one thread for I/O, one per slot.
//
// Not here: everything that a TaskManager does (taskmanager/), where the configuration comes from (taskmanager.ts, packages/cli/src/pod).

import { availableParallelism, freemem, totalmem } from "node:os";
import { getHeapStatistics, setFlagsFromString } from "node:v8";

import { plantBugs } from "@sluice/kit";
import { NodeClock, NodeHost, NodeNet, nodeRng, NodeTimers } from "@sluice/kit/env/node";
import { observeProcess, processMetricValues } from "../metrics/index.ts";
import { configurationOf, runtimeSettings } from "../model/configuration/index.ts";
import type { TaskManagerConfig } from "../model/index.ts";
import { DataServer } from "../network/index.ts";
import { DataPlane, metricsView, startMetricsServer, TaskManager } from "../taskmanager/index.ts";
import { allocateCollections, countCollections } from "./collections.ts";
import {
  exitSoon,
  fatal,
  logLevel,
  onStop,
  printEvent,
  processLog,
  s3Access,
  takeRestToken,
  takeSecret,
  tellEnd,
} from "./process-shell.ts";
import { IoThread, ThreadSlotHost } from "./slot-host.ts";

/** Unsent bytes of a data connection: what the kernel holds cannot be overtaken (protocols 4). */
const DATA_HIGH_WATER_BYTES = 64 * 1024;

/** An address behind which nobody is any more (a pod that is gone) answers nothing: the next try may find the new one. */
const CONNECT_TIMEOUT_MS = 3_000;

/**
 * Slot threads run chains of small functions, generated and the user's; the engine's default budget stops inlining in the
 * middle of them. Set before the first thread starts. KeyedSum, 1 k keys: 15.1 -> 17.4 M records per CPU-second.
 */
const SLOT_ENGINE_FLAGS = "--max-inlined-bytecode-size-cumulative=4000";

/** Runs in {@link runProcess}; resolves when it was told to stop. */
export async function runTaskManager(config: TaskManagerConfig): Promise<void> {
  setFlagsFromString(SLOT_ENGINE_FLAGS);
  const ownCollections = countCollections(allocateCollections());
  const secret = takeSecret();
  const token = takeRestToken();
  plantBugs(config.plantedBugs);
  const { id, slots } = config;
  const settings = runtimeSettings(configurationOf(config.configuration));
  const log = processLog({ process: "taskmanager", taskManager: id });
  const host = new NodeHost({ log, name: id });
  const env = {
    clock: new NodeClock(),
    timers: new NodeTimers(),
    rng: nodeRng(),
    net: new NodeNet({ connectTimeoutMs: CONNECT_TIMEOUT_MS }),
    log,
    host,
  };

  const dataNet = new NodeNet({ highWaterBytes: DATA_HIGH_WATER_BYTES });
  const server = new DataServer({ ...env, net: dataNet, listenAddress: config.dataAddress, taskManagerId: id });
  const dataAddress = asAdvertised(await server.start(), config.dataHost);
  const dataPlane = new DataPlane({ env, net: dataNet, server, address: dataAddress, taskManagerId: id, secret });

  const io = new IoThread({
    data: {
      taskManagerId: id,
      workDir: config.workDir,
      store: config.store ?? settings.store,
      s3: settings.s3,
      localCopies: settings.localCopies,
    },
    heapBytesMax: config.ioHeapBytes,
    host,
    onEvent: (event) => taskManager.onIoEvent(event),
  });
  const slotHost = new ThreadSlotHost({
    io,
    logLevel: logLevel(),
    heapBytesMax: settings.slotHeapBytes,
    s3: s3Access(settings.s3),
  });
  const heapLimitBytes =
    getHeapStatistics().heap_size_limit + slots * (settings.slotHeapBytes ?? getHeapStatistics().heap_size_limit);
  let metricsAddress = "";
  const collections = (): readonly Float64Array[] => [ownCollections, ...slotHost.collections()];
  const readProcess = observeProcess(collections); // of heartbeats; a scrape has rates of its own
  const stop = async (reason: string): Promise<void> => {
    log.info("stopping", { reason });
    await taskManager.stop(reason);
    exitSoon(tellEnd({ event: "stopped", message: reason }));
  };
  const taskManager: TaskManager = new TaskManager({
    env,
    id,
    secret,
    jobManagerAddress: config.jobManagerAddress,
    slotCount: slots,
    get metricsAddress() {
      return metricsAddress;
    },
    processId: process.pid,
    hardware: { cpuCores: availableParallelism(), physicalMemoryBytes: totalmem(), heapLimitBytes },
    settings,
    plantedBugs: config.plantedBugs,
    slotHost,
    dataPlane,
    io,
    machine: {
      residentBytes: () => process.memoryUsage.rss(),
      freeMemoryBytes: () => freemem(),
      metrics: () => processMetricValues(readProcess(), slotHost.heaps()),
    },
    onShutdown: (reason) => void stop(reason).catch(fatal),
  });
  const metrics = await startMetricsServer({
    address: config.metricsAddress,
    view: metricsView({
      taskManager,
      taskManagerId: id,
      host: id,
      slots,
      nowMs: () => env.clock.nowMs(),
      slotHeaps: () => slotHost.heaps(),
    }),
    readProcess: observeProcess(collections),
    health: () => taskManager.health(),
    token,
    log,
  });
  metricsAddress = metrics.address;
  onStop(stop);
  printEvent({ event: "listening", dataAddress, metricsAddress });
  await taskManager.run();
}

/** `host:port` by which others reach what listens on `bound`. */
function asAdvertised(bound: string, host: string | undefined): string {
  if (host === undefined) return bound;
  return `${host.includes(":") ? `[${host}]` : host}${bound.slice(bound.lastIndexOf(":"))}`;
}
