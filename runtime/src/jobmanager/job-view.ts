// Snapshots of the job for REST and /metrics (rest/source.ts).

import type { ObjectStore } from "@sluice/kit/env";
import { placeName } from "../checkpoint/index.ts";
import type {
  CheckpointConfig,
  CheckpointStatsSnapshot,
  CommitRecord,
  ResourceRequirements,
} from "../checkpoint/index.ts";
import type { JobPlan } from "../model/index.ts";
import { subtaskKey } from "../model/index.ts";
import type { JobHistory } from "./job-history.ts";
import type { JobView, LogView, RestoreSummary, SubtaskMetrics, SubtaskView, TaskManagerView } from "./rest/source.ts";
import { requirementsOf } from "./rescale.ts";
import type { SchedulerState } from "./scheduler.ts";
import type { TaskManagerEntry } from "./task-managers.ts";

const NO_CHECKPOINTS: CheckpointStatsSnapshot = {
  counts: { restored: 0, total: 0, inProgress: 0, completed: 0, failed: 0 },
  latestCompleted: null,
  latestSavepoint: null,
  latestFailed: null,
  latestRestored: null,
  history: [],
  completedDurationsMs: [],
  completedSizesBytes: [],
};

export interface JobViewOptions {
  readonly jobId: string;
  readonly plan: JobPlan;
  readonly state: SchedulerState;
  readonly history: JobHistory;
  readonly restartCount: number;
  readonly taskManagers: readonly TaskManagerEntry[];
  readonly checkpoints: CheckpointStatsSnapshot | undefined;
  readonly checkpointConfig: CheckpointConfig;
  readonly configuration: Readonly<Record<string, string>>;
  readonly storeUri: string | undefined;
  readonly restored: RestoreSummary | undefined;
  readonly rescaleCount: number;
  readonly requirements: ResourceRequirements | undefined;
}

export function jobView(options: JobViewOptions): JobView {
  const { plan, state, history, taskManagers } = options;
  const metrics = new Map<string, Readonly<Record<string, number>>>();
  for (const { report } of taskManagers) {
    if (report?.running?.attempt !== state.deployment?.attempt) continue; // of an attempt that is over
    for (const { subtask, counters } of report?.tasks ?? []) metrics.set(subtaskKey(subtask), counters);
  }
  const endpoints = new Map(
    taskManagers.map(({ registration }) => [registration.taskManagerId, registration.dataAddress]),
  );
  const subtaskView = (vertexId: string, subtaskIndex: number): SubtaskView => {
    const key = subtaskKey({ vertexId, subtaskIndex });
    const times = history.task(key);
    const taskManagerId = state.deployment?.owners[subtaskIndex] ?? "";
    return {
      subtaskIndex,
      state: state.executions.get(key) ?? times.state,
      attempt: times.attempt,
      endpoint: endpoints.get(taskManagerId) ?? "",
      taskManagerId,
      startedAtMs: times.startedAtMs,
      endedAtMs: times.endedAtMs,
      runningAtMs: times.runningAtMs,
      enteredAtMs: times.enteredAtMs,
      metrics: subtaskMetrics(times.counters ?? metrics.get(key) ?? {}),
      figures: metrics.get(key) ?? {},
    };
  };
  return {
    jid: options.jobId,
    state: state.job,
    ...history.times(),
    startedAtMs: history.startedAtMs,
    endedAtMs: history.endedAtMs,
    lastModifiedAtMs: history.modifiedAtMs,
    plan,
    vertices: plan.vertices.map(({ id, parallelism }) => ({
      id,
      subtasks: Array.from({ length: parallelism }, (_, i) => subtaskView(id, i)),
    })),
    restartCount: options.restartCount,
    ...history.exceptions(),
    checkpoints: options.checkpoints ?? NO_CHECKPOINTS,
    checkpointConfig: options.checkpointConfig,
    configuration: options.configuration,
    storeUri: options.storeUri,
    restored: options.restored,
    rescaleCount: options.rescaleCount,
    requirements: options.requirements ?? requirementsOf(plan),
  };
}

/** What a record of the log says, with places as people name them. */
export function logView(store: Pick<ObjectStore, "uri">, record: CommitRecord): LogView {
  const { seq, epoch, uid, lineage, submission, jobState, closed, head, pins } = record;
  return {
    seq,
    epoch,
    uid,
    lineage,
    submission,
    jobState,
    closed,
    head: head === null ? null : { id: head.id, path: placeName(store, head.path) },
    pins: pins.map(({ holder, ref }) => ({ holder, id: ref.id, path: placeName(store, ref.path) })),
  };
}

function subtaskMetrics(counters: Readonly<Record<string, number>>): SubtaskMetrics {
  return {
    readRecords: counters["numRecordsIn"] ?? 0,
    readBytes: counters["numBytesIn"] ?? 0,
    writeRecords: counters["numRecordsOut"] ?? 0,
    writeBytes: counters["numBytesOut"] ?? 0,
    busyMs: counters["busyTimeMs"] ?? 0,
    idleMs: counters["idleTimeMs"] ?? 0,
    backPressuredMs: counters["backPressuredTimeMs"] ?? 0,
  };
}

export function taskManagerView(entry: TaskManagerEntry, state: SchedulerState): TaskManagerView {
  const { registration, report, peer, lastHeartbeatWallMs } = entry;
  const { taskManagerId: id, slotCount, dataAddress, hardware } = registration;
  const isActive = state.deployment?.active.has(id) === true;
  const usedSlots = isActive ? (state.deployment?.owners.filter((owner) => owner === id).length ?? 0) : 0;
  return {
    id,
    rpcAddress: peer.address,
    dataAddress,
    slots: slotCount,
    freeSlots: slotCount - usedSlots,
    taskCount: isActive ? taskCount(state, id) : 0,
    lastHeartbeatAtMs: lastHeartbeatWallMs,
    cpuCores: hardware.cpuCores,
    physicalMemoryBytes: hardware.physicalMemoryBytes,
    freeMemoryBytes: report?.freeMemoryBytes ?? 0,
    residentBytes: report?.residentBytes ?? 0,
    heapLimitBytes: hardware.heapLimitBytes,
    metrics: report?.metrics ?? {},
  };
}

function taskCount(state: SchedulerState, taskManagerId: string): number {
  let count = 0;
  state.deployment?.owners.forEach((owner, slot) => {
    if (owner === taskManagerId) count += state.plan.vertices.filter(({ parallelism }) => slot < parallelism).length;
  });
  return count;
}
