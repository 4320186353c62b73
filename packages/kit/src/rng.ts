// Seeded randomness: sfc32 (Doty-Humphrey's small fast chaotic generator), seeded by a murmur-mixed counter.
//
// Invariants:
//   R1. The same seed gives the same draws, on every machine.
//   R2. A fork depends on the seed, the labels on the way and how often that label was forked before, never on draws: a draw
//       added in one component moves nothing in another.
//
// Not cryptographic: secrets come from node:crypto in env/node.

import { assert } from "./assert.ts";
import type { Rng } from "./env/index.ts";
import { hashString } from "./hash.ts";

/** A seeded {@link Rng}; two 32-bit words of seed, so that forks do not meet. */
export class SeededRng implements Rng {
  readonly #seedLow: number;
  readonly #seedHigh: number;
  readonly #forks = new Map<string, number>();
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seedLow: number, seedHigh = 0) {
    this.#seedLow = seedLow | 0;
    this.#seedHigh = seedHigh | 0;
    this.#a = mix(this.#seedLow, 0x9e3779b9);
    this.#b = mix(this.#seedHigh, this.#a);
    this.#c = mix(this.#seedLow ^ 0x6a09e667, this.#b);
    for (let i = 0; i < 12; i += 1) this.u32();
  }

  u32(): number {
    const result = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + result) | 0;
    return result >>> 0;
  }

  below(countMax: number): number {
    assert(Number.isSafeInteger(countMax) && countMax > 0, "below() needs a positive integer");
    if (countMax > 0x100000000) {
      // 53 bits; the bias is under 2^-20 for anything that fits a safe integer of this size's use (times, sizes).
      return Math.floor(((this.u32() * 2 ** 21 + (this.u32() >>> 11)) / 2 ** 53) * countMax);
    }
    // Rejection keeps it uniform: the last, incomplete stretch of [0, 2^32) is drawn again.
    const limit = 0x100000000 - (0x100000000 % countMax);
    let draw = this.u32();
    while (draw >= limit) draw = this.u32();
    return draw % countMax;
  }

  chance(probability: number): boolean {
    assert(probability >= 0 && probability <= 1, "a probability is within [0, 1]");
    return this.u32() < probability * 0x100000000;
  }

  fork(label: string): Rng {
    const nth = this.#forks.get(label) ?? 0;
    this.#forks.set(label, nth + 1);
    const labelHash = hashString(label);
    return new SeededRng(mix(this.#seedLow ^ labelHash, nth), mix(this.#seedHigh + labelHash, this.#seedLow ^ nth));
  }
}

function mix(value: number, salt: number): number {
  let h = (value + Math.imul(salt | 1, 0x9e3779b1)) | 0;
  h = Math.imul(h ^ (h >>> 16) ^ salt, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
