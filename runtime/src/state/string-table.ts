// Table of STRING keys with numeric values (INT, LONG, DOUBLE, INSTANT, BOOLEAN), and its handle.
//
// Keys are no JavaScript strings here: a million of them would be work for every garbage collection, and slices would keep
// whole frames alive. A segment is an open-addressing table of 24-byte entries and an arena of key characters:
//   hash i32 | offset u32 | size i32 | stamp u32 | value f64
//   size: 0 an empty slot, n + 1 a key of n one-byte characters (all below 256), -(n + 1) one of n two-byte characters
// Measured against one JS Map of strings whose hash V8 already has (bench/src/state-micro.ts): 1.15x at 1 k, 1.35x at 1 M keys.
//
// Invariants: TB1-TB4 of table.ts, D1-D3 of directory.ts, and
//   SB1. The arena of a segment only grows: an offset stays valid as long as the segment. Dead characters go when it is rebuilt.
//   SB2. Equal hash, size and characters make equal keys (KE1).
//   SB3. Deletion shifts entries back (no tombstones); stamps travel with their entries.
//   SB4. A remembered place of a recent key counts only while the version of the table is the same: entries move only with a
//        new version. At most 2,048 strings are held for this.
//
// Not here: numeric keys (number-table.ts), all other types (object-table.ts).

import { assert, keyGroupOf, planted } from "@sluice/kit";
import type { ByteReader, ByteWriter } from "@sluice/kit";
import type { StoredStateKind, TypeDescriptor, ValueState } from "../model/index.ts";
import { SegmentDirectory } from "./directory.ts";
import { placeOf } from "./format.ts";
import type { PartWriter } from "./format.ts";
import { mixHash, positionOf } from "./keys.ts";
import type { KeyScope } from "./keys.ts";
import { NumericValues } from "./numeric-values.ts";
import { misplacedKey, orderByPlace, readTime, savedFor, SegmentCut } from "./table.ts";
import type { OpenCut, RestoredTimes, SavedNumbers, StateTable, TableCut, TableOptions } from "./table.ts";
import { writeText } from "./text.ts";

const FIRST_CAPACITY = 16;
const SPLIT_CAPACITY = 4096;
const ARENA_BYTES_PER_ENTRY = 16;
const ARENA_BYTES_MAX = 0x7fffffff;
const ENTRY_WORDS = 6;
const SHORT_KEY = 64;
const RECENT_KEYS = 2048;
const RECENT_ENTRIES_MAX = 16 * RECENT_KEYS;

class StringSegment {
  readonly depth: number;
  readonly position: number;
  pending = 0;
  readonly words: Int32Array;
  readonly cells: Float64Array;
  readonly mask: number;
  readonly countMax: number;
  count = 0;
  arena: Uint8Array;
  arenaUsed = 0;
  arenaDead = 0;
  /** Offset, size, hash and value of each entry in turn. */
  saved: SavedNumbers[] = [];

  constructor(options: {
    readonly depth: number;
    readonly position: number;
    readonly capacity: number;
    readonly arenaBytes: number;
  }) {
    this.depth = options.depth;
    this.position = options.position;
    this.cells = new Float64Array(options.capacity * 3);
    this.words = new Int32Array(this.cells.buffer);
    this.mask = options.capacity - 1;
    this.countMax = (options.capacity * 5) >>> 3;
    this.arena = new Uint8Array(options.arenaBytes);
  }

  /** Copies an entry known to be absent. */
  adopt(from: StringSegment, slot: number): void {
    const source = slot * ENTRY_WORDS;
    const hash = from.words[source] as number;
    const size = from.words[source + 2] as number;
    const offset = from.words[source + 1] as number;
    let to = mixHash(hash) & this.mask;
    while (this.words[to * ENTRY_WORDS + 2] !== 0) to = (to + 1) & this.mask;
    const bytes = bytesOf(size);
    this.reserve(bytes);
    this.arena.set(from.arena.subarray(offset, offset + bytes), this.arenaUsed);
    this.words[to * ENTRY_WORDS] = hash;
    this.words[to * ENTRY_WORDS + 1] = this.arenaUsed;
    this.words[to * ENTRY_WORDS + 2] = size;
    this.words[to * ENTRY_WORDS + 3] = from.words[source + 3] as number;
    this.cells[to * 3 + 2] = from.cells[slot * 3 + 2] as number;
    this.arenaUsed += bytes;
    this.count += 1;
  }

  /** SB1: a larger arena begins with the smaller one. */
  reserve(bytes: number): void {
    const needed = this.arenaUsed + bytes;
    if (needed <= this.arena.length) return;
    assert(needed <= ARENA_BYTES_MAX, "the keys of one segment fit in 2 GiB");
    const larger = new Uint8Array(Math.min(ARENA_BYTES_MAX, Math.max(needed, this.arena.length * 2)));
    larger.set(this.arena.subarray(0, this.arenaUsed));
    this.arena = larger;
  }
}

