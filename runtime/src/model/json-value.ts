// Values of declared types as JSON: defaults in a TypeDescriptor, keys typed on a command line, values shown to people and programs.
//
//   INT, LONG, INSTANT: number | DOUBLE: number, or "NaN", "Infinity", "-Infinity", "-0" | STRING | BOOLEAN | BYTES: base64
//   TUPLE, LIST: array | ROW: object | MAP: array of [key, value], so that keys of any type and their order survive
//
// Invariants:
//   JV1. valueFromJson(type, valueToJson(type, value)) equals the value.
//   JV2. What is not of the type is a Failure TYPE_MISMATCH that names the place inside of it.
//
// Not here: the encoding of stored values (state/codec.ts).

import { Failure, unreachable } from "@sluice/kit";
import { describeType } from "./type-descriptor.ts";
import type { JsonValue, TypeDescriptor } from "./type-descriptor.ts";

const ODD_DOUBLES: ReadonlyMap<unknown, number> = new Map<unknown, number>([
  ["NaN", NaN],
  ["Infinity", Infinity],
  ["-Infinity", -Infinity],
  ["-0", -0],
]);

/** The value as JSON. Failure TYPE_MISMATCH (JV2); a GENERIC has no JSON of its own. */
export function valueToJson(type: TypeDescriptor, value: unknown, path = ""): JsonValue {
  switch (type.kind) {
    case "INT":
    case "LONG":
    case "INSTANT":
    case "STRING":
    case "BOOLEAN":
      if (!isScalar(type.kind, value)) throw mismatch(type, value, path);
      return value;
    case "DOUBLE":
      if (typeof value !== "number") throw mismatch(type, value, path);
      return Number.isFinite(value) && !Object.is(value, -0) ? value : Object.is(value, -0) ? "-0" : String(value);
    case "BYTES":
      if (!ArrayBuffer.isView(value)) throw mismatch(type, value, path);
      return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64");
    case "TUPLE": {
      if (!Array.isArray(value) || value.length !== type.fields.length) throw mismatch(type, value, path);
      return type.fields.map((field, i) => valueToJson(field, value[i], inside(path, String(i))));
    }
    case "ROW": {
      if (typeof value !== "object" || value === null || Array.isArray(value)) throw mismatch(type, value, path);
      const fields = type.fields.map((field, i) => {
        const name = type.names[i] as string;
        return [name, valueToJson(field, (value as Readonly<Record<string, unknown>>)[name], inside(path, name))];
      });
      return Object.fromEntries(fields) as JsonValue;
    }
    case "LIST":
      if (!Array.isArray(value)) throw mismatch(type, value, path);
      return value.map((element, i) => valueToJson(type.element, element, inside(path, String(i))));
    case "MAP":
      if (Object.prototype.toString.call(value) !== "[object Map]") throw mismatch(type, value, path);
      return [...(value as ReadonlyMap<unknown, unknown>)].map(([k, v], i) => [
        valueToJson(type.key, k, inside(path, `key ${i}`)),
        valueToJson(type.value, v, inside(path, `value ${i}`)),
      ]);
    case "GENERIC":
      throw mismatch(type, value, path);
    default:
      return unreachable(type);
  }
}

/** The value that this JSON means; a new one at every call. Failure TYPE_MISMATCH (JV2). */
export function valueFromJson(type: TypeDescriptor, json: unknown, path = ""): unknown {
  switch (type.kind) {
    case "INT":
    case "LONG":
    case "INSTANT":
    case "STRING":
    case "BOOLEAN":
      if (!isScalar(type.kind, json)) throw mismatch(type, json, path);
      return json;
    case "DOUBLE": {
      const value = ODD_DOUBLES.get(json) ?? json;
      if (typeof value !== "number") throw mismatch(type, json, path);
      return value;
    }
    case "BYTES": {
      if (typeof json !== "string" || !/^[A-Za-z0-9+/]*={0,2}$/u.test(json)) throw mismatch(type, json, path);
      return Uint8Array.from(Buffer.from(json, "base64"));
    }
    case "TUPLE":
      if (!Array.isArray(json) || json.length !== type.fields.length) throw mismatch(type, json, path);
      return type.fields.map((field, i) => valueFromJson(field, json[i], inside(path, String(i))));
    case "ROW": {
      if (typeof json !== "object" || json === null || Array.isArray(json)) throw mismatch(type, json, path);
      const stranger = Object.keys(json).find((name) => !type.names.includes(name));
      if (stranger !== undefined) throw mismatch(type, json, inside(path, stranger));
      const fields = type.fields.map((field, i) => {
        const name = type.names[i] as string;
        return [name, valueFromJson(field, (json as Readonly<Record<string, unknown>>)[name], inside(path, name))];
      });
      return Object.fromEntries(fields) as unknown;
    }
    case "LIST":
      if (!Array.isArray(json)) throw mismatch(type, json, path);
      return json.map((element, i) => valueFromJson(type.element, element, inside(path, String(i))));
    case "MAP": {
      if (!Array.isArray(json)) throw mismatch(type, json, path);
      return new Map(
        (json as readonly unknown[]).map((pair, i) => {
          if (!Array.isArray(pair) || pair.length !== 2) throw mismatch(type, json, path);
          const [k, v] = pair as readonly unknown[];
          return [
            valueFromJson(type.key, k, inside(path, `key ${i}`)),
            valueFromJson(type.value, v, inside(path, `value ${i}`)),
          ];
        }),
      );
    }
    case "GENERIC":
      throw mismatch(type, json, path);
    default:
      return unreachable(type);
  }
}

function isScalar(
  kind: "INT" | "LONG" | "INSTANT" | "STRING" | "BOOLEAN",
  value: unknown,
): value is number | string | boolean {
  if (kind === "STRING") return typeof value === "string";
  if (kind === "BOOLEAN") return typeof value === "boolean";
  return kind === "INT" ? typeof value === "number" && (value | 0) === value : Number.isSafeInteger(value);
}

function inside(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

function mismatch(type: TypeDescriptor, value: unknown, path: string): Failure {
  return new Failure("TYPE_MISMATCH", {
    retry: "never",
    message: `${path === "" ? "" : `"${path}": `}${shown(value)} is not ${describeType(type)}`,
    remedy: "give a value of the declared type",
  });
}

function shown(value: unknown): string {
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  const text = (JSON.stringify(value) as string | undefined) ?? typeof value;
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}
