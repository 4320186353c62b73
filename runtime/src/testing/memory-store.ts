// Checkpoints and scratch files in memory: gone with the test.
//
// Invariants: S1-S3 of the seam (kit/env/storage.ts); every call copies what it is given and what it gives.

import { Failure } from "@sluice/kit";
import { checkPath, CONDITIONAL_BYTES_MAX } from "@sluice/kit/env";
import type { Disk, ObjectInfo, ObjectStore, PutIfAbsentOutcome, PutOutcome } from "@sluice/kit/env";

interface Held {
  readonly bytes: Uint8Array;
  readonly modifiedMs: number;
}

class Shelf {
  readonly #held = new Map<string, Held>();

  get(path: string): Uint8Array | undefined {
    checkPath(path);
    return this.#held.get(path)?.bytes;
  }

  has(path: string): boolean {
    return this.get(path) !== undefined;
  }

  set(path: string, bytes: Uint8Array): void {
    checkPath(path);
    this.#held.set(path, { bytes: bytes.slice(), modifiedMs: Date.now() });
  }

  remove(path: string): void {
    checkPath(path);
    this.#held.delete(path);
  }

  stat(path: string): ObjectInfo | undefined {
    checkPath(path);
    const held = this.#held.get(path);
    return held === undefined ? undefined : infoOf(path, held);
  }

  list(prefix: string): readonly ObjectInfo[] {
    const found = [...this.#held].filter(([path]) => path.startsWith(prefix));
    return found.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([path, held]) => infoOf(path, held));
  }
}

function infoOf(path: string, { bytes, modifiedMs }: Held): ObjectInfo {
  return { path, sizeBytes: bytes.length, modifiedMs };
}

/** A store for checkpoints that several clusters of one test may use one after the other. */
export class MemoryObjectStore implements ObjectStore {
  readonly uri = "memory://";
  readonly #shelf = new Shelf();

  async get(path: string, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    await turn(signal);
    return this.#shelf.get(path)?.slice();
  }

  async getRange(
    path: string,
    range: { readonly offset: number; readonly lengthBytes: number },
    signal?: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    await turn(signal);
    return this.#shelf.get(path)?.slice(range.offset, range.offset + range.lengthBytes);
  }

  async put(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutOutcome> {
    const given = bytes.slice(); // the caller may reuse its buffer
    await turn(signal);
    this.#shelf.set(path, given);
    return "stored";
  }

  async putIfAbsent(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutIfAbsentOutcome> {
    if (bytes.length > CONDITIONAL_BYTES_MAX) {
      throw new Failure("STORAGE_DENIED", {
        retry: "never",
        message: `${path} is larger than what a store creates once`,
      });
    }
    const given = bytes.slice();
    await turn(signal);
    if (this.#shelf.has(path)) return "exists";
    this.#shelf.set(path, given);
    return "created";
  }

  async stat(path: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    await turn(signal);
    return this.#shelf.stat(path);
  }

  async list(prefix: string, signal?: AbortSignal): Promise<readonly ObjectInfo[]> {
    await turn(signal);
    return this.#shelf.list(prefix);
  }

  async remove(path: string, signal?: AbortSignal): Promise<void> {
    await turn(signal);
    this.#shelf.remove(path);
  }
}

/** The scratch disk of one TaskManager; it outlives the TaskManager's lives. */
export class MemoryDisk implements Disk {
  readonly #shelf = new Shelf();

  async read(path: string): Promise<Uint8Array | undefined> {
    await turn();
    return this.#shelf.get(path)?.slice();
  }

  async readRange(
    path: string,
    range: { readonly offset: number; readonly lengthBytes: number },
  ): Promise<Uint8Array | undefined> {
    await turn();
    return this.#shelf.get(path)?.slice(range.offset, range.offset + range.lengthBytes);
  }

  async write(path: string, pieces: readonly Uint8Array[]): Promise<void> {
    const given = new Uint8Array(Buffer.concat(pieces));
    await turn();
    this.#shelf.set(path, given);
  }

  async list(prefix: string): Promise<readonly ObjectInfo[]> {
    await turn();
    return this.#shelf.list(prefix);
  }

  async remove(path: string): Promise<void> {
    await turn();
    this.#shelf.remove(path);
  }
}

/** Like a real store: never in the caller's own turn. */
async function turn(signal?: AbortSignal): Promise<void> {
  await Promise.resolve();
  if (signal?.aborted === true) {
    throw new Failure("CANCELED", { retry: "never", message: "the call was given up" });
  }
}
