// Row codecs: the parts that do not depend on the type. A subclass, generated or interpreted, adds `tryWrite` and `read`.
//
// Invariants (tests cite them by name):
//   RC1. `tryWrite` that returned false or threw left the frame as it was: the rows before it are intact.
//   RC2. A sealed frame has the layout of its row count (layout.ts CL1), wherever the row capacity was when it was opened.
//   RC3. What `read` returns is a value of its own: it holds nothing of the frame.
//   RC4. Declared fields are never null or undefined; a value of another type is a Failure TYPE_MISMATCH that names field and value.
//        Properties of a ROW that are not declared do not travel.
//   RC5. -0 in INT, LONG and INSTANT becomes 0; DOUBLE keeps every bit but the payload of a NaN.
//
// Not here: columns (layout.ts), which channel a row goes to (record-writer.ts).

import { assert } from "@sluice/kit";
import { FLAG_HASHES, FRAME_HEADER_BYTES, FRAME_RECORDS, writeFrameHeader } from "../frame.ts";
import type { FrameHeader } from "../frame.ts";
import type { FrameMemory } from "../ring.ts";
import type { Layout, Leaf, Shape } from "./layout.ts";
import { StringCache } from "./strings.ts";
import { expectation, typeMismatch } from "./values.ts";
import type { TailInput, TailOutput } from "./values.ts";

/** What a declared codec does with a wrong value: throw. What an inferred one does: report it, the channel switches to tagged. */
export type OnMismatch = "throw" | "deviate";

/** First guess of tail bytes per variable field, until the first frame was sealed. */
const TAIL_BYTES_GUESS = 16;

const NO_MEMORY: FrameMemory = {
  f64: new Float64Array(0),
  i32: new Int32Array(0),
  u32: new Uint32Array(0),
  u8: new Uint8Array(0),
  bytes: Buffer.alloc(0),
};

/** Writes rows into one open frame at a time. Fields are public for generated code only. */
export abstract class RowWriter implements TailOutput {
  readonly layout: Layout;
  readonly onMismatch: OnMismatch;
  /** Flags of the frames this writer seals. */
  readonly flags: number;
  memory: FrameMemory = NO_MEMORY;
  f64: Float64Array<ArrayBufferLike> = NO_MEMORY.f64;
  i32: Int32Array<ArrayBufferLike> = NO_MEMORY.i32;
  u32: Uint32Array<ArrayBufferLike> = NO_MEMORY.u32;
  u8: Uint8Array<ArrayBufferLike> = NO_MEMORY.u8;
  /** Rows in the open frame; 0 when none is open. */
  rows = 0;
  /** Rows the open frame has room for; 0 when none is open, so that `tryWrite` is false. */
  capacity = 0;
  /** First element of each group of columns. */
  f64Base = 0;
  i32Base = 0;
  u8Base = 0;
  tailBase = 0;
  /** End of the last complete row in the tail; `tailPos` may be beyond it while a row is being written (RC1). */
  rowTail = 0;
  tailPos = 0;
  tailLimit = 0;
  /** Set by an inferred writer that met a record of another shape. */
  deviated = false;
  #offset = 0;
  #tailBytesPerRow: number;

  constructor(layout: Layout, onMismatch: OnMismatch, flags: number) {
    this.layout = layout;
    this.onMismatch = onMismatch;
    this.flags = flags | (layout.hasHashes ? FLAG_HASHES : 0);
    this.#tailBytesPerRow = layout.tailCount * TAIL_BYTES_GUESS;
  }

  /** Adds a row; false: it does not fit, or `deviated` is set (RC1). `hash` is stored when the layout has hashes. */
  abstract tryWrite(record: unknown, hash: number): boolean;

