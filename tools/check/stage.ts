// What a stage of `npm run check` is, and the few helpers every stage shares.
//
// Invariants:
//   K1. A stage that looked at nothing has failed: an empty input never passes (a wrong glob would hide everything).
//   K2. A problem names file and line where there is one.
//
// Not here: the stages themselves, and how they are reported (main.ts).

import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, matchesGlob } from "node:path";

/** One thing to correct. `file` is relative to the root; `line` counts from 1. */
export interface Problem {
  readonly file: string;
  readonly line?: number;
  readonly message: string;
}

export interface StageResult {
  /** How many things were looked at; zero fails the stage (K1), unless `nothingToDo` explains it. */
  readonly checkedCount: number;
  /** What was counted, for people: "files", "imports". */
  readonly unit: string;
  readonly problems: readonly Problem[];
  /** Set when there is rightly nothing to check yet; the stage is then reported as neither passed nor failed. */
  readonly nothingToDo?: string;
}

export interface Stage {
  readonly name: string;
  readonly about: string;
  readonly run: (root: string) => Promise<StageResult>;
}

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end and collects what it printed. Never throws for an exit code. */
export function runCommand(options: {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
}): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(options.command, options.args, { cwd: options.cwd, stdio: ["ignore", "pipe", "pipe"] });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
    child.on("error", reject);
    child.on("close", (code) =>
      resolve({ code: code ?? 1, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }),
    );
  });
}

/** The script behind a package's command, found from this file: the tree under check need not have node_modules. */
export function toolScript(packageName: string, binName: string): string {
  const require = createRequire(import.meta.url);
  let folder = dirname(require.resolve(packageName));
  for (;;) {
    const manifest = join(folder, "package.json");
    if (existsSync(manifest)) {
      const parsed = JSON.parse(readFileSync(manifest, "utf8")) as {
        readonly name?: string;
        readonly bin?: string | Readonly<Record<string, string>>;
      };
      const script = typeof parsed.bin === "string" ? parsed.bin : parsed.bin?.[binName];
      if (parsed.name === packageName && script !== undefined) return join(folder, script);
    }
    if (dirname(folder) === folder) throw new Error(`package ${packageName} has no command ${binName}`);
    folder = dirname(folder);
  }
}

/**
 * Every file of the tree that git knows or would add, sorted; deleted ones are left out. Git decides, so that what is
 * ignored stays ignored everywhere.
 */
export async function listFiles(root: string): Promise<readonly string[]> {
  const args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const { code, stdout, stderr } = await runCommand({ command: "git", args, cwd: root });
  if (code !== 0) throw new Error(`git ls-files failed in ${root}: ${stderr.trim()}`);
  const names = new Set(stdout.split("\0").filter((name) => name !== ""));
  return [...names].filter((name) => existsSync(join(root, name))).toSorted();
}

export function matchesAny(file: string, globs: readonly string[]): boolean {
  return globs.some((glob) => matchesGlob(file, glob));
}
