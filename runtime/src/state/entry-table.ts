// Keys of one state with what belongs to each, as objects: the part that object-table.ts, list-table.ts and map-table.ts share.
// A small Map per segment, segments found by extendible hashing (directory.ts), cuts that copy on write.
//
// Invariants: TB1, TB2, TB4 of table.ts, D1-D3 of directory.ts, and
//   ET1. What a cut needs of an entry that changes is kept aside as a ghost, by reference where nobody can write to it any more,
//        else encoded. A ghost knows the cuts that need it, and goes with the last of them.
//   ET2. A segment that is split hands its place in every cut to its halves. Nothing is encoded for it.
//   ET3. A cut is captured in portions of ROWS_PER_PORTION rows at most, also inside of one large entry. What was captured already
//        needs no ghost: entries by the set `done`, rows of the entry at hand by their serial numbers.
//   ET4. While a cut is inside of a segment, that segment is not split: it grows until the cut has left it.
//
// Not here: what an entry holds and how it is written (the three tables).

import { assert, ByteReader, keyGroupOf, planted } from "@sluice/kit";
import type { ByteWriter } from "@sluice/kit";
import { SegmentDirectory } from "./directory.ts";
import type { Segment } from "./directory.ts";
import { placeOf } from "./format.ts";
import type { PartWriter } from "./format.ts";
import { mixHash, positionOf } from "./keys.ts";
import type { KeyScope } from "./keys.ts";
import { misplacedKey, orderByPlace, valueMismatch } from "./table.ts";
import type { OpenCut, TableCut } from "./table.ts";
import type { Ttl } from "./ttl.ts";

/** Small, because a segment's entries are put in order in one go. */
const SEGMENT_ENTRIES_MAX = 256;
/** Rows that one call of captureNext writes at most; SN2. */
export const ROWS_PER_PORTION = 256;

/** An earlier content that cuts need (ET1): `cuts` has their bits. */
export interface Ghost {
  cuts: number;
}

/** A key and, in the tables' own entries, what belongs to it. */
export interface Entry {
  readonly mapKey: string | number;
  /** The key; undefined where keys are held encoded: then `mapKey` has its bytes. */
  readonly key: unknown;
  readonly hash: number;
  /** A place is empty once no cut needs its ghost. */
  ghosts: (Ghost | undefined)[] | undefined;
  /** Bits of the cuts that need the entry although it was removed. */
  removedFor: number;
}

class EntrySegment<E extends Entry> implements Segment {
  readonly depth: number;
  readonly position: number;
  pending = 0;
  readonly entries = new Map<string | number, E>();
  /** Entries with ghosts, and removed ones that a cut needs. */
  readonly kept = new Set<E>();
  /** ET2. */
  halves: readonly [lower: EntrySegment<E>, upper: EntrySegment<E>] | undefined = undefined;

  constructor(options: { readonly depth: number; readonly position: number }) {
    this.depth = options.depth;
    this.position = options.position;
  }

  /** The cut of this bit needs nothing of the entry any more. */
  release(entry: E, bit: number): void {
    entry.removedFor &= ~bit;
    if (entry.ghosts !== undefined) {
      const left: Ghost[] = [];
      for (const ghost of entry.ghosts) {
        if (ghost === undefined) continue;
        ghost.cuts &= ~bit;
        if (ghost.cuts !== 0) left.push(ghost);
      }
      entry.ghosts = left.length === 0 ? undefined : left;
    }
    if (entry.ghosts === undefined && entry.removedFor === 0) this.kept.delete(entry);
  }
}

/** Where the capture of an entry stands, and where its rows go. */
export interface Capture<E> {
  readonly bit: number;
  readonly interval: number;
  /** The entry at hand. */
  readonly entry: E | undefined;
  /** Rows of the entry at hand with a serial number up to this one are captured. Starts at 0. */
  serial: number;
  /** What the table wants to know when the entry goes on; undefined when it begins. */
  resume: unknown;
  /** Rows left in this portion. */
  room: number;
  /** True: rows are written with their times. Those up to `expiredThroughMs` have expired, and are left out. */
  readonly hasTimes: boolean;
  readonly expiredThroughMs: number;
  /** Begins a row: its key is written, the rest goes to the writer. */
  row(): ByteWriter;
}

