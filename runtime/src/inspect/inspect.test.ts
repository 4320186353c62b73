// Snapshots read without their job: every key is found, every changed byte is noticed, what differs is told.

import { beforeAll, describe, expect, test } from "@jest/globals";
import { MemoryStore } from "../checkpoint/memory-store.fixture.ts";
import { readCheckpointMetadata, writeCheckpointMetadata } from "../checkpoint/index.ts";
import { valueToJson } from "../model/index.ts";
import type { StateDescriptor } from "../model/index.ts";
import { DIRECTORY, KEYED, OPERATOR, PARALLELISM, writeSnapshot } from "../../test/snapshots/content.ts";
import {
  describePart,
  describeState,
  diffSnapshots,
  findState,
  keyedDescription,
  listSnapshots,
  openSnapshot,
  parseKey,
  readKey,
  readOperatorItems,
  verifySnapshot,
} from "./index.ts";

let objects: ReadonlyMap<string, Uint8Array> = new Map();
beforeAll(() => {
  objects = writeSnapshot();
});

/** Counts what is read. */
class CountingStore extends MemoryStore {
  readBytes = 0;

  override async get(path: string): Promise<Uint8Array | undefined> {
    const bytes = await super.get(path);
    this.readBytes += bytes?.length ?? 0;
    return bytes;
  }

  override async getRange(
    path: string,
    range: { readonly offset: number; readonly lengthBytes: number },
  ): Promise<Uint8Array | undefined> {
    const bytes = await super.getRange(path, range);
    this.readBytes += bytes?.length ?? 0;
    return bytes;
  }
}

function storeOf(changed: ReadonlyMap<string, Uint8Array> = new Map()): CountingStore {
  const store = new CountingStore();
  for (const [path, bytes] of [...objects, ...changed]) store.objects.set(path, bytes);
  return store;
}

/** What `get` has to say for content of a state. */
function expectedJson(descriptor: StateDescriptor, content: unknown): unknown {
  switch (descriptor.kind) {
    case "value":
      return valueToJson(descriptor.type.descriptor, content);
    case "list":
      return valueToJson({ kind: "LIST", element: descriptor.elementType.descriptor }, content);
    case "map": {
      const [key, value] = [descriptor.keyType.descriptor, descriptor.valueType.descriptor];
      return valueToJson({ kind: "MAP", key, value }, content);
    }
    case "reducing":
      return (content as number[]).reduce((a, b) => a + b);
    case "aggregating":
      return [(content as number[]).reduce((a, b) => a + b), (content as number[]).length];
  }
}

test("GE1: every key of every state is found, of every type and kind; absent ones are told", async () => {
  const snapshot = await openSnapshot(storeOf(), DIRECTORY);
  for (const operator of KEYED) {
    for (const { descriptor, entries } of operator.states) {
      const state = findState(snapshot, { uid: operator.uid, stateName: descriptor.name });
      const description = await keyedDescription(state);
      for (const [key, content] of entries.slice(0, 200)) {
        const { found } = await readKey(state, description, key);
        expect([operator.uid, descriptor.name, found?.value]).toEqual([
          operator.uid,
          descriptor.name,
          expectedJson(descriptor, content),
        ]);
      }
    }
  }
  const state = findState(snapshot, { uid: "by long", stateName: "sum" });
  expect((await readKey(state, await keyedDescription(state), 17)).found).toBeUndefined();
  await expect(readKey(state, await keyedDescription(state), "17")).rejects.toMatchObject({ code: "TYPE_MISMATCH" });
});

test("GE1: reading one key reads the header of one part and one block", async () => {
  const store = storeOf();
  const state = findState(await openSnapshot(store, DIRECTORY), { uid: "by long", stateName: "sum" });
  const description = await keyedDescription(state);
  await readKey(state, description, 42); // headers are read once
  store.readBytes = 0;
  await readKey(state, description, 1_000_003);
  expect(store.readBytes).toBeGreaterThan(0);
  expect(store.readBytes).toBeLessThan(state.sizeBytes / 4);
});

test("keys as people type them", () => {
  const types = KEYED.flatMap(({ uid, keyType }) => (uid.startsWith("by ") ? [[uid.slice(3), keyType] as const] : []));
  const typeOf = (name: string) => types.find(([known]) => known === name)?.[1] ?? { kind: "GENERIC" as const };
  expect(parseKey(typeOf("string"), "plain text")).toBe("plain text");
  expect(parseKey(typeOf("string"), '"with \\u00fc"')).toBe("with ü");
  expect(parseKey(typeOf("string"), '"not" json"')).toBe('"not" json"');
  expect(parseKey(typeOf("string"), "7")).toBe("7");
  expect(parseKey(typeOf("long"), "-7")).toBe(-7);
  expect(parseKey(typeOf("double"), '"NaN"')).toBe(NaN);
  expect(parseKey(typeOf("bytes"), "AP+A")).toEqual(Uint8Array.of(0, 255, 128));
  expect(parseKey(typeOf("tuple"), '[7,"x"]')).toEqual([7, "x"]);
  expect(parseKey(typeOf("row"), '{"street":"s","zip":1}')).toEqual({ street: "s", zip: 1 });
  expect(() => parseKey(typeOf("long"), "seven")).toThrow(/"seven" is not LONG/u);
  expect(() => parseKey(typeOf("row"), '{"street":"s","zip":1,"x":2}')).toThrow(/"x"/u);
});

