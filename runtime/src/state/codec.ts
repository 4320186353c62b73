// Binary codecs of keys and state values, made from a TypeDescriptor.
//
//   INT i32 | LONG, INSTANT i64 | DOUBLE f64 | BOOLEAN u8 0/1 | STRING varint length, UTF-8 | BYTES varint length, bytes
//   TUPLE, ROW the fields in order (without fields: one zero byte) | LIST varint count, elements
//   MAP varint count, (key, value) pairs in the map's own order
//
// Invariants:
//   CO1. Same value, same bytes; decode(encode(v)) equals v, the iteration order of a MAP included.
//   CO2. `check` and `write` accept exactly the values of the declared type; what they refuse is named with its path.
//   CO3. Every value takes at least one byte, so that no count in damaged bytes can make a reader loop for long.
//
// Not here: how records travel (network/codec), the hash of a key (keys.ts).

import { ByteReader, ByteWriter, Failure, unreachable } from "@sluice/kit";
import { describeType } from "../model/index.ts";
import type { TypeDescriptor } from "../model/index.ts";
import { readText, writeText } from "./text.ts";

/** Writes, reads and checks values of one type. */
export interface ValueCodec {
  readonly type: TypeDescriptor;
  /** What is wrong with the value, or undefined. Elements of a LIST or MAP are looked at only by `write`. */
  check(value: unknown): string | undefined;
  /** Appends the value; Failure TYPE_MISMATCH when it is not of the type. */
  write(into: ByteWriter, value: unknown): void;
  /** Failure SNAPSHOT_DAMAGED on bytes that no `write` made. */
  read(from: ByteReader): unknown;
}

/** The codec of a type; GENERIC anywhere inside is a Failure TYPE_MISMATCH (T3 of model/types). */
export function codecFor(type: TypeDescriptor): ValueCodec {
  switch (type.kind) {
    case "INT":
      return scalar(
        type,
        isInt,
        (into, value) => into.i32(value as number),
        (from) => from.i32(),
      );
    case "LONG":
    case "INSTANT":
      return scalar(
        type,
        Number.isSafeInteger,
        (into, value) => into.long(value as number),
        (from) => from.long(),
      );
    case "DOUBLE":
      return scalar(
        type,
        (value) => typeof value === "number",
        (into, value) => writeDouble(into, value as number),
        (from) => from.f64(),
      );
    case "BOOLEAN":
      return scalar(
        type,
        (value) => typeof value === "boolean",
        (into, value) => into.bool(value as boolean),
        (from) => from.bool(),
      );
    case "STRING":
      return scalar(
        type,
        (value) => typeof value === "string",
        (into, value) => writeText(into, value as string),
        readText,
      );
    case "BYTES":
      return scalar(
        type,
        isBytes,
        (into, value) => into.bytes(value as Uint8Array),
        (from) => from.bytes().slice(),
      );
    case "TUPLE":
      return tupleCodec(type, type.fields.map(codecFor));
    case "ROW":
      return rowCodec(type, type.names, type.fields.map(codecFor));
    case "LIST":
      return listCodec(type, codecFor(type.element));
    case "MAP":
      return mapCodec(type, codecFor(type.key), codecFor(type.value));
    case "GENERIC":
      throw new Failure("TYPE_MISMATCH", {
        retry: "never",
        message: "GENERIC is a type for records, not for keys or state",
        remedy: "declare the state with concrete types, e.g. Types.ROW({...}) or Types.LIST(...)",
      });
    default:
      return unreachable(type);
  }
}

/** True when a value of this type can be changed by whoever holds a reference to it. */
export function isMutable(type: TypeDescriptor): boolean {
  return (
    type.kind === "BYTES" || type.kind === "TUPLE" || type.kind === "ROW" || type.kind === "LIST" || type.kind === "MAP"
  );
}

/** A value in a message: short, whatever it is. */
export function shortValue(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}...` : value);
  if (typeof value !== "object" || value === null) return Object.is(value, -0) ? "-0" : String(value);
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength} bytes`;
  if (value instanceof Map) return `Map of ${value.size} entries`;
  try {
    const text = JSON.stringify(value) ?? "object";
    return text.length > 60 ? `${text.slice(0, 60)}...` : text;
  } catch {
    return "object";
  }
}

function isInt(value: unknown): boolean {
  return typeof value === "number" && (value | 0) === value;
}

// By shape, not by class: values may come from another realm.
function isBytes(value: unknown): boolean {
  return ArrayBuffer.isView(value) && Object.prototype.toString.call(value) === "[object Uint8Array]";
}

function isMap(value: unknown): value is ReadonlyMap<unknown, unknown> {
  return Object.prototype.toString.call(value) === "[object Map]";
}

/** A DOUBLE; every NaN as 0x7ff8000000000000, whatever bits the engine keeps (CO1). */
export function writeDouble(into: ByteWriter, value: number): void {
  if (value === value) {
    into.f64(value);
  } else {
    into.u32(0);
    into.u32(0x7ff80000);
  }
}

function wrong(type: TypeDescriptor, value: unknown): string {
  return `${shortValue(value)} is not ${describeType(type)}`;
}

