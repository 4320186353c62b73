// Row codecs: round trips of random types and values, generated and interpreted, and what is refused.

import { isDeepStrictEqual } from "node:util";
import { describe, expect, test } from "@jest/globals";
import * as fc from "fast-check";
import { isFailure } from "@sluice/kit";
import type { TypeDescriptor } from "../../model/index.ts";
import { readFrameHeader } from "../frame.ts";
import { frameMemory } from "../ring.ts";
import type { FrameMemory } from "../ring.ts";
import { inferType, readerFactory, writerFactory } from "./codec.ts";
import type { CodecMode } from "./codec.ts";

const SLOT_BYTES = 4096;
const MODES: readonly CodecMode[] = ["generated", "interpreted"];

/** A random type with an arbitrary for its values. */
interface Typed {
  readonly type: TypeDescriptor;
  readonly values: fc.Arbitrary<unknown>;
}

/** Any UTF-16 code units: lone surrogates, Latin-1, NUL, astral characters. */
const anyString = fc.oneof(
  fc.string({ unit: "grapheme" }),
  fc.string({ unit: "binary", maxLength: 100 }),
  fc.array(fc.nat(0xffff), { maxLength: 90 }).map((units) => String.fromCharCode(...units)),
  fc.array(fc.nat(0xff), { maxLength: 90 }).map((units) => String.fromCharCode(...units)),
);
// -0 is a DOUBLE, but not an integer (RC5).
const integer = fc.maxSafeInteger().map((n) => n + 0);
const leafTypes: readonly Typed[] = [
  { type: { kind: "INT" }, values: fc.integer() },
  { type: { kind: "LONG" }, values: integer },
  { type: { kind: "INSTANT" }, values: integer },
  { type: { kind: "DOUBLE" }, values: fc.double() },
  { type: { kind: "BOOLEAN" }, values: fc.boolean() },
  { type: { kind: "STRING" }, values: anyString },
  { type: { kind: "BYTES" }, values: fc.uint8Array({ maxLength: 50 }) },
  {
    type: { kind: "GENERIC" },
    values: fc.anything({
      withBigInt: true,
      withDate: true,
      withMap: true,
      withSet: true,
      withNullPrototype: false,
      maxDepth: 2,
    }),
  },
];
const typed: fc.Arbitrary<Typed> = fc.letrec<{ typed: Typed }>((tie) => ({
  typed: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    { arbitrary: fc.constantFrom(...leafTypes), weight: 4 },
    {
      arbitrary: fc.array(tie("typed"), { maxLength: 4 }).map((fields): Typed => ({
        type: { kind: "TUPLE", fields: fields.map((f) => f.type) },
        values: fc.tuple(...fields.map((f) => f.values)),
      })),
      weight: 2,
    },
    {
      arbitrary: fc
        .uniqueArray(
          fc.oneof(fc.constantFrom("id", "a b", "__proto__", "constructor", "x'\"\\", "length"), anyString),
          { minLength: 1, maxLength: 4 },
        )
        .chain((names) =>
          fc.tuple(fc.constant(names), fc.tuple(...names.map(() => tie("typed")))).map(([keys, fields]): Typed => ({
            type: { kind: "ROW", names: keys, fields: fields.map((f) => f.type) },
            values: fc.tuple(...fields.map((f) => f.values)).map((values) => rowOf(keys, values)),
          })),
        ),
      weight: 2,
    },
    {
      arbitrary: tie("typed").map((element): Typed => ({
        type: { kind: "LIST", element: element.type },
        values: fc.array(element.values, { maxLength: 4 }),
      })),
      weight: 1,
    },
    {
      arbitrary: fc.tuple(fc.constantFrom(...leafTypes.slice(0, 6)), tie("typed")).map(([key, value]): Typed => ({
        type: { kind: "MAP", key: key.type, value: value.type },
        values: fc.array(fc.tuple(key.values, value.values), { maxLength: 4 }).map((entries) => new Map(entries)),
      })),
      weight: 1,
    },
  ),
})).typed;

function rowOf(names: readonly string[], values: readonly unknown[]): object {
  const row = {};
  names.forEach((name, i) =>
    Object.defineProperty(row, name, { value: values[i], enumerable: true, writable: true, configurable: true }),
  );
  return row;
}

