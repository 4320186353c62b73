// Generated row codecs: straight-line code for one type, with source of its own per instance, so that the engine specialises every
// edge of a job by itself and no edge spoils the type feedback of another.
//
// Invariants:
//   GC1. Generated code does exactly what interpret.ts does; one property test drives both.
//   GC2. Names from users enter the source only as JSON string literals.
//
// Not here: the layout (layout.ts), the parts without types (row-codec.ts).

import type { OnMismatch } from "./row-codec.ts";
import { lastTailLeaf, RowFrameReader, RowWriter, shapeExpectation, tailLeafBefore } from "./row-codec.ts";
import type { Layout, Leaf, Shape } from "./layout.ts";
import { putString } from "./strings.ts";
import type { StringCache } from "./strings.ts";
import { compileDecoder, compileEncoder } from "./values.ts";
import type { ValueDecoder, ValueEncoder } from "./values.ts";

export type RowWriterClass = new (layout: Layout, onMismatch: OnMismatch, flags: number) => RowWriter;
export type RowReaderClass = new (layout: Layout, caches: readonly (StringCache | undefined)[]) => RowFrameReader;

/** Distinguishes sources that would otherwise be equal: the engine shares feedback between equal sources. */
let instances = 0;

/** True when this process may make code from strings. */
export function canGenerateCode(): boolean {
  try {
    // oxlint-disable-next-line typescript/no-implied-eval -- the purpose of this file
    return (new Function("return 1") as () => number)() === 1;
  } catch {
    return false;
  }
}

/** A writer class for this layout. */
export function generateWriter(layout: Layout, onMismatch: OnMismatch): RowWriterClass {
  instances += 1;
  const body: string[] = [];
  let variables = 0;
  const isExact = onMismatch === "deviate";

  function emitShape(shape: Shape, value: string): void {
    if (shape.shape === "leaf") {
      emitLeaf(shape.leaf, value);
      return;
    }
    const expected = `${JSON.stringify(shape.path)}, ${JSON.stringify(shapeExpectation(shape))}`;
    if (shape.shape === "tuple") {
      body.push(
        `if (!isArray(${value}) || ${value}.length !== ${shape.fields.length}) return this.fail(${expected}, ${value});`,
      );
    } else {
      body.push(`if (typeof ${value} !== "object" || ${value} === null) return this.fail(${expected}, ${value});`);
      if (isExact)
        body.push(`if (!isPlainWith(${value}, ${shape.names.length})) return this.fail(${expected}, ${value});`);
    }
    shape.fields.forEach((field, i) => {
      const name = `v${variables}`;
      variables += 1;
      const access = shape.shape === "tuple" ? `[${i}]` : `[${JSON.stringify(shape.names[i])}]`;
      body.push(`const ${name} = ${value}${access};`);
      emitShape(field, name);
    });
  }

  function emitLeaf(leaf: Leaf, v: string): void {
    const wrong = `return this.mismatch(${leaf.index}, ${v});`;
    const at = (base: string): string => `this.${base}${leaf.column === 0 ? "" : ` + ${leaf.column} * cap`} + row`;
    switch (leaf.kind) {
      case "LONG":
      case "INSTANT":
        body.push(`if (!isSafeInteger(${v})) ${wrong}`, `this.f64[${at("f64Base")}] = ${v} + 0;`);
        return;
      case "DOUBLE":
        body.push(`if (typeof ${v} !== "number") ${wrong}`, `this.f64[${at("f64Base")}] = ${v};`);
        return;
      case "INT":
        body.push(
          `if (typeof ${v} !== "number" || (${v} | 0) !== ${v}) ${wrong}`,
          `this.i32[${at("i32Base")}] = ${v};`,
        );
        return;
      case "BOOLEAN":
        body.push(`if (typeof ${v} !== "boolean") ${wrong}`, `this.u8[${at("u8Base")}] = ${v} ? 1 : 0;`);
        return;
      case "STRING":
        body.push(
          `if (typeof ${v} !== "string") ${wrong}`,
          `{`,
          `  const end = putString(this.memory, this.tailPos, this.tailLimit, ${v});`,
          `  if (end < 0) return false;`,
          `  this.tailPos = end >>> 1;`,
          `  this.u32[${at("i32Base")}] = (this.tailPos - this.tailBase) | (end << 31);`,
          `}`,
        );
        return;
      case "BYTES":
        body.push(
          `if (!(${v} instanceof Uint8Array)) ${wrong}`,
          `if (${v}.length > this.tailLimit - this.tailPos) return false;`,
          `this.u8.set(${v}, this.tailPos);`,
          `this.tailPos += ${v}.length;`,
          `this.u32[${at("i32Base")}] = this.tailPos - this.tailBase;`,
        );
        return;
      case "LIST":
      case "MAP":
      case "GENERIC":
        body.push(
          `if (!encoders[${leaf.index}](this, ${v})) return false;`,
          `this.u32[${at("i32Base")}] = this.tailPos - this.tailBase;`,
        );
        return;
    }
  }

  emitShape(layout.root, "record");
  if (layout.hasHashes) body.push(`this.i32[this.i32Base + row] = hash;`);
  const source = `"use strict"; // row writer ${instances}
return class extends RowWriter {
  tryWrite(record, hash) {
    const row = this.rows;
    const cap = this.capacity;
    if (row === cap) return false;
    ${layout.tailCount > 0 ? "this.tailPos = this.rowTail;" : ""}
    ${body.join("\n    ")}
    ${layout.tailCount > 0 ? "this.rowTail = this.tailPos;" : ""}
    this.rows = row + 1;
    return true;
  }
};`;
  const encoders = layout.leaves.map((leaf): ValueEncoder | undefined =>
    needsValueCodec(leaf) ? compileEncoder(leaf.type, leaf.path) : undefined,
  );
  return make<RowWriterClass>(source, {
    RowWriter,
    putString,
    encoders,
    isPlainWith,
    isArray: Array.isArray,
    isSafeInteger: Number.isSafeInteger,
    Uint8Array,
  });
}

