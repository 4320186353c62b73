// Table of maps, one per key, row by row: an entry of a map is a row of its own, with its own stamp. Putting into a large map costs
// what putting into a small one costs, also under a cut.
//
// Ownership: as in object-table.ts, for each value of the map. Row keys are copied.
//
// Invariants: TB1, TB2, TB4 of table.ts, ET1-ET4 of entry-table.ts, RW1 and RW2 of rows.ts, and
//   MT1. A mutable value of an open cut is encoded before get(), entries() or values() hands it out.
//   MT2. A key without rows has no entry.
//
// A row in a snapshot is: key | row key | time? | value.
//
// Not here: broadcast state, which is no keyed state.

import { ByteReader, ByteWriter, Failure, planted } from "@sluice/kit";
import type { MapState, TypeDescriptor } from "../model/index.ts";
import { canBeKey, describeType } from "../model/index.ts";
import { codecFor, isMutable } from "./codec.ts";
import type { ValueCodec } from "./codec.ts";
import { EntryTable } from "./entry-table.ts";
import type { Capture, EntryLayout, Sweep } from "./entry-table.ts";
import { bytesAsText, keyFormOf } from "./keys.ts";
import type { KeyScope } from "./keys.ts";
import { captureRows, deleteRow, findRow, keepRow, rowCount, rowsOf, setRow } from "./rows.ts";
import type { Row, RowEntry, RowGhost } from "./rows.ts";
import { readTime } from "./table.ts";
import type { OpenCut, RestoredTimes, StateTable, TableCut, TableOptions } from "./table.ts";
import { SWEPT_PER_ACCESS } from "./ttl.ts";
import type { Ttl } from "./ttl.ts";

type MapEntry = RowEntry<Row>;

export class MapTable implements StateTable, MapState<unknown, unknown>, EntryLayout<MapEntry> {
  readonly stateName: string;
  readonly stateKind = "map";
  readonly valueType: TypeDescriptor;
  readonly ttl: Ttl | undefined;
  readonly #scope: KeyScope;
  readonly #keyCodec: ValueCodec;
  /** True: row keys are held as the bytes of their encoding, one per char. */
  readonly #encodesKeys: boolean;
  readonly #valueCodec: ValueCodec;
  readonly #isMutable: boolean;
  readonly #entries: EntryTable<MapEntry>;
  readonly #scratch = new ByteWriter(256);
  #entryCount = 0;
  #serial = 0;

  /** `valueType` is a MAP of these two. Failure TYPE_MISMATCH for keys without canonical encoding. */
  constructor(
    scope: KeyScope,
    options: TableOptions & { readonly rowKeyType: TypeDescriptor; readonly rowValueType: TypeDescriptor },
  ) {
    this.stateName = options.stateName;
    this.valueType = options.valueType;
    this.ttl = options.ttl;
    this.#scope = scope;
    if (!canBeKey(options.rowKeyType)) {
      throw new Failure("TYPE_MISMATCH", {
        retry: "never",
        message: `operator uid ${scope.uid}, state "${options.stateName}": ${describeType(options.rowKeyType)} cannot be the key type of a map`,
        remedy: "use keys of INT, LONG, DOUBLE, BOOLEAN, INSTANT, STRING, BYTES, or TUPLE, ROW or LIST of them",
      });
    }
    this.#keyCodec = codecFor(options.rowKeyType);
    this.#encodesKeys = keyFormOf(options.rowKeyType) === "encoded";
    this.#valueCodec = codecFor(options.rowValueType);
    this.#isMutable = isMutable(options.rowValueType) && !planted("handed-out-value-not-encoded");
    this.#entries = new EntryTable(scope, { ...options, layout: this });
  }

  get handle(): MapState<unknown, unknown> {
    return this;
  }

  /** Rows. */
  get entryCount(): number {
    return this.#entryCount;
  }

  get(key: unknown): unknown {
    const mapKey = this.#mapKey(key);
    const entry = this.#current("get()");
    if (entry === undefined) return undefined;
    const row = findRow(entry, mapKey);
    return row === undefined || !this.#isReadable(entry, row) ? undefined : this.#valueOf(entry, row);
  }

  contains(key: unknown): boolean {
    const mapKey = this.#mapKey(key);
    const entry = this.#current("contains()");
    const row = entry === undefined ? undefined : findRow(entry, mapKey);
    return entry !== undefined && row !== undefined && this.#isReadable(entry, row);
  }

