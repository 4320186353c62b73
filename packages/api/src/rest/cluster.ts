// REST messages about the cluster: overview, configuration of the API, TaskManagers, errors.

import { anyOf, flag, hexId, integer, list, literal, map, named, number, object, text } from "../schema.ts";
import type { Message } from "../schema.ts";

/** Every answer with a status of 400 or more. */
export const ErrorMessage = named(
  "Error",
  object({ errors: list(text(), "What was asked, what is wrong, what to do.") }),
);
export type ErrorMessage = Message<typeof ErrorMessage>;

/** An answer without content. */
export const EmptyMessage = object({});
export type EmptyMessage = Message<typeof EmptyMessage>;

/** GET /overview */
export const ClusterOverviewMessage = object({
  taskmanagers: integer(),
  "slots-total": integer(),
  "slots-available": integer(),
  "jobs-running": integer(),
  "jobs-finished": integer(),
  "jobs-cancelled": integer(),
  "jobs-failed": integer(),
  "flink-version": text(),
  "flink-commit": text(),
});
export type ClusterOverviewMessage = Message<typeof ClusterOverviewMessage>;

/** GET /config */
export const ClusterConfigMessage = object({
  "refresh-interval": integer(),
  "timezone-name": text(),
  "timezone-offset": integer(),
  "flink-version": text(),
  "flink-revision": text(),
  features: object({ "web-submit": flag(), "web-cancel": flag(), "web-rescale": flag(), "web-history": flag() }),
});
export type ClusterConfigMessage = Message<typeof ClusterConfigMessage>;

/** GET /jobmanager/config and /jobs/:jobid/jobmanager/config: effective configuration, secrets hidden. */
export const ConfigurationMessage = list(object({ key: text(), value: text() }));
export type ConfigurationMessage = Message<typeof ConfigurationMessage>;

/** GET /jobmanager/environment; what Flink says of its JVM is said of Node. */
export const EnvironmentMessage = object({
  jvm: object({ version: text(), arch: text(), options: list(text()) }),
  classpath: list(text(), "Empty: there is none."),
});
export type EnvironmentMessage = Message<typeof EnvironmentMessage>;

/** GET /jobmanager/logs */
export const LogListMessage = object({
  logs: list(object({ name: text(), size: integer("bytes"), mtime: integer() })),
});
export type LogListMessage = Message<typeof LogListMessage>;

/** GET /datasets */
export const DatasetsMessage = object({ dataSets: list(object({ id: hexId(), isComplete: flag() }), "Always empty.") });
export type DatasetsMessage = Message<typeof DatasetsMessage>;

/** GET /health: the process lives and answers; nothing is said about the job. */
export const HealthMessage = object({ status: literal("alive") });
export type HealthMessage = Message<typeof HealthMessage>;

const ResourceProfile = named(
  "ResourceProfile",
  object({
    cpuCores: number(),
    taskHeapMemory: integer("MiB"),
    taskOffHeapMemory: integer("MiB"),
    managedMemory: integer("MiB"),
    networkMemory: integer("MiB"),
    extendedResources: map(number()),
  }),
);
export type ResourceProfile = Message<typeof ResourceProfile>;

const TASK_MANAGER_FIELDS = {
  id: text(),
  path: text(),
  dataPort: integer(),
  jmxPort: integer(),
  timeSinceLastHeartbeat: integer("Wall clock of the last heartbeat (so named in Flink)."),
  slotsNumber: integer(),
  freeSlots: integer(),
  assignedTasks: integer(),
  totalResource: ResourceProfile,
  freeResource: ResourceProfile,
  hardware: object({ cpuCores: integer(), physicalMemory: integer(), freeMemory: integer(), managedMemory: integer() }),
  memoryConfiguration: object({
    frameworkHeap: integer(),
    taskHeap: integer(),
    frameworkOffHeap: integer(),
    taskOffHeap: integer(),
    networkMemory: integer(),
    managedMemory: integer(),
    jvmMetaspace: integer(),
    jvmOverhead: integer(),
    totalFlinkMemory: integer(),
    totalProcessMemory: integer(),
  }),
};

export const TaskManagerMessage = named("TaskManager", object(TASK_MANAGER_FIELDS));
export type TaskManagerMessage = Message<typeof TaskManagerMessage>;

/** GET /taskmanagers */
export const TaskManagersMessage = object({ taskmanagers: list(TaskManagerMessage) });
export type TaskManagersMessage = Message<typeof TaskManagersMessage>;

/** GET /taskmanagers/:taskmanagerid. What does not exist here (mapped memory, Netty's segments) is 0. */
export const TaskManagerDetailsMessage = object({
  ...TASK_MANAGER_FIELDS,
  allocatedSlots: list(object({ jobId: hexId(), resource: ResourceProfile, assignedTasks: integer() })),
  metrics: object({
    heapUsed: integer(),
    heapCommitted: integer(),
    heapMax: integer(),
    nonHeapUsed: integer(),
    nonHeapCommitted: integer(),
    nonHeapMax: integer("-1: no limit"),
    directCount: integer(),
    directUsed: integer(),
    directMax: integer(),
    mappedCount: integer(),
    mappedUsed: integer(),
    mappedMax: integer(),
    nettyShuffleMemorySegmentsAvailable: integer(),
    nettyShuffleMemorySegmentsUsed: integer(),
    nettyShuffleMemorySegmentsTotal: integer(),
    nettyShuffleMemoryAvailable: integer(),
    nettyShuffleMemoryUsed: integer(),
    nettyShuffleMemoryTotal: integer(),
    garbageCollectors: list(object({ name: text(), count: integer(), time: integer() })),
  }),
});
export type TaskManagerDetailsMessage = Message<typeof TaskManagerDetailsMessage>;

/** One entry of .../metrics; `value` only when asked for by `?get=`. */
export const MetricEntry = named("Metric", object({ id: text() }, { value: text() }));
export type MetricEntry = Message<typeof MetricEntry>;

export const MetricsMessage = list(MetricEntry);
export type MetricsMessage = Message<typeof MetricsMessage>;

const figure = anyOf(number(), literal("NaN"));

/** One entry of aggregated metrics; figures only when asked for by `?get=`. */
export const AggregatedMetric = named(
  "AggregatedMetric",
  object({ id: text() }, { min: figure, max: figure, avg: figure, sum: figure, skew: figure }),
);
export type AggregatedMetric = Message<typeof AggregatedMetric>;

export const AggregatedMetricsMessage = list(AggregatedMetric);
export type AggregatedMetricsMessage = Message<typeof AggregatedMetricsMessage>;

/** A failure as Flink's Java client reads it. */
export const FailureCause = named(
  "FailureCause",
  object({
    class: text("Failure code, or class of the error."),
    "stack-trace": text(),
    "serialized-throwable": text(
      "Java serialization of Flink's SerializedThrowable, base64: Flink's Java client reads this.",
    ),
  }),
);
export type FailureCause = Message<typeof FailureCause>;
