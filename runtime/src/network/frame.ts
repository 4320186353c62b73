// Frames: what one slot of a ring holds and what travels between TaskManagers, byte for byte the same.
//
// Header, 32 bytes, little endian, at an offset that is a multiple of 8:
//   0   u32 wireType    0 inside a ring; the bridge's message type while the frame travels (tcp-bridge.ts)
//   4   u32 wireChannel 0 inside a ring; the bridge's channel number while the frame travels
//   8   u32 sequence    counts the frames of a channel from 0, modulo 2^32; every frame has one (protocols 4)
//   12  u8 kind | u8 flags | u16 zero
//   16  u32 rowCount    rows of a RECORDS frame; of the last FRAGMENT: 1; otherwise 0
//   20  u32 byteLength  header and payload
//   24  u32 totalBytes  FRAGMENT: size of the whole frame that is sent in pieces; otherwise 0
//   28  u32 zero
// Payload by kind:
//   RECORDS      columns, then the tail (codec/layout.ts)
//   BARRIER      f64 checkpointId | f64 timestampMs | u32 flags (1 final, 2 savepoint, 4 stops) | u32 locationBytes | location (UTF-8)
//   WATERMARK    reserved
//   END_OF_DATA  empty
//   FRAGMENT     the next bytes of a RECORDS frame of one row that is larger than a slot; the last one has rowCount 1
//   SCHEMA       JSON (UTF-8) of the descriptor inferred for a GENERIC edge; precedes the first frame that uses it
//
// Invariants (tests cite them by name):
//   FR1. Sequence numbers of a channel have no gap; the reader asserts it.
//   FR2. After END_OF_DATA a channel carries barriers only.
//   FR3. Byte order is that of the machine; both ends of a job are little endian (asserted at load).
//
// Not here: rows (codec/).

import { assert, Failure } from "@sluice/kit";
import type { Barrier, CheckpointId } from "../model/index.ts";
import { SAVEPOINT_LOCATION_BYTES_MAX } from "../model/index.ts";
import type { FrameMemory } from "./ring.ts";

assert(new Uint8Array(new Uint32Array([1]).buffer)[0] === 1, "FR3: this machine is little endian");

export const FRAME_HEADER_BYTES = 32;

export const FRAME_RECORDS = 1;
export const FRAME_BARRIER = 2;
export const FRAME_WATERMARK = 3;
export const FRAME_END_OF_DATA = 4;
export const FRAME_FRAGMENT = 5;
export const FRAME_SCHEMA = 6;

/** Rows are tagged values instead of the declared or inferred columns. */
export const FLAG_TAGGED = 1;
/** A u32 column of canonical key hashes travels with the rows. */
export const FLAG_HASHES = 2;
/** Rows use the descriptor of the last SCHEMA frame. */
export const FLAG_INFERRED = 4;

const BARRIER_PAYLOAD_BYTES = 24;
const BARRIER_FINAL = 1;
const BARRIER_SAVEPOINT = 2;
const BARRIER_STOPS = 4;

/** Everything in a header but the sequence number, which the channel assigns when the frame enters the ring. */
export interface FrameHeader {
  readonly kind: number;
  readonly flags: number;
  readonly rowCount: number;
  readonly byteLength: number;
  readonly totalBytes: number;
}

/** Writes all of the header but the sequence. */
export function writeFrameHeader(memory: FrameMemory, offset: number, header: FrameHeader): void {
  const at = offset >>> 2;
  memory.u32[at] = 0;
  memory.u32[at + 1] = 0;
  memory.u32[at + 2] = 0;
  memory.u32[at + 3] = header.kind | (header.flags << 8);
  memory.u32[at + 4] = header.rowCount;
  memory.u32[at + 5] = header.byteLength;
  memory.u32[at + 6] = header.totalBytes;
  memory.u32[at + 7] = 0;
}

