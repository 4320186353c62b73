// Statistics of checkpoints, as REST shows them. Fed by the coordinator's effects; no decision depends on them.
//
// Not here: the JSON of REST (jobmanager/rest).

import { assert } from "@sluice/kit";
import type { CheckpointAck, CheckpointId } from "../model/index.ts";
import type {
  CheckpointStats,
  CheckpointStatsSnapshot,
  CheckpointVertex,
  RestoredCheckpointStats,
  SubtaskStats,
  VertexStats,
} from "./types.ts";

/** Durations and sizes kept for percentiles. */
const SUMMARY_COUNT_MAX = 1_000;

export class CheckpointStatsTracker {
  #vertices: readonly CheckpointVertex[];
  readonly #historyMax: number;
  readonly #inProgress = new Map<CheckpointId, CheckpointStats>();
  #history: CheckpointStats[] = [];
  #counts = { restored: 0, total: 0, completed: 0, failed: 0 };
  #latestCompleted: CheckpointStats | null = null;
  #latestSavepoint: CheckpointStats | null = null;
  #latestFailed: CheckpointStats | null = null;
  #latestRestored: RestoredCheckpointStats | null = null;
  readonly #durationsMs: number[] = [];
  readonly #sizesBytes: number[] = [];

  /** `historyMax`: how many that have ended are remembered. */
  constructor(vertices: readonly CheckpointVertex[], historyMax: number) {
    this.#vertices = vertices;
    this.#historyMax = historyMax;
  }

  /** Of the attempt that begins: it may have another parallelism than the one before. */
  attemptStarted(vertices: readonly CheckpointVertex[]): void {
    this.#vertices = vertices;
  }

  restored(restored: RestoredCheckpointStats): void {
    this.#counts = { ...this.#counts, restored: this.#counts.restored + 1 };
    this.#latestRestored = restored;
  }

  triggered(
    id: CheckpointId,
    options: {
      readonly isFinal: boolean;
      readonly isSavepoint: boolean;
      readonly wallMs: number;
      readonly subtaskCount: number;
    },
  ): void {
    this.#counts = { ...this.#counts, total: this.#counts.total + 1 };
    this.#inProgress.set(id, {
      id,
      status: "IN_PROGRESS",
      isSavepoint: options.isSavepoint,
      isFinal: options.isFinal,
      triggerTimestampMs: options.wallMs,
      latestAckTimestampMs: -1,
      endToEndDurationMs: 0,
      stateSizeBytes: 0,
      subtaskCount: options.subtaskCount,
      acknowledgedCount: 0,
      vertices: this.#vertices.map((vertex) => ({
        vertexId: vertex.vertexId,
        subtaskCount: vertex.parallelism,
        acknowledgedCount: 0,
        latestAckTimestampMs: -1,
        stateSizeBytes: 0,
        endToEndDurationMs: 0,
        subtasks: [],
      })),
      externalPath: "",
      discarded: false,
      failureMessage: "",
      failureTimestampMs: -1,
    });
  }

  acked(ack: CheckpointAck, id: CheckpointId, wallMs: number): void {
    const stats = this.#inProgress.get(id);
    if (stats === undefined) return;
    const endToEndDurationMs = Math.max(0, wallMs - stats.triggerTimestampMs);
    const subtask: SubtaskStats = {
      ...ack.stats,
      subtaskIndex: ack.subtask.subtaskIndex,
      ackTimestampMs: wallMs,
      endToEndDurationMs,
    };
    const add = (vertex: VertexStats): VertexStats => ({
      ...vertex,
      acknowledgedCount: vertex.acknowledgedCount + 1,
      latestAckTimestampMs: wallMs,
      stateSizeBytes: vertex.stateSizeBytes + ack.stats.stateSizeBytes,
      endToEndDurationMs,
      subtasks: [...vertex.subtasks, subtask].sort((a, b) => a.subtaskIndex - b.subtaskIndex),
    });
    this.#inProgress.set(id, {
      ...stats,
      latestAckTimestampMs: wallMs,
      endToEndDurationMs,
      stateSizeBytes: stats.stateSizeBytes + ack.stats.stateSizeBytes,
      acknowledgedCount: stats.acknowledgedCount + 1,
      vertices: stats.vertices.map((vertex) => (vertex.vertexId === ack.subtask.vertexId ? add(vertex) : vertex)),
    });
  }

  completed(id: CheckpointId, options: { readonly externalPath: string; readonly wallMs: number }): void {
    const stats = this.#inProgress.get(id);
    if (stats === undefined) return;
    this.#inProgress.delete(id);
    const endToEndDurationMs = Math.max(0, options.wallMs - stats.triggerTimestampMs);
    const done: CheckpointStats = {
      ...stats,
      status: "COMPLETED",
      externalPath: options.externalPath,
      endToEndDurationMs,
    };
    this.#counts = { ...this.#counts, completed: this.#counts.completed + 1 };
    if (done.isSavepoint) this.#latestSavepoint = done;
    else this.#latestCompleted = done;
    keep(this.#durationsMs, endToEndDurationMs);
    keep(this.#sizesBytes, done.stateSizeBytes);
    this.#remember(done);
  }

  failed(id: CheckpointId, options: { readonly reason: string; readonly wallMs: number }): void {
    const stats = this.#inProgress.get(id);
    if (stats === undefined) return;
    this.#inProgress.delete(id);
    const done: CheckpointStats = {
      ...stats,
      status: "FAILED",
      failureMessage: options.reason,
      failureTimestampMs: options.wallMs,
      endToEndDurationMs: Math.max(0, options.wallMs - stats.triggerTimestampMs),
    };
    this.#counts = { ...this.#counts, failed: this.#counts.failed + 1 };
    this.#latestFailed = done;
    this.#remember(done);
  }

  discarded(ids: readonly CheckpointId[]): void {
    const mark = (stats: CheckpointStats): CheckpointStats =>
      ids.includes(stats.id) ? { ...stats, discarded: true } : stats;
    this.#history = this.#history.map(mark);
  }

  snapshot(): CheckpointStatsSnapshot {
    assert(this.#history.length <= this.#historyMax, "the history has a limit");
    return {
      counts: { ...this.#counts, inProgress: this.#inProgress.size },
      latestCompleted: this.#latestCompleted,
      latestSavepoint: this.#latestSavepoint,
      latestFailed: this.#latestFailed,
      latestRestored: this.#latestRestored,
      history: [...this.#inProgress.values(), ...this.#history].sort((a, b) => b.id - a.id),
      completedDurationsMs: [...this.#durationsMs],
      completedSizesBytes: [...this.#sizesBytes],
    };
  }

  #remember(stats: CheckpointStats): void {
    this.#history = [stats, ...this.#history].slice(0, this.#historyMax);
  }
}

function keep(values: number[], value: number): void {
  values.push(value);
  if (values.length > SUMMARY_COUNT_MAX) values.shift();
}
