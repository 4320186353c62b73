// All channels of one output edge of one subtask: where a record goes, and when batches leave.
//
// Invariants (tests cite them by name):
//   RW1. Per channel, rows, barriers and the end arrive in the order they were given, also through staging (output-channel.ts OC1).
//   RW2. `emit` never blocks and never drops. `available` false: the caller stops until `drain` returned true; until then at most what
//        one call of user code emits is staged.
//   RW3. HASH: a record goes to the subtask that owns the key group of its key (kit/hash.ts H3); its hash travels with it.
//   RW4. A GENERIC edge takes its columns from the first record; a channel that meets another shape goes over to tagged values for good
//        and is counted in `taggedChannels`.
//   RW5. Per record: no allocation, no lookup by name; the code of `emit` belongs to this edge alone.
//
// Not here: when to flush (task/ calls `flush` after the buffer timeout), the frames (output-channel.ts).

import { assert, keyGroupOf, subtaskOfKeyGroup } from "@sluice/kit";
import type { Barrier, KeyHasher, TypeDescriptor } from "../model/index.ts";
import { inferType, writerFactory } from "./codec/codec.ts";
import type { CodecMode } from "./codec/codec.ts";
import { canGenerateCode } from "./codec/generate.ts";
import { edgeKeyHasher } from "./codec/key-hash.ts";
import type { RowWriter } from "./codec/row-codec.ts";
import type { RecordWriterOptions } from "./contracts.ts";
import { FLAG_INFERRED, FLAG_TAGGED } from "./frame.ts";
import { OutputChannel, StagingPool } from "./output-channel.ts";
import type { RingProducer } from "./ring.ts";

type Emit = (record: unknown) => void;
type Overflow = (target: number, record: unknown, hash: number) => void;

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
    this.emit = this.#makeEmit(options);
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

  #makeEmit(options: RecordWriterOptions): Emit {
    const writers = this.#writers;
    const overflow = this.#overflow;
    const count = writers.length;
    if (options.partitioning !== "HASH") {
      const first = options.subtaskIndex % count;
      return this.#mode === "generated" ? generateSpread(writers, first, overflow) : spread(writers, first, overflow);
    }
    const { keySelector, keyType, maxParallelism } = options;
    assert(keySelector !== undefined && keyType !== undefined, "a HASH edge has a key selector and a key type");
    const targets = Int32Array.from({ length: maxParallelism }, (_, keyGroup) =>
      subtaskOfKeyGroup(keyGroup, maxParallelism, count),
    );
    const hashOf = edgeKeyHasher(keyType, options.edge);
    const parts: HashParts = { writers, keySelector, hashOf, targets, maxParallelism, overflow };
    return this.#mode === "generated" ? generateHash(parts) : hashed(parts);
  }
}

interface HashParts {
  readonly writers: readonly RowWriter[];
  readonly keySelector: (record: unknown) => unknown;
  readonly hashOf: KeyHasher;
  readonly targets: Int32Array;
  readonly maxParallelism: number;
  readonly overflow: Overflow;
}

/** RW5: equal sources would share type feedback, so each instance has a number. */
let instances = 0;

function generateHash(parts: HashParts): Emit {
  instances += 1;
  const m = parts.maxParallelism;
  const keyGroup = (m & (m - 1)) === 0 ? `hash & ${m - 1}` : `(hash >>> 0) % ${m}`;
  // oxlint-disable-next-line typescript/no-implied-eval -- one function per edge (RW5)
  const make = new Function(
    "writers",
    "keySelector",
    "hashOf",
    "targets",
    "overflow",
    `"use strict"; // HASH emit ${instances}
return function emit(record) {
  const hash = hashOf(keySelector(record));
  const target = targets[${keyGroup}];
  if (!writers[target].tryWrite(record, hash)) overflow(target, record, hash);
};`,
  ) as (...bindings: readonly unknown[]) => Emit;
  return make(parts.writers, parts.keySelector, parts.hashOf, parts.targets, parts.overflow);
}

function hashed({ writers, keySelector, hashOf, targets, maxParallelism, overflow }: HashParts): Emit {
  return (record) => {
    const hash = hashOf(keySelector(record));
    const target = targets[keyGroupOf(hash, maxParallelism)] as number;
    if (!(writers[target] as RowWriter).tryWrite(record, hash)) overflow(target, record, hash);
  };
}

function generateSpread(writers: readonly RowWriter[], first: number, overflow: Overflow): Emit {
  instances += 1;
  const isOne = writers.length === 1;
  // oxlint-disable-next-line typescript/no-implied-eval -- one function per edge (RW5)
  const make = new Function(
    "writers",
    "overflow",
    `"use strict"; // REBALANCE emit ${instances}
let next = ${first};
return function emit(record) {
  ${isOne ? "const target = 0;" : `const target = next; next = target === ${writers.length - 1} ? 0 : target + 1;`}
  if (!writers[target].tryWrite(record, 0)) overflow(target, record, 0);
};`,
  ) as (...bindings: readonly unknown[]) => Emit;
  return make(writers, overflow);
}

function spread(writers: readonly RowWriter[], first: number, overflow: Overflow): Emit {
  let next = first;
  return (record) => {
    const target = next;
    next = target === writers.length - 1 ? 0 : target + 1;
    if (!(writers[target] as RowWriter).tryWrite(record, 0)) overflow(target, record, 0);
  };
}
