// One part in the store, read piece by piece: header, single blocks, or all of it.
//
// Invariants:
//   PA1. What is handed out was verified by its checksum; the handle's length is the length of the part.
//   PA2. The header is read once; of a part no more than that and the wanted blocks is read.
//
// Not here: what blocks hold (state/), which parts there are (stored-snapshot.ts).

import { crc32c, Failure } from "@sluice/kit";
import type { ByteReader } from "@sluice/kit";
import type { ObjectStore } from "@sluice/kit/env";
import type { PartHandle } from "../model/index.ts";
import { PREAMBLE_BYTES, readBlock, readHeader, readPreamble } from "../state/index.ts";
import type { BlockRow, PartHeader } from "../state/index.ts";

/** Read at first: preamble and description for sure, and the directory of a part up to about 10 MB. */
const FIRST_READ_BYTES = 4 * 1024;

export class StoredPart {
  readonly handle: PartHandle;
  readonly subtaskIndex: number;
  /** In the store. */
  readonly path: string;
  readonly #store: ObjectStore;
  #header: PartHeader | undefined;

  constructor(options: {
    readonly store: ObjectStore;
    readonly path: string;
    readonly handle: PartHandle;
    readonly subtaskIndex: number;
  }) {
    this.#store = options.store;
    this.subtaskIndex = options.subtaskIndex;
    this.path = options.path;
    this.handle = options.handle;
  }

  /** For messages. */
  get where(): string {
    const { uid, stateName, keyGroups } = this.handle;
    const groups = keyGroups === undefined ? "" : `, key groups ${keyGroups.join("-")}`;
    return `${this.#store.uri}/${this.path}: state "${stateName}" of operator uid ${uid}${groups}`;
  }

  /** Failure SNAPSHOT_DAMAGED, FORMAT_UNSUPPORTED, or STORAGE_*. */
  async header(): Promise<PartHeader> {
    this.#header ??= await this.#readHeader();
    return this.#header;
  }

  async #readHeader(): Promise<PartHeader> {
    const partBytes = this.handle.lengthBytes;
    const first = await this.bytes(0, Math.min(FIRST_READ_BYTES, partBytes));
    const { headerBytes } = readPreamble(first, this.where);
    if (headerBytes > partBytes || headerBytes < PREAMBLE_BYTES)
      throw this.damaged(`its header of ${headerBytes} bytes is cut off`);
    const header =
      headerBytes <= first.length ? first : joined(first, await this.bytes(first.length, headerBytes - first.length));
    return readHeader(header, { where: this.where, partBytes });
  }

  /** The entries of one block. */
  async block(row: BlockRow): Promise<ByteReader> {
    return readBlock(row, await this.bytes(row.offset, row.lengthBytes), this.where);
  }

  /** Bytes of the part, unverified but for their number. */
  async bytes(offset: number, lengthBytes: number): Promise<Uint8Array> {
    const range = { offset: this.handle.offset + offset, lengthBytes };
    const bytes = await this.#store.getRange(this.path, range);
    if (bytes === undefined) throw this.damaged("the object is missing");
    if (bytes.length !== lengthBytes)
      throw this.damaged(`the object ends after ${range.offset + bytes.length} bytes, where the part goes on`);
    return bytes;
  }

  /** The whole part in pieces of about `pieceBytes`, its checksum verified at the end. */
  async *pieces(pieceBytes: number): AsyncGenerator<Uint8Array> {
    let checksum = 0;
    for (let at = 0; at < this.handle.lengthBytes; at += pieceBytes) {
      const piece = await this.bytes(at, Math.min(pieceBytes, this.handle.lengthBytes - at));
      checksum = crc32c(piece, checksum);
      yield piece;
    }
    if (checksum !== this.handle.crc32c) throw this.damaged("its checksum is not the one in _metadata");
  }

  damaged(reason: string): Failure {
    return new Failure("SNAPSHOT_DAMAGED", {
      retry: "never",
      message: `${this.where}: ${reason}`,
      remedy: "restore from another checkpoint or savepoint, or put the object back from a copy",
    });
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
