// Compares the shape of two JSON values: the same keys and the same kinds of values, recursively.

import { readFileSync } from "node:fs";
import { join } from "node:path";

type Kind = "object" | "array" | "number" | "string" | "boolean" | "null";

function kindOf(value: unknown): Kind {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (value === "NaN") return "number"; // Flink's JSON has no other way to write it
  const kind = typeof value;
  if (kind === "object" || kind === "number" || kind === "string" || kind === "boolean") return kind;
  throw new Error(`${kind} is not JSON`);
}

/** Keys below which the keys are data, not names: vertex ids. */
const MAPS = new Set(["tasks", "user-config"]);

/**
 * What differs, one line each with its path; empty when the shapes are the same. Arrays are compared by their first elements:
 * an empty one has any shape. Kinds of `null` differ from all others unless `nullable` names the key.
 */
export function shapeDifferences(
  actual: unknown,
  expected: unknown,
  nullable: readonly string[] = [],
  path = "$",
): readonly string[] {
  const [a, b] = [kindOf(actual), kindOf(expected)];
  const key = path.slice(path.lastIndexOf(".") + 1);
  if (a !== b) return nullable.includes(key) && (a === "null" || b === "null") ? [] : [`${path}: ${a} instead of ${b}`];
  if (a === "array") {
    const [first, other] = [(actual as unknown[])[0], (expected as unknown[])[0]];
    if (first === undefined || other === undefined) return [];
    return shapeDifferences(first, other, nullable, `${path}[]`);
  }
  if (a !== "object") return [];
  let [mine, theirs] = [actual as Record<string, unknown>, expected as Record<string, unknown>];
  if (MAPS.has(key) && [...Object.keys(mine), ...Object.keys(theirs)].every((name) => /^[0-9a-f]{32}$|\./.test(name))) {
    const [value, other] = [Object.values(mine)[0], Object.values(theirs)[0]];
    [mine, theirs] = value === undefined || other === undefined ? [{}, {}] : [{ "*": value }, { "*": other }];
  }
  const names = new Set([...Object.keys(mine), ...Object.keys(theirs)]);
  return [...names].flatMap((name) => {
    if (!(name in mine)) return [`${path}.${name}: is missing`];
    if (!(name in theirs)) return [`${path}.${name}: Flink does not have it`];
    return shapeDifferences(mine[name], theirs[name], nullable, `${path}.${name}`);
  });
}

/** A recording of Flink's REST. */
export function recording(name: string): unknown {
  return JSON.parse(readFileSync(join(import.meta.dirname, "fixtures/flink-rest", `${name}.json`), "utf8")) as unknown;
}
