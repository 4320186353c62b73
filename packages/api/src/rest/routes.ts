// Every route of a JobManager's REST: paths and shapes are Flink's, except where the summary says "Sluice".
//
// Invariants:
//   RD1. The server answers exactly these routes, each with and without `/v1` in front; the OpenAPI document is made of them.
//   RD2. Segments that begin with a colon are parameters, all of them described in PATH_PARAMETERS.
//
// Not here: answering (runtime/src/jobmanager/rest), the document (openapi.ts).

import { anything } from "../schema.ts";
import type { Schema } from "../schema.ts";
import {
  CheckpointConfigMessage,
  CheckpointHistoryEntry,
  CheckpointingMessage,
  CheckpointSubtasksMessage,
} from "./checkpoints.ts";
import {
  AggregatedMetricsMessage,
  ClusterConfigMessage,
  ClusterOverviewMessage,
  ConfigurationMessage,
  DatasetsMessage,
  EmptyMessage,
  EnvironmentMessage,
  HealthMessage,
  LogListMessage,
  MetricsMessage,
  TaskManagerDetailsMessage,
  TaskManagersMessage,
} from "./cluster.ts";
import {
  ExecutionResultMessage,
  JobAccumulatorsMessage,
  JobConfigMessage,
  JobDetailsMessage,
  JobExceptionsMessage,
  JobIdsMessage,
  JobPlanMessage,
  JobsOverviewMessage,
  JobStatusMessage,
  ResourceRequirementsMessage,
} from "./jobs.ts";
import {
  CheckpointStatusMessage,
  CheckpointTriggerRequest,
  DisposalRequest,
  DisposalStatusMessage,
  SavepointStatusMessage,
  SavepointTriggerRequest,
  StopRequest,
  TriggerMessage,
  UnpinRequest,
} from "./operations.ts";
import { SluiceStatusMessage } from "./status.ts";
import {
  AttemptAccumulatorsMessage,
  BackPressureMessage,
  SubtaskMessage,
  SubtasksAccumulatorsMessage,
  SubtaskTimesMessage,
  VertexAccumulatorsMessage,
  VertexMessage,
  VertexTaskManagersMessage,
} from "./vertices.ts";

export type RouteMethod = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

export interface RouteDescription {
  readonly method: RouteMethod;
  readonly path: `/${string}`;
  readonly summary: string;
  /** Query parameters and what they are. */
  readonly query?: Readonly<Record<string, string>>;
  /** Of the request; a request without one counts as `{}`. */
  readonly body?: Schema<unknown>;
  /** Takes the id of an operation (RO1). */
  readonly takesOperationId?: true;
  readonly status: 200 | 202;
  /** Text: plain text of the media type. */
  readonly response: Schema<unknown> | "text/plain";
}

/** What the parameters in paths are, and what they look like. */
export const PATH_PARAMETERS = {
  jobid: { pattern: "^[0-9a-fA-F]{32}$", description: "Id of a job." },
  vertexid: { pattern: "^[0-9a-fA-F]{32}$", description: "Id of a vertex of the job." },
  triggerid: { pattern: "^[0-9a-fA-F]{32}$", description: "Id of an operation." },
  checkpointid: { pattern: "^[0-9]{1,15}$", description: "Number of a checkpoint." },
  subtaskindex: { pattern: "^[0-9]{1,9}$", description: "Index of a subtask, from 0." },
  attempt: { pattern: "^[0-9]{1,9}$", description: "Attempt of a subtask, from 0." },
  taskmanagerid: { pattern: "^.+$", description: "Id of a TaskManager." },
  filename: { pattern: "^.+$", description: "Name of a log." },
} as const satisfies Readonly<Record<string, { readonly pattern: string; readonly description: string }>>;

export type PathParameterName = keyof typeof PATH_PARAMETERS;

const GET_METRICS = { get: "Names of metrics, separated by commas; without it the names are listed." };
const AGGREGATE = { ...GET_METRICS, agg: "Some of min, max, avg, sum, skew, separated by commas; default: all." };

const get = <const P extends `/${string}`, S extends Schema<unknown> | "text/plain">(
  path: P,
  response: S,
  summary: string,
  query?: Readonly<Record<string, string>>,
): { method: "GET"; path: P; summary: string; status: 200; response: S; query?: Readonly<Record<string, string>> } => ({
  method: "GET",
  path,
  summary,
  status: 200,
  response,
  ...(query === undefined ? {} : { query }),
});

const JOB = "/jobs/:jobid";
const VERTEX = `${JOB}/vertices/:vertexid`;
const SUBTASK = `${VERTEX}/subtasks/:subtaskindex`;

