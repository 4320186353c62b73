// Lists, maps, reducing and aggregating states: what a user sees, and what a snapshot sees while they change under it.

import { expect, test } from "@jest/globals";
import { isFailure } from "@sluice/kit";
import {
  AggregatingStateDescriptor,
  ListStateDescriptor,
  MapStateDescriptor,
  ReducingStateDescriptor,
  Types,
  ValueStateDescriptor,
} from "../model/index.ts";
import type { CheckpointId } from "../model/index.ts";
import type { HeapKeyedStateBackend, KeyedSnapshot } from "./index.ts";
import { finish, makeBackend, setKey, toRestored } from "./model.fixture.ts";

const KEY = Types.STRING().descriptor;
const LIST = new ListStateDescriptor("list", Types.TUPLE(Types.LONG()));
const NUMBERS = new ListStateDescriptor("numbers", Types.LONG());
const MAP = new MapStateDescriptor("map", Types.STRING(), Types.TUPLE(Types.LONG()));
const SUM = new ReducingStateDescriptor("sum", (a: number, b: number) => a + b, Types.LONG());
const MEAN = new AggregatingStateDescriptor(
  "mean",
  {
    createAccumulator: (): [number, number] => [0, 0],
    add: (value: number, accumulator: [number, number]) => {
      accumulator[0] += value;
      accumulator[1] += 1;
      return accumulator;
    },
    getResult: ([sum, count]: [number, number]) => sum / count,
    merge: (a: [number, number], b: [number, number]): [number, number] => [a[0] + b[0], a[1] + b[1]],
  },
  Types.TUPLE(Types.LONG(), Types.LONG()),
);

/** Everything that a key has, as plain data. */
function contents(backend: HeapKeyedStateBackend, key: string): unknown {
  setKey(backend, KEY, key);
  return structuredClone({
    list: [...backend.getListState(LIST).get()],
    numbers: [...backend.getListState(NUMBERS).get()],
    map: [...backend.getMapState(MAP).entries()].sort(([a], [b]) => (a < b ? -1 : 1)),
    sum: backend.getReducingState(SUM).get(),
    mean: backend.getAggregatingState(MEAN).get(),
  });
}

function restored(snapshot: KeyedSnapshot, ranges: readonly (readonly [number, number])[]): HeapKeyedStateBackend[] {
  const parts = toRestored(finish(snapshot));
  return ranges.map((range) => {
    const backend = makeBackend(KEY, range);
    backend.restore(parts);
    return backend;
  });
}

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (thrown) {
    return isFailure(thrown) ? `${thrown.code}: ${thrown.message}` : String(thrown);
  }
  return "no failure";
};

test("a key sees its own lists, maps and results only", () => {
  const backend = makeBackend(KEY);
  const [list, map] = [backend.getListState(NUMBERS), backend.getMapState(MAP)];
  const [sum, mean] = [backend.getReducingState(SUM), backend.getAggregatingState(MEAN)];
  setKey(backend, KEY, "a");
  list.add(1);
  list.addAll([2, 3]);
  map.putAll([
    ["x", [1]],
    ["y", [2]],
  ]);
  map.put("x", [3]);
  for (const value of [1, 2, 6]) {
    sum.add(value);
    mean.add(value);
  }
  setKey(backend, KEY, "b");
  expect([[...list.get()], [...map.entries()], map.isEmpty(), sum.get(), mean.get()]).toEqual([
    [],
    [],
    true,
    undefined,
    undefined,
  ]);
  list.update([9]);
  setKey(backend, KEY, "a");
  expect([[...list.get()], [...map.entries()], sum.get(), mean.get()]).toEqual([
    [1, 2, 3],
    [
      ["x", [3]],
      ["y", [2]],
    ],
    9,
    3,
  ]);
  expect([map.contains("x"), map.contains("z"), [...map.keys()], [...map.values()]]).toEqual([
    true,
    false,
    ["x", "y"],
    [[3], [2]],
  ]);
  map.remove("x");
  map.remove("y");
  map.remove("z");
  list.update([]);
  sum.clear();
  mean.clear();
  expect([map.isEmpty(), [...list.get()], sum.get(), mean.get()]).toEqual([true, [], undefined, undefined]);
  expect(backend.entryCount).toBe(1);
});

