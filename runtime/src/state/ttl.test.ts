// Time to live: what is seen of expired rows, and how they go.

import { expect, test } from "@jest/globals";
import { isFailure } from "@sluice/kit";
import {
  ListStateDescriptor,
  MapStateDescriptor,
  ReducingStateDescriptor,
  Types,
  ValueStateDescriptor,
} from "../model/index.ts";
import type { CheckpointId, StateTtlConfig } from "../model/index.ts";
import { HeapKeyedStateBackend } from "./index.ts";
import { finish, MAX_PARALLELISM, setKey, toRestored } from "./model.fixture.ts";

const KEY = Types.LONG().descriptor;

class World {
  nowMs = 1_000;
  backend = this.#make();

  #make(): HeapKeyedStateBackend {
    return new HeapKeyedStateBackend({
      keyType: KEY,
      keyGroups: [0, MAX_PARALLELISM - 1],
      maxParallelism: MAX_PARALLELISM,
      uid: "op-1",
      clock: { nowMs: () => 0, wallMs: () => this.nowMs },
    });
  }

  key(key: number): this {
    setKey(this.backend, KEY, key);
    return this;
  }

  /** Rows in the snapshot that the new backend begins from. */
  restart(): number {
    const parts = finish(this.backend.snapshot(1 as CheckpointId));
    this.backend = this.#make();
    this.backend.restore(toRestored(parts));
    return parts.reduce((sum, { itemCount = 0 }) => sum + itemCount, 0);
  }
}

const value = (ttl?: StateTtlConfig): ValueStateDescriptor<number> =>
  new ValueStateDescriptor("v", Types.LONG(), ttl === undefined ? {} : { ttl });
const list = (ttl?: StateTtlConfig): ListStateDescriptor<[number]> =>
  new ListStateDescriptor("l", Types.TUPLE(Types.LONG()), ttl === undefined ? {} : { ttl });
const map = (ttl?: StateTtlConfig): MapStateDescriptor<string, [number]> =>
  new MapStateDescriptor("m", Types.STRING(), Types.TUPLE(Types.LONG()), ttl === undefined ? {} : { ttl });
const sum = (ttl: StateTtlConfig): ReducingStateDescriptor<number> =>
  new ReducingStateDescriptor("s", (a, b) => a + b, Types.LONG(), { ttl });

test.each<readonly [string, Omit<StateTtlConfig, "ttlMs">, readonly (number | undefined)[]]>([
  ["a write renews, a read does not, what has expired is not seen", {}, [1, 1, undefined, undefined]],
  ["reads renew", { updateType: "OnReadAndWrite" }, [1, 1, 1, undefined]],
  [
    "what has expired is seen once, if nothing cleaned it up",
    { stateVisibility: "ReturnExpiredIfNotCleanedUp" },
    [1, 1, 1, undefined],
  ],
])("TL1: %s", (_name, config, expected) => {
  const world = new World();
  const ttl = { ttlMs: 10, ...config };
  const { backend } = world.key(1);
  const [v, s, l, m] = [
    backend.getState(value(ttl)),
    backend.getReducingState(sum(ttl)),
    backend.getListState(list(ttl)),
    backend.getMapState(map(ttl)),
  ];
  v.update(1);
  s.add(1);
  l.add([1]);
  m.put("a", [1]);
  const seen: unknown[] = [];
  for (const nowMs of [1_004, 1_009, 1_013, 1_030]) {
    world.nowMs = nowMs;
    const [[fromList] = [], fromMap = []] = [[...l.get()][0], m.get("a")];
    seen.push(v.value());
    expect([s.get(), fromList, fromMap[0]]).toEqual([seen.at(-1), seen.at(-1), seen.at(-1)]);
  }
  expect(seen).toEqual(expected);
  s.add(5);
  expect([s.get(), backend.entryCount]).toEqual([5, 1]);
});

test("lists and maps expire element by element, and nothing is left of an empty one", () => {
  const world = new World();
  const ttl = { ttlMs: 10 };
  const { backend } = world.key(1);
  const [l, m] = [backend.getListState(list(ttl)), backend.getMapState(map(ttl))];
  for (let i = 0; i < 5; i += 1) {
    world.nowMs = 1_000 + i * 4;
    l.addAll([[i], [i + 100]]);
    m.put(`k${i}`, [i]);
    m.put("again", [i]);
  }
  expect([...l.get()]).toEqual([[2], [102], [3], [103], [4], [104]]);
  expect([[...m.keys()].sort(), m.contains("k1"), m.contains("k2"), m.get("k0")]).toEqual([
    ["again", "k2", "k3", "k4"],
    false,
    true,
    undefined,
  ]);
  world.nowMs = 1_018;
  expect([[...l.get()], [...m.values()], m.isEmpty()]).toEqual([[[3], [103], [4], [104]], [[4], [3], [4]], false]);
  world.nowMs = 1_026;
  expect([[...l.get()], m.isEmpty(), [...m.entries()], backend.entryCount]).toEqual([[], true, [], 0]);
});

