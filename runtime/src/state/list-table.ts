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

import { ByteWriter } from "@sluice/kit";
import type { ByteReader } from "@sluice/kit";
import type { ListState, TypeDescriptor } from "../model/index.ts";
import { codecFor, isMutable } from "./codec.ts";
import type { ValueCodec } from "./codec.ts";
import { EntryTable, ROWS_PER_PORTION } from "./entry-table.ts";
import type { Capture, Entry, EntryLayout, Ghost } from "./entry-table.ts";
import type { KeyScope } from "./keys.ts";
import type { OpenCut, StateTable, TableCut, TableOptions } from "./table.ts";

const ELEMENTS_PER_ROW = 1024;
const NO_ELEMENTS: readonly never[] = [];

/** LT1. */
interface Elements {
  readonly items: readonly unknown[];
  readonly length: number;
}

interface ListEntry extends Entry {
  items: unknown[];
  stamp: number;
  /** A list is captured by reference at once (LT1). */
  readonly serial: 0;
}

interface ListGhost extends Ghost {
  readonly elements: Elements;
  /** Rows, once the elements were handed out (LT2). */
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
    this.#scope = scope;
    this.#codec = codecFor(options.elementType);
    this.#isMutable = isMutable(options.elementType);
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
    return entry.items.slice();
  }

  add(value: unknown): void {
    this.#check(value);
    const entry = this.#current("add()");
    if (entry === undefined) {
      this.#insert([value]);
      return;
    }
    if (entry.stamp !== this.#entries.interval) this.#firstWrite(entry);
    entry.items.push(value);
  }

  addAll(values: Iterable<unknown>): void {
    const added = this.#checkAll(values);
    const entry = this.#current("addAll()");
    if (added.length === 0) return;
    if (entry === undefined) {
      this.#insert(added);
      return;
    }
    if (entry.stamp !== this.#entries.interval) this.#firstWrite(entry);
    for (let i = 0; i < added.length; i += 1) entry.items.push(added[i]);
  }

  update(values: Iterable<unknown>): void {
    const items = this.#checkAll(values);
    const entry = this.#current("update()");
    if (items.length === 0) {
      if (entry !== undefined) this.#remove(entry);
    } else if (entry === undefined) {
      this.#insert(items);
    } else {
      if (entry.stamp !== this.#entries.interval) this.#firstWrite(entry);
      entry.items = items;
    }
  }

  clear(): void {
    const entry = this.#current("clear()");
    if (entry !== undefined) this.#remove(entry);
  }

  forget(): void {
    this.#entries.forget();
  }

  #current(what: string): ListEntry | undefined {
    if (this.#entries.epoch !== this.#scope.epoch) this.#entries.locate(what);
    return this.#entries.entry;
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

  #insert(items: unknown[]): void {
    const entries = this.#entries;
    const stamp = entries.interval;
    entries.insert({ ...entries.newKey(), ghosts: undefined, removedFor: 0, items, stamp, serial: 0 });
    this.#entryCount += 1;
  }

  #remove(entry: ListEntry): void {
    this.#entries.remove(entry);
    this.#entryCount -= 1;
  }

  /** TB2, by reference (LT1). */
  #firstWrite(entry: ListEntry): void {
    const cuts = this.#entries.needers(entry, entry);
    if (cuts !== 0) {
      const ghost: ListGhost = { cuts, elements: { items: entry.items, length: entry.items.length }, rows: undefined };
      this.#entries.keep(entry, ghost);
    }
    entry.stamp = this.#entries.interval;
  }

  /** LT2. */
  #handOut(entry: ListEntry): void {
    this.#entries.finishCaptures(entry);
    if (entry.stamp !== this.#entries.interval) this.#firstWrite(entry);
    for (const ghost of (entry.ghosts ?? []) as ListGhost[]) ghost.rows ??= this.#encoded(ghost.elements);
  }

  #encoded(elements: Elements): readonly Uint8Array[] {
    const rows: Uint8Array[] = [];
    for (let from = 0; from < elements.length; from += ELEMENTS_PER_ROW) {
      this.#scratch.reset();
      this.#write(this.#scratch, elements, from);
      rows.push(this.#scratch.toBytes());
    }
    return rows;
  }

  /** The row that begins with element `from`. */
  #write(into: ByteWriter, { items, length }: Elements, from: number): void {
    const to = Math.min(length, from + ELEMENTS_PER_ROW);
    into.varint(to - from);
    try {
      for (let i = from; i < to; i += 1) this.#codec.write(into, items[i]);
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
      const elements = ghost?.elements ?? { items: entry.items, length: entry.items.length };
      resume = { elements, next: 0 };
      capture.resume = resume;
    }
    while (resume.next < resume.elements.length) {
      if (capture.room <= 0) return false;
      this.#write(capture.row(), resume.elements, resume.next);
      resume.next += ELEMENTS_PER_ROW;
      // A row of many elements takes the room of as many rows of a map.
      capture.room -= resume.elements.length < ELEMENTS_PER_ROW ? 0 : ROWS_PER_PORTION;
    }
    return true;
  }

  load(from: ByteReader, keyGroup: number): number {
    return this.#entries.load(from, keyGroup, () => {
      const count = from.count(1);
      if (count === 0) throw from.failure("a list without elements");
      const items: unknown[] = [];
      for (let i = 0; i < count; i += 1) items.push(this.#codec.read(from));
      const { entry } = this.#entries;
      if (entry === undefined) this.#insert(items);
      else for (const item of items) entry.items.push(item);
    });
  }
}