  /** Starts a frame at `offset` (a multiple of 8) that may use `sizeBytes`. */
  open(memory: FrameMemory, offset: number, sizeBytes: number): void {
    assert(this.capacity === 0, "a writer has one open frame");
    const layout = this.layout;
    const payloadBytes = sizeBytes - FRAME_HEADER_BYTES;
    const rowBytesGuess = layout.rowBytes + (layout.tailCount === 0 ? 0 : Math.ceil(this.#tailBytesPerRow * 1.05) + 1);
    // A record without fields takes no bytes: the row count alone is limited.
    const capacity = rowBytesGuess === 0 ? payloadBytes : Math.floor(payloadBytes / rowBytesGuess);
    const fitting = layout.rowBytes === 0 ? Infinity : Math.floor(payloadBytes / layout.rowBytes);
    this.#begin(memory, offset, sizeBytes, Math.min(fitting, Math.max(1, capacity)));
  }

  /** Starts a frame for exactly one row, the rest of the room being tail: for records larger than a slot. */
  openForOne(memory: FrameMemory, offset: number, sizeBytes: number): void {
    assert(this.capacity === 0, "a writer has one open frame");
    this.#begin(memory, offset, sizeBytes, FRAME_HEADER_BYTES + this.layout.rowBytes <= sizeBytes ? 1 : 0);
  }

  #begin(memory: FrameMemory, offset: number, sizeBytes: number, capacity: number): void {
    this.memory = memory;
    this.f64 = memory.f64;
    this.i32 = memory.i32;
    this.u32 = memory.u32;
    this.u8 = memory.u8;
    this.#offset = offset;
    this.rows = 0;
    this.capacity = capacity;
    const { f64Count, i32Count, rowBytes } = this.layout;
    const start = offset + FRAME_HEADER_BYTES;
    this.f64Base = start >>> 3;
    this.i32Base = (start + 8 * f64Count * capacity) >>> 2;
    this.u8Base = start + (8 * f64Count + 4 * i32Count) * capacity;
    this.tailBase = start + rowBytes * capacity;
    this.rowTail = this.tailBase;
    this.tailPos = this.tailBase;
    this.tailLimit = offset + sizeBytes;
  }

  /** Closes the open frame without a trace; its memory is the caller's again. */
  abandon(): void {
    this.rows = 0;
    this.capacity = 0;
  }

  /** Ends the frame: moves the columns together (RC2), writes the header. Returns its length in bytes. */
  seal(): number {
    const rows = this.rows;
    assert(rows > 0, "a sealed frame has rows");
    const layout = this.layout;
    if (layout.tailCount > 0) {
      const observed = (this.rowTail - this.tailBase) / rows;
      this.#tailBytesPerRow = rows >= 16 ? observed : (this.#tailBytesPerRow * 3 + observed) / 4;
    }
    const byteLength = FRAME_HEADER_BYTES + rows * layout.rowBytes + (this.rowTail - this.tailBase);
    if (rows < this.capacity) this.#compact(rows);
    writeFrameHeader(this.memory, this.#offset, {
      kind: FRAME_RECORDS,
      flags: this.flags,
      rowCount: rows,
      byteLength,
      totalBytes: 0,
    });
    this.abandon();
    return byteLength;
  }

  /** Ascending, so that a column is moved into room that was already read. */
  #compact(rows: number): void {
    const { f64Count, i32Count, u8Count } = this.layout;
    const u8 = this.u8;
    const start = this.#offset + FRAME_HEADER_BYTES;
    let to = start;
    let from = start;
    for (let group = 0; group < 3; group += 1) {
      const width = group === 0 ? 8 : group === 1 ? 4 : 1;
      const count = group === 0 ? f64Count : group === 1 ? i32Count : u8Count;
      for (let column = 0; column < count; column += 1) {
        if (to !== from) u8.copyWithin(to, from, from + rows * width);
        to += rows * width;
        from += this.capacity * width;
      }
    }
    if (this.rowTail > this.tailBase) u8.copyWithin(to, this.tailBase, this.rowTail);
  }

  /** What generated code calls for a value of the wrong type (RC4). */
  mismatch(leafIndex: number, value: unknown): false {
    const leaf = this.layout.leaves[leafIndex] as Leaf;
    return this.fail(leaf.path, expectation(leaf.type), value);
  }

  /** As {@link mismatch} for a TUPLE or ROW itself. */
  fail(path: string, expected: string, value: unknown): false {
    if (this.onMismatch === "throw") throw typeMismatch(path, expected, value);
    this.deviated = true;
    return false;
  }
}

