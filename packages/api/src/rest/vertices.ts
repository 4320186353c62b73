// REST messages about a job's vertices and their subtasks.

import { anything, hexId, integer, list, named, number, object, oneOf, perKey, text } from "../schema.ts";
import type { Message } from "../schema.ts";
import { EXECUTION_STATE_NAMES, ExecutionStateName, IoMetrics, StateCounts } from "./jobs.ts";

/** The states whose duration is told. */
export const DURATION_STATES = ["CREATED", "SCHEDULED", "DEPLOYING", "INITIALIZING", "RUNNING"] as const;

const StatusDurations = perKey(DURATION_STATES, integer(), "Milliseconds in each state; -1: not yet.");

/** GET /jobs/:jobid/vertices/:vertexid/subtasks/:subtaskindex and .../attempts/:attempt */
export const SubtaskMessage = named(
  "Subtask",
  object({
    subtask: integer(),
    status: ExecutionStateName,
    attempt: integer(),
    endpoint: text("`host:port` of its TaskManager; `(unassigned)` before it is placed."),
    "start-time": integer(),
    "end-time": integer(),
    duration: integer(),
    metrics: IoMetrics,
    "taskmanager-id": text(),
    "status-duration": StatusDurations,
    start_time: integer("As start-time; so named before Flink 1.9."),
  }),
);
export type SubtaskMessage = Message<typeof SubtaskMessage>;

const Distribution = named(
  "Distribution",
  object({
    min: integer(),
    max: integer(),
    avg: integer(),
    sum: integer(),
    median: integer(),
    p25: integer(),
    p75: integer(),
    p95: integer(),
  }),
);
export type Distribution = Message<typeof Distribution>;

export const AGGREGATED_IO_NAMES = [
  "read-bytes",
  "write-bytes",
  "read-records",
  "write-records",
  "accumulated-backpressured-time",
  "accumulated-idle-time",
  "accumulated-busy-time",
] as const;

const Aggregated = named(
  "Aggregated",
  object({
    metrics: perKey(AGGREGATED_IO_NAMES, Distribution),
    "status-duration": perKey(DURATION_STATES, Distribution),
  }),
);
export type Aggregated = Message<typeof Aggregated>;

/** GET /jobs/:jobid/vertices/:vertexid */
export const VertexMessage = object({
  id: hexId(),
  name: text(),
  parallelism: integer(),
  maxParallelism: integer(),
  now: integer(),
  subtasks: list(SubtaskMessage),
  aggregated: Aggregated,
});
export type VertexMessage = Message<typeof VertexMessage>;

/** GET /jobs/:jobid/vertices/:vertexid/subtasktimes */
export const SubtaskTimesMessage = object({
  id: hexId(),
  name: text(),
  now: integer(),
  subtasks: list(
    object({
      subtask: integer(),
      endpoint: text(),
      duration: integer(),
      timestamps: perKey(EXECUTION_STATE_NAMES, integer(), "When each state was entered; 0: never."),
    }),
  ),
});
export type SubtaskTimesMessage = Message<typeof SubtaskTimesMessage>;

/** GET /jobs/:jobid/vertices/:vertexid/taskmanagers */
export const VertexTaskManagersMessage = object({
  id: hexId(),
  name: text(),
  now: integer(),
  taskmanagers: list(
    object({
      endpoint: text(),
      status: ExecutionStateName,
      "start-time": integer(),
      "end-time": integer(),
      duration: integer(),
      metrics: IoMetrics,
      "status-counts": StateCounts,
      "taskmanager-id": text(),
      aggregated: Aggregated,
    }),
  ),
});
export type VertexTaskManagersMessage = Message<typeof VertexTaskManagersMessage>;

const BackPressureLevel = named("BackPressureLevel", oneOf(["ok", "low", "high"]));
export type BackPressureLevel = Message<typeof BackPressureLevel>;

/** GET /jobs/:jobid/vertices/:vertexid/backpressure; the fields with a hyphen are those of older Flinks. */
export const BackPressureMessage = object({
  status: oneOf(["ok"]),
  backpressureLevel: BackPressureLevel,
  "end-timestamp": integer(),
  subtasks: list(
    object({
      subtask: integer(),
      backpressureLevel: BackPressureLevel,
      ratio: number(),
      idleRatio: number(),
      busyRatio: number(),
      "backpressure-level": BackPressureLevel,
    }),
  ),
  "backpressure-level": BackPressureLevel,
});
export type BackPressureMessage = Message<typeof BackPressureMessage>;

/** GET /jobs/:jobid/vertices/:vertexid/accumulators: there are none. */
export const VertexAccumulatorsMessage = object({ id: hexId(), "user-accumulators": list(anything()) });
export type VertexAccumulatorsMessage = Message<typeof VertexAccumulatorsMessage>;

/** GET /jobs/:jobid/vertices/:vertexid/subtasks/accumulators */
export const SubtasksAccumulatorsMessage = object({
  id: hexId(),
  parallelism: integer(),
  subtasks: list(
    object({ subtask: integer(), attempt: integer(), endpoint: text(), "user-accumulators": list(anything()) }),
  ),
});
export type SubtasksAccumulatorsMessage = Message<typeof SubtasksAccumulatorsMessage>;

/** GET .../subtasks/:subtaskindex/attempts/:attempt/accumulators */
export const AttemptAccumulatorsMessage = object({
  subtask: integer(),
  attempt: integer(),
  id: text(),
  "user-accumulators": list(anything()),
});
export type AttemptAccumulatorsMessage = Message<typeof AttemptAccumulatorsMessage>;
