// The layer check: who may import whom. The rules are data (layers.config.ts); this file only applies them.
//
// Invariants:
//   L1. Packages import downward only, by their name, and only what their package.json declares.
//   L2. The folders of a package that has levels (runtime, controller) import downward only.
//   L3. A folder is entered by its index.ts; its other files are private to it.
//   L4. No file imports itself through others: there are no cycles, type imports included.
//   L5. A library that does I/O is imported by adapters only; a library nobody classified is imported by nobody.
//   L6. Code that ships does not import test code.
//
// Not here: globals such as setTimeout (tripwires.ts).

import { existsSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";

import {
  ADAPTERS,
  INNER_PUBLIC_MODULES,
  IO_LIBRARIES,
  LEVELS,
  PACKAGES,
  PURE_LIBRARIES,
  RUNTIME_INTERNALS,
  RUNTIME_PUBLIC_ENTRY,
  SAME_LEVEL,
  TEST_CODE,
} from "./layers.config.ts";
import { findCycles } from "./cycles.ts";
import { isSourceFile, parseSource } from "./source.ts";
import type { ImportOf } from "./source.ts";
import { listFiles, matchesAny } from "./stage.ts";
import type { Problem, StageResult } from "./stage.ts";

const RULES_FILE = "tools/check/layers.config.ts";

export async function checkLayers(root: string): Promise<StageResult> {
  const files = (await listFiles(root)).filter((file) => isSourceFile(file) && packageOf(file) !== undefined);
  const known = new Set(files);
  const declared = declaredDependencies(root);
  const problems: Problem[] = [];
  const graph = new Map<string, ReadonlyMap<string, number>>();
  let importCount = 0;
  for (const file of files) {
    const edges = new Map<string, number>();
    for (const item of parseSource(root, file).imports) {
      importCount += 1;
      const problem = checkImport({ file, item, declared, known });
      if (problem !== undefined) problems.push({ file, line: item.line, message: problem });
      const target = targetFile(file, item.specifier, known);
      if (target !== undefined && !edges.has(target)) edges.set(target, item.line);
    }
    graph.set(file, edges);
  }
  for (const cycle of findCycles(graph)) {
    problems.push({ file: cycle.file, line: cycle.line, message: `import cycle: ${cycle.path.join(" -> ")}` });
  }
  return { checkedCount: importCount, unit: "imports", problems };
}

interface ImportToCheck {
  readonly file: string;
  readonly item: ImportOf;
  readonly declared: ReadonlyMap<string, Declared>;
  readonly known: ReadonlySet<string>;
}

/** What is wrong with one import, if anything. */
function checkImport({ file, item, declared, known }: ImportToCheck): string | undefined {
  const { specifier } = item;
  if (specifier.startsWith(".")) return checkRelative(file, specifier, known);
  const target = Object.entries(PACKAGES).find(([, rule]) => isWithin(specifier, rule.name));
  const undeclared = checkDeclared(file, specifier, declared);
  if (undeclared !== undefined) return undeclared;
  if (target === undefined || IO_LIBRARIES.includes(specifier)) return checkLibrary(file, specifier);
  return checkPackage(file, specifier, target[0]);
}

function checkRelative(file: string, specifier: string, known: ReadonlySet<string>): string | undefined {
  const to = posix.join(posix.dirname(file), specifier);
  if (!/\.(ts|mts|mjs|js|json)$/.test(to)) return `"${specifier}" has no file extension; write the .ts`;
  if (!known.has(to) && !to.endsWith(".json")) return `"${specifier}" does not exist (no file ${to})`;
  if (packageOf(to) !== packageOf(file)) return `${to} is in another package; import it by the package's name`;
  if (isTestCode(file)) return undefined;
  if (isTestCode(to)) return `${to} is test code; only test code may import it`;
  const entered = enteredFolder(file, to);
  if (entered !== undefined && to !== `${entered}/index.ts` && !INNER_PUBLIC_MODULES.includes(to)) {
    return `${to} is private to its folder; import ${entered}/index.ts`;
  }
  const owner = packageOf(file);
  const levels = owner === undefined ? undefined : LEVELS[owner];
  return owner === undefined || levels === undefined ? undefined : checkFolders(file, to, owner, levels);
}

type Levels = readonly (readonly string[])[];

/** L2. Level by level; the public entry of the runtime is the one file outside the folders. */
function checkFolders(file: string, to: string, owner: string, levels: Levels): string | undefined {
  const levelOf = (folder: string): number => levels.findIndex((level) => level.includes(folder));
  const toFolder = folderOf(to, owner);
  if (toFolder === undefined) {
    return `${to} lies outside the folders of ${owner}/src; nothing in it imports it`;
  }
  const toLevel = levelOf(toFolder);
  if (toLevel === -1) return `folder ${owner}/src/${toFolder} has no level; add it to LEVELS in ${RULES_FILE}`;
  if (file === RUNTIME_PUBLIC_ENTRY.file) {
    const allowed = RUNTIME_PUBLIC_ENTRY.mayImport.some((name) => name === toFolder || levelOf(name) > toLevel);
    return allowed ? undefined : `the public entry may not import ${toFolder}, which is not for users`;
  }
  const folder = folderOf(file, owner);
  if (folder === undefined) return `${file} lies outside the folders of ${owner}/src; move it into one`;
  if (folder === toFolder) return undefined;
  const level = levelOf(folder);
  if (level === -1) return `folder ${owner}/src/${folder} has no level; add it to LEVELS in ${RULES_FILE}`;
  if (toLevel < level) return undefined;
  if (toLevel === level && SAME_LEVEL.some(([from, target]) => from === folder && target === toFolder))
    return undefined;
  const relation = toLevel === level ? "is of the same level" : "lies above";
  return `${folder} may not import ${toFolder}, which ${relation} (LEVELS in ${RULES_FILE})`;
}

function checkPackage(file: string, specifier: string, target: string): string | undefined {
  const own = packageOf(file);
  if (own === target && isTestCode(file)) return undefined; // a job of the tests imports what a user's job imports
  if (own === target) return `import the own package by a relative path, not as ${specifier}`;
  if (isTestCode(file)) return undefined;
  const rule = own === undefined ? undefined : PACKAGES[own];
  if (rule !== undefined && !rule.mayImport.includes(target)) {
    return `${own} may not import ${target} (PACKAGES in ${RULES_FILE})`;
  }
  if (specifier.startsWith("@sluice/runtime/internal/") && !matchesAny(file, RUNTIME_INTERNALS)) {
    return `${specifier} is internal; use "@sluice/runtime" (RUNTIME_INTERNALS in ${RULES_FILE})`;
  }
  return undefined;
}

/** L5. */
function checkLibrary(file: string, specifier: string): string | undefined {
  if (isTestCode(file) || PURE_LIBRARIES.includes(specifier)) return undefined;
  const adapters = ADAPTERS.filter((adapter) => matchesAny(file, [adapter.files]));
  if (adapters.some((adapter) => adapter.libraries === "*" || adapter.libraries.includes(specifier))) return undefined;
  if (!IO_LIBRARIES.includes(specifier)) {
    return `library ${specifier} is not classified; add it to PURE_LIBRARIES or IO_LIBRARIES in ${RULES_FILE}`;
  }
  return `${specifier} does I/O; core code uses a seam of @sluice/kit/env, adapters are listed in ADAPTERS in ${RULES_FILE}`;
}

interface Declared {
  readonly runtime: ReadonlySet<string>;
  readonly development: ReadonlySet<string>;
}

/** L1: an import that only works because npm happened to hoist the package breaks for users of the package. */
function checkDeclared(file: string, specifier: string, declared: ReadonlyMap<string, Declared>): string | undefined {
  if (specifier.startsWith("node:")) return undefined;
  const name = specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
  if (PACKAGES[packageOf(file) ?? ""]?.name === name) return undefined; // said better by checkPackage
  const own = declared.get(packageOf(file) ?? "");
  if (own?.runtime.has(name) === true) return undefined;
  const development = isTestCode(file) || packageOf(file) === "tools";
  const root = declared.get("");
  const isOurs = Object.values(PACKAGES).some((rule) => rule.name === name);
  if (development && (isOurs || own?.development.has(name) === true || root?.development.has(name) === true)) {
    return undefined;
  }
  return `${name} is not among the dependencies in ${packageOf(file) ?? "."}/package.json`;
}

function declaredDependencies(root: string): ReadonlyMap<string, Declared> {
  const result = new Map<string, Declared>();
  for (const folder of ["", ...Object.keys(PACKAGES)]) {
    const path = join(root, folder, "package.json");
    if (!existsSync(path)) continue;
    const manifest = JSON.parse(readFileSync(path, "utf8")) as {
      readonly dependencies?: Readonly<Record<string, string>>;
      readonly peerDependencies?: Readonly<Record<string, string>>;
      readonly devDependencies?: Readonly<Record<string, string>>;
    };
    result.set(folder, {
      runtime: new Set([...Object.keys(manifest.dependencies ?? {}), ...Object.keys(manifest.peerDependencies ?? {})]),
      development: new Set(Object.keys(manifest.devDependencies ?? {})),
    });
  }
  return result;
}

/** The file an import leads to, for the graph of files; undefined for libraries. */
function targetFile(file: string, specifier: string, known: ReadonlySet<string>): string | undefined {
  if (specifier.startsWith(".")) {
    const to = posix.join(posix.dirname(file), specifier);
    return known.has(to) ? to : undefined;
  }
  // Between packages the entry files suffice: L1 already makes the graph of packages acyclic.
  return undefined;
}

/**
 * The outermost folder below <package>/src (or below <package>) that `to` lies in and `file` does not; undefined when
 * both are in the same one, or `to` lies in none.
 */
function enteredFolder(file: string, to: string): string | undefined {
  const folder = topFolder(to);
  return folder === undefined || folder === topFolder(file) ? undefined : folder;
}

function topFolder(file: string): string | undefined {
  const owner = packageOf(file);
  if (owner === undefined) return undefined;
  const parts = file.slice(owner.length + 1).split("/");
  const depth = parts[0] === "src" ? 2 : 1;
  return parts.length > depth ? [owner, ...parts.slice(0, depth)].join("/") : undefined;
}

/** The folder below the src of `owner` that a file lies in. */
function folderOf(file: string, owner: string): string | undefined {
  const parts = file.slice(owner.length + 1).split("/");
  return parts[0] === "src" && parts.length > 2 ? parts[1] : undefined;
}

export function packageOf(file: string): string | undefined {
  return Object.keys(PACKAGES).find((folder) => file.startsWith(`${folder}/`));
}

export function isTestCode(file: string): boolean {
  return matchesAny(file, TEST_CODE);
}

function isWithin(specifier: string, packageName: string): boolean {
  return specifier === packageName || specifier.startsWith(`${packageName}/`);
}
