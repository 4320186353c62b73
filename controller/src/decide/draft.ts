// A decision while it is made: the status that will be written, and what is to be done after that.
//
// Invariants:
//   DR1. Only this object changes; what went in stays as it was.
//   DR2. The status that comes out is the old object where nothing changed: who writes it compares, and writes nothing then.
//
// Not here: which condition holds (conditions.ts), what to do (the steps).

import { planted } from "@sluice/kit";

import { attemptOf, operationId } from "../objects/index.ts";
import type { JobManagerView, Observed, PodView } from "../observe/index.ts";
import { withDecision } from "../status/index.ts";
import type { Deployed, JobStatus, Operation } from "../status/index.ts";
import type { Action, DecideInput, JobEvent, JobView, Settings } from "./types.ts";

/** While something is under way. */
export const REQUEUE_BUSY_MS = 500;
/** While a pod's start, a pull or a scheduler is waited for: pods report by themselves. */
export const REQUEUE_WAITING_MS = 1_000;
/** While nothing happens. */
export const REQUEUE_STABLE_MS = 15_000;

export interface Finding {
  readonly reason: string;
  readonly message: string;
}

export class Draft {
  readonly job: JobView;
  readonly observed: Observed;
  readonly settings: Settings;
  readonly nowMs: number;
  readonly now: string;
  readonly actions: Action[] = [];
  readonly events: JobEvent[] = [];
  status: JobStatus;
  requeueAfterMs = REQUEUE_STABLE_MS;
  /** What is waited for, for the condition Progressing. */
  waitingFor: Finding | undefined;
  /** What is wrong but not final, for the condition Degraded. */
  degraded: Finding | undefined;
  /** Set when this generation is refused or has failed; null: what was wrong no longer is. */
  stalled: Finding | null | undefined;
  #deletedPods = new Set<string>();

  constructor(input: DecideInput) {
    this.job = input.job;
    this.observed = input.observed;
    this.settings = input.settings;
    this.nowMs = input.nowMs;
    this.now = new Date(input.nowMs).toISOString();
    this.status = input.job.status;
  }

  get op(): Operation | undefined {
    return this.status.op;
  }

  /** What runs or is being started; undefined when nothing of it runs any more. */
  get live(): Deployed | undefined {
    const { deployed } = this.status;
    return deployed === undefined || deployed.ended !== undefined ? undefined : deployed;
  }

  /** The JobManager's answer, when it is one of what runs. */
  get jobManager(): JobManagerView | undefined {
    return this.live === undefined ? undefined : this.observed.jobManager;
  }

  set(change: Partial<{ -readonly [K in keyof JobStatus]: JobStatus[K] }>): void {
    this.status = { ...this.status, ...change };
  }

  setDeployed(change: Partial<Deployed>): void {
    const { deployed } = this.status;
    if (deployed !== undefined) this.set({ deployed: { ...deployed, ...change } });
  }

  setOp(change: Partial<Operation>): void {
    const { op } = this.status;
    if (op !== undefined) this.set({ op: { ...op, ...change } });
  }

  /** Ends the operation. */
  clearOp(): void {
    if (this.status.op === undefined) return;
    const { op: _, ...rest } = this.status;
    this.status = rest;
  }

  /** The pods of an attempt, by role. */
  podsOf(attempt: string, component: PodView["component"]): readonly PodView[] {
    return this.observed.pods.filter((pod) => pod.attempt === attempt && pod.component === component);
  }

  act(action: Action): void {
    this.actions.push(action);
  }

  /** Asks for a pod's end, once per decision; one that is ending already is left alone. */
  deletePod(pod: PodView): void {
    if (pod.isDeleting || this.#deletedPods.has(pod.uid)) return;
    this.#deletedPods.add(pod.uid);
    this.act({ type: "deletePod", name: pod.name, uid: pod.uid });
  }

  event(type: JobEvent["type"], reason: string, note: string, action = "Reconcile"): void {
    this.events.push({ type, reason, action, note });
  }

  /** Writes down what was decided and why. */
  record(decision: string, reason: string): void {
    const { generation } = this.job;
    this.set({
      decisions: withDecision(this.status.decisions ?? [], { at: this.now, generation, decision, reason }),
    });
    this.event("Normal", decision, reason);
  }

  wait(reason: string, message: string, requeueAfterMs = REQUEUE_WAITING_MS): void {
    this.waitingFor = { reason, message };
    this.soon(requeueAfterMs);
  }

  soon(requeueAfterMs: number): void {
    this.requeueAfterMs = Math.min(this.requeueAfterMs, requeueAfterMs);
  }

  /** Names everything of the present operation. */
  attempt(op: Operation): string {
    // Planted: a name that does not derive from the operation is another one after a crash.
    return planted("operator-attempt-not-derived") ? attemptOf(`${op.id}@${this.nowMs}`) : attemptOf(op.id);
  }

  newOperationId(tries: number): string {
    return operationId({ uid: this.job.uid, generation: this.job.generation, tries });
  }

  /** Milliseconds since a time that was written down; what cannot be read lies long ago. */
  since(time: string | undefined): number {
    const at = time === undefined ? Number.NaN : Date.parse(time);
    return Number.isNaN(at) ? Number.MAX_SAFE_INTEGER : this.nowMs - at;
  }
}
