// Keyed snapshot format v0: one part per (operator, state, subtask). Not stable yet. docs/internals/snapshot-format.md
// describes it for other readers; this file is the source.
//
//   part      = preamble | description | directory | block*                                    (all little endian)
//   preamble  = magic "SLKS" | version u16 | flags u16 (0) | headerBytes u32 | descriptionBytes u32 | blockCount u32
//               | headerCrc32c u32 | reserved u32 (0)             (28 bytes; the same in every version to come)
//   description = JSON in UTF-8: {uid, stateName, keyType, valueType, maxParallelism, keyGroups: [first, last]}
//   directory = blockCount rows of: keyGroup u32 | entryCount u32 | offset u64 | lengthBytes u32 | crc32c u32
//   block     = entryCount times: key | value (codec.ts)
//
// Invariants:
//   SF1. headerCrc32c covers the whole header with its own field as zero; every other byte lies in exactly one block.
//   SF2. A block holds entries of one key group; blocks are in key-group order, of about 64 KiB or one entry if that is larger.
//   SF3. offset counts from the start of the part and is the sum of all lengths before.
//   SF4. No byte is interpreted before its checksum was verified, but for the preamble's sizes, which are bounds-checked.
//
// Not here: which entries belong to a cut (snapshot.ts, tables).

import { assert, ByteReader, ByteWriter, crc32c, Failure, toFailure } from "@sluice/kit";
import type { SnapshotPart, TypeDescriptor } from "../model/index.ts";

const MAGIC = 0x534b4c53; // "SLKS" read as a little-endian u32
const VERSION = 0;
const PREAMBLE_BYTES = 28;
const CRC_AT = 20;
const ROW_BYTES = 24;
const BLOCK_BYTES = 64 * 1024;
const CHUNK_BYTES = 256 * 1024;
const TYPE_DEPTH_MAX = 64;

/** What a part says about itself. */
export interface PartDescription {
  readonly uid: string;
  readonly stateName: string;
  readonly keyType: TypeDescriptor;
  readonly valueType: TypeDescriptor;
  readonly maxParallelism: number;
  readonly keyGroups: readonly [first: number, last: number];
}

/** One row of the directory. */
export interface BlockRow {
  readonly keyGroup: number;
  readonly entryCount: number;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly crc32c: number;
}

/** Writes one part. Entries come in key-group order: `entry(group)`, then key and value to `out`, then the next. */
export class PartWriter {
  /** Takes key and value of the entry that `entry` began. */
  readonly out = new ByteWriter(4096);
  readonly #description: PartDescription;
  readonly #rows: { keyGroup: number; entryCount: number; lengthBytes: number; crc32c: number }[] = [];
  readonly #chunks: Uint8Array[] = [];
  #keyGroup = -1;
  #blockStart = 0;
  #entryCount = 0;

  constructor(description: PartDescription) {
    this.#description = description;
  }

  /** Begins an entry of this key group. */
  entry(keyGroup: number): void {
    if (keyGroup !== this.#keyGroup || this.out.length - this.#blockStart >= BLOCK_BYTES) this.#nextBlock(keyGroup);
    this.#entryCount += 1;
  }

  #nextBlock(keyGroup: number): void {
    assert(keyGroup >= this.#keyGroup, "SF2: blocks are in key-group order");
    this.#closeBlock();
    this.#keyGroup = keyGroup;
    if (this.out.length >= CHUNK_BYTES) {
      this.#chunks.push(this.out.toBytes());
      this.out.reset();
      this.#blockStart = 0;
    }
  }

  #closeBlock(): void {
    if (this.#entryCount === 0) return;
    const block = this.out.view().subarray(this.#blockStart);
    this.#rows.push({
      keyGroup: this.#keyGroup,
      entryCount: this.#entryCount,
      lengthBytes: block.length,
      crc32c: crc32c(block),
    });
    this.#blockStart = this.out.length;
    this.#entryCount = 0;
  }

