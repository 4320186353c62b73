// All input channels of one subtask, over all its input edges.
//
// Invariants (tests cite them by name):
//   IG1. Per channel, frames are delivered once, in the order of their sequence numbers; a gap is a bug and stops the process.
//   IG2. A channel marked blocked is not looked at: what lies in it stays there.
//   IG3. Channels that are ready and not blocked take turns.
//   IG4. A slot goes back to its producer when its frame was consumed, not before; a record that came in pieces holds no slot.
//
// Not here: which channels are blocked (checkpoint/aligner.ts), what happens with the rows (task/).

import { assert } from "@sluice/kit";
import type { Barrier, TypeDescriptor } from "../model/index.ts";
import { readerFactory } from "./codec/codec.ts";
import type { CodecMode } from "./codec/codec.ts";
import type { RowFrameReader } from "./codec/row-codec.ts";
import type { ChannelHead, GateChannel, HeadKind, RowReader } from "./contracts.ts";
import {
  FLAG_HASHES,
  FLAG_INFERRED,
  FLAG_TAGGED,
  FRAME_BARRIER,
  FRAME_END_OF_DATA,
  FRAME_FRAGMENT,
  FRAME_HEADER_BYTES,
  FRAME_RECORDS,
  FRAME_SCHEMA,
  readBarrier,
  readFrameHeader,
  readSequence,
  unknownFrameKind,
} from "./frame.ts";
import type { FrameHeader } from "./frame.ts";
import { RECORD_BYTES_MAX } from "./output-channel.ts";
import { frameMemory } from "./ring.ts";
import type { FrameMemory, RingConsumer } from "./ring.ts";

/** Makes readers, once per edge and codec, so that the channels of an edge share code. */
class ReaderFactories {
  readonly #mode: CodecMode;
  readonly #byCodec = new Map<string, () => RowFrameReader>();

  constructor(mode: CodecMode) {
    this.#mode = mode;
  }

  make(edge: string, type: TypeDescriptor, hasHashes: boolean): RowFrameReader {
    const codec = `${edge}\n${hasHashes}\n${JSON.stringify(type)}`;
    let factory = this.#byCodec.get(codec);
    if (factory === undefined) {
      factory = readerFactory(type, { hasHashes, mode: this.#mode });
      this.#byCodec.set(codec, factory);
    }
    return factory();
  }
}

const NO_READER: RowReader = {
  read: () => assert(false, "only a RECORDS head has rows"),
  hash: () => 0,
};

class InputChannel implements ChannelHead {
  readonly channel: number;
  readonly inputIndex: 0 | 1;
  kind: HeadKind = "RECORDS";
  barrier: Barrier | undefined;
  reader: RowReader = NO_READER;
  rowCount = 0;
  cursor = 0;
  /** True while a head is bound and not consumed. */
  isReady = false;
  isEnded = false;
  /** Bytes of the head, for the counters. */
  headBytes = 0;
  readonly #ring: RingConsumer;
  readonly #spec: GateChannel;
  readonly #factories: ReaderFactories;
  /** By codec of the frames: declared or tagged (0), inferred (1). */
  #declared: RowFrameReader | undefined;
  #inferred: RowFrameReader | undefined;
  #schema: TypeDescriptor | undefined;
  #sequence = 0;
  #holdsSlot = false;
  #pieces: FrameMemory | undefined;
  #piecesBytes = 0;

  constructor(channel: number, spec: GateChannel, factories: ReaderFactories) {
    this.channel = channel;
    this.inputIndex = spec.inputIndex;
    this.#ring = spec.ring;
    this.#spec = spec;
    this.#factories = factories;
  }

  /** True when there is a head. Takes in frames that are not heads by themselves: schemas and pieces. */
  poll(): boolean {
    while (!this.isReady) {
      const slot = this.#ring.peek();
      if (slot < 0) return false;
      const offset = this.#ring.offsetOf(slot);
      const memory = this.#ring.memory;
      const sequence = readSequence(memory, offset);
      assert(
        sequence === this.#sequence,
        `IG1: ${this.#spec.name} delivers frame ${this.#sequence}, found ${sequence}`,
      );
      this.#sequence = (sequence + 1) >>> 0;
      this.#accept(memory, offset, readFrameHeader(memory, offset));
    }
    return true;
  }

  consume(): void {
    assert(this.isReady, "a head is consumed once");
    this.isReady = false;
    if (this.kind === "END_OF_DATA") this.isEnded = true;
    this.barrier = undefined;
    this.reader = NO_READER;
    this.rowCount = 0;
    this.cursor = 0;
    if (this.#holdsSlot) {
      this.#holdsSlot = false;
      this.#ring.release();
    } else {
      // A record that came in pieces: its memory should not live until the next frame of this codec.
      this.#declared?.unbind();
      this.#inferred?.unbind();
    }
  }

  #accept(memory: FrameMemory, offset: number, header: FrameHeader): void {
    assert(
      header.byteLength >= FRAME_HEADER_BYTES && header.byteLength <= this.#ring.slotBytes,
      "a frame lies within its slot",
    );
    assert(
      this.#pieces === undefined || header.kind === FRAME_FRAGMENT,
      "IG1: the pieces of a record follow each other",
    );
    assert(!this.isEnded || header.kind === FRAME_BARRIER, "FR2: after END_OF_DATA a channel carries barriers only");
    switch (header.kind) {
      case FRAME_RECORDS:
        this.#holdsSlot = true;
        this.#bindRows(memory, offset, header);
        return;
      case FRAME_BARRIER:
        this.#holdsSlot = true;
        this.#present("BARRIER", header.byteLength);
        this.barrier = readBarrier(memory, offset);
        return;
      case FRAME_END_OF_DATA:
        this.#holdsSlot = true;
        this.#present("END_OF_DATA", header.byteLength);
        return;
      case FRAME_SCHEMA:
        this.#takeSchema(memory, offset, header);
        this.#ring.release();
        return;
      case FRAME_FRAGMENT:
        this.#takePiece(memory, offset, header);
        this.#ring.release();
        if (header.rowCount === 1) this.#bindPieces();
        return;
      default:
        throw unknownFrameKind(header.kind, this.#spec.name);
    }
  }

  #present(kind: HeadKind, byteLength: number): void {
    this.kind = kind;
    this.isReady = true;
    this.headBytes = byteLength;
    this.cursor = 0;
  }

  #bindRows(memory: FrameMemory, offset: number, header: FrameHeader): void {
    const reader = this.#readerFor(header.flags);
    this.rowCount = reader.bind(memory, offset, header);
    this.reader = reader;
    this.#present("RECORDS", header.byteLength);
  }