test("TB1, TB2, ET1-ET3: large lists and maps change in every way while two snapshots are inside of them", () => {
  const backend = makeBackend(KEY);
  const [list, numbers, map] = [backend.getListState(LIST), backend.getListState(NUMBERS), backend.getMapState(MAP)];
  const keys = Array.from({ length: 4 }, (_, i) => `key-${i}`);
  const state = (): unknown[] => keys.map((key) => contents(backend, key));
  for (const key of keys) {
    setKey(backend, KEY, key);
    for (let i = 0; i < 3_000; i += 1) {
      numbers.add(i);
      map.put(`m${i}`, [i]);
      list.add([i]);
    }
  }
  const open: { readonly snapshot: KeyedSnapshot; readonly cut: unknown[] }[] = [];
  let x = 0x9e3779b9;
  const next = (below: number): number => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
  for (let round = 0; round < 500; round += 1) {
    if (round === 0 || round === 40) {
      const cut = state(); // before: what is handed out under a snapshot is encoded at once
      open.push({ snapshot: backend.snapshot(round as CheckpointId), cut });
    }
    setKey(backend, KEY, keys[next(keys.length)]);
    const key = `m${next(3_500)}`;
    const change = next(8);
    if (change === 0) map.put(key, [-round]);
    else if (change === 1) map.remove(key);
    else if (change === 2 && next(10) === 0) map.clear();
    else if (change === 3) for (const value of map.values()) if (next(50) === 0) value[0] = -1;
    if (change === 4) numbers.addAll([round, round + 1]);
    else if (change === 5) for (const element of list.get()) element[0] = -2;
    else if (change === 6) numbers.update([round]);
    else if (change === 7) list.add([round]);
    const value = map.get(key);
    if (value !== undefined) value[0] = -3;
    if (round % 2 === 1) open[next(open.length)]?.snapshot.step(0);
  }
  for (const { snapshot, cut } of open) {
    const halves = restored(snapshot, [
      [0, 7],
      [8, 15],
    ]);
    const found = keys.map((key) =>
      halves.map((half) => {
        try {
          return contents(half, key);
        } catch (thrown) {
          if (isFailure(thrown) && thrown.code === "PROTOCOL_VIOLATION") return undefined; // of the other half
          throw thrown;
        }
      }),
    );
    found.forEach((pair, i) => expect(pair.filter((one) => one !== undefined)).toEqual([cut[i]]));
  }
});

test("ET2, ET4: small entries by the thousand, split under a snapshot and after one was given up", () => {
  const backend = makeBackend(KEY);
  const map = backend.getMapState(MAP);
  const put = (from: number, to: number, value: number): void => {
    for (let i = from; i < to; i += 1) {
      setKey(backend, KEY, `k${i}`);
      map.put("a", [value]);
      if (i % 5 === 0) map.put("b", [value]);
    }
  };
  put(0, 2_000, 1);
  backend.snapshot(1 as CheckpointId).step(0);
  const given = backend.snapshot(2 as CheckpointId);
  put(1_000, 4_000, 2);
  given.step(0);
  given.release();
  const snapshot = backend.snapshot(3 as CheckpointId);
  for (let i = 0; i < 6_000; i += 7) {
    setKey(backend, KEY, `k${i}`);
    map.clear();
    if (i % 200 === 0) snapshot.step(0);
  }
  put(3_000, 6_000, 3);
  const [copy] = restored(snapshot, [[0, 15]]);
  expect(copy?.entryCount).toBe(4_000 + 800);
  for (let i = 0; i < 4_000; i += 1) {
    setKey(copy as HeapKeyedStateBackend, KEY, `k${i}`);
    expect(copy?.getMapState(MAP).get("a")).toEqual([i < 1_000 ? 1 : 2]);
  }
});

