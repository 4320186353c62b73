// Table of numeric keys with numeric values (INT, LONG, DOUBLE, INSTANT, BOOLEAN on either side), and its handle.
//
// A segment has two columns, with linear probing over the first:
//   cells   key f64 | value f64     (an empty slot has the key EMPTY, a NaN that no key is stored as)
//   stamps  u32                     (interval of the last write)
// The hash is not stored: it is made again from the key where it is needed, on growth, deletion and capture.
//
// Stamps are a column of their own because they are seldom looked at: a segment counts its entries that were not yet
// written in the current interval, and once there is none, updates touch nothing but key and value. Measured against
// 24-byte entries with stamp and hash beside the value: 1.1x at 1 k, 1.4x at 1 M keys.
//
// Invariants: TB1-TB4 of table.ts, D1-D3 of directory.ts, and
//   NT1. No segment is fuller than 5/8, so that every probe ends.
//   NT2. value() then update() for one key probes once: the handle remembers slot and segment until the key, or the table
//        under the slot, changes.
//   NT3. Deletion shifts entries back (no tombstones); stamps travel with their entries.
//   NT4. Once a segment was written in an interval (`entered`), staleCount is the number of its entries that were not;
//        when there is none, the segment is `settled` for this interval.
//
// Not here: strings (string-table.ts), all other types (object-table.ts).

import { assert, keyGroupOf, planted, hashLong } from "@sluice/kit";
import type { ByteReader } from "@sluice/kit";
import type { StoredStateKind, TypeDescriptor, ValueState } from "../model/index.ts";
import { SegmentDirectory } from "./directory.ts";
import { placeOf } from "./format.ts";
import type { PartWriter } from "./format.ts";
import { mixHash, positionOf } from "./keys.ts";
import type { KeyScope } from "./keys.ts";
import { NumericValues, writeNumber } from "./numeric-values.ts";
import { misplacedKey, orderByPlace, readTime, savedFor, SegmentCut } from "./table.ts";
import type { OpenCut, RestoredTimes, SavedNumbers, StateTable, TableCut, TableOptions } from "./table.ts";

const FIRST_CAPACITY = 16;
const SPLIT_CAPACITY = 8192;

// The high word of the NaN that fill(NaN) stores marks an empty slot; a NaN key is stored with another high word.
const HIGH = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 1 : 0;
const EMPTY_HIGH = new Int32Array(new Float64Array(1).fill(NaN).buffer)[HIGH] as number;
const NAN_KEY_HIGH = EMPTY_HIGH ^ 0x00040000;

class NumberSegment {
  readonly depth: number;
  readonly position: number;
  pending = 0;
  readonly cells: Float64Array;
  /** The cells again, to tell a NaN key from an empty slot. */
  readonly words: Int32Array;
  readonly stamps: Uint32Array;
  readonly mask: number;
  readonly countMax: number;
  count = 0;
  // NT4
  staleCount = 0;
  entered = 0;
  settled = 0;
  /** Key and value of each entry in turn. */
  saved: SavedNumbers[] = [];

  constructor(options: { readonly depth: number; readonly position: number; readonly capacity: number }) {
    this.depth = options.depth;
    this.position = options.position;
    this.cells = new Float64Array(options.capacity * 2).fill(NaN);
    this.words = new Int32Array(this.cells.buffer);
    this.stamps = new Uint32Array(options.capacity);
    this.mask = options.capacity - 1;
    this.countMax = (options.capacity * 5) >>> 3; // NT1
  }

  isEmpty(slot: number): boolean {
    const key = this.cells[slot * 2] as number;
    return key !== key && this.words[slot * 4 + HIGH] === EMPTY_HIGH;
  }

  put(slot: number, entry: { readonly key: number; readonly value: number; readonly stamp: number }): void {
    this.cells[slot * 2] = entry.key;
    if (entry.key !== entry.key) this.words[slot * 4 + HIGH] = NAN_KEY_HIGH;
    this.cells[slot * 2 + 1] = entry.value;
    this.stamps[slot] = entry.stamp;
  }

  /** Copies an entry known to be absent. */
  adopt(from: NumberSegment, slot: number, hash: number): void {
    let to = mixHash(hash) & this.mask;
    while (!this.isEmpty(to)) to = (to + 1) & this.mask;
    this.put(to, {
      key: from.cells[slot * 2] as number,
      value: from.cells[slot * 2 + 1] as number,
      stamp: from.stamps[slot] as number,
    });
    this.count += 1;
  }

