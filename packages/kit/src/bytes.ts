// Growable binary writer and bounds-checked reader: the primitives of every format of ours.
//
// Grammar of the primitives (all little endian):
//   u8 u16 u32 i32 | long = i64 two's complement of a safe integer | f64 = IEEE 754, bits kept as they are
//   varint = LEB128 of an unsigned safe integer, shortest form, at most 8 bytes | zigzag = varint of a signed one
//   string = varint byte length, UTF-8 | bytes = varint length, raw bytes | bool = u8, 0 or 1
//
// Invariants:
//   B1. Reader and writer are inverse, method by method.
//   B2. A reader never reads outside of its bytes: foreign bytes give a Failure with place and reason, never a RangeError.
//   B3. Every accepted value has exactly one encoding (no overlong varint, no bool 2, no malformed UTF-8).
//
// Not here: checksums (crc32c.ts), record codecs (runtime).

import { assert } from "./assert.ts";
import { Failure } from "./failure.ts";
import type { FailureCode } from "./failure.ts";

const TWO_32 = 4294967296;
const VARINT_BYTES_MAX = 8;
/** Longer ones are not worth room for three bytes a character. */
const LONG_STRING_CHARS = 65_536;
/** Of one UTF-16 code unit. */
const UTF8_BYTES_MAX = 3;

const encoder = new TextEncoder();
const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function varintBytes(value: number): number {
  let count = 1;
  for (let rest = value; rest > 0x7f; rest = Math.floor(rest / 128)) count += 1;
  return count;
}

/** Writes primitives into a buffer that doubles when it is full. Reusable by {@link ByteWriter.reset}. */
export class ByteWriter {
  #bytes: Uint8Array;
  #view: DataView;
  #length = 0;

  /** `initialBytes`: capacity before the first doubling. */
  constructor(initialBytes = 256) {
    assert(Number.isSafeInteger(initialBytes) && initialBytes > 0, "a writer starts with a positive capacity");
    this.#bytes = new Uint8Array(initialBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  u8(value: number): void {
    assert(value >>> 0 === value && value <= 0xff, "u8 in range");
    const at = this.#grow(1);
    this.#bytes[at] = value;
  }

  bool(value: boolean): void {
    const at = this.#grow(1);
    this.#bytes[at] = value ? 1 : 0;
  }

  u16(value: number): void {
    assert(value >>> 0 === value && value <= 0xffff, "u16 in range");
    const at = this.#grow(2);
    this.#view.setUint16(at, value, true);
  }

  u32(value: number): void {
    assert(value >>> 0 === value, "u32 in range");
    const at = this.#grow(4);
    this.#view.setUint32(at, value, true);
  }

  i32(value: number): void {
    assert((value | 0) === value, "i32 in range");
    const at = this.#grow(4);
    this.#view.setInt32(at, value, true);
  }

  /** A safe integer as 64-bit two's complement. */
  long(value: number): void {
    assert(Number.isSafeInteger(value), "long is a safe integer");
    const at = this.#grow(8);
    this.#view.setInt32(at, value | 0, true);
    this.#view.setInt32(at + 4, Math.floor(value / TWO_32), true);
  }

  f64(value: number): void {
    const at = this.#grow(8);
    this.#view.setFloat64(at, value, true);
  }

  /** An unsigned safe integer, 7 bits a byte. */
  varint(value: number): void {
    assert(Number.isSafeInteger(value) && value >= 0, "varint is a safe integer, not negative");
    let at = this.#grow(VARINT_BYTES_MAX);
    let rest = value;
    while (rest > 0x7fffffff) {
      this.#bytes[at] = (rest & 0x7f) | 0x80;
      at += 1;
      rest = Math.floor(rest / 128);
    }
    while (rest > 0x7f) {
      this.#bytes[at] = (rest & 0x7f) | 0x80;
      at += 1;
      rest >>>= 7;
    }
    this.#bytes[at] = rest;
    this.#length = at + 1;
  }

  /** A signed integer of at most 52 bits, small magnitudes short. */
  zigzag(value: number): void {
    assert(Number.isSafeInteger(value) && Math.abs(value) < 2 ** 52, "zigzag holds 52 bits");
    this.varint(value < 0 ? -2 * value - 1 : 2 * value);
  }

