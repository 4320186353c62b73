// From a key to its canonical hash, by the declared key type.
//
// Invariants (tests cite them by name):
//   KH1. The hash is that of kit/hash.ts over the canonical encoding; caches only remember it.
//   KH2. A key that is undefined, null, NaN or of another type than declared is a Failure TYPE_MISMATCH that names the edge.
//
// Canonical encoding of composed keys: TUPLE and ROW: the fields in order; LIST: u32 count, then the elements; STRING and BYTES inside
// of them: u32 byte length, then the bytes. BYTES alone: its bytes.
//
// Not here: key groups and their owners (kit/hash.ts, record-writer.ts).

import {
  assert,
  ByteWriter,
  Failure,
  hashBoolean,
  hashBytes,
  hashDouble,
  hashInt,
  hashLong,
  hashString,
  unreachable,
} from "@sluice/kit";
import type { TypeDescriptor } from "../../model/index.ts";
import { describeValue, expectation } from "./values.ts";

const STRING_CACHE_SLOTS = 4096;
const utf8 = new TextEncoder();

/** Checks and hashes keys of one edge (KH1, KH2). */
export type KeyHasher = (key: unknown) => number;

/** A key that cannot be one (KH2). */
export function wrongKey(edge: string, type: TypeDescriptor, key: unknown): Failure {
  return new Failure("TYPE_MISMATCH", {
    retry: "never",
    message: `the key selector of ${edge} returned ${describeValue(key)}, but the key type is ${expectation(type)}`,
    remedy:
      "Make the key selector return a value of the declared key type for every record, or declare another key type in keyBy(...).",
  });
}

/** Strings repeat: remembers hashes by a cheap look at length and three characters, and compares before it believes. */
class StringHashCache {
  readonly #keys: string[] = Array.from({ length: STRING_CACHE_SLOTS }, () => "");
  readonly #hashes = new Int32Array(STRING_CACHE_SLOTS).fill(hashString(""));

  hash(key: string): number {
    const length = key.length;
    if (length < 8) return hashString(key); // as fast as looking
    const mixed =
      Math.imul(key.charCodeAt(length - 1), 0x9e3779b1) ^
      Math.imul(key.charCodeAt(length - 2), 0x85ebca6b) ^
      Math.imul(key.charCodeAt(length - 3), 0xc2b2ae35) ^
      Math.imul(key.charCodeAt(length >> 1), 0x27d4eb2f) ^
      length;
    const at = (mixed ^ (mixed >>> 16)) & (STRING_CACHE_SLOTS - 1);
    if (this.#keys[at] === key) return this.#hashes[at] as number;
    const hash = hashString(key);
    this.#keys[at] = key;
    this.#hashes[at] = hash;
    return hash;
  }
}

/** The hasher of an edge; one per edge, so that its caches and type feedback are its own. */
export function keyHasher(type: TypeDescriptor, edge: string): KeyHasher {
  switch (type.kind) {
    case "LONG":
    case "INSTANT":
      return (key) => {
        if (!Number.isSafeInteger(key)) throw wrongKey(edge, type, key);
        return hashLong(key as number);
      };
    case "INT":
      return (key) => {
        if (typeof key !== "number" || (key | 0) !== key) throw wrongKey(edge, type, key);
        return hashInt(key);
      };
    case "DOUBLE":
      return (key) => {
        if (typeof key !== "number" || Number.isNaN(key)) throw wrongKey(edge, type, key);
        return hashDouble(key);
      };
    case "BOOLEAN":
      return (key) => {
        if (typeof key !== "boolean") throw wrongKey(edge, type, key);
        return hashBoolean(key);
      };
    case "STRING": {
      const cache = new StringHashCache();
      return (key) => {
        if (typeof key !== "string") throw wrongKey(edge, type, key);
        return cache.hash(key);
      };
    }
    case "BYTES":
      return (key) => {
        if (!(key instanceof Uint8Array)) throw wrongKey(edge, type, key);
        return hashBytes(key);
      };
    case "TUPLE":
    case "ROW":
    case "LIST": {
      const into = new ByteWriter();
      return (key) => {
        into.reset();
        if (!encodeKey(type, key, into)) throw wrongKey(edge, type, key);
        return hashBytes(into.view());
      };
    }
    case "MAP":
    case "GENERIC":
      throw new Failure("JOB_GRAPH_INVALID", {
        retry: "never",
        message: `${edge}: a key cannot be of type ${type.kind}`,
        remedy:
          "Declare a key type with a fixed encoding: INT, LONG, DOUBLE, STRING, BOOLEAN, INSTANT, BYTES, TUPLE, ROW or LIST.",
      });
    default:
      return unreachable(type);
  }
}

/** Appends the canonical encoding of a key inside a composed one; false: the value is not of this type. */
function encodeKey(type: TypeDescriptor, value: unknown, into: ByteWriter): boolean {
  switch (type.kind) {
    case "INT":
      if (typeof value !== "number" || (value | 0) !== value) return false;
      into.i32(value | 0);
      return true;
    case "LONG":
    case "INSTANT":
      if (!Number.isSafeInteger(value)) return false;
      into.long((value as number) + 0);
      return true;
    case "DOUBLE":
      if (typeof value !== "number" || Number.isNaN(value)) return false;
      into.f64(value + 0);
      return true;
    case "BOOLEAN":
      if (typeof value !== "boolean") return false;
      into.bool(value);
      return true;
    case "STRING":
    case "BYTES": {
      if (type.kind === "STRING" ? typeof value !== "string" : !(value instanceof Uint8Array)) return false;
      const bytes = typeof value === "string" ? utf8.encode(value) : (value as Uint8Array);
      into.u32(bytes.length);
      into.raw(bytes);
      return true;
    }
    case "TUPLE":
      return (
        Array.isArray(value) &&
        value.length === type.fields.length &&
        type.fields.every((field, i) => encodeKey(field, value[i], into))
      );
    case "ROW":
      return (
        typeof value === "object" &&
        value !== null &&
        type.fields.every((field, i) =>
          encodeKey(field, (value as Record<string, unknown>)[type.names[i] as string], into),
        )
      );
    case "LIST":
      if (!Array.isArray(value)) return false;
      into.u32(value.length);
      return value.every((element) => encodeKey(type.element, element, into));
    case "MAP":
    case "GENERIC":
      assert(false, "T3: keys are never MAP or GENERIC, also inside of others");
      return false;
    default:
      return unreachable(type);
  }
}
