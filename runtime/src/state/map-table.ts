// Table of maps, one per key, row by row: an entry of a map is a row of its own, with its own stamp. Putting into a large map costs
// what putting into a small one costs, also under a cut.
//
// Ownership: as in object-table.ts, for each value of the map. Row keys are copied.
//
// Invariants: TB1, TB2, TB4 of table.ts, ET1-ET4 of entry-table.ts, RW1 and RW2 of rows.ts, and
//   MT1. A mutable value of an open cut is encoded before get(), entries() or values() hands it out.
//   MT2. A key without rows has no entry.
//
// A row in a snapshot is: key | row key | value.
//
// Not here: broadcast state, which is no keyed state.

import { ByteReader, ByteWriter, Failure } from "@sluice/kit";
import type { MapState, TypeDescriptor } from "../model/index.ts";
import { canBeKey, describeType } from "../model/index.ts";
import { codecFor, isMutable } from "./codec.ts";
import type { ValueCodec } from "./codec.ts";
import { EntryTable } from "./entry-table.ts";
import type { Capture, EntryLayout } from "./entry-table.ts";
import { bytesAsText, keyFormOf } from "./keys.ts";
import type { KeyScope } from "./keys.ts";
import { captureRows, deleteRow, findRow, keepRow, rowCount, rowsOf, setRow } from "./rows.ts";
import type { Row, RowEntry, RowGhost } from "./rows.ts";
import type { OpenCut, StateTable, TableCut, TableOptions } from "./table.ts";

type MapEntry = RowEntry<Row>;

export class MapTable implements StateTable, MapState<unknown, unknown>, EntryLayout<MapEntry> {
  readonly stateName: string;
  readonly stateKind = "map";
  readonly valueType: TypeDescriptor;
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
    this.#isMutable = isMutable(options.rowValueType);
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
    return row === undefined ? undefined : this.#valueOf(entry, row);
  }

  contains(key: unknown): boolean {
    const mapKey = this.#mapKey(key);
    const entry = this.#current("contains()");
    return entry !== undefined && findRow(entry, mapKey) !== undefined;
  }

  put(key: unknown, value: unknown): void {
    const mapKey = this.#mapKey(key);
    const problem = this.#valueCodec.check(value);
    if (problem !== undefined) throw this.#entries.mismatch(`value: ${problem}`);
    this.#put(this.#current("put()"), mapKey, value);
  }

  putAll(entries: Iterable<readonly [unknown, unknown]>): void {
    for (const [key, value] of entries) this.put(key, value);
  }

  remove(key: unknown): void {
    const mapKey = this.#mapKey(key);
    const entry = this.#current("remove()");
    if (entry === undefined) return;
    const row = findRow(entry, mapKey);
    if (row === undefined) return;
    if (row.stamp !== this.#entries.interval) keepRow(this.#entries, entry, row);
    if (deleteRow(entry, mapKey)) this.#entries.remove(entry); // MT2
    this.#entryCount -= 1;
  }

  clear(): void {
    const entry = this.#current("clear()");
    if (entry === undefined) return;
    this.#entryCount -= rowCount(entry);
    this.#entries.remove(entry); // with its rows: a cut finds them there
  }

  isEmpty(): boolean {
    return this.#current("isEmpty()") === undefined; // MT2
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

  #current(what: string): MapEntry | undefined {
    if (this.#entries.epoch !== this.#scope.epoch) this.#entries.locate(what);
    return this.#entries.entry;
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
            const next = rows.next();
            return next.done === true ? { done: true, value: undefined } : { value: select(entry, next.value) };
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
        const ghost: RowGhost<Row> = { cuts, row, bytes: this.#scratch.toBytes() };
        this.#entries.keep(entry, ghost);
        row.stamp = this.#entries.interval;
      }
    }
    return row.value;
  }

  #put(entry: MapEntry | undefined, mapKey: unknown, value: unknown): void {
    const stamp = this.#entries.interval;
    if (entry === undefined) {
      const only = { mapKey, serial: this.#nextSerial(), value, stamp };
      this.#entries.insert({ ...this.#entries.newKey(), ghosts: undefined, removedFor: 0, only, rows: undefined });
      this.#entryCount += 1;
      return;
    }
    const row = findRow(entry, mapKey);
    if (row === undefined) {
      setRow(entry, { mapKey, serial: this.#nextSerial(), value, stamp });
      this.#entryCount += 1;
    } else if (row.stamp !== stamp && keepRow(this.#entries, entry, row)) {
      setRow(entry, { mapKey, serial: row.serial, value, stamp }); // RW2
    } else {
      row.value = value;
      row.stamp = stamp;
    }
  }

  #nextSerial(): number {
    this.#serial += 1;
    return this.#serial;
  }

  #writeRow(into: ByteWriter, row: Row, bytes: Uint8Array | undefined): void {
    if (this.#encodesKeys) {
      const text = row.mapKey as string;
      for (let i = 0; i < text.length; i += 1) into.u8(text.charCodeAt(i));
    } else {
      this.#keyCodec.write(into, row.mapKey);
    }
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
    return captureRows(entry, capture, (row, bytes) => this.#writeRow(capture.row(), row, bytes));
  }

  load(from: ByteReader, keyGroup: number): number {
    return this.#entries.load(from, keyGroup, () => {
      const mapKey = this.#mapKey(this.#keyCodec.read(from));
      const { entry } = this.#entries;
      if (entry !== undefined && findRow(entry, mapKey) !== undefined)
        throw from.failure("a key of a map that occurs twice");
      this.#put(entry, mapKey, this.#valueCodec.read(from));
    });
  }
}
