// Tripwires: core code takes time, chance, processes and the network from seams, never from globals. One direct
// Date.now() and a simulated world no longer repeats from its seed.
//
// Invariants:
//   W1. Every use of a forbidden global is found, under whatever syntax: a local of the same name, or reaching it
//       through globalThis, is reported too, so that nothing can hide one.
//   W2. Exceptions are files listed in layers.config.ts (ADAPTERS with touchesTheWorld) and test code, nothing else.
//
// Not here: imports of libraries that do I/O (layers.ts).

import { ADAPTERS } from "./layers.config.ts";
import { isTestCode, packageOf } from "./layers.ts";
import { isNode, isSourceFile, parseSource, walk } from "./source.ts";
import type { SourceFile, SyntaxNode } from "./source.ts";
import { listFiles, matchesAny } from "./stage.ts";
import type { Problem, StageResult } from "./stage.ts";

/** Globals that core code may not name at all, and what it uses instead. */
const FORBIDDEN: Readonly<Record<string, string>> = {
  setTimeout: "Timers",
  setInterval: "Timers",
  setImmediate: "Timers",
  clearTimeout: "the Cancel that Timers returns",
  clearInterval: "the Cancel that Timers returns",
  clearImmediate: "the Cancel that Timers returns",
  performance: "Clock",
  process: "a setting or a seam that the entry point passes in",
  fetch: "a seam that the entry point passes in",
  WebSocket: "Net",
  EventSource: "Net",
  XMLHttpRequest: "Net",
  console: "Log",
  Worker: "a seam that the entry point passes in",
  require: "import",
};

/** Members that core code may not use, by global. */
const FORBIDDEN_MEMBERS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  Date: { now: "Clock" },
  Math: { random: "Rng" },
  AbortSignal: { timeout: "Timers and an AbortController" },
  crypto: { randomUUID: "Rng", getRandomValues: "Rng" },
};

/** Named imports that core code may not take from libraries which are otherwise pure. */
const FORBIDDEN_IMPORTS: Readonly<Record<string, readonly string[]>> = {
  "node:crypto": [
    "randomBytes",
    "randomFill",
    "randomFillSync",
    "randomInt",
    "randomUUID",
    "webcrypto",
    "getRandomValues",
  ],
};

const GLOBAL_OBJECTS = new Set(["globalThis", "global", "self", "window"]);

export async function checkTripwires(root: string): Promise<StageResult> {
  const files = (await listFiles(root)).filter((file) => isSourceFile(file) && isCoreCode(file));
  const problems: Problem[] = [];
  for (const file of files) problems.push(...findTripwires(parseSource(root, file)));
  return { checkedCount: files.length, unit: "core files", problems };
}

/** Code that must run in a simulated world. */
export function isCoreCode(file: string): boolean {
  if (packageOf(file) === undefined || isTestCode(file)) return false;
  return !ADAPTERS.some((adapter) => adapter.touchesTheWorld && matchesAny(file, [adapter.files]));
}

export function findTripwires(source: SourceFile): readonly Problem[] {
  const problems: Problem[] = [];
  const report = (node: SyntaxNode, what: string, instead: string): void => {
    const message = `${what} in core code; use ${instead}`;
    problems.push({ file: source.file, line: source.lineAt(node.start), message });
  };
  walk(source.program, (node, parent, key) => {
    if (node.type.startsWith("TS") && !EXPRESSION_WRAPPERS.has(node.type)) return false; // types do nothing
    if (node.type === "ImportDeclaration") {
      checkImportDeclaration(node, report);
      return false;
    }
    if (node.type === "MemberExpression") checkMember(node, report);
    if (node.type === "Identifier" && isReference(parent, key)) checkIdentifier(node, parent, key, report);
    return true;
  });
  return problems;
}

type Report = (node: SyntaxNode, what: string, instead: string) => void;

const EXPRESSION_WRAPPERS = new Set([
  "TSAsExpression",
  "TSSatisfiesExpression",
  "TSNonNullExpression",
  "TSTypeAssertion",
]);

