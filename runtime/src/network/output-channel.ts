// One outgoing channel: an open batch in a slot of its ring, or on the heap while there is no slot.
//
// Invariants (tests cite them by name):
//   OC1. Frames enter the ring in the order of their sequence numbers; while any frame is staged, every new one is staged behind it.
//   OC2. Nothing blocks and nothing is dropped: without credit frames go to the heap, and the channel says that it is blocked.
//   OC3. A frame is written once into its slot; only staged frames are copied.
//   OC4. After END_OF_DATA only barriers follow (frame.ts FR2).
//
// Not here: which records go here (record-writer.ts).

import { assert, Failure } from "@sluice/kit";
import type { Barrier, TypeDescriptor } from "../model/index.ts";
import type { RowWriter } from "./codec/row-codec.ts";
import {
  barrierFrameBytes,
  FRAME_FRAGMENT,
  FRAME_HEADER_BYTES,
  FRAME_SCHEMA,
  writeBarrierFrame,
  writeEndOfDataFrame,
  writeFrameHeader,
  writeSequence,
} from "./frame.ts";
import { frameMemory } from "./ring.ts";
import type { FrameMemory, RingProducer } from "./ring.ts";

/** The largest record that can travel, encoded. */
export const RECORD_BYTES_MAX = 64 * 1024 * 1024;

interface StagedFrame {
  readonly memory: FrameMemory;
  readonly byteLength: number;
}

/** Heap frames of the size of a slot, kept for reuse by the channels of one edge. */
export class StagingPool {
  readonly #free: FrameMemory[] = [];
  readonly #slotBytes: number;
  readonly #keptMax = 8;

  constructor(slotBytes: number) {
    this.#slotBytes = slotBytes;
  }

  take(): FrameMemory {
    return this.#free.pop() ?? frameMemory(new ArrayBuffer(this.#slotBytes));
  }

  give(memory: FrameMemory): void {
    if (this.#free.length < this.#keptMax) this.#free.push(memory);
  }
}

export class OutputChannel {
  readonly #ring: RingProducer;
  readonly #pool: StagingPool;
  readonly #slotBytes: number;
  #writer: RowWriter;
  /** Where the open batch lies; undefined: none is open. */
  #openMemory: FrameMemory | undefined;
  #openOffset = 0;
  #staged: StagedFrame[] = [];
  #stagedFirst = 0;
  #sequence = 0;
  #ended = false;
  #schemaSent = false;
  #sealedRows = 0;
  #bytes = 0;
  /** No credit at the last look: the task should stop until `drain` says otherwise (OC2). */
  blocked = false;

  constructor(ring: RingProducer, writer: RowWriter, pool: StagingPool) {
    this.#ring = ring;
    this.#writer = writer;
    this.#pool = pool;
    this.#slotBytes = ring.slotBytes;
  }

  get slotBytes(): number {
    return this.#slotBytes;
  }

  get writer(): RowWriter {
    return this.#writer;
  }

  get rowsWritten(): number {
    return this.#sealedRows + this.#writer.rows;
  }

  /** Bytes of frames published or staged. */
  get bytesWritten(): number {
    return this.#bytes;
  }

  get stagedFrames(): number {
    return this.#staged.length - this.#stagedFirst;
  }

  /** Rows that only `flush` or more rows will publish. */
  get hasPending(): boolean {
    return this.#writer.rows > 0;
  }

  /** Another codec from the next row on; what is open is sealed first. */
  replaceWriter(writer: RowWriter): void {
    this.seal();
    this.#closeOpen();
    this.#writer = writer;
  }

  /** Announces the descriptor of inferred frames, once. False: it is larger than a slot. */
  sendSchema(type: TypeDescriptor): boolean {
    if (this.#schemaSent) return true;
    const json = new TextEncoder().encode(JSON.stringify(type));
    const byteLength = FRAME_HEADER_BYTES + json.length;
    if (byteLength > this.#slotBytes) return false;
    this.#schemaSent = true;
    this.#writeFrame(byteLength, (memory, offset) => {
      writeFrameHeader(memory, offset, { kind: FRAME_SCHEMA, flags: 0, rowCount: 0, byteLength, totalBytes: 0 });
      memory.u8.set(json, offset + FRAME_HEADER_BYTES);
    });
    return true;
  }

