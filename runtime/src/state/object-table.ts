// Table for all types that have no layout of their own: a Map per small segment, values as the user's own objects.
//
// Ownership: a value belongs to the state from update() on. A value that value() returned may be changed in place during
// the same record, but the change is only sure to be kept when update() is called; afterwards, and in later records,
// references from before must not be written through.
//
// Invariants: TB1-TB4 of table.ts, D1-D3 of directory.ts, and
//   OT1. A mutable value of an open cut is encoded before value() hands it out or update() takes it away.
//   OT2. A segment that is split while a cut needs it is encoded first: its entry objects live on in the halves.
//
// Not here: numbers and strings with layouts of their own (number-table.ts, string-table.ts).

import { ByteWriter, keyGroupOf } from "@sluice/kit";
import type { ByteReader } from "@sluice/kit";
import type { TypeDescriptor, ValueState } from "../model/index.ts";
import { codecFor, isMutable } from "./codec.ts";
import type { ValueCodec } from "./codec.ts";
import { SegmentDirectory } from "./directory.ts";
import { placeOf } from "./format.ts";
import type { PartWriter } from "./format.ts";
import { mixHash, positionOf } from "./keys.ts";
import type { KeyScope } from "./keys.ts";
import { misplacedKey, orderByPlace, SegmentCut, valueMismatch } from "./table.ts";
import type { OpenCut, StateTable, TableCut, TableOptions } from "./table.ts";

/** Small, because a segment is captured in one go and a value may take long to encode. */
const SEGMENT_ENTRIES_MAX = 256;

interface Entry {
  readonly key: unknown;
  readonly hash: number;
  value: unknown;
  stamp: number;
}

/** An entry as it was at the cut of `bit`: key and value encoded. */
interface Saved {
  readonly bit: number;
  readonly hash: number;
  readonly bytes: Uint8Array;
}

class ObjectSegment {
  readonly depth: number;
  readonly position: number;
  pending = 0;
  readonly entries = new Map<string | number, Entry>();
  saved: Saved[] = [];

  constructor(options: { readonly depth: number; readonly position: number }) {
    this.depth = options.depth;
    this.position = options.position;
  }
}

export class ObjectTable implements StateTable, ValueState<unknown> {
  readonly stateName: string;
  readonly valueType: TypeDescriptor;
  readonly #scope: KeyScope;
  readonly #codec: ValueCodec;
  readonly #isMutable: boolean;
  readonly #directory: SegmentDirectory<ObjectSegment>;
  readonly #scratch = new ByteWriter(256);
  #interval: number;
  #cuts: readonly OpenCut[] = [];
  #entryCount = 0;
  // What the current key leads to; valid while the epoch is the scope's.
  #epoch = -1;
  #segment: ObjectSegment;
  #mapKey: string | number = 0;
  #entry: Entry | undefined = undefined;

  constructor(scope: KeyScope, options: TableOptions) {
    this.stateName = options.stateName;
    this.valueType = options.valueType;
    this.#scope = scope;
    this.#codec = codecFor(options.valueType);
    this.#isMutable = isMutable(options.valueType);
    this.#interval = options.interval;
    this.#segment = new ObjectSegment({ depth: 0, position: 0 });
    this.#directory = new SegmentDirectory(scope.groups.count, this.#segment);
    this.forget();
  }

  get handle(): ValueState<unknown> {
    return this;
  }

  get entryCount(): number {
    return this.#entryCount;
  }

