// For tests: an object store in memory that answers at once, and timers that fire at once.

import { SeededRng } from "@sluice/kit";
import type { ObjectInfo, ObjectStore, PutIfAbsentOutcome, Timers } from "@sluice/kit/env";

/** A process that reaches no store but its own. */
export const noOtherStore = (uri: string): Promise<ObjectStore> => Promise.reject(new Error(`${uri} is not there`));

/** Never fails. `objects` is open for damage. */
export class MemoryStore implements ObjectStore {
  readonly uri = "mem://store";
  readonly objects = new Map<string, Uint8Array>();
  /** Paths in the order of their removal. */
  readonly removed: string[] = [];

  get(path: string): Promise<Uint8Array | undefined> {
    return Promise.resolve(this.objects.get(path));
  }
  getRange(
    path: string,
    range: { readonly offset: number; readonly lengthBytes: number },
  ): Promise<Uint8Array | undefined> {
    return Promise.resolve(this.objects.get(path)?.subarray(range.offset, range.offset + range.lengthBytes));
  }
  put(path: string, bytes: Uint8Array): Promise<"stored"> {
    this.objects.set(path, bytes);
    return Promise.resolve("stored");
  }
  putIfAbsent(path: string, bytes: Uint8Array): Promise<PutIfAbsentOutcome> {
    if (this.objects.has(path)) return Promise.resolve("exists");
    this.objects.set(path, bytes);
    return Promise.resolve("created");
  }
  stat(path: string): Promise<ObjectInfo | undefined> {
    const bytes = this.objects.get(path);
    return Promise.resolve(bytes === undefined ? undefined : { path, sizeBytes: bytes.length, modifiedMs: 0 });
  }
  list(prefix: string): Promise<readonly ObjectInfo[]> {
    const found = [...this.objects].filter(([path]) => path.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));
    return Promise.resolve(found.map(([path, bytes]) => ({ path, sizeBytes: bytes.length, modifiedMs: 0 })));
  }
  remove(path: string): Promise<void> {
    this.objects.delete(path);
    this.removed.push(path);
    return Promise.resolve();
  }
}

const timers: Timers = {
  after: (_delayMs, _label, run) => {
    let isCancelled = false;
    queueMicrotask(() => !isCancelled && run());
    return () => (isCancelled = true);
  },
};

/** Everything that a commit log needs of the world. Two writers of one log need two seeds. */
export function memoryEnv(seed: number): {
  readonly timers: Timers;
  readonly rng: SeededRng;
  readonly clock: { readonly nowMs: () => number; readonly wallMs: () => number };
} {
  return { timers, rng: new SeededRng(seed), clock: { nowMs: () => 0, wallMs: () => 5 } };
}
