// Timers and expiry of keyed state, between the batches of a task.
//
// Invariants (tests cite them):
//   TK8. (task.ts) Timers fire between batches of records, in the order of time, a bounded number per step.
//   TF1. (as in Flink) After the end of the input no timer fires any more: the operators have finished.
//   TF2. Timers go by the wall clock, the loop sleeps by the monotonic one.
//
// Not here: which timers there are (state/), what they do (operators/).

import type { Clock } from "@sluice/kit/env";
import type { HeapKeyedStateBackend } from "../state/index.ts";
import type { ChainedOperator } from "./chained-operator.ts";
import type { DeferredResults } from "./deferred.ts";
import type { FinishProtocol } from "./finish-protocol.ts";
import { ROWS_PER_STEP, type StepBudget } from "./step-budget.ts";
import type { TaskOutputs } from "./task-outputs.ts";

/** So many rows of each state with a time to live are looked at so often, also when no records come. */
const SWEPT_ROWS = 1_000;
const SWEEP_MS = 100;

export interface TaskTimersOptions {
  readonly keyedState: HeapKeyedStateBackend | undefined;
  /** The operator whose timers they are. */
  readonly head: Pick<ChainedOperator, "attribute">;
  readonly clock: Clock;
  readonly budget: StepBudget;
  readonly outputs: TaskOutputs;
  readonly deferred: DeferredResults;
  readonly finish: FinishProtocol;
}

export class TaskTimers {
  readonly #options: TaskTimersOptions;
  #lastSweepMs = 0;

  constructor(options: TaskTimersOptions) {
    this.#options = options;
  }

  /** Fires the timers that are due, as many as a step may (TK8). True when there were some. */
  step(): boolean {
    const { keyedState, head, clock, budget, deferred } = this.#options;
    if (keyedState === undefined || !this.#mayFire()) return false;
    const wallMs = clock.wallMs();
    if (keyedState.nextTimerMs > wallMs) return false;
    budget.begin();
    for (let fired = 0; fired < ROWS_PER_STEP && keyedState.nextTimerMs <= wallMs && this.#mayFire();) {
      try {
        fired += keyedState.fireTimers(wallMs, Math.min(budget.chunkRows, deferred.rows));
      } catch (thrown) {
        throw head.attribute(thrown);
      }
      if (!budget.endChunk()) break;
    }
    return true;
  }

  /** Clock time at which the next timer is due (TF2); Infinity: none, or it may not fire now. */
  get nextMs(): number {
    const { keyedState, clock } = this.#options;
    const timerMs = keyedState?.nextTimerMs ?? Number.POSITIVE_INFINITY;
    if (timerMs === Number.POSITIVE_INFINITY || !this.#mayFire()) return Number.POSITIVE_INFINITY;
    return clock.nowMs() + Math.max(0, timerMs - clock.wallMs());
  }

  /** Looks at some rows of states with a time to live, every so often. */
  sweep(nowMs: number): void {
    if (nowMs - this.#lastSweepMs < SWEEP_MS) return;
    this.#lastSweepMs = nowMs;
    this.#options.keyedState?.sweepExpired(SWEPT_ROWS);
  }

  /** Whether user code may emit: there is input (TF1), room for output, and room in operators that wait for answers. */
  #mayFire(): boolean {
    const { finish, deferred, outputs } = this.#options;
    return !finish.inputEnded && deferred.rows > 0 && outputs.hasRoom;
  }
}
