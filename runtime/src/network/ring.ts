// Single-producer, single-consumer ring of fixed-size slots in shared memory: the local channel between two subtasks.
//
//   0    u32 magic | u32 version | u32 slotCount | u32 slotBytes
//   64   u32 published   slots published so far, modulo 2^32; written by the producer only
//   128  u32 released    slots released so far, modulo 2^32; written by the consumer only
//   192  u32 wanted      1: the producer has no credit left and wants to hear of the next release
//   256  slots           slotCount x slotBytes, each holds one frame (frame.ts)
// The three words lie on cache lines of their own.
//
// Invariants (tests cite them by name):
//   RG1. 0 <= published - released <= slotCount: free slots are the credit, no other account of it exists.
//   RG2. Slots are consumed in the order published; what was written before `publish` is visible after `peek`.
//   RG3. Between `reserve` and `publish` a slot belongs to the producer, between `peek` and `release` to the consumer.
//   RG4. A producer that asked with `requestCredit` and got false hears its bell after the next release.
//
// Not here: what is inside a slot (frame.ts), what happens without credit (record-writer.ts, tcp-bridge.ts).

import { assert } from "@sluice/kit";
import type { Bell } from "./bell.ts";

const MAGIC = 0x534c_5247; // "SLRG"
const VERSION = 0;
const HEADER_BYTES = 256;
const PUBLISHED = 16;
const RELEASED = 32;
const WANTED = 48;

export const DEFAULT_SLOT_COUNT = 16;
export const DEFAULT_SLOT_BYTES = 32 * 1024;

/** Memory for a new ring. `slotBytes` is a multiple of 8. */
export function allocateRing(
  options: { readonly slotCount?: number; readonly slotBytes?: number } = {},
): SharedArrayBuffer {
  const slotCount = options.slotCount ?? DEFAULT_SLOT_COUNT;
  const slotBytes = options.slotBytes ?? DEFAULT_SLOT_BYTES;
  // A power of two, so that the slot index goes on where it was when the 32-bit counters wrap.
  assert(
    slotCount >= 1 && slotCount <= 65_536 && (slotCount & (slotCount - 1)) === 0,
    "a ring has 1 to 65536 slots, a power of two",
  );
  assert(slotBytes >= 128 && slotBytes % 8 === 0, "a slot holds a frame header and is aligned to 8 bytes");
  const shared = new SharedArrayBuffer(HEADER_BYTES + slotCount * slotBytes);
  new Uint32Array(shared, 0, 4).set([MAGIC, VERSION, slotCount, slotBytes]);
  return shared;
}

/** Common to both ends: sizes and views. The views span the whole ring, so that a frame is addressed by offset without new views. */
class RingEnd {
  readonly slotCount: number;
  readonly slotBytes: number;
  /** Views of the whole shared memory. */
  readonly memory: FrameMemory;
  protected readonly words: Int32Array<SharedArrayBuffer>;

  constructor(shared: SharedArrayBuffer) {
    this.words = new Int32Array(shared);
    const magic = this.words[0];
    const version = this.words[1];
    this.slotCount = this.words[2] ?? 0;
    this.slotBytes = this.words[3] ?? 0;
    assert(magic === MAGIC && version === VERSION, "shared memory of a channel holds a ring of this version");
    assert(shared.byteLength === HEADER_BYTES + this.slotCount * this.slotBytes, "a ring has the size its header says");
    this.memory = frameMemory(shared);
  }

  /** Byte offset of a slot in {@link memory}. */
  offsetOf(slot: number): number {
    return HEADER_BYTES + slot * this.slotBytes;
  }

  /** Slots published and not yet released. */
  get filled(): number {
    return (Atomics.load(this.words, PUBLISHED) - Atomics.load(this.words, RELEASED)) >>> 0;
  }
}

/** Typed views of one buffer, shared or not; offsets are in elements of each view. */
export interface FrameMemory {
  readonly f64: Float64Array<ArrayBufferLike>;
  readonly i32: Int32Array<ArrayBufferLike>;
  readonly u32: Uint32Array<ArrayBufferLike>;
  readonly u8: Uint8Array<ArrayBufferLike>;
  readonly bytes: Buffer;
}

