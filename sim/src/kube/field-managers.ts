// Server-side apply in a simple model: which manager owns which leaf of an object.
//
// Invariants:
//   FM1. After an apply every leaf of its body is in the object, and its manager owns exactly these leaves.
//   FM2. A leaf that a manager applied earlier and no longer names is removed, unless somebody else owns it too.
//   FM3. Without force, an apply that would change a leaf of another manager is a conflict and changes nothing.
//   FM4. An update or a merge patch owns the leaves that it changed, alone.
//
// Lists that Kubernetes merges by key are merged by key; all others are one leaf. Real managedFields are richer; what the
// controller relies on is also tested against a real API server.

import { isTree, sameTree } from "./trees.ts";
import type { Tree } from "./trees.ts";

/** Lists merged by key, by the name of the field that holds them. */
const LIST_KEYS: Readonly<Record<string, string>> = {
  containers: "name",
  initContainers: "name",
  volumes: "name",
  env: "name",
  volumeMounts: "mountPath",
  ownerReferences: "uid",
  conditions: "type",
  imagePullSecrets: "name",
};

/** Leaves by manager; a leaf is its path as JSON. */
export type Ownership = ReadonlyMap<string, ReadonlySet<string>>;

type Path = readonly (string | { readonly key: string })[];

export interface Applied {
  readonly object: Tree;
  readonly owners: Ownership;
}

/** Manager and path of the leaves that stand in the way. */
export interface ApplyConflict {
  readonly conflicts: readonly string[];
}

export function apply(
  live: Tree,
  owners: Ownership,
  options: { readonly manager: string; readonly body: Tree; readonly force: boolean },
): Applied | ApplyConflict {
  const { manager, body, force } = options;
  const wanted = leavesOf(body);
  const conflicts: string[] = [];
  for (const [path, value] of wanted) {
    if (sameTree(valueAt(live, path), value)) continue;
    for (const [other, paths] of owners) {
      if (other !== manager && paths.has(path)) conflicts.push(`conflict with "${other}": ${path}`);
    }
  }
  if (conflicts.length > 0 && !force) return { conflicts };
  let object = live;
  for (const path of owners.get(manager) ?? []) {
    const isShared = [...owners].some(([other, paths]) => other !== manager && paths.has(path));
    if (!wanted.has(path) && !isShared) object = removeAt(object, parsed(path)) as Tree;
  }
  const next = new Map<string, ReadonlySet<string>>();
  for (const [other, paths] of owners) {
    if (other === manager) continue;
    // Forced: what changes now is no longer the other one's.
    const kept = [...paths].filter((path) => !wanted.has(path) || sameTree(valueAt(live, path), wanted.get(path)));
    if (kept.length > 0) next.set(other, new Set(kept));
  }
  for (const [path, value] of wanted) object = setAt(object, parsed(path), value) as Tree;
  next.set(manager, new Set(wanted.keys()));
  return { object, owners: next };
}

/** Ownership after a write that is not an apply (FM4). */
export function ownedAfterWrite(before: Tree, after: Tree, owners: Ownership, manager: string): Ownership {
  const had = leavesOf(before);
  const changed = [...leavesOf(after)].filter(([path, value]) => !sameTree(had.get(path), value)).map(([path]) => path);
  const has = leavesOf(after);
  const next = new Map<string, ReadonlySet<string>>();
  for (const [other, paths] of owners) {
    const kept = [...paths].filter((path) => has.has(path) && (other === manager || !changed.includes(path)));
    if (kept.length > 0) next.set(other, new Set(kept));
  }
  const own = new Set([...(next.get(manager) ?? []), ...changed]);
  if (own.size > 0) next.set(manager, own);
  return next;
}

/** Leaves with their values; identity fields are nobody's. */
function leavesOf(object: Tree): ReadonlyMap<string, unknown> {
  const leaves = new Map<string, unknown>();
  const visit = (value: unknown, path: Path, field: string): void => {
    const listKey = LIST_KEYS[field];
    if (isTree(value) && Object.keys(value).length > 0) {
      for (const [name, part] of Object.entries(value)) visit(part, [...path, name], name);
    } else if (listKey !== undefined && Array.isArray(value)) {
      for (const item of value as readonly Tree[]) {
        const key = String(item[listKey]);
        for (const [name, part] of Object.entries(item)) visit(part, [...path, { key }, name], name);
      }
    } else {
      leaves.set(JSON.stringify(path), value);
    }
  };
  for (const [name, value] of Object.entries(object)) {
    if (name === "apiVersion" || name === "kind") continue;
    if (name !== "metadata" || !isTree(value)) visit(value, [name], name);
    else {
      for (const part of ["labels", "annotations", "ownerReferences", "finalizers"]) {
        if (value[part] !== undefined) visit(value[part], [name, part], part);
      }
    }
  }
  return leaves;
}

function parsed(path: string): Path {
  return JSON.parse(path) as Path;
}

function valueAt(object: unknown, path: string): unknown {
  let value = object;
  let field = "";
  for (const step of parsed(path)) {
    if (typeof step === "string") {
      value = isTree(value) ? value[step] : undefined;
      field = step;
    } else {
      const listKey = LIST_KEYS[field]!;
      value = Array.isArray(value) ? (value as readonly Tree[]).find((item) => item[listKey] === step.key) : undefined;
    }
  }
  return value;
}

function setAt(object: unknown, path: Path, value: unknown, field = ""): unknown {
  const [step, ...rest] = path;
  if (step === undefined) return value;
  if (typeof step === "string") {
    const tree = isTree(object) ? object : {};
    return { ...tree, [step]: setAt(tree[step], rest, value, step) };
  }
  const listKey = LIST_KEYS[field]!;
  const list = Array.isArray(object) ? (object as readonly Tree[]) : [];
  if (!list.some((item) => item[listKey] === step.key)) return [...list, setAt({ [listKey]: step.key }, rest, value)];
  return list.map((item) => (item[listKey] === step.key ? setAt(item, rest, value) : item));
}

/** Without the leaf, and without trees and items that hold nothing any more. */
function removeAt(object: unknown, path: Path, field = ""): unknown {
  const [step, ...rest] = path;
  if (step === undefined) return undefined;
  if (typeof step === "string") {
    if (!isTree(object)) return object;
    const part = removeAt(object[step], rest, step);
    const kept = Object.entries(object).filter(([name]) => name !== step);
    if (part !== undefined) kept.push([step, part]);
    return kept.length === 0 && field !== "" ? undefined : Object.fromEntries(kept);
  }
  if (!Array.isArray(object)) return object;
  const listKey = LIST_KEYS[field]!;
  const kept = (object as readonly Tree[])
    .map((item) => (item[listKey] === step.key ? (removeAt(item, rest, "item") as Tree | undefined) : item))
    .filter((item) => item !== undefined);
  return kept.length === 0 ? undefined : kept;
}
