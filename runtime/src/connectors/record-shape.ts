// From what a format yields (JSON values, CSV cells, Parquet columns) to values of the declared type, or a reason why not.
//
// Invariants:
//   RS1. What passes is a value of the declared type: nothing that a codec behind this source would refuse.
//   RS2. A ROW has its declared fields and no others, so that it does not matter whether the next operator is chained.
//   RS3. No value depends on the machine's time zone or locale.
//
// Hot path: converters are built once per source; per record they are plain calls.

import type { TypeDescriptor } from "../model/index.ts";

/** Why a record is refused; the source adds file and position. */
export class Malformed extends Error {
  override readonly name = "Malformed";
}

export type Convert = (value: unknown) => unknown;

const ISO = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?))?(Z|[+-]\d\d:?\d\d)?$/;

/** Milliseconds of an ISO 8601 date or date and time; without an offset it is UTC (RS3). Undefined: not one. */
export function instantOf(text: string): number | undefined {
  const match = ISO.exec(text);
  if (match === null) return undefined;
  const [, date = "", time = "00:00", offset = "Z"] = match;
  const millis = Date.parse(`${date}T${time}${offset}`);
  return Number.isNaN(millis) ? undefined : millis;
}

function describeValue(value: unknown): string {
  if (value === null) return "null";
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return "an array";
  switch (typeof value) {
    case "string":
      return `the text ${JSON.stringify(value.slice(0, 40))}`;
    case "number":
    case "bigint":
    case "boolean":
      return `the ${typeof value} ${value}`;
    default:
      return "an object";
  }
}

function refuse(where: string, wanted: string, value: unknown): Malformed {
  const place = where === "" ? "the record" : `field "${where}"`;
  return new Malformed(`${place} is ${describeValue(value)}, not ${wanted}`);
}

const INT_MIN = -(2 ** 31);
const INT_MAX = 2 ** 31 - 1;

/** Converter for JSON values. `where` names the field in reasons. */
export function jsonConverter(type: TypeDescriptor, where = ""): Convert {
  switch (type.kind) {
    case "GENERIC":
      return (value) => value;
    case "STRING":
      return (value) => {
        if (typeof value === "string") return value;
        throw refuse(where, "a STRING", value);
      };
    case "BOOLEAN":
      return (value) => {
        if (typeof value === "boolean") return value;
        throw refuse(where, "a BOOLEAN", value);
      };
    case "INT":
      return (value) => {
        if (typeof value === "number" && Number.isInteger(value) && value >= INT_MIN && value <= INT_MAX) return value;
        throw refuse(where, "an INT (32 bits)", value);
      };
    case "LONG":
      return (value) => {
        if (Number.isSafeInteger(value)) return value;
        throw refuse(where, "a LONG (a safe integer)", value);
      };
    case "DOUBLE":
      return (value) => {
        if (typeof value === "number") return value;
        throw refuse(where, "a DOUBLE", value);
      };
    case "INSTANT":
      return (value) => {
        if (Number.isSafeInteger(value)) return value;
        const millis = typeof value === "string" ? instantOf(value) : undefined;
        if (millis !== undefined) return millis;
        throw refuse(where, "an INSTANT (ISO 8601, or milliseconds since the epoch)", value);
      };
    case "BYTES":
      return (value) => {
        if (typeof value === "string" && /^[A-Za-z0-9+/]*={0,2}$/.test(value))
          return new Uint8Array(Buffer.from(value, "base64"));
        throw refuse(where, "BYTES (base64)", value);
      };
    case "LIST": {
      const element = jsonConverter(type.element, `${where}[]`);
      return (value) => {
        if (Array.isArray(value)) return value.map(element);
        throw refuse(where, "a LIST", value);
      };
    }
    case "MAP": {
      const key = jsonConverter(type.key, `${where} key`);
      const entry = jsonConverter(type.value, `${where} value`);
      const byName = type.key.kind === "STRING";
      return (value) => {
        if (byName && typeof value === "object" && value !== null && !Array.isArray(value)) {
          return new Map(Object.entries(value).map(([name, member]) => [name, entry(member)]));
        }
        if (Array.isArray(value) && value.every((pair) => Array.isArray(pair) && pair.length === 2)) {
          return new Map((value as [unknown, unknown][]).map(([name, member]) => [key(name), entry(member)]));
        }
        throw refuse(where, byName ? "a MAP (an object)" : "a MAP (an array of pairs)", value);
      };
    }
    case "TUPLE": {
      const fields = type.fields.map((field, i) => jsonConverter(field, `${where}[${i}]`));
      return (value) => {
        if (!Array.isArray(value) || value.length !== fields.length)
          throw refuse(where, `a TUPLE of ${fields.length}`, value);
        return fields.map((convert, i) => convert(value[i]));
      };
    }
    case "ROW":
      return rowConverter(type, where);
  }
}

