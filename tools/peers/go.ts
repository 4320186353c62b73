// Programs out of Go modules, built into the cache: what the peers and the test cluster have in common.
//
// Invariants:
//   GO1. The key of a build covers all that decides what comes out: sources, pinned versions, flags, platform. (Not the
//        version of the Go toolchain: a program that one of them built is as good.)
//   GO2. What is built needs no C compiler and no library of this machine: it runs in an empty container image.
//   GO3. Go's own cache holds what was compiled, so a build that was interrupted goes on where it stopped.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { runToEnd } from "./command.ts";
import { findOnPath, makeInPlace } from "./peer.ts";

const PROGRESS_INTERVAL_MS = 30_000;
const FAILURE_LINES_MAX = 8;
const TRIM_FLAGS = ["-trimpath", "-buildvcs=false"];

export interface GoBuild {
  /** A folder with go.mod and go.sum; left out for a package with its version, as `go install` wants it. */
  readonly moduleFolder?: string;
  /** Program name -> package, for example "etcd": "go.etcd.io/etcd/server/v3", or "kind": "sigs.k8s.io/kind@v0.33.0". */
  readonly programs: Readonly<Record<string, string>>;
  /** `-X name=value` for the linker. */
  readonly linkerVariables?: Readonly<Record<string, string>>;
}

/** GO1. Ten hexadecimal digits. */
export function goBuildKey(build: GoBuild): string {
  const hash = createHash("sha256").update(`${process.platform}-${process.arch}\n`);
  hash.update(JSON.stringify([build.programs, build.linkerVariables ?? {}, TRIM_FLAGS]));
  if (build.moduleFolder !== undefined) {
    for (const [name, text] of sourcesOf(build.moduleFolder)) hash.update(`\n${name}\n`).update(text);
  }
  return hash.digest("hex").slice(0, 10);
}

function sourcesOf(folder: string): readonly (readonly [string, Buffer])[] {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).toSorted();
  return names
    .filter((name) => /\.go$|(?:^|\/)go\.(?:mod|sum)$/u.test(name))
    .map((name) => [name, readFileSync(join(folder, name))]);
}

/** Why Go cannot build here, or undefined when it can. */
export function whyNoGo(): string | undefined {
  return findOnPath("go") === undefined
    ? "there is no Go toolchain on PATH to build it with (https://go.dev/dl)"
    : undefined;
}

/**
 * Builds all programs of `build` into the folder `into`.
 *
 * @throws Error with the last lines that Go printed.
 */
export async function buildWithGo(build: GoBuild, into: string): Promise<void> {
  const go = findOnPath("go");
  if (go === undefined) throw new Error(whyNoGo());
  const variables = Object.entries(build.linkerVariables ?? {}).map(([name, value]) => ` -X ${name}=${value}`);
  const flags = [...TRIM_FLAGS, "-ldflags", `-s -w${variables.join("")}`];
  // GOGC: the compiler of large modules spends a sixth of its time collecting garbage that would fit into memory.
  const env = { ...process.env, CGO_ENABLED: "0", GOBIN: into, GOGC: process.env["GOGC"] ?? "400" };
  for (const [program, name] of Object.entries(build.programs)) {
    const args = name.includes("@")
      ? ["install", ...flags, name]
      : ["build", ...flags, "-o", join(into, program), name];
    const { code, output } = await runToEnd({ command: go, args, cwd: build.moduleFolder ?? tmpdir(), env });
    if (code !== 0) throw new Error(output.trim().split("\n").slice(-FAILURE_LINES_MAX).join("\n"));
  }
}

/**
 * Fills `place` once, and tells how long it has been at it. What is a build's name in sentences, for example "MinIO v1".
 *
 * @returns why it failed, or undefined; nothing is left behind in `place` then.
 */
export async function buildInPlace(options: {
  readonly what: string;
  readonly place: string;
  readonly say: (line: string) => void;
  readonly fill: (folder: string) => Promise<void>;
}): Promise<string | undefined> {
  const { what, place, say, fill } = options;
  const startedMs = performance.now();
  const seconds = (): number => Math.round((performance.now() - startedMs) / 1000);
  say(`building ${what}; this takes some minutes, once`);
  const ticker = setInterval(() => say(`still building ${what} (${seconds()} s)`), PROGRESS_INTERVAL_MS);
  try {
    await makeInPlace(place, fill);
    say(`built ${what} in ${seconds()} s`);
    return undefined;
  } catch (error) {
    return `building ${what} failed: ${error instanceof Error ? error.message : String(error)}`;
  } finally {
    clearInterval(ticker);
  }
}
