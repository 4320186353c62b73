// The same row codecs without generated code, for processes that forbid it (--disallow-code-generation-from-strings).
//
// Invariants: GC1 of generate.ts, seen from the other side.
//
// Not here: speed.

import { isPlainWith, needsValueCodec } from "./generate.ts";
import type { Layout, Leaf, Shape } from "./layout.ts";
import type { OnMismatch } from "./row-codec.ts";
import { lastTailLeaf, RowFrameReader, RowWriter, shapeExpectation, tailLeafBefore } from "./row-codec.ts";
import { putString } from "./strings.ts";
import type { StringCache } from "./strings.ts";
import { compileDecoder, compileEncoder, setOwn } from "./values.ts";
import type { ValueDecoder, ValueEncoder } from "./values.ts";

export class InterpretedWriter extends RowWriter {
  readonly #encoders: readonly (ValueEncoder | undefined)[];

  constructor(layout: Layout, onMismatch: OnMismatch, flags: number) {
    super(layout, onMismatch, flags);
    this.#encoders = layout.leaves.map((leaf) =>
      needsValueCodec(leaf) ? compileEncoder(leaf.type, leaf.path) : undefined,
    );
  }

  override tryWrite(record: unknown, hash: number): boolean {
    if (this.rows === this.capacity) return false;
    this.tailPos = this.rowTail;
    if (!this.#writeShape(this.layout.root, record)) return false;
    if (this.layout.hasHashes) this.i32[this.i32Base + this.rows] = hash;
    this.rowTail = this.tailPos;
    this.rows += 1;
    return true;
  }

  #writeShape(shape: Shape, value: unknown): boolean {
    if (shape.shape === "leaf") return this.#writeLeaf(shape.leaf, value);
    if (shape.shape === "tuple") {
      if (!Array.isArray(value) || value.length !== shape.fields.length)
        return this.fail(shape.path, shapeExpectation(shape), value);
      for (let i = 0; i < shape.fields.length; i += 1)
        if (!this.#writeShape(shape.fields[i] as Shape, value[i])) return false;
      return true;
    }
    if (typeof value !== "object" || value === null) return this.fail(shape.path, shapeExpectation(shape), value);
    if (this.onMismatch === "deviate" && !isPlainWith(value, shape.names.length)) {
      return this.fail(shape.path, shapeExpectation(shape), value);
    }
    for (let i = 0; i < shape.fields.length; i += 1) {
      if (!this.#writeShape(shape.fields[i] as Shape, (value as Record<string, unknown>)[shape.names[i] as string]))
        return false;
    }
    return true;
  }

  #writeLeaf(leaf: Leaf, value: unknown): boolean {
    const at = leaf.column * this.capacity + this.rows;
    switch (leaf.kind) {
      case "LONG":
      case "INSTANT":
        if (!Number.isSafeInteger(value)) return this.mismatch(leaf.index, value);
        this.f64[this.f64Base + at] = (value as number) + 0;
        return true;
      case "DOUBLE":
        if (typeof value !== "number") return this.mismatch(leaf.index, value);
        this.f64[this.f64Base + at] = value;
        return true;
      case "INT":
        if (typeof value !== "number" || (value | 0) !== value) return this.mismatch(leaf.index, value);
        this.i32[this.i32Base + at] = value;
        return true;
      case "BOOLEAN":
        if (typeof value !== "boolean") return this.mismatch(leaf.index, value);
        this.u8[this.u8Base + at] = value ? 1 : 0;
        return true;
      case "STRING": {
        if (typeof value !== "string") return this.mismatch(leaf.index, value);
        const end = putString(this.memory, this.tailPos, this.tailLimit, value);
        if (end < 0) return false;
        this.tailPos = end >>> 1;
        this.u32[this.i32Base + at] = (this.tailPos - this.tailBase) | (end << 31);
        return true;
      }
      case "BYTES":
        if (!(value instanceof Uint8Array)) return this.mismatch(leaf.index, value);
        if (value.length > this.tailLimit - this.tailPos) return false;
        this.u8.set(value, this.tailPos);
        this.tailPos += value.length;
        break;
      default:
        if (!(this.#encoders[leaf.index] as ValueEncoder)(this, value)) return false;
    }
    this.u32[this.i32Base + at] = this.tailPos - this.tailBase;
    return true;
  }
}

export class InterpretedReader extends RowFrameReader {
  readonly #decoders: readonly (ValueDecoder | undefined)[];
  readonly #before: readonly (Leaf | undefined)[];
  readonly #last: Leaf | undefined;

  constructor(layout: Layout, caches: readonly (StringCache | undefined)[]) {
    super(layout, caches);
    this.#decoders = layout.leaves.map((leaf) => (needsValueCodec(leaf) ? compileDecoder(leaf.type) : undefined));
    this.#before = layout.leaves.map((leaf) => tailLeafBefore(layout, leaf));
    this.#last = lastTailLeaf(layout);
  }

  override read(row: number): unknown {
    return this.#readShape(this.layout.root, row);
  }

  #readShape(shape: Shape, row: number): unknown {
    if (shape.shape === "leaf") return this.#readLeaf(shape.leaf, row);
    if (shape.shape === "tuple") return shape.fields.map((field) => this.#readShape(field, row));
    const value: Record<string, unknown> = {};
    shape.fields.forEach((field, i) => setOwn(value, shape.names[i] as string, this.#readShape(field, row)));
    return value;
  }

  #readLeaf(leaf: Leaf, row: number): unknown {
    const at = leaf.column * this.rows + row;
    if (leaf.group === "f64") return this.f64[this.f64Base + at];
    if (leaf.group === "u8") return this.u8[this.u8Base + at] === 1;
    if (leaf.group === "i32") return this.i32[this.i32Base + at];
    const end = this.u32[this.i32Base + at] as number;
    const start = this.tailBase + this.#tailStart(leaf, row);
    const stop = this.tailBase + (end & 0x7fff_ffff);
    if (leaf.kind === "STRING")
      return (this.caches[leaf.index] as StringCache).take(this.memory, start, stop, end >>> 31 === 1);
    if (leaf.kind === "BYTES") return new Uint8Array(this.u8.subarray(start, stop));
    this.tailPos = start;
    return (this.#decoders[leaf.index] as ValueDecoder)(this);
  }

  #tailStart(leaf: Leaf, row: number): number {
    const before = this.#before[leaf.index];
    if (before !== undefined) return (this.u32[this.i32Base + before.column * this.rows + row] as number) & 0x7fff_ffff;
    if (row === 0) return 0;
    const last = this.#last as Leaf;
    return (this.u32[this.i32Base + last.column * this.rows + row - 1] as number) & 0x7fff_ffff;
  }
}