function bytesOf(size: number): number {
  return size > 0 ? size - 1 : (-size - 1) * 2;
}

/** Table and handle in one object, as in number-table.ts. BOOLEAN values appear as 0 and 1 here. */
export class StringTable implements StateTable, ValueState<number> {
  readonly stateName: string;
  readonly stateKind: StoredStateKind;
  readonly valueType: TypeDescriptor;
  readonly ttl = undefined;
  readonly #scope: KeyScope;
  readonly #values: NumericValues;
  readonly #directory: SegmentDirectory<StringSegment>;
  #interval: number;
  #cuts: readonly OpenCut[] = [];
  #entryCount = 0;
  /** What touch read; means nothing. */
  touchedWord = 0;
  // SB4: the place where a recent key was found, by its hash.
  readonly #recentTexts: string[] = Array.from({ length: RECENT_KEYS }, () => "");
  readonly #recentSegments: StringSegment[];
  readonly #recentHashes = new Int32Array(RECENT_KEYS);
  readonly #recentSlots = new Int32Array(RECENT_KEYS);
  readonly #recentVersions = new Float64Array(RECENT_KEYS);
  #version = 1;
  // The remembered slot; valid while the epoch is the scope's.
  #epoch = -1;
  #segment: StringSegment;
  /** Below 0: absent, and the complement is the free slot. */
  #slot = -1;

