// Table of numeric keys with numeric values (INT, LONG, DOUBLE, INSTANT, BOOLEAN on either side), and its handle.
//
// A segment is one buffer of 24-byte entries with linear probing, so that a hit costs one cache miss:
//   key f64 | value f64 | stamp u32 | hash i32                         (stamp 0: the slot is empty)
//
// Invariants: TB1-TB4 of table.ts, D1-D3 of directory.ts, and
//   NT1. No segment is fuller than 5/8; without deletions in between, a probe run never wraps onto itself.
//   NT2. value() then update() for one key probes once: the handle remembers slot and segment until the key, or the table
//        under the slot, changes.
//   NT3. Deletion shifts entries back (no tombstones); stamps travel with their entries.
//
// Not here: strings (string-table.ts), all other types (object-table.ts).

import { assert, keyGroupOf } from "@sluice/kit";
import type { ByteReader, ByteWriter, Failure } from "@sluice/kit";
import type { TypeDescriptor, ValueState } from "../model/index.ts";
import { codecFor, shortValue, writeDouble } from "./codec.ts";
import type { ValueCodec } from "./codec.ts";
import { SegmentDirectory } from "./directory.ts";
import type { PartWriter } from "./format.ts";
import { mixHash, positionOf } from "./keys.ts";
import type { KeyScope } from "./keys.ts";
import { misplacedKey, orderByGroup, SegmentCut, valueMismatch } from "./table.ts";
import type { StateTable, TableCut, TableOptions } from "./table.ts";

const ENTRY_BYTES = 24;
const FIRST_CAPACITY = 16;
const SPLIT_CAPACITY = 8192;

/** Old contents of entries, for the snapshot of this bit: key, value, hash in turn. */
interface Saved {
  readonly bit: number;
  readonly entries: number[];
}

class NumberSegment {
  readonly depth: number;
  readonly position: number;
  pending = 0;
  readonly cells: Float64Array;
  readonly words: Int32Array;
  readonly mask: number;
  readonly countMax: number;
  count = 0;
  saved: Saved[] = [];

  constructor(options: { readonly depth: number; readonly position: number; readonly capacity: number }) {
    this.depth = options.depth;
    this.position = options.position;
    const buffer = new ArrayBuffer(options.capacity * ENTRY_BYTES);
    this.cells = new Float64Array(buffer);
    this.words = new Int32Array(buffer);
    this.mask = options.capacity - 1;
    this.countMax = (options.capacity * 5) >>> 3; // NT1
  }

  /** For entries known to be absent. */
  place(key: number, value: number, stamp: number, hash: number): void {
    const words = this.words;
    let slot = mixHash(hash) & this.mask;
    while (words[slot * 6 + 4] !== 0) slot = (slot + 1) & this.mask;
    this.cells[slot * 3] = key;
    this.cells[slot * 3 + 1] = value;
    words[slot * 6 + 4] = stamp;
    words[slot * 6 + 5] = hash;
    this.count += 1;
  }
}

/** Checks of update(): 0 any number, 1 int32, 2 safe integer. */
type NumberCheck = 0 | 1 | 2;

function checkOf(type: TypeDescriptor): NumberCheck {
  return type.kind === "INT" ? 1 : type.kind === "LONG" || type.kind === "INSTANT" ? 2 : 0;
}

/** True when this table can hold values of the type. */
export function isNumberLike(type: TypeDescriptor): boolean {
  return type.kind === "INT" || type.kind === "LONG" || type.kind === "INSTANT" || type.kind === "DOUBLE" || type.kind === "BOOLEAN";
}

/** Table and handle in one object: the hot path has one indirection less. BOOLEAN values appear as 0 and 1 here. */
export class NumberTable implements StateTable, ValueState<number> {
  readonly stateName: string;
  readonly valueType: TypeDescriptor;
  readonly #scope: KeyScope;
  readonly #valueCodec: ValueCodec;
  readonly #check: NumberCheck;
  readonly #directory: SegmentDirectory<NumberSegment>;
  #interval: number;
  #cuts: readonly { readonly bit: number; readonly interval: number }[] = [];
  #entryCount = 0;
  // The remembered slot (NT2); valid while the epoch is the scope's.
  #epoch = -1;
  #segment: NumberSegment;
  #slot = 0;
  #found = false;

