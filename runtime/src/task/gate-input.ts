// A task's input from other tasks: frames of its gate in turns, barriers through the aligner, the end of all channels.
//
// Invariants (tests cite them):
//   GI1. What the aligner holds back is not looked at (checkpoint/aligner.ts A1).
//   GI2. While an operator of the chain waits for answers and has no room, rows stay where they are; so does the final barrier while
//        answers are missing: the checkpoint that lets sinks publish for the last time has to come after them (TK6).
//   GI3. A channel that ended takes part in every later checkpoint; the input has ended when all channels have.
//
// Not here: the gate (network/input-gate.ts), alignment (checkpoint/aligner.ts), taking snapshots (task-snapshots.ts).

import { assert, Failure } from "@sluice/kit";
import type { Clock } from "@sluice/kit/env";
import { BarrierAligner, type AlignerDecision } from "../checkpoint/index.ts";
import type { CheckpointId, CheckpointingMode } from "../model/index.ts";
import type { ChannelHead, InputGate } from "../network/index.ts";
import type { HeadLoop } from "./chain.ts";
import type { DeferredResults } from "./deferred.ts";
import type { FinishProtocol } from "./finish-protocol.ts";
import { ROWS_PER_STEP, type StepBudget } from "./step-budget.ts";
import type { TaskOutputs } from "./task-outputs.ts";
import type { SnapshotTrigger } from "./task-snapshots.ts";

export interface GateInputOptions {
  readonly gate: InputGate;
  /** By input channel. */
  readonly headLoops: readonly HeadLoop[];
  readonly mode: CheckpointingMode;
  readonly clock: Clock;
  readonly budget: StepBudget;
  readonly outputs: TaskOutputs;
  readonly deferred: DeferredResults;
  readonly finish: FinishProtocol;
  /** All barriers of a checkpoint are here. */
  readonly onAligned: (trigger: SnapshotTrigger) => void;
  /** A checkpoint that cannot be aligned any more. */
  readonly onGivenUp: (id: CheckpointId, failure: Failure) => void;
}

export class GateInput {
  readonly #options: GateInputOptions;
  readonly #aligner: BarrierAligner;
  /** By channel, 1 while the aligner holds it back (GI1). */
  readonly #blocked: Uint8Array;
  #endedChannelCount = 0;

  constructor(options: GateInputOptions) {
    this.#options = options;
    const { channelCount } = options.gate;
    this.#aligner = new BarrierAligner({ channelCount, mode: options.mode });
    this.#blocked = new Uint8Array(channelCount);
  }

  /** Reads within the budget. True when there was something. */
  step(): boolean {
    const { gate, headLoops, clock, budget, outputs, deferred, finish } = this.#options;
    let rowsLeft = ROWS_PER_STEP;
    let worked = false;
    let heldBack = 0;
    budget.begin();
    while (rowsLeft > 0 && outputs.hasRoom) {
      const channel = gate.nextReady(this.#blocked);
      if (channel < 0) return worked;
      const frame = gate.head(channel);
      const rowsMax = deferred.rows;
      if (!deferred.isEmpty && this.#isHeldBack(frame, rowsMax)) {
        heldBack += 1; // it stays where it is; another channel may have something else
        if (heldBack >= gate.channelCount) return worked;
        continue;
      }
      worked = true;
      if (frame.kind === "RECORDS") {
        const loop = headLoops[channel];
        assert(loop !== undefined, "every input channel has its loop");
        const from = frame.cursor;
        const to = Math.min(frame.rowCount, from + Math.min(budget.chunkRows, rowsLeft, rowsMax));
        loop.process(frame.reader, from, to);
        frame.cursor = to;
        rowsLeft -= to - from;
        if (to === frame.rowCount) gate.consume(channel);
        if (!budget.endChunk()) return true;
      } else if (frame.kind === "BARRIER") {
        const { barrier } = frame;
        assert(barrier !== undefined, "a BARRIER frame carries a barrier");
        gate.consume(channel);
        this.#apply(this.#aligner.onBarrier(channel, barrier, { nowMs: clock.nowMs(), wallMs: clock.wallMs() }));
        rowsLeft -= 1;
      } else {
        gate.consume(channel);
        rowsLeft -= 1;
        // Barriers still travel after the last record (GI3).
        this.#endedChannelCount += 1;
        if (this.#endedChannelCount === gate.channelCount) finish.finishChain();
      }
    }
    return worked;
  }

  /** The checkpoint was given up elsewhere: its channels are free again. */
  aborted(id: CheckpointId): void {
    this.#apply(this.#aligner.onCancel(id));
  }

  /** GI2. */
  #isHeldBack(frame: ChannelHead, rowsMax: number): boolean {
    if (frame.kind === "RECORDS") return rowsMax === 0;
    return frame.kind === "BARRIER" && frame.barrier?.isFinal === true && !this.#options.finish.drained;
  }

  #apply(decisions: readonly AlignerDecision[]): void {
    for (let i = 0; i < this.#blocked.length; i += 1) this.#blocked[i] = this.#aligner.isBlocked(i) ? 1 : 0;
    const { onAligned, onGivenUp } = this.#options;
    for (const decision of decisions) {
      if (decision.type === "trigger") {
        onAligned(decision);
      } else if (decision.type === "aborted") {
        const { checkpointId, reason } = decision;
        const message = `alignment of checkpoint ${checkpointId} was given up: ${reason}`;
        onGivenUp(checkpointId, new Failure("CHECKPOINT_SUPERSEDED", { retry: "never", message }));
      }
    }
  }
}
