// Keys of a backend: how they are held, and the scope that holds the current key of an operator.
//
// Invariants:
//   KE1. DOUBLE keys: -0 is 0 and all NaN are one key. STRING keys are compared by code units, without normalisation.
//   KE2. A position orders keys by (key group, hash): position = (keyGroup - first) * 2^16 + upper half of the mixed hash.
//   KE3. A state may trust the scope only while `active`; `epoch` changes with every key.
//
// Not here: the canonical hash (model/key-hash.ts), who computes it for a record (network/), tables (number-table.ts, string-table.ts, object-table.ts).

import { assert, ByteWriter, Failure, keyGroupOf } from "@sluice/kit";
import { canBeKey, describeType, keyHasher } from "../model/index.ts";
import type { KeyHasher, TypeDescriptor } from "../model/index.ts";
import { codecFor, shortValue } from "./codec.ts";
import type { ValueCodec } from "./codec.ts";

/** How keys are held: as an f64 (BOOLEAN as 0 or 1), as a string, or as the bytes of their codec. */
export type KeyForm = "number" | "boolean" | "string" | "encoded";

/** The form in which keys of this type are held. */
export function keyFormOf(type: TypeDescriptor): KeyForm {
  switch (type.kind) {
    case "INT":
    case "LONG":
    case "DOUBLE":
    case "INSTANT":
      return "number";
    case "BOOLEAN":
      return "boolean";
    case "STRING":
      return "string";
    default:
      return "encoded";
  }
}

/** Refuses key types that have no canonical encoding. */
export function assertKeyType(type: TypeDescriptor): void {
  if (canBeKey(type)) return;
  throw new Failure("TYPE_MISMATCH", {
    retry: "never",
    message: `${describeType(type)} cannot be a key: it, or a part of it, has no canonical order`,
    remedy: "select a key of INT, LONG, DOUBLE, BOOLEAN, INSTANT, STRING, BYTES, or TUPLE, ROW or LIST of them",
  });
}

/** Spreads a hash over 32 bits again: its low bits already chose the key group, so tables must not use them as they are. */
export function mixHash(hash: number): number {
  const mixed = Math.imul(hash ^ (hash >>> 16), 0x9e3779b1);
  return mixed ^ (mixed >>> 15);
}

/** KE2, for a hash alone; `first` is the first key group of the backend. */
export function positionOf(hash: number, maxParallelism: number, first: number): number {
  return ((keyGroupOf(hash, maxParallelism) - first) << 16) | (mixHash(hash) >>> 16);
}

/** Key groups of one backend. */
export interface KeyGroups {
  readonly first: number;
  readonly count: number;
  readonly maxParallelism: number;
}

/** The current key of one operator, prepared once for all its states. */
export class KeyScope {
  /** `number` and `boolean` forms: the key (-0 as 0). A typed cell, so that no number is boxed per record. */
  readonly number = new Float64Array(1);
  /** `string` form: the key. */
  text = "";
  /** Changes with every key; a state that remembers one is told when they start over (`onWrap`). */
  epoch = 0;
  active = false;
  /** Canonical hash of the key, as it came: signed or unsigned. */
  hash = 0;

  readonly form: KeyForm;
  readonly groups: KeyGroups;
  readonly uid: string;
  readonly keyType: TypeDescriptor;
  readonly codec: ValueCodec;
  readonly hasher: KeyHasher;
  /** maxParallelism - 1 when that is a power of two, else -1. */
  readonly #groupMask: number;
  readonly #firstGroup: number;
  readonly #groupCount: number;
  readonly #isNumber: boolean;
  readonly #scratch = new ByteWriter(64);
  #key: unknown = undefined;
  #encodedEpoch = -1;
  #forget: () => void = () => {};

