// Reads what one key has in one state, or the items of an operator state.
//
// Invariants:
//   GE1. Of a keyed state the header of the key's parts and the blocks that may hold the key are read, nothing else (SF5).
//   GE2. Absent is an answer, told apart from what could not be read.
//
// Not here: how keys are typed (CLI), finding the snapshot.

import { Failure } from "@sluice/kit";
import { valueFromJson, valueToJson } from "../model/index.ts";
import type { JsonValue, TypeDescriptor } from "../model/index.ts";
import {
  blocksOf,
  cellsToJson,
  codecFor,
  decodeValue,
  encodeValue,
  keyPlacer,
  readItems,
  rowReader,
} from "../state/index.ts";
import type { KeyedPartDescription, OperatorPartDescription, RowCell } from "../state/index.ts";
import type { StoredPart } from "./stored-part.ts";
import { describeState } from "./stored-snapshot.ts";
import type { StoredState } from "./stored-snapshot.ts";

/** What a key has; `timesMs` with ttl, one per value, element or map entry. */
export interface KeyContent {
  readonly description: KeyedPartDescription;
  readonly key: JsonValue;
  readonly keyGroup: number;
  readonly found: { readonly value: JsonValue; readonly timesMs: readonly number[] | null } | undefined;
}

/** The description of a keyed state. Failure CONFIG_INVALID for an operator state: it has no keys. */
export async function keyedDescription(state: StoredState): Promise<KeyedPartDescription> {
  const description = await describeState(state);
  if (description.section !== "operator-list") return description;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `state "${state.stateName}" of operator uid ${state.uid} is operator state: it has items, no keys`,
    remedy: "leave --key out to see all its items",
  });
}

/** A key as people type it: text for STRING and BYTES (base64), JSON for all others; JSON text in quotes for STRING, too. */
export function parseKey(type: TypeDescriptor, text: string): unknown {
  if (type.kind === "STRING" && !/^"(?:.*)"$/su.test(text)) return text;
  if (type.kind === "BYTES") return valueFromJson(type, text);
  let json: unknown = text;
  try {
    json = JSON.parse(text);
  } catch {
    if (type.kind === "STRING") return text; // a text that happens to begin and end with a quote
  }
  return valueFromJson(type, json);
}

/** Reads what the key has in a keyed state (GE1, GE2). */
export async function readKey(
  state: StoredState,
  description: KeyedPartDescription,
  key: unknown,
): Promise<KeyContent> {
  const { place, keyGroup, bytes } = keyPlacer(description)(key);
  const cells: RowCell[] = [];
  for (const part of state.parts) {
    const [first = 0, last = -1] = part.handle.keyGroups ?? [];
    if (keyGroup < first || keyGroup > last) continue;
    cells.push(...(await cellsIn(part, place, bytes)));
  }
  const found =
    cells.length === 0
      ? undefined
      : {
          value: cellsToJson(description, cells),
          timesMs: description.ttl === null ? null : cells.map(({ timeMs }) => timeMs ?? 0),
        };
  return { description, key: valueToJson(description.keyType, key), keyGroup, found };
}

async function cellsIn(part: StoredPart, place: number, key: Uint8Array): Promise<readonly RowCell[]> {
  const { description, blocks } = await part.header();
  if (description.section === "operator-list") throw part.damaged("the part found there is no keyed state");
  const read = rowReader(description);
  const keys = codecFor(description.keyType);
  const cells: RowCell[] = [];
  for (const row of blocksOf(blocks, place)) {
    const block = await part.block(row);
    while (block.remaining > 0) {
      const found = read(block);
      if (isSame(encodeValue(keys, found.key), key)) cells.push(...found.cells);
    }
  }
  return cells;
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** The items of one subtask's part of an operator state. Typed ones as their values, bytes as {"base64": ...}. */
export async function readOperatorItems(part: StoredPart): Promise<readonly JsonValue[]> {
  const { description, blocks } = await part.header();
  if (description.section !== "operator-list") throw part.damaged("the part found there is no operator state");
  const items: JsonValue[] = [];
  for (const row of blocks) {
    for (const item of readItems(await part.block(row), description)) {
      if ("json" in item) items.push(item.json as JsonValue);
      else items.push(bytesToJson(item.bytes, description));
    }
  }
  return items;
}

function bytesToJson(bytes: Uint8Array, { itemType }: OperatorPartDescription): JsonValue {
  if (itemType === null) return { base64: Buffer.from(bytes).toString("base64") };
  return valueToJson(itemType, decodeValue(codecFor(itemType), bytes, "an item of operator state"));
}
