// Stages "lock file" and "traces": nothing in the repository depends on, or tells about, the machine it was made on.
//
// Invariants:
//   H1. The lock file has no download address: everybody's own registry setting decides where packages come from.
//   H2. What the lock file names has a checksum, unless it is one of our own folders.
//   H3. No committed text holds a home directory or the host name of a package registry.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { listFiles } from "./stage.ts";
import type { Problem, StageResult } from "./stage.ts";

interface LockEntry {
  readonly resolved?: string;
  readonly link?: boolean;
  readonly integrity?: string;
}

export async function checkLockFile(root: string): Promise<StageResult> {
  const file = "package-lock.json";
  const text = readFileSync(join(root, file), "utf8");
  const lock = JSON.parse(text) as { readonly packages?: Readonly<Record<string, LockEntry>> };
  const lines = text.split("\n");
  const problems: Problem[] = [];
  const entries = Object.entries(lock.packages ?? {}).filter(([name]) => name.startsWith("node_modules/"));
  for (const [name, entry] of entries) {
    const line = lines.findIndex((candidate) => candidate.includes(`"${name}": {`)) + 1;
    if (entry.link === true) continue;
    if (entry.resolved !== undefined) {
      const message = `${name} has a download address; .npmrc must say omit-lockfile-registry-resolved=true`;
      problems.push({ file, line, message });
    }
    if (entry.integrity === undefined) problems.push({ file, line, message: `${name} has no checksum` });
  }
  return Promise.resolve({ checkedCount: entries.length, unit: "packages", problems });
}

/** Written so that this file does not contain what it looks for. */
const TRACES: readonly { readonly pattern: RegExp; readonly what: string }[] = [
  { pattern: /(?<![\w./-])\/(?:root|work|home\/\w+|Users\/\w+)\/[\w.-]/, what: "a path of somebody's machine" },
  {
    pattern: new RegExp(
      [
        ["registry", "npmjs", "org"],
        ["registry", "yarnpkg", "com"],
        ["proxy", "golang", "org"],
        ["sum", "golang", "org"],
        ["files", "pythonhosted", "org"],
        ["pypi", "org"],
        ["static", "crates", "io"],
        ["index", "crates", "io"],
        ["repo1?", "maven", "apache", "org"],
        ["deb", "debian", "org"],
      ]
        .map((parts) => `\\b${parts.join("\\.")}\\b`)
        .join("|"),
    ),
    what: "the host name of a package registry",
  },
];

export async function checkTraces(root: string): Promise<StageResult> {
  const problems: Problem[] = [];
  let checkedCount = 0;
  for (const file of await listFiles(root)) {
    const bytes = readFileSync(join(root, file));
    if (bytes.subarray(0, 8000).includes(0)) continue; // not text
    checkedCount += 1;
    for (const [index, text] of bytes.toString("utf8").split("\n").entries()) {
      for (const { pattern, what } of TRACES) {
        if (pattern.test(text)) problems.push({ file, line: index + 1, message: `contains ${what}` });
      }
    }
  }
  return { checkedCount, unit: "text files", problems };
}