  constructor(scope: KeyScope, options: TableOptions) {
    assert(scope.form === "string", "a StringTable has STRING keys");
    this.stateName = options.stateName;
    this.stateKind = options.stateKind;
    this.valueType = options.valueType;
    this.#scope = scope;
    this.#values = new NumericValues({ uid: scope.uid, stateName: options.stateName, type: options.valueType });
    this.#interval = options.interval;
    this.#segment = new StringSegment({
      depth: 0,
      position: 0,
      capacity: FIRST_CAPACITY,
      arenaBytes: FIRST_CAPACITY * ARENA_BYTES_PER_ENTRY,
    });
    this.#directory = new SegmentDirectory(scope.groups.count, this.#segment);
    this.#recentSegments = Array.from({ length: RECENT_KEYS }, () => this.#segment);
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
    return slot >= 0 ? this.#segment.cells[slot * 3 + 2] : undefined;
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
    if (segment.words[slot * ENTRY_WORDS + 3] !== this.#interval) this.#firstWrite(segment, slot);
    segment.cells[slot * 3 + 2] = stored;
  }

  clear(): void {
    if (this.#epoch !== this.#scope.epoch) this.#locate("clear()");
    if (this.#slot < 0) return;
    this.#delete(this.#segment, this.#slot);
    this.forget(); // the slot now holds another entry, or none
  }

  /** As in number-table.ts; where the hash matches, the key's characters too. */
  touch(hashes: Int32Array, count: number): void {
    const slots = this.#directory.slots;
    const shift = this.#directory.shift;
    const scope = this.#scope;
    let touched = 0;
    for (let i = 0; i < count; i += 1) {
      const hash = hashes[i] as number;
      const mixed = mixHash(hash);
      const segment = slots[scope.positionForTouch(hash, mixed) >>> shift];
      if (segment === undefined) continue;
      const at = (mixed & segment.mask) * ENTRY_WORDS;
      if (segment.words[at] === hash) touched ^= segment.arena[segment.words[at + 1] as number] ?? 0;
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
    const hash = scope.hash | 0;
    const text = scope.text;
    const recent = hash & (RECENT_KEYS - 1);
    if (
      this.#recentHashes[recent] === hash &&
      this.#recentVersions[recent] === this.#version &&
      this.#recentTexts[recent] === text
    ) {
      const segment = this.#recentSegments[recent] as StringSegment;
      if (this.#segment !== segment) this.#segment = segment;
      this.#slot = this.#recentSlots[recent] as number;
      this.#epoch = scope.epoch;
      return;
    }
    const directory = this.#directory;
    const mixed = mixHash(hash);
    const segment = directory.slots[scope.positionOfHash(hash, mixed) >>> directory.shift] as StringSegment;
    const words = segment.words;
    const mask = segment.mask;
    let slot = mixed & mask;
    for (;;) {
      const at = slot * ENTRY_WORDS;
      const size = words[at + 2] as number;
      if (size === 0) {
        slot = ~slot;
        break;
      }
      if (words[at] === hash && holds(segment.arena, words[at + 1] as number, size, text)) break;
      slot = (slot + 1) & mask;
    }
    if (this.#segment !== segment) this.#segment = segment;
    this.#slot = slot;
    this.#epoch = scope.epoch;
    // Among many keys hardly one comes again soon enough to pay for being remembered.
    if (slot >= 0 && this.#entryCount <= RECENT_ENTRIES_MAX) this.#remember(recent, hash);
  }

  #remember(recent: number, hash: number): void {
    this.#recentHashes[recent] = hash;
    this.#recentTexts[recent] = this.#scope.text;
    this.#recentSegments[recent] = this.#segment;
    this.#recentSlots[recent] = this.#slot;
    this.#recentVersions[recent] = this.#version;
  }

  #insert(value: number): void {
    const scope = this.#scope;
    const size = sizeOf(scope.text);
    const bytes = bytesOf(size);
    if (this.#mustRebuild(this.#segment, bytes)) {
      this.#rebuild(this.#segment);
      this.#locate("update()");
      this.#insert(value);
      return;
    }
    const segment = this.#segment;
    segment.reserve(bytes);
    writeCharacters(segment.arena, segment.arenaUsed, size, scope.text);
    const slot = ~this.#slot;
    const at = slot * ENTRY_WORDS;
    segment.words[at] = scope.hash | 0;
    segment.words[at + 1] = segment.arenaUsed;
    segment.words[at + 2] = size;
    segment.words[at + 3] = this.#interval;
    segment.cells[slot * 3 + 2] = value;
    segment.arenaUsed += bytes;
    segment.count += 1;
    this.#entryCount += 1;
    this.#slot = slot;
  }

  #mustRebuild(segment: StringSegment, bytes: number): boolean {
    if (segment.count >= segment.countMax) return true;
    return segment.arenaUsed + bytes > segment.arena.length && segment.arenaDead * 2 > segment.arenaUsed;
  }

  /** TB3: the old segment is left as it is. A segment that is only full of dead characters keeps its size. */
  #rebuild(old: StringSegment): void {
    this.#version += 1; // SB4
    const capacity = old.mask + 1;
    const live = old.arenaUsed - old.arenaDead;
    const { depth, position } = old;
    if (old.count < old.countMax || capacity < SPLIT_CAPACITY || !this.#directory.canSplit(old)) {
      const next = old.count < old.countMax ? capacity : capacity * 2;
      const larger = new StringSegment({
        depth,
        position,
        capacity: next,
        arenaBytes: live * 2 + ARENA_BYTES_PER_ENTRY,
      });
      forEachSlot(old, (slot) => larger.adopt(old, slot));
      this.#directory.replace(old, larger);
      return;
    }
    const splitBit = this.#directory.splitBit(old);
    const { maxParallelism, first } = this.#scope.groups;
    const half = { depth: depth + 1, capacity, arenaBytes: live + ARENA_BYTES_PER_ENTRY };
    const lower = new StringSegment({ ...half, position });
    const upper = new StringSegment({ ...half, position: position + splitBit });
    forEachSlot(old, (slot) => {
      const place = positionOf(old.words[slot * ENTRY_WORDS] as number, maxParallelism, first);
      ((place & splitBit) !== 0 ? upper : lower).adopt(old, slot);
    });
    this.#directory.split(old, lower, upper);
  }

  /** TB2, for an entry whose stamp is older than the current interval. */
  #firstWrite(segment: StringSegment, slot: number): void {
    const at = slot * ENTRY_WORDS;
    const stamp = segment.words[at + 3] as number;
    if (segment.pending !== 0) {
      for (let i = 0; i < this.#cuts.length; i += 1) {
        const cut = this.#cuts[i] as OpenCut;
        if ((segment.pending & cut.bit) === 0 || stamp > cut.interval) continue;
        savedFor(segment.saved, cut.bit).push(
          segment.words[at + 1] as number,
          segment.words[at + 2] as number,
          segment.words[at] as number,
          segment.cells[slot * 3 + 2] as number,
        );
      }
    }
    segment.words[at + 3] = this.#interval;
  }

  /** SB3. */
  #delete(segment: StringSegment, slot: number): void {
    this.#version += 1; // SB4
    const { words, cells, mask } = segment;
    if (words[slot * ENTRY_WORDS + 3] !== this.#interval) this.#firstWrite(segment, slot);
    segment.arenaDead += bytesOf(words[slot * ENTRY_WORDS + 2] as number);
    let hole = slot;
    for (let probe = (slot + 1) & mask; words[probe * ENTRY_WORDS + 2] !== 0; probe = (probe + 1) & mask) {
      const home = mixHash(words[probe * ENTRY_WORDS] as number) & mask;
      if (((probe - home) & mask) < ((probe - hole) & mask)) continue; // its run begins after the hole
      for (let i = 0; i < 4; i += 1) words[hole * ENTRY_WORDS + i] = words[probe * ENTRY_WORDS + i] as number;
      cells[hole * 3 + 2] = cells[probe * 3 + 2] as number;
      hole = probe;
    }
    words[hole * ENTRY_WORDS + 2] = 0;
    segment.count -= 1;
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

  #encode(segment: StringSegment, cut: OpenCut, into: PartWriter): number {
    const { words, cells, arena } = segment;
    const saved = segment.saved.find((candidate) => candidate.bit === cut.bit)?.entries ?? [];
    const { maxParallelism } = this.#scope.groups;
    const room = segment.count + saved.length / 4;
    const items = new Int32Array(room);
    const places = new Float64Array(room);
    const order = new Uint32Array(room);
    let count = 0;
    for (let slot = 0; slot <= segment.mask; slot += 1) {
      const at = slot * ENTRY_WORDS;
      if (words[at + 2] === 0 || (words[at + 3] as number) > cut.interval) continue; // TB1
      items[count] = slot;
      const hash = words[at] as number;
      places[count] = placeOf(keyGroupOf(hash, maxParallelism), mixHash(hash));
      count += 1;
    }
    for (let i = 0; i < saved.length; i += 4) {
      items[count] = -1 - i;
      const hash = saved[i + 2] as number;
      places[count] = placeOf(keyGroupOf(hash, maxParallelism), mixHash(hash));
      count += 1;
    }
    orderByPlace(places, count, order);
    for (let i = 0; i < count; i += 1) {
      const index = order[i] as number;
      const item = items[index] as number;
      into.entry(places[i] as number);
      if (item >= 0) {
        writeKey(into.out, arena, words[item * ENTRY_WORDS + 1] as number, words[item * ENTRY_WORDS + 2] as number);
        this.#values.write(into.out, cells[item * 3 + 2] as number);
      } else {
        writeKey(into.out, arena, saved[-1 - item] as number, saved[-item] as number);
        this.#values.write(into.out, saved[2 - item] as number);
      }
    }
    return count;
  }

  allKeys(): readonly unknown[] {
    const found: string[] = [];
    for (const { mask, words, arena } of this.#directory.list()) {
      for (let slot = 0; slot <= mask; slot += 1) {
        const at = slot * ENTRY_WORDS;
        const size = words[at + 2] as number;
        if (size !== 0) found.push(textOf(arena, words[at + 1] as number, size));
      }
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

function forEachSlot(segment: StringSegment, run: (slot: number) => void): void {
  for (let slot = 0; slot <= segment.mask; slot += 1) {
    if (segment.words[slot * ENTRY_WORDS + 2] !== 0) run(slot);
  }
}

/** SB2, for equal hashes. */
function holds(arena: Uint8Array, offset: number, size: number, text: string): boolean {
  const length = text.length;
  if (size > 0) {
    if (size !== length + 1) return false;
    for (let i = 0; i < length; i += 1) {
      if (arena[offset + i] !== text.charCodeAt(i)) return false;
    }
    return true;
  }
  if (-size !== length + 1) return false;
  for (let i = 0; i < length; i += 1) {
    if (((arena[offset + 2 * i] as number) | ((arena[offset + 2 * i + 1] as number) << 8)) !== text.charCodeAt(i))
      return false;
  }
  return true;
}

function sizeOf(text: string): number {
  for (let i = 0; i < text.length; i += 1) {
    if (text.charCodeAt(i) > 255) return -(text.length + 1);
  }
  return text.length + 1;
}

function writeCharacters(arena: Uint8Array, offset: number, size: number, text: string): void {
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charCodeAt(i);
    if (size > 0) {
      arena[offset + i] = unit;
    } else {
      arena[offset + 2 * i] = unit & 0xff;
      arena[offset + 2 * i + 1] = unit >>> 8;
    }
  }
}

/** The key as STRING of the snapshot format; the usual ASCII goes over byte by byte. */
function writeKey(out: ByteWriter, arena: Uint8Array, offset: number, size: number): void {
  const length = Math.abs(size) - 1;
  let seen = 0;
  if (size > 0) for (let i = 0; i < length; i += 1) seen |= arena[offset + i] as number;
  if (size > 0 && seen < 0x80) {
    if (length > SHORT_KEY) {
      out.bytes(arena.subarray(offset, offset + length));
      return;
    }
    out.varint(length);
    for (let i = 0; i < length; i += 1) out.u8(arena[offset + i] as number); // a view per key would be garbage by the million
    return;
  }
  writeText(out, textOf(arena, offset, size));
}

function textOf(arena: Uint8Array, offset: number, size: number): string {
  const length = Math.abs(size) - 1;
  let text = "";
  for (let i = 0; i < length; i += 1) {
    const unit =
      size > 0 ? arena[offset + i] : (arena[offset + 2 * i] as number) | ((arena[offset + 2 * i + 1] as number) << 8);
    text += String.fromCharCode(unit as number);
  }
  return text;
}
