// REST messages about jobs: overview, details, plan, exceptions, result.

import {
  anything,
  flag,
  hexId,
  integer,
  list,
  literal,
  map,
  named,
  nullable,
  number,
  object,
  oneOf,
  perKey,
  recursive,
  text,
} from "../schema.ts";
import type { Message } from "../schema.ts";
import { FailureCause } from "./cluster.ts";

const JOB_STATE_NAMES = [
  "INITIALIZING",
  "CREATED",
  "RUNNING",
  "FAILING",
  "FAILED",
  "CANCELLING",
  "CANCELED",
  "FINISHED",
  "RESTARTING",
  "SUSPENDED",
  "RECONCILING",
] as const;

/** Flink: JobStatus. */
export const JobStateName = named("JobState", oneOf(JOB_STATE_NAMES));
export type JobStateName = Message<typeof JobStateName>;

const EXECUTION_STATE_NAMES = [
  "CREATED",
  "SCHEDULED",
  "DEPLOYING",
  "INITIALIZING",
  "RECONCILING",
  "RUNNING",
  "FINISHED",
  "CANCELING",
  "CANCELED",
  "FAILED",
] as const;

/** Flink: ExecutionState. */
export const ExecutionStateName = named("ExecutionState", oneOf(EXECUTION_STATE_NAMES));
export type ExecutionStateName = Message<typeof ExecutionStateName>;

/** GET /jobs */
export const JobIdsMessage = object({ jobs: list(object({ id: hexId(), status: JobStateName })) });
export type JobIdsMessage = Message<typeof JobIdsMessage>;

const TASK_COUNT_NAMES = [
  ...EXECUTION_STATE_NAMES.map((name) => name.toLowerCase() as Lowercase<ExecutionStateName>),
  "total",
] as const;

export const JobOverview = named(
  "JobOverview",
  object({
    jid: hexId(),
    name: text(),
    jobType: literal("STREAMING"),
    schedulerType: literal("Default"),
    "start-time": integer(),
    "end-time": integer("-1 while the job lives"),
    duration: integer(),
    state: JobStateName,
    "last-modification": integer(),
    tasks: perKey(TASK_COUNT_NAMES, integer(), "Tasks by state in lower case, and their total."),
    "pending-operators": integer(),
  }),
);
export type JobOverview = Message<typeof JobOverview>;

/** GET /jobs/overview */
export const JobsOverviewMessage = object({ jobs: list(JobOverview) });
export type JobsOverviewMessage = Message<typeof JobsOverviewMessage>;

/** GET /jobs/:jobid/status */
export const JobStatusMessage = object({ status: JobStateName });
export type JobStatusMessage = Message<typeof JobStatusMessage>;

export const IoMetrics = named(
  "IoMetrics",
  object({
    "read-bytes": integer(),
    "read-bytes-complete": flag(),
    "write-bytes": integer(),
    "write-bytes-complete": flag(),
    "read-records": integer(),
    "read-records-complete": flag(),
    "write-records": integer(),
    "write-records-complete": flag(),
    "accumulated-backpressured-time": integer(),
    "accumulated-idle-time": integer(),
    "accumulated-busy-time": number(),
  }),
);
export type IoMetrics = Message<typeof IoMetrics>;

export const StateCounts = named("StateCounts", perKey(EXECUTION_STATE_NAMES, integer()));
export type StateCounts = Message<typeof StateCounts>;

const JobVertexDetails = named(
  "JobVertex",
  object({
    id: hexId(),
    slotSharingGroupId: hexId(),
    name: text(),
    maxParallelism: integer(),
    parallelism: integer(),
    status: ExecutionStateName,
    "start-time": integer(),
    "end-time": integer(),
    duration: integer(),
    tasks: StateCounts,
    metrics: IoMetrics,
  }),
);
export type JobVertexDetails = Message<typeof JobVertexDetails>;

