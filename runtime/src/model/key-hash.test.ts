// The canonical hash of keys, against a plain second writing of the encoding that kit/hash.ts and key-hash.ts describe.

import { describe, expect, test } from "@jest/globals";
import { Failure, hashBytes } from "@sluice/kit";
import fc from "fast-check";

import { canBeKey, keyHasher } from "./key-hash.ts";
import type { TypeDescriptor } from "./type-descriptor.ts";

interface Typed {
  readonly type: TypeDescriptor;
  readonly values: fc.Arbitrary<unknown>;
}

const text = fc.oneof(
  fc.string({ unit: "grapheme" }),
  fc.string({ unit: "binary", maxLength: 40 }),
  fc.array(fc.nat(0xffff), { maxLength: 20 }).map((units) => String.fromCharCode(...units)), // lone surrogates too
);
const long = fc.oneof(fc.constantFrom(0, -0, 2 ** 31, -(2 ** 31) - 1, 2 ** 53 - 1), fc.maxSafeInteger());
const LEAVES: readonly Typed[] = [
  { type: { kind: "STRING" }, values: text },
  { type: { kind: "LONG" }, values: long },
  { type: { kind: "INSTANT" }, values: long },
  { type: { kind: "INT" }, values: fc.integer() },
  { type: { kind: "DOUBLE" }, values: fc.oneof(fc.constantFrom(0, -0, NaN, Infinity, 5e-324), fc.double()) },
  { type: { kind: "BOOLEAN" }, values: fc.boolean() },
  { type: { kind: "BYTES" }, values: fc.uint8Array({ maxLength: 40 }) },
];

const { typed } = fc.letrec<{ typed: Typed }>((tie) => ({
  typed: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    { arbitrary: fc.constantFrom(...LEAVES), weight: 3 },
    {
      arbitrary: fc.array(tie("typed"), { minLength: 1, maxLength: 4 }).map((fields): Typed => ({
        type: { kind: "TUPLE", fields: fields.map(({ type }) => type) },
        values: fc.tuple(...fields.map(({ values }) => values)),
      })),
      weight: 1,
    },
    {
      arbitrary: fc.array(tie("typed"), { minLength: 1, maxLength: 4 }).map((fields): Typed => {
        const names = fields.map((_, i) => `field ${i}`);
        return {
          type: { kind: "ROW", names, fields: fields.map(({ type }) => type) },
          values: fc
            .tuple(...fields.map(({ values }) => values))
            .map((values) => Object.fromEntries(names.map((name, i) => [name, values[i]]).reverse())),
        };
      }),
      weight: 1,
    },
    {
      arbitrary: tie("typed").map((element): Typed => ({
        type: { kind: "LIST", element: element.type },
        values: fc.array(element.values, { maxLength: 5 }),
      })),
      weight: 1,
    },
  ),
}));

/** The encoding as it is described, byte by byte. `isWhole`: not inside of another type. */
function encoded(type: TypeDescriptor, value: unknown, isWhole: boolean): Buffer {
  switch (type.kind) {
    case "INT": {
      const bytes = Buffer.alloc(4);
      bytes.writeInt32LE(value as number);
      return bytes;
    }
    case "LONG":
    case "INSTANT": {
      const bytes = Buffer.alloc(8);
      bytes.writeBigInt64LE(BigInt(value as number));
      return bytes;
    }
    case "DOUBLE": {
      const bytes = Buffer.alloc(8);
      if (Number.isNaN(value)) bytes.writeBigUInt64LE(0x7ff8000000000000n);
      else bytes.writeDoubleLE(value === 0 ? 0 : (value as number));
      return bytes;
    }
    case "BOOLEAN":
      return Buffer.of(value === true ? 1 : 0);
    case "STRING":
    case "BYTES": {
      const bytes = Buffer.from(type.kind === "STRING" ? new TextEncoder().encode(value as string) : (value as Buffer));
      return isWhole ? bytes : Buffer.concat([count(bytes.length), bytes]);
    }
    case "TUPLE":
      return Buffer.concat(type.fields.map((field, i) => encoded(field, (value as readonly unknown[])[i], false)));
    case "ROW":
      return Buffer.concat(
        type.fields.map((field, i) =>
          encoded(field, (value as Readonly<Record<string, unknown>>)[type.names[i] ?? ""], false),
        ),
      );
    case "LIST": {
      const elements = value as readonly unknown[];
      return Buffer.concat([count(elements.length), ...elements.map((of) => encoded(type.element, of, false))]);
    }
    default:
      throw new Error(`${type.kind} is no key type`);
  }
}

