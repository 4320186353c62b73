// A plain model of keyed state beside the real backend, for property tests: every operation is done on both.

import { codecFor, encodeValue, HeapKeyedStateBackend, placeOf } from "./index.ts";
import type { KeyedSnapshot, RestoredPart } from "./index.ts";
import { mixHash } from "./keys.ts";
import { keyHasher, TypeInformation, ValueStateDescriptor } from "../model/index.ts";
import type { KeyHasher, SnapshotPart, TypeDescriptor } from "../model/index.ts";
import { Failure, keyGroupOf } from "@sluice/kit";

export const MAX_PARALLELISM = 16;

/** A clock on which every reading costs a millisecond, so that a step of budget n makes about n readings. */
export function tickingClock(): { nowMs(): number; wallMs(): number } {
  let now = 0;
  return {
    wallMs: () => 0,
    nowMs: () => {
      now += 1;
      return now;
    },
  };
}

export function makeBackend(
  keyType: TypeDescriptor,
  keyGroups: readonly [number, number] = [0, MAX_PARALLELISM - 1],
): HeapKeyedStateBackend {
  return new HeapKeyedStateBackend({
    keyType,
    keyGroups,
    maxParallelism: MAX_PARALLELISM,
    uid: "op-1",
    clock: tickingClock(),
  });
}

export function declare(name: string, type: TypeDescriptor): ValueStateDescriptor<unknown> {
  return new ValueStateDescriptor(name, new TypeInformation<unknown>(type));
}

export function toRestored(parts: readonly SnapshotPart[]): RestoredPart[] {
  return parts.map((part) => ({
    stateName: part.stateName,
    keyGroups: part.keyGroups ?? [0, 0],
    bytes: Uint8Array.from(Buffer.concat(part.chunks)),
  }));
}

export function finish(snapshot: KeyedSnapshot): readonly SnapshotPart[] {
  while (!snapshot.step(1));
  return snapshot.parts();
}

/** Contents as text: hex of the encoded key to hex of the encoded value. */
export type Contents = ReadonlyMap<string, string>;

export class Modelled {
  readonly keyType: TypeDescriptor;
  readonly valueType: TypeDescriptor;
  readonly backend: HeapKeyedStateBackend;
  readonly #contents = new Map<string, string>();
  readonly #keys = new Map<string, unknown>();

  constructor(keyType: TypeDescriptor, valueType: TypeDescriptor) {
    this.keyType = keyType;
    this.valueType = valueType;
    this.backend = makeBackend(keyType);
    this.backend.getState(declare("s", valueType));
  }

  setKey(key: unknown): void {
    setKey(this.backend, this.keyType, key);
  }

  put(key: unknown, value: unknown): void {
    this.setKey(key);
    this.backend.getState(declare("s", this.valueType)).update(value);
    this.#contents.set(this.#keyText(key), hex(encodeValue(codecFor(this.valueType), value)));
  }

  clear(key: unknown): void {
    this.setKey(key);
    this.backend.getState(declare("s", this.valueType)).clear();
    this.#contents.delete(this.#keyText(key));
  }

  /** Value of the key in the backend, as the model writes it. */
  read(key: unknown, backend: HeapKeyedStateBackend = this.backend): string | undefined {
    setKey(backend, this.keyType, key);
    const value: unknown = backend.getState(declare("s", this.valueType)).value();
    return value === undefined ? undefined : hex(encodeValue(codecFor(this.valueType), value));
  }

  expected(key: unknown): string | undefined {
    return this.#contents.get(this.#keyText(key));
  }

  contents(): Contents {
    return new Map(this.#contents);
  }

  /** What a backend restored from the parts holds, for all keys the model ever saw. */
  restored(
    parts: readonly SnapshotPart[],
    ranges: readonly (readonly [number, number])[],
  ): { contents: Contents; entryCount: number } {
    const contents = new Map<string, string>();
    let entryCount = 0;
    for (const range of ranges) {
      const backend = makeBackend(this.keyType, range);
      backend.restore(toRestored(parts));
      entryCount += backend.entryCount;
      for (const [text, key] of this.#keys) {
        const group = keyGroupOf(hashOf(this.keyType, key), MAX_PARALLELISM);
        if (group < range[0] || group > range[1]) continue;
        const value = this.read(key, backend);
        if (value !== undefined) contents.set(text, value);
      }
    }
    return { contents, entryCount };
  }

  /** KE1: -0 is 0, all NaN are one. */
  #keyText(key: unknown): string {
    const canonical = typeof key === "number" ? key + 0 : key;
    const text = hex(encodeValue(codecFor(this.keyType), canonical));
    this.#keys.set(text, canonical);
    return text;
  }
}

export function setKey(backend: HeapKeyedStateBackend, keyType: TypeDescriptor, key: unknown): void {
  backend.setCurrentKey(key, hashOf(keyType, key));
}

/** Where the key's entry stands in a snapshot. */
export function placeOfKey(keyType: TypeDescriptor, key: unknown): number {
  const hash = hashOf(keyType, key);
  return placeOf(keyGroupOf(hash, MAX_PARALLELISM), mixHash(hash));
}

const hashers = new WeakMap<TypeDescriptor, KeyHasher>();

function hashOf(keyType: TypeDescriptor, key: unknown): number {
  const wrongKey = (): Failure => new Failure("TYPE_MISMATCH", { retry: "never", message: "wrong key" });
  const hasher = hashers.get(keyType) ?? keyHasher(keyType, { wrongKey, acceptsNaN: true });
  hashers.set(keyType, hasher);
  return hasher(key);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
