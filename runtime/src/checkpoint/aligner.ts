// Barrier alignment of one task with N input channels: when to snapshot, and which channels must wait.
//
// Invariants (tests and the aligner world cite them):
//   A1. EXACTLY_ONCE: a channel that delivered barrier n delivers nothing until n is triggered or aborted.
//   A2. At most one checkpoint aligns at a time; a newer barrier aborts the older one (Flink: SingleCheckpointBarrierHandler).
//   A3. An id is triggered at most once, ids are triggered in ascending order, an aborted id is never triggered.
//   A4. An ended channel counts as aligned: it has no record left that could leak over the cut.
//   A5. AT_LEAST_ONCE never blocks; it counts barriers of several pending ids (Flink: CheckpointBarrierTracker).
//   A6. No await in this file; everything happens on the task's thread.
//
// Not here: forwarding the barrier and taking the snapshot (task/), deciding when to checkpoint (coordinator.ts).

import { assert, planted } from "@sluice/kit";
import type { Barrier, CheckpointId, CheckpointingMode } from "../model/index.ts";

/** What the task loop has to do, in this order. An empty list: nothing. */
export type AlignerDecision =
  /** The channel must not be read until a `trigger` or `aborted` of this checkpoint; `isBlocked` says the same. */
  | { readonly type: "blocked"; readonly channel: number; readonly checkpointId: CheckpointId }
  /** Forward the barrier, snapshot, then go on; no channel is blocked any more. */
  | { readonly type: "trigger"; readonly barrier: Barrier; readonly alignmentMs: number; readonly startDelayMs: number }
  /** The alignment of this checkpoint was given up; its channels are free. Decline it as superseded, or it was cancelled. */
  | { readonly type: "aborted"; readonly checkpointId: CheckpointId; readonly reason: "superseded" | "cancelled" };

/** When something reached the task: monotonic for durations, wall clock only against the barrier's timestamp (statistics). */
export interface AlignerTime {
  readonly nowMs: number;
  readonly wallMs: number;
}

interface Alignment {
  readonly barrier: Barrier;
  readonly seen: Uint8Array;
  readonly firstNowMs: number;
  readonly startDelayMs: number;
}

/** Flink keeps at most 50 pending checkpoints in at-least-once mode; the oldest goes first. */
const PENDING_MAX = 50;
const CANCELLED_MAX = 64;
const NOTHING: readonly AlignerDecision[] = [];

export class BarrierAligner {
  readonly #channelCount: number;
  readonly #mode: CheckpointingMode;
  readonly #blocked: Uint8Array;
  readonly #ended: Uint8Array;
  /** EXACTLY_ONCE: at most one (A2). Ascending by id. */
  #pending: Alignment[] = [];
  /** The highest id that was triggered, superseded, or lies below the one that aligns; anything not above it is obsolete (A3). */
  #lastDone = -1;
  readonly #cancelled = new Set<CheckpointId>();

  constructor(options: { readonly channelCount: number; readonly mode: CheckpointingMode }) {
    assert(
      Number.isSafeInteger(options.channelCount) && options.channelCount > 0,
      "a task that aligns has at least one input channel",
    );
    this.#channelCount = options.channelCount;
    this.#mode = options.mode;
    this.#blocked = new Uint8Array(options.channelCount);
    this.#ended = new Uint8Array(options.channelCount);
  }

  /** True while the channel must not be read (A1). Cheap: asked per batch. */
  isBlocked(channel: number): boolean {
    return this.#blocked[channel] === 1;
  }

  /** The checkpoint that is being aligned, for metrics and heartbeats. */
  get aligningId(): CheckpointId | undefined {
    return this.#pending.at(-1)?.barrier.checkpointId;
  }

  /** A barrier arrived, in order, on this channel. */
  onBarrier(channel: number, barrier: Barrier, at: AlignerTime): readonly AlignerDecision[] {
    this.#checkChannel(channel);
    const id = barrier.checkpointId;
    const blocks = this.#mode === "EXACTLY_ONCE" && !planted("alignment-off");
    assert(
      !blocks || this.#blocked[channel] === 0 || planted("late-barrier-starts-alignment"),
      "A1: a blocked channel delivers nothing",
    );
    const obsolete = id <= this.#lastDone || this.#cancelled.has(id);
    if (obsolete && !planted("late-barrier-starts-alignment")) return NOTHING; // A3
    return blocks ? this.#alignExactlyOnce(channel, barrier, at) : this.#countAtLeastOnce(channel, barrier, at);
  }

  /** The channel will deliver no more records (A4); barriers may still come over it and are obsolete or harmless. */
  onEndOfInput(channel: number, at: AlignerTime): readonly AlignerDecision[] {
    this.#checkChannel(channel);
    this.#ended[channel] = 1;
    const complete = this.#pending.findLast((alignment) => this.#isComplete(alignment));
    return complete === undefined ? NOTHING : this.#trigger(complete, at);
  }