  put(key: unknown, value: unknown): void {
    const mapKey = this.#mapKey(key);
    const problem = this.#valueCodec.check(value);
    if (problem !== undefined) throw this.#entries.mismatch(`value: ${problem}`);
    const entry = this.#current("put()");
    this.#put(entry, { mapKey, value, timeMs: this.ttl === undefined ? 0 : this.ttl.nowMs() });
  }

  putAll(entries: Iterable<readonly [unknown, unknown]>): void {
    for (const [key, value] of entries) this.put(key, value);
  }

  remove(key: unknown): void {
    const mapKey = this.#mapKey(key);
    const entry = this.#current("remove()");
    if (entry === undefined) return;
    const row = findRow(entry, mapKey);
    if (row !== undefined) this.#remove(entry, row);
  }

  clear(): void {
    const entry = this.#current("clear()");
    if (entry === undefined) return;
    this.#entryCount -= rowCount(entry);
    this.#entries.remove(entry); // with its rows: a cut finds them there
  }

  isEmpty(): boolean {
    const entry = this.#current("isEmpty()");
    if (entry === undefined || this.ttl === undefined) return entry === undefined; // MT2
    const rows = rowsOf(entry);
    for (let next = rows.next(); next.done !== true; next = rows.next()) {
      if (!this.#isExpired(next.value, this.ttl) || this.ttl.returnsExpired) return false;
      this.#remove(entry, next.value);
    }
    return true;
  }

  entries(): Iterable<readonly [unknown, unknown]> {
    return this.#iterable("entries()", (entry, row) => [this.#keyOf(row), this.#valueOf(entry, row)] as const);
  }

  keys(): Iterable<unknown> {
    return this.#iterable("keys()", (_entry, row) => this.#keyOf(row));
  }

  values(): Iterable<unknown> {
    return this.#iterable("values()", (entry, row) => this.#valueOf(entry, row));
  }

  forget(): void {
    this.#entries.forget();
  }

  sweep(rowsMax: number): void {
    this.#entries.sweep(rowsMax, undefined);
  }

  #current(what: string): MapEntry | undefined {
    if (this.#entries.epoch !== this.#scope.epoch) this.#entries.locate(what);
    if (this.ttl !== undefined) this.#entries.sweep(SWEPT_PER_ACCESS, this.#entries.entry);
    return this.#entries.entry;
  }

  #remove(entry: MapEntry, row: Row): void {
    if (row.stamp !== this.#entries.interval) keepRow(this.#entries, entry, row);
    if (deleteRow(entry, row.mapKey)) this.#entries.remove(entry); // MT2
    this.#entryCount -= 1;
  }

  #isExpired(row: Row, ttl: Ttl): boolean {
    return row.timeMs <= ttl.expiredThroughMs(ttl.nowMs());
  }

