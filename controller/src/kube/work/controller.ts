// Takes keys from a queue and reconciles them: the loop around "look at the object, do what is to be done".
//
// Invariants:
//   CO1. A key is never reconciled twice at once, also not after a timeout: it stays taken until its reconcile has ended.
//   CO2. Whatever a reconcile throws concerns its key alone, bugs included: it is logged, counted and tried again later.
//        (A broken assertion ends a process elsewhere; here it would let one bad object stop all jobs.)
//   CO3. A reconcile that takes too long is aborted. If it does not end then, its worker goes on with other keys.
//   CO4. When its signal fires it takes no further key and ends when all reconciles have.

import { canceled, deferred, isFailure, toFailure, withTimeout } from "@sluice/kit";
import type { Clock, Log, Timers } from "@sluice/kit/env";
import { isApiError } from "../api/api-error.ts";
import type { WriteGate } from "../cache/write-gate.ts";
import { WorkQueue } from "./work-queue.ts";
import type { QueueObserver, WorkQueueOptions } from "./work-queue.ts";

/** Come back after this time, whatever happens; without it when something changes. */
export interface ReconcileResult {
  readonly requeueAfterMs?: number;
}

/** Brings the object of the key closer to what it should be. Throws ApiError or Failure to be called again with backoff. */
export type Reconcile = (key: string, signal: AbortSignal) => Promise<ReconcileResult>;

export type ReconcileOutcome = "success" | "requeue_after" | "requeue" | "error";

/** What a controller tells about itself; see metrics.ts. */
export interface ControllerObserver {
  readonly queue: QueueObserver;
  readonly reconciled: (outcome: ReconcileOutcome, tookMs: number) => void;
  readonly panicked: () => void;
  readonly timedOut: () => void;
}

export interface ControllerOptions {
  readonly name: string;
  readonly reconcile: Reconcile;
  readonly env: { readonly clock: Clock; readonly timers: Timers; readonly log: Log };
  /** Keys wait here until their writes are visible. */
  readonly gate?: WriteGate;
  /** Default 1. */
  readonly concurrentCountMax?: number;
  /** Default 60 s. */
  readonly timeoutMs?: number;
  readonly queue?: Pick<WorkQueueOptions, "itemBackoff" | "retryRate">;
  readonly observer?: ControllerObserver;
}

const TIMEOUT_MS = 60_000;
/** How long an aborted reconcile may take to end before its worker leaves it (CO3). */
const ABORT_GRACE_MS = 5_000;

export class Controller {
  readonly name: string;
  readonly queue: WorkQueue;
  readonly concurrentCountMax: number;
  readonly #options: ControllerOptions;
  readonly #running = new Set<Promise<void>>();
  #isRunning = false;

  constructor(options: ControllerOptions) {
    const { observer, env } = options;
    this.name = options.name;
    this.concurrentCountMax = options.concurrentCountMax ?? 1;
    this.#options = options;
    this.queue = new WorkQueue({
      clock: env.clock,
      timers: env.timers,
      ...(observer && { observer: observer.queue }),
      ...options.queue,
    });
  }

  /** Reconciles that have not ended. */
  get activeCount(): number {
    return this.#running.size;
  }

  /** Between the start of `run` and its end. */
  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Runs until `signal` fires, once; never rejects. Keys may be added before. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = (): void => this.queue.shutDown();
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    this.#isRunning = true;
    await Promise.all(Array.from({ length: this.concurrentCountMax }, () => this.#work(signal)));
    while (this.#running.size > 0) await Promise.all(this.#running); // CO4
    this.#isRunning = false;
    signal.removeEventListener("abort", stop);
  }

  async #work(signal: AbortSignal): Promise<void> {
    for (;;) {
      const key = await this.queue.take();
      if (key === undefined) return;
      const stop = new AbortController();
      const running = this.#reconcile(key, AbortSignal.any([signal, stop.signal]));
      const tracked = running.finally(() => this.#running.delete(tracked));
      this.#running.add(tracked);
      await this.#inTime(key, tracked, stop);
    }
  }

  /** CO3. */
  async #inTime(key: string, running: Promise<void>, stop: AbortController): Promise<void> {
    const { env, observer, timeoutMs = TIMEOUT_MS } = this.#options;
    const late = Symbol("late");
    if ((await withTimeout(running, env.timers, timeoutMs, () => late)) !== late) return;
    observer?.timedOut();
    env.log.warn("reconcile took too long and is aborted", { controller: this.name, key, timeoutMs });
    stop.abort();
    if ((await withTimeout(running, env.timers, ABORT_GRACE_MS, () => late)) !== late) return;
    env.log.error("an aborted reconcile does not end; its key stays locked", { controller: this.name, key });
  }

  /** Never rejects (CO2). */
  async #reconcile(key: string, signal: AbortSignal): Promise<void> {
    const { env, gate, reconcile, observer } = this.#options;
    const startedMs = env.clock.nowMs();
    let outcome: ReconcileOutcome = "error";
    let requeueAfterMs: number | undefined;
    try {
      const settled = gate === undefined ? { ready: true as const } : await gate.settle(key, signal);
      if (settled.ready) {
        ({ requeueAfterMs } = await reconcile(key, signal));
        outcome = requeueAfterMs === undefined ? "success" : "requeue_after";
      } else {
        requeueAfterMs = settled.retryAfterMs;
        outcome = "requeue";
      }
    } catch (thrown) {
      if (!isFailure(thrown) && !isApiError(thrown)) observer?.panicked();
      this.#logFailure(key, thrown);
    }
    observer?.reconciled(outcome, env.clock.nowMs() - startedMs);
    this.queue.done(key);
    if (outcome === "error") this.queue.addRateLimited(key);
    else {
      if (outcome !== "requeue") this.queue.forget(key);
      if (requeueAfterMs !== undefined) this.queue.addAfter(key, Math.max(1, requeueAfterMs));
    }
  }

  #logFailure(key: string, thrown: unknown): void {
    const { log } = this.#options.env;
    const failure = isApiError(thrown) ? thrown : toFailure(thrown);
    const fields = { controller: this.name, key, failures: this.queue.failuresOf(key) + 1, error: failure.message };
    if (isFailure(thrown) || isApiError(thrown)) log.warn("reconcile failed", fields);
    else log.error("reconcile threw: a bug", { ...fields, stack: (thrown as { stack?: string }).stack });
  }
}

/** Resolves when all of them are synced, or rejects with CANCELED when `signal` fires. */
export async function whenAllSynced(
  caches: readonly { whenSynced(): Promise<void> }[],
  signal: AbortSignal,
): Promise<void> {
  const aborted = deferred<never>();
  const onAbort = (): void => aborted.reject(canceled("waiting for the caches"));
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([Promise.all(caches.map((cache) => cache.whenSynced())), aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
