// Rows of keyed parts as values: for whoever reads a snapshot without a job, and for state whose type has changed.
//
//   value, reducing, aggregating: key | time? | value
//   list:   key | count varint, at least 1 | count times: time? | element        rows of one key follow one another
//   map:    key | map key | time? | value                                        as many rows as the map has entries
//   timers: key | timestamp i64
//   time    i64, milliseconds since the epoch; only with ttl
//
// Invariants:
//   RR1. A row is read to its end: the next one begins there.
//   RR2. What belongs to a key is the sum of its rows, in their order.
//   RR3. Evolved rows are those that a job with the declared type would have written; there are as many, in the same order.
//
// Not here: how states are held while a job runs (the tables), which rows belong to which key group (format.ts).

import { assert, ByteReader, ByteWriter, Failure, keyGroupOf } from "@sluice/kit";
import { describeType, keyHasher, valueToJson } from "../model/index.ts";
import type { JsonValue, TypeDescriptor } from "../model/index.ts";
import { codecFor, encodeValue } from "./codec.ts";
import type { KeyedPartDescription } from "./description.ts";
import { evolvingReader } from "./evolution.ts";
import { placeOf } from "./format.ts";
import { mixHash } from "./keys.ts";

/** One value of a row: a list's row has several, all others one. */
export interface RowCell {
  /** Rows of maps. */
  readonly mapKey?: unknown;
  /** With ttl. */
  readonly timeMs?: number;
  readonly value: unknown;
}

export interface PartRow {
  readonly key: unknown;
  readonly cells: readonly RowCell[];
}

/** Reads one row after the other (RR1). Failure SNAPSHOT_DAMAGED on bytes that no writer made. */
export function rowReader(description: KeyedPartDescription): (from: ByteReader) => PartRow {
  const { stateKind, valueType, ttl } = description;
  const keys = codecFor(description.keyType);
  const times = (from: ByteReader): { readonly timeMs?: number } => (ttl === null ? {} : { timeMs: from.long() });
  if (stateKind === "list") {
    assert(valueType.kind === "LIST", "a list state has a LIST type");
    const elements = codecFor(valueType.element);
    return (from) => {
      const key = keys.read(from);
      const count = from.count(1);
      if (count === 0) throw from.failure("a row of a list without an element");
      return { key, cells: Array.from({ length: count }, () => ({ ...times(from), value: elements.read(from) })) };
    };
  }
  if (stateKind === "map") {
    assert(valueType.kind === "MAP", "a map state has a MAP type");
    const mapKeys = codecFor(valueType.key);
    const values = codecFor(valueType.value);
    return (from) => {
      const key = keys.read(from);
      const mapKey = mapKeys.read(from);
      return { key, cells: [{ mapKey, ...times(from), value: values.read(from) }] };
    };
  }
  const values = codecFor(valueType);
  return (from) => ({ key: keys.read(from), cells: [{ ...times(from), value: values.read(from) }] });
}

/** Rewrites blocks of a stored state as blocks of the declared type (RR3), which must not be incompatible. */
export function rowEvolver(stored: KeyedPartDescription, declared: TypeDescriptor): (block: ByteReader) => ByteReader {
  const { stateKind, valueType, ttl } = stored;
  const keys = codecFor(stored.keyType);
  const times = (from: ByteReader, into: ByteWriter): void => {
    if (ttl !== null) into.long(from.long());
  };
  const copyRow = (copyRest: (from: ByteReader, into: ByteWriter) => void): ((block: ByteReader) => ByteReader) => {
    return (block) => {
      const into = new ByteWriter(1024);
      while (block.remaining > 0) {
        keys.write(into, keys.read(block));
        copyRest(block, into);
      }
      return new ByteReader(into.toBytes(), { what: `evolved state "${stored.stateName}"`, code: "SNAPSHOT_DAMAGED" });
    };
  };
  if (stateKind === "list") {
    assert(valueType.kind === "LIST" && declared.kind === "LIST", "a list state has a LIST type");
    const copy = valueEvolver(valueType.element, declared.element);
    return copyRow((from, into) => {
      const count = from.count(1);
      into.varint(count);
      for (let i = 0; i < count; i += 1) {
        times(from, into);
        copy(from, into);
      }
    });
  }
  if (stateKind === "map") {
    assert(valueType.kind === "MAP" && declared.kind === "MAP", "a map state has a MAP type");
    const mapKeys = codecFor(valueType.key);
    const copy = valueEvolver(valueType.value, declared.value);
    return copyRow((from, into) => {
      mapKeys.write(into, mapKeys.read(from));
      times(from, into);
      copy(from, into);
    });
  }
  const copy = valueEvolver(valueType, declared);
  return copyRow((from, into) => {
    times(from, into);
    copy(from, into);
  });
}

function valueEvolver(stored: TypeDescriptor, declared: TypeDescriptor): (from: ByteReader, into: ByteWriter) => void {
  const read = evolvingReader(stored, declared);
  const codec = codecFor(declared);
  return (from, into) => codec.write(into, read(from));
}

/** What a key has in a state, as JSON (RR2). `cells` are those of all its rows, at least one. */
export function cellsToJson(description: KeyedPartDescription, cells: readonly RowCell[]): JsonValue {
  const { stateKind, valueType } = description;
  const values = cells.map(({ value }) => value);
  if (stateKind === "list") return valueToJson(valueType, values);
  if (stateKind === "map") return valueToJson(valueType, new Map(cells.map(({ mapKey, value }) => [mapKey, value])));
  if (stateKind === "timers") return valueToJson({ kind: "LIST", element: valueType }, values);
  return valueToJson(valueType, values[0]);
}

/** Finds out where the entry of a key stands, and what its bytes are. Failure TYPE_MISMATCH for no key of this type. */
export function keyPlacer(description: {
  readonly keyType: TypeDescriptor;
  readonly maxParallelism: number;
}): (key: unknown) => { readonly place: number; readonly keyGroup: number; readonly bytes: Uint8Array } {
  const { keyType, maxParallelism } = description;
  const codec = codecFor(keyType);
  const wrongKey = (): Failure =>
    new Failure("TYPE_MISMATCH", { retry: "never", message: `the key is not ${describeType(keyType)}` });
  const hasher = keyHasher(keyType, { wrongKey, acceptsNaN: true });
  return (key) => {
    const canonical = typeof key === "number" ? key + 0 : key; // KE1
    const bytes = encodeValue(codec, canonical); // refuses what is no key
    const hash = hasher(canonical);
    const keyGroup = keyGroupOf(hash, maxParallelism);
    return { place: placeOf(keyGroup, mixHash(hash)), keyGroup, bytes };
  };
}
