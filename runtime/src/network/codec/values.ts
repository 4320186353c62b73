// Values inside the tail of a frame: elements of LIST and MAP by their declared type, GENERIC values with a tag each.
//
//   INT      i32                          LONG, DOUBLE, INSTANT  f64              BOOLEAN  u8
//   STRING   varint(bytes * 2 + isWide), bytes        BYTES  varint(bytes), bytes
//   LIST     varint(count), elements      MAP  varint(count), key and value in turn
//   TUPLE, ROW  the fields in order
//   GENERIC  u8 tag, then by tag: 0 null | 1 undefined | 2 false | 3 true | 4 i32 | 5 f64 | 6 STRING | 7 BYTES
//            8 varint(count), values                  (array)
//            9 varint(count), STRING and value in turn (object: own enumerable string keys)
//            10 as 9 but keys are values (Map) | 11 as 8 (Set) | 12 f64 (Date) | 13 STRING, decimal (bigint)
// All little endian, unaligned.
//
// Invariants (tests cite them by name):
//   VC1. decode(encode(v)) equals v; class instances arrive as plain objects.
//   VC2. An encoder that returns false wrote nothing that anybody will read.
//   VC3. What cannot travel (functions, symbols, nesting deeper than 100) is a Failure TYPE_MISMATCH, never dropped.
//
// Not here: top-level fields, which are columns (layout.ts).

import { Failure, unreachable } from "@sluice/kit";
import { describeType } from "../../model/index.ts";
import type { TypeDescriptor } from "../../model/index.ts";
import type { FrameMemory } from "../ring.ts";
import { putString, takeString } from "./strings.ts";

/** Where a writer stands in the tail of its frame. */
export interface TailOutput {
  memory: FrameMemory;
  tailPos: number;
  tailLimit: number;
}

/** Where a reader stands in the tail of its frame. */
export interface TailInput {
  memory: FrameMemory;
  tailPos: number;
}

/** False: does not fit (VC2). Throws TYPE_MISMATCH. */
export type ValueEncoder = (out: TailOutput, value: unknown) => boolean;
export type ValueDecoder = (input: TailInput) => unknown;

const DEPTH_MAX = 100;
const scratchF64 = new Float64Array(1);
const scratchU8 = new Uint8Array(scratchF64.buffer);

/** A value of the wrong type, named by field, expectation and value. */
export function typeMismatch(path: string, expected: string, value: unknown): Failure {
  return new Failure("TYPE_MISMATCH", {
    retry: "never",
    message: `${path === "record" ? "the record" : `field ${path}`} must be ${expected}, but is ${describeValue(value)}`,
    remedy:
      "Correct the function that made this record, or the type declared for it with returns(...). Fields are never null or undefined.",
  });
}

