// Files on this machine, as file sources and sinks use them. The only file of this folder that touches the system.
//
// Invariants:
//   LF1. Everything thrown is a Failure that names the path and the remedy: INPUT_NOT_FOUND, STORAGE_DENIED, DISK_FULL,
//        DISK_FAILED, CONFIG_INVALID (a directory to write to that can never be made).
//   LF2. What must be durable is so only after `sync` of the file and `syncDirectory` of its directory.
//
// Not here: the protocol of pending and published files (pending-files.ts), formats (file-source.ts).

import fs from "node:fs";
import { join } from "node:path";
import { Failure } from "@sluice/kit";

export interface LocalFiles {
  makeDirectory(path: string): void;
  /** Names in a directory. */
  list(directory: string): readonly string[];
  exists(path: string): boolean;
  /** Creates a file that must not exist, for writing; returns its descriptor. */
  create(path: string): number;
  /** Appends all bytes. */
  write(descriptor: number, bytes: Uint8Array, path: string): void;
  sync(descriptor: number, path: string): Promise<void>;
  syncNow(descriptor: number, path: string): void;
  close(descriptor: number): void;
  /** Replaces `to` when it exists. */
  rename(from: string, to: string): void;
  /** Absent is success. */
  remove(path: string): void;
  syncDirectory(path: string): void;

  /**
   * The files that a path means: itself, all regular files below a directory, or what matches a pattern (* ** ? [] {}), in no order.
   * Undefined: nothing is there, and it is no pattern.
   */
  expand(path: string): readonly string[] | undefined;
  /** Size of a regular file that must exist. */
  sizeOf(path: string): Promise<number>;
  /** Opens for reading. */
  open(path: string): Promise<number>;
  /** Bytes [position, position + lengthBytes); fewer only at the end of the file. */
  read(descriptor: number, position: number, lengthBytes: number, path: string): Promise<Buffer>;

  /** To standard output, in order, without waiting. */
  print(text: string): void;
}

/** The Failure of a system error (LF1); `doing` completes "cannot ...". */
export function diskFailure(thrown: unknown, doing: string, path: string): Failure {
  const code = (thrown as { code?: unknown }).code;
  const reason = thrown instanceof Error || Error.isError(thrown) ? (thrown as Error).message : String(thrown);
  const message = `cannot ${doing} ${path}: ${reason}`;
  switch (code) {
    case "ENOSPC":
    case "EDQUOT":
      return new Failure("DISK_FULL", {
        retry: "backoff",
        message,
        remedy: `free space on the file system of ${path}; the job goes on from its last checkpoint, nothing is lost`,
        cause: thrown,
      });
    case "ENOENT":
    case "EISDIR":
    case "ENOTDIR":
      return new Failure("INPUT_NOT_FOUND", {
        retry: "never",
        message,
        remedy: "check the path; it must exist on every machine that runs a TaskManager",
        cause: thrown,
      });
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new Failure("STORAGE_DENIED", {
        retry: "never",
        message,
        remedy: "give the user that runs the job access to this path",
        cause: thrown,
      });
    default:
      return new Failure("DISK_FAILED", {
        retry: "backoff",
        message,
        remedy: "check the disk and its file system",
        cause: thrown,
      });
  }
}

/** A directory to write to that can never be made, because something on its path is no directory. */
function directoryFailure(thrown: unknown, path: string): Failure {
  const { code } = thrown as { code?: unknown };
  if (code !== "ENOTDIR" && code !== "EEXIST" && code !== "ENOENT")
    return diskFailure(thrown, "create directory", path);
  return new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `cannot create directory ${path}: ${(thrown as Error).message}`,
    remedy: "give a directory that exists, or can be made, on every machine that runs a TaskManager",
    cause: thrown,
  });
}

function attempt<T>(doing: string, path: string, action: () => T): T {
  try {
    return action();
  } catch (thrown) {
    throw diskFailure(thrown, doing, path);
  }
}

function settle<T>(
  doing: string,
  path: string,
  start: (done: (error: Error | null, value: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    start((error, value) => (error === null ? resolve(value) : reject(diskFailure(error, doing, path))));
  });
}

/** The real ones. */
export const localFiles: LocalFiles = {
  makeDirectory(path) {
    try {
      fs.mkdirSync(path, { recursive: true });
    } catch (thrown) {
      throw directoryFailure(thrown, path);
    }
    attempt("write to directory", path, () => fs.accessSync(path, fs.constants.W_OK));
  },
  list: (directory) => attempt("list directory", directory, () => fs.readdirSync(directory)),
  exists: (path) => fs.existsSync(path),
  create: (path) => attempt("create", path, () => fs.openSync(path, "wx")),
  write(descriptor, bytes, path) {
    attempt("write", path, () => {
      for (let done = 0; done < bytes.byteLength;) done += fs.writeSync(descriptor, bytes, done);
    });
  },
  sync: (descriptor, path) =>
    settle<void>("sync", path, (done) => fs.fsync(descriptor, (error) => done(error, undefined))),
  syncNow(descriptor, path) {
    attempt("sync", path, () => fs.fsyncSync(descriptor));
  },
  close(descriptor) {
    fs.closeSync(descriptor);
  },
  rename(from, to) {
    attempt("rename", from, () => fs.renameSync(from, to));
  },
  remove(path) {
    attempt("remove", path, () => fs.rmSync(path, { force: true }));
  },
  syncDirectory(path) {
    attempt("sync directory", path, () => {
      const descriptor = fs.openSync(path, "r");
      try {
        fs.fsyncSync(descriptor);
      } finally {
        fs.closeSync(descriptor);
      }
    });
  },
  expand(path) {
    const stats = fs.statSync(path, { throwIfNoEntry: false });
    if (stats?.isFile() === true) return [path];
    if (stats?.isDirectory() === true) {
      const entries = attempt("list directory", path, () =>
        fs.readdirSync(path, { recursive: true, withFileTypes: true }),
      );
      return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    }
    if (!/[*?[{]/u.test(path)) return undefined;
    return attempt("list", path, () =>
      fs.globSync(path).filter((found) => fs.statSync(found, { throwIfNoEntry: false })?.isFile() === true),
    );
  },
  async sizeOf(path) {
    const stats = await settle<fs.Stats>("read", path, (done) => fs.stat(path, done));
    if (stats.isFile()) return stats.size;
    throw new Failure("INPUT_NOT_FOUND", {
      retry: "never",
      message: `cannot read ${path}: it is not a regular file`,
      remedy: "name files, not directories",
    });
  },
  open: (path) => settle<number>("open", path, (done) => fs.open(path, "r", done)),
  async read(descriptor, position, lengthBytes, path) {
    const buffer = Buffer.allocUnsafe(lengthBytes);
    let done = 0;
    while (done < lengthBytes) {
      const from = done;
      const count = await settle<number>("read", path, (settled) =>
        fs.read(descriptor, buffer, from, lengthBytes - from, position + from, settled),
      );
      if (count === 0) break;
      done += count;
    }
    return buffer.subarray(0, done);
  },
  print(text) {
    process.stdout.write(text);
  },
};
