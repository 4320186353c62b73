// Operator state as a part of section operator-list: sources store split positions, sinks pending files, users what they like.
//
//   item  = tag u8 | varint length | content          tag 0: JSON in UTF-8; 1: bytes, with an itemType a value in its encoding
//
// Invariants:
//   OS1. decode(encode(items)) equals items, as far as JSON can tell; their order is kept.
//   OS2. Every byte is covered by a checksum of format.ts; nothing is interpreted before it was verified.
//   OS3. With an itemType every item is bytes.
//
// Not here: which items an operator stores, how they are dealt at a restore (checkpoint/).

import { assert, ByteWriter, crc32c, Failure, toFailure } from "@sluice/kit";
import type { ByteReader } from "@sluice/kit";
import type { OperatorStateContent, OperatorStateItem } from "../model/index.ts";
import type { OperatorPartDescription } from "./description.ts";
import { BLOCK_BYTES, PartReader, writeHeader } from "./format.ts";
import type { BlockRow } from "./format.ts";

const JSON_ITEM = 0;
const BYTES_ITEM = 1;

/** What a decoded part holds. */
export interface DecodedOperatorState {
  readonly description: OperatorPartDescription;
  readonly items: readonly OperatorStateItem[];
}

/** The chunks of one part. Failure TYPE_MISMATCH for an item without a JSON form. */
export function encodeOperatorState(
  name: { readonly uid: string; readonly stateName: string },
  content: OperatorStateContent,
): readonly Uint8Array[] {
  const { uid, stateName } = name;
  const { mode, items, itemType } = content;
  const rows: Omit<BlockRow, "offset">[] = [];
  const chunks: Uint8Array[] = [];
  const into = new ByteWriter(256);
  let entryCount = 0;
  const closeBlock = (): void => {
    if (entryCount === 0) return;
    const block = into.toBytes();
    rows.push({ keyGroup: 0, firstHash: 0, entryCount, lengthBytes: block.length, crc32c: crc32c(block) });
    chunks.push(block);
    into.reset();
    entryCount = 0;
  };
  for (const item of items) {
    if (into.length >= BLOCK_BYTES) closeBlock();
    assert(itemType === undefined || "bytes" in item, "OS3: items of a declared type are its encoding");
    writeItem(into, item);
    entryCount += 1;
  }
  closeBlock();
  const description = {
    section: "operator-list",
    uid,
    stateName,
    stateKind: "operator-list",
    mode,
    itemType: itemType ?? null,
  } as const;
  return [writeHeader(description, rows), ...chunks];
}

function writeItem(into: ByteWriter, item: OperatorStateItem): void {
  if ("bytes" in item) {
    into.u8(BYTES_ITEM);
    into.bytes(item.bytes);
    return;
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

function readItem(from: ByteReader, isTyped: boolean): OperatorStateItem {
  const tag = from.u8();
  if (tag === BYTES_ITEM) return { bytes: from.bytes().slice() };
  if (tag !== JSON_ITEM || isTyped) throw from.failure(`an item of unknown kind ${tag}`);
  try {
    return { json: JSON.parse(from.string()) as unknown };
  } catch (thrown) {
    throw from.failure(`an item that is not JSON: ${toFailure(thrown).message}`);
  }
}

/** The items of one block. */
export function readItems(from: ByteReader, description: OperatorPartDescription): readonly OperatorStateItem[] {
  const items: OperatorStateItem[] = [];
  while (from.remaining > 0) items.push(readItem(from, description.itemType !== null));
  return items;
}

/**
 * The part of {@link encodeOperatorState}. `where` names the source in failures.
 * @throws Failure SNAPSHOT_DAMAGED, FORMAT_UNSUPPORTED
 */
export function decodeOperatorState(bytes: Uint8Array, where: string): DecodedOperatorState {
  const reader = new PartReader(bytes, where);
  const { description } = reader;
  if (description.section !== "operator-list") {
    throw new Failure("SNAPSHOT_DAMAGED", {
      retry: "never",
      message: `${where}: the part found there is of section ${description.section}`,
    });
  }
  const items = reader.blocks.flatMap((row) => {
    const block = reader.block(row);
    const found = readItems(block, description);
    if (found.length === row.entryCount) return found;
    throw block.failure(`${found.length} items where its directory counts ${row.entryCount}`);
  });
  return { description, items };
}
