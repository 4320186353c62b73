// A simulated object store: one shared storage, one client per node incarnation.
//
// Invariants (those of the seam, S1-S4 in kit/env/storage.ts, and):
//   SS1. A write happens on the store's side: it lands even when the node that asked for it has died meanwhile.
//   SS2. A rejected write did not happen; an `unknown` one did, did not, or still will.
//   SS3. Nobody may overwrite an object with other bytes: that is reported as a violation (S1).

import { Failure } from "@sluice/kit";
import { checkPath } from "@sluice/kit/env";
import type { ObjectInfo, ObjectStore, PutIfAbsentOutcome, PutOutcome, Rng } from "@sluice/kit/env";
import type { EventLoop, EventOwner } from "./event-loop.ts";
import type { FaultPlan } from "./faults.ts";

/** What happened to an object, for checkers; called when it happens. */
export interface StorageObserver {
  created(path: string, bytes: Uint8Array, by: EventOwner): void;
  removed(path: string, by: EventOwner): void;
  violation(reason: string): void;
}

interface Stored {
  readonly bytes: Uint8Array;
  readonly modifiedMs: number;
}

/** The objects, shared by all nodes of a world. */
export class SimStorage {
  readonly objects = new Map<string, Stored>();
  faults: FaultPlan;
  readonly #loop: EventLoop;
  readonly #owner: EventOwner = { name: "store", isAlive: true, pausedUntilMs: 0 };
  readonly #rng: Rng;
  readonly #observer: StorageObserver;
  #fullUntilMs = 0;
  #nextFullMs = 0;

  constructor(options: {
    readonly loop: EventLoop;
    readonly rng: Rng;
    readonly faults: FaultPlan;
    readonly observer: StorageObserver;
  }) {
    this.#loop = options.loop;
    this.#rng = options.rng;
    this.faults = options.faults;
    this.#observer = options.observer;
    this.#drawFullPhase();
  }

  client(owner: EventOwner): ObjectStore {
    return new SimObjectStore(this, owner);
  }

  /** Paths with this prefix, ascending: for checkers, without latency or faults. */
  pathsOf(prefix: string): readonly string[] {
    return [...this.objects.keys()].filter((path) => path.startsWith(prefix)).sort();
  }

  /** Changes an object behind everybody's back: damage. */
  damage(path: string, bytes: Uint8Array | undefined): void {
    if (bytes === undefined) this.objects.delete(path);
    else this.objects.set(path, { bytes, modifiedMs: this.#loop.nowMs });
  }

  /** A read-like call: latency, may fail, the result is taken on the store's side. */
  read<T>(owner: EventOwner, label: string, take: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const { failProbability } = this.faults.store;
      this.#loop.at(this.#latencyMs(), this.#owner, label, () => {
        const failed = this.#rng.chance(failProbability);
        const result = failed ? undefined : { value: take() };
        this.#loop.at(this.#latencyMs() / 2, owner, `${label} answered`, () => {
          if (result === undefined) reject(this.#unavailable(label));
          else resolve(result.value);
        });
      });
    });
  }

  put(owner: EventOwner, path: string, bytes: Uint8Array): Promise<PutOutcome> {
    return this.#write(owner, `put ${path}`, "unknown", () => {
      this.#create(path, bytes, owner, false);
      return "stored" as const;
    });
  }

  putIfAbsent(owner: EventOwner, path: string, bytes: Uint8Array): Promise<PutIfAbsentOutcome> {
    return this.#write<PutIfAbsentOutcome>(owner, `create ${path}`, "unknown", () => {
      if (!this.#create(path, bytes, owner, true)) return "exists";
      return this.#rng.chance(this.faults.store.conflictProbability) ? "exists" : "created";
    });
  }

  remove(owner: EventOwner, path: string): Promise<void> {
    return this.#write<"removed" | "unknown">(owner, `remove ${path}`, "unknown", () => {
      if (this.objects.delete(path)) this.#observer.removed(path, owner);
      return "removed";
    }).then((outcome) => {
      if (outcome === "unknown") throw this.#unavailable(`remove ${path}`);
    });
  }

  #write<T>(owner: EventOwner, label: string, unknown: T, act: () => T): Promise<T> {
    const copyFaults = this.faults.store;
    return new Promise((resolve, reject) => {
      const answer = (run: () => void): void => {
        this.#loop.at(this.#latencyMs() / 2, owner, `${label} answered`, run);
      };
      this.#loop.at(this.#latencyMs(), this.#owner, label, () => {
        if (this.#isFull() && !label.startsWith("remove")) {
          answer(() =>
            reject(new Failure("STORAGE_FULL", { retry: "backoff", message: `${label}: the store is full` })),
          );
        } else if (this.#rng.chance(copyFaults.failProbability)) {
          answer(() => reject(this.#unavailable(label)));
        } else if (this.#rng.chance(copyFaults.unknownProbability)) {
          const isDone = this.#rng.chance(0.5);
          const lateMs = isDone && this.#rng.chance(0.3) ? this.#rng.below(1_000) : 0;
          if (isDone && lateMs === 0) act();
          if (lateMs > 0) this.#loop.at(lateMs, this.#owner, `${label} (late)`, act);
          answer(() => resolve(unknown));
        } else {
          const outcome = act();
          answer(() => resolve(outcome));
        }
      });
    });
  }

  #create(path: string, bytes: Uint8Array, by: EventOwner, onlyIfAbsent: boolean): boolean {
    const before = this.objects.get(path);
    if (before !== undefined) {
      if (!onlyIfAbsent && !isSame(before.bytes, bytes))
        this.#observer.violation(`S1: ${by.name} overwrote ${path} with other bytes`);
      return false;
    }
    this.objects.set(path, { bytes, modifiedMs: this.#loop.nowMs });
    this.#observer.created(path, bytes, by);
    return true;
  }

  #latencyMs(): number {
    const { latencyMinMs, latencyMaxMs, slowProbability, slowMs } = this.faults.store;
    const base = latencyMinMs + this.#rng.below(latencyMaxMs - latencyMinMs + 1);
    return this.#rng.chance(slowProbability) ? base + this.#rng.below(slowMs + 1) : base;
  }

  #isFull(): boolean {
    if (this.faults.store.fullMeanMs === 0) return false;
    const { nowMs } = this.#loop;
    if (nowMs >= this.#nextFullMs) {
      this.#fullUntilMs = nowMs + this.#rng.below(1_500);
      this.#drawFullPhase();
    }
    return nowMs < this.#fullUntilMs;
  }

  #drawFullPhase(): void {
    const { fullMeanMs } = this.faults.store;
    this.#nextFullMs = fullMeanMs === 0 ? Infinity : this.#loop.nowMs + this.#rng.below(fullMeanMs * 2);
  }

  #unavailable(label: string): Failure {
    return new Failure("STORAGE_UNAVAILABLE", { retry: "backoff", message: `${label}: simulated 503` });
  }
}

