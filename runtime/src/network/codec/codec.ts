// One edge's codec: the classes its channels share, made once per edge on each side.
//
// Invariants:
//   CD1. Both sides derive the same layout from (type, hash column) alone.
//   CD2. A codec made for one edge is never used by another: their feedback stays apart (generate.ts).
//
// Not here: when a GENERIC channel changes its codec (output-channel.ts).

import type { TypeDescriptor } from "../../model/index.ts";
import { canGenerateCode, generateReader, generateWriter } from "./generate.ts";
import type { RowReaderClass, RowWriterClass } from "./generate.ts";
import { InterpretedReader, InterpretedWriter } from "./interpret.ts";
import { layoutOf } from "./layout.ts";
import { stringCaches } from "./row-codec.ts";
import type { OnMismatch, RowFrameReader, RowWriter } from "./row-codec.ts";

/** How code is made: "generated" falls back to "interpreted" where the process forbids it. */
export type CodecMode = "generated" | "interpreted";

/** Makes the writers of one edge. */
export function writerFactory(
  type: TypeDescriptor,
  options: {
    readonly hasHashes: boolean;
    readonly onMismatch: OnMismatch;
    readonly flags: number;
    readonly mode?: CodecMode;
  },
): () => RowWriter {
  const layout = layoutOf(type, options.hasHashes);
  const isGenerated = options.mode !== "interpreted" && canGenerateCode();
  const Writer: RowWriterClass = isGenerated ? generateWriter(layout, options.onMismatch) : InterpretedWriter;
  return () => new Writer(layout, options.onMismatch, options.flags);
}

/** Makes the readers of one edge. */
export function readerFactory(
  type: TypeDescriptor,
  options: { readonly hasHashes: boolean; readonly mode?: CodecMode },
): () => RowFrameReader {
  const layout = layoutOf(type, options.hasHashes);
  const isGenerated = options.mode !== "interpreted" && canGenerateCode();
  const Reader: RowReaderClass = isGenerated ? generateReader(layout) : InterpretedReader;
  const caches = stringCaches(layout);
  return () => new Reader(layout, caches);
}

/** A record of this shape can travel in columns; undefined: only with a tag per value. */
export function inferType(record: unknown): TypeDescriptor | undefined {
  const primitive = primitiveType(record);
  if (primitive !== undefined) return primitive;
  if (typeof record !== "object" || record === null) return undefined;
  if (Array.isArray(record)) {
    const fields = record.length <= INFERRED_FIELDS_MAX ? Array.from(record, primitiveType) : [undefined];
    return fields.length > 0 && fields.every((field) => field !== undefined) ? { kind: "TUPLE", fields } : undefined;
  }
  const prototype: unknown = Object.getPrototypeOf(record);
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) return undefined;
  const names = Object.keys(record);
  if (names.length === 0 || names.length > INFERRED_FIELDS_MAX) return undefined;
  const fields = names.map((name) => primitiveType((record as Record<string, unknown>)[name]));
  return fields.every((field) => field !== undefined) ? { kind: "ROW", names, fields } : undefined;
}

const INFERRED_FIELDS_MAX = 64;

function primitiveType(value: unknown): TypeDescriptor | undefined {
  if (typeof value === "number") return { kind: "DOUBLE" };
  if (typeof value === "string") return { kind: "STRING" };
  if (typeof value === "boolean") return { kind: "BOOLEAN" };
  return undefined;
}
