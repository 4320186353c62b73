// A vertex, its subtasks and how they are spread over TaskManagers, as REST messages. Pure.
//
// Not here: which path asks for which (handlers.ts), metrics (metric-messages.ts).

import { AGGREGATED_IO_NAMES, DURATION_STATES, EXECUTION_STATE_NAMES } from "@sluice/api";
import type {
  Aggregated,
  BackPressureLevel,
  BackPressureMessage,
  Distribution,
  SubtaskMessage,
  SubtasksAccumulatorsMessage,
  SubtaskTimesMessage,
  VertexMessage,
  VertexTaskManagersMessage,
} from "@sluice/api";
import type { PlanVertex } from "../../model/index.ts";
import { ascending, quantileOf, sumOf } from "./distribution.ts";
import { aggregateState, countStates, ioMetrics, spanOf } from "./job-messages.ts";
import { Refusal } from "./refusal.ts";
import type { ExecutionState, JobView, SubtaskView } from "./source.ts";

/** A vertex of the plan with its subtasks. */
export interface Vertex {
  readonly planned: PlanVertex;
  readonly subtasks: readonly SubtaskView[];
}

/** Refuses an id that the plan does not have. */
export function findVertex(job: JobView, vertexId: string): Vertex {
  const planned = job.plan.vertices.find(({ id }) => id === vertexId.toLowerCase());
  if (planned === undefined) throw Refusal.notFound(`JobVertex ${vertexId} not found`);
  return { planned, subtasks: job.vertices.find(({ id }) => id === planned.id)?.subtasks ?? [] };
}

export function findSubtask(vertex: Vertex, index: string): SubtaskView {
  const subtask = vertex.subtasks[Number(index)];
  if (subtask === undefined) throw Refusal.notFound(`Could not find subtask ${index} of vertex ${vertex.planned.id}.`);
  return subtask;
}

/** Only the current attempt is known. */
export function findAttempt(vertex: Vertex, index: string, attempt: string): SubtaskView {
  const subtask = findSubtask(vertex, index);
  if (subtask.attempt === Number(attempt)) return subtask;
  throw Refusal.notFound(
    `Could not find attempt ${attempt} of subtask ${index}: only its current one, ${subtask.attempt}, is known.`,
  );
}

export function vertexMessage(vertex: Vertex, nowMs: number): VertexMessage {
  const { id, name, parallelism, maxParallelism } = vertex.planned;
  const subtasks = vertex.subtasks.map((subtask) => subtaskMessage(subtask, nowMs));
  return { id, name, parallelism, maxParallelism, now: nowMs, subtasks, aggregated: aggregated(subtasks) };
}

export function subtaskMessage(subtask: SubtaskView, nowMs: number): SubtaskMessage {
  const { startMs, endMs, durationMs } = spanOf([subtask], nowMs);
  return {
    subtask: subtask.subtaskIndex,
    status: subtask.state,
    attempt: subtask.attempt,
    endpoint: endpointOf(subtask),
    "start-time": startMs,
    "end-time": endMs,
    duration: durationMs,
    metrics: ioMetrics([subtask]),
    "taskmanager-id": taskManagerIdOf(subtask),
    "status-duration": statusDurations(subtask, nowMs),
    start_time: startMs,
  };
}

export function subtaskTimes(vertex: Vertex, nowMs: number): SubtaskTimesMessage {
  const { id, name } = vertex.planned;
  return {
    id,
    name,
    now: nowMs,
    subtasks: vertex.subtasks.map((subtask) => ({
      subtask: subtask.subtaskIndex,
      endpoint: endpointOf(subtask),
      duration:
        subtask.enteredAtMs.SCHEDULED === 0
          ? -1
          : (subtask.endedAtMs >= 0 ? subtask.endedAtMs : nowMs) - subtask.enteredAtMs.SCHEDULED,
      timestamps: subtask.enteredAtMs,
    })),
  };
}

export function vertexTaskManagers(vertex: Vertex, nowMs: number): VertexTaskManagersMessage {
  const { id, name } = vertex.planned;
  const byTaskManager = Map.groupBy(vertex.subtasks, taskManagerIdOf);
  return {
    id,
    name,
    now: nowMs,
    taskmanagers: [...byTaskManager].map(([taskManagerId, subtasks]) => {
      const { startMs, endMs, durationMs } = spanOf(subtasks, nowMs);
      const counts = countStates(subtasks.map(({ state }) => state));
      return {
        endpoint: endpointOf(subtasks[0] as SubtaskView),
        status: aggregateState(counts, subtasks.length),
        "start-time": startMs,
        "end-time": endMs,
        duration: durationMs,
        metrics: ioMetrics(subtasks),
        "status-counts": counts,
        "taskmanager-id": taskManagerId,
        aggregated: aggregated(subtasks.map((subtask) => subtaskMessage(subtask, nowMs))),
      };
    }),
  };
}

