// Operator state as bytes: a list of items, JSON or binary, with a checksum. Sources store split positions, sinks pending files.
//
//   state = magic "SLKO" | version u16 (0) | flags u16 (0) | crc32c u32 | item count varint | item*     (little endian)
//   item  = tag u8: 0 JSON in UTF-8, 1 raw bytes | varint length | content
//
// Invariants:
//   OS1. decode(encode(items)) equals items, as far as JSON can tell.
//   OS2. crc32c covers everything after it; nothing behind it is interpreted before it was verified.
//
// Not here: which items an operator stores.

import { ByteReader, ByteWriter, crc32c, Failure, toFailure } from "@sluice/kit";
import type { OperatorStateItem } from "../model/index.ts";

const MAGIC = 0x4f4b4c53; // "SLKO" read as a little-endian u32
const VERSION = 0;
const CRC_AT = 8;
const BODY_AT = 12;
const JSON_ITEM = 0;
const BYTES_ITEM = 1;

/** The items as one block of bytes. */
export function encodeOperatorState(items: readonly OperatorStateItem[]): Uint8Array {
  const into = new ByteWriter(256);
  into.u32(MAGIC);
  into.u16(VERSION);
  into.u16(0);
  const crcAt = into.reserveU32();
  into.varint(items.length);
  for (const item of items) {
    if ("bytes" in item) {
      into.u8(BYTES_ITEM);
      into.bytes(item.bytes);
      continue;
    }
    const json = JSON.stringify(item.json) as string | undefined;
    if (json === undefined) {
      throw new Failure("TYPE_MISMATCH", {
        retry: "never",
        message: `operator state: ${String(item.json)} has no JSON form`,
        remedy: "store plain data: objects, arrays, strings, finite numbers, booleans, null",
      });
    }
    into.u8(JSON_ITEM);
    into.string(json);
  }
  into.patchU32(crcAt, crc32c(into.view().subarray(BODY_AT)));
  return into.toBytes();
}

/**
 * The items of {@link encodeOperatorState}. `where` names the source in failures.
 * @throws Failure SNAPSHOT_DAMAGED on changed or cut bytes, FORMAT_UNSUPPORTED on a version not known here.
 */
export function decodeOperatorState(bytes: Uint8Array, where: string): readonly OperatorStateItem[] {
  const from = new ByteReader(bytes, { what: where, code: "SNAPSHOT_DAMAGED" });
  if (from.u32() !== MAGIC) throw from.failure("it does not begin as operator state", 0);
  const version = from.u16();
  const flags = from.u16();
  const crc = from.u32();
  if (version !== VERSION || flags !== 0) {
    throw new Failure("FORMAT_UNSUPPORTED", {
      retry: "never",
      message: `${where} has operator state version ${version}, flags ${flags}; this release reads version ${VERSION}`,
      remedy: "restore it with the release that wrote it, or a newer one",
    });
  }
  if (crc32c(bytes.subarray(BODY_AT)) !== crc) throw from.failure("its checksum is wrong", CRC_AT);
  const count = from.count(2);
  const items: OperatorStateItem[] = [];
  for (let i = 0; i < count; i += 1) {
    const tag = from.u8();
    if (tag === BYTES_ITEM) {
      items.push({ bytes: from.bytes().slice() });
    } else if (tag === JSON_ITEM) {
      try {
        items.push({ json: JSON.parse(from.string()) as unknown });
      } catch (thrown) {
        throw from.failure(`an item that is not JSON: ${toFailure(thrown).message}`);
      }
    } else {
      throw from.failure(`an item of unknown kind ${tag}`);
    }
  }
  from.expectEnd();
  return items;
}
