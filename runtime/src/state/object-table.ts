// Table of single values for all types that have no layout of their own, as the user's own objects.
//
// Ownership: a value belongs to the state from update() on. A value that value() returned may be changed in place during
// the same record, but the change is only sure to be kept when update() is called; afterwards, and in later records,
// references from before must not be written through.
//
// Invariants: TB1-TB4 of table.ts, ET1-ET4 of entry-table.ts, and
//   OT1. A mutable value of an open cut is encoded before value() hands it out.
//
// Not here: numbers and strings with layouts of their own (number-table.ts, string-table.ts), lists and maps element by element
// (list-table.ts, map-table.ts).

import { ByteWriter } from "@sluice/kit";
import type { ByteReader } from "@sluice/kit";
import type { StoredStateKind, TypeDescriptor, ValueState } from "../model/index.ts";
import { codecFor, isMutable } from "./codec.ts";
import type { ValueCodec } from "./codec.ts";
import { EntryTable } from "./entry-table.ts";
import type { Capture, Entry, EntryLayout, Ghost } from "./entry-table.ts";
import type { KeyScope } from "./keys.ts";
import type { OpenCut, StateTable, TableCut, TableOptions } from "./table.ts";

interface ValueEntry extends Entry {
  value: unknown;
  stamp: number;
  /** An entry is its own only row (ET3). */
  readonly serial: 0;
}

/** A value before it was overwritten; `bytes` where the user may still write to it. */
interface ValueGhost extends Ghost {
  readonly value: unknown;
  readonly bytes: Uint8Array | undefined;
}

export class ObjectTable implements StateTable, ValueState<unknown>, EntryLayout<ValueEntry> {
  readonly stateName: string;
  readonly stateKind: StoredStateKind;
  readonly valueType: TypeDescriptor;
  readonly #scope: KeyScope;
  readonly #codec: ValueCodec;
  readonly #isMutable: boolean;
  readonly #entries: EntryTable<ValueEntry>;
  readonly #scratch = new ByteWriter(256);
  #entryCount = 0;

  constructor(scope: KeyScope, options: TableOptions) {
    this.stateName = options.stateName;
    this.stateKind = options.stateKind;
    this.valueType = options.valueType;
    this.#scope = scope;
    this.#codec = codecFor(options.valueType);
    this.#isMutable = isMutable(options.valueType);
    this.#entries = new EntryTable(scope, { ...options, layout: this });
  }

  get handle(): ValueState<unknown> {
    return this;
  }

  get entryCount(): number {
    return this.#entryCount;
  }

  value(): unknown {
    const entries = this.#entries;
    if (entries.epoch !== this.#scope.epoch) entries.locate("value()");
    const entry = entries.entry;
    if (entry === undefined) return undefined;
    if (this.#isMutable && entry.stamp !== entries.interval && entries.isCutOpen) this.#handOut(entry);
    return entry.value;
  }

  update(value: unknown): void {
    const problem = this.#codec.check(value);
    const entries = this.#entries;
    if (problem !== undefined) throw entries.mismatch(problem);
    if (entries.epoch !== this.#scope.epoch) entries.locate("update()");
    const entry = entries.entry;
    if (entry === undefined) {
      this.#insert(value);
      return;
    }
    if (entry.stamp !== entries.interval) this.#firstWrite(entry);
    entry.value = value;
  }

  clear(): void {
    const entries = this.#entries;
    if (entries.epoch !== this.#scope.epoch) entries.locate("clear()");
    if (entries.entry === undefined) return;
    entries.remove(entries.entry);
    this.#entryCount -= 1;
  }

  forget(): void {
    this.#entries.forget();
  }

  #insert(value: unknown): void {
    const entries = this.#entries;
    const stamp = entries.interval;
    entries.insert({ ...entries.newKey(), ghosts: undefined, removedFor: 0, value, stamp, serial: 0 });
    this.#entryCount += 1;
  }

  /** TB2: the old value is nobody's any more, so the reference is enough. */
  #firstWrite(entry: ValueEntry): void {
    const cuts = this.#entries.needers(entry, entry);
    if (cuts !== 0) this.#keep(entry, { cuts, value: entry.value, bytes: undefined });
    entry.stamp = this.#entries.interval;
  }

  /** OT1. Counts as a write: what the user changes in place belongs to the current interval. */
  #handOut(entry: ValueEntry): void {
    const cuts = this.#entries.needers(entry, entry);
    if (cuts === 0) return;
    this.#scratch.reset();
    this.#write(this.#scratch, entry.value);
    this.#keep(entry, { cuts, value: undefined, bytes: this.#scratch.toBytes() });
    entry.stamp = this.#entries.interval;
  }

  #keep(entry: ValueEntry, ghost: ValueGhost): void {
    this.#entries.keep(entry, ghost);
  }

  #write(into: ByteWriter, value: unknown): void {
    try {
      this.#codec.write(into, value);
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

  capture(entry: ValueEntry, capture: Capture<ValueEntry>): boolean {
    for (const ghost of (entry.ghosts ?? []) as ValueGhost[]) {
      if ((ghost.cuts & capture.bit) === 0) continue;
      if (ghost.bytes !== undefined) capture.row().raw(ghost.bytes);
      else this.#write(capture.row(), ghost.value);
      return true;
    }
    if (entry.stamp <= capture.interval) this.#write(capture.row(), entry.value); // TB1
    return true;
  }

  load(from: ByteReader, keyGroup: number): number {
    return this.#entries.load(from, keyGroup, () => {
      if (this.#entries.entry !== undefined) throw from.failure("a key that occurs twice");
      this.#insert(this.#codec.read(from));
    });
  }
}
