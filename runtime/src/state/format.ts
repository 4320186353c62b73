// Snapshot format v1: one part per (operator, state, subtask). docs/internals/snapshot-format.md describes it for other
// readers, byte by byte; this file is the source.
//
//   part      = preamble | description | directory | block*                                    (all little endian)
//   preamble  = magic "SLKS" | version u16 | section type u16 | headerBytes u32 | descriptionBytes u32 | blockCount u32
//               | headerCrc32c u32 | flags u32 (0)              (28 bytes; magic, version, headerBytes, crc in every version)
//   description = JSON in UTF-8 (description.ts)
//   directory = blockCount rows of: keyGroup u32 | firstHash u32 | entryCount u32 | lengthBytes u32 | crc32c u32
//   block     = entryCount entries: key | value (codec.ts), or items of operator state (operator-state.ts)
//
// Invariants:
//   SF1. headerCrc32c covers the whole header with its own field as zero; every other byte lies in exactly one block.
//   SF2. Entries are in the order of their places, (key group, order hash); a block holds entries of one key group, is of about
//        64 KiB or one entry if that is larger, and its row has the order hash of its first entry.
//   SF3. Blocks follow the header without gaps, in the order of the directory, and end where the part ends.
//   SF4. No byte is interpreted before its checksum was verified, but for the preamble's sizes, which are bounds-checked.
//   SF5. To read one key: preamble, description, directory, and the blocks that `blocksOf` names; nothing else is needed.
//
// Not here: which entries belong to a cut (snapshot.ts, tables).

import { assert, ByteReader, ByteWriter, crc32c, Failure, planted } from "@sluice/kit";
import type { SnapshotPart } from "../model/index.ts";
import { readDescription, SECTIONS, unknownSection, unsupported, writeDescription } from "./description.ts";
import type { KeyedPartDescription, PartDescription } from "./description.ts";

const MAGIC = 0x534b4c53; // "SLKS" read as a little-endian u32
const MAGIC_V0_OPERATOR = 0x4f4b4c53; // "SLKO": operator state before version 1
export const SNAPSHOT_VERSION = 1;
export const PREAMBLE_BYTES = 28;
const CRC_AT = 20;
const ROW_BYTES = 20;
export const BLOCK_BYTES = 64 * 1024;
const CHUNK_BYTES = 256 * 1024;
const TWO_32 = 4294967296;

/** One row of the directory, and where its block begins in the part (SF3). */
export interface BlockRow {
  readonly keyGroup: number;
  readonly firstHash: number;
  readonly entryCount: number;
  readonly lengthBytes: number;
  readonly crc32c: number;
  readonly offset: number;
}

/**
 * Where an entry stands in a part (SF2), as one number: key group and order hash. The order hash is the mixed canonical hash
 * (mixHash of keys.ts), read as unsigned.
 */
export function placeOf(keyGroup: number, mixedHash: number): number {
  return keyGroup * TWO_32 + (mixedHash >>> 0);
}

/** Writes one part. Entries come in the order of their places: `entry(place)`, then key and value to `out`, then the next. */
export class PartWriter {
  /** Takes key and value of the entry that `entry` began. */
  readonly out = new ByteWriter(4096);
  readonly #description: KeyedPartDescription;
  readonly #rows: Omit<BlockRow, "offset">[] = [];
  readonly #chunks: Uint8Array[] = [];
  /** Place of the block's first entry, and the end of its key group: an entry from there on opens a new block. */
  #firstPlace = 0;
  #groupEnd = 0;
  #blockStart = 0;
  #blockEntries = 0;
  #entryCount = 0;

  constructor(description: KeyedPartDescription) {
    this.#description = description;
  }