  /** The finished part; the writer is used up. */
  finish(): SnapshotPart {
    this.#closeBlock();
    if (this.out.length > 0) this.#chunks.push(this.out.toBytes());
    const { uid, stateName, keyType, valueType, maxParallelism, keyGroups } = this.#description;
    const header = writeHeader({ uid, stateName, keyType, valueType, maxParallelism, keyGroups }, this.#rows);
    return { uid, stateName, kind: "keyed", keyGroups, chunks: [header, ...this.#chunks] };
  }
}

function writeHeader(description: PartDescription, rows: readonly Omit<BlockRow, "offset">[]): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(description));
  const headerBytes = PREAMBLE_BYTES + json.length + rows.length * ROW_BYTES;
  const into = new ByteWriter(headerBytes);
  into.u32(MAGIC);
  into.u16(VERSION);
  into.u16(0);
  into.u32(headerBytes);
  into.u32(json.length);
  into.u32(rows.length);
  const crcAt = into.reserveU32();
  assert(crcAt === CRC_AT, "SF1: the checksum lies where readers of any version look for it");
  into.u32(0);
  into.raw(json);
  let offset = headerBytes;
  for (const row of rows) {
    into.u32(row.keyGroup);
    into.u32(row.entryCount);
    into.long(offset);
    into.u32(row.lengthBytes);
    into.u32(row.crc32c);
    offset += row.lengthBytes;
  }
  into.patchU32(crcAt, crc32c(into.view()));
  return into.toBytes();
}

/** Reads one part and verifies what it hands out. */
export class PartReader {
  readonly description: PartDescription;
  readonly blocks: readonly BlockRow[];
  readonly #bytes: Uint8Array;
  readonly #where: string;

  /**
   * Verifies the header. `where` names the part in failures.
   * @throws Failure SNAPSHOT_DAMAGED on bytes that were changed or cut, FORMAT_UNSUPPORTED on a version not known here.
   */
  constructor(bytes: Uint8Array, where: string) {
    this.#bytes = bytes;
    this.#where = where;
    const preamble = new ByteReader(bytes, { what: where, code: "SNAPSHOT_DAMAGED" });
    if (preamble.u32() !== MAGIC) throw preamble.failure("it does not begin as a keyed snapshot part", 0);
    const version = preamble.u16();
    const flags = preamble.u16();
    const headerBytes = preamble.u32();
    const descriptionBytes = preamble.u32();
    const blockCount = preamble.u32();
    const headerCrc = preamble.u32();
    if (headerBytes < PREAMBLE_BYTES || headerBytes > bytes.length)
      throw preamble.failure(`its header of ${headerBytes} bytes is cut off`, 8);
    const header = bytes.slice(0, headerBytes);
    header.fill(0, CRC_AT, CRC_AT + 4);
    if (crc32c(header) !== headerCrc) throw preamble.failure("the checksum of its header is wrong", CRC_AT);
    if (version !== VERSION || flags !== 0) {
      throw new Failure("FORMAT_UNSUPPORTED", {
        retry: "never",
        message: `${where} has snapshot format version ${version}, flags ${flags}; this release reads version ${VERSION}`,
        remedy: "restore it with the release that wrote it, or a newer one",
      });
    }
    if (preamble.u32() !== 0 || headerBytes !== PREAMBLE_BYTES + descriptionBytes + blockCount * ROW_BYTES) {
      throw preamble.failure("the sizes in its header do not add up", 8);
    }
    this.description = parseDescription(bytes.subarray(PREAMBLE_BYTES, PREAMBLE_BYTES + descriptionBytes), where);
    this.blocks = readDirectory(bytes.subarray(PREAMBLE_BYTES + descriptionBytes, headerBytes), {
      where,
      blockCount,
      headerBytes,
      totalBytes: bytes.length,
      keyGroups: this.description.keyGroups,
    });
  }