/** A reader class for this layout. */
export function generateReader(layout: Layout): RowReaderClass {
  instances += 1;
  const body: string[] = [];
  const last = lastTailLeaf(layout);

  function expression(shape: Shape): string {
    if (shape.shape === "leaf") return readLeaf(shape.leaf);
    if (shape.shape === "tuple") return `[${shape.fields.map(expression).join(", ")}]`;
    const properties = shape.fields.map((field, i) => {
      const name = shape.names[i] as string;
      // A literal "__proto__: v" would set the prototype; a computed name makes a property.
      const key = name === "__proto__" ? `["__proto__"]` : JSON.stringify(name);
      return `${key}: ${expression(field)}`;
    });
    return `{ ${properties.join(", ")} }`;
  }

  function readLeaf(leaf: Leaf): string {
    const at = (base: string): string => `this.${base}${leaf.column === 0 ? "" : ` + ${leaf.column} * n`} + row`;
    switch (leaf.group) {
      case "f64":
        return `this.f64[${at("f64Base")}]`;
      case "i32":
        return `this.i32[${at("i32Base")}]`;
      case "u8":
        return `this.u8[${at("u8Base")}] === 1`;
      case "tail": {
        const e = `e${leaf.index}`;
        const before = tailLeafBefore(layout, leaf);
        body.push(`const ${e} = this.u32[${at("i32Base")}];`);
        const start =
          before !== undefined
            ? `(e${before.index} & 0x7fffffff)`
            : `(row === 0 ? 0 : this.u32[this.i32Base + ${(last as Leaf).column} * n + row - 1] & 0x7fffffff)`;
        const from = `this.tailBase + ${start}`;
        const to = `this.tailBase + (${e} & 0x7fffffff)`;
        if (leaf.kind === "STRING")
          return `this.caches[${leaf.index}].take(this.memory, ${from}, ${to}, ${e} >>> 31 === 1)`;
        if (leaf.kind === "BYTES") return `new Uint8Array(this.u8.subarray(${from}, ${to}))`;
        return `(this.tailPos = ${from}, decoders[${leaf.index}](this))`;
      }
    }
  }

  const result = expression(layout.root);
  const source = `"use strict"; // row reader ${instances}
return class extends RowFrameReader {
  read(row) {
    const n = this.rows;
    ${body.join("\n    ")}
    return ${layout.root.shape === "row" ? `(${result})` : result};
  }
};`;
  const decoders = layout.leaves.map((leaf): ValueDecoder | undefined =>
    needsValueCodec(leaf) ? compileDecoder(leaf.type) : undefined,
  );
  return make<RowReaderClass>(source, { RowFrameReader, decoders, Uint8Array });
}

/** True for leaves whose values use values.ts. */
export function needsValueCodec(leaf: Leaf): boolean {
  return leaf.kind === "LIST" || leaf.kind === "MAP" || leaf.kind === "GENERIC";
}

/** True for a plain object with exactly `count` enumerable properties: what an inferred ROW can carry without loss. */
export function isPlainWith(value: object, count: number): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) return false;
  let seen = 0;
  for (const _ in value) seen += 1;
  return seen === count;
}

function make<T>(source: string, bindings: Readonly<Record<string, unknown>>): T {
  const names = Object.keys(bindings);
  // oxlint-disable-next-line typescript/no-implied-eval -- the purpose of this file
  const factory = new Function(...names, source) as (...values: readonly unknown[]) => T;
  return factory(...names.map((name) => bindings[name]));
}
