// The canonical hash: MurmurHash3 x86 32-bit, seed 0, over the canonical encoding of a value. It decides key groups, so it
// is part of the snapshot format: the same in every process, version and language.
//
// Canonical encodings (what is hashed):
//   INT      4 bytes, little endian two's complement
//   LONG     8 bytes, little endian two's complement (also when the value would fit an INT: the declared type decides)
//   DOUBLE   8 bytes, little endian IEEE 754; -0 as +0, every NaN as 0x7ff8000000000000
//   BOOLEAN  1 byte, 0 or 1
//   STRING   its UTF-8 bytes without a length; a lone surrogate as U+FFFD
//   INSTANT  as LONG, milliseconds since the epoch
//   composed types: the hash of the concatenated encodings, each STRING preceded by its byte length as u32 (hashBytes)
//
// Invariants:
//   H1. Every fast path gives the bits of hashBytes over the canonical encoding.
//   H2. Results are signed 32-bit integers (one machine word in V8); keyGroupOf reads them as unsigned.
//   H3. The key-group ranges of all subtasks are disjoint, ascending and cover [0, maxParallelism); the range of a subtask
//       holds exactly the key groups that subtaskOfKeyGroup sends to it.

import { assert } from "./assert.ts";

const C1 = 0xcc9e2d51 | 0;
const C2 = 0x1b873593;
const TWO_32 = 4294967296;

const doubleScratch = new Float64Array(1);
const doubleWords = new Int32Array(doubleScratch.buffer);
// Index of the word with the low bits: 0 on every machine that Node runs on but s390x.
const LOW = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 0 : 1;

function mixWord(hash: number, word: number): number {
  let k = Math.imul(word, C1);
  k = (k << 15) | (k >>> 17);
  const h = hash ^ Math.imul(k, C2);
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
}

function mixTail(hash: number, word: number): number {
  const k = Math.imul(word, C1);
  return hash ^ Math.imul((k << 15) | (k >>> 17), C2);
}

function finish(hash: number, lengthBytes: number): number {
  let h = hash ^ lengthBytes;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** MurmurHash3_x86_32 (seed 0) of `length` bytes from `offset`; a signed 32-bit integer (H2). */
export function hashBytes(bytes: Uint8Array, offset = 0, length = bytes.length - offset): number {
  assert(offset >= 0 && length >= 0 && offset + length <= bytes.length, "the hashed range lies inside of the bytes");
  const wordsEnd = offset + (length & ~3);
  let h = 0;
  let i = offset;
  for (; i < wordsEnd; i += 4) {
    h = mixWord(h, bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24));
  }
  const tail = length & 3;
  if (tail !== 0) {
    let word = bytes[i]!;
    if (tail > 1) word |= bytes[i + 1]! << 8;
    if (tail > 2) word |= bytes[i + 2]! << 16;
    h = mixTail(h, word);
  }
  return finish(h, length);
}

/** STRING given as its UTF-8 bytes. */
export function hashUtf8Bytes(bytes: Uint8Array, offset: number, length: number): number {
  return hashBytes(bytes, offset, length);
}

/** INT: a signed 32-bit integer. */
export function hashInt(value: number): number {
  return finish(mixWord(0, value), 4);
}

/** LONG: a safe integer. */
export function hashLong(value: number): number {
  // `| 0` takes an exact integer modulo 2^32, which is the low word of its two's complement, also for negative values.
  return finish(mixWord(mixWord(0, value | 0), Math.floor(value / TWO_32) | 0), 8);
}

/** LONG given as the two words of its two's complement. */
export function hashLongWords(low: number, high: number): number {
  return finish(mixWord(mixWord(0, low), high), 8);
}

/** DOUBLE: -0 hashes as +0, every NaN alike. */
export function hashDouble(value: number): number {
  if (value === 0) return ZERO_8;
  if (value !== value) return NAN_8;
  doubleScratch[0] = value;
  return finish(mixWord(mixWord(0, doubleWords[LOW]!), doubleWords[1 - LOW]!), 8);
}

/** BOOLEAN. */
export function hashBoolean(value: boolean): number {
  return finish(mixTail(0, value ? 1 : 0), 1);
}

