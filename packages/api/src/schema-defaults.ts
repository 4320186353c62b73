// Fills in the defaults of a description, as the apiserver does before it stores an object; and leaves out what it does not describe.
//
// Not here: descriptions (schema.ts), checking (schema-check.ts).

import type { JsonSchema, Schema } from "./schema.ts";

/**
 * A copy of `value` in which absent fields with a default have it, at any depth that exists or comes into being by a default.
 * Null counts as absent where there is a default. What does not fit the description is left as it is: `problemsOf` names it.
 */
export function withDefaults<T>(schema: Schema<T>, value: unknown): T {
  return fill(schema.json, value) as T;
}

function fill(schema: JsonSchema, value: unknown): unknown {
  if (Array.isArray(value)) {
    const { items } = schema;
    return items === undefined ? value : value.map((item) => fill(items, item));
  }
  if (typeof value !== "object" || value === null) return value;
  const filled: Record<string, unknown> = { ...value };
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    const given = filled[name] ?? (field.default === undefined ? filled[name] : structuredClone(field.default));
    if (given !== undefined) filled[name] = fill(field, given);
  }
  const { additionalProperties } = schema;
  if (additionalProperties !== undefined && additionalProperties !== false)
    for (const name of Object.keys(filled))
      if (schema.properties?.[name] === undefined) filled[name] = fill(additionalProperties, filled[name]);
  return filled;
}

/**
 * A copy of `value` without the fields that the description does not have, as an apiserver prunes them: who was written for an
 * older description sees what it can carry out, and nothing else. Maps and fields that somebody else describes are kept whole.
 */
export function knownFields<T>(schema: Schema<T>, value: unknown): T {
  return prune(schema.json, value) as T;
}

function prune(schema: JsonSchema, value: unknown): unknown {
  if (Array.isArray(value)) {
    const { items } = schema;
    return items === undefined ? value : value.map((item) => prune(items, item));
  }
  if (typeof value !== "object" || value === null) return value;
  const { properties, additionalProperties } = schema;
  const rest = typeof additionalProperties === "object" ? additionalProperties : undefined;
  if (properties === undefined && rest === undefined) return value;
  const keepsAll = schema["x-kubernetes-preserve-unknown-fields"] === true;
  const kept: [string, unknown][] = [];
  for (const [name, one] of Object.entries(value)) {
    const field = properties?.[name] ?? rest;
    if (field !== undefined) kept.push([name, prune(field, one)]);
    else if (keepsAll) kept.push([name, one]);
  }
  return Object.fromEntries(kept);
}
