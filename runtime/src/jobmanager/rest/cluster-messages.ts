// The cluster and its TaskManagers as REST messages. Pure.

import { SLUICE_VERSION } from "@sluice/api";
import type { ClusterConfigMessage, ClusterOverviewMessage, TaskManagerMessage } from "@sluice/api";
import type { JobManagerView, TaskManagerView } from "./source.ts";

const MIB = 1024 * 1024;

/** Where Flink's API has its own version and commit. */
const VERSION = `sluice-${SLUICE_VERSION}`;
const REVISION = "unknown";

/** GET /overview */
export function clusterOverview(view: JobManagerView): ClusterOverviewMessage {
  const { state } = view.job();
  const taskManagers = view.taskManagers();
  const ended = state === "FINISHED" || state === "CANCELED" || state === "FAILED";
  return {
    taskmanagers: taskManagers.length,
    "slots-total": taskManagers.reduce((sum, manager) => sum + manager.slots, 0),
    "slots-available": taskManagers.reduce((sum, manager) => sum + manager.freeSlots, 0),
    "jobs-running": ended ? 0 : 1,
    "jobs-finished": state === "FINISHED" ? 1 : 0,
    "jobs-cancelled": state === "CANCELED" ? 1 : 0,
    "jobs-failed": state === "FAILED" ? 1 : 0,
    "flink-version": VERSION,
    "flink-commit": REVISION,
  };
}

/** GET /config */
export function clusterConfig(): ClusterConfigMessage {
  return {
    "refresh-interval": 3_000,
    "timezone-name": "Coordinated Universal Time",
    "timezone-offset": 0,
    "flink-version": VERSION,
    "flink-revision": REVISION,
    features: { "web-submit": false, "web-cancel": true, "web-rescale": false, "web-history": false },
  };
}

/**
 * One entry of GET /taskmanagers. Flink's memory pools do not exist here: the heap limit stands where Flink has the task
 * heap, the resident set where it has the process, and the rest is 0.
 */
export function taskManager(view: TaskManagerView): TaskManagerMessage {
  const heapMib = Math.floor(view.heapLimitBytes / MIB);
  const share = view.slots === 0 ? 0 : view.freeSlots / view.slots;
  return {
    id: view.id,
    path: view.rpcAddress,
    dataPort: portOf(view.dataAddress),
    jmxPort: -1,
    timeSinceLastHeartbeat: view.lastHeartbeatAtMs,
    slotsNumber: view.slots,
    freeSlots: view.freeSlots,
    assignedTasks: view.taskCount,
    totalResource: resource(view.cpuCores, heapMib),
    freeResource: resource(view.cpuCores * share, Math.floor(heapMib * share)),
    hardware: {
      cpuCores: view.cpuCores,
      physicalMemory: view.physicalMemoryBytes,
      freeMemory: view.freeMemoryBytes,
      managedMemory: 0,
    },
    memoryConfiguration: {
      frameworkHeap: 0,
      taskHeap: view.heapLimitBytes,
      frameworkOffHeap: 0,
      taskOffHeap: 0,
      networkMemory: 0,
      managedMemory: 0,
      jvmMetaspace: 0,
      jvmOverhead: 0,
      totalFlinkMemory: view.heapLimitBytes,
      totalProcessMemory: view.residentBytes,
    },
  };
}

function resource(cpuCores: number, taskHeapMemory: number): TaskManagerMessage["totalResource"] {
  return {
    cpuCores,
    taskHeapMemory,
    taskOffHeapMemory: 0,
    managedMemory: 0,
    networkMemory: 0,
    extendedResources: {},
  };
}

function portOf(address: string): number {
  const port = Number(address.slice(address.lastIndexOf(":") + 1));
  return Number.isSafeInteger(port) ? port : -1;
}