const ZERO_8 = hashLongWords(0, 0);
const NAN_8 = hashLongWords(0, 0x7ff80000);

/** STRING: hashes the UTF-8 bytes without making them. */
export function hashString(value: string): number {
  const length = value.length;
  const wordsEnd = length & ~3;
  let h = 0;
  let i = 0;
  for (; i < wordsEnd; i += 4) {
    const a = value.charCodeAt(i);
    const b = value.charCodeAt(i + 1);
    const c = value.charCodeAt(i + 2);
    const d = value.charCodeAt(i + 3);
    if ((a | b | c | d) > 0x7f) return hashStringFrom(value, i, h);
    h = mixWord(h, a | (b << 8) | (c << 16) | (d << 24));
  }
  let word = 0;
  for (; i < length; i += 1) {
    const code = value.charCodeAt(i);
    if (code > 0x7f) return hashStringFrom(value, wordsEnd, h);
    word |= code << ((i & 3) << 3);
  }
  return finish((length & 3) === 0 ? h : mixTail(h, word), length);
}

/** Goes on at character `from` (all before it ASCII, a multiple of 4 bytes) with any characters. */
function hashStringFrom(value: string, from: number, hash: number): number {
  let h = hash;
  let word = 0;
  let countBytes = from;
  for (let i = from; i < value.length; i += 1) {
    let point = value.charCodeAt(i);
    let size = 1;
    let packed = point;
    if (point > 0x7f) {
      if ((point & 0xf800) === 0xd800) {
        const next = (point & 0x400) === 0 && i + 1 < value.length ? value.charCodeAt(i + 1) : 0;
        if ((next & 0xfc00) === 0xdc00) {
          point = 0x10000 + ((point & 0x3ff) << 10) + (next & 0x3ff);
          i += 1;
        } else {
          point = 0xfffd;
        }
      }
      if (point < 0x800) {
        size = 2;
        packed = 0xc0 | (point >> 6) | ((0x80 | (point & 0x3f)) << 8);
      } else if (point < 0x10000) {
        size = 3;
        packed = 0xe0 | (point >> 12) | ((0x80 | ((point >> 6) & 0x3f)) << 8) | ((0x80 | (point & 0x3f)) << 16);
      } else {
        size = 4;
        packed =
          0xf0 |
          (point >> 18) |
          ((0x80 | ((point >> 12) & 0x3f)) << 8) |
          ((0x80 | ((point >> 6) & 0x3f)) << 16) |
          ((0x80 | (point & 0x3f)) << 24);
      }
    }
    for (let k = 0; k < size; k += 1) {
      word |= ((packed >>> (k << 3)) & 0xff) << ((countBytes & 3) << 3);
      countBytes += 1;
      if ((countBytes & 3) === 0) {
        h = mixWord(h, word);
        word = 0;
      }
    }
  }
  return finish((countBytes & 3) === 0 ? h : mixTail(h, word), countBytes);
}

/** The key group of a hash: unsigned hash modulo `maxParallelism`. */
export function keyGroupOf(hash: number, maxParallelism: number): number {
  return (hash >>> 0) % maxParallelism;
}

/** The subtask that owns a key group (Flink: KeyGroupRangeAssignment.computeOperatorIndexForKeyGroup). */
export function subtaskOfKeyGroup(keyGroup: number, maxParallelism: number, parallelism: number): number {
  return Math.floor((keyGroup * parallelism) / maxParallelism);
}

/** Key groups `first` to `last`, both included; empty when `last < first`, which only a parallelism above the maximum gives. */
export interface KeyGroupRange {
  readonly first: number;
  readonly last: number;
}

/** The key groups of one subtask (Flink: KeyGroupRangeAssignment.computeKeyGroupRangeForOperatorIndex). */
export function keyGroupRange(subtask: number, maxParallelism: number, parallelism: number): KeyGroupRange {
  assert(parallelism >= 1 && parallelism <= maxParallelism, "parallelism is within [1, maxParallelism]");
  assert(subtask >= 0 && subtask < parallelism, "the subtask exists");
  return {
    first: Math.ceil((subtask * maxParallelism) / parallelism),
    last: Math.floor(((subtask + 1) * maxParallelism - 1) / parallelism),
  };
}