/** Flink: JobVertexBackPressureHandler. Subtasks without a heartbeat yet are left out. */
export function backPressure(vertex: Vertex, nowMs: number): BackPressureMessage {
  const ratio = (subtask: SubtaskView, figure: string): number => (subtask.figures[figure] ?? 0) / 1_000;
  const subtasks = vertex.subtasks
    .filter(({ figures }) => figures["backPressuredTimeMsPerSecond"] !== undefined)
    .map((subtask) => {
      const held = ratio(subtask, "backPressuredTimeMsPerSecond");
      return {
        subtask: subtask.subtaskIndex,
        backpressureLevel: levelOf(held),
        ratio: held,
        idleRatio: ratio(subtask, "idleTimeMsPerSecond"),
        busyRatio: ratio(subtask, "busyTimeMsPerSecond"),
        "backpressure-level": levelOf(held),
      };
    });
  const level = levelOf(Math.max(0, ...subtasks.map((subtask) => subtask.ratio)));
  return { status: "ok", backpressureLevel: level, "end-timestamp": nowMs, subtasks, "backpressure-level": level };
}

export function subtasksAccumulators(vertex: Vertex): SubtasksAccumulatorsMessage {
  return {
    id: vertex.planned.id,
    parallelism: vertex.planned.parallelism,
    subtasks: vertex.subtasks.map((subtask) => ({
      subtask: subtask.subtaskIndex,
      attempt: subtask.attempt,
      endpoint: endpointOf(subtask),
      "user-accumulators": [],
    })),
  };
}

function levelOf(ratio: number): BackPressureLevel {
  return ratio <= 0.1 ? "ok" : ratio <= 0.5 ? "low" : "high";
}

function endpointOf(subtask: SubtaskView): string {
  return subtask.endpoint === "" ? "(unassigned)" : subtask.endpoint;
}

function taskManagerIdOf(subtask: SubtaskView): string {
  return subtask.taskManagerId === "" ? "(unassigned)" : subtask.taskManagerId;
}

/** Flink: StatusDurationUtils. -1: the state was never entered. */
function statusDurations(subtask: SubtaskView, nowMs: number): SubtaskMessage["status-duration"] {
  const { enteredAtMs } = subtask;
  const leftAtMs = (state: ExecutionState): number => {
    const later = EXECUTION_STATE_NAMES.map((other) => enteredAtMs[other]).filter(
      (atMs, i) => EXECUTION_STATE_NAMES[i] !== state && atMs >= enteredAtMs[state],
    );
    return subtask.state === state ? nowMs : Math.min(nowMs, ...later);
  };
  return Object.fromEntries(
    DURATION_STATES.map((state) => [state, enteredAtMs[state] === 0 ? -1 : leftAtMs(state) - enteredAtMs[state]]),
  ) as SubtaskMessage["status-duration"];
}

function aggregated(subtasks: readonly SubtaskMessage[]): Aggregated {
  return {
    metrics: Object.fromEntries(
      AGGREGATED_IO_NAMES.map((name) => [name, distribution(subtasks.map(({ metrics }) => metrics[name]))]),
    ) as Aggregated["metrics"],
    "status-duration": Object.fromEntries(
      DURATION_STATES.map((state) => [
        state,
        distribution(subtasks.map((subtask) => subtask["status-duration"][state]).filter((ms) => ms >= 0)),
      ]),
    ) as Aggregated["status-duration"],
  };
}

function distribution(values: readonly number[]): Distribution {
  if (values.length === 0) return { min: 0, max: 0, avg: 0, sum: 0, median: 0, p25: 0, p75: 0, p95: 0 };
  const sorted = ascending(values);
  const at = (q: number): number => Math.trunc(quantileOf(sorted, q));
  const sum = sumOf(values);
  return {
    min: Math.trunc(sorted[0] as number),
    max: Math.trunc(sorted.at(-1) as number),
    avg: Math.trunc(sum / values.length),
    sum: Math.trunc(sum),
    median: at(0.5),
    p25: at(0.25),
    p75: at(0.75),
    p95: at(0.95),
  };
}