  /** The entries of a block, verified (SF4). */
  block(row: BlockRow): ByteReader {
    const bytes = this.#bytes.subarray(row.offset, row.offset + row.lengthBytes);
    const what = `${this.#where}, key group ${row.keyGroup}`;
    const reader = new ByteReader(bytes, { what, code: "SNAPSHOT_DAMAGED" });
    if (crc32c(bytes) !== row.crc32c) throw reader.failure("the checksum of a block is wrong");
    return reader;
  }
}

function readDirectory(
  bytes: Uint8Array,
  header: {
    readonly where: string;
    readonly blockCount: number;
    readonly headerBytes: number;
    readonly totalBytes: number;
    readonly keyGroups: readonly [first: number, last: number];
  },
): readonly BlockRow[] {
  const reader = new ByteReader(bytes, { what: `directory of ${header.where}`, code: "SNAPSHOT_DAMAGED" });
  const [first, last] = header.keyGroups;
  const rows: BlockRow[] = [];
  let offset = header.headerBytes;
  let keyGroup = first;
  for (let i = 0; i < header.blockCount; i += 1) {
    const row = {
      keyGroup: reader.u32(),
      entryCount: reader.u32(),
      offset: reader.long(),
      lengthBytes: reader.u32(),
      crc32c: reader.u32(),
    };
    if (row.keyGroup < keyGroup || row.keyGroup > last)
      throw reader.failure(`key group ${row.keyGroup} is out of order or range`);
    if (row.offset !== offset) throw reader.failure(`a block at ${row.offset} where ${offset} is next`);
    keyGroup = row.keyGroup;
    offset += row.lengthBytes;
    rows.push(row);
  }
  if (offset !== header.totalBytes)
    throw reader.failure(`its blocks end at ${offset}, the part has ${header.totalBytes} bytes`);
  return rows;
}

function parseDescription(bytes: Uint8Array, where: string): PartDescription {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (thrown) {
    throw unsupported(where, `its description is not JSON: ${toFailure(thrown).message}`);
  }
  const d = (typeof json === "object" && json !== null ? json : {}) as Readonly<Record<string, unknown>>;
  const keyType = parseType(d["keyType"], 0);
  const valueType = parseType(d["valueType"], 0);
  const groups = d["keyGroups"];
  const [first, last]: readonly unknown[] = Array.isArray(groups) && groups.length === 2 ? groups : [];
  const maxParallelism = d["maxParallelism"];
  if (
    typeof d["uid"] !== "string" ||
    typeof d["stateName"] !== "string" ||
    keyType === undefined ||
    valueType === undefined
  ) {
    throw unsupported(where, "its description names a type, or lacks a field, that this release does not know");
  }
  if (!isCount(first) || !isCount(last) || !isCount(maxParallelism) || first > last || last >= maxParallelism) {
    throw unsupported(where, "its description has no valid range of key groups");
  }
  return { uid: d["uid"], stateName: d["stateName"], keyType, valueType, maxParallelism, keyGroups: [first, last] };
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 32768;
}

function unsupported(where: string, what: string): Failure {
  return new Failure("FORMAT_UNSUPPORTED", {
    retry: "never",
    message: `${where} cannot be read: ${what}`,
    remedy: "restore it with the release that wrote it, or a newer one",
  });
}

/** A TypeDescriptor from stored JSON, or undefined. */
export function parseType(json: unknown, depth: number): TypeDescriptor | undefined {
  if (typeof json !== "object" || json === null || depth > TYPE_DEPTH_MAX) return undefined;
  const d = json as Readonly<Record<string, unknown>>;
  switch (d["kind"]) {
    case "INT":
    case "LONG":
    case "DOUBLE":
    case "STRING":
    case "BOOLEAN":
    case "INSTANT":
    case "BYTES":
      return { kind: d["kind"] };
    case "TUPLE": {
      const fields = parseTypes(d["fields"], depth);
      return fields === undefined ? undefined : { kind: "TUPLE", fields };
    }
    case "ROW": {
      const fields = parseTypes(d["fields"], depth);
      const names: unknown = d["names"];
      if (fields === undefined || !Array.isArray(names) || names.length !== fields.length) return undefined;
      return names.every((name) => typeof name === "string") ? { kind: "ROW", names, fields } : undefined;
    }
    case "LIST": {
      const element = parseType(d["element"], depth + 1);
      return element === undefined ? undefined : { kind: "LIST", element };
    }
    case "MAP": {
      const key = parseType(d["key"], depth + 1);
      const value = parseType(d["value"], depth + 1);
      return key === undefined || value === undefined ? undefined : { kind: "MAP", key, value };
    }
    default:
      return undefined;
  }
}

function parseTypes(json: unknown, depth: number): readonly TypeDescriptor[] | undefined {
  if (!Array.isArray(json)) return undefined;
  const types: TypeDescriptor[] = [];
  for (const item of json as readonly unknown[]) {
    const type = parseType(item, depth + 1);
    if (type === undefined) return undefined;
    types.push(type);
  }
  return types;
}
