// Stored bytes: what was written is read back, what was changed or cut is refused, by a Failure and nothing else.

import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { crc32c, isFailure } from "@sluice/kit";
import { Types } from "../model/index.ts";
import type { CheckpointId } from "../model/index.ts";
import { decodeOperatorState, encodeOperatorState, PartReader } from "./index.ts";
import { declare, finish, makeBackend, Modelled, toRestored } from "./model.fixture.ts";

/** The code of the Failure that a call throws; anything else thrown is a bug and passes through. */
function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (thrown) {
    if (!isFailure(thrown)) throw thrown;
    return thrown.code;
  }
  return "no failure";
}

function partOf(entryCount: number): Uint8Array {
  const state = new Modelled(Types.STRING().descriptor, Types.TUPLE(Types.LONG(), Types.STRING()).descriptor);
  for (let i = 0; i < entryCount; i += 1) state.put(`key-${i}`, [i, `é${"x".repeat(i % 40)}`]);
  return (toRestored(finish(state.backend.snapshot(1 as CheckpointId)))[0] as { bytes: Uint8Array }).bytes;
}

function restore(bytes: Uint8Array): void {
  makeBackend(Types.STRING().descriptor).restore([{ stateName: "s", keyGroups: [0, 15], bytes }]);
}

test("SF1: every changed byte of a part is noticed", () => {
  const bytes = partOf(40);
  expect(codeOf(() => restore(bytes))).toBe("no failure");
  for (let at = 0; at < bytes.length; at += 1) {
    const changed = bytes.slice();
    changed[at] = (changed[at] as number) ^ (1 << (at % 8));
    expect([at, codeOf(() => restore(changed))]).toEqual([at, "SNAPSHOT_DAMAGED"]);
  }
});

test("SF1: a part that was cut off or continued is noticed", () => {
  const bytes = partOf(40);
  for (let length = 0; length < bytes.length; length += 1)
    expect(codeOf(() => restore(bytes.slice(0, length)))).toBe("SNAPSHOT_DAMAGED");
  expect(codeOf(() => restore(Uint8Array.from([...bytes, 0])))).toBe("SNAPSHOT_DAMAGED");
});

test("SF4: foreign bytes, and parts whose checksums were made to fit, end in a Failure", () => {
  const bytes = partOf(20);
  const headerBytes = new DataView(bytes.buffer).getUint32(8, true);
  const reseal = (changed: Uint8Array): Uint8Array => {
    const view = new DataView(changed.buffer);
    view.setUint32(20, 0, true);
    view.setUint32(20, crc32c(changed.subarray(0, headerBytes)), true);
    return changed;
  };
  const resealBlocks = (changed: Uint8Array): Uint8Array => {
    const view = new DataView(changed.buffer);
    const directoryAt = 28 + view.getUint32(12, true);
    for (let row = directoryAt; row < headerBytes; row += 24) {
      const offset = view.getUint32(row + 8, true);
      view.setUint32(row + 20, crc32c(changed.subarray(offset, offset + view.getUint32(row + 16, true))), true);
    }
    return reseal(changed);
  };
  const allowed = ["SNAPSHOT_DAMAGED", "FORMAT_UNSUPPORTED", "STATE_INCOMPATIBLE"];
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
      const changed = bytes.slice();
      if (changed[at] === value) return;
      changed[at] = value;
      // A forged checksum may make one valid part out of another; it must only not crash, loop or read outside.
      expect(["no failure", ...allowed]).toContain(
        codeOf(() => restore(at < headerBytes ? reseal(changed) : resealBlocks(changed))),
      );
    }),
    { numRuns: 2_000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (junk) =>
      expect(codeOf(() => restore(junk))).toBe("SNAPSHOT_DAMAGED"),
    ),
  );
});

test("a part of a newer format is FORMAT_UNSUPPORTED, not damaged", () => {
  const bytes = partOf(3);
  const view = new DataView(bytes.buffer);
  view.setUint16(4, 1, true);
  view.setUint32(20, 0, true);
  view.setUint32(20, crc32c(bytes.subarray(0, view.getUint32(8, true))), true);
  expect(codeOf(() => restore(bytes))).toBe("FORMAT_UNSUPPORTED");
});

test("a part found under another name is refused", () => {
  const bytes = partOf(3);
  expect(
    codeOf(() => makeBackend(Types.STRING().descriptor).restore([{ stateName: "t", keyGroups: [0, 15], bytes }])),
  ).toBe("SNAPSHOT_DAMAGED");
  expect(
    codeOf(() => makeBackend(Types.STRING().descriptor).restore([{ stateName: "s", keyGroups: [0, 7], bytes }])),
  ).toBe("SNAPSHOT_DAMAGED");
});

test("SF2, SF3: blocks are in key-group order, of about 64 KiB, and large values stand alone", () => {
  const backend = makeBackend(Types.LONG().descriptor);
  const big = new Modelled(Types.LONG().descriptor, Types.BYTES().descriptor);
  for (let i = 0; i < 200; i += 1) big.put(i, new Uint8Array(i === 7 ? 1_000_000 : 20_000).fill(i));
  const part = toRestored(finish(big.backend.snapshot(1 as CheckpointId)))[0] as { bytes: Uint8Array };
  const reader = new PartReader(part.bytes, "part");
  const groups = reader.blocks.map((block) => block.keyGroup);
  expect(groups).toEqual(groups.toSorted((a, b) => a - b));
  for (const block of reader.blocks) {
    expect(block.lengthBytes).toBeLessThan(block.lengthBytes >= 1_000_000 ? 1_100_000 : 64 * 1024 + 20_020);
  }
  backend.restore([{ stateName: "s", keyGroups: [0, 15], bytes: part.bytes }]);
  expect(backend.getState(declare("s", Types.BYTES().descriptor))).toBeDefined();
  expect(backend.entryCount).toBe(200);
});

test("OS1: operator state survives the round trip", () => {
  const item = fc.oneof(fc.record({ json: fc.jsonValue() }), fc.record({ bytes: fc.uint8Array() }));
  fc.assert(
    fc.property(fc.array(item, { maxLength: 8 }), (items) => {
      const plain = JSON.parse(
        JSON.stringify(items.map((i) => ("json" in i ? i : { bytes: [...i.bytes] }))),
      ) as unknown;
      const decoded = decodeOperatorState(encodeOperatorState(items), "test");
      expect(JSON.parse(JSON.stringify(decoded.map((i) => ("json" in i ? i : { bytes: [...i.bytes] }))))).toEqual(
        plain,
      );
    }),
  );
  expect(codeOf(() => encodeOperatorState([{ json: undefined }]))).toBe("TYPE_MISMATCH");
});

test("OS2: every changed or missing byte of operator state is noticed", () => {
  const bytes = encodeOperatorState([{ json: { split: "a.csv", position: 17 } }, { bytes: Uint8Array.of(1, 2, 3) }]);
  for (let at = 0; at < bytes.length; at += 1) {
    const changed = bytes.slice();
    changed[at] = (changed[at] as number) ^ 0x10;
    expect(["SNAPSHOT_DAMAGED", "FORMAT_UNSUPPORTED"]).toContain(codeOf(() => decodeOperatorState(changed, "test")));
    expect(codeOf(() => decodeOperatorState(bytes.slice(0, at), "test"))).toBe("SNAPSHOT_DAMAGED");
  }
});
