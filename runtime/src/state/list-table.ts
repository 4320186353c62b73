// Table of lists, one per key, as arrays that only grow until they are replaced.
//
// Ownership: an element belongs to the state from add(), addAll() or update() on; the array never leaves. An element that get()
// returned may be changed in place during the same record if update() is called afterwards.
//
// Invariants: TB1, TB2, TB4 of table.ts, ET1-ET4 of entry-table.ts, and
//   LT1. An array is only ever appended to; update() and clear() leave it as it is. So an array and a length are a content that
//        stays, and appending to a list that a cut needs costs no more than to any other.
//   LT2. Mutable elements of an open cut are encoded before get() hands them out.
//
// A long list is written as several rows of its key, whose elements follow one another.
//
// Not here: ListState of operators (model/operator.ts).

import { ByteReader, ByteWriter, planted } from "@sluice/kit";
import type { ListState, TypeDescriptor } from "../model/index.ts";
import { codecFor, isMutable } from "./codec.ts";
import type { ValueCodec } from "./codec.ts";
import { EntryTable, ROWS_PER_PORTION } from "./entry-table.ts";
import type { Capture, Entry, EntryLayout, Ghost, Sweep } from "./entry-table.ts";
import type { KeyScope } from "./keys.ts";
import { readTime } from "./table.ts";
import type { OpenCut, RestoredTimes, StateTable, TableCut, TableOptions } from "./table.ts";
import { SWEPT_PER_ACCESS } from "./ttl.ts";
import type { Ttl } from "./ttl.ts";

const ELEMENTS_PER_ROW = 1024;
const NO_ELEMENTS: readonly never[] = [];

/** LT1. With a time to live every element has its time. */
interface Elements {
  readonly items: readonly unknown[];
  readonly timesMs: readonly number[] | undefined;
  readonly length: number;
}

interface ListEntry extends Entry {
  items: unknown[];
  timesMs: number[] | undefined;
  stamp: number;
  /** A list is captured by reference at once (LT1). */
  readonly serial: 0;
}

interface ListGhost extends Ghost {
  /** Copies, once the elements were handed out, where a time to live may leave some out of some cuts (LT2). */
  elements: Elements;
  areCopies: boolean;
  /** Rows, once the elements were handed out, in all other cases (LT2). */
  rows: readonly Uint8Array[] | undefined;
}

/** How far the capture of a list has come. */
interface Resume {
  readonly elements: Elements;
  next: number;
}

export class ListTable implements StateTable, ListState<unknown>, EntryLayout<ListEntry> {
  readonly stateName: string;
  readonly stateKind = "list";
  readonly valueType: TypeDescriptor;
  readonly ttl: Ttl | undefined;
  readonly #scope: KeyScope;
  readonly #codec: ValueCodec;
  readonly #isMutable: boolean;
  readonly #entries: EntryTable<ListEntry>;
  readonly #scratch = new ByteWriter(256);
  #entryCount = 0;

  /** `valueType` is a LIST of the elements' type. */
  constructor(scope: KeyScope, options: TableOptions & { readonly elementType: TypeDescriptor }) {
    this.stateName = options.stateName;
    this.valueType = options.valueType;
    this.ttl = options.ttl;
    this.#scope = scope;
    this.#codec = codecFor(options.elementType);
    this.#isMutable = isMutable(options.elementType) && !planted("handed-out-value-not-encoded");
    this.#entries = new EntryTable(scope, { ...options, layout: this });
  }

  get handle(): ListState<unknown> {
    return this;
  }

  get entryCount(): number {
    return this.#entryCount;
  }

