// The job, its vertices, its plan and its failures as REST messages. Pure.
//
// Not here: which path asks for which (routes.ts), checkpoints (checkpoint-messages.ts).

import { EXECUTION_STATE_NAMES } from "@sluice/api";
import type {
  ExceptionEntry,
  ExecutionResultMessage,
  FailureCause,
  IoMetrics,
  JobConfigMessage,
  JobDetailsMessage,
  JobExceptionsMessage,
  JobOverview,
  JobPlanMessage,
  JobVertexDetails,
  PlanNode,
  StateCounts,
} from "@sluice/api";
import { formatDuration } from "@sluice/kit";
import { configurationOf, PipelineOptions, runtimeSettings } from "../../model/index.ts";
import type { PlanVertex, RestartSettings } from "../../model/index.ts";
import { serializedThrowable } from "./java-throwable.ts";
import type { ExceptionView, ExecutionState, JobView, SubtaskView } from "./source.ts";

/** One entry of GET /jobs/overview. */
export function jobOverview(job: JobView, nowMs: number): JobOverview {
  const subtasks = job.vertices.flatMap((vertex) => vertex.subtasks);
  const counts = Object.fromEntries(
    Object.entries(countStates(subtasks.map((subtask) => subtask.state))).map(([state, count]) => [
      state.toLowerCase(),
      count,
    ]),
  ) as Record<Lowercase<ExecutionState>, number>;
  return {
    jid: job.jid,
    name: job.plan.jobName,
    jobType: "STREAMING",
    schedulerType: "Default",
    "start-time": job.startedAtMs,
    "end-time": job.endedAtMs,
    duration: (job.endedAtMs >= 0 ? job.endedAtMs : nowMs) - job.startedAtMs,
    state: job.state,
    "last-modification": job.lastModifiedAtMs,
    tasks: { ...counts, total: subtasks.length },
    "pending-operators": 0,
  };
}

/** GET /jobs/:id */
export function jobDetails(job: JobView, nowMs: number): JobDetailsMessage {
  const vertices = job.plan.vertices.map((vertex) => vertexDetails(job, vertex, nowMs));
  const maxParallelism = configurationOf(job.configuration).get(PipelineOptions.MAX_PARALLELISM);
  return {
    jid: job.jid,
    "application-id": job.jid,
    name: job.plan.jobName,
    isStoppable: false, // what Flink says of every job
    state: job.state,
    "job-type": "STREAMING",
    schedulerType: "Default",
    "start-time": job.startedAtMs,
    "end-time": job.endedAtMs,
    duration: (job.endedAtMs >= 0 ? job.endedAtMs : nowMs) - job.startedAtMs,
    maxParallelism,
    now: nowMs,
    timestamps: job.timestamps,
    vertices,
    "status-counts": countStates(vertices.map((vertex) => vertex.status)),
    plan: jobPlan(job).plan,
    "pending-operators": 0,
  };
}

/** GET /jobs/:id/plan; consumers first, as Flink lists them. */
export function jobPlan(job: JobView): JobPlanMessage {
  return {
    plan: {
      jid: job.jid,
      name: job.plan.jobName,
      type: "STREAMING",
      nodes: job.plan.vertices.toReversed().map(planNode),
    },
  };
}

/** GET /jobs/:id/config */
export function jobConfig(job: JobView): JobConfigMessage {
  const configuration = configurationOf(job.configuration);
  const { restart } = runtimeSettings(configuration);
  return {
    jid: job.jid,
    name: job.plan.jobName,
    "execution-config": {
      "restart-strategy": describeRestarts(restart),
      "job-parallelism": configuration.get(PipelineOptions.PARALLELISM),
      "object-reuse-mode": false,
      "user-config": job.configuration,
    },
  };
}

function describeRestarts(restart: RestartSettings): string {
  switch (restart.type) {
    case "none":
      return "No restarts.";
    case "fixed-delay":
      return `Restart with fixed delay (${formatDuration(restart.delayMs)}). #${restart.attemptsMax} restart attempts.`;
    case "failure-rate": {
      const { failuresMax, intervalMs, delayMs } = restart;
      return `Failure rate restart with maximum of ${failuresMax} failures within interval ${formatDuration(intervalMs)} and fixed delay ${formatDuration(delayMs)}.`;
    }
    case "exponential-delay":
      return `Restart with exponential delay (${formatDuration(restart.initialMs)} to ${formatDuration(restart.maxMs)}).`;
  }
}

/** GET /jobs/:id/exceptions */
export function jobExceptions(job: JobView, countMax: number): JobExceptionsMessage {
  return {
    exceptionHistory: {
      entries: job.exceptions.slice(0, countMax).map(exceptionEntry),
      truncated: job.exceptionsTruncated || job.exceptions.length > countMax,
    },
  };
}

const APPLICATION_STATUS = {
  FINISHED: "SUCCEEDED",
  CANCELED: "CANCELED",
  FAILED: "FAILED",
} as const;

/** GET /jobs/:jobid/execution-result */
export function executionResult(job: JobView): ExecutionResultMessage {
  const { state } = job;
  if (state !== "FINISHED" && state !== "CANCELED" && state !== "FAILED")
    return { status: { id: "IN_PROGRESS" }, "job-execution-result": null };
  const [exception] = job.exceptions;
  return {
    status: { id: "COMPLETED" },
    "job-execution-result": {
      id: job.jid,
      name: job.plan.jobName,
      "application-status": APPLICATION_STATUS[state],
      "accumulator-results": {},
      "net-runtime": job.endedAtMs - job.startedAtMs,
      "application-id": job.jid,
      "start-time": job.startedAtMs,
      "end-time": job.endedAtMs,
      ...(state === "FAILED" && exception !== undefined ? { "failure-cause": jobFailure(exception) } : {}),
    },
  };
}

