// The identity of a job's code: one hash over its module and everything that module imports by relative path.
//
// Invariants:
//   BH1. Plan process and slots compute it by this function; it is part of the plan's digest, so that other code is PLAN_MISMATCH.
//   BH2. It depends on the files' contents and on where they lie relative to the module, not on the folder or machine.
//   BH3. Scanning is tolerant: a specifier that leads to no file changes nothing. Loading the module reports what is missing.
//
// Not here: packages from node_modules (versions belong to whoever installs them), `require`, specifiers computed at run time.

import { createHash } from "node:crypto";
import { readFileSync, realpathSync } from "node:fs";
import { relative, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** Files that can import others; anything else (JSON, WebAssembly) counts by its content alone. */
const MODULE_FILE = /\.[cm]?[jt]sx?$/u;
/** `import "./x"`, `import … from "./x"`, `export … from "./x"`, `import("./x")`; also in comments, which does no harm (BH3). */
const RELATIVE_SPECIFIER = /\b(?:from|import)\s*(?:\(\s*)?(["'])(\.{1,2}\/[^"'\n]*)\1/gu;

/** sha256 hex; "" when the module itself cannot be read or is no file, which loading it reports better. */
export function bundleHash(moduleUrl: string): string {
  if (!moduleUrl.startsWith("file:")) return "";
  const contents = new Map<string, Buffer>();
  const entry = readFile(new URL(moduleUrl));
  if (entry === undefined) return "";
  contents.set(entry.path, entry.bytes);
  // Iterating over a Map also visits what is added meanwhile.
  for (const [path, bytes] of contents) {
    if (!MODULE_FILE.test(path)) continue;
    for (const specifier of relativeSpecifiers(bytes.toString())) {
      const file = readFile(new URL(specifier, pathToFileURL(path)));
      if (file !== undefined) contents.set(file.path, file.bytes);
    }
  }
  const base = fileURLToPath(new URL(".", pathToFileURL(entry.path)));
  const lines = [...contents].map(([path, bytes]) => {
    const name = relative(base, path).replaceAll(sep, "/");
    return `${JSON.stringify(name)} ${createHash("sha256").update(bytes).digest("hex")}\n`;
  });
  return createHash("sha256").update(lines.sort().join("")).digest("hex");
}

/** Specifiers that begin with `./` or `../`, as written. */
export function relativeSpecifiers(source: string): readonly string[] {
  return [...source.matchAll(RELATIVE_SPECIFIER)].map(([, , specifier = ""]) => specifier);
}

/** A file by its real path, as the module loader sees it; undefined: there is none (BH3). */
function readFile(url: URL): { readonly path: string; readonly bytes: Buffer } | undefined {
  try {
    const path = realpathSync(fileURLToPath(url));
    return { path, bytes: readFileSync(path) };
  } catch {
    return undefined;
  }
}
