// The scratch disk of one process: a directory of its own.

import { unlink } from "node:fs/promises";

import { Failure } from "../../failure.ts";
import type { Disk, ObjectInfo } from "../storage.ts";
import { errnoOf, listFiles, placeOver, readRange, removeFile, sweepTemps, under, writeTemp } from "./files.ts";

export class NodeDisk implements Disk {
  readonly #root: string;
  #swept = false;

  /** `root`: absolute directory, made when it is missing. */
  constructor(root: string) {
    this.#root = root;
  }

  async read(path: string): Promise<Uint8Array | undefined> {
    return await this.readRange(path, { offset: 0, lengthBytes: Number.MAX_SAFE_INTEGER });
  }

  async readRange(
    path: string,
    range: { readonly offset: number; readonly lengthBytes: number },
  ): Promise<Uint8Array | undefined> {
    const file = under(this.#root, path);
    return await this.#attempt("read", path, () => readRange(file, range.offset, range.lengthBytes));
  }

  async write(path: string, pieces: readonly Uint8Array[]): Promise<void> {
    const target = under(this.#root, path);
    await this.#attempt("write", path, async () => {
      if (!this.#swept) {
        this.#swept = true;
        await sweepTemps(this.#root, Date.now());
      }
      const temp = await writeTemp(this.#root, pieces);
      try {
        await placeOver(temp, target);
      } catch (error) {
        await unlink(temp).catch(() => {});
        throw error;
      }
    });
  }

  async list(prefix: string): Promise<readonly ObjectInfo[]> {
    return await this.#attempt("list", prefix, () => listFiles(this.#root, prefix));
  }

  async remove(path: string): Promise<void> {
    await this.#attempt("remove", path, () => removeFile(this.#root, path));
  }

  async #attempt<T>(verb: string, path: string, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      const code = errnoOf(error);
      if (code === "") throw error;
      const full = code === "ENOSPC" || code === "EDQUOT";
      throw new Failure(full ? "DISK_FULL" : "DISK_FAILED", {
        retry: "backoff",
        message: `cannot ${verb} ${path} on the scratch disk ${this.#root}: ${(error as Error).message}`,
        remedy: full
          ? "Give the process more local disk, or remove files there."
          : "Check the mount and the permissions of this directory.",
        cause: error,
      });
    }
  }
}