function jobFailure({ name, text }: ExceptionView): FailureCause {
  const [first = ""] = text.split("\n");
  const message = first.startsWith(`${name}: `) ? first.slice(name.length + 2) : first;
  return {
    class: name,
    "stack-trace": text,
    "serialized-throwable": serializedThrowable({ className: name, message, stackTrace: text }),
  };
}

function exceptionEntry(exception: ExceptionView): ExceptionEntry {
  return {
    exceptionName: exception.name,
    stacktrace: exception.text,
    timestamp: exception.atMs,
    failureLabels: {},
    taskName: exception.taskName,
    endpoint: exception.endpoint,
    taskManagerId: exception.taskManagerId,
    concurrentExceptions: [],
  };
}

function vertexDetails(job: JobView, vertex: PlanVertex, nowMs: number): JobVertexDetails {
  const subtasks = job.vertices.find((candidate) => candidate.id === vertex.id)?.subtasks ?? [];
  const tasks = countStates(subtasks.map((subtask) => subtask.state));
  const { startMs, endMs, durationMs } = spanOf(subtasks, nowMs);
  return {
    id: vertex.id,
    slotSharingGroupId: job.jid, // all vertices share the slots
    name: vertex.name,
    maxParallelism: vertex.maxParallelism,
    parallelism: vertex.parallelism,
    status: aggregateState(tasks, vertex.parallelism),
    "start-time": startMs,
    "end-time": endMs,
    duration: durationMs,
    tasks,
    metrics: ioMetrics(subtasks),
  };
}

/** When the first of them began and, once all have ended, the last one ended; -1: not yet. */
export function spanOf(
  subtasks: readonly SubtaskView[],
  nowMs: number,
): { readonly startMs: number; readonly endMs: number; readonly durationMs: number } {
  const started = subtasks.map((subtask) => subtask.startedAtMs).filter((time) => time >= 0);
  const ended = subtasks.map((subtask) => subtask.endedAtMs).filter((time) => time >= 0);
  const startMs = started.length === 0 ? -1 : Math.min(...started);
  const endMs = ended.length > 0 && ended.length === subtasks.length ? Math.max(...ended) : -1;
  return { startMs, endMs, durationMs: startMs < 0 ? -1 : (endMs >= 0 ? endMs : nowMs) - startMs };
}

export function ioMetrics(subtasks: readonly SubtaskView[]): IoMetrics {
  const sum = (value: (subtask: SubtaskView) => number): number =>
    subtasks.reduce((total, subtask) => total + value(subtask), 0);
  const complete = subtasks.every((subtask) => subtask.runningAtMs >= 0);
  return {
    "read-bytes": sum((s) => s.metrics.readBytes),
    "read-bytes-complete": complete,
    "write-bytes": sum((s) => s.metrics.writeBytes),
    "write-bytes-complete": complete,
    "read-records": sum((s) => s.metrics.readRecords),
    "read-records-complete": complete,
    "write-records": sum((s) => s.metrics.writeRecords),
    "write-records-complete": complete,
    "accumulated-backpressured-time": Math.round(sum((s) => s.metrics.backPressuredMs)),
    "accumulated-idle-time": Math.round(sum((s) => s.metrics.idleMs)),
    "accumulated-busy-time": Math.round(sum((s) => s.metrics.busyMs)),
  };
}

export function countStates(states: readonly ExecutionState[]): StateCounts {
  const counts = Object.fromEntries(EXECUTION_STATE_NAMES.map((state) => [state, 0])) as Record<ExecutionState, number>;
  for (const state of states) counts[state] += 1;
  return counts;
}

/** Flink: ExecutionJobVertex.getAggregateJobVertexState. */
export function aggregateState(counts: StateCounts, parallelism: number): ExecutionState {
  if (counts.FAILED > 0) return "FAILED";
  if (counts.CANCELING > 0) return "CANCELING";
  if (counts.CANCELED > 0) return "CANCELED";
  if (counts.INITIALIZING > 0) return "INITIALIZING";
  if (counts.RUNNING > 0) return "RUNNING";
  if (counts.FINISHED > 0) return counts.FINISHED === parallelism ? "FINISHED" : "RUNNING";
  return "CREATED";
}

function planNode(vertex: PlanVertex): PlanNode {
  const [head, ...chained] = vertex.chain.map((operator) => escapeHtml(operator.description ?? operator.name));
  return {
    id: vertex.id,
    operator: "",
    parallelism: vertex.parallelism,
    operator_strategy: "",
    description: `${head ?? ""}<br/>${chained.map((name) => `+- ${name}<br/>`).join("")}`,
    optimizer_properties: {},
    ...(vertex.inputs.length === 0
      ? {}
      : {
          inputs: vertex.inputs.map((edge, num) => ({
            id: edge.sourceVertexId,
            num,
            exchange: "pipelined_bounded" as const,
            ship_strategy: edge.partitioning,
          })),
        }),
  };
}

/** Descriptions are HTML in Flink's API, and names come from users. */
function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
