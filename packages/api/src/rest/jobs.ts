// REST messages about jobs: overview, details, plan, exceptions.

export type JobStateName =
  | "INITIALIZING"
  | "CREATED"
  | "RUNNING"
  | "FAILING"
  | "FAILED"
  | "CANCELLING"
  | "CANCELED"
  | "FINISHED"
  | "RESTARTING"
  | "SUSPENDED"
  | "RECONCILING";

export type ExecutionStateName =
  | "CREATED"
  | "SCHEDULED"
  | "DEPLOYING"
  | "INITIALIZING"
  | "RECONCILING"
  | "RUNNING"
  | "FINISHED"
  | "CANCELING"
  | "CANCELED"
  | "FAILED";

/** GET /jobs */
export interface JobIdsMessage {
  readonly jobs: readonly { readonly id: string; readonly status: JobStateName }[];
}

export interface JobOverview {
  readonly jid: string;
  readonly name: string;
  readonly jobType: "STREAMING";
  readonly schedulerType: "Default";
  readonly "start-time": number;
  readonly "end-time": number;
  readonly duration: number;
  readonly state: JobStateName;
  readonly "last-modification": number;
  /** Tasks by state in lower case, and their `total`. */
  readonly tasks: Readonly<Record<Lowercase<ExecutionStateName> | "total", number>>;
  readonly "pending-operators": number;
}

/** GET /jobs/overview */
export interface JobsOverviewMessage {
  readonly jobs: readonly JobOverview[];
}

/** GET /jobs/:id/status */
export interface JobStatusMessage {
  readonly status: JobStateName;
}

export interface IoMetrics {
  readonly "read-bytes": number;
  readonly "read-bytes-complete": boolean;
  readonly "write-bytes": number;
  readonly "write-bytes-complete": boolean;
  readonly "read-records": number;
  readonly "read-records-complete": boolean;
  readonly "write-records": number;
  readonly "write-records-complete": boolean;
  readonly "accumulated-backpressured-time": number;
  readonly "accumulated-idle-time": number;
  readonly "accumulated-busy-time": number;
}

export type StateCounts = Readonly<Record<ExecutionStateName, number>>;

export interface JobVertexDetails {
  readonly id: string;
  readonly slotSharingGroupId: string;
  readonly name: string;
  readonly maxParallelism: number;
  readonly parallelism: number;
  readonly status: ExecutionStateName;
  readonly "start-time": number;
  readonly "end-time": number;
  readonly duration: number;
  readonly tasks: StateCounts;
  readonly metrics: IoMetrics;
}

export interface PlanNode {
  readonly id: string;
  readonly operator: string;
  readonly parallelism: number;
  readonly operator_strategy: string;
  readonly description: string;
  readonly optimizer_properties: Readonly<Record<string, never>>;
  /** Absent for sources. */
  readonly inputs?: readonly {
    readonly id: string;
    readonly num: number;
    readonly exchange: "pipelined_bounded";
    readonly ship_strategy: string;
  }[];
}

interface Plan {
  readonly jid: string;
  readonly name: string;
  readonly type: "STREAMING";
  readonly nodes: readonly PlanNode[];
}

/** GET /jobs/:id/plan */
export interface JobPlanMessage {
  readonly plan: Plan;
}

/** GET /jobs/:id */
export interface JobDetailsMessage {
  readonly jid: string;
  readonly "application-id": string;
  readonly name: string;
  readonly isStoppable: boolean;
  readonly state: JobStateName;
  readonly "job-type": "STREAMING";
  readonly schedulerType: "Default";
  readonly "start-time": number;
  readonly "end-time": number;
  readonly duration: number;
  readonly maxParallelism: number;
  readonly now: number;
  readonly timestamps: Readonly<Record<JobStateName, number>>;
  readonly vertices: readonly JobVertexDetails[];
  readonly "status-counts": StateCounts;
  readonly plan: Plan;
  readonly "pending-operators": number;
}

/** GET /jobs/:id/config */
export interface JobConfigMessage {
  readonly jid: string;
  readonly name: string;
  readonly "execution-config": {
    readonly "restart-strategy": string;
    readonly "job-parallelism": number;
    readonly "object-reuse-mode": boolean;
    readonly "user-config": Readonly<Record<string, string>>;
  };
}

export interface ExceptionEntry {
  readonly exceptionName: string;
  readonly stacktrace: string;
  readonly timestamp: number;
  readonly failureLabels: Readonly<Record<string, string>>;
  readonly taskName: string | null;
  readonly endpoint: string | null;
  readonly taskManagerId: string | null;
  readonly concurrentExceptions: readonly ExceptionEntry[];
}

/** GET /jobs/:id/exceptions; newest first. */
export interface JobExceptionsMessage {
  readonly exceptionHistory: { readonly entries: readonly ExceptionEntry[]; readonly truncated: boolean };
}
