// The queue of keys to reconcile.
//
// Invariants:
//   WQ1. A key is handed to at most one worker at a time; what is added meanwhile is handed out once more after `done`.
//   WQ2. A key waits at most once, however often it is added; it keeps the highest priority it was added with.
//   WQ3. Higher priorities first, within one priority first come first served.
//   WQ4. Of several delayed additions of a key the earliest counts.
//   WQ5. Its size is bounded by the number of distinct keys: keys are names of objects that a cache holds.
//
// Not here: who takes keys (controller.ts).

import { assert, deferred } from "@sluice/kit";
import type { Deferred } from "@sluice/kit";
import type { Cancel, Clock, Timers } from "@sluice/kit/env";
import { ItemBackoff, TokenBucket } from "./rate-limits.ts";

export const NORMAL_PRIORITY = 0;
/** For objects of the first list: what changes while the controller starts goes first. */
export const LOW_PRIORITY = -100;

/** What the queue tells about itself; see metrics.ts. */
export interface QueueObserver {
  readonly added: () => void;
  readonly retried: () => void;
  /** A key was handed out after waiting so long. */
  readonly started: (waitedMs: number) => void;
  /** `done` was called after working so long. */
  readonly finished: (workedMs: number) => void;
}

export interface WorkQueueOptions {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly observer?: QueueObserver;
  /** Of one key; default 5 ms to 1000 s. */
  readonly itemBackoff?: { readonly baseMs: number; readonly maxMs: number };
  /** Of all retries together; default 10 a second, 100 at once. */
  readonly retryRate?: { readonly perSecond: number; readonly burst: number };
}

interface Waiting {
  readonly priority: number;
  readonly sinceMs: number;
  readonly order: number;
}

export class WorkQueue {
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #observer: QueueObserver | undefined;
  readonly #backoff: ItemBackoff;
  readonly #bucket: TokenBucket;
  readonly #waiting = new Map<string, Waiting>();
  /** Added while being worked on: the priority to wait with afterwards. */
  readonly #again = new Map<string, number>();
  /** Since when it is being worked on. */
  readonly #working = new Map<string, number>();
  readonly #delayed = new Map<string, { readonly dueMs: number; readonly cancel: Cancel }>();
  readonly #takers: Deferred<string | undefined>[] = [];
  #orderCount = 0;
  #isShutDown = false;

  constructor(options: WorkQueueOptions) {
    this.#clock = options.clock;
    this.#timers = options.timers;
    this.#observer = options.observer;
    this.#backoff = new ItemBackoff(options.itemBackoff ?? { baseMs: 5, maxMs: 1_000_000 });
    this.#bucket = new TokenBucket({ ...(options.retryRate ?? { perSecond: 10, burst: 100 }), clock: options.clock });
  }

  /** Keys that wait for a worker. */
  get depth(): number {
    return this.#waiting.size;
  }

  /** Keys being worked on. */
  get workingCount(): number {
    return this.#working.size;
  }

  /** How long the key that waits longest has waited; 0 when none does. */
  get oldestWaitingMs(): number {
    return this.#age([...this.#waiting.values()].map((one) => one.sinceMs));
  }

  /** How long the key that is worked on longest has been; 0 when none is. */
  get longestWorkingMs(): number {
    return this.#age([...this.#working.values()]);
  }