  /** Begins an entry at this place. */
  entry(place: number): void {
    if (place >= this.#groupEnd || this.out.length - this.#blockStart >= BLOCK_BYTES) this.#nextBlock(place);
    this.#blockEntries += 1;
  }

  #nextBlock(place: number): void {
    assert(place >= this.#firstPlace, "SF2: blocks are in the order of their places");
    this.#closeBlock();
    this.#firstPlace = place;
    this.#groupEnd = (Math.floor(place / TWO_32) + 1) * TWO_32;
    if (this.out.length >= CHUNK_BYTES) {
      this.#chunks.push(this.out.toBytes());
      this.out.reset();
      this.#blockStart = 0;
    }
  }

  #closeBlock(): void {
    if (this.#blockEntries === 0) return;
    const block = this.out.view().subarray(this.#blockStart);
    this.#rows.push({
      keyGroup: Math.floor(this.#firstPlace / TWO_32),
      firstHash: this.#firstPlace % TWO_32,
      entryCount: this.#blockEntries,
      lengthBytes: block.length,
      crc32c: crc32c(block),
    });
    this.#blockStart = this.out.length;
    this.#entryCount += this.#blockEntries;
    this.#blockEntries = 0;
  }

  /** The finished part; the writer is used up. */
  finish(): SnapshotPart {
    this.#closeBlock();
    if (this.out.length > 0) this.#chunks.push(this.out.toBytes());
    const { uid, stateName, keyGroups } = this.#description;
    const chunks = [writeHeader(this.#description, this.#rows), ...this.#chunks];
    return { uid, stateName, kind: "keyed", keyGroups, itemCount: this.#entryCount, chunks };
  }
}

/** Preamble, description and directory. */
export function writeHeader(description: PartDescription, rows: readonly Omit<BlockRow, "offset">[]): Uint8Array {
  const json = writeDescription(description);
  const headerBytes = PREAMBLE_BYTES + json.length + rows.length * ROW_BYTES;
  const into = new ByteWriter(headerBytes);
  into.u32(MAGIC);
  into.u16(SNAPSHOT_VERSION);
  into.u16(SECTIONS[description.section]);
  into.u32(headerBytes);
  into.u32(json.length);
  into.u32(rows.length);
  const crcAt = into.reserveU32();
  assert(crcAt === CRC_AT, "SF1: the checksum lies where readers of any version look for it");
  into.u32(0);
  into.raw(json);
  for (const row of rows) {
    into.u32(row.keyGroup);
    into.u32(row.firstHash);
    into.u32(row.entryCount);
    into.u32(row.lengthBytes);
    into.u32(row.crc32c);
  }
  into.patchU32(crcAt, crc32c(into.view()));
  return into.toBytes();
}

/** What is known of a part from its first 28 bytes. */
export interface PartPreamble {
  readonly version: number;
  readonly section: number;
  readonly headerBytes: number;
  readonly descriptionBytes: number;
  readonly blockCount: number;
  readonly headerCrc: number;
  readonly flags: number;
}

/** The sizes in a preamble, nothing of it verified yet. Failure SNAPSHOT_DAMAGED when the bytes begin no part. */
export function readPreamble(bytes: Uint8Array, where: string): PartPreamble {
  const from = new ByteReader(bytes, { what: where, code: "SNAPSHOT_DAMAGED" });
  const magic = from.u32();
  if (magic === MAGIC_V0_OPERATOR) throw versionUnsupported(where, 0);
  if (magic !== MAGIC) throw from.failure("it does not begin as a snapshot part", 0);
  return {
    version: from.u16(),
    section: from.u16(),
    headerBytes: from.u32(),
    descriptionBytes: from.u32(),
    blockCount: from.u32(),
    headerCrc: from.u32(),
    flags: from.u32(),
  };
}

/** What the header of a part says. */
export interface PartHeader {
  readonly description: PartDescription;
  readonly blocks: readonly BlockRow[];
}

/**
 * Verifies and reads a header. `bytes` begin with the part and hold at least its header; `partBytes` is the length of the whole part.
 * @throws Failure SNAPSHOT_DAMAGED on bytes that were changed or cut, FORMAT_UNSUPPORTED on what this release does not know.
 */
export function readHeader(
  bytes: Uint8Array,
  part: { readonly where: string; readonly partBytes: number },
): PartHeader {
  const { where, partBytes } = part;
  const { version, section, headerBytes, descriptionBytes, blockCount, headerCrc, flags } = readPreamble(bytes, where);
  const reader = new ByteReader(bytes, { what: where, code: "SNAPSHOT_DAMAGED" });
  if (headerBytes < PREAMBLE_BYTES || headerBytes > bytes.length)
    throw reader.failure(`its header of ${headerBytes} bytes is cut off`, 8);
  const header = bytes.slice(0, headerBytes);
  header.fill(0, CRC_AT, CRC_AT + 4);
  if (crc32c(header) !== headerCrc) throw reader.failure("the checksum of its header is wrong", CRC_AT);
  if (version !== SNAPSHOT_VERSION) throw versionUnsupported(where, version);
  if (flags !== 0) throw unsupported(where, `it has flags ${flags}, which this release does not know`);
  if (!Object.values<number>(SECTIONS).includes(section)) throw unsupported(where, unknownSection(section));
  if (headerBytes !== PREAMBLE_BYTES + descriptionBytes + blockCount * ROW_BYTES)
    throw reader.failure("the sizes in its header do not add up", 8);
  const directoryAt = PREAMBLE_BYTES + descriptionBytes;
  const description = readDescription(section, bytes.subarray(PREAMBLE_BYTES, directoryAt), where);
  const directory = bytes.subarray(directoryAt, headerBytes);
  return { description, blocks: readDirectory(directory, { where, partBytes, headerBytes, description }) };
}

function versionUnsupported(where: string, version: number): Failure {
  return new Failure("FORMAT_UNSUPPORTED", {
    retry: "never",
    message: `${where} has snapshot format version ${version}; this release reads version ${SNAPSHOT_VERSION}`,
    remedy:
      version < SNAPSHOT_VERSION
        ? "version 0 was never released as stable: start the job without this state (--new-lineage), or read it with the release that wrote it"
        : "read it with the release that wrote it, or a newer one",
  });
}

function readDirectory(
  bytes: Uint8Array,
  part: {
    readonly where: string;
    readonly partBytes: number;
    readonly headerBytes: number;
    readonly description: PartDescription;
  },
): readonly BlockRow[] {
  const { where, partBytes, headerBytes, description } = part;
  const reader = new ByteReader(bytes, { what: `directory of ${where}`, code: "SNAPSHOT_DAMAGED" });
  const [first, last] = description.section === "operator-list" ? [0, 0] : description.keyGroups;
  const rows: BlockRow[] = [];
  let offset = headerBytes;
  let place = placeOf(first, 0);
  while (reader.remaining > 0) {
    const keyGroup = reader.u32();
    const firstHash = reader.u32();
    const row = { keyGroup, firstHash, entryCount: reader.u32(), lengthBytes: reader.u32(), crc32c: reader.u32() };
    const next = placeOf(keyGroup, firstHash);
    if (next < place || keyGroup > last) throw reader.failure(`key group ${keyGroup} is out of order or range`);
    if (row.entryCount === 0 || row.entryCount > row.lengthBytes)
      throw reader.failure(`a block of ${row.lengthBytes} bytes with ${row.entryCount} entries`);
    rows.push({ ...row, offset });
    place = next;
    offset += row.lengthBytes;
  }
  if (offset !== partBytes) throw reader.failure(`its blocks end at ${offset}, the part has ${partBytes} bytes`);
  return rows;
}

/** The contents of a block, verified (SF4). `bytes` are exactly its bytes. */
export function readBlock(row: BlockRow, bytes: Uint8Array, where: string): ByteReader {
  const what = `${where}, block of key group ${row.keyGroup}`;
  const reader = new ByteReader(bytes, { what, code: "SNAPSHOT_DAMAGED" });
  if (bytes.length !== row.lengthBytes) throw reader.failure(`it is cut off: it has ${row.lengthBytes} bytes`);
  if (crc32c(bytes) !== row.crc32c && !planted("damaged-block-accepted"))
    throw reader.failure("the checksum of a block is wrong");
  return reader;
}

/** The blocks in which an entry of this place lies, if it is there: one, or a few where order hashes collide (SF5). */
export function blocksOf(blocks: readonly BlockRow[], place: number): readonly BlockRow[] {
  let low = 0;
  let high = blocks.length; // the first block that begins behind the place
  while (low < high) {
    const middle = (low + high) >>> 1;
    const row = blocks[middle] as BlockRow;
    if (placeOf(row.keyGroup, row.firstHash) > place) high = middle;
    else low = middle + 1;
  }
  const keyGroup = Math.floor(place / TWO_32);
  let from = low;
  for (let isBefore = true; isBefore && from > 0;) {
    const row = blocks[from - 1] as BlockRow;
    if (row.keyGroup !== keyGroup) break;
    from -= 1;
    isBefore = placeOf(row.keyGroup, row.firstHash) === place; // equal hashes may go on from the block before
  }
  return blocks.slice(from, low);
}

/** Reads one part and verifies what it hands out. */
export class PartReader {
  readonly description: PartDescription;
  readonly blocks: readonly BlockRow[];
  readonly #bytes: Uint8Array;
  readonly #where: string;

  /** Verifies the header, as {@link readHeader}. `where` names the part in failures. */
  constructor(bytes: Uint8Array, where: string) {
    this.#bytes = bytes;
    this.#where = where;
    ({ description: this.description, blocks: this.blocks } = readHeader(bytes, { where, partBytes: bytes.length }));
  }

  /** The entries of a block, verified (SF4). */
  block(row: BlockRow): ByteReader {
    return readBlock(row, this.#bytes.subarray(row.offset, row.offset + row.lengthBytes), this.#where);
  }
}
