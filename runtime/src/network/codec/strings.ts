// Strings in frames: one byte per character while all fit into Latin-1, UTF-16 otherwise. Lossless for every JS string, lone
// surrogates included.
//
// Invariants:
//   SC1. What is read is equal to what was written, code unit by code unit.
//   SC2. A string that was read owns its characters: it never pins the frame or the batch it came from.
//   SC3. The cache returns a string only after comparing every character with the bytes.
//
// Not here: lengths and offsets (layout.ts, values.ts).

import type { FrameMemory } from "../ring.ts";

/** The two slices of a Buffer that skip the dispatch on an encoding name. */
interface RawSlices {
  latin1Slice(start: number, end: number): string;
  ucs2Slice(start: number, end: number): string;
}

/** Up to here a loop beats a call into the engine. */
const LOOP_LENGTH_MAX = 64;
// oxlint-disable-next-line no-control-regex -- every code unit of Latin-1 is meant
const NOT_LATIN1 = /[^\u0000-\u00ff]/;

/**
 * Writes `value` at `pos`. Returns the end position times two, plus one when it was written as UTF-16; -1 when it does not fit
 * before `limit`.
 */
export function putString(memory: FrameMemory, pos: number, limit: number, value: string): number {
  const length = value.length;
  if (length > limit - pos) return -1;
  const u8 = memory.u8;
  if (length <= LOOP_LENGTH_MAX) {
    // What is stored for a wider character is overwritten below.
    let all = 0;
    for (let i = 0; i < length; i += 1) {
      const code = value.charCodeAt(i);
      u8[pos + i] = code;
      all |= code;
    }
    if (all <= 0xff) return (pos + length) * 2;
  } else if (!NOT_LATIN1.test(value)) {
    memory.bytes.write(value, pos, length, "latin1");
    return (pos + length) * 2;
  }
  if (length * 2 > limit - pos) return -1;
  if (length <= LOOP_LENGTH_MAX) {
    for (let i = 0, at = pos; i < length; i += 1, at += 2) {
      const code = value.charCodeAt(i);
      u8[at] = code & 0xff;
      u8[at + 1] = code >>> 8;
    }
  } else {
    memory.bytes.write(value, pos, length * 2, "utf16le");
  }
  return (pos + length * 2) * 2 + 1;
}

/** Reads the string in [start, end). */
export function takeString(memory: FrameMemory, start: number, end: number, isWide: boolean): string {
  if (start === end) return "";
  const slices = memory.bytes as unknown as RawSlices;
  return isWide ? slices.ucs2Slice(start, end) : slices.latin1Slice(start, end);
}

const CACHE_SLOTS_MIN = 256;
const CACHE_SLOTS_MAX = 4096;
const CACHED_LENGTH_MAX = 32;
/** After this many look-ups the hit rate decides: go on, grow, or pause. */
const TRIAL_LOOKUPS = 4096;
/** Reads without the cache after the largest one did not pay, before the next trial. */
const PAUSE_READS = 65_536;

/** Recently seen short strings of one column; grows while that helps and gives up while strings hardly repeat. */
export class StringCache {
  #strings: string[] = new Array<string>(CACHE_SLOTS_MIN).fill("");
  /** The characters of each, one byte each: comparing bytes with bytes is faster than with a string's characters. */
  #bytes = new Uint8Array(CACHE_SLOTS_MIN * CACHED_LENGTH_MAX);
  #mask = CACHE_SLOTS_MIN - 1;
  #hits = 0;
  #lookups = 0;
  #pause = 0;

  /** As {@link takeString}. */
  take(memory: FrameMemory, start: number, end: number, isWide: boolean): string {
    const length = end - start;
    if (isWide || length > CACHED_LENGTH_MAX || length === 0) return takeString(memory, start, end, isWide);
    if (this.#pause > 0) {
      this.#pause -= 1;
      return takeString(memory, start, end, false);
    }
    const u8 = memory.u8;
    // A few characters tell most keys apart; the comparison below decides (SC3).
    const last = end - 1;
    let hash = length ^ Math.imul(u8[last] as number, 0x9e3779b1) ^ Math.imul(u8[start] as number, 0x85ebca6b);
    if (length > 2)
      hash ^= Math.imul(u8[last - 1] as number, 0xc2b2ae35) ^ Math.imul(u8[start + 1] as number, 0x165667b1);
    if (length > 4)
      hash ^=
        Math.imul(u8[last - 2] as number, 0x27d4eb2f) ^ Math.imul(u8[start + (length >> 1)] as number, 0xd3a2646c);
    if (length > 6)
      hash ^= Math.imul(u8[last - 3] as number, 0xfd7046c5) ^ Math.imul(u8[start + 2] as number, 0xb55a4f09);
    const at = (hash ^ (hash >>> 15) ^ (hash >>> 22)) & this.#mask;
    this.#lookups += 1;
    const strings = this.#strings;
    const bytes = this.#bytes;
    // Two places per string: the second is the neighbour.
    for (let way = 0; way < 2; way += 1) {
      const slot = at ^ way;
      const cached = strings[slot] as string;
      if (cached.length !== length) continue;
      const from = slot * CACHED_LENGTH_MAX;
      let i = 0;
      while (i < length && bytes[from + i] === u8[start + i]) i += 1;
      if (i === length) {
        this.#hits += 1;
        return cached;
      }
    }
    const value = takeString(memory, start, end, false);
    const slot = at ^ (this.#lookups & 1);
    const from = slot * CACHED_LENGTH_MAX;
    strings[slot] = value;
    for (let i = 0; i < length; i += 1) bytes[from + i] = u8[start + i] as number;
    if (this.#lookups >= TRIAL_LOOKUPS) this.#endTrial();
    return value;
  }

  #endTrial(): void {
    const slots = this.#strings.length;
    if (this.#hits < this.#lookups * 0.9 && slots < CACHE_SLOTS_MAX) {
      this.#strings = new Array<string>(slots * 4).fill("");
      this.#bytes = new Uint8Array(slots * 4 * CACHED_LENGTH_MAX);
      this.#mask = slots * 4 - 1;
    } else if (this.#hits < this.#lookups * 0.3) {
      this.#pause = PAUSE_READS;
    }
    this.#hits = 0;
    this.#lookups = 0;
  }
}