/** The seam, as one node incarnation sees it. */
class SimObjectStore implements ObjectStore {
  readonly uri = "sim://store";
  readonly #storage: SimStorage;
  readonly #owner: EventOwner;

  constructor(storage: SimStorage, owner: EventOwner) {
    this.#storage = storage;
    this.#owner = owner;
  }

  async get(path: string, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    check(path, signal);
    return await this.#storage.read(this.#owner, `get ${path}`, () => this.#storage.objects.get(path)?.bytes.slice());
  }

  async getRange(
    path: string,
    range: { readonly offset: number; readonly lengthBytes: number },
    signal?: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    check(path, signal);
    const end = range.offset + range.lengthBytes;
    return await this.#storage.read(this.#owner, `get ${path}`, () =>
      this.#storage.objects.get(path)?.bytes.slice(range.offset, end),
    );
  }

  async put(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutOutcome> {
    check(path, signal);
    return await this.#storage.put(this.#owner, path, bytes.slice());
  }

  async putIfAbsent(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutIfAbsentOutcome> {
    check(path, signal);
    return await this.#storage.putIfAbsent(this.#owner, path, bytes.slice());
  }

  async stat(path: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    check(path, signal);
    return await this.#storage.read(this.#owner, `stat ${path}`, () => this.#info(path));
  }

  async list(prefix: string, signal?: AbortSignal): Promise<readonly ObjectInfo[]> {
    check(undefined, signal);
    return await this.#storage.read(this.#owner, `list ${prefix}`, () =>
      this.#storage.pathsOf(prefix).flatMap((path) => this.#info(path) ?? []),
    );
  }

  async remove(path: string, signal?: AbortSignal): Promise<void> {
    check(path, signal);
    await this.#storage.remove(this.#owner, path);
  }

  #info(path: string): ObjectInfo | undefined {
    const stored = this.#storage.objects.get(path);
    return stored === undefined ? undefined : { path, sizeBytes: stored.bytes.length, modifiedMs: stored.modifiedMs };
  }
}

function check(path: string | undefined, signal: AbortSignal | undefined): void {
  if (path !== undefined) checkPath(path);
  if (signal?.aborted === true)
    throw new Failure("CANCELED", { retry: "never", message: "the call was given up before it began" });
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
