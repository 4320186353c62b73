// Keyed state against a plain Map: any operations, any cut, any restore range.

import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { hashLong, isFailure } from "@sluice/kit";
import { ListStateDescriptor, MapStateDescriptor, Types } from "../model/index.ts";
import type { CheckpointId, TypeDescriptor } from "../model/index.ts";
import { codecFor, encodeValue } from "./index.ts";
import type { KeyedSnapshot } from "./index.ts";
import { declare, finish, makeBackend, Modelled, setKey, toRestored } from "./model.fixture.ts";
import type { Contents } from "./model.fixture.ts";

const ALL: readonly (readonly [number, number])[] = [[0, 15]];
const THIRDS: readonly (readonly [number, number])[] = [
  [0, 4],
  [5, 10],
  [11, 15],
];

const long = fc.oneof(fc.integer({ min: -40, max: 40 }), fc.maxSafeInteger());
const text = fc.oneof(
  fc.constantFrom("", "a", "b", "\ud800", "\udc00x", "\u{1f600}", "é", "\ufeff", "\0"),
  fc.string({ unit: "binary", maxLength: 40 }),
  fc.string({ minLength: 200, maxLength: 300 }),
);
const double = fc.oneof(fc.constantFrom(0, -0, NaN, Infinity, -Infinity, 5e-324), fc.double());
const row = fc.record({ a: fc.integer(), b: text });

/** Every kind of key and value, with values to draw. */
const KINDS: readonly {
  readonly type: TypeDescriptor;
  readonly values: fc.Arbitrary<unknown>;
  readonly isKey: boolean;
}[] = [
  { type: Types.INT().descriptor, values: fc.integer(), isKey: true },
  { type: Types.LONG().descriptor, values: long, isKey: true },
  { type: Types.INSTANT().descriptor, values: long, isKey: true },
  { type: Types.DOUBLE().descriptor, values: double, isKey: true },
  { type: Types.BOOLEAN().descriptor, values: fc.boolean(), isKey: true },
  { type: Types.STRING().descriptor, values: text, isKey: true },
  { type: Types.BYTES().descriptor, values: fc.uint8Array({ maxLength: 50 }), isKey: true },
  { type: Types.TUPLE(Types.LONG(), Types.STRING()).descriptor, values: fc.tuple(long, text), isKey: true },
  { type: Types.TUPLE().descriptor, values: fc.constant([]), isKey: true },
  { type: Types.ROW({ a: Types.INT(), b: Types.STRING() }).descriptor, values: row, isKey: true },
  { type: Types.LIST(Types.INT()).descriptor, values: fc.array(fc.integer(), { maxLength: 5 }), isKey: true },
  {
    type: Types.MAP(Types.STRING(), Types.LIST(Types.DOUBLE())).descriptor,
    values: fc
      .array(fc.tuple(text, fc.array(double, { maxLength: 3 })), { maxLength: 4 })
      .map((pairs) => new Map(pairs)),
    isKey: false,
  },
];

type Action =
  | { readonly do: "put" | "clear" | "get"; readonly key: number; readonly value: unknown }
  | { readonly do: "snapshot" | "step" | "abort" };