function checkIdentifier(node: SyntaxNode, parent: SyntaxNode | undefined, key: string, report: Report): void {
  const name = String(node["name"]);
  const instead = own(FORBIDDEN, name);
  if (instead !== undefined) report(node, name, `${instead} (a local of that name needs another one)`);
  if (own(FORBIDDEN_MEMBERS, name) === undefined || parent === undefined) return;
  if (key === "callee") {
    const args = parent["arguments"];
    const isNew = parent.type === "NewExpression";
    if (name === "Date" && !isNew) report(parent, "Date()", "Clock");
    if (name === "Date" && isNew && Array.isArray(args) && args.length === 0) report(parent, "new Date()", "Clock");
    return;
  }
  // An alias (`const D = Date`, `const { random } = Math`) would hide every later use.
  const isHarmless = key === "object" || (key === "right" && parent["operator"] === "instanceof");
  if (!isHarmless && !EXPRESSION_WRAPPERS.has(parent.type)) report(node, `${name} as a value`, `${name} directly`);
}

function checkMember(node: SyntaxNode, report: Report): void {
  const object = unwrap(node["object"]);
  const name = memberName(node);
  if (object?.type === "Identifier") {
    const objectName = String(object["name"]);
    const members = own(FORBIDDEN_MEMBERS, objectName);
    if (members !== undefined && name === undefined) report(node, `${objectName}[...]`, "a fixed member name");
    const instead = members === undefined || name === undefined ? undefined : own(members, name);
    if (instead !== undefined) report(node, `${objectName}.${name}`, instead);
    if (GLOBAL_OBJECTS.has(objectName)) checkThroughGlobalThis(node, objectName, name, report);
  }
}

function checkThroughGlobalThis(node: SyntaxNode, objectName: string, name: string | undefined, report: Report): void {
  if (name === undefined) report(node, `${objectName}[...]`, "a fixed member name");
  else if (own(FORBIDDEN, name) !== undefined || own(FORBIDDEN_MEMBERS, name) !== undefined) {
    report(node, `${objectName}.${name}`, own(FORBIDDEN, name) ?? `${name} itself`);
  }
}

function checkImportDeclaration(node: SyntaxNode, report: Report): void {
  const source = node["source"];
  const names = isNode(source) ? own(FORBIDDEN_IMPORTS, String(source["value"])) : undefined;
  const specifiers = node["specifiers"];
  if (names === undefined || !Array.isArray(specifiers)) return;
  for (const specifier of specifiers) {
    if (!isNode(specifier)) continue;
    const imported = specifier["imported"];
    const name = isNode(imported) ? String(imported["name"]) : "*";
    if (name === "*") report(specifier, "everything of node:crypto", "named imports, so that chance cannot slip in");
    else if (names.includes(name)) report(specifier, name, "Rng");
  }
}

/** Whether an identifier names a variable here, rather than a property or a label. */
function isReference(parent: SyntaxNode | undefined, key: string): boolean {
  if (parent === undefined) return true;
  if (key === "property") return parent["computed"] === true;
  // In `{ fetch }` both key and value are the same name; the value is visited as well and counts.
  if (key === "key") return parent["computed"] === true;
  return key !== "label" && key !== "imported" && key !== "exported" && key !== "meta";
}

function memberName(node: SyntaxNode): string | undefined {
  const property = node["property"];
  if (!isNode(property)) return undefined;
  if (node["computed"] !== true) return String(property["name"]);
  return property.type === "Literal" ? String(property["value"]) : undefined;
}

/** `(Date as X).now`, `Date!.now` and `(Date).now` are all Date.now. */
function unwrap(value: unknown): SyntaxNode | undefined {
  let node = value;
  while (isNode(node) && (EXPRESSION_WRAPPERS.has(node.type) || node.type === "ParenthesizedExpression")) {
    node = node["expression"];
  }
  return isNode(node) ? node : undefined;
}

function own<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}