function mismatch(message: string): Failure {
  return new Failure("TYPE_MISMATCH", {
    retry: "never",
    message,
    remedy: "store a value of the declared type, or declare another type",
  });
}

function scalar(
  type: TypeDescriptor,
  accepts: (value: unknown) => boolean,
  write: (into: ByteWriter, value: unknown) => void,
  read: (from: ByteReader) => unknown,
): ValueCodec {
  return {
    type,
    check: (value) => (accepts(value) ? undefined : wrong(type, value)),
    write(into, value) {
      if (!accepts(value)) throw mismatch(wrong(type, value));
      write(into, value);
    },
    read,
  };
}

function tupleCodec(type: TypeDescriptor, fields: readonly ValueCodec[]): ValueCodec {
  const check = (value: unknown): string | undefined => {
    if (!Array.isArray(value) || value.length !== fields.length) return wrong(type, value);
    for (let i = 0; i < fields.length; i += 1) {
      const problem = (fields[i] as ValueCodec).check(value[i]);
      if (problem !== undefined) return `field ${i}: ${problem}`;
    }
    return undefined;
  };
  return {
    type,
    check,
    write(into, value) {
      const problem = check(value);
      if (problem !== undefined) throw mismatch(problem);
      if (fields.length === 0) into.u8(0); // CO3
      for (let i = 0; i < fields.length; i += 1)
        (fields[i] as ValueCodec).write(into, (value as readonly unknown[])[i]);
    },
    read(from) {
      if (fields.length === 0) readZero(from);
      return fields.map((field) => field.read(from));
    },
  };
}

function rowCodec(type: TypeDescriptor, names: readonly string[], fields: readonly ValueCodec[]): ValueCodec {
  const check = (value: unknown): string | undefined => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return wrong(type, value);
    for (let i = 0; i < fields.length; i += 1) {
      const name = names[i] as string;
      const problem = (fields[i] as ValueCodec).check((value as Readonly<Record<string, unknown>>)[name]);
      if (problem !== undefined) return `field "${name}": ${problem}`;
    }
    return undefined;
  };
  return {
    type,
    check,
    write(into, value) {
      const problem = check(value);
      if (problem !== undefined) throw mismatch(problem);
      if (fields.length === 0) into.u8(0); // CO3
      for (let i = 0; i < fields.length; i += 1) {
        (fields[i] as ValueCodec).write(into, (value as Readonly<Record<string, unknown>>)[names[i] as string]);
      }
    },
    read(from) {
      if (fields.length === 0) readZero(from);
      const row: Record<string, unknown> = {};
      for (let i = 0; i < fields.length; i += 1) {
        const field = (fields[i] as ValueCodec).read(from);
        // Plain assignment of "__proto__" would set the prototype and lose the field.
        if (names[i] === "__proto__")
          Object.defineProperty(row, "__proto__", {
            value: field,
            enumerable: true,
            writable: true,
            configurable: true,
          });
        else row[names[i] as string] = field;
      }
      return row;
    },
  };
}

function readZero(from: ByteReader): void {
  if (from.u8() !== 0) throw from.failure("an empty value is one zero byte");
}

function listCodec(type: TypeDescriptor, element: ValueCodec): ValueCodec {
  const check = (value: unknown): string | undefined => (Array.isArray(value) ? undefined : wrong(type, value));
  return {
    type,
    check,
    write(into, value) {
      const problem = check(value);
      if (problem !== undefined) throw mismatch(problem);
      const list = value as readonly unknown[];
      into.varint(list.length);
      for (let i = 0; i < list.length; i += 1) element.write(into, list[i]);
    },
    read(from) {
      const count = from.count(1);
      const list: unknown[] = [];
      for (let i = 0; i < count; i += 1) list.push(element.read(from));
      return list;
    },
  };
}

function mapCodec(type: TypeDescriptor, key: ValueCodec, value: ValueCodec): ValueCodec {
  const check = (candidate: unknown): string | undefined => (isMap(candidate) ? undefined : wrong(type, candidate));
  return {
    type,
    check,
    write(into, candidate) {
      const problem = check(candidate);
      if (problem !== undefined) throw mismatch(problem);
      const map = candidate as ReadonlyMap<unknown, unknown>;
      into.varint(map.size);
      for (const [k, v] of map) {
        key.write(into, k);
        value.write(into, v);
      }
    },
    read(from) {
      const count = from.count(1);
      const map = new Map<unknown, unknown>();
      for (let i = 0; i < count; i += 1) {
        const k = key.read(from);
        map.set(k, value.read(from));
      }
      return map;
    },
  };
}

/** The value of {@link encodeValue}; `what` names the bytes in failures. */
export function decodeValue(codec: ValueCodec, bytes: Uint8Array, what: string): unknown {
  const from = new ByteReader(bytes, { what, code: "SNAPSHOT_DAMAGED" });
  const value = codec.read(from);
  from.expectEnd();
  return value;
}

/** The value's bytes alone. */
export function encodeValue(codec: ValueCodec, value: unknown): Uint8Array {
  const writer = new ByteWriter(64);
  codec.write(writer, value);
  return writer.toBytes();
}