function actions(values: fc.Arbitrary<unknown>): fc.Arbitrary<readonly Action[]> {
  const key = fc.nat(999);
  return fc.array(
    fc.oneof(
      { weight: 20, arbitrary: fc.record({ do: fc.constant("put" as const), key, value: values }) },
      {
        weight: 6,
        arbitrary: fc.record({
          do: fc.constantFrom("clear" as const, "get" as const),
          key,
          value: fc.constant(undefined),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({
          do: fc.constantFrom("snapshot" as const, "step" as const, "step" as const, "abort" as const),
        }),
      },
    ),
    { maxLength: 120, size: "max" },
  );
}

const scenario = fc
  .tuple(fc.constantFrom(...KINDS.filter((kind) => kind.isKey)), fc.constantFrom(...KINDS))
  .chain(([key, value]) =>
    fc.record({
      keyType: fc.constant(key.type),
      valueType: fc.constant(value.type),
      keys: fc.array(key.values, { minLength: 1, maxLength: 60, size: "max" }),
      actions: actions(value.values),
    }),
  );

test("SN1, TB2: whatever is written between steps, a snapshot restores exactly its cut, into any ranges", () => {
  fc.assert(
    fc.property(scenario, ({ keyType, valueType, keys, actions: script }) => {
      const state = new Modelled(keyType, valueType);
      const open: { snapshot: KeyedSnapshot; cut: Contents }[] = [];
      let id = 0;
      for (const action of script) {
        if (action.do === "snapshot") {
          if (open.length === 4) continue;
          id += 1;
          open.push({ snapshot: state.backend.snapshot(id as CheckpointId), cut: state.contents() });
        } else if (action.do === "step") {
          open[id % Math.max(1, open.length)]?.snapshot.step(0);
        } else if (action.do === "abort" && open.length > 1) {
          open.splice(id % open.length, 1)[0]?.snapshot.release();
        } else if ("key" in action) {
          const key = keys[action.key % keys.length];
          if (action.do === "put") state.put(key, action.value);
          else if (action.do === "clear") state.clear(key);
          expect(state.read(key)).toBe(state.expected(key));
        }
      }
      const visited = new Map<string, string | undefined>();
      state.backend.forEachKey(declare("s", valueType), (key) => {
        const text = Buffer.from(encodeValue(codecFor(keyType), key)).toString("hex");
        expect(visited.has(text)).toBe(false);
        visited.set(text, state.read(key));
      });
      expect(visited).toEqual(state.contents());
      expect(() => state.backend.getCurrentKey()).toThrow(/outside of a key/u);
      open.push({ snapshot: state.backend.snapshot(99 as CheckpointId), cut: state.contents() });
      for (const { snapshot, cut } of open) {
        const parts = finish(snapshot);
        for (const ranges of [ALL, THIRDS]) {
          expect(state.restored(parts, ranges)).toEqual({ contents: cut, entryCount: cut.size });
        }
      }
    }),
    { numRuns: 150 },
  );
});

test.each([
  [
    "LONG keys, LONG values",
    Types.LONG().descriptor,
    Types.LONG().descriptor,
    (i: number) => i * 1_000_003,
    (i: number) => i,
  ],
  [
    "STRING keys, LONG values",
    Types.STRING().descriptor,
    Types.LONG().descriptor,
    (i: number) => `key-${i}`,
    (i: number) => i,
  ],
  [
    "LONG keys, STRING values",
    Types.LONG().descriptor,
    Types.STRING().descriptor,
    (i: number) => -i,
    (i: number) => `v${i}`,
  ],
  [
    "TUPLE keys, LIST values",
    Types.TUPLE(Types.INT(), Types.STRING()).descriptor,
    Types.LIST(Types.INT()).descriptor,
    (i: number) => [i, "x"],
    (i: number) => [i],
  ],
])("D2, TB3: tables grow, split and shrink under two snapshots: %s", (_name, keyType, valueType, keyOf, valueOf) => {
  const state = new Modelled(keyType, valueType);
  const COUNT = 12_000;
  for (let i = 0; i < COUNT / 2; i += 1) state.put(keyOf(i), valueOf(i));
  const first = state.backend.snapshot(1 as CheckpointId);
  const firstCut = state.contents();
  for (let i = COUNT / 4; i < COUNT; i += 1) {
    state.put(keyOf(i), valueOf(i + 1));
    if (i === COUNT / 2) first.step(0);
  }
  const second = state.backend.snapshot(2 as CheckpointId);
  const secondCut = state.contents();
  for (let i = 0; i < COUNT; i += 3) {
    state.clear(keyOf(i));
    if (i % 600 === 0) second.step(0);
  }
  for (let i = 0; i < COUNT; i += 1) expect(state.read(keyOf(i))).toBe(state.expected(keyOf(i)));
  expect(state.backend.entryCount).toBe(state.contents().size);
  const secondParts = finish(second); // captured before the older one (TB4)
  const firstParts = finish(first);
  expect(state.restored(firstParts, ALL).contents).toEqual(firstCut);
  expect(state.restored(secondParts, THIRDS).contents).toEqual(secondCut);
});

test("SB1, SB4: short-lived STRING keys leave nothing behind, and recent ones are never mistaken for others", () => {
  const state = new Modelled(Types.STRING().descriptor, Types.LONG().descriptor);
  for (const stable of ["", "a", "ü", "\u4e00"]) state.put(stable, 1);
  const snapshot = state.backend.snapshot(1 as CheckpointId);
  const cut = state.contents();
  for (let i = 0; i < 5_000; i += 1) {
    const key = `${i % 3 === 0 ? "\u4e00" : "k"}${"x".repeat(i % 90)}${i % 700}`;
    if (state.expected(key) === undefined) state.put(key, i);
    else state.clear(key);
    for (const other of [key, "", "a", "ü", "\u4e00"]) expect(state.read(other)).toBe(state.expected(other));
    if (i % 2 === 1) state.clear(key);
  }
  expect(state.backend.entryCount).toBe(state.contents().size);
  expect(state.restored(finish(snapshot), ALL).contents).toEqual(cut);
  expect(state.restored(finish(state.backend.snapshot(2 as CheckpointId)), THIRDS).contents).toEqual(state.contents());
});

/** LONG keys with one and the same 32-bit hash: MurmurHash3's steps can be undone. */
function collidingKeys(count: number): readonly number[] {
  const inverse = (odd: number): number => {
    let x = odd;
    for (let i = 0; i < 5; i += 1) x = Math.imul(x, 2 - Math.imul(odd, x));
    return x;
  };
  const [c1, c2, back5] = [0xcc9e2d51 | 0, 0x1b873593, inverse(5)];
  const scramble = (word: number): number => {
    const k = Math.imul(word, c1);
    return Math.imul((k << 15) | (k >>> 17), c2);
  };
  const unscramble = (mixed: number): number => {
    const k = Math.imul(mixed, inverse(c2));
    return Math.imul((k >>> 15) | (k << 17), inverse(c1));
  };
  const unstep = (hash: number): number => {
    const h = Math.imul((hash - 0xe6546b64) | 0, back5);
    return (h >>> 13) | (h << 19);
  };
  const target = 0x1234567;
  return Array.from(
    { length: count },
    (_, high) => high * 2 ** 32 + (unscramble(unstep(unstep(target) ^ scramble(high))) >>> 0),
  );
}

test("D3: keys that collide on purpose make one segment larger instead of the directory", () => {
  const keys = collidingKeys(6_000);
  const hashes = keys.map(hashLong);
  expect(new Set(hashes).size).toBe(1);
  for (const valueType of [Types.LONG().descriptor, Types.TUPLE(Types.LONG()).descriptor]) {
    const backend = makeBackend(Types.LONG().descriptor);
    const state = backend.getState(declare("s", valueType));
    const valueOf = (i: number): unknown => (valueType.kind === "LONG" ? i : [i]);
    keys.forEach((key, i) => {
      backend.setCurrentKey(key, hashes[i] as number);
      state.update(valueOf(i));
    });
    for (let i = 0; i < keys.length; i += 50) {
      backend.setCurrentKey(keys[i], hashes[i] as number);
      expect(state.value()).toEqual(valueOf(i));
    }
    expect(backend.entryCount).toBe(keys.length);
  }
});

test("OT1: a value changed in place after the cut does not reach the snapshot", () => {
  const keyType = Types.LONG().descriptor;
  const backend = makeBackend(keyType);
  const state = backend.getState(declare("s", Types.LIST(Types.LONG()).descriptor));
  for (let i = 0; i < 1_000; i += 1) {
    setKey(backend, keyType, i);
    state.update([i]);
  }
  const snapshot = backend.snapshot(1 as CheckpointId);
  for (let i = 0; i < 1_000; i += 1) {
    setKey(backend, keyType, i);
    (state.value() as number[]).push(-1);
  }
  const copy = makeBackend(keyType);
  copy.restore(toRestored(finish(snapshot)));
  for (let i = 0; i < 1_000; i += 1) {
    setKey(copy, keyType, i);
    expect(copy.getState(declare("s", Types.LIST(Types.LONG()).descriptor)).value()).toEqual([i]);
  }
});

/** The code of the Failure that a call throws. */
function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (thrown) {
    return isFailure(thrown) ? `${thrown.code}: ${thrown.message}` : String(thrown);
  }
  return "no failure";
}

test("ST1: outside of a key every access is refused", () => {
  const backend = makeBackend(Types.LONG().descriptor);
  for (const type of [Types.LONG().descriptor, Types.STRING().descriptor]) {
    const state = backend.getState(declare(type.kind, type));
    for (const access of [
      () => state.value(),
      () => state.clear(),
      () => state.update(type.kind === "LONG" ? 1 : "x"),
    ]) {
      setKey(backend, Types.LONG().descriptor, 7);
      state.value();
      backend.clearCurrentKey();
      expect(codeOf(access)).toMatch(/^STATE_ACCESS_INVALID: operator uid op-1: state "(LONG|STRING)"/);
    }
  }
  expect(codeOf(() => backend.getCurrentKey())).toMatch("STATE_ACCESS_INVALID");
});

test.each([
  ["INT", Types.INT().descriptor, [2 ** 31, 1.5, NaN, "1", undefined]],
  ["LONG", Types.LONG().descriptor, [2 ** 53, 0.1, Infinity, 1n, null]],
  ["DOUBLE", Types.DOUBLE().descriptor, ["1", undefined, true]],
  ["BOOLEAN", Types.BOOLEAN().descriptor, [0, 1, "true"]],
  ["STRING", Types.STRING().descriptor, [1, undefined]],
  ["BYTES", Types.BYTES().descriptor, ["x", new Uint16Array(1), [1]]],
  ["TUPLE", Types.TUPLE(Types.INT(), Types.STRING()).descriptor, [[1], [1, 2], [1, "a", 2], { 0: 1, 1: "a" }]],
  ["ROW", Types.ROW({ a: Types.INT() }).descriptor, [{}, { a: "x" }, [1], null]],
  ["LIST", Types.LIST(Types.INT()).descriptor, [{}, "abc"]],
  ["MAP", Types.MAP(Types.INT(), Types.INT()).descriptor, [{}, [[1, 2]]]],
])("CO2: %s refuses values of another type, by uid, state and value, and keeps the old one", (_name, type, wrong) => {
  const backend = makeBackend(Types.LONG().descriptor);
  const state = backend.getState(declare("sum", type));
  setKey(backend, Types.LONG().descriptor, 1);
  for (const value of wrong) {
    expect(codeOf(() => state.update(value))).toMatch(/^TYPE_MISMATCH: operator uid op-1, state "sum": /);
    expect(state.value()).toBeUndefined();
  }
});

test("a wrong element inside of a LIST is named when the snapshot finds it", () => {
  const backend = makeBackend(Types.LONG().descriptor);
  const state = backend.getState(declare("l", Types.LIST(Types.INT()).descriptor));
  setKey(backend, Types.LONG().descriptor, 1);
  state.update([1, "two"]);
  expect(codeOf(() => finish(backend.snapshot(1 as CheckpointId)))).toMatch(
    'TYPE_MISMATCH: operator uid op-1, state "l": "two" is not INT',
  );
});

test("HB3: one name means one type", () => {
  const backend = makeBackend(Types.LONG().descriptor);
  const state = backend.getState(declare("s", Types.LONG().descriptor));
  expect(backend.getState(declare("s", Types.LONG().descriptor))).toBe(state);
  expect(codeOf(() => backend.getState(declare("s", Types.INT().descriptor)))).toBe(
    'STATE_ACCESS_INVALID: operator uid op-1, state "s": declared twice, as LONG and as INT',
  );
  expect(codeOf(() => backend.getState(declare("g", Types.GENERIC().descriptor)))).toMatch("TYPE_MISMATCH");
});

test("a restored state of another type is refused with both types named", () => {
  const state = new Modelled(Types.LONG().descriptor, Types.LONG().descriptor);
  state.put(1, 2);
  const parts = toRestored(finish(state.backend.snapshot(1 as CheckpointId)));
  const backend = makeBackend(Types.LONG().descriptor);
  backend.restore(parts);
  expect(codeOf(() => backend.getState(declare("s", Types.STRING().descriptor)))).toBe(
    'STATE_INCOMPATIBLE: operator uid op-1, state "s": the snapshot holds LONG, the job declares STRING',
  );
  expect(codeOf(() => makeBackend(Types.STRING().descriptor).restore(parts))).toMatch(
    /^STATE_INCOMPATIBLE: .*keyed by LONG, the job keys by STRING/,
  );
});

test("HB2: a restored state that nobody asks for is written again", () => {
  const state = new Modelled(Types.LONG().descriptor, Types.STRING().descriptor);
  for (let i = 0; i < 1_000; i += 1) state.put(i, `v${i}`);
  const backend = makeBackend(Types.LONG().descriptor);
  backend.restore(toRestored(finish(state.backend.snapshot(1 as CheckpointId))));
  backend.getState(declare("other", Types.LONG().descriptor));
  const parts = finish(backend.snapshot(2 as CheckpointId));
  expect(parts.map((part) => part.stateName)).toEqual(["s", "other"]);
  expect(state.restored(parts.slice(0, 1), THIRDS).contents).toEqual(state.contents());
});

test("HB1: a key of another subtask, or one that was routed by another key, is refused", () => {
  const backend = makeBackend(Types.LONG().descriptor, [0, 7]);
  const state = backend.getState(declare("s", Types.LONG().descriptor));
  expect(
    codeOf(() => {
      backend.setCurrentKey(1, 15);
      state.value();
    }),
  ).toMatch("PROTOCOL_VIOLATION: operator uid op-1: a record of key group 15");
  backend.setCurrentKey(12345, 3);
  expect(codeOf(() => state.update(1))).toMatch(
    "STATE_ACCESS_INVALID: operator uid op-1: key 12345 is not the key by which the record was routed",
  );
  expect(codeOf(() => backend.setCurrentKey("x", 3))).toMatch('TYPE_MISMATCH: operator uid op-1: key "x" is not LONG');
});

test("a full set of snapshots in flight declines the next one, and a released one makes room", () => {
  const backend = makeBackend(Types.LONG().descriptor);
  backend.getState(declare("s", Types.LONG().descriptor));
  const open = Array.from({ length: 30 }, (_, i) => backend.snapshot(i as CheckpointId));
  expect(codeOf(() => backend.snapshot(31 as CheckpointId))).toMatch("CHECKPOINT_DECLINED");
  open[3]?.release();
  open[3]?.release();
  expect(finish(backend.snapshot(32 as CheckpointId))).toHaveLength(1);
});

test("a backend without states has a snapshot without parts", () => {
  expect(finish(makeBackend(Types.STRING().descriptor).snapshot(1 as CheckpointId))).toEqual([]);
});

test("forEachKey of lists and maps, also while the visit removes, changes and fills them", () => {
  const row = Types.ROW({ a: Types.LONG(), b: Types.STRING() });
  for (const [keyType, keyOf] of [
    [Types.LONG(), (i: number) => i],
    [Types.STRING(), (i: number) => `k${i}`],
    [row, (i: number) => ({ a: i, b: `${i}` })],
  ] as const) {
    const backend = makeBackend(keyType.descriptor);
    const list = new ListStateDescriptor("list", Types.LONG());
    const map = new MapStateDescriptor("map", Types.STRING(), Types.LONG());
    const other = declare("other", Types.LONG().descriptor);
    for (let i = 0; i < 600; i += 1) {
      setKey(backend, keyType.descriptor, keyOf(i));
      if (i % 2 === 0) backend.getListState(list).add(i);
      else backend.getMapState(map).put("x", i);
    }
    const seen: unknown[] = [];
    backend.forEachKey(list, (key) => {
      expect(backend.getCurrentKey()).toBe(key);
      const [value = -1] = backend.getListState(list).get();
      expect(key).toEqual(keyOf(value));
      seen.push(value);
      if (value % 4 === 0) backend.getListState(list).clear();
      else backend.getListState(list).add(7);
      backend.getState(other).update(value);
    });
    expect(seen).toHaveLength(300);
    const counts = { list: 0, map: 0, other: 0 };
    backend.forEachKey(list, () => {
      expect([...backend.getListState(list).get()]).toHaveLength(2);
      counts.list += 1;
    });
    backend.forEachKey(map, () => (counts.map += backend.getMapState(map).isEmpty() ? 0 : 1));
    backend.forEachKey(other, () => (counts.other += 1));
    expect(counts).toEqual({ list: 150, map: 300, other: 300 });
  }
});
