// A heap of timers, earliest first, made for millions of them: times and order stand in typed arrays, so that moving up and down
// touches no timer. One that is taken out from the middle stays as a dead one until it comes up, or until dead ones are the majority.
//
// Invariants:
//   TP1. A timer comes out at most once, and never after it was removed.
//   TP2. No timer comes before its parent: by timestamp, among equal ones by the order of their registration.
//   TP3. At most half of the places, or 64, are taken by dead timers.
//
// Not here: which timers there are (timer-table.ts).

import { assert } from "@sluice/kit";

/** What the heap needs of a timer. */
export interface HeapItem {
  readonly timestampMs: number;
  readonly serial: number;
  isDead: boolean;
}

/** Children per place: four times lie in one cache line. */
const ARITY = 4;
const FIRST_CAPACITY = 64;
const DEAD_MIN = 64;

export class TimerHeap<T extends HeapItem> {
  #items: T[] = [];
  #times = new Float64Array(FIRST_CAPACITY);
  #serials = new Float64Array(FIRST_CAPACITY);
  #deadCount = 0;

  get size(): number {
    return this.#items.length - this.#deadCount;
  }

  /** The earliest. */
  first(): T | undefined {
    for (;;) {
      const item = this.#items[0];
      if (item === undefined || !item.isDead) return item;
      this.#deadCount -= 1;
      this.#pop();
    }
  }

  add(item: T): void {
    assert(!item.isDead, "TP1: a timer that was taken out does not come back");
    const index = this.#items.length;
    if (index === this.#times.length) this.#grow();
    this.#items.push(item);
    this.#rise(item, index);
  }

  /** Takes a timer out that is in the heap. */
  remove(item: T): void {
    assert(!item.isDead, "TP1: a timer is taken out once");
    item.isDead = true;
    if (this.#items[0] === item) {
      this.#pop();
      return;
    }
    this.#deadCount += 1;
    if (this.#deadCount > DEAD_MIN && this.#deadCount * 2 > this.#items.length) this.#rebuild(); // TP3
  }

  #pop(): void {
    const last = this.#items.pop() as T;
    if (this.#items.length > 0) this.#sink(last, 0);
  }

  #rebuild(): void {
    this.#items = this.#items.filter((item) => !item.isDead);
    this.#deadCount = 0;
    const count = this.#items.length;
    for (let i = 0; i < count; i += 1) this.#place(i, this.#items[i] as T);
    for (let i = Math.floor((count - 2) / ARITY); i >= 0; i -= 1) this.#sink(this.#items[i] as T, i);
  }

  #rise(item: T, from: number): void {
    const { timestampMs, serial } = item;
    let index = from;
    while (index > 0) {
      const parent = Math.floor((index - 1) / ARITY);
      if (!this.#isBefore(timestampMs, serial, parent)) break;
      this.#move(parent, index);
      index = parent;
    }
    this.#place(index, item);
  }

  #sink(item: T, from: number): void {
    const times = this.#times;
    const serials = this.#serials;
    const size = this.#items.length;
    let index = from;
    for (;;) {
      const firstChild = ARITY * index + 1;
      if (firstChild >= size) break;
      const end = Math.min(size, firstChild + ARITY);
      let child = firstChild;
      for (let i = firstChild + 1; i < end; i += 1) {
        if (this.#isBefore(times[i] as number, serials[i] as number, child)) child = i;
      }
      if (this.#isBefore(item.timestampMs, item.serial, child)) break;
      this.#move(child, index);
      index = child;
    }
    this.#place(index, item);
  }

  /** TP2. */
  #isBefore(timestampMs: number, serial: number, index: number): boolean {
    const other = this.#times[index] as number;
    return timestampMs < other || (timestampMs === other && serial < (this.#serials[index] as number));
  }

  #move(from: number, to: number): void {
    this.#items[to] = this.#items[from] as T;
    this.#times[to] = this.#times[from] as number;
    this.#serials[to] = this.#serials[from] as number;
  }

  #place(index: number, item: T): void {
    this.#items[index] = item;
    this.#times[index] = item.timestampMs;
    this.#serials[index] = item.serial;
  }

  #grow(): void {
    const capacity = this.#times.length * 2;
    const [times, serials] = [new Float64Array(capacity), new Float64Array(capacity)];
    times.set(this.#times);
    serials.set(this.#serials);
    this.#times = times;
    this.#serials = serials;
  }
}