  constructor(scope: KeyScope, options: TableOptions) {
    assert(scope.form === "number" || scope.form === "boolean", "a NumberTable has numeric keys");
    assert(isNumberLike(options.valueType), "a NumberTable has numeric values");
    this.stateName = options.stateName;
    this.valueType = options.valueType;
    this.#scope = scope;
    this.#valueCodec = codecFor(options.valueType);
    this.#check = checkOf(options.valueType);
    this.#interval = options.interval;
    this.#segment = new NumberSegment({ depth: 0, position: 0, capacity: FIRST_CAPACITY });
    this.#directory = new SegmentDirectory(scope.groups.count, this.#segment);
    this.forget();
  }

  get handle(): ValueState<unknown> {
    return this.valueType.kind === "BOOLEAN" ? new BooleanState(this, (value) => this.#mismatch(value)) : (this as ValueState<unknown>);
  }

  get entryCount(): number {
    return this.#entryCount;
  }

  value(): number | undefined {
    if (this.#epoch !== this.#scope.epoch) this.#locate("value()");
    return this.#found ? this.#segment.cells[this.#slot * 3 + 1] : undefined;
  }

  update(value: number): void {
    if (typeof value !== "number") throw this.#mismatch(value);
    if (this.#check === 2) {
      if (!Number.isSafeInteger(value)) throw this.#mismatch(value);
    } else if (this.#check === 1) {
      if ((value | 0) !== value) throw this.#mismatch(value);
    }
    if (this.#epoch !== this.#scope.epoch) this.#locate("update()");
    const slot = this.#slot;
    const segment = this.#segment;
    if (!this.#found) {
      this.#scope.verifyNewKey();
      this.#insert(value);
      return;
    }
    if (segment.words[slot * 6 + 4] !== this.#interval) this.#firstWrite(segment, slot);
    segment.cells[slot * 3 + 1] = this.#check === 0 ? value : value + 0; // an integral -0 is 0
  }

  clear(): void {
    if (this.#epoch !== this.#scope.epoch) this.#locate("clear()");
    if (!this.#found) return;
    this.#delete(this.#segment, this.#slot);
    this.forget(); // the slot now holds another entry, or none
  }

  forget(): void {
    // An epoch is an int32, so this never equals one.
    this.#epoch = 0.5;
  }

  #locate(what: string): void {
    const scope = this.#scope;
    if (!scope.active) throw scope.outside(`state "${this.stateName}" ${what}`);
    const directory = this.#directory;
    const segment = directory.slots[scope.position >>> directory.shift] as NumberSegment;
    const key = scope.number[0] as number;
    const cells = segment.cells;
    const words = segment.words;
    const mask = segment.mask;
    let slot = scope.mixed & mask;
    let found = false;
    while (words[slot * 6 + 4] !== 0) {
      const candidate = cells[slot * 3] as number;
      if (candidate === key || (candidate !== candidate && key !== key)) {
        found = true;
        break;
      }
      slot = (slot + 1) & mask;
    }
    this.#segment = segment;
    this.#slot = slot;
    this.#found = found;
    this.#epoch = scope.epoch;
  }

  #insert(value: number): void {
    const scope = this.#scope;
    if (this.#segment.count >= this.#segment.countMax) {
      this.#makeRoom(this.#segment);
      this.#locate("update()");
      this.#insert(value);
      return;
    }
    const segment = this.#segment;
    const slot = this.#slot;
    segment.cells[slot * 3] = scope.number[0] as number;
    segment.cells[slot * 3 + 1] = this.#check === 0 ? value : value + 0;
    segment.words[slot * 6 + 4] = this.#interval;
    segment.words[slot * 6 + 5] = scope.hash;
    segment.count += 1;
    this.#entryCount += 1;
    this.#found = true;
  }

  /** TB3: the old segment is left as it is. */
  #makeRoom(old: NumberSegment): void {
    if (old.mask + 1 < SPLIT_CAPACITY || !this.#directory.canSplit(old)) {
      const larger = new NumberSegment({ depth: old.depth, position: old.position, capacity: (old.mask + 1) * 2 });
      forEachEntry(old, (key, value, stamp, hash) => larger.place(key, value, stamp, hash));
      this.#directory.replace(old, larger);
      return;
    }
    const splitBit = this.#directory.splitBit(old);
    const { maxParallelism, first } = this.#scope.groups;
    const isUpper = (hash: number): boolean => (positionOf(hash, maxParallelism, first) & splitBit) !== 0;
    let upperCount = 0;
    forEachEntry(old, (_key, _value, _stamp, hash) => {
      if (isUpper(hash)) upperCount += 1;
    });
    const depth = old.depth + 1;
    const lower = new NumberSegment({ depth, position: old.position, capacity: capacityFor(old.count - upperCount) });
    const upper = new NumberSegment({ depth, position: old.position + splitBit, capacity: capacityFor(upperCount) });
    forEachEntry(old, (key, value, stamp, hash) => (isUpper(hash) ? upper : lower).place(key, value, stamp, hash));
    this.#directory.split(old, lower, upper);
  }

  /** TB2, for an entry whose stamp is older than the current interval. */
  #firstWrite(segment: NumberSegment, slot: number): void {
    if (segment.pending !== 0) this.#save(segment, slot);
    segment.words[slot * 6 + 4] = this.#interval;
  }

  #save(segment: NumberSegment, slot: number): void {
    const stamp = segment.words[slot * 6 + 4] as number;
    for (let i = 0; i < this.#cuts.length; i += 1) {
      const cut = this.#cuts[i] as { readonly bit: number; readonly interval: number };
      if ((segment.pending & cut.bit) === 0 || stamp > cut.interval) continue;
      let saved = segment.saved.find((candidate) => candidate.bit === cut.bit);
      if (saved === undefined) {
        saved = { bit: cut.bit, entries: [] };
        segment.saved.push(saved);
      }
      saved.entries.push(
        segment.cells[slot * 3] as number,
        segment.cells[slot * 3 + 1] as number,
        segment.words[slot * 6 + 5] as number,
      );
    }
  }

  /** NT3. */
  #delete(segment: NumberSegment, slot: number): void {
    const { cells, words, mask } = segment;
    if (segment.pending !== 0 && words[slot * 6 + 4] !== this.#interval) this.#save(segment, slot);
    let hole = slot;
    for (let probe = (slot + 1) & mask; words[probe * 6 + 4] !== 0; probe = (probe + 1) & mask) {
      const home = mixHash(words[probe * 6 + 5] as number) & mask;
      if (((probe - home) & mask) < ((probe - hole) & mask)) continue; // its run begins after the hole
      cells[hole * 3] = cells[probe * 3] as number;
      cells[hole * 3 + 1] = cells[probe * 3 + 1] as number;
      words[hole * 6 + 4] = words[probe * 6 + 4] as number;
      words[hole * 6 + 5] = words[probe * 6 + 5] as number;
      hole = probe;
    }
    words[hole * 6 + 4] = 0;
    segment.count -= 1;
    this.#entryCount -= 1;
  }

  advance(interval: number): void {
    this.#interval = interval;
  }

  cut(options: { readonly bit: number; readonly interval: number }): TableCut {
    const { bit, interval } = options;
    this.#cuts = [...this.#cuts.filter((cut) => cut.bit !== bit), { bit, interval }];
    return new SegmentCut({
      segments: this.#directory.list(),
      bit,
      encode: (segment, into) => this.#encode(segment, { bit, interval, into }),
      dropSaved: (segment) => {
        if (segment.saved.length !== 0) segment.saved = segment.saved.filter((saved) => saved.bit !== bit);
      },
    });
  }

  #encode(segment: NumberSegment, cut: { readonly bit: number; readonly interval: number; readonly into: PartWriter }): number {
    const { words, cells } = segment;
    const saved = segment.saved.find((candidate) => candidate.bit === cut.bit)?.entries ?? [];
    const { maxParallelism } = this.#scope.groups;
    reserveScratch(segment.count + saved.length / 3);
    let count = 0;
    for (let slot = 0; slot <= segment.mask; slot += 1) {
      const stamp = words[slot * 6 + 4] as number;
      if (stamp === 0 || stamp > cut.interval) continue; // TB1
      scratchItems[count] = slot;
      scratchGroups[count] = keyGroupOf(words[slot * 6 + 5] as number, maxParallelism);
      count += 1;
    }
    for (let i = 0; i < saved.length; i += 3) {
      scratchItems[count] = -1 - i;
      scratchGroups[count] = keyGroupOf(saved[i + 2] as number, maxParallelism);
      count += 1;
    }
    orderByGroup(scratchGroups, count, scratchOrder);
    const into = cut.into;
    const keyKind = this.#scope.keyType.kind;
    const valueKind = this.valueType.kind;
    for (let i = 0; i < count; i += 1) {
      const index = scratchOrder[i] as number;
      const item = scratchItems[index] as number;
      into.entry(scratchGroups[index] as number);
      writeNumber(into.out, keyKind, item >= 0 ? (cells[item * 3] as number) : (saved[-1 - item] as number));
      writeNumber(into.out, valueKind, item >= 0 ? (cells[item * 3 + 1] as number) : (saved[-item] as number));
    }
    return count;
  }