/** Where the sweep stands inside of an entry, and how far it may go now. */
export interface Sweep {
  readonly expiredThroughMs: number;
  resume: unknown;
  /** Rows left to look at. */
  room: number;
}

/** What a kind of table does with its entries. */
export interface EntryLayout<E> {
  /** Takes out rows that have expired, while there is room; true when all were looked at. Only called with a time to live. */
  expire(entry: E, sweep: Sweep): boolean;
  /** Writes rows of the entry as it was at the cut while there is room; true when all are written. */
  capture(entry: E, capture: Capture<E>): boolean;
}

/** ET3. */
class EntryCut<E extends Entry> implements TableCut, Capture<E> {
  readonly bit: number;
  readonly interval: number;
  entry: E | undefined = undefined;
  serial = 0;
  resume: unknown = undefined;
  room = 0;
  readonly hasTimes: boolean;
  readonly expiredThroughMs: number;
  readonly #table: EntryTable<E>;
  readonly #layout: EntryLayout<E>;
  /** The last one is the next. */
  readonly #segments: EntrySegment<E>[];
  #segment: EntrySegment<E> | undefined = undefined;
  #order: readonly E[] = [];
  #next = 0;
  readonly #done = new Set<E>();
  #into: PartWriter | undefined = undefined;
  readonly #isBlind = planted("cut-misses-first-write");
  readonly #forgetsWhatIsDone = planted("captured-row-kept-again");

  constructor(table: EntryTable<E>, layout: EntryLayout<E>, segments: EntrySegment<E>[], open: OpenCut) {
    this.#table = table;
    this.#layout = layout;
    this.#segments = segments.toReversed();
    this.bit = open.bit;
    this.interval = open.interval;
    const { ttl } = table;
    this.hasTimes = ttl !== undefined;
    const keepsAll = ttl === undefined || planted("expired-rows-in-snapshot");
    this.expiredThroughMs = keepsAll ? Number.NEGATIVE_INFINITY : ttl.expiredThroughMs(ttl.nowMs());
    for (const segment of segments) segment.pending |= open.bit;
  }

  get isDone(): boolean {
    return this.#segment === undefined && this.#segments.length === 0;
  }

  /** ET4. */
  isInside(segment: EntrySegment<E>): boolean {
    return this.#segment === segment;
  }

