// Strings in stored bytes: UTF-8, and for strings that are not well-formed Unicode its generalisation.
//
// Invariants:
//   TX1. A string survives as its exact UTF-16 code units: a lone surrogate is written as its three-byte form.
//   TX2. Bytes that `writeText` never writes are refused.
//
// Not here: strings on channels and in hashes (network/, @sluice/kit), where a lone surrogate counts as U+FFFD.

import type { ByteReader, ByteWriter } from "@sluice/kit";

const SHORT_BYTES = 32;
const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** varint byte length, then the bytes (TX1). */
export function writeText(into: ByteWriter, value: string): void {
  if (value.isWellFormed()) into.string(value);
  else into.bytes(generalisedUtf8(value));
}

/** The string that {@link writeText} wrote (TX2). */
export function readText(from: ByteReader): string {
  const bytes = from.bytes();
  if (bytes.length <= SHORT_BYTES) {
    let text = "";
    let i = 0;
    for (; i < bytes.length; i += 1) {
      const byte = bytes[i] as number;
      if (byte > 0x7f) break;
      text += String.fromCharCode(byte);
    }
    if (i === bytes.length) return text;
  }
  try {
    return strictDecoder.decode(bytes);
  } catch {
    // Lone surrogates or nonsense: the slow decoder tells them apart.
    const text = decodeGeneralised(bytes);
    if (text === undefined) throw from.failure("a string that is not UTF-8");
    return text;
  }
}

function generalisedUtf8(value: string): Uint8Array {
  const bytes: number[] = [];
  for (let i = 0; i < value.length; i += 1) {
    const point = value.codePointAt(i) as number; // a lone surrogate is its own code point here
    if (point > 0xffff) {
      bytes.push(
        0xf0 | (point >> 18),
        0x80 | ((point >> 12) & 0x3f),
        0x80 | ((point >> 6) & 0x3f),
        0x80 | (point & 0x3f),
      );
      i += 1;
    } else if (point > 0x7ff) bytes.push(0xe0 | (point >> 12), 0x80 | ((point >> 6) & 0x3f), 0x80 | (point & 0x3f));
    else if (point > 0x7f) bytes.push(0xc0 | (point >> 6), 0x80 | (point & 0x3f));
    else bytes.push(point);
  }
  return Uint8Array.from(bytes);
}

function decodeGeneralised(bytes: Uint8Array): string | undefined {
  let text = "";
  for (let at = 0; at < bytes.length;) {
    const lead = bytes[at] as number;
    const length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (length === 0 || at + length > bytes.length) return undefined;
    let point = length === 1 ? lead : lead & (0x7f >> length);
    for (let i = 1; i < length; i += 1) {
      const next = bytes[at + i] as number;
      if ((next & 0xc0) !== 0x80) return undefined;
      point = (point << 6) | (next & 0x3f);
    }
    if ((length === 3 && point < 0x800) || (length === 4 && (point < 0x10000 || point > 0x10ffff))) return undefined;
    text += String.fromCodePoint(point);
    at += length;
  }
  return text;
}