  /** Slow path of a row that its writer did not take: seals, opens the next frame, or sends the row in pieces. False: the writer deviated. */
  writeSlow(record: unknown, hash: number): boolean {
    assert(!this.#ended, "OC4: no row follows END_OF_DATA");
    const writer = this.#writer;
    if (writer.deviated) return false;
    if (writer.rows > 0) this.seal();
    if (writer.capacity === 0) this.#open();
    if (writer.tryWrite(record, hash)) return true;
    if (writer.deviated) return false;
    return this.#writeLarge(record, hash);
  }

  /** Ends the open batch, if it has rows, and hands it over. */
  seal(): void {
    const writer = this.#writer;
    const rows = writer.rows;
    if (rows === 0) return;
    const memory = this.#openMemory;
    assert(memory !== undefined, "rows lie in an open frame");
    const byteLength = writer.seal();
    this.#sealedRows += rows;
    this.#openMemory = undefined;
    this.#commit(memory, this.#openOffset, byteLength);
  }

  sendBarrier(barrier: Barrier): void {
    this.seal();
    this.#writeFrame(barrierFrameBytes(barrier), (memory, offset) => writeBarrierFrame(memory, offset, barrier));
  }

  sendEndOfData(): void {
    assert(!this.#ended, "OC4: a channel ends once");
    this.seal();
    this.#writeFrame(FRAME_HEADER_BYTES, writeEndOfDataFrame);
    this.#ended = true;
  }

  /** Moves staged frames into free slots. True: nothing is staged and there is credit. */
  drain(): boolean {
    for (;;) {
      while (this.stagedFrames > 0 && this.#ring.reserve() >= 0) this.#publishStaged();
      if (this.stagedFrames === 0 && this.#openMemory !== undefined && !this.#openInRing) {
        // The open batch is on the heap: with credit it goes now, so that nothing older than the next slot stays behind.
        if (this.#writer.rows === 0) this.#closeOpen();
        else if (this.#ring.reserve() >= 0) {
          this.seal();
          continue;
        }
      }
      if (!this.#ring.requestCredit()) {
        this.blocked = true;
        return false;
      }
      if (this.stagedFrames === 0 && (this.#openMemory === undefined || this.#openInRing)) {
        this.blocked = false;
        return true;
      }
    }
  }

  get #openInRing(): boolean {
    return this.#openMemory === this.#ring.memory;
  }

  #open(): void {
    const slot = this.stagedFrames === 0 ? this.#ring.reserve() : -1; // OC1
    if (slot >= 0) {
      this.#openMemory = this.#ring.memory;
      this.#openOffset = this.#ring.offsetOf(slot);
    } else {
      this.#openMemory = this.#pool.take();
      this.#openOffset = 0;
      this.blocked = true;
    }
    this.#writer.open(this.#openMemory, this.#openOffset, this.#slotBytes);
  }

  /** Gives up an open frame without rows. */
  #closeOpen(): void {
    assert(this.#writer.rows === 0, "only an empty frame is given up");
    this.#writer.abandon();
    if (this.#openMemory === undefined) return;
    if (this.#openInRing) this.#ring.unreserve();
    else this.#pool.give(this.#openMemory);
    this.#openMemory = undefined;
  }

  /** A frame that is written at once: into a slot, or on the heap behind what is staged. */
  #writeFrame(byteLength: number, write: (memory: FrameMemory, offset: number) => void): void {
    this.#closeOpen();
    const slot = this.stagedFrames === 0 ? this.#ring.reserve() : -1; // OC1
    if (slot >= 0) {
      const offset = this.#ring.offsetOf(slot);
      write(this.#ring.memory, offset);
      this.#commit(this.#ring.memory, offset, byteLength);
    } else {
      const memory = byteLength <= 256 ? frameMemory(new ArrayBuffer((byteLength + 7) & ~7)) : this.#pool.take();
      write(memory, 0);
      this.#commit(memory, 0, byteLength);
    }
  }

  /** Numbers a complete frame and publishes or stages it. */
  #commit(memory: FrameMemory, offset: number, byteLength: number): void {
    assert(byteLength <= this.#slotBytes, "a frame fits into a slot");
    writeSequence(memory, offset, this.#sequence);
    this.#sequence = (this.#sequence + 1) >>> 0;
    this.#bytes += byteLength;
    if (memory === this.#ring.memory) {
      this.#ring.publish();
      if (this.#ring.free === 0) this.blocked = true;
    } else {
      this.#staged.push({ memory, byteLength });
      this.blocked = true;
    }
  }

  #publishStaged(): void {
    const frame = this.#staged[this.#stagedFirst] as StagedFrame;
    const offset = this.#ring.offsetOf(this.#ring.reserve());
    this.#ring.memory.u8.set(frame.memory.u8.subarray(0, frame.byteLength), offset);
    this.#ring.publish();
    if (frame.memory.u8.length === this.#slotBytes) this.#pool.give(frame.memory);
    this.#stagedFirst += 1;
    if (this.#stagedFirst === this.#staged.length || this.#stagedFirst >= 64) {
      this.#staged.splice(0, this.#stagedFirst);
      this.#stagedFirst = 0;
    }
  }

  /** A row that an empty frame does not hold: alone in a frame, in pieces if that is larger than a slot. */
  #writeLarge(record: unknown, hash: number): boolean {
    const writer = this.#writer;
    this.#closeOpen();
    for (let sizeBytes = this.#slotBytes; sizeBytes <= RECORD_BYTES_MAX; sizeBytes *= 2) {
      const memory = frameMemory(new ArrayBuffer(sizeBytes));
      writer.openForOne(memory, 0, sizeBytes);
      const isWritten = this.#tryLarge(record, hash);
      if (writer.deviated) return false;
      if (!isWritten) continue;
      const totalBytes = writer.seal();
      this.#sealedRows += 1;
      if (totalBytes <= this.#slotBytes) {
        this.#writeFrame(totalBytes, (target, offset) => target.u8.set(memory.u8.subarray(0, totalBytes), offset));
      } else {
        this.#sendFragments(memory.u8, totalBytes);
      }
      return true;
    }
    throw new Failure("RECORD_MALFORMED", {
      retry: "never",
      message: `a record takes more than ${RECORD_BYTES_MAX} bytes in its encoded form, which is the limit of a channel`,
      remedy: "Keep large contents outside of records (for example in the object store) and send references to them.",
    });
  }

  /** A failure, or too little room, leaves no frame open. */
  #tryLarge(record: unknown, hash: number): boolean {
    let isWritten = false;
    try {
      isWritten = this.#writer.tryWrite(record, hash);
    } finally {
      if (!isWritten) this.#writer.abandon();
    }
    return isWritten;
  }

  #sendFragments(frame: Uint8Array, totalBytes: number): void {
    const pieceMax = this.#slotBytes - FRAME_HEADER_BYTES;
    for (let from = 0; from < totalBytes; from += pieceMax) {
      const piece = frame.subarray(from, Math.min(totalBytes, from + pieceMax));
      const byteLength = FRAME_HEADER_BYTES + piece.length;
      const rowCount = from + piece.length === totalBytes ? 1 : 0;
      this.#writeFrame(byteLength, (memory, offset) => {
        writeFrameHeader(memory, offset, { kind: FRAME_FRAGMENT, flags: 0, rowCount, byteLength, totalBytes });
        memory.u8.set(piece, offset + FRAME_HEADER_BYTES);
      });
    }
  }
}