  /** True when a change of this row, last written at `stamp`, must leave a ghost for this cut. */
  needs(segment: EntrySegment<E>, entry: E, row: { readonly stamp: number; readonly serial: number }): boolean {
    if ((segment.pending & this.bit) === 0 || row.stamp > this.interval || this.#isBlind) return false;
    if (this.#segment !== segment || this.#forgetsWhatIsDone) return true;
    return !this.#done.has(entry) && !(entry === this.entry && row.serial <= this.serial);
  }

  /** True when the entry as a whole must outlive its removal for this cut. */
  needsEntry(segment: EntrySegment<E>, entry: E): boolean {
    return (segment.pending & this.bit) !== 0 && !(this.#segment === segment && this.#done.has(entry));
  }

  captureNext(into: PartWriter): number {
    this.#into = into;
    this.room = ROWS_PER_PORTION;
    const segment = this.#segment ?? this.#begin();
    while (this.#next < this.#order.length && this.room > 0) this.#captureEntry();
    if (this.#next === this.#order.length) this.#leave(segment);
    return Math.max(1, ROWS_PER_PORTION - this.room);
  }

  /** The entry at hand, if it is this one, is captured to its end: somebody is about to get at what it holds. */
  finishEntry(entry: E): void {
    if (this.entry !== entry) return;
    while (this.entry === entry) {
      this.room = ROWS_PER_PORTION;
      this.#captureEntry();
    }
  }

  row(): ByteWriter {
    assert(this.#into !== undefined && this.entry !== undefined, "rows are written while an entry is captured");
    this.room -= 1;
    this.#into.entry(this.#placeOf(this.entry));
    this.#table.writeKey(this.#into.out, this.entry);
    return this.#into.out;
  }

  drop(): void {
    if (planted("aborted-cut-keeps-its-bit")) {
      this.#table.forgetCut(this);
      return;
    }
    if (this.#segment !== undefined) this.#leave(this.#segment);
    for (let segment = this.#pop(); segment !== undefined; segment = this.#pop()) this.#leave(segment);
    this.#table.forgetCut(this);
  }

  #placeOf({ hash }: E): number {
    return placeOf(keyGroupOf(hash, this.#table.scope.groups.maxParallelism), mixHash(hash));
  }

  #captureEntry(): void {
    const entry = this.#order[this.#next] as E;
    if (this.entry !== entry) {
      this.entry = entry;
      this.serial = 0;
      this.resume = undefined;
    }
    if (!this.#layout.capture(entry, this)) return;
    this.entry = undefined;
    this.#done.add(entry);
    this.#next += 1;
  }

  #pop(): EntrySegment<E> | undefined {
    for (;;) {
      const segment = this.#segments.pop();
      if (segment?.halves === undefined) return segment;
      this.#segments.push(segment.halves[1], segment.halves[0]); // ET2
    }
  }

  #begin(): EntrySegment<E> {
    const segment = this.#pop();
    assert(segment !== undefined, "a cut that is not done has a segment left");
    this.#segment = segment;
    const entries = [...segment.entries.values()];
    for (const entry of segment.kept) if ((entry.removedFor & this.bit) !== 0) entries.push(entry);
    const places = Float64Array.from(entries, (entry) => this.#placeOf(entry));
    const order = new Uint32Array(entries.length);
    orderByPlace(places, entries.length, order);
    this.#order = Array.from(order, (index) => entries[index] as E);
    this.#next = 0;
    return segment;
  }

  #leave(segment: EntrySegment<E>): void {
    segment.pending &= ~this.bit;
    for (const entry of segment.kept) segment.release(entry, this.bit);
    this.#segment = undefined;
    this.#order = [];
    this.#next = 0;
    this.entry = undefined;
    this.#done.clear();
    if (this.isDone) this.#table.forgetCut(this);
  }
}

/** Where a table is found in messages, and how it reads a row. */
export interface EntryTableOptions<E> {
  readonly stateName: string;
  readonly ttl: Ttl | undefined;
  readonly interval: number;
  readonly layout: EntryLayout<E>;
}

/** The entries of one state, and the one of the current key. */
export class EntryTable<E extends Entry> {
  readonly scope: KeyScope;
  readonly stateName: string;
  readonly ttl: Ttl | undefined;
  /** Writes are stamped with it. */
  interval: number;
  // What the current key leads to; valid while the epoch is the scope's.
  epoch = -1;
  entry: E | undefined = undefined;
  mapKey: string | number = 0;
  readonly #layout: EntryLayout<E>;
  readonly #directory: SegmentDirectory<EntrySegment<E>>;
  #segment: EntrySegment<E>;
  #cuts: EntryCut<E>[] = [];
  // Where the sweep is.
  #swept: EntrySegment<E> | undefined = undefined;
  #sweptEntries: Iterator<E> | undefined = undefined;
  #sweptEntry: E | undefined = undefined;
  #sweptResume: unknown = undefined;

  constructor(scope: KeyScope, options: EntryTableOptions<E>) {
    this.scope = scope;
    this.stateName = options.stateName;
    this.ttl = options.ttl;
    this.interval = options.interval;
    this.#layout = options.layout;
    this.#segment = new EntrySegment({ depth: 0, position: 0 });
    this.#directory = new SegmentDirectory(scope.groups.count, this.#segment);
    this.forget();
  }

  /** Makes `entry` the one of the current key. */
  locate(what: string): void {
    const scope = this.scope;
    if (!scope.active) throw scope.outside(`state "${this.stateName}" ${what}`);
    this.#segment = this.#segmentOf(scope.hash);
    this.mapKey =
      scope.form === "encoded"
        ? scope.encodedText()
        : scope.form === "string"
          ? scope.text
          : (scope.number[0] as number);
    this.entry = this.#segment.entries.get(this.mapKey);
    this.epoch = scope.epoch;
  }

  forget(): void {
    // An epoch is an int32, so this never equals one.
    this.epoch = 0.5;
  }

  /** False: no cut in flight can need anything of the current key's entry. The quick question before `needers`. */
  get isCutOpen(): boolean {
    return this.#segment.pending !== 0;
  }

  /** Bits of the cuts that need a row as it is now. */
  needers(entry: E, row: { readonly stamp: number; readonly serial: number }): number {
    if (this.#cuts.length === 0 || row.stamp === this.interval) return 0;
    const segment = this.#segmentOf(entry.hash);
    let bits = 0;
    for (let i = 0; i < this.#cuts.length; i += 1) {
      const cut = this.#cuts[i] as EntryCut<E>;
      if (cut.needs(segment, entry, row)) bits |= cut.bit;
    }
    return bits;
  }

  /** ET1. */
  keep(entry: E, ghost: Ghost): void {
    (entry.ghosts ??= []).push(ghost);
    this.#segmentOf(entry.hash).kept.add(entry);
  }

  /** Lets every cut that is inside of this entry finish it. */
  finishCaptures(entry: E): void {
    for (const cut of [...this.#cuts]) cut.finishEntry(entry);
  }

  /** What the key parts of a new entry of the current key are; checks the key. */
  newKey(): Pick<Entry, "mapKey" | "key" | "hash"> {
    const { scope } = this;
    scope.verifyNewKey();
    // A composed or BYTES key belongs to the user: our own copy is its encoding.
    return { mapKey: this.mapKey, key: scope.form === "encoded" ? undefined : scope.get(), hash: scope.hash };
  }

  /** Adds an entry of the current key, which has none. */
  insert(entry: E): void {
    const directory = this.#directory;
    while (
      this.#segment.entries.size >= SEGMENT_ENTRIES_MAX &&
      directory.canSplit(this.#segment) &&
      !this.#cuts.some((cut) => cut.isInside(this.#segment)) // ET4
    ) {
      this.#split(this.#segment);
      this.#segment = this.#segmentOf(entry.hash);
    }
    this.#segment.entries.set(entry.mapKey, entry);
    this.entry = entry;
  }

  /** Takes an entry out, whichever key it belongs to. What a cut needs of it stays as it is: nobody changes it any more. */
  remove(entry: E): void {
    const segment = this.#segmentOf(entry.hash);
    segment.entries.delete(entry.mapKey);
    if (segment.pending !== 0) {
      for (const cut of this.#cuts) if (cut.needsEntry(segment, entry)) entry.removedFor |= cut.bit;
      if (entry.removedFor !== 0) segment.kept.add(entry);
    }
    if (this.entry === entry) this.entry = undefined;
  }

  /** ET2. */
  #split(old: EntrySegment<E>): void {
    const splitBit = this.#directory.splitBit(old);
    const { maxParallelism, first } = this.scope.groups;
    const lower = new EntrySegment<E>({ depth: old.depth + 1, position: old.position });
    const upper = new EntrySegment<E>({ depth: old.depth + 1, position: old.position + splitBit });
    lower.pending = old.pending;
    upper.pending = old.pending;
    const halfOf = (entry: E): EntrySegment<E> =>
      (positionOf(entry.hash, maxParallelism, first) & splitBit) !== 0 ? upper : lower;
    for (const [mapKey, entry] of old.entries) halfOf(entry).entries.set(mapKey, entry);
    for (const entry of old.kept) halfOf(entry).kept.add(entry);
    this.#directory.split(old, lower, upper);
    old.halves = [lower, upper];
    old.entries.clear();
    old.kept.clear();
  }

  /** Goes on where the last call ended, looks at about `rowsMax` rows, at the end of the table begins anew; passes by `spared`. */
  sweep(rowsMax: number, spared: E | undefined): void {
    const { ttl } = this;
    if (ttl === undefined) return;
    const sweep: Sweep = { expiredThroughMs: ttl.expiredThroughMs(ttl.nowMs()), resume: undefined, room: rowsMax };
    while (sweep.room > 0) {
      this.#sweptEntry ??= this.#nextSwept();
      const entry = this.#sweptEntry;
      if (entry === undefined) {
        sweep.room -= 1; // also a segment without entries is a place to look at
        continue;
      }
      sweep.resume = this.#sweptResume;
      const isThere = this.#segmentOf(entry.hash).entries.get(entry.mapKey) === entry;
      if (!isThere || entry === spared) sweep.room -= 1;
      const isDone = !isThere || entry === spared || this.#layout.expire(entry, sweep);
      this.#sweptEntry = isDone ? undefined : entry;
      this.#sweptResume = isDone ? undefined : sweep.resume;
    }
  }

  /** The next entry, undefined at the end of a segment. A JS Map's iterator stands changes; those of a segment that was split ends. */
  #nextSwept(): E | undefined {
    if (this.#sweptEntries === undefined) {
      const after = this.#swept === undefined ? undefined : this.#directory.after(this.#swept);
      this.#swept = after ?? (this.#directory.slots[0] as EntrySegment<E>);
      this.#sweptEntries = this.#swept.entries.values();
    }
    const next = this.#sweptEntries.next();
    if (next.done !== true) return next.value;
    this.#sweptEntries = undefined;
    return undefined;
  }

  #segmentOf(hash: number): EntrySegment<E> {
    const directory = this.#directory;
    return directory.slots[this.scope.positionOfHash(hash, mixHash(hash)) >>> directory.shift] as EntrySegment<E>;
  }

  cut(open: OpenCut): TableCut {
    const cut = new EntryCut(this, this.#layout, this.#directory.list(), open);
    this.#cuts.push(cut);
    return cut;
  }

  forgetCut(cut: EntryCut<E>): void {
    this.#cuts = this.#cuts.filter((other) => other !== cut);
  }

  writeKey(into: ByteWriter, entry: Entry): void {
    if (this.scope.form === "encoded") {
      const text = entry.mapKey as string;
      for (let i = 0; i < text.length; i += 1) into.u8(text.charCodeAt(i));
    } else {
      this.scope.codec.write(into, entry.key);
    }
  }

  /** The key of an entry, as the user knows it. */
  keyOf(entry: Entry): unknown {
    if (this.scope.form === "encoded") {
      const bytes = Uint8Array.from(entry.mapKey as string, (char) => char.charCodeAt(0));
      return this.scope.codec.read(new ByteReader(bytes, { what: "a key", code: "INTERNAL" }));
    }
    return entry.key;
  }

  /** The keys of all entries; composed ones are copies. */
  allKeys(): readonly unknown[] {
    return this.#directory
      .list()
      .flatMap((segment) => Array.from(segment.entries.values(), (entry) => this.keyOf(entry)));
  }

  /** Reads the rows of a block: sets the current key to that of each and lets `readRow` read the rest. Returns how many. */
  load(from: ByteReader, keyGroup: number, readRow: () => void): number {
    const { scope } = this;
    let count = 0;
    for (; from.remaining > 0; count += 1) {
      const key = scope.codec.read(from);
      const hash = scope.hasher(key);
      if (keyGroupOf(hash, scope.groups.maxParallelism) !== keyGroup) throw misplacedKey(from);
      scope.set(key, hash);
      this.locate("load()");
      readRow();
    }
    scope.clear();
    return count;
  }

  /** The failure of a stored value, named by operator and state. */
  mismatch(problem: string): Error {
    return valueMismatch({ uid: this.scope.uid, stateName: this.stateName }, problem);
  }

  /** As {@link mismatch}, for what a codec threw: elements of lists and maps are looked at only when they are written. */
  named(thrown: unknown): Error {
    return this.mismatch(thrown instanceof Error ? thrown.message : String(thrown));
  }
}
