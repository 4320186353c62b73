// Checks a JSON value against a description.
//
// Not here: descriptions (schema.ts), CEL rules (the apiserver's), filling in defaults (schema-defaults.ts).

import { componentsOf } from "./schema.ts";
import type { JsonSchema, Schema } from "./schema.ts";

/** The first few problems are enough. */
const PROBLEMS_MAX = 20;

export interface CheckOptions {
  /** Whether a field that the description does not have is a problem. */
  readonly allowsUnknownFields: boolean;
}

/** What is wrong with `value`, one line each with its path; empty: nothing. */
export function problemsOf(schema: Schema<unknown>, value: unknown, options: CheckOptions): readonly string[] {
  const components = componentsOf([schema]);
  return check(schema.json, value, "$", { ...options, components }).slice(0, PROBLEMS_MAX);
}

interface Context extends CheckOptions {
  readonly components: Readonly<Record<string, JsonSchema>>;
}

function check(schema: JsonSchema, value: unknown, at: string, context: Context): readonly string[] {
  if (schema.$ref !== undefined) {
    const target = context.components[schema.$ref.slice(schema.$ref.lastIndexOf("/") + 1)];
    return target === undefined ? [`${at}: nothing is known of ${schema.$ref}`] : check(target, value, at, context);
  }
  if (schema.anyOf !== undefined) {
    const attempts = schema.anyOf.map((one) => check(one, value, at, context));
    return attempts.some((problems) => problems.length === 0)
      ? []
      : [`${at}: fits none of ${attempts.length}: ${attempts.map(([first]) => first).join("; ")}`];
  }
  const kind = kindOf(value);
  if (kind === "null" && schema.nullable === true) return [];
  if (schema["x-kubernetes-int-or-string"] === true && kind !== "integer" && kind !== "string")
    return [`${at}: ${kind} instead of integer or string`];
  if (schema.type !== undefined && schema.type !== kind && !(schema.type === "number" && kind === "integer"))
    return [`${at}: ${kind} instead of ${schema.type}`];
  if (typeof value === "string") return checkText(schema, value, at);
  if (typeof value === "number") return checkNumber(schema, value, at);
  if (Array.isArray(value)) {
    const { items } = schema;
    const wrong = items === undefined ? [] : value.flatMap((item, i) => check(items, item, `${at}[${i}]`, context));
    return [...checkCount(value.length, { min: schema.minItems, max: schema.maxItems, of: "items" }, at), ...wrong];
  }
  return kind === "object" ? checkObject(schema, value as Readonly<Record<string, unknown>>, at, context) : [];
}

function checkText(schema: JsonSchema, value: string, at: string): readonly string[] {
  if (schema.const !== undefined && value !== schema.const) return [`${at}: "${value}" instead of "${schema.const}"`];
  if (schema.enum !== undefined && !schema.enum.includes(value))
    return [`${at}: "${value}" is none of ${schema.enum.join(", ")}`];
  if (schema.pattern !== undefined && !new RegExp(schema.pattern, "u").test(value))
    return [`${at}: "${value}" does not look like ${schema.pattern}`];
  if (schema.format === "date-time" && Number.isNaN(Date.parse(value))) return [`${at}: "${value}" is no time`];
  // As in JSON Schema: characters, not the halves of which strings consist here.
  const { minLength: min, maxLength: max } = schema;
  return min === undefined && max === undefined
    ? []
    : checkCount(Array.from(value).length, { min, max, of: "characters" }, at);
}

function checkNumber(schema: JsonSchema, value: number, at: string): readonly string[] {
  if (schema.minimum !== undefined && value < schema.minimum) return [`${at}: ${value} is below ${schema.minimum}`];
  if (schema.maximum !== undefined && value > schema.maximum) return [`${at}: ${value} is above ${schema.maximum}`];
  return [];
}

function checkCount(
  count: number,
  limits: { readonly min: number | undefined; readonly max: number | undefined; readonly of: string },
  at: string,
): readonly string[] {
  const { min, max, of } = limits;
  if (min !== undefined && count < min) return [`${at}: ${count} ${of}, fewer than ${min}`];
  return max !== undefined && count > max ? [`${at}: ${count} ${of}, more than ${max}`] : [];
}

function checkObject(
  schema: JsonSchema,
  value: Readonly<Record<string, unknown>>,
  at: string,
  context: Context,
): readonly string[] {
  const { properties = {}, required = [], additionalProperties } = schema;
  const missing = required.filter((name) => value[name] === undefined).map((name) => `${at}.${name}: is missing`);
  const keepsUnknown = schema["x-kubernetes-preserve-unknown-fields"] === true;
  const isClosed = schema.properties !== undefined && additionalProperties === undefined && !keepsUnknown;
  const wrong = Object.entries(value).flatMap(([name, field]) => {
    if (field === undefined) return [];
    const known = properties[name] ?? (additionalProperties === false ? undefined : additionalProperties);
    if (known !== undefined) return check(known, field, `${at}.${name}`, context);
    return isClosed && !context.allowsUnknownFields ? [`${at}.${name}: is not known`] : [];
  });
  const count = checkCount(Object.keys(value).length, { min: undefined, max: schema.maxProperties, of: "entries" }, at);
  return [...missing, ...count, ...wrong];
}

function kindOf(value: unknown): NonNullable<JsonSchema["type"]> | "undefined" {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  const kind = typeof value;
  return kind === "object" || kind === "string" || kind === "boolean" ? kind : "undefined";
}
