// A task's part in checkpoints: from the barrier to the submission of what it captured.
//
// Invariants (tests cite them):
//   TK2. (task.ts) The barrier goes to every output before any later record, and state is captured before any later record is
//        processed: both happen in one synchronous stretch.
//   TK4. (task.ts) A snapshot is submitted at most once, and only while its checkpoint was not aborted.
//   TN1. A failure while state is captured fails the task; one after that declines the checkpoint.
//   TN2. A step encodes at most ENCODE_BUDGET_MS, of one snapshot: older checkpoints first.
//
// Not here: when barriers are aligned (gate-input.ts), encoding (snapshot.ts), where parts are stored (taskmanager/io).

import { type Failure, failureToJson, toFailure } from "@sluice/kit";
import type { Clock } from "@sluice/kit/env";
import type { AttemptNumber, Barrier, CheckpointId, Epoch, SlotPort, SubtaskId } from "../model/index.ts";
import type { KeyedSnapshot } from "../state/index.ts";
import { attributed, type ChainedOperator } from "./chained-operator.ts";
import type { TaskCounters } from "./counters.ts";
import { PendingSnapshot, type CapturedOperatorState } from "./snapshot.ts";
import type { TaskOutputs } from "./task-outputs.ts";

/** Slice of snapshot encoding per step (protocols 3). */
const ENCODE_BUDGET_MS = 2;

/** A barrier that is aligned, and what that took. */
export interface SnapshotTrigger {
  readonly barrier: Barrier;
  readonly alignmentMs: number;
  readonly startDelayMs: number;
}

export interface TaskSnapshotsOptions {
  readonly subtask: SubtaskId;
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  /** Head first. */
  readonly chain: readonly Pick<ChainedOperator, "uid" | "operator" | "attribute">[];
  readonly outputs: Pick<TaskOutputs, "broadcastBarrier">;
  readonly keyedState: { snapshot(id: CheckpointId): KeyedSnapshot } | undefined;
  readonly counters: Pick<TaskCounters, "set">;
  readonly port: Pick<SlotPort, "send" | "submitSnapshot">;
  readonly clock: Pick<Clock, "nowMs">;
  /** Makes the slot's loop run again soon. */
  readonly wake: () => void;
}

export class TaskSnapshots {
  readonly #options: TaskSnapshotsOptions;
  #pending: PendingSnapshot[] = [];

  constructor(options: TaskSnapshotsOptions) {
    this.#options = options;
  }

  /** Nothing waits to be encoded or submitted. */
  get isEmpty(): boolean {
    return this.#pending.length === 0;
  }

  /** TK2. `finished`: the task has emitted everything, and this is its last state. Throws what has to fail the task (TN1). */
  capture(trigger: SnapshotTrigger, finished: boolean): void {
    const { chain, outputs, keyedState, clock, counters } = this.#options;
    const { barrier } = trigger;
    const startedMs = clock.nowMs();
    outputs.broadcastBarrier(barrier);
    let snapshot: PendingSnapshot;
    try {
      const operators: CapturedOperatorState[] = [];
      for (const link of chain) {
        const state = attributed(link, () => link.operator.snapshotState?.(barrier));
        if (state !== undefined) operators.push({ uid: link.uid, state });
      }
      const keyed = keyedState?.snapshot(barrier.checkpointId);
      const nowMs = clock.nowMs();
      snapshot = new PendingSnapshot({
        barrier,
        finished,
        times: {
          alignmentMs: trigger.alignmentMs,
          startDelayMs: trigger.startDelayMs,
          syncMs: nowMs - startedMs,
          asyncFromMs: nowMs,
        },
        operators,
        keyed,
        wake: this.#options.wake,
      });
    } catch (thrown) {
      // Flink: a failure in the synchronous part always fails the task.
      throw toFailure(thrown, "USER_FUNCTION_FAILED", `snapshot of checkpoint ${barrier.checkpointId}`);
    }
    counters.set("checkpointAlignmentMs", trigger.alignmentMs);
    counters.set("checkpointStartDelayMs", trigger.startDelayMs);
    counters.set("lastCheckpointSyncMs", snapshot.times.syncMs);
    this.#pending.push(snapshot);
  }

  /** Encodes for a while (TN2) and submits what is ready. True when there was something to encode. */
  step(nowMs: number): boolean {
    if (this.#pending.length === 0) return false;
    let worked = false;
    for (const snapshot of [...this.#pending]) {
      if (snapshot.failure !== undefined) {
        this.#drop((other) => other === snapshot);
        this.decline(snapshot.barrier.checkpointId, snapshot.failure);
        continue;
      }
      if (!worked) worked = snapshot.step(ENCODE_BUDGET_MS);
      if (snapshot.ready) this.#submit(snapshot, nowMs);
    }
    return worked;
  }

  /** TK4. */
  aborted(id: CheckpointId): void {
    this.#drop((snapshot) => snapshot.barrier.checkpointId === id);
  }

  /** The task has ended: what is not submitted yet never will be. */
  dropAll(): void {
    this.#drop(() => true);
  }

  /** This task cannot take part in the checkpoint. */
  decline(checkpointId: CheckpointId, failure: Failure): void {
    const { port, subtask } = this.#options;
    port.send({ type: "declineCheckpoint", subtask, checkpointId, failure: failureToJson(failure) });
  }

  #submit(snapshot: PendingSnapshot, nowMs: number): void {
    this.#pending = this.#pending.filter((other) => other !== snapshot);
    const { subtask, epoch, attempt, port, counters } = this.#options;
    const parts = snapshot.takeParts();
    const stateSizeBytes = parts.reduce(
      (sum, part) => sum + part.chunks.reduce((bytes, chunk) => bytes + chunk.byteLength, 0),
      0,
    );
    counters.set("stateSizeBytes", stateSizeBytes);
    port.submitSnapshot({
      checkpointId: snapshot.barrier.checkpointId,
      savepoint: snapshot.barrier.savepoint?.location,
      epoch,
      attempt,
      subtask,
      parts,
      finished: snapshot.finished,
      stats: {
        startDelayMs: snapshot.times.startDelayMs,
        alignmentMs: snapshot.times.alignmentMs,
        syncMs: snapshot.times.syncMs,
        asyncMs: Math.max(0, nowMs - snapshot.times.asyncFromMs),
        stateSizeBytes,
      },
    });
  }

  #drop(which: (snapshot: PendingSnapshot) => boolean): void {
    for (const snapshot of this.#pending) if (which(snapshot)) snapshot.release();
    this.#pending = this.#pending.filter((snapshot) => !which(snapshot));
  }
}