  constructor(options: { readonly keyType: TypeDescriptor; readonly groups: KeyGroups; readonly uid: string }) {
    const { maxParallelism, first, count } = options.groups;
    assert(maxParallelism >= 1 && maxParallelism <= 32768, "maxParallelism is within [1, 32768]");
    assert(
      first >= 0 && count >= 1 && first + count <= maxParallelism,
      "key groups are a non-empty range below maxParallelism",
    );
    assertKeyType(options.keyType);
    this.form = keyFormOf(options.keyType);
    this.groups = options.groups;
    this.uid = options.uid;
    this.keyType = options.keyType;
    this.codec = codecFor(options.keyType);
    this.hasher = keyHasher(options.keyType, { wrongKey: (key) => this.#wrongKey(key), acceptsNaN: true }); // KE1
    this.#groupMask = (maxParallelism & (maxParallelism - 1)) === 0 ? maxParallelism - 1 : -1;
    this.#firstGroup = first;
    this.#groupCount = count;
    this.#isNumber = this.form === "number";
  }

  /** Called when epochs start over: whoever remembers one must forget it. */
  onWrap(run: () => void): void {
    this.#forget = run;
  }

  /** Once per record: stores the key, and leaves the rest to the states that look at it. */
  set(key: unknown, hash: number): void {
    if (this.#isNumber) {
      if (typeof key !== "number") throw this.#wrongKey(key);
      this.number[0] = key + 0;
    } else {
      this.#setOther(key);
    }
    this.hash = hash;
    this.active = true;
    this.epoch = (this.epoch + 1) | 0;
    if (this.epoch === 0) this.#wrapped();
  }

  #setOther(key: unknown): void {
    if (this.form === "string") {
      if (typeof key !== "string") throw this.#wrongKey(key);
      this.text = key;
    } else if (this.form === "encoded") {
      this.#key = key;
    } else {
      if (typeof key !== "boolean") throw this.#wrongKey(key);
      this.number[0] = key ? 1 : 0;
    }
  }

  /** Position (KE2) of a hash that was mixed already; refuses hashes of other subtasks (HB1). */
  positionOfHash(hash: number, mixed: number): number {
    const group = this.#groupMask >= 0 ? hash & this.#groupMask : (hash >>> 0) % this.groups.maxParallelism;
    const relative = group - this.#firstGroup;
    if (relative < 0 || relative >= this.#groupCount) throw this.#foreignGroup(group);
    return (relative << 16) | (mixed >>> 16);
  }

  /** As positionOfHash, unchecked: nonsense for hashes of other subtasks. */
  positionForTouch(hash: number, mixed: number): number {
    const group = this.#groupMask >= 0 ? hash & this.#groupMask : (hash >>> 0) % this.groups.maxParallelism;
    return ((group - this.#firstGroup) << 16) | (mixed >>> 16);
  }

  clear(): void {
    this.active = false;
    this.epoch = (this.epoch + 1) | 0;
    if (this.epoch === 0) this.#wrapped();
  }

  /** The current key as the user knows it. */
  get(): unknown {
    if (!this.active) throw this.outside("getCurrentKey()");
    if (this.form === "string") return this.text;
    if (this.form === "encoded") return this.#key;
    return this.form === "boolean" ? this.number[0] === 1 : this.number[0];
  }

  /** `encoded` form: the key's bytes, one per char; made once per key. */
  encodedText(): string {
    if (this.#encodedEpoch !== this.epoch) {
      const problem = this.codec.check(this.#key);
      if (problem !== undefined) throw this.#wrongKey(this.#key);
      this.#scratch.reset();
      this.codec.write(this.#scratch, this.#key);
      this.text = bytesAsText(this.#scratch.view());
      this.#encodedEpoch = this.epoch;
    }
    return this.text;
  }

  /** Before a new key enters a table: it must be of its type, and its hash the one that routed it here. */
  verifyNewKey(): void {
    const key = this.get();
    if (this.codec.check(key) !== undefined) throw this.#wrongKey(key);
    if (this.hasher(key) === (this.hash | 0)) return;
    throw new Failure("STATE_ACCESS_INVALID", {
      retry: "never",
      message: `operator uid ${this.uid}: key ${shortValue(key)} is not the key by which the record was routed`,
      remedy: "a key selector must be a pure function of the record: no randomness, clock or counter in it",
    });
  }

  /** State was used while no record was being processed. */
  outside(what: string): Failure {
    return new Failure("STATE_ACCESS_INVALID", {
      retry: "never",
      message: `operator uid ${this.uid}: ${what} outside of a key: keyed state exists only while a record is processed`,
      remedy: "use keyed state in processElement only, not in open(), close() or a callback that runs later",
    });
  }

  #wrapped(): void {
    this.#encodedEpoch = -1;
    this.#forget();
  }

  #wrongKey(key: unknown): Failure {
    return new Failure("TYPE_MISMATCH", {
      retry: "never",
      message: `operator uid ${this.uid}: key ${this.codec.check(key) ?? shortValue(key)}`,
      remedy: "declare the key type that the key selector returns",
    });
  }

  #foreignGroup(group: number): Failure {
    const { first, count } = this.groups;
    return new Failure("PROTOCOL_VIOLATION", {
      retry: "never",
      message: `operator uid ${this.uid}: a record of key group ${group} came to the subtask of key groups ${first}-${first + count - 1}`,
    });
  }
}

/** Bytes as a string of chars below 256, to be a Map key. */
export function bytesAsText(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += 1) text += String.fromCharCode(bytes[i] as number);
  return text;
}
