// TypeScript sources as the checking tools see them: imports with lines, and the syntax tree, by oxc-parser.
//
// Invariants:
//   P1. A file that does not parse is an error of the check, never silently without imports.
//   P2. Type imports count like value imports: a cycle of types is a cycle of thoughts.
//
// Not here: any rule (layers.ts, tripwires.ts).

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { parseSync } from "oxc-parser";

export interface ImportOf {
  /** As written: "./x.ts", "node:fs", "@sluice/kit/env". */
  readonly specifier: string;
  readonly line: number;
}

/** A node of the syntax tree, as plain data. */
export interface SyntaxNode {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

export interface SourceFile {
  readonly file: string;
  readonly imports: readonly ImportOf[];
  readonly program: SyntaxNode;
  readonly lineAt: (offset: number) => number;
}

export function isSourceFile(file: string): boolean {
  return /\.(ts|mts|mjs|js)$/.test(file) && !file.endsWith(".d.ts");
}

/** Parses one file. Throws with file and line when it is not TypeScript (P1). */
export function parseSource(root: string, file: string): SourceFile {
  const text = readFileSync(join(root, file), "utf8");
  const lineAt = lineFinder(text);
  const parsed = parseSync(file, text, { sourceType: "module" });
  const error = parsed.errors[0];
  if (error !== undefined) {
    const line = lineAt(error.labels[0]?.start ?? 0);
    throw new Error(`${file}:${line}: does not parse: ${error.message}`);
  }
  const program = parsed.program as unknown as SyntaxNode;
  const imports: ImportOf[] = [];
  walk(program, (node) => {
    const source = importSource(node);
    if (source !== undefined) imports.push({ specifier: source, line: lineAt(node.start) });
    return true;
  });
  return { file, imports, program, lineAt };
}

/** Visits every node; `visit` returning false leaves out what is below. `key` and `parent` tell where the node sits. */
export function walk(
  node: SyntaxNode,
  visit: (node: SyntaxNode, parent: SyntaxNode | undefined, key: string) => boolean,
  parent?: SyntaxNode,
  key = "",
): void {
  if (!visit(node, parent, key)) return;
  for (const name of Object.keys(node)) {
    const value = node[name];
    if (Array.isArray(value)) {
      for (const item of value) if (isNode(item)) walk(item, visit, node, name);
    } else if (isNode(value)) {
      walk(value, visit, node, name);
    }
  }
}

export function isNode(value: unknown): value is SyntaxNode {
  return typeof value === "object" && value !== null && typeof (value as { readonly type?: unknown }).type === "string";
}

const IMPORTING = new Set([
  "ImportDeclaration",
  "ExportNamedDeclaration",
  "ExportAllDeclaration",
  "ImportExpression",
  "TSImportType",
]);

/** What a node imports from; an `import(expression)` that is no literal imports nothing that a tool could follow. */
function importSource(node: SyntaxNode): string | undefined {
  if (!IMPORTING.has(node.type)) return undefined;
  const source = node["source"];
  if (!isNode(source) || source.type !== "Literal") return undefined;
  const value = source["value"];
  return typeof value === "string" ? value : undefined;
}

function lineFinder(text: string): (offset: number) => number {
  const starts = [0];
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return (offset) => {
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((starts[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return low + 1;
  };
}
