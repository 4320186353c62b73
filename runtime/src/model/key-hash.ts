// From a key to its canonical hash, by the declared key type: the only place that writes the canonical encoding of composed keys.
// Whoever routes a record and whoever keeps its state get the same hash because both come here.
//
// Invariants (tests cite them by name):
//   KH1. The hash is that of kit/hash.ts over the canonical encoding.
//   KH2. A key that is not of the declared type is refused, never hashed as something else.
//
// Canonical encoding of composed keys: TUPLE and ROW: the fields in order; LIST: u32 count, then the elements; STRING and BYTES inside
// of them: u32 byte length, then the bytes. BYTES alone: its bytes. DOUBLE: -0 as 0, every NaN as 0x7ff8000000000000.
//
// Not here: key groups and their owners (kit/hash.ts), caches of hashes (network/codec/key-hash.ts).

import {
  assert,
  ByteWriter,
  type Failure,
  hashBoolean,
  hashBytes,
  hashDouble,
  hashInt,
  hashLong,
  hashString,
} from "@sluice/kit";
import type { TypeDescriptor } from "./type-descriptor.ts";

/** Checks and hashes keys of one type: a signed 32-bit integer. */
export type KeyHasher = (key: unknown) => number;

export interface KeyHasherOptions {
  /** What is thrown for a key that is not of the type (KH2). */
  readonly wrongKey: (key: unknown) => Failure;
  /** True: all NaN are one key. False: NaN is no key. */
  readonly acceptsNaN: boolean;
}

/** True for types with a canonical encoding: not MAP, not GENERIC, neither inside of others. */
export function canBeKey(type: TypeDescriptor): boolean {
  if (type.kind === "TUPLE" || type.kind === "ROW") return type.fields.every(canBeKey);
  if (type.kind === "LIST") return canBeKey(type.element);
  return type.kind !== "MAP" && type.kind !== "GENERIC";
}

/** A hasher of its own, so that its scratch and type feedback are its user's. The type must be one that can be a key. */
export function keyHasher(type: TypeDescriptor, options: KeyHasherOptions): KeyHasher {
  const { wrongKey, acceptsNaN } = options;
  assert(canBeKey(type), "T3: keys are never MAP or GENERIC, also inside of others");
  switch (type.kind) {
    case "LONG":
    case "INSTANT":
      return (key) => {
        if (!Number.isSafeInteger(key)) throw wrongKey(key);
        return hashLong(key as number);
      };
    case "INT":
      return (key) => {
        if (typeof key !== "number" || (key | 0) !== key) throw wrongKey(key);
        return hashInt(key);
      };
    case "DOUBLE":
      return (key) => {
        if (typeof key !== "number" || (key !== key && !acceptsNaN)) throw wrongKey(key);
        return hashDouble(key);
      };
    case "BOOLEAN":
      return (key) => {
        if (typeof key !== "boolean") throw wrongKey(key);
        return hashBoolean(key);
      };
    case "STRING":
      return (key) => {
        if (typeof key !== "string") throw wrongKey(key);
        return hashString(key);
      };
    case "BYTES":
      return (key) => {
        if (!(key instanceof Uint8Array)) throw wrongKey(key);
        return hashBytes(key);
      };
    default: {
      const into = new ByteWriter(64);
      return (key) => {
        into.reset();
        if (!appendKey(into, type, key, acceptsNaN)) throw wrongKey(key);
        return hashBytes(into.view());
      };
    }
  }
}

const utf8 = new TextEncoder();

/** Appends the canonical encoding of a key inside of a composed one; false: the value is not of this type (KH2). */
function appendKey(into: ByteWriter, type: TypeDescriptor, value: unknown, acceptsNaN: boolean): boolean {
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
      if (typeof value !== "number") return false;
      if (value === value) into.f64(value + 0);
      else if (acceptsNaN) appendNaN(into);
      else return false;
      return true;
    case "BOOLEAN":
      if (typeof value !== "boolean") return false;
      into.bool(value);
      return true;
    case "STRING":
      if (typeof value !== "string") return false;
      appendBytes(into, utf8.encode(value));
      return true;
    case "BYTES":
      if (!(value instanceof Uint8Array)) return false;
      appendBytes(into, value);
      return true;
    case "TUPLE": {
      const { fields } = type;
      if (!Array.isArray(value) || value.length !== fields.length) return false;
      for (let i = 0; i < fields.length; i += 1) {
        if (!appendKey(into, fields[i] as TypeDescriptor, value[i], acceptsNaN)) return false;
      }
      return true;
    }
    case "ROW": {
      const { fields, names } = type;
      if (typeof value !== "object" || value === null) return false;
      for (let i = 0; i < fields.length; i += 1) {
        const member = (value as Readonly<Record<string, unknown>>)[names[i] as string];
        if (!appendKey(into, fields[i] as TypeDescriptor, member, acceptsNaN)) return false;
      }
      return true;
    }
    case "LIST":
      if (!Array.isArray(value)) return false;
      into.u32(value.length);
      for (let i = 0; i < value.length; i += 1) {
        if (!appendKey(into, type.element, value[i], acceptsNaN)) return false;
      }
      return true;
    default:
      return false; // MAP and GENERIC: keyHasher refused the whole type
  }
}

function appendBytes(into: ByteWriter, bytes: Uint8Array): void {
  into.u32(bytes.length);
  into.raw(bytes);
}

/** The one NaN, whatever bits the engine keeps. */
function appendNaN(into: ByteWriter): void {
  into.u32(0);
  into.u32(0x7ff80000);
}
