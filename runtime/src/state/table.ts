// What the backend and its snapshots need of a table: the values of one state, whatever their layout.
//
// Invariants (all tables keep them; protocols 3):
//   TB1. Every entry carries the interval of its last write. A snapshot closes interval n; entries with a stamp <= n belong to it.
//   TB2. Before the first change of such an entry, its old content is saved for every snapshot that has not captured its
//        segment yet; so a snapshot sees exactly what was there at its cut, whenever it captures.
//   TB3. A segment that is split or grown is retired: it never changes again, snapshots that need it keep it.
//   TB4. Capturing changes nothing but the segment's pending bits: snapshots neither order nor disturb each other.

import { Failure } from "@sluice/kit";
import type { ByteReader } from "@sluice/kit";
import type { StoredStateKind, TypeDescriptor } from "../model/index.ts";
import type { Segment } from "./directory.ts";
import type { PartWriter } from "./format.ts";
import type { Ttl } from "./ttl.ts";

/** The cut of one snapshot through one table. */
export interface TableCut {
  /** Encodes the next segment; returns the number of entries it had, at least 1. */
  captureNext(into: PartWriter): number;
  readonly isDone: boolean;
  /** Forgets what is not captured yet (abort). */
  drop(): void;
}

/** A cut in flight: entries with a stamp up to `interval` belong to the snapshot that owns `bit`. */
export interface OpenCut {
  readonly bit: number;
  readonly interval: number;
}

/** Old contents of a segment's entries, for the snapshot of this bit; as many numbers per entry as the table needs. */
export interface SavedNumbers {
  readonly bit: number;
  readonly entries: number[];
}

/** The list of this bit, made when it is first needed. */
export function savedFor(saved: SavedNumbers[], bit: number): number[] {
  for (let i = 0; i < saved.length; i += 1) {
    const candidate = saved[i] as SavedNumbers;
    if (candidate.bit === bit) return candidate.entries;
  }
  const entries: number[] = [];
  saved.push({ bit, entries });
  return entries;
}

/** Times of rows that are restored: those that are stored, or for rows stored without (TL3) the time of the restore. */
export interface RestoredTimes {
  readonly areStored: boolean;
  readonly nowMs: number;
}

/** The time of the row at hand. */
export function readTime(from: ByteReader, times: RestoredTimes): number {
  return times.areStored ? from.long() : times.nowMs;
}

/** The values of one state. */
export interface StateTable {
  readonly stateName: string;
  readonly stateKind: StoredStateKind;
  /** Of the whole: LIST and MAP for lists and maps. */
  readonly valueType: TypeDescriptor;
  /** The state as user functions hold it, but for reducing and aggregating states, which hold it as a value. */
  readonly handle: unknown;
  /** Set when rows have times. */
  readonly ttl: Ttl | undefined;
  /** Entries in the table, for metrics. */
  readonly entryCount: number;
  /** Looks at about this many rows, going round and round, and takes out what has expired; only with `ttl`. */
  sweep?(rowsMax: number): void;
  /** Opens a cut of all entries so far, whose stamps are `interval` or less. No other cut in flight has this `bit`. */
  cut(open: OpenCut): TableCut;
  /** From now on writes are stamped with this interval. */
  advance(interval: number): void;
  /** Reads rows (format.ts) of one key group to the end; returns how many. */
  load(from: ByteReader, keyGroup: number, times: RestoredTimes): number;
  /** Forgets the remembered slot of the current key. */
  forget(): void;
  /** The keys that have an entry now; only of states that functions declare. */
  allKeys?(): readonly unknown[];
}

/** What a table is made of. */
export interface TableOptions {
  readonly stateName: string;
  readonly stateKind: StoredStateKind;
  readonly valueType: TypeDescriptor;
  readonly ttl: Ttl | undefined;
  readonly interval: number;
}

/** A segment that keeps aside, per cut, what was overwritten before the cut had captured it. */
interface SavingSegment extends Segment {
  saved: readonly { readonly bit: number }[];
}

/** The shared part of all cuts: walks the segments of the cut in order. */
export class SegmentCut<S extends SavingSegment> implements TableCut {
  readonly #segments: readonly S[];
  readonly #bit: number;
  readonly #encode: (segment: S, into: PartWriter) => number;
  #next = 0;