function memoryOf(sizeBytes: number): FrameMemory {
  return frameMemory(new SharedArrayBuffer(sizeBytes));
}

/** Writes as many rows as fit from `offset`, seals, reads them back. */
function roundTrip(
  type: TypeDescriptor,
  values: readonly unknown[],
  options: { readonly mode: CodecMode; readonly hasHashes: boolean; readonly sizeBytes: number },
): unknown[] {
  const memory = memoryOf(options.sizeBytes + 64);
  memory.u8.fill(0xaa); // what lies beyond the frame must not matter
  const writer = writerFactory(type, {
    hasHashes: options.hasHashes,
    onMismatch: "throw",
    flags: 0,
    mode: options.mode,
  })();
  writer.open(memory, 64, options.sizeBytes);
  let written = 0;
  while (written < values.length && writer.tryWrite(values[written], written * 31 - 7)) written += 1;
  if (written === 0) return [];
  const byteLength = writer.seal();
  expect(byteLength).toBeLessThanOrEqual(options.sizeBytes);
  const header = readFrameHeader(memory, 64);
  expect([header.rowCount, header.byteLength]).toEqual([written, byteLength]);
  const reader = readerFactory(type, { hasHashes: options.hasHashes, mode: options.mode })();
  expect(reader.bind(memory, 64, header)).toBe(written);
  const read = Array.from({ length: written }, (_, row) => reader.read(row));
  if (options.hasHashes) for (let row = 0; row < written; row += 1) expect(reader.hash(row)).toBe(row * 31 - 7);
  memory.u8.fill(0x55); // RC3: nothing that was read may change now
  return read;
}

