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
    let i = 0;
    for (; i < length; i += 1) {
      const code = value.charCodeAt(i);
      if (code > 0xff) break;
      u8[pos + i] = code;
    }
    if (i === length) return (pos + length) * 2;
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

const CACHE_SLOTS = 512;
const CACHED_LENGTH_MAX = 32;
/** After this many look-ups the hit rate decides whether to go on. */
const TRIAL_LOOKUPS = 4096;
/** Reads without the cache after a trial that did not pay, before the next trial. */
const PAUSE_READS = 65_536;

/** Recently seen short strings of one column; gives up by itself while strings hardly repeat. */
export class StringCache {
  readonly #strings: string[] = new Array<string>(CACHE_SLOTS).fill("");
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
    let hash = length;
    for (let i = start; i < end; i += 1) hash = Math.imul(hash ^ (u8[i] as number), 0x01000193);
    const at = (hash ^ (hash >>> 15)) & (CACHE_SLOTS - 1);
    const cached = this.#strings[at] as string;
    this.#lookups += 1;
    if (cached.length === length) {
      let i = 0;
      while (i < length && cached.charCodeAt(i) === u8[start + i]) i += 1;
      if (i === length) {
        this.#hits += 1;
        return cached; // SC3
      }
    }
    if (this.#lookups >= TRIAL_LOOKUPS) this.#endTrial();
    const value = takeString(memory, start, end, false);
    this.#strings[at] = value;
    return value;
  }

  #endTrial(): void {
    if (this.#hits * 2 < this.#lookups) this.#pause = PAUSE_READS;
    this.#hits = 0;
    this.#lookups = 0;
  }
}
