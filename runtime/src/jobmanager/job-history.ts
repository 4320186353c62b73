// What is remembered of a job for people: when states were entered, how its tasks are, what failed.
//
// Invariants:
//   JH1. No decision depends on anything here.
//   JH2. The history of exceptions is bounded; the oldest go first.

import { describeFailure } from "@sluice/kit";
import type { Failure } from "@sluice/kit";
import type { Clock } from "@sluice/kit/env";
import { isExecutionTerminal } from "./job-state.ts";
import { perExecutionState, perJobState } from "./rest/source.ts";
import type { ExceptionView, ExecutionState, JobStatus } from "./rest/source.ts";

export interface TaskTimes {
  readonly state: ExecutionState;
  readonly attempt: number;
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly runningAtMs: number;
  /** By state of this attempt; 0: never. */
  readonly enteredAtMs: Readonly<Record<ExecutionState, number>>;
  /** What this attempt had done when it ended, as it said itself; undefined before, and when it could not say. */
  readonly counters?: Readonly<Record<string, number>> | undefined;
}

const NEVER = perExecutionState(0);

const NOT_STARTED = { startedAtMs: -1, endedAtMs: -1, runningAtMs: -1, enteredAtMs: NEVER } as const;

export class JobHistory {
  readonly #clock: Clock;
  readonly #exceptionsMax: number;
  readonly #timestamps = perJobState(0);
  readonly #totalsMs = perJobState(0);
  readonly #tasks = new Map<string, TaskTimes>();
  readonly #exceptions: ExceptionView[] = [];
  readonly startedAtMs: number;
  #state: JobStatus = "INITIALIZING";
  #enteredMs: number;
  #endedAtMs = -1;
  #modifiedAtMs: number;
  #exceptionsTruncated = false;

  /** `exceptionsMax`: web.exception-history-size. */
  constructor(clock: Clock, exceptionsMax: number) {
    this.#exceptionsMax = exceptionsMax;
    this.#clock = clock;
    this.startedAtMs = clock.wallMs();
    this.#modifiedAtMs = this.startedAtMs;
    this.#enteredMs = clock.nowMs();
    this.#timestamps[this.#state] = this.startedAtMs;
  }

  get endedAtMs(): number {
    return this.#endedAtMs;
  }

  get modifiedAtMs(): number {
    return this.#modifiedAtMs;
  }

  jobState(state: JobStatus): void {
    if (state === this.#state) return;
    const nowMs = this.#clock.nowMs();
    this.#totalsMs[this.#state] += nowMs - this.#enteredMs;
    this.#state = state;
    this.#enteredMs = nowMs;
    this.#modifiedAtMs = this.#clock.wallMs();
    this.#timestamps[state] = this.#modifiedAtMs;
    if (state === "FINISHED" || state === "CANCELED" || state === "FAILED") this.#endedAtMs = this.#modifiedAtMs;
  }

  taskState(key: string, state: ExecutionState, attempt: number): void {
    const before = this.#tasks.get(key);
    if (before?.state === state && before.attempt === attempt) return;
    const wallMs = this.#clock.wallMs();
    this.#modifiedAtMs = wallMs;
    const isNew = before === undefined || before.attempt !== attempt;
    const times = isNew ? { ...NOT_STARTED, enteredAtMs: { ...NEVER, CREATED: wallMs } } : before;
    this.#tasks.set(key, {
      state,
      attempt,
      startedAtMs: state === "DEPLOYING" ? wallMs : times.startedAtMs,
      runningAtMs: state === "RUNNING" ? wallMs : times.runningAtMs,
      endedAtMs: isExecutionTerminal(state) ? wallMs : -1,
      enteredAtMs: { ...times.enteredAtMs, [state]: wallMs },
      counters: isNew ? undefined : before.counters,
    });
  }

  /** The last figures of a task that ends. */
  taskEnded(key: string, attempt: number, counters: Readonly<Record<string, number>>): void {
    const times = this.#tasks.get(key);
    if (times?.attempt === attempt) this.#tasks.set(key, { ...times, counters });
  }

  task(key: string): TaskTimes {
    return this.#tasks.get(key) ?? { state: "CREATED", attempt: 0, ...NOT_STARTED };
  }

  exception(failure: Failure, where: Pick<ExceptionView, "taskName" | "endpoint" | "taskManagerId">): void {
    const stack = failure.stack ?? "";
    const text = describeFailure(failure);
    const name = failure.code;
    this.#exceptions.unshift({
      name,
      text: stack === "" ? text : `${text}\n${stack}`,
      atMs: this.#clock.wallMs(),
      ...where,
    });
    if (this.#exceptions.length <= this.#exceptionsMax) return;
    this.#exceptions.length = this.#exceptionsMax; // JH2
    this.#exceptionsTruncated = true;
  }

  exceptions(): { readonly exceptions: readonly ExceptionView[]; readonly exceptionsTruncated: boolean } {
    return { exceptions: [...this.#exceptions], exceptionsTruncated: this.#exceptionsTruncated };
  }

  times(): {
    readonly timestamps: Readonly<Record<JobStatus, number>>;
    readonly stateTotalsMs: Readonly<Record<JobStatus, number>>;
  } {
    const stateTotalsMs = { ...this.#totalsMs };
    stateTotalsMs[this.#state] += this.#clock.nowMs() - this.#enteredMs;
    return { timestamps: { ...this.#timestamps }, stateTotalsMs };
  }
}
