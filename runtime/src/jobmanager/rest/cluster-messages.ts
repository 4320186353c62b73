// The cluster and its TaskManagers as REST messages. Pure.

import { SLUICE_VERSION } from "@sluice/api";
import type {
  ClusterConfigMessage,
  ClusterOverviewMessage,
  ConfigurationMessage,
  EnvironmentMessage,
  LogListMessage,
  TaskManagerDetailsMessage,
  TaskManagerMessage,
} from "@sluice/api";
import { isTerminal } from "./source.ts";
import type { JobManagerView, JobView, ProcessView, TaskManagerView } from "./source.ts";

const MIB = 1024 * 1024;

/** Where Flink's API has its own version and commit. */
const VERSION = `sluice-${SLUICE_VERSION}`;
const REVISION = "unknown";

/** GET /overview */
export function clusterOverview(view: JobManagerView): ClusterOverviewMessage {
  const { state } = view.job();
  const taskManagers = view.taskManagers();
  return {
    taskmanagers: taskManagers.length,
    "slots-total": taskManagers.reduce((sum, manager) => sum + manager.slots, 0),
    "slots-available": taskManagers.reduce((sum, manager) => sum + manager.freeSlots, 0),
    "jobs-running": isTerminal(state) ? 0 : 1,
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

/**
 * GET /taskmanagers/:taskmanagerid. Slots share the heap evenly. There is neither mapped memory nor Netty; the collectors' figures are
 * those of the main thread and of the slots.
 */
export function taskManagerDetails(view: TaskManagerView, job: JobView): TaskManagerDetailsMessage {
  const heapMib = Math.floor(view.heapLimitBytes / MIB);
  const slots = new Set(
    job.vertices.flatMap(({ subtasks }) =>
      subtasks.filter(({ taskManagerId }) => taskManagerId === view.id).map(({ subtaskIndex }) => subtaskIndex),
    ),
  );
  const tasksIn = (slot: number): number => job.plan.vertices.filter(({ parallelism }) => slot < parallelism).length;
  const metric = (name: string): number => Math.round(view.metrics[`Status.JVM.${name}`] ?? 0);
  return {
    ...taskManager(view),
    allocatedSlots: (view.freeSlots === view.slots ? [] : [...slots]).map((slot) => ({
      jobId: job.jid,
      resource: resource(view.cpuCores / view.slots, Math.floor(heapMib / view.slots)),
      assignedTasks: tasksIn(slot),
    })),
    metrics: {
      heapUsed: metric("Memory.Heap.Used"),
      heapCommitted: metric("Memory.Heap.Committed"),
      heapMax: metric("Memory.Heap.Max"),
      nonHeapUsed: metric("Memory.NonHeap.Used"),
      nonHeapCommitted: metric("Memory.NonHeap.Committed"),
      nonHeapMax: metric("Memory.NonHeap.Max"),
      directCount: 0,
      directUsed: metric("Memory.Direct.MemoryUsed"),
      directMax: metric("Memory.Direct.TotalCapacity"),
      mappedCount: 0,
      mappedUsed: 0,
      mappedMax: 0,
      nettyShuffleMemorySegmentsAvailable: 0,
      nettyShuffleMemorySegmentsUsed: 0,
      nettyShuffleMemorySegmentsTotal: 0,
      nettyShuffleMemoryAvailable: 0,
      nettyShuffleMemoryUsed: 0,
      nettyShuffleMemoryTotal: 0,
      garbageCollectors: ["All", "G1_Young_Generation", "G1_Old_Generation"].map((name) => ({
        name,
        count: metric(`GarbageCollector.${name}.Count`),
        time: metric(`GarbageCollector.${name}.Time`),
      })),
    },
  };
}

/** Keys whose values nobody should read over the network (Flink: GlobalConfiguration.isSensitive). */
const SENSITIVE =
  /password|secret|fs\.azure\.account\.key|apikey|api-key|auth-params|service-key|token|basic-auth|jaas\.config|http-headers|credential/iu;

/** GET /jobmanager/config */
export function configurationMessage(job: JobView): ConfigurationMessage {
  return Object.entries(job.configuration).map(([key, value]) => ({
    key,
    value: SENSITIVE.test(key) ? "******" : value,
  }));
}

/** GET /jobmanager/environment */
export function environmentMessage({ environment }: ProcessView): EnvironmentMessage {
  return { jvm: environment, classpath: [] };
}

/** GET /jobmanager/logs */
export function logList(own: ProcessView): LogListMessage {
  const { name, text, modifiedMs } = own.log();
  return { logs: [{ name, size: Buffer.byteLength(text), mtime: Math.round(modifiedMs) }] };
}

/** Numbers of the cluster under Flink's names, for REST and Prometheus. */
export function clusterMetrics(view: JobManagerView): ReadonlyMap<string, number> {
  const taskManagers = view.taskManagers();
  return new Map([
    ["numRegisteredTaskManagers", taskManagers.length],
    ["numRunningJobs", isTerminal(view.job().state) ? 0 : 1],
    ["taskSlotsTotal", taskManagers.reduce((sum, one) => sum + one.slots, 0)],
    ["taskSlotsAvailable", taskManagers.reduce((sum, one) => sum + one.freeSlots, 0)],
  ]);
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
