// A peer is a foreign program that tests run against: an object store, a metrics linter. This file says what all
// peers have in common.
//
// Invariants:
//   R1. A peer that cannot be had is a value with a reason, never an exception: its tests are then listed as skipped,
//       or fail when SLUICE_REQUIRE_PEERS=1.
//   R2. A peer in the cache is complete: it was built beside its place and moved there in one step.
//   R3. Looking for a peer never builds it; preparing it (npm run peers, npm test) does.

import { accessSync, constants, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";

export type PeerState =
  | { readonly available: true; readonly program: string; readonly version: string }
  | { readonly available: false; readonly reason: string };

export interface Peer {
  readonly name: string;
  /** Looks only; takes no time. */
  readonly find: () => PeerState;
  /** Builds or downloads it if need be and possible; may take minutes, and tells so through `say`. */
  readonly prepare: (say: (line: string) => void) => Promise<PeerState>;
}

/** Whether a missing peer is a failure: `.ci/run` sets it, a developer's machine need not have every toolchain. */
export function peersRequired(): boolean {
  return process.env["SLUICE_REQUIRE_PEERS"] === "1";
}

/** Where things live that are costly to make: `$SLUICE_CACHE` or ~/.cache/sluice. An empty one is only slower. */
export function cacheFolder(): string {
  const chosen = process.env["SLUICE_CACHE"];
  return chosen === undefined || chosen === "" ? join(homedir(), ".cache", "sluice") : chosen;
}

/** The program of that name on PATH, or undefined. */
export function findOnPath(name: string): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Fills a new folder beside `place` and moves it there (R2). If somebody else was faster, theirs stays.
 *
 * @throws whatever `fill` throws; nothing is left behind then.
 */
export async function makeInPlace(place: string, fill: (folder: string) => Promise<void>): Promise<void> {
  mkdirSync(dirname(place), { recursive: true });
  const folder = mkdtempSync(`${place}.partial-`);
  try {
    await fill(folder);
    try {
      renameSync(folder, place);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