test("map keys of every kind are found again: -0 as 0, NaN, BYTES and TUPLE by content", () => {
  for (const [type, keys] of [
    [Types.DOUBLE(), [0, NaN, 1.5]],
    [Types.BOOLEAN(), [true, false]],
    [Types.BYTES(), [Uint8Array.of(1), Uint8Array.of(1, 200)]],
    [
      Types.TUPLE(Types.STRING(), Types.INT()),
      [
        ["a", 1],
        ["a", 2],
      ],
    ],
  ] as const) {
    const backend = makeBackend(KEY);
    const descriptor = new MapStateDescriptor<unknown, number>("m", type, Types.LONG());
    setKey(backend, KEY, "k");
    const map = backend.getMapState(descriptor);
    keys.forEach((key, i) => map.put(structuredClone(key), i));
    if (type.descriptor.kind === "DOUBLE") map.put(-0, 0);
    const [copy] = restored(backend.snapshot(1 as CheckpointId), [[0, 15]]);
    for (const holder of [backend, copy as HeapKeyedStateBackend]) {
      setKey(holder, KEY, "k");
      const found = holder.getMapState(descriptor);
      expect([...found.keys()]).toEqual([...keys]);
      expect(keys.map((key) => found.get(structuredClone(key)))).toEqual(keys.map((_, i) => i));
    }
  }
});

test("CO2, ST1, HB3: wrong elements, keys, kinds and iterators of another key are refused by name", () => {
  const backend = makeBackend(KEY);
  setKey(backend, KEY, "k");
  const [list, map] = [backend.getListState(NUMBERS), backend.getMapState(MAP)];
  list.add(1);
  map.put("x", [1]);
  expect(codeOf(() => list.add("x" as unknown as number))).toBe(
    'TYPE_MISMATCH: operator uid op-1, state "numbers": element: "x" is not LONG',
  );
  expect(codeOf(() => list.addAll([2, 0.5]))).toMatch('state "numbers": element 1: 0.5 is not LONG');
  expect(codeOf(() => list.update([undefined as unknown as number]))).toMatch("element 0: undefined is not LONG");
  expect([...list.get()]).toEqual([1]);
  expect(codeOf(() => map.put(1 as unknown as string, [1]))).toMatch('state "map": key: 1 is not STRING');
  expect(codeOf(() => map.put("x", ["1"] as unknown as [number]))).toMatch(
    'state "map": value: field 0: "1" is not LONG',
  );
  expect(codeOf(() => backend.getReducingState(SUM).add(0.5))).toMatch('state "sum": 0.5 is not LONG');
  expect(
    codeOf(() => backend.getMapState(new MapStateDescriptor("bad", Types.MAP(Types.INT(), Types.INT()), Types.INT()))),
  ).toMatch('state "bad": MAP(INT, INT) cannot be the key type of a map');
  const iterator = map.keys()[Symbol.iterator]();
  setKey(backend, KEY, "other");
  expect(codeOf(() => iterator.next())).toMatch(/^STATE_ACCESS_INVALID: .*an iterator of state "map"/);
  expect(codeOf(() => backend.getState(new ValueStateDescriptor("sum", Types.LONG())))).toBe(
    'STATE_ACCESS_INVALID: operator uid op-1, state "sum": declared twice, as reducing state of LONG and as LONG',
  );
  const [copy] = restored(backend.snapshot(1 as CheckpointId), [[0, 15]]);
  expect(codeOf(() => copy?.getListState(new ListStateDescriptor("map", Types.LONG())))).toMatch(
    'STATE_INCOMPATIBLE: operator uid op-1, state "map": the snapshot holds map state of MAP(STRING, TUPLE(LONG)), the job declares list state of LIST(LONG)',
  );
});
