// The frame around every small durable JSON object: commit records and checkpoint metadata.
//
//   frame = magic u32 | formatVersion u16 | kind u16 | length u32 | crc32c u32 | JSON in UTF-8, `length` bytes     (big endian)
//
// Invariants:
//   FR1. Reading returns a reason for anything that is not a whole frame of the wanted kind; it never throws on bytes.
//   FR2. The same value gives the same bytes: a repeated write after an unknown outcome repeats itself exactly.
//
// Not here: what the JSON means (commit-record.ts, metadata.ts).

import { crc32c } from "@sluice/kit";

const MAGIC = 0x534c4330; // "SLC0"
export const FRAME_HEADER_BYTES = 16;
/** Conditional objects stay under 32 MiB on every store (protocols 1); metadata has the same bound. */
export const FRAME_BYTES_MAX = 32 * 1024 * 1024;

export type FrameKind = "commit-record" | "checkpoint-metadata" | "savepoint-claim";
const KINDS: Readonly<Record<FrameKind, number>> = {
  "commit-record": 1,
  "checkpoint-metadata": 2,
  "savepoint-claim": 3,
};

export type FrameContent =
  | { readonly type: "ok"; readonly version: number; readonly json: unknown }
  | { readonly type: "damaged"; readonly reason: string };

/** Writes one frame. */
export function writeFrame(kind: FrameKind, version: number, json: unknown): Uint8Array {
  const body = new TextEncoder().encode(JSON.stringify(json));
  const bytes = new Uint8Array(FRAME_HEADER_BYTES + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint16(4, version);
  view.setUint16(6, KINDS[kind]);
  view.setUint32(8, body.length);
  view.setUint32(12, crc32c(body) >>> 0);
  bytes.set(body, FRAME_HEADER_BYTES);
  return bytes;
}

/** Reads one frame (FR1). */
export function readFrame(kind: FrameKind, bytes: Uint8Array): FrameContent {
  const damaged = (reason: string): FrameContent => ({ type: "damaged", reason });
  if (bytes.length < FRAME_HEADER_BYTES) return damaged(`${bytes.length} bytes, a header has ${FRAME_HEADER_BYTES}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) !== MAGIC) return damaged("not a frame of ours");
  const version = view.getUint16(4);
  if (view.getUint16(6) !== KINDS[kind]) return damaged(`not a ${kind}`);
  const length = view.getUint32(8);
  if (bytes.length !== FRAME_HEADER_BYTES + length) {
    return damaged(`${bytes.length - FRAME_HEADER_BYTES} bytes of content where ${length} are announced`);
  }
  const body = bytes.subarray(FRAME_HEADER_BYTES);
  if (crc32c(body) >>> 0 !== view.getUint32(12)) return damaged("checksum mismatch");
  try {
    return { type: "ok", version, json: JSON.parse(new TextDecoder().decode(body)) as unknown };
  } catch {
    return damaged("checksum is right but the content is not JSON");
  }
}
