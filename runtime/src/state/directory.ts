// Extendible hashing over positions (KE2): which segment of a table holds a key. A position prefix is a key-group range, so
// segments in directory order are segments in key-group order; small key groups share a segment, large ones have several.
//
// Invariants:
//   D1. slots[position >>> shift] is the segment of the position; a segment of depth d fills an aligned run of slots.
//   D2. Growth and splits touch one segment and at most one doubling of the slots (a list of references).
//   D3. The list of slots stays below 64 per segment: keys that collide on purpose make one segment larger instead.
//
// Not here: what a segment holds.

import { assert } from "@sluice/kit";

const HASH_BITS = 16;
const SLOTS_PER_SEGMENT_MAX = 64;

/** What the directory and the snapshots need of a segment. */
export interface Segment {
  /** Leading position bits that all keys of the segment share. */
  readonly depth: number;
  /** The lowest position of its range. */
  readonly position: number;
  /** One bit per snapshot in flight that has not captured this segment yet. */
  pending: number;
}

export class SegmentDirectory<S extends Segment> {
  /** Read by the tables' hot paths only (D1). */
  slots: S[];
  /** Read by the tables' hot paths only (D1). */
  shift: number;
  readonly #bits: number;
  #segmentCount = 1;

  /** `root` has depth 0. */
  constructor(keyGroupCount: number, root: S) {
    assert(keyGroupCount >= 1 && keyGroupCount <= 32768, "positions fit 31 bits");
    assert(root.depth === 0 && root.position === 0, "the root covers every position");
    this.#bits = HASH_BITS + Math.ceil(Math.log2(keyGroupCount));
    this.shift = this.#bits;
    this.slots = [root];
  }

  /** False: the segment must grow beyond its usual size instead. */
  canSplit(segment: S): boolean {
    if (segment.depth === this.#bits) return false;
    return segment.depth < this.#depth || this.slots.length * 2 <= SLOTS_PER_SEGMENT_MAX * (this.#segmentCount + 1);
  }

  /** Keys whose position has this bit go to the upper half when the segment splits. */
  splitBit(segment: S): number {
    return 1 << (this.#bits - segment.depth - 1);
  }

  /** Puts `next` (of the same range) in the place of `old`. */
  replace(old: S, next: S): void {
    assert(next.depth === old.depth && next.position === old.position, "D1: a replacement covers the same positions");
    const [from, to] = this.#runOf(old);
    for (let i = from; i < to; i += 1) this.slots[i] = next;
  }

  /** Puts two halves in the place of `old`. */
  split(old: S, lower: S, upper: S): void {
    assert(lower.depth === old.depth + 1 && upper.depth === old.depth + 1, "D1: halves share one bit more");
    assert(
      lower.position === old.position && upper.position === old.position + this.splitBit(old),
      "D1: halves cover the whole",
    );
    if (old.depth === this.#depth) {
      const doubled: S[] = [];
      for (const segment of this.slots) doubled.push(segment, segment);
      this.slots = doubled;
      this.shift -= 1;
    }
    const [from, to] = this.#runOf(old);
    const middle = (from + to) >>> 1;
    for (let i = from; i < middle; i += 1) this.slots[i] = lower;
    for (let i = middle; i < to; i += 1) this.slots[i] = upper;
    this.#segmentCount += 1;
  }

  /** The segment behind the positions of this one, which may have been split meanwhile; undefined at the end. */
  after(segment: S): S | undefined {
    return this.slots[Math.floor((segment.position + 2 ** (this.#bits - segment.depth)) / 2 ** this.shift)];
  }

  /** Every segment once, in position order. */
  list(): S[] {
    const segments: S[] = [];
    for (let i = 0; i < this.slots.length;) {
      const segment = this.slots[i] as S;
      segments.push(segment);
      i += 1 << (this.#depth - segment.depth);
    }
    return segments;
  }

  get #depth(): number {
    return this.#bits - this.shift;
  }

  #runOf(segment: S): readonly [from: number, to: number] {
    const width = 1 << (this.#depth - segment.depth);
    const from = segment.position >>> this.shift;
    assert(
      this.slots[from] === segment && this.slots[from + width - 1] === segment,
      "D1: a segment fills its run of slots",
    );
    return [from, from + width];
  }
}
