// `run.json` in a work directory: who runs a job there now, and where its REST is. One run per directory at a time.

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { Failure } from "@sluice/kit";

export interface RunInfo {
  readonly name: string;
  /** Of the supervisor. */
  readonly pid: number;
  readonly restUrl: string | undefined;
}

const FILE = "run.json";

/** Throws when a living process runs a job in this directory. */
export function refuseSecondRun(workDir: string): void {
  const run = readRun(workDir);
  if (run === undefined || run.pid === process.pid || !isAlive(run.pid)) return;
  throw new Failure("ADDRESS_IN_USE", {
    retry: "never",
    message: `job ${run.name} runs already in ${workDir} (process ${run.pid}${run.restUrl === undefined ? "" : `, ${run.restUrl}`})`,
    remedy: `Cancel it (sluice cancel ${run.name}), or give another --name or --work-dir.`,
  });
}

export function announceRun(workDir: string, run: RunInfo): void {
  mkdirSync(workDir, { recursive: true });
  const temporary = join(workDir, `${FILE}.${process.pid}`);
  writeFileSync(temporary, JSON.stringify(run));
  renameSync(temporary, join(workDir, FILE));
}

/** Removes our own announcement, nobody else's. */
export function withdrawRun(workDir: string): void {
  if (readRun(workDir)?.pid === process.pid) rmSync(join(workDir, FILE), { force: true });
}

/** Jobs that run below a directory of work directories (`.sluice`). */
export function listRuns(base: string): readonly RunInfo[] {
  let names: string[];
  try {
    names = readdirSync(base);
  } catch {
    return []; // nothing was ever run here
  }
  return names.flatMap((name) => {
    const run = readRun(join(base, name));
    return run !== undefined && isAlive(run.pid) ? [run] : [];
  });
}

function readRun(workDir: string): RunInfo | undefined {
  try {
    return JSON.parse(readFileSync(join(workDir, FILE), "utf8")) as RunInfo;
  } catch {
    return undefined; // absent, or torn by a crash: nobody to respect
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === "EPERM";
  }
}