  constructor(options: {
    readonly segments: readonly S[];
    readonly bit: number;
    readonly encode: (segment: S, into: PartWriter) => number;
  }) {
    this.#segments = options.segments;
    this.#bit = options.bit;
    this.#encode = options.encode;
    for (let i = 0; i < this.#segments.length; i += 1) (this.#segments[i] as S).pending |= this.#bit;
  }

  get isDone(): boolean {
    return this.#next === this.#segments.length;
  }

  captureNext(into: PartWriter): number {
    const segment = this.#segments[this.#next] as S;
    const count = this.#encode(segment, into);
    this.#finish(segment);
    return Math.max(1, count);
  }

  drop(): void {
    while (!this.isDone) this.#finish(this.#segments[this.#next] as S);
  }

  #finish(segment: S): void {
    segment.pending &= ~this.#bit;
    if (segment.saved.length !== 0) {
      segment.saved = segment.saved.filter((saved) => saved.bit !== this.#bit) as S["saved"];
    }
    this.#next += 1;
  }
}

/** The failure of a stored value that is not of the declared type. */
export function valueMismatch(where: { readonly uid: string; readonly stateName: string }, problem: string): Failure {
  return new Failure("TYPE_MISMATCH", {
    retry: "never",
    message: `operator uid ${where.uid}, state "${where.stateName}": ${problem}`,
    remedy: "store a value of the declared type, or declare another type in the state's descriptor",
  });
}

/** The failure of a stored key that does not belong where it was found. */
export function misplacedKey(from: ByteReader): Failure {
  return from.failure("a key that does not belong to its key group");
}

/** Below this many entries in one bucket, inserting them one by one is the fastest way to sort them. */
const INSERTION_MAX = 24;

/**
 * Orders entries by their places (format.ts): sorts `places`, and `order` becomes the permutation of [0, count) that does. Order hashes of
 * a segment are spread evenly, so one pass over as many buckets as entries all but sorts them; keys that collide on purpose cost a sort.
 */
export function orderByPlace(places: Float64Array, count: number, order: Uint32Array): void {
  if (count === 0) return;
  let low = Number.POSITIVE_INFINITY;
  let high = 0;
  for (let i = 0; i < count; i += 1) {
    const place = places[i] as number;
    if (place < low) low = place;
    if (place > high) high = place;
  }
  const scale = count / (high - low + 1);
  if (starts.length <= count) {
    starts = new Uint32Array(count * 2);
    buckets = new Uint32Array(count * 2);
    sorted = new Float64Array(count * 2);
  }
  starts.fill(0, 0, count + 1);
  for (let i = 0; i < count; i += 1) {
    const bucket = (((places[i] as number) - low) * scale) | 0;
    buckets[i] = bucket;
    starts[bucket + 1]! += 1;
  }
  let isCrowded = false;
  for (let b = 1; b <= count; b += 1) {
    if ((starts[b] as number) > INSERTION_MAX) isCrowded = true;
    starts[b]! += starts[b - 1] as number;
  }
  for (let i = 0; i < count; i += 1) {
    const bucket = buckets[i] as number;
    const to = starts[bucket] as number;
    starts[bucket] = to + 1;
    order[to] = i;
    sorted[to] = places[i] as number;
  }
  if (isCrowded) {
    order.subarray(0, count).sort((a, b) => (places[a] as number) - (places[b] as number));
    for (let i = 0; i < count; i += 1) sorted[i] = places[order[i] as number] as number;
  } else {
    insertInOrder(count, order);
  }
  places.set(sorted.subarray(0, count));
}

/** Sorts `sorted`, which nearly is, and `order` with it. */
function insertInOrder(count: number, order: Uint32Array): void {
  for (let i = 1; i < count; i += 1) {
    const place = sorted[i] as number;
    if ((sorted[i - 1] as number) <= place) continue;
    const index = order[i] as number;
    let at = i;
    for (; at > 0 && (sorted[at - 1] as number) > place; at -= 1) {
      sorted[at] = sorted[at - 1] as number;
      order[at] = order[at - 1] as number;
    }
    sorted[at] = place;
    order[at] = index;
  }
}

// Capturing is synchronous, so all tables of a thread share one scratch area.
let starts = new Uint32Array(8192);
let buckets = new Uint32Array(8192);
let sorted = new Float64Array(8192);