/** Views of `buffer`, whose length is a multiple of 8. */
export function frameMemory(buffer: ArrayBufferLike): FrameMemory {
  assert(buffer.byteLength % 8 === 0, "frame memory is aligned to 8 bytes");
  return {
    f64: new Float64Array(buffer),
    i32: new Int32Array(buffer),
    u32: new Uint32Array(buffer),
    u8: new Uint8Array(buffer),
    bytes: Buffer.from(buffer),
  };
}

export class RingProducer extends RingEnd {
  readonly #consumerBell: Bell;
  #published: number;
  /** What the consumer had released when last looked: saves an atomic load of a contended line per batch. */
  #releasedSeen: number;
  #reserved = false;

  constructor(shared: SharedArrayBuffer, consumerBell: Bell) {
    super(shared);
    this.#consumerBell = consumerBell;
    this.#published = Atomics.load(this.words, PUBLISHED);
    this.#releasedSeen = Atomics.load(this.words, RELEASED);
  }

  /** Free slots (credit) as of now. */
  get free(): number {
    this.#releasedSeen = Atomics.load(this.words, RELEASED);
    const used = (this.#published - this.#releasedSeen) | 0;
    assert(used >= 0 && used <= this.slotCount, "RG1: published - released lies within the ring");
    return this.slotCount - used;
  }

  /** How many slots the consumer has released so far, modulo 2^32 (the bridge announces credit from it). */
  get released(): number {
    return Atomics.load(this.words, RELEASED) >>> 0;
  }

  /** The slot to write next, or -1 without credit. Asking again before `publish` gives the same slot. */
  reserve(): number {
    if (!this.#reserved) {
      if (((this.#published - this.#releasedSeen) | 0) === this.slotCount && this.free === 0) return -1;
      this.#reserved = true;
    }
    return (this.#published >>> 0) % this.slotCount;
  }

  /** Gives up a reserved slot that was not written. */
  unreserve(): void {
    this.#reserved = false;
  }

  /** Hands the reserved slot to the consumer and rings its bell (RG2). */
  publish(): void {
    assert(this.#reserved, "RG3: only a reserved slot is published");
    this.#reserved = false;
    this.#published = (this.#published + 1) | 0;
    Atomics.store(this.words, PUBLISHED, this.#published);
    this.#consumerBell.ring();
  }

  /** True when there is credit; otherwise the producer's bell will ring after the next release (RG4). */
  requestCredit(): boolean {
    if (this.free > 0) return true;
    Atomics.store(this.words, WANTED, 1);
    // A release between the look and the store would not have rung: look again.
    return this.free > 0;
  }

  /** The producer's bell rings at the next release, whatever the credit is. */
  notifyRelease(): void {
    Atomics.store(this.words, WANTED, 1);
  }
}

export class RingConsumer extends RingEnd {
  readonly #producerBell: Bell;
  #released: number;
  #publishedSeen: number;

  constructor(shared: SharedArrayBuffer, producerBell: Bell) {
    super(shared);
    this.#producerBell = producerBell;
    this.#released = Atomics.load(this.words, RELEASED);
    this.#publishedSeen = this.#released;
  }

  /** The oldest published slot, or -1. */
  peek(): number {
    if (this.#publishedSeen === this.#released) {
      this.#publishedSeen = Atomics.load(this.words, PUBLISHED);
      const filled = (this.#publishedSeen - this.#released) | 0;
      assert(filled >= 0 && filled <= this.slotCount, "RG1: published - released lies within the ring");
      if (filled === 0) return -1;
    }
    return (this.#released >>> 0) % this.slotCount;
  }

  /** Gives the slot last peeked back to the producer. */
  release(): void {
    assert(this.#publishedSeen !== this.#released, "RG3: only a peeked slot is released");
    this.#released = (this.#released + 1) | 0;
    Atomics.store(this.words, RELEASED, this.#released);
    if (Atomics.load(this.words, WANTED) !== 0 && Atomics.exchange(this.words, WANTED, 0) !== 0)
      this.#producerBell.ring();
  }
}