/** Reads the rows of one bound frame at a time. Fields are public for generated code only. */
export abstract class RowFrameReader implements TailInput {
  readonly layout: Layout;
  readonly caches: readonly (StringCache | undefined)[];
  memory: FrameMemory = NO_MEMORY;
  f64: Float64Array<ArrayBufferLike> = NO_MEMORY.f64;
  i32: Int32Array<ArrayBufferLike> = NO_MEMORY.i32;
  u32: Uint32Array<ArrayBufferLike> = NO_MEMORY.u32;
  u8: Uint8Array<ArrayBufferLike> = NO_MEMORY.u8;
  rows = 0;
  f64Base = 0;
  i32Base = 0;
  u8Base = 0;
  tailBase = 0;
  tailPos = 0;

  /** `caches`: by leaf, see {@link stringCaches}; the channels of an edge share them. */
  constructor(layout: Layout, caches: readonly (StringCache | undefined)[]) {
    this.layout = layout;
    this.caches = caches;
  }

  /** Row `row` as a fresh value (RC3). */
  abstract read(row: number): unknown;

  /** The key hash sent with the row (signed, as kit's hash functions give it); 0 when none travels. */
  hash(row: number): number {
    return this.layout.hasHashes ? (this.i32[this.i32Base + row] as number) : 0;
  }

  /** Makes the rows of the frame at `offset` readable; returns their number. */
  bind(memory: FrameMemory, offset: number, header: FrameHeader): number {
    const { f64Count, i32Count, rowBytes, hasHashes } = this.layout;
    const rows = header.rowCount;
    assert(hasHashes === ((header.flags & FLAG_HASHES) !== 0), "both ends of an edge agree on the hash column");
    assert(FRAME_HEADER_BYTES + rows * rowBytes <= header.byteLength, "a frame holds the columns of its rows");
    this.memory = memory;
    this.f64 = memory.f64;
    this.i32 = memory.i32;
    this.u32 = memory.u32;
    this.u8 = memory.u8;
    this.rows = rows;
    const start = offset + FRAME_HEADER_BYTES;
    this.f64Base = start >>> 3;
    this.i32Base = (start + 8 * f64Count * rows) >>> 2;
    this.u8Base = start + (8 * f64Count + 4 * i32Count) * rows;
    this.tailBase = start + rowBytes * rows;
    return rows;
  }

  /** Forgets the frame, so that its memory can be freed or written again. */
  unbind(): void {
    this.memory = NO_MEMORY;
    this.rows = 0;
  }
}

/** A cache for each STRING leaf. */
export function stringCaches(layout: Layout): readonly (StringCache | undefined)[] {
  return layout.leaves.map((leaf) => (leaf.kind === "STRING" ? new StringCache() : undefined));
}

/** The tail leaf that ends where `leaf` of the same row begins, or undefined for the first one of a row. */
export function tailLeafBefore(layout: Layout, leaf: Leaf): Leaf | undefined {
  let before: Leaf | undefined;
  for (const other of layout.leaves) {
    if (other === leaf) return before;
    if (other.group === "tail") before = other;
  }
  return undefined;
}

/** The last tail leaf of a row: where the next row's tail begins. */
export function lastTailLeaf(layout: Layout): Leaf | undefined {
  return layout.leaves.findLast((leaf) => leaf.group === "tail");
}

/** Text for messages about a whole TUPLE or ROW. */
export function shapeExpectation(shape: Exclude<Shape, { readonly shape: "leaf" }>): string {
  return shape.shape === "tuple"
    ? `a TUPLE (an array of length ${shape.fields.length})`
    : `a ROW (an object with ${shape.names.join(", ")})`;
}