  /** False: the row has expired, and is not there any more. Takes it out, or renews it, by the rules of the time to live. */
  #isReadable(entry: MapEntry, row: Row): boolean {
    const { ttl } = this;
    if (ttl === undefined) return true;
    if (!this.#isExpired(row, ttl)) {
      if (ttl.renewsOnRead) this.#renew(entry, row, ttl.nowMs());
      return true;
    }
    if (ttl.returnsExpired) this.#valueOf(entry, row); // MT1: before it is the user's alone
    this.#remove(entry, row);
    return ttl.returnsExpired;
  }

  #renew(entry: MapEntry, row: Row, nowMs: number): void {
    if (row.stamp !== this.#entries.interval) {
      if (this.#isMutable) {
        this.#valueOf(entry, row); // MT1
      } else {
        // The row stays where it is, an iterator may be at it: the cuts get a copy (RW2 the other way round).
        const cuts = this.#entries.needers(entry, row);
        if (cuts !== 0) this.#keepAside(entry, { cuts, row: { ...row }, timeMs: row.timeMs, bytes: undefined });
      }
      row.stamp = this.#entries.interval;
    }
    row.timeMs = nowMs;
  }

  #keepAside(entry: MapEntry, ghost: RowGhost<Row>): void {
    this.#entries.keep(entry, ghost);
  }

  expire(entry: MapEntry, sweep: Sweep): boolean {
    const rows = (sweep.resume as Iterator<Row> | undefined) ?? rowsOf(entry);
    sweep.resume = rows;
    for (; sweep.room > 0; sweep.room -= 1) {
      const next = rows.next();
      if (next.done === true) {
        sweep.room -= 1;
        return true;
      }
      if (next.value.timeMs <= sweep.expiredThroughMs) this.#remove(entry, next.value);
    }
    return false;
  }

  /** The rows of the key that is current now; an iterator that is used under another key is a bug of its user (ST1). */
  #iterable<T>(what: string, select: (entry: MapEntry, row: Row) => T): Iterable<T> {
    const entry = this.#current(what);
    if (entry === undefined) return [];
    const { epoch } = this.#scope;
    return {
      [Symbol.iterator]: (): Iterator<T> => {
        const rows = rowsOf(entry);
        return {
          next: () => {
            if (this.#scope.epoch !== epoch)
              throw this.#scope.outside(`an iterator of state "${this.stateName}" ${what}`);
            for (let next = rows.next(); next.done !== true; next = rows.next()) {
              if (this.#isReadable(entry, next.value)) return { value: select(entry, next.value) };
            }
            return { done: true, value: undefined };
          },
        };
      },
    };
  }

  #mapKey(key: unknown): unknown {
    const problem = this.#keyCodec.check(key);
    if (problem !== undefined) throw this.#entries.mismatch(`key: ${problem}`);
    if (!this.#encodesKeys) return typeof key === "number" ? key + 0 : key;
    this.#scratch.reset();
    try {
      this.#keyCodec.write(this.#scratch, key);
    } catch (thrown) {
      throw this.#entries.named(thrown);
    }
    return bytesAsText(this.#scratch.view());
  }

  #keyOf(row: Row): unknown {
    if (!this.#encodesKeys) return row.mapKey;
    const bytes = Uint8Array.from(row.mapKey as string, (char) => char.charCodeAt(0));
    return this.#keyCodec.read(new ByteReader(bytes, { what: "key of a map", code: "INTERNAL" }));
  }

  /** MT1. */
  #valueOf(entry: MapEntry, row: Row): unknown {
    if (this.#isMutable && row.stamp !== this.#entries.interval && this.#entries.isCutOpen) {
      const cuts = this.#entries.needers(entry, row);
      if (cuts !== 0) {
        this.#scratch.reset();
        this.#writeValue(this.#scratch, row.value);
        this.#keepAside(entry, { cuts, row, timeMs: row.timeMs, bytes: this.#scratch.toBytes() });
        row.stamp = this.#entries.interval;
      }
    }
    return row.value;
  }

  #put(entry: MapEntry | undefined, put: Pick<Row, "mapKey" | "value" | "timeMs">): void {
    const { mapKey, value, timeMs } = put;
    const stamp = this.#entries.interval;
    if (entry === undefined) {
      const only = { mapKey, serial: this.#nextSerial(), value, timeMs, stamp };
      this.#entries.insert({ ...this.#entries.newKey(), ghosts: undefined, removedFor: 0, only, rows: undefined });
      this.#entryCount += 1;
      return;
    }
    const row = findRow(entry, mapKey);
    if (row === undefined) {
      setRow(entry, { mapKey, serial: this.#nextSerial(), value, timeMs, stamp });
      this.#entryCount += 1;
    } else if (row.stamp !== stamp && keepRow(this.#entries, entry, row)) {
      setRow(entry, { mapKey, serial: row.serial, value, timeMs, stamp }); // RW2
    } else {
      row.value = value;
      row.timeMs = timeMs;
      row.stamp = stamp;
    }
  }

  #nextSerial(): number {
    this.#serial += 1;
    return this.#serial;
  }

  #writeRow(capture: Capture<MapEntry>, row: Row, timeMs: number, bytes: Uint8Array | undefined): void {
    const into = capture.row();
    if (this.#encodesKeys) {
      const text = row.mapKey as string;
      for (let i = 0; i < text.length; i += 1) into.u8(text.charCodeAt(i));
    } else {
      this.#keyCodec.write(into, row.mapKey);
    }
    if (capture.hasTimes) into.long(timeMs);
    if (bytes === undefined) this.#writeValue(into, row.value);
    else into.raw(bytes);
  }

  #writeValue(into: ByteWriter, value: unknown): void {
    try {
      this.#valueCodec.write(into, value);
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

  capture(entry: MapEntry, capture: Capture<MapEntry>): boolean {
    return captureRows(entry, capture, (row, timeMs, bytes) => this.#writeRow(capture, row, timeMs, bytes));
  }

  load(from: ByteReader, keyGroup: number, times: RestoredTimes): number {
    return this.#entries.load(from, keyGroup, () => {
      const mapKey = this.#mapKey(this.#keyCodec.read(from));
      const { entry } = this.#entries;
      if (entry !== undefined && findRow(entry, mapKey) !== undefined)
        throw from.failure("a key of a map that occurs twice");
      const timeMs = readTime(from, times);
      this.#put(entry, { mapKey, value: this.#valueCodec.read(from), timeMs });
    });
  }
}
