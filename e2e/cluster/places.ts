// Where the driver keeps things. What is costly to make lies in the cache under a name that says what it was made of;
// what belongs to the cluster that runs now lies in `state`. Removing any of it is safe when no cluster runs.

import { createHash } from "node:crypto";
import { existsSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { cacheFolder } from "@sluice/tools/peers";

import { Stop } from "./terminal.ts";

const LOCK_PATIENCE_MS = 30 * 60_000;
const LOCK_POLL_INTERVAL_MS = 300;

/** Engines are shared in public mode, and so are the names of clusters: two caches need two names. */
export const CLUSTER_NAME = process.env["SLUICE_CLUSTER_NAME"] ?? "sluice-e2e";

/** A folder or file of the cache. */
export function cached(...names: readonly string[]): string {
  return join(cacheFolder(), "cluster", ...names);
}

/** A file of the running cluster; the folder exists. */
export function state(...names: readonly string[]): string {
  mkdirSync(cached("state"), { recursive: true, mode: 0o700 });
  return cached("state", ...names);
}

export function kubeconfigPath(): string {
  return state("kubeconfig");
}

/** The folder that `env` puts first on PATH: kind, helm, kubectl and docker as this cluster uses them. */
export function programsFolder(): string {
  const folder = state("bin");
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Makes a program of programsFolder. */
export function offerProgram(name: string, target: string): void {
  const link = join(programsFolder(), name);
  rmSync(link, { force: true });
  symlinkSync(target, link);
}

/** A short name for this cache, for what must lie outside it: sockets have paths of at most 108 bytes. */
export function cacheId(): string {
  return createHash("sha256").update(cached()).digest("hex").slice(0, 8);
}

/** What is known of the cluster that was made last; written when it was complete. */
export interface ClusterRecord {
  readonly mode: "public" | "own";
  /** Everything that decides what the cluster is: another value asks for another cluster. */
  readonly key: string;
  readonly nodeImage: string;
  /** Image reference -> id of the image that the nodes have under it. */
  readonly loaded: Readonly<Record<string, string>>;
}

export function readRecord(): ClusterRecord | undefined {
  const path = state("cluster.json");
  if (!existsSync(path)) return undefined;
  try {
    return JSON.parse(readFileSync(path, "utf8")) as ClusterRecord;
  } catch {
    return undefined; // a machine that went down while it was written
  }
}

export function writeRecord(record: ClusterRecord | undefined): void {
  const path = state("cluster.json");
  if (record === undefined) return rmSync(path, { force: true });
  writeFileSync(`${path}.partial`, `${JSON.stringify(record, undefined, 2)}\n`);
  renameSync(`${path}.partial`, path);
}

/**
 * One driver at a time works on the cluster; the others wait. The lock names a process; one that ended has left it behind.
 *
 * @throws Stop when another one has been at work for longer than `patienceMs`.
 */
export async function withLock<T>(body: () => Promise<T>, patienceMs = LOCK_PATIENCE_MS): Promise<T> {
  const path = state("lock");
  const own = state(`lock.${process.pid}`);
  writeFileSync(own, processIdentity(process.pid) ?? "");
  const deadlineMs = performance.now() + patienceMs;
  try {
    for (let told = false; !isLinked(own, path); told = true) {
      const holder = existsSync(path) ? readFileSync(path, "utf8") : "";
      const pid = Number(holder.split(" ")[0]);
      if (processIdentity(pid) !== holder) {
        rmSync(path, { force: true });
      } else if (performance.now() > deadlineMs) {
        throw new Stop(`process ${pid} is working on the cluster`, "wait until it has ended and run the command again");
      } else {
        if (!told) console.error(`process ${pid} is working on the cluster; waiting for it`);
        await sleep(LOCK_POLL_INTERVAL_MS);
      }
    }
  } finally {
    rmSync(own, { force: true });
  }
  try {
    return await body();
  } finally {
    rmSync(path, { force: true });
  }
}

/** Makes `path` another name of the file `own`; false when it exists. Whoever sees it sees all that it says. */
function isLinked(own: string, path: string): boolean {
  try {
    linkSync(own, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Process id and start time: ids are used again, and after a restart of the machine they mean nothing. */
export function processIdentity(pid: number): string | undefined {
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  try {
    if (!existsSync("/proc/self/stat")) return process.kill(pid, 0) ? `${pid} alive` : undefined;
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name in parentheses may hold spaces; the start time is the twentieth field behind it.
    return `${pid} ${text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? ""}`;
  } catch {
    return undefined;
  }
}