  /** UTF-8 with its byte length in front; lone surrogates become U+FFFD. */
  string(value: string): void {
    if (value.length <= 64 && this.#shortAscii(value)) return;
    if (value.length > LONG_STRING_CHARS) return this.bytes(encoder.encode(value));
    // Straight into place, behind the length that it has when every character is one byte; moved when it is longer.
    const guessed = varintBytes(value.length);
    const at = this.#grow(VARINT_BYTES_MAX + UTF8_BYTES_MAX * value.length);
    const { written } = encoder.encodeInto(value, this.#bytes.subarray(at + guessed));
    const head = varintBytes(written);
    if (head !== guessed) this.#bytes.copyWithin(at + head, at + guessed, at + guessed + written);
    this.#length = at;
    this.varint(written);
    this.#length += written;
  }

  bytes(value: Uint8Array): void {
    this.varint(value.length);
    this.raw(value);
  }

  /** Bytes without a length: the reader must know it. */
  raw(value: Uint8Array): void {
    const at = this.#grow(value.length);
    this.#bytes.set(value, at);
  }

  /** Leaves room for a u32 that is known only later; returns its position for {@link patchU32}. */
  reserveU32(): number {
    const at = this.#grow(4);
    this.#view.setUint32(at, 0, true);
    return at;
  }

  /** Fills a place left by {@link reserveU32}. */
  patchU32(position: number, value: number): void {
    assert(position >= 0 && position + 4 <= this.#length, "patch inside of what was written");
    assert(value >>> 0 === value, "u32 in range");
    this.#view.setUint32(position, value, true);
  }

  /** The written bytes without a copy: valid until the next write or reset. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** A copy of the written bytes. */
  toBytes(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  /** Forgets what was written and keeps the capacity. */
  reset(): void {
    this.#length = 0;
  }

  #shortAscii(value: string): boolean {
    const length = value.length;
    const before = this.#length;
    const at = this.#grow(length + 1); // a length up to 64 is one varint byte
    const bytes = this.#bytes;
    bytes[at] = length;
    for (let i = 0; i < length; i += 1) {
      const code = value.charCodeAt(i);
      if (code > 0x7f) {
        this.#length = before;
        return false;
      }
      bytes[at + 1 + i] = code;
    }
    return true;
  }

  #grow(countBytes: number): number {
    const at = this.#length;
    const needed = at + countBytes;
    if (needed > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      larger.set(this.#bytes.subarray(0, at));
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    this.#length = needed;
    return at;
  }
}

/** What a reader says when its bytes make no sense. */
export interface ByteReaderOptions {
  /** What is being read, for messages: "checkpoint metadata chk-7/_metadata". */
  readonly what: string;
  /** FORMAT_UNSUPPORTED (default) or, where a checksum already vouched for the bytes or damage is the likely cause, SNAPSHOT_DAMAGED. */
  readonly code?: FailureCode;
}

/** Reads primitives; throws a Failure (B2) with the given code on truncated or malformed bytes. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #what: string;
  readonly #code: FailureCode;
  #position = 0;

  constructor(bytes: Uint8Array, options: ByteReaderOptions) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = options.what;
    this.#code = options.code ?? "FORMAT_UNSUPPORTED";
  }

  get position(): number {
    return this.#position;
  }

  get remaining(): number {
    return this.#bytes.length - this.#position;
  }

  u8(): number {
    const at = this.#take(1, "u8");
    return this.#bytes[at]!;
  }

  bool(): boolean {
    const at = this.#take(1, "bool");
    const value = this.#bytes[at]!;
    if (value > 1) throw this.failure(`a boolean is 0 or 1, found ${value}`, at);
    return value === 1;
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2, "u16"), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4, "u32"), true);
  }

  i32(): number {
    return this.#view.getInt32(this.#take(4, "i32"), true);
  }

  long(): number {
    const at = this.#take(8, "long");
    const value = this.#view.getInt32(at + 4, true) * TWO_32 + this.#view.getUint32(at, true);
    if (!Number.isSafeInteger(value)) throw this.failure("a 64-bit integer beyond 2^53", at);
    return value;
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8, "f64"), true);
  }

  varint(): number {
    const start = this.#position;
    let value = 0;
    let factor = 1;
    for (let i = 0; i < VARINT_BYTES_MAX; i += 1) {
      const byte = this.#bytes[this.#take(1, "varint")]!;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) {
        if (byte === 0 && i > 0) throw this.failure("an overlong varint", start);
        if (!Number.isSafeInteger(value)) throw this.failure("a varint beyond 2^53", start);
        return value;
      }
      factor *= 128;
    }
    throw this.failure(`a varint of more than ${VARINT_BYTES_MAX} bytes`, start);
  }

  zigzag(): number {
    const raw = this.varint();
    return raw % 2 === 0 ? raw / 2 : -(raw + 1) / 2;
  }

  string(): string {
    const start = this.#position;
    const encoded = this.bytes();
    const length = encoded.length;
    if (length <= 32) {
      let text = "";
      let i = 0;
      for (; i < length; i += 1) {
        const byte = encoded[i]!;
        if (byte > 0x7f) break;
        text += String.fromCharCode(byte);
      }
      if (i === length) return text;
    }
    try {
      return strictDecoder.decode(encoded);
    } catch (cause) {
      throw this.failure("a string that is not UTF-8", start, cause);
    }
  }

  /** A view, not a copy. */
  bytes(): Uint8Array {
    return this.raw(this.varint());
  }

  /** A view of the next bytes, not a copy. */
  raw(lengthBytes: number): Uint8Array {
    const at = this.#take(lengthBytes, "bytes");
    return this.#bytes.subarray(at, at + lengthBytes);
  }

  /** A varint that counts elements still to come: more than there are bytes left is malformed, so nobody allocates for a lie. */
  count(elementBytesMin = 1): number {
    const start = this.#position;
    const count = this.varint();
    if (count * elementBytesMin > this.remaining)
      throw this.failure(`a count of ${count} with ${this.remaining} bytes left`, start);
    return count;
  }

  /** Throws unless everything was read. */
  expectEnd(): void {
    if (this.remaining !== 0) throw this.failure(`${this.remaining} bytes too many`, this.#position);
  }

  /** A Failure of this reader's code that names what was read and where; for callers that find nonsense in a well-formed value. */
  failure(reason: string, position = this.#position, cause?: unknown): Failure {
    return new Failure(this.#code, {
      retry: "never",
      message: `${this.#what} cannot be read: ${reason} (byte ${position} of ${this.#bytes.length})`,
      cause,
    });
  }

  #take(countBytes: number, kind: string): number {
    const at = this.#position;
    if (countBytes > this.#bytes.length - at) {
      throw this.failure(`it ends early: ${kind} needs ${countBytes} bytes, ${this.#bytes.length - at} are left`, at);
    }
    this.#position = at + countBytes;
    return at;
  }
}