  get(): Iterable<unknown> {
    const entry = this.#current("get()");
    if (entry === undefined) return NO_ELEMENTS;
    if (this.#isMutable && this.#entries.isCutOpen) this.#handOut(entry);
    return this.ttl === undefined ? entry.items.slice() : this.#elementsInTime(entry, this.ttl);
  }

  add(value: unknown): void {
    this.#check(value);
    const entry = this.#current("add()");
    if (entry === undefined) {
      this.#insert([value], this.#timesOf(1));
      return;
    }
    if (entry.stamp !== this.#entries.interval) this.#firstWrite(entry);
    entry.items.push(value);
    if (this.ttl !== undefined) entry.timesMs?.push(this.ttl.nowMs());
  }

  addAll(values: Iterable<unknown>): void {
    const added = this.#checkAll(values);
    const entry = this.#current("addAll()");
    if (added.length === 0) return;
    const timesMs = this.#timesOf(added.length);
    if (entry === undefined) {
      this.#insert(added, timesMs);
      return;
    }
    if (entry.stamp !== this.#entries.interval) this.#firstWrite(entry);
    for (let i = 0; i < added.length; i += 1) entry.items.push(added[i]);
    for (let i = 0; i < (timesMs?.length ?? 0); i += 1) entry.timesMs?.push(timesMs?.[i] as number);
  }

  update(values: Iterable<unknown>): void {
    const items = this.#checkAll(values);
    const entry = this.#current("update()");
    if (items.length === 0) {
      if (entry !== undefined) this.#remove(entry);
    } else if (entry === undefined) {
      this.#insert(items, this.#timesOf(items.length));
    } else {
      this.#replace(entry, items, this.#timesOf(items.length));
    }
  }

  clear(): void {
    const entry = this.#current("clear()");
    if (entry !== undefined) this.#remove(entry);
  }

  forget(): void {
    this.#entries.forget();
  }

  sweep(rowsMax: number): void {
    this.#entries.sweep(rowsMax, undefined);
  }

  #current(what: string): ListEntry | undefined {
    if (this.#entries.epoch !== this.#scope.epoch) this.#entries.locate(what);
    if (this.ttl !== undefined) this.#entries.sweep(SWEPT_PER_ACCESS, this.#entries.entry);
    return this.#entries.entry;
  }

  /** For elements that are written now. */
  #timesOf(count: number): number[] | undefined {
    return this.ttl === undefined ? undefined : new Array<number>(count).fill(this.ttl.nowMs());
  }

  /** As get(), with the rules of the time to live. Expired elements go, the others begin anew if reading renews them. */
  #elementsInTime(entry: ListEntry, ttl: Ttl): readonly unknown[] {
    const nowMs = ttl.nowMs();
    const all = entry.items.slice();
    this.#prune(entry, ttl.expiredThroughMs(nowMs));
    const isLeft = this.#entries.entry === entry;
    const alive = isLeft ? entry.items.slice() : NO_ELEMENTS;
    if (isLeft && ttl.renewsOnRead) this.#replace(entry, alive as unknown[], this.#timesOf(alive.length));
    return ttl.returnsExpired ? all : alive.slice();
  }

  /** Takes out the elements that have expired, and an entry that has no others. */
  #prune(entry: ListEntry, expiredThroughMs: number): void {
    const timesMs = entry.timesMs ?? [];
    if (!timesMs.some((timeMs) => timeMs <= expiredThroughMs)) return;
    const isAlive = (_: unknown, i: number): boolean => (timesMs[i] as number) > expiredThroughMs;
    const items = entry.items.filter(isAlive);
    if (items.length === 0) this.#remove(entry);
    else this.#replace(entry, items, timesMs.filter(isAlive));
  }

  /** A list is swept as a whole; a long one is paid for by the calls that follow. */
  expire(entry: ListEntry, sweep: Sweep): boolean {
    const debt = (sweep.resume as number | undefined) ?? entry.items.length;
    if (sweep.resume === undefined) this.#prune(entry, sweep.expiredThroughMs);
    sweep.resume = debt - sweep.room;
    sweep.room = Math.max(0, sweep.room - debt);
    return (sweep.resume as number) <= 0;
  }

