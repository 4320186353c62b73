// The page describes the format: a reader that was written from it alone finds everything that was put in, and refuses what was changed.
// That it also reads the snapshots of a job which ran is tested where one runs: packages/cli/src/snapshot.test.ts.

import { readFileSync } from "node:fs";

import { beforeAll, expect, test } from "@jest/globals";
import type { StateDescriptor } from "../../src/model/index.ts";
import { DIRECTORY, KEYED, OPERATOR, PARALLELISM, TIMER_STATE, WALL_MS, writeSnapshot } from "./content.ts";
import { readIndependently } from "./independent-reader.ts";
import type { ReadEntry, ReadSnapshot } from "./independent-reader.ts";

let objects: ReadonlyMap<string, Uint8Array> = new Map();
let snapshot: ReadSnapshot;

function readFrom(of: ReadonlyMap<string, Uint8Array>): ReadSnapshot {
  return readIndependently(DIRECTORY, (path) => {
    const bytes = of.get(path);
    if (bytes === undefined) throw new Error(`${path} is missing`);
    return bytes;
  });
}

beforeAll(() => {
  objects = writeSnapshot();
  snapshot = readFrom(objects);
});

test("it shares no code with what it tests", () => {
  const source = readFileSync(new URL("./independent-reader.ts", import.meta.url), "utf8");
  expect(source.match(/\bfrom ["'](?!node:)|\bimport\s*\(/gu)).toBeNull();
});

/** A plain value as the reader shows it, told without a codec. */
function shown(value: unknown): unknown {
  if (typeof value === "number")
    return Number.isFinite(value) && !Object.is(value, -0) ? value : Object.is(value, -0) ? "-0" : String(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (value instanceof Map) return [...value].map(([k, v]) => [shown(k), shown(v)]);
  if (Array.isArray(value)) return value.map(shown);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, shown(field)]));
}

/** What must be found for the content of a key. */
function expectedEntries(
  descriptor: StateDescriptor,
  key: unknown,
  content: unknown,
): readonly Omit<ReadEntry, "subtask">[] {
  const of = (value: unknown): Omit<ReadEntry, "subtask"> => ({ key: shown(key), value: shown(value) }) as never;
  switch (descriptor.kind) {
    case "value":
      return [of(content)];
    case "list":
      return (content as readonly unknown[]).map(of);
    case "map":
      return [...(content as ReadonlyMap<unknown, unknown>)].map(([k, v]) => ({ ...of(v), mapKey: shown(k) }) as never);
    case "reducing":
      return [of((content as number[]).reduce((a, b) => a + b))];
    case "aggregating":
      return [of([(content as number[]).reduce((a, b) => a + b), (content as number[]).length])];
  }
}

test("everything that was put in is found, once, and nothing else", () => {
  const counted = new Set<string>();
  for (const { uid, states, timers } of KEYED) {
    if (timers !== undefined) {
      const state = snapshot.states.find((read) => read.uid === uid && read.stateName === TIMER_STATE);
      const found = (state?.entries ?? []).map(({ key, value }) => `${JSON.stringify(key)} ${JSON.stringify(value)}`);
      const expected = timers.flatMap(([key, timestamps]) => timestamps.map((at) => `${JSON.stringify(key)} ${at}`));
      expect([state?.stateKind, found.toSorted()]).toEqual(["timers", expected.toSorted()]);
      counted.add(JSON.stringify([uid, TIMER_STATE]));
    }
    for (const { descriptor, entries } of states) {
      const state = snapshot.states.find((read) => read.uid === uid && read.stateName === descriptor.name);
      const text = (entry: object): string =>
        JSON.stringify(
          Object.entries(entry)
            .filter(([name]) => name !== "subtask" && name !== "timeMs")
            .toSorted(([a], [b]) => (a < b ? -1 : 1)),
        );
      const found = (state?.entries ?? []).map(text).sort();
      const expected = entries
        .flatMap(([key, content]) => expectedEntries(descriptor, key, content))
        .map(text)
        .sort();
      expect([uid, descriptor.name, state?.stateKind]).toEqual([uid, descriptor.name, descriptor.kind]);
      const times = new Set((state?.entries ?? []).map(({ timeMs }) => timeMs));
      expect([...times]).toEqual([descriptor.ttl === undefined ? undefined : WALL_MS]);
      expect(found).toEqual(expected);
      counted.add(JSON.stringify([uid, descriptor.name]));
    }
  }
  for (const { uid, stateName, content } of OPERATOR) {
    const state = snapshot.states.find((read) => read.uid === uid && read.stateName === stateName);
    expect(state).toMatchObject({ stateKind: "operator-list", mode: content(0).mode });
    for (let subtask = 0; subtask < PARALLELISM; subtask += 1) {
      const items = (state?.entries ?? []).filter((entry) => entry.subtask === subtask).map(({ value }) => value);
      expect(items).toHaveLength(content(subtask).items.length);
      const plain = content(subtask).items.flatMap((item) => ("json" in item ? [item.json] : []));
      if (plain.length === items.length) expect(items).toEqual(plain);
    }
    counted.add(JSON.stringify([uid, stateName]));
  }
  const items = (name: string): readonly unknown[] =>
    (snapshot.states.find(({ stateName }) => stateName === name)?.entries ?? []).map(({ value }) => value);
  expect(items("all")).toEqual([0, 2 ** 40, 1, 2 ** 40 + 1, 2, 2 ** 40 + 2]);
  expect(items("rows")[0]).toEqual({ name: "user 0", tags: ["t0"], address: { street: "street 0", zip: 0 } });
  expect(items("pending")).toEqual(["0000ff", null, "0100ff", null, "0200ff", null]);
  expect(snapshot.states).toHaveLength(counted.size);
});

test("a flipped bit anywhere is refused", () => {
  for (const [path, bytes] of objects) {
    for (let i = 0; i < 6; i += 1) {
      const changed = bytes.slice();
      const at = Math.floor((bytes.length * (i + 0.5)) / 6);
      changed[at] = (changed[at] as number) ^ (1 << i);
      expect(() => readFrom(new Map([...objects, [path, changed]]))).toThrow();
    }
  }
});
