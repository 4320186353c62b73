// The hasher of an edge's keys: the canonical one (model/key-hash.ts), with the edge's name in its failures and a cache of strings.
//
// Invariants (tests cite them by name):
//   KH1. The hash is that of model/key-hash.ts; the cache only remembers it.
//   KH2. A key that is undefined, null, NaN or of another type than declared is a Failure TYPE_MISMATCH that names the edge.
//
// Not here: the encoding (model/key-hash.ts), key groups and their owners (kit/hash.ts, record-writer.ts).

import { Failure, hashString } from "@sluice/kit";
import { canBeKey, describeType, keyHasher } from "../../model/index.ts";
import type { KeyHasher, TypeDescriptor } from "../../model/index.ts";
import { describeValue, expectation } from "./values.ts";

const STRING_CACHE_SLOTS = 4096;

/** A key that cannot be one (KH2). */
export function wrongKey(edge: string, type: TypeDescriptor, key: unknown): Failure {
  return new Failure("TYPE_MISMATCH", {
    retry: "never",
    message: `the key selector of ${edge} returned ${describeValue(key)}, but the key type is ${expectation(type)}`,
    remedy:
      "Make the key selector return a value of the declared key type for every record, or declare another key type in keyBy(...).",
  });
}

/** Strings repeat: remembers hashes by a cheap look at length and three characters, and compares before it believes. */
class StringHashCache {
  readonly #keys: string[] = Array.from({ length: STRING_CACHE_SLOTS }, () => "");
  readonly #hashes = new Int32Array(STRING_CACHE_SLOTS).fill(hashString(""));

  hash(key: string): number {
    const length = key.length;
    if (length < 8) return hashString(key); // as fast as looking
    const mixed =
      Math.imul(key.charCodeAt(length - 1), 0x9e3779b1) ^
      Math.imul(key.charCodeAt(length - 2), 0x85ebca6b) ^
      Math.imul(key.charCodeAt(length - 3), 0xc2b2ae35) ^
      Math.imul(key.charCodeAt(length >> 1), 0x27d4eb2f) ^
      length;
    const at = (mixed ^ (mixed >>> 16)) & (STRING_CACHE_SLOTS - 1);
    if (this.#keys[at] === key) return this.#hashes[at] as number;
    const hash = hashString(key);
    this.#keys[at] = key;
    this.#hashes[at] = hash;
    return hash;
  }
}

/** The hasher of an edge; one per edge, so that its cache and type feedback are its own. Failure JOB_GRAPH_INVALID: no key type. */
export function edgeKeyHasher(type: TypeDescriptor, edge: string): KeyHasher {
  if (!canBeKey(type)) {
    throw new Failure("JOB_GRAPH_INVALID", {
      retry: "never",
      message: `${edge}: a key cannot be of type ${describeType(type)}`,
      remedy:
        "Declare a key type with a fixed encoding: INT, LONG, DOUBLE, STRING, BOOLEAN, INSTANT, BYTES, TUPLE, ROW or LIST.",
    });
  }
  if (type.kind === "STRING") {
    const cache = new StringHashCache();
    return (key) => {
      if (typeof key !== "string") throw wrongKey(edge, type, key);
      return cache.hash(key);
    };
  }
  return keyHasher(type, { wrongKey: (key) => wrongKey(edge, type, key), acceptsNaN: false });
}