/** Short text of any value. */
export function describeValue(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  switch (typeof value) {
    case "string":
      return `the string ${JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}...` : value)}`;
    case "number":
    case "boolean":
      return `the ${typeof value} ${String(value)}`;
    case "bigint":
      return `the bigint ${value}n`;
    case "object":
      return Array.isArray(value)
        ? `an array of length ${value.length}`
        : `an object of class ${value.constructor?.name ?? "null"}`;
    default:
      return `a ${typeof value}`;
  }
}

/** What messages say a declared type expects. */
export function expectation(type: TypeDescriptor): string {
  switch (type.kind) {
    case "INT":
      return "INT (a 32-bit integer)";
    case "LONG":
      return "LONG (a number that is a safe integer)";
    case "INSTANT":
      return "INSTANT (milliseconds since the epoch as a safe integer)";
    default:
      return describeType(type);
  }
}

/** Encoder of values of this type; `path` names them in failures. */
export function compileEncoder(type: TypeDescriptor, path: string): ValueEncoder {
  const expected = expectation(type);
  switch (type.kind) {
    case "INT":
      return (out, value) => {
        if (typeof value !== "number" || (value | 0) !== value) throw typeMismatch(path, expected, value);
        return putI32(out, value);
      };
    case "LONG":
    case "INSTANT":
      return (out, value) => {
        if (!Number.isSafeInteger(value)) throw typeMismatch(path, expected, value);
        return putF64(out, (value as number) + 0);
      };
    case "DOUBLE":
      return (out, value) => {
        if (typeof value !== "number") throw typeMismatch(path, expected, value);
        return putF64(out, value);
      };
    case "BOOLEAN":
      return (out, value) => {
        if (typeof value !== "boolean") throw typeMismatch(path, expected, value);
        return putByte(out, value ? 1 : 0);
      };
    case "STRING":
      return (out, value) => {
        if (typeof value !== "string") throw typeMismatch(path, expected, value);
        return putPrefixedString(out, value);
      };
    case "BYTES":
      return (out, value) => {
        if (!(value instanceof Uint8Array)) throw typeMismatch(path, expected, value);
        return putPrefixedBytes(out, value);
      };
    case "GENERIC":
      return (out, value) => putTagged(out, value, path, 0);
    case "LIST": {
      const element = compileEncoder(type.element, `${path}[]`);
      return (out, value) => {
        if (!Array.isArray(value)) throw typeMismatch(path, expected, value);
        if (!putVarint(out, value.length)) return false;
        for (let i = 0; i < value.length; i += 1) if (!element(out, value[i])) return false;
        return true;
      };
    }
    case "MAP": {
      const key = compileEncoder(type.key, `${path}{key}`);
      const item = compileEncoder(type.value, `${path}{value}`);
      return (out, value) => {
        if (!(value instanceof Map)) throw typeMismatch(path, expected, value);
        if (!putVarint(out, value.size)) return false;
        for (const [k, v] of value) if (!key(out, k) || !item(out, v)) return false;
        return true;
      };
    }
    case "TUPLE": {
      const fields = type.fields.map((field, i) => compileEncoder(field, `${path}.f${i}`));
      return (out, value) => {
        if (!Array.isArray(value) || value.length !== fields.length) throw typeMismatch(path, expected, value);
        for (let i = 0; i < fields.length; i += 1) if (!(fields[i] as ValueEncoder)(out, value[i])) return false;
        return true;
      };
    }
    case "ROW": {
      const names = type.names;
      const fields = type.fields.map((field, i) => compileEncoder(field, `${path}.${names[i]}`));
      return (out, value) => {
        if (typeof value !== "object" || value === null) throw typeMismatch(path, expected, value);
        for (let i = 0; i < fields.length; i += 1) {
          if (!(fields[i] as ValueEncoder)(out, (value as Record<string, unknown>)[names[i] as string])) return false;
        }
        return true;
      };
    }
    default:
      return unreachable(type);
  }
}

/** Decoder of values of this type. */
export function compileDecoder(type: TypeDescriptor): ValueDecoder {
  switch (type.kind) {
    case "INT":
      return takeI32;
    case "LONG":
    case "INSTANT":
    case "DOUBLE":
      return takeF64;
    case "BOOLEAN":
      return (input) => takeByte(input) === 1;
    case "STRING":
      return takePrefixedString;
    case "BYTES":
      return takePrefixedBytes;
    case "GENERIC":
      return takeTagged;
    case "LIST": {
      const element = compileDecoder(type.element);
      return (input) => {
        const count = takeVarint(input);
        const list: unknown[] = [];
        for (let i = 0; i < count; i += 1) list.push(element(input));
        return list;
      };
    }
    case "MAP": {
      const key = compileDecoder(type.key);
      const item = compileDecoder(type.value);
      return (input) => {
        const count = takeVarint(input);
        const map = new Map<unknown, unknown>();
        for (let i = 0; i < count; i += 1) {
          const k = key(input);
          map.set(k, item(input));
        }
        return map;
      };
    }
    case "TUPLE": {
      const fields = type.fields.map(compileDecoder);
      return (input) => {
        const tuple: unknown[] = [];
        for (const field of fields) tuple.push(field(input));
        return tuple;
      };
    }
    case "ROW": {
      const names = type.names;
      const fields = type.fields.map(compileDecoder);
      return (input) => {
        const row: Record<string, unknown> = {};
        for (let i = 0; i < fields.length; i += 1) setOwn(row, names[i] as string, (fields[i] as ValueDecoder)(input));
        return row;
      };
    }
    default:
      return unreachable(type);
  }
}

/** An own property even when the name is `__proto__`. */
export function setOwn(target: Record<string, unknown>, name: string, value: unknown): void {
  if (name === "__proto__") {
    Object.defineProperty(target, name, { value, writable: true, enumerable: true, configurable: true });
  } else {
    target[name] = value;
  }
}

function putTagged(out: TailOutput, value: unknown, path: string, depth: number): boolean {
  if (depth > DEPTH_MAX) throw typeMismatch(path, `a value nested at most ${DEPTH_MAX} deep`, value);
  switch (typeof value) {
    case "undefined":
      return putByte(out, 1);
    case "boolean":
      return putByte(out, value ? 3 : 2);
    case "number":
      if ((value | 0) === value && !Object.is(value, -0)) return putByte(out, 4) && putI32(out, value);
      return putByte(out, 5) && putF64(out, value);
    case "string":
      return putByte(out, 6) && putPrefixedString(out, value);
    case "bigint":
      return putByte(out, 13) && putPrefixedString(out, value.toString());
    case "object":
      return value === null ? putByte(out, 0) : putTaggedObject(out, value, path, depth);
    default:
      throw typeMismatch(path, "a value that can be copied", value);
  }
}

function putTaggedObject(out: TailOutput, value: object, path: string, depth: number): boolean {
  if (Array.isArray(value)) {
    if (!putByte(out, 8) || !putVarint(out, value.length)) return false;
    for (let i = 0; i < value.length; i += 1) if (!putTagged(out, value[i], `${path}[${i}]`, depth + 1)) return false;
    return true;
  }
  if (value instanceof Uint8Array) return putByte(out, 7) && putPrefixedBytes(out, value);
  if (value instanceof Date) return putByte(out, 12) && putF64(out, value.getTime());
  if (value instanceof Map) {
    if (!putByte(out, 10) || !putVarint(out, value.size)) return false;
    for (const [k, v] of value) {
      if (!putTagged(out, k, `${path}{key}`, depth + 1) || !putTagged(out, v, `${path}{value}`, depth + 1))
        return false;
    }
    return true;
  }
  if (value instanceof Set) {
    if (!putByte(out, 11) || !putVarint(out, value.size)) return false;
    for (const v of value) if (!putTagged(out, v, `${path}{element}`, depth + 1)) return false;
    return true;
  }
  if (ArrayBuffer.isView(value) || value instanceof Promise || value instanceof WeakMap || value instanceof RegExp) {
    throw typeMismatch(path, "a value that can be copied", value); // VC3: their content is not in their properties
  }
  const keys = Object.keys(value);
  if (!putByte(out, 9) || !putVarint(out, keys.length)) return false;
  for (const key of keys) {
    if (!putPrefixedString(out, key)) return false;
    if (!putTagged(out, (value as Record<string, unknown>)[key], `${path}.${key}`, depth + 1)) return false;
  }
  return true;
}

function takeTagged(input: TailInput): unknown {
  const tag = takeByte(input);
  switch (tag) {
    case 0:
      return null;
    case 1:
      return undefined;
    case 2:
      return false;
    case 3:
      return true;
    case 4:
      return takeI32(input);
    case 5:
      return takeF64(input);
    case 6:
      return takePrefixedString(input);
    case 7:
      return takePrefixedBytes(input);
    case 8: {
      const count = takeVarint(input);
      const list: unknown[] = [];
      for (let i = 0; i < count; i += 1) list.push(takeTagged(input));
      return list;
    }
    case 9: {
      const count = takeVarint(input);
      const object: Record<string, unknown> = {};
      for (let i = 0; i < count; i += 1) {
        const name = takePrefixedString(input);
        setOwn(object, name, takeTagged(input));
      }
      return object;
    }
    case 10: {
      const count = takeVarint(input);
      const map = new Map<unknown, unknown>();
      for (let i = 0; i < count; i += 1) {
        const key = takeTagged(input);
        map.set(key, takeTagged(input));
      }
      return map;
    }
    case 11: {
      const count = takeVarint(input);
      const set = new Set<unknown>();
      for (let i = 0; i < count; i += 1) set.add(takeTagged(input));
      return set;
    }
    case 12:
      return new Date(takeF64(input));
    case 13:
      return BigInt(takePrefixedString(input));
    default:
      throw new Failure("FORMAT_UNSUPPORTED", {
        retry: "never",
        message: `tagged value ${tag} is not known to this version`,
        remedy: "Run all processes of the job with the same version of Sluice.",
      });
  }
}

function putByte(out: TailOutput, byte: number): boolean {
  if (out.tailPos >= out.tailLimit) return false;
  out.memory.u8[out.tailPos] = byte;
  out.tailPos += 1;
  return true;
}

function takeByte(input: TailInput): number {
  const byte = input.memory.u8[input.tailPos] as number;
  input.tailPos += 1;
  return byte;
}

function putI32(out: TailOutput, value: number): boolean {
  const at = out.tailPos;
  if (out.tailLimit - at < 4) return false;
  const u8 = out.memory.u8;
  u8[at] = value & 0xff;
  u8[at + 1] = (value >>> 8) & 0xff;
  u8[at + 2] = (value >>> 16) & 0xff;
  u8[at + 3] = value >>> 24;
  out.tailPos = at + 4;
  return true;
}

function takeI32(input: TailInput): number {
  const u8 = input.memory.u8;
  const at = input.tailPos;
  input.tailPos = at + 4;
  return (
    (u8[at] as number) | ((u8[at + 1] as number) << 8) | ((u8[at + 2] as number) << 16) | ((u8[at + 3] as number) << 24)
  );
}

function putF64(out: TailOutput, value: number): boolean {
  if (out.tailLimit - out.tailPos < 8) return false;
  scratchF64[0] = value;
  out.memory.u8.set(scratchU8, out.tailPos);
  out.tailPos += 8;
  return true;
}

function takeF64(input: TailInput): number {
  const u8 = input.memory.u8;
  const at = input.tailPos;
  for (let i = 0; i < 8; i += 1) scratchU8[i] = u8[at + i] as number;
  input.tailPos = at + 8;
  return scratchF64[0] as number;
}

/** Up to 2^53, seven bits a byte, low bits first. */
function putVarint(out: TailOutput, value: number): boolean {
  let rest = value;
  while (rest >= 0x80) {
    if (!putByte(out, (rest % 0x80) | 0x80)) return false;
    rest = Math.floor(rest / 0x80);
  }
  return putByte(out, rest);
}

function takeVarint(input: TailInput): number {
  let value = 0;
  let scale = 1;
  for (;;) {
    const byte = takeByte(input);
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return value;
    scale *= 0x80;
  }
}

/** The prefix needs the encoding, the encoding is known after writing: written behind the widest prefix, then moved back. */
function putPrefixedString(out: TailOutput, value: string): boolean {
  const start = out.tailPos;
  if (value.length === 0) return putByte(out, 0);
  const prefixBytes = value.length * 4 < 0x80 ? 1 : 5;
  const from = start + prefixBytes;
  const written = putString(out.memory, from, out.tailLimit, value);
  if (written < 0) return false;
  const end = Math.floor(written / 2);
  const isWide = written % 2;
  putVarint(out, (end - from) * 2 + isWide);
  if (out.tailPos !== from) out.memory.u8.copyWithin(out.tailPos, from, end);
  out.tailPos += end - from;
  return true;
}

function takePrefixedString(input: TailInput): string {
  const prefix = takeVarint(input);
  const start = input.tailPos;
  const end = start + Math.floor(prefix / 2);
  input.tailPos = end;
  return takeString(input.memory, start, end, prefix % 2 === 1);
}

function putPrefixedBytes(out: TailOutput, value: Uint8Array): boolean {
  if (!putVarint(out, value.length) || out.tailLimit - out.tailPos < value.length) return false;
  out.memory.u8.set(value, out.tailPos);
  out.tailPos += value.length;
  return true;
}

function takePrefixedBytes(input: TailInput): Uint8Array {
  const length = takeVarint(input);
  const start = input.tailPos;
  input.tailPos = start + length;
  return new Uint8Array(input.memory.u8.subarray(start, start + length));
}
