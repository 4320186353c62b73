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

import { ByteWriter, planted } from "@sluice/kit";
import type { ByteReader } from "@sluice/kit";
import type { StoredStateKind, TypeDescriptor, ValueState } from "../model/index.ts";
import { codecFor, isMutable } from "./codec.ts";
import type { ValueCodec } from "./codec.ts";
import { EntryTable } from "./entry-table.ts";
import type { Capture, Entry, EntryLayout, Ghost, Sweep } from "./entry-table.ts";
import type { KeyScope } from "./keys.ts";
import { readTime } from "./table.ts";
import type { OpenCut, RestoredTimes, StateTable, TableCut, TableOptions } from "./table.ts";
import { SWEPT_PER_ACCESS } from "./ttl.ts";
import type { Ttl } from "./ttl.ts";

interface ValueEntry extends Entry {
  value: unknown;
  /** With a time to live: when it began. */
  timeMs: number;
  stamp: number;
  /** An entry is its own only row (ET3). */
  readonly serial: 0;
}

/** A value before it was overwritten; `bytes` where the user may still write to it. */
interface ValueGhost extends Ghost {
  readonly value: unknown;
  readonly timeMs: number;
  readonly bytes: Uint8Array | undefined;
}

export class ObjectTable implements StateTable, ValueState<unknown>, EntryLayout<ValueEntry> {
  readonly stateName: string;
  readonly stateKind: StoredStateKind;
  readonly valueType: TypeDescriptor;
  readonly ttl: Ttl | undefined;
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
    this.ttl = options.ttl;
    this.#scope = scope;
    this.#codec = codecFor(options.valueType);
    this.#isMutable = isMutable(options.valueType) && !planted("handed-out-value-not-encoded");
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
    if (this.ttl !== undefined) return this.#valueInTime(entry, this.ttl);
    if (this.#isMutable && entry.stamp !== entries.interval && entries.isCutOpen) this.#handOut(entry);
    return entry.value;
  }

  update(value: unknown): void {
    const problem = this.#codec.check(value);
    const entries = this.#entries;
    if (problem !== undefined) throw entries.mismatch(problem);
    if (entries.epoch !== this.#scope.epoch) entries.locate("update()");
    const timeMs = this.ttl === undefined ? 0 : this.#startOfLife(this.ttl);
    const entry = entries.entry;
    if (entry === undefined) {
      this.#insert(value, timeMs);
      return;
    }
    if (entry.stamp !== entries.interval) this.#firstWrite(entry);
    entry.value = value;
    entry.timeMs = timeMs;
  }

  clear(): void {
    const entries = this.#entries;
    if (entries.epoch !== this.#scope.epoch) entries.locate("clear()");
    if (entries.entry !== undefined) this.#remove(entries.entry);
  }

  sweep(rowsMax: number): void {
    this.#entries.sweep(rowsMax, undefined);
  }

  /** As value(), with the rules of the time to live. */
  #valueInTime(entry: ValueEntry, ttl: Ttl): unknown {
    const entries = this.#entries;
    const nowMs = ttl.nowMs();
    const isExpired = entry.timeMs <= ttl.expiredThroughMs(nowMs);
    if (isExpired && !ttl.returnsExpired) {
      this.#remove(entry);
      entries.sweep(SWEPT_PER_ACCESS, this.#entries.entry);
      return undefined;
    }
    const { value } = entry;
    if (this.#isMutable && entry.stamp !== entries.interval && entries.isCutOpen) this.#handOut(entry);
    if (isExpired) {
      this.#remove(entry);
    } else if (ttl.renewsOnRead) {
      if (entry.stamp !== entries.interval) this.#firstWrite(entry);
      entry.timeMs = nowMs;
    }
    entries.sweep(SWEPT_PER_ACCESS, this.#entries.entry);
    return value;
  }

  /** Of a value that is written now. */
  #startOfLife(ttl: Ttl): number {
    this.#entries.sweep(SWEPT_PER_ACCESS, this.#entries.entry);
    return ttl.nowMs();
  }

  #remove(entry: ValueEntry): void {
    this.#entries.remove(entry);
    this.#entryCount -= 1;
  }

  expire(entry: ValueEntry, sweep: Sweep): boolean {
    sweep.room -= 1;
    if (entry.timeMs <= sweep.expiredThroughMs) this.#remove(entry);
    return true;
  }

  forget(): void {
    this.#entries.forget();
  }

  #insert(value: unknown, timeMs: number): void {
    const entries = this.#entries;
    const stamp = entries.interval;
    entries.insert({ ...entries.newKey(), ghosts: undefined, removedFor: 0, value, timeMs, stamp, serial: 0 });
    this.#entryCount += 1;
  }

  /** TB2: the old value is nobody's any more, so the reference is enough. */
  #firstWrite(entry: ValueEntry): void {
    const cuts = this.#entries.needers(entry, entry);
    if (cuts !== 0) this.#keep(entry, { cuts, value: entry.value, timeMs: entry.timeMs, bytes: undefined });
    entry.stamp = this.#entries.interval;
  }

  /** OT1. Counts as a write: what the user changes in place belongs to the current interval. */
  #handOut(entry: ValueEntry): void {
    const cuts = this.#entries.needers(entry, entry);
    if (cuts === 0) return;
    this.#scratch.reset();
    this.#write(this.#scratch, entry.value);
    this.#keep(entry, { cuts, value: undefined, timeMs: entry.timeMs, bytes: this.#scratch.toBytes() });
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
      this.#writeRow(capture, ghost, ghost.bytes);
      return true;
    }
    if (entry.stamp <= capture.interval) this.#writeRow(capture, entry, undefined); // TB1
    return true;
  }

  #writeRow(
    capture: Capture<ValueEntry>,
    row: { readonly value: unknown; readonly timeMs: number },
    bytes: Uint8Array | undefined,
  ): void {
    if (row.timeMs <= capture.expiredThroughMs) return;
    const into = capture.row();
    if (capture.hasTimes) into.long(row.timeMs);
    if (bytes === undefined) this.#write(into, row.value);
    else into.raw(bytes);
  }

  load(from: ByteReader, keyGroup: number, times: RestoredTimes): number {
    return this.#entries.load(from, keyGroup, () => {
      if (this.#entries.entry !== undefined) throw from.failure("a key that occurs twice");
      const timeMs = readTime(from, times);
      this.#insert(this.#codec.read(from), timeMs);
    });
  }
}