test("items of operator state, typed, JSON and bytes", async () => {
  const snapshot = await openSnapshot(storeOf(), DIRECTORY);
  const read = async (uid: string, stateName: string): Promise<readonly unknown[]> => {
    const { parts } = findState(snapshot, { uid, stateName });
    expect(parts.map((part) => part.subtaskIndex)).toEqual([0, 1, 2]);
    return await Promise.all(parts.map(async (part) => await readOperatorItems(part)));
  };
  const splits = OPERATOR.find(({ stateName }) => stateName === "source-splits")?.content(1).items;
  expect((await read("source", "source-splits"))[1]).toEqual(splits?.map((item) => ("json" in item ? item.json : 0)));
  expect((await read("sink", "pending"))[2]).toEqual([{ base64: "AgD/" }, null]);
  expect(await read("user", "all")).toEqual([0, 1, 2].map((n) => [n, 2 ** 40 + n]));
  expect((await read("user", "rows"))[0]).toMatchObject([{ name: "user 0" }, { tags: ["t1"] }]);
  expect(await read("user", "nothing")).toEqual([[], [], []]);
});

describe("verify", () => {
  const verify = async (store: MemoryStore) =>
    await verifySnapshot(await openSnapshot(store, DIRECTORY), () => undefined);

  test("VE2: a whole snapshot has no problem, and every entry was looked at", async () => {
    const store = storeOf();
    const outcome = await verify(store);
    const items = OPERATOR.reduce((sum, { content }) => {
      return sum + [0, 1, 2].reduce((of, subtask) => of + content(subtask).items.length, 0);
    }, 0);
    expect(outcome.problems).toEqual([]);
    expect(outcome.entryCount).toBeGreaterThan(3_000 + 1_000 + items);
    expect(outcome.sizeBytes).toBe([...objects.values()].reduce((sum, bytes) => sum + bytes.length, 0));
  });

  test("VE1: a flipped bit anywhere is found, named, and hides nothing else", async () => {
    const packs = [...objects].filter(([path]) => !path.endsWith("_metadata"));
    for (let i = 0; i < 24; i += 1) {
      const [path, bytes] = packs[i % packs.length] as (typeof packs)[number];
      const at = Math.floor((bytes.length * i) / 24);
      const changed = bytes.slice();
      changed[at] = (changed[at] as number) ^ (1 << (i % 8));
      const outcome = await verify(storeOf(new Map([[path, changed]])));
      expect([at, outcome.problems.length]).toEqual([at, 1]);
      expect(outcome.problems[0]).toMatch(/state ".*" of operator uid .*/u);
    }
    const missing = storeOf();
    const [[gone, bytes]] = packs as [(typeof packs)[number]];
    missing.objects.delete(gone);
    const outcome = await verify(missing);
    expect(outcome.problems.length).toBeGreaterThan(10);
    expect(outcome.problems[0]).toMatch(/the object is missing/u);
    const cut = await verify(storeOf(new Map([[gone, bytes.subarray(0, bytes.length - 1)]])));
    expect(cut.problems).toEqual([expect.stringMatching(/the object ends after \d+ bytes/u)]);
    expect(outcome.partCount).toBe((await verify(storeOf())).partCount);
  });

  test("a count, a range or a name in _metadata that is not that of the part is found", async () => {
    const metadata = readCheckpointMetadata(objects.get(`${DIRECTORY}/_metadata`) ?? new Uint8Array());
    if (metadata.type !== "ok") throw new Error("the sample can be read");
    const problemsOf = async (change: (part: object) => object): Promise<readonly string[]> => {
      const [vertex, ...rest] = metadata.metadata.vertices;
      const changed = {
        ...metadata.metadata,
        vertices: [
          {
            ...vertex,
            subtasks: vertex?.subtasks.map((subtask, i) => ({
              ...subtask,
              parts: subtask.parts.map((part, p) => (i === 0 && p === 0 ? change(part) : part)),
            })),
          },
          ...rest,
        ],
      };
      const bytes = writeCheckpointMetadata(changed as typeof metadata.metadata);
      return (await verify(storeOf(new Map([[`${DIRECTORY}/_metadata`, bytes]])))).problems;
    };
    expect(await problemsOf((part) => ({ ...part, itemCount: 99 }))).toEqual([
      expect.stringMatching(/where _metadata counts 99/u),
    ]);
    expect((await problemsOf((part) => ({ ...part, stateName: "x" })))[0]).toMatch(
      /the part found there is of .* state "of /u,
    );
    expect((await problemsOf((part) => ({ ...part, keyGroups: [0, 9] })))[0]).toMatch(
      /key group 6 is in another part/u,
    );
    expect((await problemsOf((part) => ({ ...part, crc32c: 1 })))[0]).toMatch(/checksum is not the one in _metadata/u);
  });
});

