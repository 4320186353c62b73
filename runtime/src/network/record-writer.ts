// All channels of one output edge of one subtask: where a record goes, and when batches leave.
//
// Invariants (tests cite them by name):
//   RW1. Per channel, rows, barriers and the end arrive in the order they were given, also through staging (output-channel.ts OC1).
//   RW2. `emit` never blocks and never drops. `available` false: the caller stops until `drain` returned true; until then at most what
//        one call of user code emits is staged.
//   RW3. Barriers and the end go to every channel, whatever channel records go to; without credit on one of them the caller stops.
//   RW4. A GENERIC edge takes its columns from the first record; a channel that meets another shape goes over to tagged values for good
//        and is counted in `taggedChannels`.
//
// Not here: which channel a record goes to (emit.ts), when to flush (task/ calls `flush` after the buffer timeout), the frames
// (output-channel.ts).

import { assert } from "@sluice/kit";
import type { Barrier, TypeDescriptor } from "../model/index.ts";
import { inferType, writerFactory } from "./codec/codec.ts";
import type { CodecMode } from "./codec/codec.ts";
import { canGenerateCode } from "./codec/generate.ts";
import type { RowWriter } from "./codec/row-codec.ts";
import type { RecordWriterOptions } from "./contracts.ts";
import { makeEmit } from "./emit.ts";
import type { Emit, Overflow } from "./emit.ts";
import { FLAG_INFERRED, FLAG_TAGGED } from "./frame.ts";
import { OutputChannel, StagingPool } from "./output-channel.ts";
import type { RingProducer } from "./ring.ts";

export class RecordWriter {
  /** Sends one record. Throws Failure TYPE_MISMATCH (field, value, or key with its edge); the record is then not sent. */
  readonly emit: Emit;
  readonly #channels: readonly OutputChannel[];
  /** The channels' writers, for the fast path; replaced in place when a channel changes its codec. */
  readonly #writers: RowWriter[];
  readonly #type: TypeDescriptor;
  readonly #hasHashes: boolean;
  readonly #mode: CodecMode;
  #inferred: { readonly type: TypeDescriptor | undefined } | undefined;
  #taggedChannels = 0;

  constructor(options: RecordWriterOptions & { readonly codecMode?: CodecMode }) {
    const { channels, partitioning, type } = options;
    assert(channels.length > 0, "an output edge has at least one channel");
    assert(partitioning !== "FORWARD" || channels.length === 1, "a FORWARD edge has one channel per subtask");
    assert(
      partitioning !== "HASH" || channels.length <= options.maxParallelism,
      "parallelism is within the maximum parallelism",
    );
    this.#type = type;
    this.#hasHashes = partitioning === "HASH";
    this.#mode = options.codecMode === "interpreted" || !canGenerateCode() ? "interpreted" : "generated";
    const isGeneric = type.kind === "GENERIC";
    const make = writerFactory(type, {
      hasHashes: this.#hasHashes,
      onMismatch: "throw",
      flags: isGeneric ? FLAG_TAGGED : 0,
      mode: this.#mode,
    });
    const slotBytes = (channels[0] as RingProducer).slotBytes;
    assert(
      channels.every((ring) => ring.slotBytes === slotBytes),
      "the rings of an edge have one slot size",
    );
    const pool = new StagingPool(slotBytes);
    this.#channels = channels.map((ring) => new OutputChannel(ring, make(), pool));
    this.#writers = this.#channels.map((channel) => channel.writer);
    if (!isGeneric) this.#inferred = { type };
    this.emit = makeEmit(options, { writers: this.#writers, overflow: this.#overflow, mode: this.#mode });
  }

  /** False: some channel has no credit; do not schedule the task before `drain` returned true (RW2). */
  get available(): boolean {
    for (const channel of this.#channels) if (channel.blocked) return false;
    return true;
  }

  /** Rows that were written and not published yet. */
  get hasPending(): boolean {
    for (const channel of this.#channels) if (channel.hasPending) return true;
    return false;
  }

  /** Frames on the heap that wait for credit. */
  get stagedFrames(): number {
    let count = 0;
    for (const channel of this.#channels) count += channel.stagedFrames;
    return count;
  }

  get rowsWritten(): number {
    let count = 0;
    for (const channel of this.#channels) count += channel.rowsWritten;
    return count;
  }

  get bytesWritten(): number {
    let count = 0;
    for (const channel of this.#channels) count += channel.bytesWritten;
    return count;
  }

  /** Channels of a GENERIC edge that carry tagged values instead of columns (RW4); a metric. */
  get taggedChannels(): number {
    return this.#taggedChannels;
  }

  /** Publishes partial batches. What is staged stays in order behind the credit. */
  flush(): void {
    for (const channel of this.#channels) channel.seal();
  }

  /** Moves staged frames into freed slots; true: nothing is staged any more and every channel has credit. */
  drain(): boolean {
    let isDrained = true;
    for (const channel of this.#channels) if (channel.blocked && !channel.drain()) isDrained = false;
    return isDrained;
  }

  /** Sends the barrier behind everything emitted so far, on every channel (RW1). */
  broadcastBarrier(barrier: Barrier): void {
    for (const channel of this.#channels) channel.sendBarrier(barrier);
  }

  /** Nothing but barriers follows. */
  broadcastEndOfData(): void {
    for (const channel of this.#channels) channel.sendEndOfData();
  }

  readonly #overflow: Overflow = (target, record, hash) => {
    if (this.#inferred === undefined) this.#infer(record);
    const channel = this.#channels[target] as OutputChannel;
    if (channel.writeSlow(record, hash)) return;
    this.#switchToTagged(target); // RW4
    const isWritten = channel.writeSlow(record, hash);
    assert(isWritten, "RW2: a tagged writer takes every record or throws");
  };

  /** RW4: the first record of a GENERIC edge decides the columns of all its channels. */
  #infer(record: unknown): void {
    const type = inferType(record);
    this.#inferred = { type };
    const fits = type !== undefined && JSON.stringify(type).length * 3 < this.#channelSlotBytes();
    if (!fits) {
      this.#taggedChannels = this.#channels.length;
      return;
    }
    const make = writerFactory(type, {
      hasHashes: this.#hasHashes,
      onMismatch: "deviate",
      flags: FLAG_INFERRED,
      mode: this.#mode,
    });
    this.#channels.forEach((channel, i) => {
      const isSent = channel.sendSchema(type);
      assert(isSent, "an inferred schema that was found to fit fits");
      this.#replace(i, make());
    });
  }

  #channelSlotBytes(): number {
    return (this.#channels[0] as OutputChannel).slotBytes;
  }

  #switchToTagged(target: number): void {
    assert(this.#type.kind === "GENERIC", "only an inferred channel deviates");
    this.#taggedChannels += 1;
    const make = writerFactory(this.#type, {
      hasHashes: this.#hasHashes,
      onMismatch: "throw",
      flags: FLAG_TAGGED,
      mode: this.#mode,
    });
    this.#replace(target, make());
  }

  #replace(target: number, writer: RowWriter): void {
    (this.#channels[target] as OutputChannel).replaceWriter(writer);
    this.#writers[target] = writer;
  }
}