  vacate(slot: number): void {
    this.cells[slot * 2] = NaN;
    this.words[slot * 4 + HIGH] = EMPTY_HIGH;
    this.count -= 1;
  }

  /** NT4, before the first write of an interval: no entry has its stamp yet. */
  enter(interval: number): void {
    if (this.entered === interval) return;
    this.entered = interval;
    this.staleCount = this.count;
    this.settled = this.count === 0 ? interval : 0;
  }

  /** NT4, for a segment made of another one's entries. */
  recount(interval: number): void {
    this.entered = interval;
    this.staleCount = 0;
    for (let slot = 0; slot <= this.mask; slot += 1) {
      if (this.stamps[slot] !== interval && !this.isEmpty(slot)) this.staleCount += 1;
    }
    this.settled = this.staleCount === 0 ? interval : 0;
  }
}

/** Table and handle in one object: the hot path has one indirection less. BOOLEAN values appear as 0 and 1 here. */
export class NumberTable implements StateTable, ValueState<number> {
  readonly stateName: string;
  readonly stateKind: StoredStateKind;
  readonly valueType: TypeDescriptor;
  readonly ttl = undefined;
  readonly #scope: KeyScope;
  readonly #values: NumericValues;
  readonly #directory: SegmentDirectory<NumberSegment>;
  readonly #isLongKey: boolean;
  #interval: number;
  #cuts: readonly OpenCut[] = [];
  #entryCount = 0;
  /** What touch read; means nothing. */
  touchedWord = 0;
  // The remembered slot (NT2); valid while the epoch is the scope's.
  #epoch = -1;
  #segment: NumberSegment;
  /** Below 0: absent, and the complement is the free slot. */
  #slot = -1;

  constructor(scope: KeyScope, options: TableOptions) {
    assert(scope.form === "number" || scope.form === "boolean", "a NumberTable has numeric keys");
    this.stateName = options.stateName;
    this.stateKind = options.stateKind;
    this.valueType = options.valueType;
    this.#scope = scope;
    this.#isLongKey = scope.keyType.kind === "LONG" || scope.keyType.kind === "INSTANT";
    this.#values = new NumericValues({ uid: scope.uid, stateName: options.stateName, type: options.valueType });
    this.#interval = options.interval;
    this.#segment = new NumberSegment({ depth: 0, position: 0, capacity: FIRST_CAPACITY });
    this.#directory = new SegmentDirectory(scope.groups.count, this.#segment);
    this.forget();
  }

  get handle(): ValueState<unknown> {
    return this.#values.handleOf(this);
  }

  get entryCount(): number {
    return this.#entryCount;
  }