export function readFrameHeader(memory: FrameMemory, offset: number): FrameHeader {
  const at = offset >>> 2;
  const kindAndFlags = memory.u32[at + 3] as number;
  return {
    kind: kindAndFlags & 0xff,
    flags: (kindAndFlags >>> 8) & 0xff,
    rowCount: memory.u32[at + 4] as number,
    byteLength: memory.u32[at + 5] as number,
    totalBytes: memory.u32[at + 6] as number,
  };
}

export function writeSequence(memory: FrameMemory, offset: number, sequence: number): void {
  memory.u32[(offset >>> 2) + 2] = sequence;
}

export function readSequence(memory: FrameMemory, offset: number): number {
  return memory.u32[(offset >>> 2) + 2] as number;
}

/** Marks a frame for the bridge, or (0, 0) for a ring. */
export function writeWire(memory: FrameMemory, offset: number, wireType: number, wireChannel: number): void {
  const at = offset >>> 2;
  memory.u32[at] = wireType;
  memory.u32[at + 1] = wireChannel;
}

/** Bytes of the frame that `writeBarrierFrame` writes. */
export function barrierFrameBytes(barrier: Barrier): number {
  return FRAME_HEADER_BYTES + BARRIER_PAYLOAD_BYTES + Buffer.byteLength(barrier.savepoint?.location ?? "");
}

export function writeBarrierFrame(memory: FrameMemory, offset: number, barrier: Barrier): void {
  const { savepoint } = barrier;
  const byteLength = barrierFrameBytes(barrier);
  const locationBytes = byteLength - FRAME_HEADER_BYTES - BARRIER_PAYLOAD_BYTES;
  assert(locationBytes <= SAVEPOINT_LOCATION_BYTES_MAX, "a barrier fits into a slot");
  writeFrameHeader(memory, offset, { kind: FRAME_BARRIER, flags: 0, rowCount: 0, byteLength, totalBytes: 0 });
  const at = (offset + FRAME_HEADER_BYTES) >>> 3;
  memory.f64[at] = barrier.checkpointId;
  memory.f64[at + 1] = barrier.timestampMs;
  memory.u32[(at + 2) << 1] =
    (barrier.isFinal ? BARRIER_FINAL : 0) |
    (savepoint === undefined ? 0 : BARRIER_SAVEPOINT) |
    (savepoint?.stops === true ? BARRIER_STOPS : 0);
  memory.u32[((at + 2) << 1) + 1] = locationBytes;
  if (savepoint !== undefined)
    memory.bytes.write(savepoint.location, offset + FRAME_HEADER_BYTES + BARRIER_PAYLOAD_BYTES, "utf8");
}

export function readBarrier(memory: FrameMemory, offset: number): Barrier {
  const at = (offset + FRAME_HEADER_BYTES) >>> 3;
  const flags = memory.u32[(at + 2) << 1] as number;
  const from = offset + FRAME_HEADER_BYTES + BARRIER_PAYLOAD_BYTES;
  const locationBytes = memory.u32[((at + 2) << 1) + 1] as number;
  const savepoint = {
    location: memory.bytes.toString("utf8", from, from + locationBytes),
    stops: (flags & BARRIER_STOPS) !== 0,
  };
  return {
    checkpointId: memory.f64[at] as CheckpointId,
    timestampMs: memory.f64[at + 1] as number,
    isFinal: (flags & BARRIER_FINAL) !== 0,
    ...((flags & BARRIER_SAVEPOINT) === 0 ? {} : { savepoint }),
  };
}

export function writeEndOfDataFrame(memory: FrameMemory, offset: number): void {
  writeFrameHeader(memory, offset, {
    kind: FRAME_END_OF_DATA,
    flags: 0,
    rowCount: 0,
    byteLength: FRAME_HEADER_BYTES,
    totalBytes: 0,
  });
}

/** What a peer of another version might send: named, so that both ends can be brought to one version. */
export function unknownFrameKind(kind: number, where: string): Failure {
  return new Failure("FORMAT_UNSUPPORTED", {
    retry: "never",
    message: `${where}: frame kind ${kind} is not known to this version`,
    remedy: "Run all processes of the job with the same version of Sluice.",
  });
}