function rowConverter(type: Extract<TypeDescriptor, { kind: "ROW" }>, where: string): Convert {
  const { names } = type;
  const prefix = where === "" ? "" : `${where}.`;
  const fields = type.fields.map((field, i) => jsonConverter(field, `${prefix}${names[i] ?? ""}`));
  return (value) => {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw refuse(where, "a ROW (an object)", value);
    let row = value as Record<string, unknown>;
    let members = 0;
    for (const member in row) if (Object.hasOwn(row, member)) members += 1;
    if (members !== names.length) {
      // Others than declared, or some missing: a fresh object with the declared ones (RS2).
      const declared: Record<string, unknown> = {};
      for (const name of names) declared[name] = Object.hasOwn(row, name) ? row[name] : undefined;
      row = declared;
    }
    for (let i = 0; i < names.length; i += 1) {
      const name = names[i] as string;
      const before = Object.hasOwn(row, name) ? row[name] : undefined;
      const after = (fields[i] as Convert)(before);
      if (after !== before) row[name] = after;
    }
    return row;
  };
}

/** Converter for the text of one CSV column; undefined for types that have no text form. */
export function textConverter(type: TypeDescriptor, column: string): ((text: string) => unknown) | undefined {
  switch (type.kind) {
    case "STRING":
      return (text) => text;
    case "BOOLEAN":
      return (text) => {
        if (text === "true" || text === "false") return text === "true";
        throw refuse(column, "true or false", text);
      };
    case "INT":
    case "LONG": {
      const convert = jsonConverter(type, column);
      return (text) => {
        if (/^[+-]?\d+$/.test(text)) return convert(Number(text));
        throw refuse(column, `of type ${type.kind}`, text);
      };
    }
    case "DOUBLE":
      return (text) => {
        const value = text.trim() === "" ? Number.NaN : Number(text);
        if (!Number.isNaN(value) || text === "NaN") return value;
        throw refuse(column, "a DOUBLE", text);
      };
    case "INSTANT": {
      const convert = jsonConverter(type, column);
      return (text) => convert(/^-?\d+$/.test(text) ? Number(text) : text);
    }
    default:
      return undefined;
  }
}

/** Converter for values of one Parquet column; undefined for types that are not supported in columns. */
export function columnConverter(type: TypeDescriptor, column: string): Convert | undefined {
  switch (type.kind) {
    case "INT":
    case "LONG":
    case "INSTANT": {
      const convert = jsonConverter(type, column);
      return (value) => convert(typeof value === "bigint" ? Number(value) : value);
    }
    case "DOUBLE":
      return (value) => {
        if (typeof value === "number") return value;
        if (typeof value === "bigint" && Number.isSafeInteger(Number(value))) return Number(value);
        throw refuse(column, "a DOUBLE", value);
      };
    case "STRING": {
      const convert = jsonConverter(type, column);
      const decoder = new TextDecoder();
      return (value) => convert(value instanceof Uint8Array ? decoder.decode(value) : value);
    }
    case "BOOLEAN":
      return jsonConverter(type, column);
    case "BYTES":
      return (value) => {
        if (value instanceof Uint8Array) return value;
        throw refuse(column, "BYTES", value);
      };
    default:
      return undefined;
  }
}
