// Stored bytes: what was written is read back, what was changed or cut is refused, by a Failure and nothing else.

import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { crc32c, isFailure } from "@sluice/kit";
import { Types } from "../model/index.ts";
import type { CheckpointId, OperatorStateContent, SnapshotPart } from "../model/index.ts";
import { readDescription, writeDescription } from "./description.ts";
import {
  blocksOf,
  codecFor,
  decodeOperatorState,
  encodeOperatorState,
  encodeValue,
  PartReader,
  placeOf,
} from "./index.ts";
import type { BlockRow, KeyedPartDescription } from "./index.ts";
import { declare, finish, makeBackend, Modelled, placeOfKey, setKey, toRestored } from "./model.fixture.ts";
import { orderByPlace } from "./table.ts";

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

function encoded(content: OperatorStateContent): Uint8Array {
  return Uint8Array.from(Buffer.concat(encodeOperatorState({ uid: "op", stateName: "s" }, content)));
}

type Json = Readonly<Record<string, unknown>>;

const KEYED: KeyedPartDescription = {
  section: "keyed-run",
  uid: "op",
  stateName: "s",
  stateKind: "map",
  keyType: Types.TUPLE(Types.LONG(), Types.STRING()).descriptor,
  valueType: Types.MAP(Types.STRING(), Types.LIST(Types.ROW({ a: Types.BYTES() }))).descriptor,
  ttl: { ttlMs: 60_000, updateType: "OnReadAndWrite", stateVisibility: "NeverReturnExpired" },
  namespace: null,
  maxParallelism: 128,
  keyGroups: [32, 63],
};

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
    let offset = headerBytes;
    for (let row = directoryAt; row < headerBytes; row += 20) {
      const end = offset + view.getUint32(row + 12, true);
      view.setUint32(row + 16, crc32c(changed.subarray(offset, end)), true);
      offset = end;
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

/** The header with two bytes changed and its checksum made to fit. */
function forged(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const changed = bytes.slice();
  const view = new DataView(changed.buffer);
  view.setUint16(at, value, true);
  view.setUint32(20, 0, true);
  view.setUint32(20, crc32c(changed.subarray(0, view.getUint32(8, true))), true);
  return changed;
}

test.each([
  ["a newer version", 4, 2, /has snapshot format version 2; this release reads version 1/],
  ["version 0", 4, 0, /has snapshot format version 0; this release reads version 1/],
  ["a delta run", 6, 4, /section type 4 \(delta run\), which this release does not know/],
  ["RocksDB files", 6, 5, /section type 5 \(RocksDB files\), which/],
  ["a section without a name", 6, 99, /section type 99, which/],
  ["flags", 24, 1, /flags 1, which this release does not know/],
])("DE1: %s is FORMAT_UNSUPPORTED, not damaged", (_what, at, value, message) => {
  const bytes = forged(partOf(3), at, value);
  expect(codeOf(() => restore(bytes))).toBe("FORMAT_UNSUPPORTED");
  expect(() => restore(bytes)).toThrow(message);
});

test("DE1: operator state of before version 1 is told from damage", () => {
  const old = Uint8Array.from([0x53, 0x4c, 0x4b, 0x4f, 0, 0, 0, 0, 1, 2, 3, 4, 0]);
  expect(() => decodeOperatorState(old, "part")).toThrow(/has snapshot format version 0/);
});

test.each([
  ["an unknown field", (d: Json) => ({ ...d, compression: "zstd" }), /unknown field "compression"/],
  ["a missing field", ({ ttl: _, ...d }: Json) => d, /lacks the field "ttl"/],
  ["an unknown kind", (d: Json) => ({ ...d, stateKind: "queue" }), /state kind "queue" is not known/],
  [
    "an unknown type",
    (d: Json) => ({ ...d, valueType: { kind: "DECIMAL" } }),
    /a type that this release does not know/,
  ],
  [
    "a type with more to it",
    (d: Json) => ({ ...d, keyType: { kind: "LONG", unit: "ms" } }),
    /a type that this release/,
  ],
  ["namespaces", (d: Json) => ({ ...d, namespace: { kind: "LONG" } }), /namespaces, which this release does not know/],
  ["another TTL", (d: Json) => ({ ...d, ttl: { ttlMs: 5, updateType: "Never" } }), /lacks the field "stateVisibility"/],
  ["no range", (d: Json) => ({ ...d, keyGroups: [9, 3] }), /no valid range of key groups/],
])("DE1: a description with %s is refused", (_what, change, message) => {
  const description = readDescription(1, writeDescription(KEYED), "part");
  expect(description).toEqual(KEYED);
  const { section: _, ...json } = KEYED;
  const changed = new TextEncoder().encode(JSON.stringify(change(json)));
  expect(() => readDescription(1, changed, "part")).toThrow(message);
  expect(codeOf(() => readDescription(1, changed, "part"))).toBe("FORMAT_UNSUPPORTED");
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

test("SF2, SF5: entries are in the order of their places, and a key lies in the blocks that blocksOf names", () => {
  for (const keyType of [Types.LONG().descriptor, Types.STRING().descriptor, Types.TUPLE(Types.LONG()).descriptor]) {
    const keyOf = (i: number): unknown => (keyType.kind === "LONG" ? i : keyType.kind === "STRING" ? `k${i}` : [i]);
    const count = keyType.kind === "LONG" ? 70_000 : 20_000;
    const backend = makeBackend(keyType);
    const state = backend.getState(declare("s", Types.LONG().descriptor));
    expect(finish(backend.snapshot(1 as CheckpointId))[0]?.itemCount).toBe(0);
    const put = (step: number): void => {
      for (let i = 0; i < count; i += step) {
        setKey(backend, keyType, keyOf(i));
        state.update(i);
      }
    };
    put(1);
    const open = backend.snapshot(2 as CheckpointId);
    put(7); // kept aside for the cut, which is to be in order all the same
    const [part] = finish(open);
    expect(part?.itemCount).toBe(count);
    const reader = new PartReader((toRestored([part as SnapshotPart])[0] as { bytes: Uint8Array }).bytes, "part");
    if (keyType.kind === "LONG") expect(reader.blocks.length).toBeGreaterThan(16);
    const [keys, values] = [codecFor(keyType), codecFor(Types.LONG().descriptor)];
    let before = -1;
    let wrong = 0;
    for (const row of reader.blocks) {
      const block = reader.block(row);
      for (let isFirst = true; block.remaining > 0; isFirst = false) {
        const place = placeOfKey(keyType, keys.read(block));
        values.read(block);
        if (place < before || !blocksOf(reader.blocks, place).includes(row)) wrong += 1;
        if (isFirst && place !== placeOf(row.keyGroup, row.firstHash)) wrong += 1;
        before = place;
      }
    }
    expect(wrong).toBe(0);
    expect(blocksOf(reader.blocks, placeOf(3, 0x80000000))).toHaveLength(1);
  }
});

test("SF5: an order hash that many keys share is looked for in every block that may hold it", () => {
  const row = (keyGroup: number, firstHash: number): BlockRow => {
    return { keyGroup, firstHash, entryCount: 1, lengthBytes: 1, crc32c: 0, offset: 0 };
  };
  const rows = [row(1, 5), row(1, 9), row(1, 9), row(1, 12), row(4, 0)];
  const found = (keyGroup: number, hash: number): readonly number[] =>
    blocksOf(rows, placeOf(keyGroup, hash)).map((block) => rows.indexOf(block));
  expect([found(1, 4), found(1, 5), found(1, 8), found(1, 9), found(1, 10), found(1, 12), found(1, 99)]).toEqual([
    [], // before the first
    [0],
    [0],
    [0, 1, 2], // may have begun in the block before
    [2],
    [2, 3],
    [3],
  ]);
  expect([found(0, 7), found(2, 0), found(4, 7), found(5, 0)]).toEqual([[], [], [4], []]);
});

test("orderByPlace sorts whatever it is given: spread, crowded, equal", () => {
  const place = fc.oneof(
    fc.nat(50),
    fc.nat(2 ** 31),
    fc.maxSafeInteger().map((n) => Math.abs(n) % 2 ** 47),
  );
  fc.assert(
    fc.property(fc.array(place, { maxLength: 300, size: "max" }), (places) => {
      const order = new Uint32Array(places.length);
      const sorted = Float64Array.from(places);
      orderByPlace(sorted, places.length, order);
      expect([...order].toSorted((a, b) => a - b)).toEqual(places.map((_, i) => i));
      expect([...order].map((i) => places[i])).toEqual(places.toSorted((a, b) => a - b));
      expect([...sorted]).toEqual(places.toSorted((a, b) => a - b));
    }),
  );
});

test("OS1: operator state survives the round trip", () => {
  const modes = ["split", "union", "broadcast"] as const;
  const item = fc.oneof(fc.record({ json: fc.jsonValue() }), fc.record({ bytes: fc.uint8Array() }));
  fc.assert(
    fc.property(fc.array(item, { maxLength: 8 }), fc.constantFrom(...modes), (items, mode) => {
      const plain = JSON.parse(
        JSON.stringify(items.map((i) => ("json" in i ? i : { bytes: [...i.bytes] }))),
      ) as unknown;
      const decoded = decodeOperatorState(encoded({ mode, items }), "test");
      expect(decoded.description).toMatchObject({ uid: "op", stateName: "s", mode, itemType: null });
      expect(JSON.parse(JSON.stringify(decoded.items.map((i) => ("json" in i ? i : { bytes: [...i.bytes] }))))).toEqual(
        plain,
      );
    }),
  );
  expect(codeOf(() => encoded({ mode: "split", items: [{ json: undefined }] }))).toBe("TYPE_MISMATCH");
});

test("OS3: items of a declared type carry it, and are nothing else than its encoding", () => {
  const itemType = Types.ROW({ a: Types.LONG() }).descriptor;
  const items = Array.from({ length: 10_000 }, (_, a) => ({ bytes: encodeValue(codecFor(itemType), { a }) }));
  const bytes = encoded({ mode: "union", itemType, items });
  expect(new PartReader(bytes, "part").blocks.length).toBe(2);
  expect(decodeOperatorState(bytes, "part")).toEqual({ items, description: expect.objectContaining({ itemType }) });
  expect(() => encoded({ mode: "union", itemType, items: [{ json: 1 }] })).toThrow(/OS3/);
});

test("OS2: every changed or missing byte of operator state is noticed", () => {
  const bytes = encoded({
    mode: "split",
    items: [{ json: { split: "a.csv", position: 17 } }, { bytes: Uint8Array.of(1, 2, 3) }],
  });
  for (let at = 0; at < bytes.length; at += 1) {
    const changed = bytes.slice();
    changed[at] = (changed[at] as number) ^ 0x10;
    expect(["SNAPSHOT_DAMAGED", "FORMAT_UNSUPPORTED"]).toContain(codeOf(() => decodeOperatorState(changed, "test")));
    expect(codeOf(() => decodeOperatorState(bytes.slice(0, at), "test"))).toBe("SNAPSHOT_DAMAGED");
  }
});