  #check(value: unknown): void {
    const problem = this.#codec.check(value);
    if (problem !== undefined) throw this.#entries.mismatch(`element: ${problem}`);
  }

  /** The values as an array of our own. */
  #checkAll(values: Iterable<unknown>): unknown[] {
    const items = [...values];
    for (let i = 0; i < items.length; i += 1) {
      const problem = this.#codec.check(items[i]);
      if (problem !== undefined) throw this.#entries.mismatch(`element ${i}: ${problem}`);
    }
    return items;
  }

  #insert(items: unknown[], timesMs: number[] | undefined): void {
    const entries = this.#entries;
    const stamp = entries.interval;
    entries.insert({ ...entries.newKey(), ghosts: undefined, removedFor: 0, items, timesMs, stamp, serial: 0 });
    this.#entryCount += 1;
  }

  /** LT1. */
  #replace(entry: ListEntry, items: unknown[], timesMs: number[] | undefined): void {
    if (entry.stamp !== this.#entries.interval) this.#firstWrite(entry);
    entry.items = items;
    entry.timesMs = timesMs;
  }

  #remove(entry: ListEntry): void {
    this.#entries.remove(entry);
    this.#entryCount -= 1;
  }

  /** TB2, by reference (LT1). */
  #firstWrite(entry: ListEntry): void {
    const cuts = this.#entries.needers(entry, entry);
    if (cuts !== 0) {
      const ghost: ListGhost = { cuts, elements: elementsOf(entry), areCopies: false, rows: undefined };
      this.#entries.keep(entry, ghost);
    }
    entry.stamp = this.#entries.interval;
  }

  /** LT2. */
  #handOut(entry: ListEntry): void {
    this.#entries.finishCaptures(entry);
    if (entry.stamp !== this.#entries.interval) this.#firstWrite(entry);
    for (const ghost of (entry.ghosts ?? []) as ListGhost[]) {
      if (this.ttl === undefined) ghost.rows ??= this.#encoded(ghost.elements);
      else if (!ghost.areCopies) {
        ghost.elements = this.#copied(ghost.elements);
        ghost.areCopies = true;
      }
    }
  }

  #copied({ items, timesMs, length }: Elements): Elements {
    const copies: unknown[] = [];
    for (let i = 0; i < length; i += 1) {
      this.#scratch.reset();
      try {
        this.#codec.write(this.#scratch, items[i]);
      } catch (thrown) {
        throw this.#entries.named(thrown);
      }
      copies.push(this.#codec.read(new ByteReader(this.#scratch.view(), { what: "an element", code: "INTERNAL" })));
    }
    return { items: copies, timesMs, length };
  }

  #encoded(elements: Elements): readonly Uint8Array[] {
    const rows: Uint8Array[] = [];
    for (let from = 0; from < elements.length; from += ELEMENTS_PER_ROW) {
      this.#scratch.reset();
      this.#write(this.#scratch, elements, from, Number.NEGATIVE_INFINITY);
      rows.push(this.#scratch.toBytes());
    }
    return rows;
  }

  /** The row that begins with element `from`, which has at least one element that is alive. */
  #write(into: ByteWriter, { items, timesMs, length }: Elements, from: number, expiredThroughMs: number): void {
    const to = Math.min(length, from + ELEMENTS_PER_ROW);
    into.varint(aliveCount({ items, timesMs, length }, from, expiredThroughMs));
    try {
      for (let i = from; i < to; i += 1) {
        if (timesMs !== undefined) {
          if ((timesMs[i] as number) <= expiredThroughMs) continue;
          into.long(timesMs[i] as number);
        }
        this.#codec.write(into, items[i]);
      }
    } catch (thrown) {
      throw this.#entries.named(thrown);
    }
  }

  allKeys(): readonly unknown[] {
    return this.#entries.allKeys();
  }

  advance(interval: number): void {
    this.#entries.interval = interval;
  }

  cut(open: OpenCut): TableCut {
    return this.#entries.cut(open);
  }

  capture(entry: ListEntry, capture: Capture<ListEntry>): boolean {
    let resume = capture.resume as Resume | undefined;
    if (resume === undefined) {
      const ghost = (entry.ghosts as ListGhost[] | undefined)?.find(({ cuts }) => (cuts & capture.bit) !== 0);
      if (ghost?.rows !== undefined) {
        for (const row of ghost.rows) capture.row().raw(row);
        return true;
      }
      if (ghost === undefined && entry.stamp > capture.interval) return true; // TB1
      const elements = ghost?.elements ?? elementsOf(entry);
      resume = { elements, next: 0 };
      capture.resume = resume;
    }
    while (resume.next < resume.elements.length) {
      if (capture.room <= 0) return false;
      if (aliveCount(resume.elements, resume.next, capture.expiredThroughMs) > 0)
        this.#write(capture.row(), resume.elements, resume.next, capture.expiredThroughMs);
      resume.next += ELEMENTS_PER_ROW;
      // A row of many elements takes the room of as many rows of a map.
      capture.room -= resume.elements.length < ELEMENTS_PER_ROW ? 0 : ROWS_PER_PORTION;
    }
    return true;
  }

  load(from: ByteReader, keyGroup: number, times: RestoredTimes): number {
    return this.#entries.load(from, keyGroup, () => {
      const count = from.count(1);
      if (count === 0) throw from.failure("a list without elements");
      let { entry } = this.#entries;
      if (entry === undefined) {
        this.#insert([], this.#timesOf(0));
        ({ entry } = this.#entries);
      }
      for (let i = 0; i < count; i += 1) {
        const timeMs = readTime(from, times);
        entry?.items.push(this.#codec.read(from));
        entry?.timesMs?.push(timeMs);
      }
    });
  }
}

function elementsOf({ items, timesMs }: ListEntry): Elements {
  return { items, timesMs, length: items.length };
}

/** Of the row that begins with element `from`. */
function aliveCount({ timesMs, length }: Elements, from: number, expiredThroughMs: number): number {
  const to = Math.min(length, from + ELEMENTS_PER_ROW);
  if (timesMs === undefined) return to - from;
  let count = 0;
  for (let i = from; i < to; i += 1) if ((timesMs[i] as number) > expiredThroughMs) count += 1;
  return count;
}
