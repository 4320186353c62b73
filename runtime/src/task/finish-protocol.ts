// How a task comes to its end: its operators finish once the input has ended, and what they did is published by a last checkpoint.
//
// Invariants (tests cite them):
//   FN1. Operators finish head to tail, each once; one that still waits for answers, and those behind it, wait for another step. The end
//        goes to the outputs after the last of them.
//   FN2. The barrier of a drain goes out behind the last answer: it is held until the chain has finished.
//   TK6. (task.ts) The task is over when its final checkpoint, or the savepoint of a stop, was confirmed and every operator has
//        published; not before, whatever order confirmations and answers come in.
//   TK7. (task.ts) After the barrier of a stop nothing is processed.
//
// Decisions only, and the calls of `finish`: nothing here sends, snapshots or awaits.
//
// Not here: telling operators of a complete checkpoint (commits.ts), closing them (task.ts).

import type { Barrier, CheckpointId } from "../model/index.ts";
import { attributed, type ChainedOperator } from "./chained-operator.ts";
import type { Commits } from "./commits.ts";
import type { DeferredResults } from "./deferred.ts";
import type { TaskOutputs } from "./task-outputs.ts";

export interface FinishProtocolOptions {
  /** Head first. */
  readonly chain: readonly Pick<ChainedOperator, "operator" | "attribute">[];
  readonly deferred: Pick<DeferredResults, "holds">;
  readonly outputs: Pick<TaskOutputs, "broadcastEndOfData">;
  /** All operators have finished, and the end is on its way to the outputs. */
  readonly onDrained: () => void;
}

export class FinishProtocol {
  readonly #options: FinishProtocolOptions;
  #inputEnded = false;
  #finishedCount = 0;
  #drained = false;
  /** FN2; source tasks. */
  #drainBarrier: Barrier | undefined;
  /** Of the final checkpoint, or of a stop's savepoint. */
  #finalId: CheckpointId | undefined;
  #stopped = false;

  constructor(options: FinishProtocolOptions) {
    this.#options = options;
  }

  /** All input was read; operators may still have to finish. */
  get inputEnded(): boolean {
    return this.#inputEnded;
  }

  /** Everything was emitted. */
  get drained(): boolean {
    return this.#drained;
  }

  /** TK7. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** There is no more input: finishes what can be finished now (FN1). Call again when answers have come. */
  finishChain(): void {
    const { chain, deferred, outputs, onDrained } = this.#options;
    this.#inputEnded = true;
    for (; this.#finishedCount < chain.length; this.#finishedCount += 1) {
      const link = chain[this.#finishedCount] as (typeof chain)[number];
      if (deferred.holds(link.operator)) return;
      attributed(link, () => link.operator.finish?.());
    }
    outputs.broadcastEndOfData();
    this.#drained = true;
    onDrained();
  }

  /** Goes on with a chain that waited for answers. The barrier of a drain, if it has to go out now (FN2). */
  resume(): Barrier | undefined {
    if (!this.#inputEnded || this.#drained) return undefined;
    this.finishChain();
    return this.#drained ? this.#drainBarrier : undefined;
  }

  /** For the barrier that starts a checkpoint at a source: false while it has to wait, which `resume` ends (FN2). */
  passes(barrier: Barrier): boolean {
    const isDrain = barrier.savepoint?.stops === true && barrier.isFinal;
    if (!isDrain || this.#drained) return true;
    this.finishChain();
    if (this.#drained) return true;
    this.#drainBarrier = barrier;
    return false;
  }

  /** The checkpoint of a held barrier was given up. */
  aborted(id: CheckpointId): void {
    if (this.#drainBarrier?.checkpointId === id) this.#drainBarrier = undefined;
  }

  /** The task's part of this checkpoint is captured. */
  captured(barrier: Barrier): void {
    this.#stopped = barrier.savepoint?.stops === true;
    if (barrier.isFinal || this.#stopped) this.#finalId = barrier.checkpointId;
  }

  /** The job was stopped with what this task has restored: nothing is processed. */
  stop(): void {
    this.#stopped = true;
  }

  /** TK6. */
  isConfirmed(commits: Pick<Commits, "isSettled">): boolean {
    return (this.#drained || this.#stopped) && this.#finalId !== undefined && commits.isSettled(this.#finalId);
  }
}