describe("row codecs", () => {
  test.each(MODES)("RC1-RC3, VC1, SC1: every row of every type survives (%s)", (mode) => {
    fc.assert(
      fc.property(
        typed.chain((t) => fc.tuple(fc.constant(t.type), fc.array(t.values, { minLength: 1, maxLength: 30 }))),
        fc.boolean(),
        fc.constantFrom(256, SLOT_BYTES, 65_536),
        ([type, values], hasHashes, sizeBytes) => {
          const read = roundTrip(type, values, { mode, hasHashes, sizeBytes });
          // Jest's own equality trusts a property named "constructor".
          expect([isDeepStrictEqual(read, values.slice(0, read.length)), read]).toEqual([true, read]);
          if (sizeBytes === 65_536) expect(read.length).toBe(values.length);
        },
      ),
      { numRuns: 150 },
    );
  });

  test("GC1: generated and interpreted codecs write the same bytes", () => {
    fc.assert(
      fc.property(
        typed.chain((t) => fc.tuple(fc.constant(t.type), fc.array(t.values, { minLength: 1, maxLength: 10 }))),
        ([type, values]) => {
          const frames = MODES.map((mode) => {
            const memory = memoryOf(SLOT_BYTES);
            const writer = writerFactory(type, { hasHashes: true, onMismatch: "throw", flags: 0, mode })();
            writer.open(memory, 0, SLOT_BYTES);
            for (const value of values) if (!writer.tryWrite(value, 5)) break;
            return writer.rows === 0 ? "" : Buffer.from(memory.u8.slice(0, writer.seal())).toString("hex");
          });
          expect(frames[0]).toBe(frames[1]);
        },
      ),
      { numRuns: 100 },
    );
  });

  const row: TypeDescriptor = {
    kind: "ROW",
    names: ["id", "tags"],
    fields: [{ kind: "LONG" }, { kind: "LIST", element: { kind: "STRING" } }],
  };
  const refused: readonly (readonly [string, TypeDescriptor, unknown, string])[] = [
    [
      "LONG beyond 2^53",
      { kind: "TUPLE", fields: [{ kind: "STRING" }, { kind: "LONG" }] },
      ["a", 2 ** 53],
      "field f1 must be LONG",
    ],
    [
      "LONG with a fraction",
      row,
      { id: 1.5, tags: [] },
      "field id must be LONG (a number that is a safe integer), but is the number 1.5",
    ],
    ["a missing field", row, { tags: [] }, "field id must be LONG (a number that is a safe integer), but is undefined"],
    ["null in a list", row, { id: 1, tags: ["a", null] }, "field tags[] must be STRING, but is null"],
    ["a number for a string", { kind: "STRING" }, 7, "the record must be STRING, but is the number 7"],
    [
      "INT out of range",
      { kind: "INT" },
      2 ** 31,
      "the record must be INT (a 32-bit integer), but is the number 2147483648",
    ],
    ["a bigint for LONG", { kind: "LONG" }, 5n, "but is the bigint 5n"],
    [
      "a tuple of another length",
      { kind: "TUPLE", fields: [{ kind: "INT" }] },
      [1, 2],
      "must be a TUPLE (an array of length 1)",
    ],
    ["null for a row", row, null, "the record must be a ROW (an object with id, tags), but is null"],
    [
      "a function",
      { kind: "GENERIC" },
      { run: () => 1 },
      "field record.run must be a value that can be copied, but is a function",
    ],
    ["a cycle", { kind: "GENERIC" }, cycle(), "nested at most 100 deep"],
  ];
  test.each(refused)("RC4, VC3: %s is a TYPE_MISMATCH that names field and value", (_, type, value, text) => {
    for (const mode of MODES) {
      const writer = writerFactory(type, { hasHashes: false, onMismatch: "throw", flags: 0, mode })();
      writer.open(memoryOf(SLOT_BYTES), 0, SLOT_BYTES);
      let thrown: unknown;
      try {
        writer.tryWrite(value, 0);
      } catch (error) {
        thrown = error;
      }
      expect(isFailure(thrown) && thrown.code === "TYPE_MISMATCH" && thrown.message).toContain(text);
      expect(writer.rows).toBe(0);
    }
  });

  test("RC1: a refused row leaves the rows around it intact", () => {
    const type: TypeDescriptor = { kind: "TUPLE", fields: [{ kind: "STRING" }, { kind: "LONG" }] };
    const memory = memoryOf(SLOT_BYTES);
    const writer = writerFactory(type, { hasHashes: false, onMismatch: "throw", flags: 0 })();
    writer.open(memory, 0, SLOT_BYTES);
    writer.tryWrite(["before", 1], 0);
    expect(() => writer.tryWrite(["a longer string than the others", 0.5], 0)).toThrow("field f1");
    writer.tryWrite(["after", 2], 0);
    writer.seal();
    const reader = readerFactory(type, { hasHashes: false })();
    reader.bind(memory, 0, readFrameHeader(memory, 0));
    expect([reader.read(0), reader.read(1), reader.rows]).toEqual([["before", 1], ["after", 2], 2]);
  });

  test("RC5: -0 stays in a DOUBLE only", () => {
    const read = (kind: "LONG" | "INT" | "DOUBLE"): unknown =>
      roundTrip({ kind }, [-0], { mode: "generated", hasHashes: false, sizeBytes: SLOT_BYTES })[0];
    expect([read("LONG"), read("INT"), read("DOUBLE")].map((v) => Object.is(v, -0))).toEqual([false, false, true]);
  });

  test("RW4: only flat records of primitives have an inferred type", () => {
    expect(inferType({ a: 1, b: "x", c: true })).toEqual({
      kind: "ROW",
      names: ["a", "b", "c"],
      fields: [{ kind: "DOUBLE" }, { kind: "STRING" }, { kind: "BOOLEAN" }],
    });
    expect(inferType([1, "x"])).toEqual({ kind: "TUPLE", fields: [{ kind: "DOUBLE" }, { kind: "STRING" }] });
    expect(inferType("x")).toEqual({ kind: "STRING" });
    for (const value of [
      null,
      undefined,
      {},
      [],
      { a: null },
      { a: [1] },
      [[1]],
      new Map(),
      new Date(),
      new Uint8Array(1),
      5n,
      new (class A {
        x = 1;
      })(),
    ]) {
      expect(inferType(value)).toBeUndefined();
    }
  });
});

function cycle(): object {
  const value: Record<string, unknown> = {};
  value.self = value;
  return value;
}
