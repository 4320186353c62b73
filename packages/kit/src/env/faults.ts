// A store that fails on demand: the same decorator in the simulator and around real stores in process tests.
//
// Invariants:
//   FI1. What it reports keeps the contract of ObjectStore: a rejected write did not happen, `unknown` may have.
//   FI2. The same seed, rates and calls give the same faults.
//   FI3. It counts every fault that struck, so that a test can prove that its fault happened.

import { assert } from "../assert.ts";
import { Failure } from "../failure.ts";
import type { ObjectInfo, ObjectStore, PutIfAbsentOutcome, PutOutcome } from "./storage.ts";
import type { Rng } from "./time.ts";

/** What goes wrong, per call; probabilities within [0, 1], together at most 1 per call. */
export interface StoreFaults {
  /** A write that is refused: STORAGE_UNAVAILABLE. */
  readonly writeRefused: number;
  /** A write that is not done and answers `unknown`. */
  readonly writeLost: number;
  /** A write that is done and answers `unknown`. */
  readonly writeUnanswered: number;
  /** A read, list, stat or remove that fails: STORAGE_UNAVAILABLE. */
  readonly readRefused: number;
  /** Every write fails with STORAGE_FULL. */
  readonly full: boolean;
}

const NO_FAULTS: StoreFaults = { writeRefused: 0, writeLost: 0, writeUnanswered: 0, readRefused: 0, full: false };

/** Rates that fail `rate` of all writes: a third each refused, lost, done without an answer. */
export function writesFailing(rate: number): Pick<StoreFaults, "writeRefused" | "writeLost" | "writeUnanswered"> {
  return { writeRefused: rate / 3, writeLost: rate / 3, writeUnanswered: rate / 3 };
}

/** Faults that struck, by kind. */
export type StruckFaults = Readonly<Record<keyof StoreFaults, number>>;

export class FaultInjectingStore implements ObjectStore {
  readonly uri: string;
  readonly #store: ObjectStore;
  readonly #rng: Rng;
  readonly #struck = { writeRefused: 0, writeLost: 0, writeUnanswered: 0, readRefused: 0, full: 0 };
  #rates: StoreFaults;

  constructor(store: ObjectStore, options: { readonly rng: Rng; readonly rates?: Partial<StoreFaults> }) {
    this.uri = store.uri;
    this.#store = store;
    this.#rng = options.rng;
    this.#rates = NO_FAULTS;
    this.set(options.rates ?? {});
  }

  /** Changes some rates; the others stay. */
  set(rates: Partial<StoreFaults>): void {
    const next = { ...this.#rates, ...rates };
    assert(next.writeRefused + next.writeLost + next.writeUnanswered <= 1 + 1e-9, "write faults exclude each other");
    this.#rates = next;
  }

  get struck(): StruckFaults {
    return { ...this.#struck };
  }

  async get(path: string, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    this.#maybeRefuse("read", path);
    return await this.#store.get(path, signal);
  }

  async getRange(
    path: string,
    range: { readonly offset: number; readonly lengthBytes: number },
    signal?: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    this.#maybeRefuse("read", path);
    return await this.#store.getRange(path, range, signal);
  }

  async put(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutOutcome> {
    return await this.#write(path, () => this.#store.put(path, bytes, signal));
  }

  async putIfAbsent(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutIfAbsentOutcome> {
    return await this.#write(path, () => this.#store.putIfAbsent(path, bytes, signal));
  }

  async stat(path: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    this.#maybeRefuse("stat", path);
    return await this.#store.stat(path, signal);
  }

  async list(prefix: string, signal?: AbortSignal): Promise<readonly ObjectInfo[]> {
    this.#maybeRefuse("list", prefix);
    return await this.#store.list(prefix, signal);
  }

  async remove(path: string, signal?: AbortSignal): Promise<void> {
    this.#maybeRefuse("remove", path);
    await this.#store.remove(path, signal);
  }

  async #write<T>(path: string, run: () => Promise<T>): Promise<T | "unknown"> {
    const rates = this.#rates;
    if (rates.full) {
      this.#struck.full += 1;
      throw new Failure("STORAGE_FULL", {
        retry: "backoff",
        message: `injected fault: no space for ${path} in ${this.uri}`,
      });
    }
    const draw = this.#rng.u32() / 0x100000000; // one draw per write, whatever the rates are (FI2)
    if (draw < rates.writeRefused) {
      this.#struck.writeRefused += 1;
      throw this.#refused("write", path);
    }
    if (draw < rates.writeRefused + rates.writeLost) {
      this.#struck.writeLost += 1;
      return "unknown";
    }
    if (draw < rates.writeRefused + rates.writeLost + rates.writeUnanswered) {
      await run();
      this.#struck.writeUnanswered += 1;
      return "unknown";
    }
    return await run();
  }

  #maybeRefuse(verb: string, path: string): void {
    const draw = this.#rng.u32() / 0x100000000;
    if (draw >= this.#rates.readRefused) return;
    this.#struck.readRefused += 1;
    throw this.#refused(verb, path);
  }

  #refused(verb: string, path: string): Failure {
    return new Failure("STORAGE_UNAVAILABLE", {
      retry: "backoff",
      message: `injected fault: cannot ${verb} ${path} in ${this.uri}`,
    });
  }
}