function count(n: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(n);
  return bytes;
}

const wrongKey = (key: unknown): Failure =>
  new Failure("TYPE_MISMATCH", { retry: "never", message: `not this: ${typeof key}` });
const lenient = { wrongKey, acceptsNaN: true };
const strict = { wrongKey, acceptsNaN: false };

test("KH1: the hash of any key of any type is that of its canonical encoding, however often it is asked", () => {
  fc.assert(
    fc.property(
      typed.chain(({ type, values }) => fc.tuple(fc.constant(type), fc.array(values, { minLength: 1, maxLength: 8 }))),
      ([type, keys]) => {
        const hashOf = keyHasher(type, lenient);
        for (const key of [...keys, ...keys]) expect(hashOf(key)).toBe(hashBytes(encoded(type, key, true)));
      },
    ),
    { numRuns: 200 },
  );
});

const LONG: TypeDescriptor = { kind: "LONG" };
const DOUBLE: TypeDescriptor = { kind: "DOUBLE" };
const PAIR: TypeDescriptor = { kind: "TUPLE", fields: [LONG, { kind: "STRING" }] };
const ROW: TypeDescriptor = { kind: "ROW", names: ["a"], fields: [DOUBLE] };
const LIST: TypeDescriptor = { kind: "LIST", element: { kind: "BYTES" } };
const MAP: TypeDescriptor = { kind: "MAP", key: LONG, value: LONG };

describe("KH2", () => {
  test.each<readonly [type: TypeDescriptor, wrong: readonly unknown[]]>([
    [LONG, [1.5, 2 ** 53, NaN, "1", 1n, null, undefined]],
    [{ kind: "INSTANT" }, [0.1, new Date(0)]],
    [{ kind: "INT" }, [2 ** 31, 0.5, NaN, true]],
    [DOUBLE, ["1", NaN, undefined]],
    [{ kind: "BOOLEAN" }, [0, "true"]],
    [{ kind: "STRING" }, [1, undefined, new Uint8Array(1)]],
    [{ kind: "BYTES" }, ["a", [1]]],
    [PAIR, [[1], [1, "a", 2], [1, 2], "1a", null]],
    [ROW, [null, {}, { a: NaN }, { a: "1" }, 5]],
    [LIST, ["a", [new Uint8Array(1), "a"], { length: 0 }]],
  ])("%j refuses what is not of the type", (type, wrong) => {
    const hashOf = keyHasher(type, strict);
    for (const key of wrong) expect(() => hashOf(key)).toThrow("not this");
  });

  test("NaN is one key where it is accepted, and -0 is 0", () => {
    const [hashOf, inRow] = [keyHasher(DOUBLE, lenient), keyHasher(ROW, lenient)];
    const bits = new Float64Array(new BigUint64Array([0xfff8000000000001n]).buffer)[0];
    expect([hashOf(bits), inRow({ a: bits })]).toEqual([hashOf(NaN), inRow({ a: NaN })]);
    expect([hashOf(-0), inRow({ a: -0 })]).toEqual([hashOf(0), inRow({ a: 0 })]);
  });

  test.each<readonly [type: TypeDescriptor, can: boolean]>([
    [PAIR, true],
    [{ kind: "LIST", element: PAIR }, true],
    [MAP, false],
    [{ kind: "GENERIC" }, false],
    [{ kind: "TUPLE", fields: [LONG, { kind: "LIST", element: MAP }] }, false],
    [{ kind: "ROW", names: ["a"], fields: [{ kind: "GENERIC" }] }, false],
  ])("%j can be a key: %s", (type, can) => {
    expect(canBeKey(type)).toBe(can);
  });
});
