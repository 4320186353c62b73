// The heart of a simulated world: one queue of events in virtual time, run one after the other.
//
// Invariants:
//   EL1. Events run in (time, seeded tie, insertion) order; the same seed gives the same order.
//   EL2. After each event one real setImmediate passes: every promise continuation has run before the next event.
//   EL3. An event of a dead owner never runs; one of a paused owner waits until the owner goes on.
//   EL4. Every event is mixed into the trace hash: equal hashes mean equal runs.
//
// Not here: who the owners are (node.ts).

import type { Cancel, Rng } from "@sluice/kit/env";

/** Captured before the tripwires replace the global (tripwires.ts). */
const barrier = setImmediate;
const TRACE_COUNT_MAX = 400;

/** Whoever an event belongs to: an incarnation of a node, or the world itself. */
export interface EventOwner {
  readonly name: string;
  isAlive: boolean;
  /** Events before this time wait. */
  pausedUntilMs: number;
}

interface Scheduled {
  atMs: number;
  readonly tie: number;
  readonly seq: number;
  readonly owner: EventOwner;
  readonly label: string;
  run: (() => void) | undefined;
}

export class EventLoop {
  nowMs = 0;
  eventCount = 0;
  readonly #rng: Rng;
  readonly #heap: Scheduled[] = [];
  readonly #trace: string[] = [];
  readonly #keepsTrace: boolean;
  #traceAt = 0;
  #seq = 0;
  #hash = 0x811c9dc5;

  constructor(rng: Rng, options: { readonly keepsTrace: boolean }) {
    this.#rng = rng;
    this.#keepsTrace = options.keepsTrace;
  }

  /** Runs `run` after `delayMs` of virtual time, unless it is cancelled or its owner dies (EL3). */
  at(delayMs: number, owner: EventOwner, label: string, run: () => void): Cancel {
    const event: Scheduled = {
      atMs: this.nowMs + Math.max(0, delayMs),
      tie: this.#rng.u32(),
      seq: this.#seq,
      owner,
      label,
      run,
    };
    this.#seq += 1;
    this.#push(event);
    return () => {
      event.run = undefined; // it stays in the heap as nothing: cheaper than searching it
    };
  }

  /** Runs the next event; false when there is none. */
  async runOne(): Promise<boolean> {
    const event = this.#next();
    if (event === undefined) return false;
    this.nowMs = event.atMs;
    this.eventCount += 1;
    this.note(event.owner.name, event.label);
    const { run } = event;
    event.run = undefined;
    run?.();
    await new Promise<void>((resolve) => barrier(resolve)); // EL2
    return true;
  }

  /** Adds a line to the trace, part of the hash (EL4). */
  note(owner: string, text: string): void {
    const line = `${this.nowMs.toFixed(1)} ${owner} ${text}`;
    for (let i = 0; i < line.length; i += 1) this.#hash = Math.imul(this.#hash ^ line.charCodeAt(i), 0x01000193);
    if (this.#keepsTrace) this.#trace.push(line);
    else {
      this.#trace[this.#traceAt] = line;
      this.#traceAt = (this.#traceAt + 1) % TRACE_COUNT_MAX;
    }
  }

  get hash(): number {
    return this.#hash >>> 0;
  }

  /** The newest lines, oldest first. */
  tail(countMax: number): readonly string[] {
    const lines = this.#keepsTrace
      ? this.#trace
      : [...this.#trace.slice(this.#traceAt), ...this.#trace.slice(0, this.#traceAt)];
    return lines.slice(-countMax);
  }

  /** The next event that may run; the paused go back into the queue for when they may. */
  #next(): Scheduled | undefined {
    for (;;) {
      const event = this.#pop();
      if (event === undefined) return undefined;
      if (event.run === undefined || !event.owner.isAlive) continue;
      if (event.owner.pausedUntilMs <= event.atMs) return event;
      event.atMs = event.owner.pausedUntilMs;
      this.#push(event);
    }
  }

  #push(event: Scheduled): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] as Scheduled;
      if (!isBefore(event, above)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): Scheduled | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined || top === last) return top;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      const right = child + 1;
      if (right < heap.length && isBefore(heap[right] as Scheduled, heap[child] as Scheduled)) child = right;
      if (!isBefore(heap[child] as Scheduled, last)) break;
      heap[at] = heap[child] as Scheduled;
      at = child;
    }
    heap[at] = last;
    return top;
  }
}

function isBefore(a: Scheduled, b: Scheduled): boolean {
  if (a.atMs !== b.atMs) return a.atMs < b.atMs;
  if (a.tie !== b.tie) return a.tie < b.tie;
  return a.seq < b.seq;
}
