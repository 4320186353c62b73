// REST messages about the cluster: overview, configuration of the API, TaskManagers, errors.

/** Every answer with a status of 400 or more. */
export interface ErrorMessage {
  readonly errors: readonly string[];
}

/** GET /overview */
export interface ClusterOverviewMessage {
  readonly taskmanagers: number;
  readonly "slots-total": number;
  readonly "slots-available": number;
  readonly "jobs-running": number;
  readonly "jobs-finished": number;
  readonly "jobs-cancelled": number;
  readonly "jobs-failed": number;
  readonly "flink-version": string;
  readonly "flink-commit": string;
}

/** GET /config */
export interface ClusterConfigMessage {
  readonly "refresh-interval": number;
  readonly "timezone-name": string;
  readonly "timezone-offset": number;
  readonly "flink-version": string;
  readonly "flink-revision": string;
  readonly features: {
    readonly "web-submit": boolean;
    readonly "web-cancel": boolean;
    readonly "web-rescale": boolean;
    readonly "web-history": boolean;
  };
}

/** Memory in MiB, as Flink reports resources. */
interface ResourceProfile {
  readonly cpuCores: number;
  readonly taskHeapMemory: number;
  readonly taskOffHeapMemory: number;
  readonly managedMemory: number;
  readonly networkMemory: number;
  readonly extendedResources: Readonly<Record<string, number>>;
}

export interface TaskManagerMessage {
  readonly id: string;
  readonly path: string;
  readonly dataPort: number;
  readonly jmxPort: number;
  /** Wall clock of the last heartbeat (so named in Flink). */
  readonly timeSinceLastHeartbeat: number;
  readonly slotsNumber: number;
  readonly freeSlots: number;
  readonly assignedTasks: number;
  readonly totalResource: ResourceProfile;
  readonly freeResource: ResourceProfile;
  readonly hardware: {
    readonly cpuCores: number;
    readonly physicalMemory: number;
    readonly freeMemory: number;
    readonly managedMemory: number;
  };
  readonly memoryConfiguration: {
    readonly frameworkHeap: number;
    readonly taskHeap: number;
    readonly frameworkOffHeap: number;
    readonly taskOffHeap: number;
    readonly networkMemory: number;
    readonly managedMemory: number;
    readonly jvmMetaspace: number;
    readonly jvmOverhead: number;
    readonly totalFlinkMemory: number;
    readonly totalProcessMemory: number;
  };
}

/** GET /taskmanagers */
export interface TaskManagersMessage {
  readonly taskmanagers: readonly TaskManagerMessage[];
}

/** One entry of .../metrics; `value` only when asked for by `?get=`. */
export interface MetricEntry {
  readonly id: string;
  readonly value?: string;
}
