// A source task's input: its source, polled in chunks.
//
// Invariants (tests cite them):
//   SY1. A source that is idle is not asked again before its own time or somebody's call of `ready`.
//   SY2. One that has finished is never asked again.
//
// Not here: sources (connectors/), input from other tasks (gate-input.ts).

import type { SourceOperator, SourceStatus } from "../model/index.ts";
import type { ChainedOperator } from "./chained-operator.ts";
import type { DeferredResults } from "./deferred.ts";
import type { FinishProtocol } from "./finish-protocol.ts";
import { ROWS_PER_STEP, type StepBudget } from "./step-budget.ts";
import type { TaskOutputs } from "./task-outputs.ts";

export interface SourceInputOptions {
  /** The head of the chain: the source. */
  readonly head: Pick<ChainedOperator, "operator" | "output" | "attribute">;
  readonly budget: StepBudget;
  readonly outputs: TaskOutputs;
  readonly deferred: DeferredResults;
  readonly finish: FinishProtocol;
}

export class SourceInput {
  readonly #options: SourceInputOptions;
  readonly #source: SourceOperator;
  #idleUntilMs = 0;

  constructor(options: SourceInputOptions) {
    this.#options = options;
    this.#source = options.head.operator as SourceOperator;
  }

  /** Clock time at which the source may have more; Infinity: it is asked in any case, or only `ready` tells. */
  get wakeAtMs(): number {
    return this.#idleUntilMs || Number.POSITIVE_INFINITY;
  }

  /** A source said that it may have more (SY1). */
  ready(): void {
    this.#idleUntilMs = 0;
  }

  /** Polls within the budget. True when there was something. */
  step(nowMs: number): boolean {
    const { head, budget, outputs, deferred, finish } = this.#options;
    if (finish.inputEnded || nowMs < this.#idleUntilMs) return false; // SY2, SY1
    const { output } = head;
    const before = output.numRecords;
    budget.begin();
    for (let polled = 0; polled < ROWS_PER_STEP && outputs.hasRoom;) {
      const rows = Math.min(budget.chunkRows, deferred.rows);
      if (rows === 0) return polled > 0;
      const status = this.#poll(rows);
      polled += rows;
      if (status === "more") {
        if (!budget.endChunk()) return true;
        continue;
      }
      if (status === "finished") {
        finish.finishChain();
        return true;
      }
      this.#idleUntilMs = this.#source.wakeAtMs;
      return output.numRecords !== before;
    }
    return true;
  }

  #poll(rows: number): SourceStatus {
    try {
      return this.#source.poll(rows);
    } catch (thrown) {
      throw this.#options.head.attribute(thrown);
    }
  }
}