const PlanNode = named(
  "PlanNode",
  object(
    {
      id: hexId(),
      operator: text(),
      parallelism: integer(),
      operator_strategy: text(),
      description: text("HTML"),
      optimizer_properties: object({}),
    },
    {
      inputs: list(
        object({ id: hexId(), num: integer(), exchange: literal("pipelined_bounded"), ship_strategy: text() }),
        "Absent for sources.",
      ),
    },
  ),
);
export type PlanNode = Message<typeof PlanNode>;

const Plan = named(
  "Plan",
  object({ jid: hexId(), name: text(), type: literal("STREAMING"), nodes: list(PlanNode, "Consumers first.") }),
);

/** GET /jobs/:jobid/plan */
export const JobPlanMessage = object({ plan: Plan });
export type JobPlanMessage = Message<typeof JobPlanMessage>;

/** GET /jobs/:jobid */
export const JobDetailsMessage = object({
  jid: hexId(),
  "application-id": hexId(),
  name: text(),
  isStoppable: flag(),
  state: JobStateName,
  "job-type": literal("STREAMING"),
  schedulerType: literal("Default"),
  "start-time": integer(),
  "end-time": integer(),
  duration: integer(),
  maxParallelism: integer(),
  now: integer(),
  timestamps: perKey(JOB_STATE_NAMES, integer(), "When each state was entered last; 0: never."),
  vertices: list(JobVertexDetails),
  "status-counts": StateCounts,
  plan: Plan,
  "pending-operators": integer(),
});
export type JobDetailsMessage = Message<typeof JobDetailsMessage>;

/** GET /jobs/:jobid/config */
export const JobConfigMessage = object({
  jid: hexId(),
  name: text(),
  "execution-config": object({
    "restart-strategy": text(),
    "job-parallelism": integer(),
    "object-reuse-mode": flag(),
    "user-config": map(text()),
  }),
});
export type JobConfigMessage = Message<typeof JobConfigMessage>;

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

export const ExceptionEntry = recursive<ExceptionEntry>("Exception", (self) =>
  object({
    exceptionName: text("Failure code, or class of the user's error."),
    stacktrace: text(),
    timestamp: integer(),
    failureLabels: map(text()),
    taskName: nullable(text()),
    endpoint: nullable(text()),
    taskManagerId: nullable(text()),
    concurrentExceptions: list(self),
  }),
);

/** GET /jobs/:jobid/exceptions; newest first. */
export const JobExceptionsMessage = object({
  exceptionHistory: object({ entries: list(ExceptionEntry), truncated: flag() }),
});
export type JobExceptionsMessage = Message<typeof JobExceptionsMessage>;

/** GET /jobs/:jobid/accumulators: there are none, and Flink's clients ask for them. */
export const JobAccumulatorsMessage = object({
  "job-accumulators": list(anything()),
  "user-task-accumulators": list(object({ name: text(), type: text(), value: text() })),
  "serialized-user-task-accumulators": map(text()),
});
export type JobAccumulatorsMessage = Message<typeof JobAccumulatorsMessage>;

/** GET /jobs/:jobid/execution-result */
export const ExecutionResultMessage = object({
  status: object({ id: oneOf(["IN_PROGRESS", "COMPLETED"]) }),
  "job-execution-result": nullable(
    object(
      {
        id: hexId(),
        name: text(),
        "application-status": oneOf(["SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN"]),
        "accumulator-results": map(text()),
        "net-runtime": integer(),
        "application-id": hexId(),
        "start-time": integer(),
        "end-time": integer(),
      },
      { "failure-cause": FailureCause },
    ),
  ),
});
export type ExecutionResultMessage = Message<typeof ExecutionResultMessage>;

/** GET and PUT /jobs/:jobid/resource-requirements: parallelism by vertex id. */
export const ResourceRequirementsMessage = map(
  object({ parallelism: object({ lowerBound: integer(), upperBound: integer() }) }),
  "By vertex id.",
);
export type ResourceRequirementsMessage = Message<typeof ResourceRequirementsMessage>;

export { EXECUTION_STATE_NAMES, JOB_STATE_NAMES };
