// `sluice` as a user types it, in a directory of its own.
//
// Invariants:
//   CM1. Whatever a test does, `end` leaves no process of its directory behind.
//   CM2. A process belongs to a directory when its command line names it: those of a job do, by their configuration file.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../../packages/cli/src/main.ts", import.meta.url));
const LOOK_INTERVAL_MS = 20;

export interface Typed {
  readonly child: ChildProcess;
  /** Everything printed so far. */
  text(): string;
  /** Resolves with the exit code, null after a signal. */
  readonly exit: Promise<number | null>;
  hasExited(): boolean;
}

export interface TypeOptions {
  readonly directory: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** `node packages/cli/src/main.ts ...`. */
export function type(args: readonly string[], options: TypeOptions): Typed {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: options.directory,
    env: { ...process.env, NODE_OPTIONS: "", ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  let exited = false;
  child.stdout.setEncoding("utf8").on("data", (more: string) => (text += more));
  child.stderr.setEncoding("utf8").on("data", (more: string) => (text += more));
  const exit = new Promise<number | null>((resolve) => {
    child.once("close", (code) => {
      exited = true;
      resolve(code);
    });
  });
  return { child, text: () => text, exit, hasExited: () => exited };
}

/** Process ids whose command line names the directory (CM2); none where there is no /proc. */
export function processesOf(directory: string): readonly number[] {
  return pids().filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(directory);
    } catch {
      return false; // it ended meanwhile
    }
  });
}

function pids(): readonly number[] {
  try {
    return readdirSync("/proc").map(Number).filter(Number.isInteger);
  } catch {
    return [];
  }
}

/** SIGKILL for all processes of the directory, in one stroke: supervisor and all that it started (CM1). */
export function killAll(directory: string, typed: Typed): number {
  const { pid } = typed.child;
  const all = [...new Set([...(typed.hasExited() || pid === undefined ? [] : [pid]), ...processesOf(directory)])];
  for (const one of all) {
    try {
      process.kill(one, "SIGKILL");
    } catch {
      // it ended meanwhile
    }
  }
  return all.length;
}

/** Waits for a condition while the command runs; what was printed is part of the error. */
export async function until(
  what: string,
  look: () => boolean | Promise<boolean>,
  options: { readonly typed?: Typed; readonly timeoutMs: number },
): Promise<void> {
  const { typed, timeoutMs } = options;
  const endMs = performance.now() + timeoutMs;
  while (!(await look())) {
    if (performance.now() > endMs || typed?.hasExited() === true) {
      throw new Error(`waited in vain: ${what}\n${typed?.text() ?? ""}`);
    }
    await sleep(LOOK_INTERVAL_MS);
  }
}