  value(): unknown {
    if (this.#epoch !== this.#scope.epoch) this.#locate("value()");
    const entry = this.#entry;
    if (entry === undefined) return undefined;
    if (this.#segment.pending !== 0 && this.#isMutable && entry.stamp !== this.#interval) this.#firstTouch(entry); // OT1
    return entry.value;
  }

  update(value: unknown): void {
    const problem = this.#codec.check(value);
    if (problem !== undefined) throw valueMismatch({ uid: this.#scope.uid, stateName: this.stateName }, problem);
    if (this.#epoch !== this.#scope.epoch) this.#locate("update()");
    const entry = this.#entry;
    if (entry === undefined) {
      this.#scope.verifyNewKey();
      this.#insert(value);
      return;
    }
    if (entry.stamp !== this.#interval) this.#firstTouch(entry);
    entry.value = value;
  }

  clear(): void {
    if (this.#epoch !== this.#scope.epoch) this.#locate("clear()");
    const entry = this.#entry;
    if (entry === undefined) return;
    if (entry.stamp !== this.#interval) this.#firstTouch(entry);
    this.#segment.entries.delete(this.#mapKey);
    this.#entry = undefined;
    this.#entryCount -= 1;
  }

  forget(): void {
    // An epoch is an int32, so this never equals one.
    this.#epoch = 0.5;
  }

  #locate(what: string): void {
    const scope = this.#scope;
    if (!scope.active) throw scope.outside(`state "${this.stateName}" ${what}`);
    const directory = this.#directory;
    this.#segment = directory.slots[
      scope.positionOfHash(scope.hash, mixHash(scope.hash)) >>> directory.shift
    ] as ObjectSegment;
    this.#mapKey =
      scope.form === "encoded"
        ? scope.encodedText()
        : scope.form === "string"
          ? scope.text
          : (scope.number[0] as number);
    this.#entry = this.#segment.entries.get(this.#mapKey);
    this.#epoch = scope.epoch;
  }

  #insert(value: unknown): void {
    const scope = this.#scope;
    while (this.#segment.entries.size >= SEGMENT_ENTRIES_MAX && this.#directory.canSplit(this.#segment)) {
      this.#split(this.#segment);
      this.#segment = this.#directory.slots[
        scope.positionOfHash(scope.hash, mixHash(scope.hash)) >>> this.#directory.shift
      ] as ObjectSegment;
    }
    // A composed or BYTES key belongs to the user: keep our own copy, made from its encoding.
    const key = scope.form === "encoded" ? undefined : scope.get();
    this.#entry = { key, hash: scope.hash, value, stamp: this.#interval };
    this.#segment.entries.set(this.#mapKey, this.#entry);
    this.#entryCount += 1;
  }

  #split(old: ObjectSegment): void {
    for (const cut of this.#cuts) {
      if ((old.pending & cut.bit) === 0) continue; // OT2
      for (const [mapKey, entry] of old.entries) {
        if (entry.stamp <= cut.interval)
          old.saved.push({ bit: cut.bit, hash: entry.hash, bytes: this.#encoded(mapKey, entry) });
      }
    }
    const splitBit = this.#directory.splitBit(old);
    const { maxParallelism, first } = this.#scope.groups;
    const lower = new ObjectSegment({ depth: old.depth + 1, position: old.position });
    const upper = new ObjectSegment({ depth: old.depth + 1, position: old.position + splitBit });
    for (const [mapKey, entry] of old.entries) {
      const half = (positionOf(entry.hash, maxParallelism, first) & splitBit) !== 0 ? upper : lower;
      half.entries.set(mapKey, entry);
    }
    this.#directory.split(old, lower, upper);
    old.entries.clear();
  }

  /** TB2, for an entry whose stamp is older than the current interval. */
  #firstTouch(entry: Entry): void {
    const segment = this.#segment;
    if (segment.pending !== 0) {
      let bytes: Uint8Array | undefined;
      for (let i = 0; i < this.#cuts.length; i += 1) {
        const cut = this.#cuts[i] as OpenCut;
        if ((segment.pending & cut.bit) === 0 || entry.stamp > cut.interval) continue;
        bytes ??= this.#encoded(this.#mapKey, entry);
        segment.saved.push({ bit: cut.bit, hash: entry.hash, bytes });
      }
    }
    entry.stamp = this.#interval;
  }

  #encoded(mapKey: string | number, entry: Entry): Uint8Array {
    this.#scratch.reset();
    this.#writeEntry(this.#scratch, mapKey, entry);
    return this.#scratch.toBytes();
  }

  #writeEntry(into: ByteWriter, mapKey: string | number, entry: Entry): void {
    if (this.#scope.form === "encoded") {
      const text = mapKey as string;
      for (let i = 0; i < text.length; i += 1) into.u8(text.charCodeAt(i));
    } else {
      this.#scope.codec.write(into, entry.key);
    }
    try {
      this.#codec.write(into, entry.value);
    } catch (thrown) {
      // Elements of lists and maps are checked here only, long after update().
      throw this.#named(thrown);
    }
  }

  #named(thrown: unknown): unknown {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return valueMismatch({ uid: this.#scope.uid, stateName: this.stateName }, message);
  }

  advance(interval: number): void {
    this.#interval = interval;
  }

  cut(open: OpenCut): TableCut {
    this.#cuts = [...this.#cuts.filter((cut) => cut.bit !== open.bit), open];
    return new SegmentCut({
      segments: this.#directory.list(),
      bit: open.bit,
      encode: (segment, into) => this.#encode(segment, open, into),
    });
  }

  #encode(segment: ObjectSegment, cut: OpenCut, into: PartWriter): number {
    const items: (Saved | readonly [string | number, Entry])[] = segment.saved.filter((saved) => saved.bit === cut.bit);
    const hashes = (items as Saved[]).map((saved) => saved.hash);
    for (const item of segment.entries) {
      if (item[1].stamp > cut.interval) continue; // TB1
      items.push(item);
      hashes.push(item[1].hash);
    }
    const { maxParallelism } = this.#scope.groups;
    const places = Float64Array.from(hashes, (hash) => placeOf(keyGroupOf(hash, maxParallelism), mixHash(hash)));
    const order = new Uint32Array(items.length);
    orderByPlace(places, items.length, order);
    for (let i = 0; i < order.length; i += 1) {
      const index = order[i] as number;
      const item = items[index] as Saved | readonly [string | number, Entry];
      into.entry(places[index] as number);
      if ("bytes" in item) into.out.raw(item.bytes);
      else this.#writeEntry(into.out, item[0], item[1]);
    }
    return items.length;
  }

  load(from: ByteReader, keyGroup: number): number {
    const scope = this.#scope;
    let count = 0;
    for (; from.remaining > 0; count += 1) {
      const key = scope.codec.read(from);
      const hash = scope.hasher(key);
      if (keyGroupOf(hash, scope.groups.maxParallelism) !== keyGroup) throw misplacedKey(from);
      scope.set(key, hash);
      this.#locate("load()");
      if (this.#entry !== undefined) throw from.failure("a key that occurs twice");
      this.#insert(this.#codec.read(from));
    }
    scope.clear();
    return count;
  }
}