  /** The JobManager gave this checkpoint up. */
  onCancel(checkpointId: CheckpointId): readonly AlignerDecision[] {
    if (checkpointId <= this.#lastDone) return NOTHING;
    this.#cancelled.add(checkpointId);
    if (this.#cancelled.size > CANCELLED_MAX) {
      const oldest = this.#cancelled.values().next();
      if (oldest.done !== true) this.#cancelled.delete(oldest.value);
    }
    const alignment = this.#pending.find((p) => p.barrier.checkpointId === checkpointId);
    if (alignment === undefined) return NOTHING;
    this.#pending = this.#pending.filter((p) => p !== alignment);
    this.#blocked.fill(0);
    return [{ type: "aborted", checkpointId, reason: "cancelled" }];
  }

  #alignExactlyOnce(channel: number, barrier: Barrier, at: AlignerTime): readonly AlignerDecision[] {
    const decisions: AlignerDecision[] = [];
    let current = this.#pending[0];
    const id = barrier.checkpointId;
    if (current !== undefined && id !== current.barrier.checkpointId) {
      // Only a newer id, or a planted bug, comes here: the older alignment can no longer complete on this channel (A2).
      this.#pending = [];
      this.#blocked.fill(0);
      this.#lastDone = Math.max(this.#lastDone, current.barrier.checkpointId);
      decisions.push({ type: "aborted", checkpointId: current.barrier.checkpointId, reason: "superseded" });
      current = undefined;
    }
    if (current === undefined) {
      current = this.#begin(barrier, at);
      this.#pending = [current];
      // Lower ids are obsolete from here on: one of them, arriving late on a slow channel, must not disturb this alignment.
      this.#lastDone = Math.max(this.#lastDone, id - 1);
    }
    const isFirst = !current.seen.includes(1);
    current.seen[channel] = 1;
    if (this.#isComplete(current)) return [...decisions, ...this.#trigger(current, at)];
    if (!(isFirst && planted("channel-not-blocked"))) this.#blocked[channel] = 1; // A1
    assert(this.#pending.length === 1, "A2: one checkpoint aligns at a time");
    decisions.push({ type: "blocked", channel, checkpointId: id });
    return decisions;
  }

  #countAtLeastOnce(channel: number, barrier: Barrier, at: AlignerTime): readonly AlignerDecision[] {
    const id = barrier.checkpointId;
    const decisions: AlignerDecision[] = [];
    let alignment = this.#pending.find((p) => p.barrier.checkpointId === id);
    if (alignment === undefined) {
      alignment = this.#begin(barrier, at);
      this.#pending = [...this.#pending, alignment].sort((a, b) => a.barrier.checkpointId - b.barrier.checkpointId);
      if (this.#pending.length > PENDING_MAX) {
        const dropped = this.#pending.shift();
        if (dropped !== undefined) decisions.push(this.#supersede(dropped));
      }
    }
    alignment.seen[channel] = 1;
    if (!this.#pending.includes(alignment)) return decisions;
    if (this.#isComplete(alignment)) decisions.push(...this.#trigger(alignment, at));
    return decisions;
  }

  #begin(barrier: Barrier, at: AlignerTime): Alignment {
    return {
      barrier,
      seen: new Uint8Array(this.#channelCount),
      firstNowMs: at.nowMs,
      startDelayMs: Math.max(0, at.wallMs - barrier.timestampMs),
    };
  }

  #isComplete(alignment: Alignment): boolean {
    for (let channel = 0; channel < this.#channelCount; channel += 1) {
      if (alignment.seen[channel] === 0 && this.#ended[channel] === 0) return false;
    }
    return true;
  }

  #supersede(alignment: Alignment): AlignerDecision {
    this.#lastDone = Math.max(this.#lastDone, alignment.barrier.checkpointId);
    return { type: "aborted", checkpointId: alignment.barrier.checkpointId, reason: "superseded" };
  }

  #trigger(alignment: Alignment, at: AlignerTime): readonly AlignerDecision[] {
    const id = alignment.barrier.checkpointId;
    assert(
      id > this.#lastDone || planted("late-barrier-starts-alignment"),
      "A3: ids are triggered once, in ascending order",
    );
    const decisions: AlignerDecision[] = [];
    for (const older of this.#pending) {
      if (older.barrier.checkpointId < id) decisions.push(this.#supersede(older));
    }
    this.#pending = this.#pending.filter((p) => p.barrier.checkpointId > id);
    this.#lastDone = Math.max(this.#lastDone, id);
    for (const cancelled of this.#cancelled) if (cancelled <= this.#lastDone) this.#cancelled.delete(cancelled);
    this.#blocked.fill(0);
    decisions.push({
      type: "trigger",
      barrier: alignment.barrier,
      alignmentMs: Math.max(0, at.nowMs - alignment.firstNowMs),
      startDelayMs: alignment.startDelayMs,
    });
    return decisions;
  }

  #checkChannel(channel: number): void {
    assert(
      Number.isSafeInteger(channel) && channel >= 0 && channel < this.#channelCount,
      "the channel is one of this task's inputs",
    );
  }
}