  /** Time that all keys being worked on have taken so far. */
  get unfinishedMs(): number {
    const nowMs = this.#clock.nowMs();
    return [...this.#working.values()].reduce((sum, sinceMs) => sum + nowMs - sinceMs, 0);
  }

  add(key: string, priority = NORMAL_PRIORITY): void {
    if (this.#isShutDown) return;
    this.#observer?.added();
    if (this.#working.has(key)) {
      this.#again.set(key, Math.max(this.#again.get(key) ?? priority, priority)); // WQ1
      return;
    }
    const waiting = this.#waiting.get(key);
    if (waiting === undefined) {
      this.#orderCount += 1;
      this.#waiting.set(key, { priority, sinceMs: this.#clock.nowMs(), order: this.#orderCount });
    } else if (waiting.priority < priority) {
      this.#waiting.set(key, { ...waiting, priority }); // WQ2
    }
    this.#handOut();
  }

  /** Adds it later, unless it is already to be added earlier (WQ4). */
  addAfter(key: string, delayMs: number, priority = NORMAL_PRIORITY): void {
    if (this.#isShutDown) return;
    if (delayMs <= 0) {
      this.add(key, priority);
      return;
    }
    const dueMs = this.#clock.nowMs() + delayMs;
    const planned = this.#delayed.get(key);
    if (planned !== undefined) {
      if (planned.dueMs <= dueMs) return;
      planned.cancel();
    }
    const cancel = this.#timers.after(delayMs, "work queue", () => {
      this.#delayed.delete(key);
      this.add(key, priority);
    });
    this.#delayed.set(key, { dueMs, cancel });
  }

  /** Adds it after a failure, when both rate limits allow. */
  addRateLimited(key: string): void {
    this.#observer?.retried();
    this.addAfter(key, Math.max(this.#backoff.nextDelayMs(key), this.#bucket.reserveMs()));
  }

  /** Failures in a row. */
  failuresOf(key: string): number {
    return this.#backoff.failuresOf(key);
  }

  /** It succeeded: the next failure is the first again. */
  forget(key: string): void {
    this.#backoff.forget(key);
  }

  /** The next key, when there is one; undefined after the shutdown. Every key taken must be given back with `done`. */
  take(): Promise<string | undefined> {
    if (this.#isShutDown) return Promise.resolve(undefined);
    const taker = deferred<string | undefined>();
    this.#takers.push(taker);
    this.#handOut();
    return taker.promise;
  }

  done(key: string): void {
    const sinceMs = this.#working.get(key);
    assert(sinceMs !== undefined, "WQ1: only a key that was taken is done");
    this.#working.delete(key);
    this.#observer?.finished(this.#clock.nowMs() - sinceMs);
    const again = this.#again.get(key);
    this.#again.delete(key);
    if (again === undefined || this.#isShutDown) return;
    this.#orderCount += 1;
    this.#waiting.set(key, { priority: again, sinceMs: this.#clock.nowMs(), order: this.#orderCount });
    this.#handOut();
  }

  /** Nothing is added or handed out any more; takers that wait get undefined. */
  shutDown(): void {
    this.#isShutDown = true;
    for (const { cancel } of this.#delayed.values()) cancel();
    this.#delayed.clear();
    this.#waiting.clear();
    this.#again.clear();
    for (const taker of this.#takers.splice(0)) taker.resolve(undefined);
  }

  #handOut(): void {
    while (this.#takers.length > 0) {
      const key = this.#first();
      if (key === undefined) return;
      const waiting = this.#waiting.get(key)!;
      this.#waiting.delete(key);
      assert(!this.#working.has(key), "WQ1: one worker per key");
      const nowMs = this.#clock.nowMs();
      this.#working.set(key, nowMs);
      this.#observer?.started(nowMs - waiting.sinceMs);
      this.#takers.shift()!.resolve(key);
    }
  }

  /** WQ3. A scan: a controller has tens or hundreds of keys, and most of the time none waits. */
  #first(): string | undefined {
    let first: string | undefined;
    let best: Waiting | undefined;
    for (const [key, waiting] of this.#waiting) {
      if (best !== undefined && (waiting.priority < best.priority || isLater(waiting, best))) continue;
      [first, best] = [key, waiting];
    }
    return first;
  }

  #age(since: readonly number[]): number {
    return since.length === 0 ? 0 : this.#clock.nowMs() - Math.min(...since);
  }
}

function isLater(one: Waiting, other: Waiting): boolean {
  return one.priority === other.priority && one.order > other.order;
}
