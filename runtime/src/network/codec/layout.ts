// Where the columns of a RECORDS frame lie, derived from the type and the number of rows alone.
//
// After the frame header, for n rows:
//   8-byte columns   LONG, DOUBLE, INSTANT as f64, n each
//   4-byte columns   first the hash column (FLAG_HASHES), then INT as i32 and the end offsets of variable fields as u32, n each
//   1-byte columns   BOOLEAN as 0 or 1, n each
//   tail             the bytes of all variable fields, row by row, field by field
// An end offset counts from the start of the tail; a field begins where the one before it ends. Its top bit is set when a STRING is
// stored as UTF-16 instead of Latin-1. Fields of nested TUPLE and ROW are columns like any other, in declaration order.
//
// Invariants:
//   CL1. The layout of a frame depends on type, hash flag and row count only: a reader needs no offsets from the writer.
//   CL2. Groups are ordered by element size, so every column is aligned.
//
// Not here: reading and writing values (row-codec.ts, generate.ts, interpret.ts).

import { assert } from "@sluice/kit";
import type { TypeDescriptor } from "../../model/index.ts";

export type LeafKind = Exclude<TypeDescriptor["kind"], "TUPLE" | "ROW">;
export type ColumnGroup = "f64" | "i32" | "u8" | "tail";

/** One flattened field. */
export interface Leaf {
  readonly kind: LeafKind;
  readonly type: TypeDescriptor;
  readonly group: ColumnGroup;
  /** Index of its column within its group; the hash column is not counted. Tail leaves: of their end-offset column. */
  readonly column: number;
  /** For messages: `f0`, `origin.code`, or `record` for a top-level value. */
  readonly path: string;
  /** Index in {@link Layout.leaves}. */
  readonly index: number;
}

/** The record's shape with leaves in place of descriptors. */
export type Shape =
  | { readonly shape: "leaf"; readonly leaf: Leaf }
  | { readonly shape: "tuple"; readonly path: string; readonly fields: readonly Shape[] }
  | {
      readonly shape: "row";
      readonly path: string;
      readonly names: readonly string[];
      readonly fields: readonly Shape[];
    };

export interface Layout {
  readonly type: TypeDescriptor;
  readonly root: Shape;
  readonly leaves: readonly Leaf[];
  readonly hasHashes: boolean;
  readonly f64Count: number;
  /** Including the hash column. */
  readonly i32Count: number;
  readonly u8Count: number;
  readonly tailCount: number;
  /** Bytes per row without the tail. */
  readonly rowBytes: number;
}

const GROUPS: Readonly<Record<LeafKind, ColumnGroup>> = {
  INT: "i32",
  LONG: "f64",
  DOUBLE: "f64",
  INSTANT: "f64",
  BOOLEAN: "u8",
  STRING: "tail",
  BYTES: "tail",
  LIST: "tail",
  MAP: "tail",
  GENERIC: "tail",
};

/** Flattens a descriptor into columns (CL1). */
export function layoutOf(type: TypeDescriptor, hasHashes: boolean): Layout {
  const leaves: Leaf[] = [];
  const counts = { f64: 0, i32: hasHashes ? 1 : 0, u8: 0 };
  let tailCount = 0;

  function flatten(descriptor: TypeDescriptor, path: string): Shape {
    if (descriptor.kind === "TUPLE") {
      const fields = descriptor.fields.map((field, i) => flatten(field, path === "" ? `f${i}` : `${path}.f${i}`));
      return { shape: "tuple", path: path === "" ? "record" : path, fields };
    }
    if (descriptor.kind === "ROW") {
      assert(descriptor.names.length === descriptor.fields.length, "a ROW has one type per name");
      const fields = descriptor.fields.map((field, i) => {
        const name = descriptor.names[i] as string;
        return flatten(field, path === "" ? name : `${path}.${name}`);
      });
      return { shape: "row", path: path === "" ? "record" : path, names: descriptor.names, fields };
    }
    const group = GROUPS[descriptor.kind];
    const stored = group === "tail" ? "i32" : group;
    const column = counts[stored];
    counts[stored] += 1;
    if (group === "tail") tailCount += 1;
    const leaf: Leaf = {
      kind: descriptor.kind,
      type: descriptor,
      group,
      column,
      path: path === "" ? "record" : path,
      index: leaves.length,
    };
    leaves.push(leaf);
    return { shape: "leaf", leaf };
  }

  const root = flatten(type, "");
  return {
    type,
    root,
    leaves,
    hasHashes,
    f64Count: counts.f64,
    i32Count: counts.i32,
    u8Count: counts.u8,
    tailCount,
    rowBytes: 8 * counts.f64 + 4 * counts.i32 + counts.u8,
  };
}
