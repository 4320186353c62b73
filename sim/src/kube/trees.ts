// JSON trees: what Kubernetes objects are to the simulated API server.

import { isDeepStrictEqual } from "node:util";

export type Tree = Readonly<Record<string, unknown>>;

export function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The tree below `name`, or an empty one. */
export function subtree(tree: Tree, name: string): Tree {
  const value = tree[name];
  return isTree(value) ? value : {};
}

export function sameTree(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(a, b);
}

/** A copy of `tree` without `name`. */
export function without(tree: Tree, ...names: readonly string[]): Tree {
  return Object.fromEntries(Object.entries(tree).filter(([name]) => !names.includes(name)));
}

/** As JSON carries it (undefined fields are gone), frozen all the way down: whoever changes it is caught. */
export function frozenCopy(value: unknown): Tree {
  return freeze(JSON.parse(JSON.stringify(value))) as Tree;
}

function freeze(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  for (const part of Object.values(value)) freeze(part);
  return Object.freeze(value);
}

/** JSON merge patch (RFC 7386): null removes, trees merge, everything else replaces. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isTree(patch)) return patch;
  const result: Record<string, unknown> = isTree(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = mergePatch(result[name], value);
  }
  return result;
}