  #readerFor(flags: number): RowFrameReader {
    const { edge, type } = this.#spec;
    const hasHashes = (flags & FLAG_HASHES) !== 0;
    if ((flags & FLAG_INFERRED) !== 0) {
      assert(this.#schema !== undefined, "a schema precedes the frames that use it");
      this.#inferred ??= this.#factories.make(edge, this.#schema, hasHashes);
      return this.#inferred;
    }
    assert(((flags & FLAG_TAGGED) !== 0) === (type.kind === "GENERIC"), "both ends of an edge agree on its type");
    this.#declared ??= this.#factories.make(edge, type, hasHashes);
    return this.#declared;
  }

  #takeSchema(memory: FrameMemory, offset: number, header: FrameHeader): void {
    assert(
      this.#spec.type.kind === "GENERIC" && this.#schema === undefined,
      "a GENERIC channel has at most one schema",
    );
    const json = memory.bytes.toString("utf8", offset + FRAME_HEADER_BYTES, offset + header.byteLength);
    this.#schema = JSON.parse(json) as TypeDescriptor;
  }

  #takePiece(memory: FrameMemory, offset: number, header: FrameHeader): void {
    if (this.#pieces === undefined) {
      assert(
        header.totalBytes > FRAME_HEADER_BYTES && header.totalBytes <= RECORD_BYTES_MAX,
        "a record in pieces is within the limit",
      );
      this.#pieces = frameMemory(new ArrayBuffer((header.totalBytes + 7) & ~7));
      this.#piecesBytes = 0;
    }
    const length = header.byteLength - FRAME_HEADER_BYTES;
    assert(this.#piecesBytes + length <= header.totalBytes, "the pieces of a record add up to its size");
    this.#pieces.u8.set(memory.u8.subarray(offset + FRAME_HEADER_BYTES, offset + header.byteLength), this.#piecesBytes);
    this.#piecesBytes += length;
    assert((header.rowCount === 1) === (this.#piecesBytes === header.totalBytes), "the last piece completes a record");
  }

  #bindPieces(): void {
    const memory = this.#pieces;
    assert(memory !== undefined, "pieces were taken");
    this.#pieces = undefined;
    this.#holdsSlot = false; // IG4
    this.#bindRows(memory, 0, readFrameHeader(memory, 0));
    assert(this.rowCount === 1, "a record in pieces is one row");
  }
}

export class InputGate {
  readonly channelCount: number;
  readonly #channels: readonly InputChannel[];
  #next = 0;
  #rowsRead = 0;
  #bytesRead = 0;

  constructor(options: { readonly channels: readonly GateChannel[]; readonly codecMode?: CodecMode }) {
    assert(options.channels.length > 0, "a gate has at least one channel");
    const factories = new ReaderFactories(options.codecMode ?? "generated");
    this.#channels = options.channels.map((spec, i) => new InputChannel(i, spec, factories));
    this.channelCount = this.#channels.length;
  }

  /** The next channel that has a head and is not blocked (`blocked[i] !== 0`), taking turns (IG2, IG3); -1: none now. */
  nextReady(blocked: Uint8Array): number {
    const count = this.channelCount;
    let i = this.#next;
    for (let looked = 0; looked < count; looked += 1) {
      if (blocked[i] === 0 && (this.#channels[i] as InputChannel).poll()) {
        this.#next = i + 1 === count ? 0 : i + 1;
        return i;
      }
      i = i + 1 === count ? 0 : i + 1;
    }
    return -1;
  }

  /** The head of a channel that `nextReady` returned. */
  head(channel: number): ChannelHead {
    const input = this.#channels[channel] as InputChannel;
    assert(input.isReady, "a channel has a head after nextReady returned it, until consume");
    return input;
  }

  /** Done with the head: its slot goes back to the producer (IG4). All rows must have been processed. */
  consume(channel: number): void {
    const input = this.#channels[channel] as InputChannel;
    assert(input.kind !== "RECORDS" || input.cursor === input.rowCount, "a batch is consumed after its last row");
    this.#rowsRead += input.rowCount;
    this.#bytesRead += input.headBytes;
    input.consume();
  }

  /** END_OF_DATA of this channel was consumed; barriers may still come. */
  isEnded(channel: number): boolean {
    return (this.#channels[channel] as InputChannel).isEnded;
  }

  /** Rows of consumed batches. */
  get rowsRead(): number {
    return this.#rowsRead;
  }

  get bytesRead(): number {
    return this.#bytesRead;
  }
}