/** By name; the server has one handler per name. */
export const REST_ROUTES = {
  // Sluice's own
  health: get("/health", HealthMessage, "Sluice: whether the process answers. Needs no token."),
  openApi: get("/openapi.json", anything("This document."), "Sluice: this document."),
  prometheus: get("/metrics", "text/plain", "Sluice: metrics in Prometheus' text format, under Flink's names."),

  sluiceStatus: get("/sluice/status", SluiceStatusMessage, "Sluice: the job, its TaskManagers, checkpoints and log."),

  // the cluster
  overview: get("/overview", ClusterOverviewMessage, "Slots and jobs."),
  config: get("/config", ClusterConfigMessage, "Version and features of the API."),
  datasets: get("/datasets", DatasetsMessage, "Cluster data sets: there are none."),
  shutdown: {
    method: "DELETE",
    path: "/cluster",
    summary: "Ends the processes; the job is suspended and can be continued.",
    status: 200,
    response: EmptyMessage,
  },
  jobManagerConfig: get("/jobmanager/config", ConfigurationMessage, "Configuration in force."),
  jobManagerEnvironment: get("/jobmanager/environment", EnvironmentMessage, "The JobManager's process."),
  jobManagerMetrics: get("/jobmanager/metrics", MetricsMessage, "Metrics of the JobManager.", GET_METRICS),
  jobManagerLogs: get("/jobmanager/logs", LogListMessage, "The logs that can be read."),
  jobManagerLog: get("/jobmanager/log", "text/plain", "The newest lines of the JobManager's log."),
  jobManagerLogFile: get("/jobmanager/logs/:filename", "text/plain", "The newest lines of a log."),
  taskManagers: get("/taskmanagers", TaskManagersMessage, "The registered TaskManagers."),
  taskManagersMetrics: get("/taskmanagers/metrics", AggregatedMetricsMessage, "Metrics over TaskManagers.", {
    ...AGGREGATE,
    taskmanagers: "Ids of TaskManagers, separated by commas; default: all.",
  }),
  taskManager: get("/taskmanagers/:taskmanagerid", TaskManagerDetailsMessage, "One TaskManager."),
  taskManagerMetrics: get(
    "/taskmanagers/:taskmanagerid/metrics",
    MetricsMessage,
    "Metrics of one TaskManager.",
    GET_METRICS,
  ),

  // jobs
  jobs: get("/jobs", JobIdsMessage, "Ids and states."),
  jobsOverview: get("/jobs/overview", JobsOverviewMessage, "States and tasks of all jobs."),
  jobsMetrics: get("/jobs/metrics", AggregatedMetricsMessage, "Metrics over jobs.", {
    ...AGGREGATE,
    jobs: "Ids of jobs, separated by commas; default: all.",
  }),
  job: get(JOB, JobDetailsMessage, "The job, its vertices and its plan."),
  cancelJob: {
    method: "PATCH",
    path: JOB,
    summary: "Cancels the job.",
    query: { mode: "cancel" },
    takesOperationId: true,
    status: 202,
    response: EmptyMessage,
  },
  jobStatus: get(`${JOB}/status`, JobStatusMessage, "The job's state."),
  jobPlan: get(`${JOB}/plan`, JobPlanMessage, "The job's graph."),
  jobConfig: get(`${JOB}/config`, JobConfigMessage, "The job's settings."),
  jobExceptions: get(`${JOB}/exceptions`, JobExceptionsMessage, "What failed, newest first.", {
    maxExceptions: "At most so many; default: all that are remembered (web.exception-history-size).",
  }),
  jobAccumulators: get(`${JOB}/accumulators`, JobAccumulatorsMessage, "Accumulators: there are none.", {
    includeSerializedValue: "true or false",
  }),
  jobResult: get(`${JOB}/execution-result`, ExecutionResultMessage, "How the job ended."),
  jobMetrics: get(`${JOB}/metrics`, MetricsMessage, "Metrics of the job.", GET_METRICS),
  jobJobManagerConfig: get(`${JOB}/jobmanager/config`, ConfigurationMessage, "Configuration in force."),
  jobJobManagerEnvironment: get(`${JOB}/jobmanager/environment`, EnvironmentMessage, "The JobManager's process."),
  resourceRequirements: get(
    `${JOB}/resource-requirements`,
    ResourceRequirementsMessage,
    "The parallelism that was asked for; before anybody asked the one that each vertex has, as both bounds.",
  ),
  updateResourceRequirements: {
    method: "PUT",
    path: `${JOB}/resource-requirements`,
    summary: "Rescales the running job: a checkpoint, then a restart from it at the new parallelism.",
    body: ResourceRequirementsMessage,
    takesOperationId: true,
    status: 200,
    response: EmptyMessage,
  },

  // checkpoints and savepoints
  checkpoints: get(`${JOB}/checkpoints`, CheckpointingMessage, "Counts, summary, the newest, history."),
  checkpointConfig: get(`${JOB}/checkpoints/config`, CheckpointConfigMessage, "Settings of checkpointing."),
  checkpoint: get(`${JOB}/checkpoints/details/:checkpointid`, CheckpointHistoryEntry, "One checkpoint."),
  checkpointSubtasks: get(
    `${JOB}/checkpoints/details/:checkpointid/subtasks/:vertexid`,
    CheckpointSubtasksMessage,
    "One vertex's share of a checkpoint.",
  ),
  triggerCheckpoint: {
    method: "POST",
    path: `${JOB}/checkpoints`,
    summary: "Takes a checkpoint now.",
    body: CheckpointTriggerRequest,
    takesOperationId: true,
    status: 202,
    response: TriggerMessage,
  },
  checkpointStatus: get(
    `${JOB}/checkpoints/:triggerid`,
    CheckpointStatusMessage,
    "What came of a triggered checkpoint.",
  ),
  triggerSavepoint: {
    method: "POST",
    path: `${JOB}/savepoints`,
    summary: "Takes a savepoint.",
    body: SavepointTriggerRequest,
    takesOperationId: true,
    status: 202,
    response: TriggerMessage,
  },
  stopWithSavepoint: {
    method: "POST",
    path: `${JOB}/stop`,
    summary: "Stops the job with a savepoint.",
    body: StopRequest,
    takesOperationId: true,
    status: 202,
    response: TriggerMessage,
  },
  savepointStatus: get(`${JOB}/savepoints/:triggerid`, SavepointStatusMessage, "What came of a savepoint or a stop."),
  disposeSavepoint: {
    method: "POST",
    path: "/savepoint-disposal",
    summary: "Deletes a savepoint.",
    body: DisposalRequest,
    takesOperationId: true,
    status: 202,
    response: TriggerMessage,
  },
  disposalStatus: get("/savepoint-disposal/:triggerid", DisposalStatusMessage, "What came of a disposal."),

  unpin: {
    method: "POST",
    path: `${JOB}/unpin`,
    summary: "Sluice: lets go of the snapshots that starts of the job keep (what they continued from).",
    body: UnpinRequest,
    takesOperationId: true,
    status: 202,
    response: TriggerMessage,
  },
  unpinStatus: get(`${JOB}/unpin/:triggerid`, DisposalStatusMessage, "Sluice: what came of it."),

  // vertices and subtasks
  vertex: get(VERTEX, VertexMessage, "One vertex and its subtasks."),
  vertexAccumulators: get(`${VERTEX}/accumulators`, VertexAccumulatorsMessage, "Accumulators: there are none."),
  vertexBackPressure: get(`${VERTEX}/backpressure`, BackPressureMessage, "How busy, idle and held back subtasks are."),
  vertexMetrics: get(`${VERTEX}/metrics`, MetricsMessage, "Metrics of all subtasks, `INDEX.NAME`.", GET_METRICS),
  vertexWatermarks: get(
    `${VERTEX}/watermarks`,
    MetricsMessage,
    "Input watermarks by subtask; empty without event time.",
  ),
  vertexOperatorMetrics: get(
    `${VERTEX}/jm-operator-metrics`,
    MetricsMessage,
    "Metrics of split enumerators.",
    GET_METRICS,
  ),
  vertexTaskManagers: get(`${VERTEX}/taskmanagers`, VertexTaskManagersMessage, "The vertex by TaskManager."),
  subtaskTimes: get(`${VERTEX}/subtasktimes`, SubtaskTimesMessage, "When subtasks entered their states."),
  subtasksMetrics: get(`${VERTEX}/subtasks/metrics`, AggregatedMetricsMessage, "Metrics over subtasks.", {
    ...AGGREGATE,
    subtasks: "Indices and ranges, separated by commas: 0,2-4; default: all.",
  }),
  subtasksAccumulators: get(
    `${VERTEX}/subtasks/accumulators`,
    SubtasksAccumulatorsMessage,
    "Accumulators: there are none.",
  ),
  subtask: get(SUBTASK, SubtaskMessage, "One subtask: its current attempt."),
  subtaskMetrics: get(`${SUBTASK}/metrics`, MetricsMessage, "Metrics of one subtask.", GET_METRICS),
  subtaskAttempt: get(`${SUBTASK}/attempts/:attempt`, SubtaskMessage, "One attempt of a subtask: the current one."),
  attemptAccumulators: get(
    `${SUBTASK}/attempts/:attempt/accumulators`,
    AttemptAccumulatorsMessage,
    "Accumulators: there are none.",
  ),
} as const satisfies Readonly<Record<string, RouteDescription>>;

export type RouteName = keyof typeof REST_ROUTES;

type ParameterNames<P extends string> = P extends `${string}:${infer Name}/${infer Rest}`
  ? Name | ParameterNames<Rest>
  : P extends `${string}:${infer Name}`
    ? Name
    : never;

/** The parameters in the path of a route. */
export type RouteParameters<N extends RouteName> = {
  readonly [K in ParameterNames<(typeof REST_ROUTES)[N]["path"]>]: string;
};
