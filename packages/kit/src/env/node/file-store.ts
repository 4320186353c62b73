// Object store in a directory: `file:///dir`. For one machine, or for a mount that all nodes share and that has hard links.
//
// Invariants (besides S1-S3 of ../storage.ts):
//   FS1. putIfAbsent creates by link(), which fails when the name exists: rename() would overwrite.
//   FS2. Until link() or rename() was called nothing has happened, so a failure is definite; from then on it is `unknown`.

import { link, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { pathToFileURL } from "node:url";
import { stat } from "node:fs/promises";

import { throwIfAborted } from "../../async.ts";
import { assert } from "../../assert.ts";
import { Failure } from "../../failure.ts";
import { CONDITIONAL_BYTES_MAX } from "../storage.ts";
import type { ObjectInfo, ObjectStore, PutIfAbsentOutcome, PutOutcome } from "../storage.ts";
import {
  errnoOf,
  listFiles,
  placeOver,
  readRange,
  removeFile,
  statFile,
  sweepTemps,
  syncDir,
  under,
  withTargetDir,
  writeTemp,
} from "./files.ts";

export class FileObjectStore implements ObjectStore {
  readonly uri: string;
  readonly #root: string;
  #swept = false;

  /** `root`: absolute directory, made by the first write. */
  constructor(root: string) {
    assert(root.startsWith("/"), "the root is absolute");
    this.#root = root.length > 1 ? root.replace(/\/+$/, "") : root;
    this.uri = pathToFileURL(this.#root).href;
  }

  async get(path: string, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    return await this.getRange(path, { offset: 0, lengthBytes: Number.MAX_SAFE_INTEGER }, signal);
  }

  async getRange(
    path: string,
    range: { readonly offset: number; readonly lengthBytes: number },
    signal?: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    assert(range.offset >= 0 && range.lengthBytes >= 0, "a range is not negative");
    const file = under(this.#root, path);
    return await this.#attempt("read", path, signal, () => readRange(file, range.offset, range.lengthBytes));
  }

  async put(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutOutcome> {
    const target = under(this.#root, path);
    const temp = await this.#attempt("write", path, signal, () => this.#temp(bytes));
    try {
      throwIfAborted(signal, `put ${path}`);
      await placeOver(temp, target);
    } catch (error) {
      await unlink(temp).catch(() => {});
      throw this.#failure("write", path, error);
    }
    return (await this.#synced(target)) ? "stored" : "unknown";
  }

  async putIfAbsent(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutIfAbsentOutcome> {
    assert(bytes.length <= CONDITIONAL_BYTES_MAX, "a conditional object is at most 32 MiB");
    const target = under(this.#root, path);
    const temp = await this.#attempt("create", path, signal, () => this.#temp(bytes));
    let created: boolean;
    try {
      throwIfAborted(signal, `putIfAbsent ${path}`);
      created = await linkOnce(temp, target);
    } catch (error) {
      throw this.#failure("create", path, error);
    } finally {
      await unlink(temp).catch(() => {}); // a left-over is swept later
    }
    // Also for "exists": the creator may have died before its fsync, and our caller will build on what it reads (S3).
    const synced = await this.#synced(target);
    if (!synced) return "unknown";
    return created ? "created" : "exists";
  }

  async stat(path: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    return await this.#attempt("stat", path, signal, () => statFile(this.#root, path));
  }

  async list(prefix: string, signal?: AbortSignal): Promise<readonly ObjectInfo[]> {
    return await this.#attempt("list", prefix, signal, () => listFiles(this.#root, prefix));
  }

  async remove(path: string, signal?: AbortSignal): Promise<void> {
    await this.#attempt("remove", path, signal, () => removeFile(this.#root, path));
  }

  async #temp(bytes: Uint8Array): Promise<string> {
    if (!this.#swept) {
      this.#swept = true;
      await sweepTemps(this.#root, Date.now());
    }
    return await writeTemp(this.#root, [bytes]);
  }

  /** False when the new name may not survive a power cut (FS2). Removed meanwhile counts as synced. */
  async #synced(target: string): Promise<boolean> {
    try {
      await syncDir(dirname(target));
      return true;
    } catch (error) {
      return errnoOf(error) === "ENOENT";
    }
  }

  async #attempt<T>(verb: string, path: string, signal: AbortSignal | undefined, run: () => Promise<T>): Promise<T> {
    throwIfAborted(signal, `${verb} ${path}`);
    try {
      return await run();
    } catch (error) {
      throw this.#failure(verb, path, error);
    }
  }

  #failure(verb: string, path: string, error: unknown): unknown {
    const errno = errnoOf(error);
    if (!/^E[A-Z0-9]+$/.test(errno)) return error; // a Failure already, or a bug
    const message = `cannot ${verb} ${path} in ${this.uri}: ${(error as Error).message}`;
    if (errno === "ENOSPC" || errno === "EDQUOT" || errno === "EFBIG") {
      return new Failure("STORAGE_FULL", {
        retry: "backoff",
        message,
        remedy: "Free space there, or move the checkpoints to a larger volume.",
        cause: error,
      });
    }
    if (errno === "EACCES" || errno === "EPERM" || errno === "EROFS") {
      return new Failure("STORAGE_DENIED", {
        retry: "never",
        message,
        remedy: "Let this process's user write to the directory; the volume must be writable and support hard links.",
        cause: error,
      });
    }
    if (errno === "ENOTSUP" || errno === "EOPNOTSUPP" || errno === "EMLINK" || errno === "EXDEV") {
      return new Failure("STORAGE_DENIED", {
        retry: "never",
        message,
        remedy:
          "This file system has no hard links inside of the directory, which creating a name once needs; use another volume or s3://.",
        cause: error,
      });
    }
    if (errno === "ENOTDIR" || errno === "EISDIR" || errno === "ENOTEMPTY") {
      return new Failure("STORAGE_CONFLICT", {
        retry: "never",
        message,
        remedy: "A file stands where a directory is needed, or the other way round; use another directory.",
        cause: error,
      });
    }
    return new Failure("STORAGE_UNAVAILABLE", {
      retry: "backoff",
      message,
      remedy: "Check the mount; it is tried again.",
      cause: error,
    });
  }
}

/** True when this call made the name; false when it existed. */
async function linkOnce(temp: string, target: string): Promise<boolean> {
  try {
    await withTargetDir(target, () => link(temp, target));
    return true;
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
    // NFS repeats a call whose answer got lost: two names for our file mean that the first try was ours.
    return (await stat(temp)).nlink === 2;
  }
}
