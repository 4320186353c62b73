// Control mailbox in shared memory: a TaskManager's main thread writes, one slot reads, also while user code never yields.
//
//   0    u32 written   bytes written so far, modulo 2^32; by the writer only
//   64   u32 read      bytes read so far, modulo 2^32; by the reader only
//   128  ring of bytes: u32 length, then the message, padded to 4 bytes; a message may wrap around the end
//
// Invariants (tests cite them by name):
//   MB1. Messages arrive whole, once, in order; `post` that returned false left nothing behind.
//   MB2. After `post` the reader's bell has been rung.
//
// Not here: what the messages say (model/slot.ts SlotCommand).

import { assert } from "@sluice/kit";
import type { Bell } from "./bell.ts";

const WRITTEN = 0;
const READ = 16;
const DATA_OFFSET = 128;
const DEFAULT_CAPACITY_BYTES = 64 * 1024;

/** Memory for a new mailbox; `capacityBytes` is a power of two. */
export function allocateMailbox(capacityBytes: number = DEFAULT_CAPACITY_BYTES): SharedArrayBuffer {
  assert(
    capacityBytes >= 64 && capacityBytes <= 2 ** 30 && (capacityBytes & (capacityBytes - 1)) === 0,
    "a mailbox's capacity is a power of two",
  );
  return new SharedArrayBuffer(DATA_OFFSET + capacityBytes);
}

/** Views of one mailbox. */
function open(shared: SharedArrayBuffer): {
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly data: Uint8Array<SharedArrayBuffer>;
} {
  const capacity = shared.byteLength - DATA_OFFSET;
  assert(capacity >= 64 && (capacity & (capacity - 1)) === 0, "a mailbox's capacity is a power of two");
  return { words: new Int32Array(shared, 0, DATA_OFFSET / 4), data: new Uint8Array(shared, DATA_OFFSET) };
}

/** The TaskManager's end. */
export class MailboxWriter {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #data: Uint8Array<SharedArrayBuffer>;
  readonly #bell: Bell;

  constructor(shared: SharedArrayBuffer, readerBell: Bell) {
    const { words, data } = open(shared);
    this.#words = words;
    this.#data = data;
    this.#bell = readerBell;
  }

  /** False: full, the slot has not polled for long; nothing was written. A message that can never fit is a bug. */
  post(message: Uint8Array): boolean {
    const capacity = this.#data.length;
    const needed = 4 + ((message.length + 3) & ~3);
    assert(needed <= capacity, "a control message fits into an empty mailbox");
    const written = Atomics.load(this.#words, WRITTEN);
    const used = (written - Atomics.load(this.#words, READ)) >>> 0;
    if (capacity - used < needed) return false;
    const length = message.length;
    const at = (written >>> 0) % capacity; // a multiple of 4, as is the capacity: the length word never wraps
    this.#data[at] = length & 0xff;
    this.#data[at + 1] = (length >>> 8) & 0xff;
    this.#data[at + 2] = (length >>> 16) & 0xff;
    this.#data[at + 3] = length >>> 24;
    const start = (at + 4) % capacity;
    const first = Math.min(length, capacity - start);
    this.#data.set(message.subarray(0, first), start);
    this.#data.set(message.subarray(first), 0);
    Atomics.store(this.#words, WRITTEN, (written + needed) | 0);
    this.#bell.ring(); // MB2
    return true;
  }
}

/** The slot's end. */
export class MailboxReader {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #data: Uint8Array<SharedArrayBuffer>;

  constructor(shared: SharedArrayBuffer) {
    const { words, data } = open(shared);
    this.#words = words;
    this.#data = data;
  }

  /** The next message as bytes of its own, or undefined. Two atomic loads when there is none. */
  poll(): Uint8Array | undefined {
    const read = Atomics.load(this.#words, READ);
    if (Atomics.load(this.#words, WRITTEN) === read) return undefined;
    const capacity = this.#data.length;
    const at = (read >>> 0) % capacity;
    const d = this.#data;
    const length =
      ((d[at] as number) |
        ((d[at + 1] as number) << 8) |
        ((d[at + 2] as number) << 16) |
        ((d[at + 3] as number) << 24)) >>>
      0;
    assert(length + 4 <= capacity, "MB1: a message is no longer than the mailbox");
    const start = (at + 4) % capacity;
    const first = Math.min(length, capacity - start);
    const message = new Uint8Array(length);
    message.set(d.subarray(start, start + first));
    message.set(d.subarray(0, length - first), first);
    Atomics.store(this.#words, READ, (read + 4 + ((length + 3) & ~3)) | 0);
    return message;
  }
}
