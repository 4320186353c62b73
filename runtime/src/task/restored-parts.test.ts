// What a task is given of operator state that several subtasks have stored.

import { expect, test } from "@jest/globals";

import { NOTHING_READ, Types } from "../model/index.ts";
import type { OperatorStateContent, RestorePart, TypeInformation } from "../model/index.ts";
import { codecFor, encodeOperatorState, encodeValue } from "../state/index.ts";
import { readRestoredParts } from "./restored-parts.ts";

/** A part as one subtask stores it. */
function stored<T>(type: TypeInformation<T>, values: readonly T[]): Uint8Array {
  const codec = codecFor(type.descriptor);
  const items = values.map((value) => ({ bytes: encodeValue(codec, value) }));
  const content: OperatorStateContent = { mode: "split", itemType: type.descriptor, items };
  return Buffer.concat(encodeOperatorState({ uid: "u", stateName: "s" }, content));
}

async function read(contents: readonly Uint8Array[]): Promise<OperatorStateContent | undefined> {
  const parts = contents.map(({ byteLength }, i): RestorePart => ({
    uid: "u",
    stateName: "s",
    kind: "operator",
    mode: "split",
    object: `x-${i}`,
    offset: 0,
    lengthBytes: byteLength,
    crc32c: 0,
  }));
  const port = { fetchParts: () => Promise.resolve({ contents: [...contents], read: NOTHING_READ }) };
  return (await readRestoredParts(parts, port)).operator.get("u")?.get("s");
}

const AB = Types.ROW({ a: Types.INT(), b: Types.INT() });
const BA = Types.ROW({ b: Types.INT(), a: Types.INT() });

test("RP1: items of several subtasks come together, in their order", async () => {
  const state = await read([stored(AB, [{ a: 1, b: 2 }]), stored(AB, []), stored(AB, [{ a: 3, b: 4 }])]);
  expect([state?.items.length, state?.itemType]).toEqual([2, AB.descriptor]);
});

test("RP2: what only some subtasks have declared anew is refused, not read with its fields exchanged", async () => {
  await expect(read([stored(AB, [{ a: 1, b: 2 }]), stored(BA, [{ a: 3, b: 4 }])])).rejects.toMatchObject({
    code: "STATE_INCOMPATIBLE",
    message: expect.stringMatching(/some subtasks have stored ROW.*a.*b.*this one ROW.*b.*a/u),
  });
  // A subtask that had none says nothing about the others' type.
  expect(await read([stored(AB, [{ a: 1, b: 2 }]), stored(BA, [])])).toMatchObject({ itemType: AB.descriptor });
});
