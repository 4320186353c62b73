// Durable file operations shared by the scratch disk and the file store.
//
// Invariants:
//   D1. A file under its final name is whole: it is written and fsynced under a temporary name first.
//   D2. A name that was reported as written survives a power cut: the directories on the way are fsynced too.
//   D3. Temporary files live in one directory under the root, so that no listing meets them.

import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, open, readdir, rename, rm, rmdir, stat, unlink } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";

import { checkPath } from "../paths.ts";
import type { ObjectInfo } from "../storage.ts";

/** Directory under the root for files that are not whole yet. */
export const TEMP_DIR = ".sluice-tmp";
/** Temporary files older than this belong to a writer that died. */
export const TEMP_AGE_MS_MAX = 3_600_000;
const MAKE_ATTEMPTS_MAX = 8;
const READ_CHUNK_BYTES_MAX = 1 << 30;

export function errnoOf(error: unknown): string {
  const code = (error as { readonly code?: unknown } | null | undefined)?.code;
  return typeof code === "string" ? code : "";
}

/** True when the file system said that there is no such file (or that its parent is a file, or that it is a directory). */
export function isAbsent(error: unknown): boolean {
  const code = errnoOf(error);
  return code === "ENOENT" || code === "ENOTDIR" || code === "EISDIR";
}

/** The place of `path` under `root`; throws CONFIG_INVALID for paths that would leave it or meet the temporary files. */
export function under(root: string, path: string): string {
  checkPath(path);
  return join(root, path);
}

/**
 * Makes a directory and those above it, and fsyncs every directory that got a new entry (D2). Not `mkdir` with `recursive`:
 * that one never ends where an existing directory answers ENOENT to a new entry, as /proc does.
 */
export async function makeDirs(dir: string): Promise<void> {
  const above = dirname(dir);
  for (let attempt = 1; ; attempt += 1) {
    try {
      await mkdir(dir);
      break;
    } catch (error) {
      const code = errnoOf(error);
      if (code === "EEXIST") {
        if (await isDirectory(dir)) return;
        throw Object.assign(new Error(`ENOTDIR: ${dir} is not a directory`, { cause: error }), { code: "ENOTDIR" });
      }
      // Others make and clean up the same directories at the same time, hence a few attempts.
      if (code !== "ENOENT" || above === dir || attempt === MAKE_ATTEMPTS_MAX) throw error;
      if (!(await isDirectory(above))) await makeDirs(above);
    }
  }
  await syncDir(above);
}

async function isDirectory(dir: string): Promise<boolean> {
  try {
    return (await stat(dir)).isDirectory();
  } catch {
    return false;
  }
}

/** fsync of a directory. */
export async function syncDir(dir: string): Promise<void> {
  const handle = await open(dir, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes and fsyncs a new temporary file; returns its name. Leaves nothing behind when it fails. */
export async function writeTemp(root: string, pieces: readonly Uint8Array[]): Promise<string> {
  const dir = join(root, TEMP_DIR);
  const temp = join(dir, `${process.pid}-${randomBytes(9).toString("base64url")}`);
  let handle: FileHandle;
  try {
    handle = await open(temp, "wx");
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
    await makeDirs(dir);
    handle = await open(temp, "wx");
  }
  try {
    try {
      for (const piece of pieces) await handle.writeFile(piece); // each goes on where the one before ended
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    await rm(temp, { force: true }).catch(() => {});
    throw error;
  }
  return temp;
}

/** Runs `place`, making the target's directory when it is missing; a concurrent clean-up may take it away again, hence the loop. */
export async function withTargetDir<T>(target: string, place: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await place();
    } catch (error) {
      if (errnoOf(error) !== "ENOENT" || attempt > 8) throw error;
      await makeDirs(dirname(target));
    }
  }
}

/** Replaces or creates the target by the temporary file, atomically. */
export async function placeOver(temp: string, target: string): Promise<void> {
  await withTargetDir(target, () => rename(temp, target));
}

/** The bytes [offset, offset + length) of a file, fewer at its end; undefined when there is none. */
export async function readRange(file: string, offset: number, lengthBytes: number): Promise<Uint8Array | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(file, "r");
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
  try {
    const info = await handle.stat();
    if (info.isDirectory()) return undefined;
    const length = Math.max(0, Math.min(lengthBytes, info.size - offset));
    const bytes = new Uint8Array(length);
    let got = 0;
    while (got < length) {
      const { bytesRead } = await handle.read(bytes, got, Math.min(length - got, READ_CHUNK_BYTES_MAX), offset + got);
      if (bytesRead === 0) break;
      got += bytesRead;
    }
    return got === length ? bytes : bytes.subarray(0, got);
  } finally {
    await handle.close();
  }
}

/** Size and age of a file, undefined when there is none (a directory is none). */
export async function statFile(root: string, path: string): Promise<ObjectInfo | undefined> {
  try {
    const info = await stat(under(root, path));
    return info.isFile() ? { path, sizeBytes: info.size, modifiedMs: info.mtimeMs } : undefined;
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/** All files whose path starts with `prefix`, ascending; temporary files excepted. */
export async function listFiles(root: string, prefix: string): Promise<ObjectInfo[]> {
  const start = prefix.slice(0, prefix.lastIndexOf("/") + 1);
  if (start !== "") checkPath(start.slice(0, -1));
  const found: ObjectInfo[] = [];
  const open: string[] = [start];
  for (let dir = open.pop(); dir !== undefined; dir = open.pop()) {
    let entries;
    try {
      entries = await readdir(join(root, dir), { withFileTypes: true });
    } catch (error) {
      if (isAbsent(error)) continue;
      throw error;
    }
    for (const entry of entries) {
      const path = dir + entry.name;
      if (path === TEMP_DIR) continue;
      if (entry.isDirectory()) {
        if (path.startsWith(prefix) || prefix.startsWith(`${path}/`)) open.push(`${path}/`);
      } else if (entry.isFile() && path.startsWith(prefix)) {
        const info = await statFile(root, path); // absent: removed meanwhile
        if (info !== undefined) found.push(info);
      }
    }
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

/** Removes a file and the directories that this left empty, as an object store has none. Absent is success. */
export async function removeFile(root: string, path: string): Promise<void> {
  const file = under(root, path);
  try {
    await unlink(file);
  } catch (error) {
    if (!isAbsent(error)) {
      // Linux says EISDIR, others EPERM, for a directory: an object of that name does not exist.
      if (errnoOf(error) === "EPERM" && (await statFile(root, path)) === undefined) return;
      throw error;
    }
    return;
  }
  for (let dir = dirname(file); dir.length > root.length; dir = dirname(dir)) {
    try {
      await rmdir(dir);
    } catch {
      return; // not empty, or somebody else was faster: both fine
    }
  }
}

/** Deletes temporary files of writers that died. Best effort: what cannot be removed is left for the next time. */
export async function sweepTemps(root: string, nowWallMs: number): Promise<void> {
  const dir = join(root, TEMP_DIR);
  let names: string[];
  try {
    names = await readdir(dir);
  } catch {
    return;
  }
  for (const name of names) {
    try {
      const file = join(dir, name);
      if (nowWallMs - (await stat(file)).mtimeMs > TEMP_AGE_MS_MAX) await unlink(file);
    } catch {
      // a racing sweep took it
    }
  }
}