test("snapshots leave out what has expired at their cut and keep the times of the rest", () => {
  const world = new World();
  const ttl = { ttlMs: 100 };
  const open = (): unknown[] => [
    world.backend.getState(value(ttl)),
    world.backend.getListState(list(ttl)),
    world.backend.getMapState(map(ttl)),
  ];
  open();
  for (let key = 0; key < 100; key += 1) {
    world.nowMs = 1_000 + key;
    world.key(key).backend.getState(value(ttl)).update(key);
    world.backend.getListState(list(ttl)).add([key]);
    world.backend.getMapState(map(ttl)).put("x", [key]);
  }
  world.nowMs = 1_139;
  expect(world.restart()).toBe(60 * 3); // of the keys 40 to 99
  open();
  world.nowMs = 1_189;
  expect(world.restart()).toBe(10 * 3);
  const seen: unknown[] = [];
  for (let key = 0; key < 100; key += 1) {
    const v = world.key(key).backend.getState(value(ttl)).value();
    if (v === undefined) continue;
    seen.push([v, [...world.backend.getListState(list(ttl)).get()], world.backend.getMapState(map(ttl)).get("x")]);
  }
  expect(seen).toEqual(Array.from({ length: 10 }, (_, i) => [90 + i, [[90 + i]], [90 + i]]));
});

test("rows that nobody touches go with the accesses to others, a few at a time, and without any by the task's sweep", () => {
  const world = new World();
  const ttl = { ttlMs: 10 };
  const { backend } = world;
  const [v, l, m] = [backend.getState(value(ttl)), backend.getListState(list(ttl)), backend.getMapState(map(ttl))];
  for (let key = 0; key < 3_000; key += 1) {
    world.key(key);
    v.update(key);
    l.addAll([[1], [2]]);
    m.put("x", [1]);
    if (key % 10 === 0) for (let i = 0; i < 50; i += 1) m.put(`y${i}`, [i]);
  }
  const full = backend.entryCount;
  world.nowMs = 2_000;
  const leaveAfter = (accesses: number): number => {
    for (let i = 0; i < accesses; i += 1) {
      world.key(-1);
      v.update(i);
      l.update([[i]]);
      m.put("x", [i]);
    }
    return backend.entryCount;
  };
  const afterFew = leaveAfter(100);
  expect(full - afterFew).toBeGreaterThan(300);
  expect(full - afterFew).toBeLessThan(1_000);
  expect(leaveAfter(8_000)).toBe(3);
  world.nowMs = 3_000;
  for (let i = 0; i < 10 && backend.entryCount > 0; i += 1) backend.sweepExpired(100);
  expect(backend.entryCount).toBe(0);
});

test("TL2, TL3: a time to live is added, changed and removed with a restart", () => {
  const world = new World();
  world.key(7).backend.getState(value()).update(1);
  world.backend.getListState(list()).add([1]);
  world.nowMs = 5_000;
  world.restart();
  const read = (ttl?: StateTtlConfig): unknown => {
    const [v, l] = [world.backend.getState(value(ttl)), world.backend.getListState(list(ttl))];
    world.key(7);
    return [v.value(), [...l.get()]];
  };
  const all = [1, [[1]]];
  const none = [undefined, []];
  world.nowMs = 5_100;
  expect(read({ ttlMs: 200 })).toEqual(all); // added: their life began at the restore
  world.nowMs = 5_150;
  expect(world.restart()).toBe(2);
  expect(read({ ttlMs: 1_000 })).toEqual(all);
  world.nowMs = 5_900;
  expect(read({ ttlMs: 1_000 })).toEqual(all); // changed: it counts from the same time
  world.restart();
  world.nowMs = 10_000;
  expect(world.restart()).toBe(2); // nobody declared them: nothing expires
  expect(read()).toEqual(all); // removed
  world.restart();
  expect(read({ ttlMs: 50 })).toEqual(all); // added again
  world.nowMs = 10_050;
  expect(read({ ttlMs: 50 })).toEqual(none);
});

test("what makes no sense is refused by name", () => {
  const codeOf = (run: () => unknown): string => {
    try {
      run();
    } catch (thrown) {
      return isFailure(thrown) ? `${thrown.code}: ${thrown.message}` : String(thrown);
    }
    return "no failure";
  };
  const world = new World();
  for (const ttlMs of [0, -1, 0.5, NaN]) {
    expect(codeOf(() => world.backend.getState(value({ ttlMs })))).toMatch(
      /^STATE_ACCESS_INVALID: operator uid op-1, state "v": its time to live is/,
    );
  }
  world.backend.getState(value({ ttlMs: 5 }));
  expect(codeOf(() => world.backend.getState(value({ ttlMs: 6 })))).toMatch(
    "declared twice with different times to live",
  );
  expect(codeOf(() => world.backend.getState(value()))).toMatch("declared twice with different times to live");
  world
    .key(1)
    .backend.getState(value({ ttlMs: 5 }))
    .update(1);
  world.restart();
  world.backend.opened();
  expect(codeOf(() => world.backend.getState(value()))).toMatch(
    /^STATE_INCOMPATIBLE: .*it was stored with another type or time to live, and is declared only while records/,
  );
  expect(codeOf(() => world.backend.getState(value({ ttlMs: 9 })))).toBe("no failure");
});