test("DF1, DF2: what differs between two snapshots is counted in full and listed in part", async () => {
  const before = await openSnapshot(storeOf(), DIRECTORY);
  const after = await openSnapshot(storeOf(), DIRECTORY);
  const states = await diffSnapshots({ before, after, keysMax: 5, onProgress: () => undefined });
  const { keys } = states.find(({ uid }) => uid === "by string") ?? {};
  expect(keys).toEqual({ added: 0, removed: 0, changed: 0, same: 1_010, listed: [] });
  expect(states.find(({ stateName }) => stateName === "rules")).toMatchObject({ keysNotCompared: "it has no keys" });

  // The same objects, but the states of one operator under another uid, and another state in the place of its "sum".
  const metadata = before.metadata;
  const vertices = metadata.vertices.map((vertex) =>
    vertex.uids[0] === "by long"
      ? { ...vertex, uids: [], subtasks: vertex.subtasks.map((subtask) => ({ ...subtask, parts: [] })) }
      : vertex,
  );
  const bytes = writeCheckpointMetadata({ ...metadata, vertices });
  const less = await openSnapshot(storeOf(new Map([[`${DIRECTORY}/_metadata`, bytes]])), DIRECTORY);
  const difference = await diffSnapshots({ before, after: less, keysMax: undefined, onProgress: () => undefined });
  expect(difference.filter(({ change }) => change !== "both")).toMatchObject([
    { uid: "by long", stateName: "sum", change: "removed", after: undefined },
  ]);
  const reverse = await diffSnapshots({ before: less, after: before, keysMax: undefined, onProgress: () => undefined });
  expect(reverse.filter(({ change }) => change !== "both")).toMatchObject([{ uid: "by long", change: "added" }]);
});

test("SS2: a self-contained snapshot is read wherever it was moved to", async () => {
  const content = readCheckpointMetadata(objects.get(`${DIRECTORY}/_metadata`) ?? new Uint8Array());
  if (content.type !== "ok") throw new Error(content.reason);
  const store = new CountingStore();
  for (const [path, bytes] of objects) store.objects.set(path.replace("golden/", "moved/here/"), bytes);
  const metadata = writeCheckpointMetadata({ ...content.metadata, kind: "savepoint", base: "self" });
  store.objects.set("moved/here/_metadata", metadata);
  const snapshot = await openSnapshot(store, "moved/here");
  const state = findState(snapshot, { uid: "by string", stateName: "sum" });
  expect((await readKey(state, await keyedDescription(state), "key-7")).found?.value).toBe(17);
  expect((await verifySnapshot(snapshot, () => undefined)).problems).toEqual([]);
});

test("LS1: a directory without a log lists what it holds; a name that is not there says what is", async () => {
  const store = storeOf(new Map([["golden/savepoint-x/_metadata", Uint8Array.of(1, 2)]]));
  const listed = await listSnapshots(store, { prefix: "", wallMs: 0 });
  expect(listed.map(({ directory, content }) => [directory, "unreadable" in content])).toEqual([
    [DIRECTORY, false],
    ["golden/savepoint-x", true],
  ]);
  await expect(openSnapshot(store, "golden/chk-8")).rejects.toMatchObject({ code: "INPUT_NOT_FOUND" });
  const snapshot = await openSnapshot(store, DIRECTORY);
  expect(() => findState(snapshot, { uid: "kinds", stateName: "x" })).toThrow(/has no state "x"/u);
  expect(() => findState(snapshot, { uid: "x", stateName: "x" })).toThrow(/no operator uid x has state/u);
  const described = await Promise.all(snapshot.states.map(async (state) => describePart(await describeState(state))));
  expect(described).toEqual(
    expect.arrayContaining([
      "map MAP(LONG, STRING) keyed by STRING",
      "aggregating TUPLE(LONG, LONG) keyed by STRING",
      "operator state (union) of LONG",
      "operator state (split)",
    ]),
  );
  expect(snapshot.states.every((state) => state.parts.length === PARALLELISM)).toBe(true);
});