  load(from: ByteReader, keyGroup: number): number {
    const scope = this.#scope;
    let count = 0;
    for (; from.remaining > 0; count += 1) {
      const key = scope.codec.read(from);
      const hash = scope.hasher(key);
      if (keyGroupOf(hash, scope.groups.maxParallelism) !== keyGroup) throw misplacedKey(from);
      scope.set(key, hash);
      this.#locate("load()");
      if (this.#found) throw from.failure("a key that occurs twice");
      this.#insert(Number(this.#valueCodec.read(from)));
    }
    scope.clear();
    return count;
  }

  #mismatch(value: unknown): Failure {
    const problem = this.#valueCodec.check(value) ?? `${shortValue(value)} is not a number`;
    return valueMismatch({ uid: this.#scope.uid, stateName: this.stateName }, problem);
  }
}

/** BOOLEAN values over a table of 0 and 1. */
class BooleanState implements ValueState<unknown> {
  readonly #table: NumberTable;
  readonly #mismatch: (value: unknown) => Failure;

  constructor(table: NumberTable, mismatch: (value: unknown) => Failure) {
    this.#table = table;
    this.#mismatch = mismatch;
  }

  value(): boolean | undefined {
    const value = this.#table.value();
    return value === undefined ? undefined : value === 1;
  }

  update(value: unknown): void {
    if (typeof value !== "boolean") throw this.#mismatch(value);
    this.#table.update(value ? 1 : 0);
  }

  clear(): void {
    this.#table.clear();
  }
}

function forEachEntry(segment: NumberSegment, run: (key: number, value: number, stamp: number, hash: number) => void): void {
  const { cells, words } = segment;
  for (let slot = 0; slot <= segment.mask; slot += 1) {
    const stamp = words[slot * 6 + 4] as number;
    if (stamp !== 0) run(cells[slot * 3] as number, cells[slot * 3 + 1] as number, stamp, words[slot * 6 + 5] as number);
  }
}

/** Room for the entries and a quarter more. */
function capacityFor(count: number): number {
  let capacity = FIRST_CAPACITY;
  while (capacity * 5 < count * 10) capacity *= 2;
  return capacity;
}

function writeNumber(out: ByteWriter, kind: TypeDescriptor["kind"], value: number): void {
  if (kind === "LONG" || kind === "INSTANT") out.long(value);
  else if (kind === "DOUBLE") writeDouble(out, value);
  else if (kind === "INT") out.i32(value);
  else out.bool(value === 1);
}

// Capturing is synchronous, so all tables of a thread share one scratch area.
let scratchItems = new Int32Array(SPLIT_CAPACITY);
let scratchGroups = new Uint16Array(SPLIT_CAPACITY);
let scratchOrder = new Uint32Array(SPLIT_CAPACITY);

function reserveScratch(count: number): void {
  if (count <= scratchItems.length) return;
  scratchItems = new Int32Array(count * 2);
  scratchGroups = new Uint16Array(count * 2);
  scratchOrder = new Uint32Array(count * 2);
}