  value(): number | undefined {
    if (this.#epoch !== this.#scope.epoch) this.#locate("value()");
    const slot = this.#slot;
    return slot >= 0 ? this.#segment.cells[slot * 2 + 1] : undefined;
  }

  update(value: number): void {
    const stored = this.#values.checked(value);
    if (this.#epoch !== this.#scope.epoch) this.#locate("update()");
    const slot = this.#slot;
    if (slot < 0) {
      this.#scope.verifyNewKey();
      this.#insert(stored);
      return;
    }
    const segment = this.#segment;
    if (segment.settled !== this.#interval) this.#firstWrite(segment, slot);
    segment.cells[slot * 2 + 1] = stored;
  }

  clear(): void {
    if (this.#epoch !== this.#scope.epoch) this.#locate("clear()");
    if (this.#slot < 0) return;
    this.#delete(this.#segment, this.#slot);
    this.forget(); // the slot now holds another entry, or none
  }

  /**
   * Reads the first slot of each hash. The loop is kept as short as can be: how many cache misses overlap is bounded by how
   * many instructions lie between them. The result is kept, so that the reads are not optimised away.
   */
  touch(hashes: Int32Array, count: number): void {
    const slots = this.#directory.slots;
    const shift = this.#directory.shift;
    const scope = this.#scope;
    let touched = 0;
    for (let i = 0; i < count; i += 1) {
      const hash = hashes[i] as number;
      const mixed = mixHash(hash);
      const segment = slots[scope.positionForTouch(hash, mixed) >>> shift];
      if (segment !== undefined) touched ^= segment.words[(mixed & segment.mask) << 2] as number;
    }
    this.touchedWord = touched;
  }

  forget(): void {
    // An epoch is an int32, so this never equals one.
    this.#epoch = 0.5;
  }

  #locate(what: string): void {
    const scope = this.#scope;
    if (!scope.active) throw scope.outside(`state "${this.stateName}" ${what}`);
    const directory = this.#directory;
    const mixed = mixHash(scope.hash);
    const segment = directory.slots[scope.positionOfHash(scope.hash, mixed) >>> directory.shift] as NumberSegment;
    const key = scope.number[0] as number;
    const cells = segment.cells;
    const mask = segment.mask;
    let slot = mixed & mask;
    for (;;) {
      const candidate = cells[slot * 2] as number;
      if (candidate === key) break;
      if (candidate !== candidate) {
        if (segment.words[slot * 4 + HIGH] === EMPTY_HIGH) {
          slot = ~slot;
          break;
        }
        if (key !== key) break;
      }
      slot = (slot + 1) & mask;
    }
    if (this.#segment !== segment) this.#segment = segment; // spares the write barrier where one segment holds all
    this.#slot = slot;
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
    this.#segment.enter(this.#interval);
    const slot = ~this.#slot;
    const key = scope.number[0] as number;
    this.#segment.put(slot, { key, value, stamp: this.#interval });
    this.#segment.count += 1;
    this.#entryCount += 1;
    this.#slot = slot;
  }

  /** TB3: the old segment is left as it is. */
  #makeRoom(old: NumberSegment): void {
    if (old.mask + 1 < SPLIT_CAPACITY || !this.#directory.canSplit(old)) {
      const larger = new NumberSegment({ depth: old.depth, position: old.position, capacity: (old.mask + 1) * 2 });
      this.#forEach(old, (slot, hash) => larger.adopt(old, slot, hash));
      larger.recount(this.#interval);
      this.#directory.replace(old, larger);
      return;
    }
    const splitBit = this.#directory.splitBit(old);
    const { maxParallelism, first } = this.#scope.groups;
    const isUpper = (hash: number): boolean => (positionOf(hash, maxParallelism, first) & splitBit) !== 0;
    let upperCount = 0;
    this.#forEach(old, (_slot, hash) => {
      if (isUpper(hash)) upperCount += 1;
    });
    const depth = old.depth + 1;
    const lower = new NumberSegment({ depth, position: old.position, capacity: capacityFor(old.count - upperCount) });
    const upper = new NumberSegment({ depth, position: old.position + splitBit, capacity: capacityFor(upperCount) });
    this.#forEach(old, (slot, hash) => (isUpper(hash) ? upper : lower).adopt(old, slot, hash));
    lower.recount(this.#interval);
    upper.recount(this.#interval);
    this.#directory.split(old, lower, upper);
  }

  #hashOf(key: number): number {
    if (this.#isLongKey) return hashLong(key);
    return this.#scope.hasher(this.#scope.form === "boolean" ? key === 1 : key);
  }

  #placeOf(key: number): number {
    const hash = this.#hashOf(key);
    return placeOf(keyGroupOf(hash, this.#scope.groups.maxParallelism), mixHash(hash));
  }

  #forEach(segment: NumberSegment, run: (slot: number, hash: number) => void): void {
    for (let slot = 0; slot <= segment.mask; slot += 1) {
      if (!segment.isEmpty(slot)) run(slot, this.#hashOf(segment.cells[slot * 2] as number));
    }
  }

  /** TB1 and TB2, as long as the segment may hold entries from before the current interval. */
  #firstWrite(segment: NumberSegment, slot: number): void {
    segment.enter(this.#interval);
    if (segment.stamps[slot] === this.#interval) return;
    if (segment.pending !== 0) this.#save(segment, slot);
    segment.stamps[slot] = this.#interval;
    segment.staleCount -= 1;
    if (segment.staleCount === 0) segment.settled = this.#interval;
  }

  #save(segment: NumberSegment, slot: number): void {
    const stamp = segment.stamps[slot] as number;
    for (let i = 0; i < this.#cuts.length; i += 1) {
      const cut = this.#cuts[i] as OpenCut;
      if ((segment.pending & cut.bit) === 0 || stamp > cut.interval) continue;
      savedFor(segment.saved, cut.bit).push(segment.cells[slot * 2] as number, segment.cells[slot * 2 + 1] as number);
    }
  }

  /** NT3. */
  #delete(segment: NumberSegment, slot: number): void {
    const { cells, stamps, mask } = segment;
    this.#firstWrite(segment, slot); // saves what a cut needs, and leaves the entry not stale (NT4)
    let hole = slot;
    for (let probe = (slot + 1) & mask; !segment.isEmpty(probe); probe = (probe + 1) & mask) {
      const key = cells[probe * 2] as number;
      const home = mixHash(this.#hashOf(key)) & mask;
      if (((probe - home) & mask) < ((probe - hole) & mask)) continue; // its run begins after the hole
      segment.put(hole, { key, value: cells[probe * 2 + 1] as number, stamp: stamps[probe] as number });
      hole = probe;
    }
    segment.vacate(hole);
    this.#entryCount -= 1;
  }

  advance(interval: number): void {
    this.#interval = interval;
  }

  cut(open: OpenCut): TableCut {
    const known = planted("typed-cut-misses-first-write") ? [] : [open];
    this.#cuts = [...this.#cuts.filter((cut) => cut.bit !== open.bit), ...known];
    return new SegmentCut({
      segments: this.#directory.list(),
      bit: open.bit,
      encode: (segment, into) => this.#encode(segment, open, into),
    });
  }

  #encode(segment: NumberSegment, cut: OpenCut, into: PartWriter): number {
    const { cells, stamps } = segment;
    const saved = segment.saved.find((candidate) => candidate.bit === cut.bit)?.entries ?? [];
    reserveScratch(segment.count + saved.length / 2);
    let count = 0;
    for (let slot = 0; slot <= segment.mask; slot += 1) {
      if ((stamps[slot] as number) > cut.interval || segment.isEmpty(slot)) continue; // TB1
      scratchItems[count] = slot;
      scratchPlaces[count] = this.#placeOf(cells[slot * 2] as number);
      count += 1;
    }
    for (let i = 0; i < saved.length; i += 2) {
      scratchItems[count] = -1 - i;
      scratchPlaces[count] = this.#placeOf(saved[i] as number);
      count += 1;
    }
    orderByPlace(scratchPlaces, count, scratchOrder);
    const keyKind = this.#scope.keyType.kind;
    const valueKind = this.valueType.kind;
    for (let i = 0; i < count; i += 1) {
      const index = scratchOrder[i] as number;
      const item = scratchItems[index] as number;
      into.entry(scratchPlaces[i] as number);
      writeNumber(into.out, keyKind, item >= 0 ? (cells[item * 2] as number) : (saved[-1 - item] as number));
      writeNumber(into.out, valueKind, item >= 0 ? (cells[item * 2 + 1] as number) : (saved[-item] as number));
    }
    return count;
  }

  allKeys(): readonly unknown[] {
    const isBoolean = this.#scope.form === "boolean";
    const found: unknown[] = [];
    for (const segment of this.#directory.list()) {
      this.#forEach(segment, (slot) => {
        const key = segment.cells[slot * 2] as number;
        found.push(isBoolean ? key === 1 : key);
      });
    }
    return found;
  }

  load(from: ByteReader, keyGroup: number, times: RestoredTimes): number {
    const scope = this.#scope;
    let count = 0;
    for (; from.remaining > 0; count += 1) {
      const key = scope.codec.read(from);
      const hash = scope.hasher(key);
      if (keyGroupOf(hash, scope.groups.maxParallelism) !== keyGroup) throw misplacedKey(from);
      scope.set(key, hash);
      this.#locate("load()");
      if (this.#slot >= 0) throw from.failure("a key that occurs twice");
      readTime(from, times);
      this.#insert(this.#values.read(from));
    }
    scope.clear();
    return count;
  }
}

/** Room for the entries and a quarter more. */
function capacityFor(count: number): number {
  let capacity = FIRST_CAPACITY;
  while (capacity * 5 < count * 10) capacity *= 2;
  return capacity;
}

// Capturing is synchronous, so all tables of a thread share one scratch area.
let scratchItems = new Int32Array(SPLIT_CAPACITY);
let scratchPlaces = new Float64Array(SPLIT_CAPACITY);
let scratchOrder = new Uint32Array(SPLIT_CAPACITY);

function reserveScratch(count: number): void {
  if (count <= scratchItems.length) return;
  scratchItems = new Int32Array(count * 2);
  scratchPlaces = new Float64Array(count * 2);
  scratchOrder = new Uint32Array(count * 2);
}
