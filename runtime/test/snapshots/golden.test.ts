// Snapshots that version 1 wrote once (golden/, made by generate.ts) are restored by every release, to exactly what was in them; and the
// same content still gives the same bytes. A test that fails here has found a change of the format: it needs a new version, or no change.

import { readdirSync, readFileSync } from "node:fs";

import { beforeAll, describe, expect, test } from "@jest/globals";
import { keyGroupOf } from "@sluice/kit";
import { assignState, readCheckpointMetadata } from "../../src/checkpoint/index.ts";
import type { CheckpointMetadata, RestorePart, StateDescriptor } from "../../src/model/index.ts";
import { encodeOperatorState } from "../../src/state/index.ts";
import type { HeapKeyedStateBackend, RestoredPart } from "../../src/state/index.ts";
import { readRestoredParts } from "../../src/task/restored-parts.ts";
import {
  backendOf,
  declare,
  DIRECTORY,
  hasherOf,
  KEYED,
  MAX_PARALLELISM,
  OPERATOR,
  PARALLELISM,
  rangeOf,
  writeSnapshot,
} from "./content.ts";

const FOLDER = new URL("./golden/v1/", import.meta.url);

let objects: ReadonlyMap<string, Uint8Array> = new Map();
let metadata: CheckpointMetadata;

beforeAll(() => {
  // Copied: views of the pool that Buffers come from would share their memory with others.
  const names = readdirSync(FOLDER).map(
    (name) =>
      [`${DIRECTORY}/${name.replace(/\.golden$/u, "")}`, Uint8Array.from(readFileSync(new URL(name, FOLDER)))] as const,
  );
  objects = new Map(names);
  const content = readCheckpointMetadata(objects.get(`${DIRECTORY}/_metadata`) ?? new Uint8Array());
  if (content.type !== "ok") throw new Error(content.reason);
  metadata = content.metadata;
});

test("the same content gives the same bytes", () => {
  const written = writeSnapshot();
  expect([...written.keys()].toSorted()).toEqual([...objects.keys()].toSorted());
  for (const [path, bytes] of written)
    expect([path, Buffer.compare(bytes, objects.get(path) ?? new Uint8Array())]).toEqual([path, 0]);
});

/** What each subtask of a job with this parallelism is given, read by the code that reads it in a task. */
async function restored(parallelism: number): ReturnType<typeof readAll> {
  const vertices = metadata.vertices.map(({ vertexId, uids, maxParallelism }) => ({
    vertexId,
    parallelism,
    maxParallelism,
    derivesMaxParallelism: false,
    isKeyed: KEYED.some(({ uid }) => uids.includes(uid)),
    uids,
    inputVertexIds: [],
  }));
  const { subtasks } = assignState({ metadata, vertices, unclaimedState: "fail" });
  return await readAll(subtasks);
}

async function readAll(subtasks: ReturnType<typeof assignState>["subtasks"]) {
  const fetchParts = (parts: readonly RestorePart[]) =>
    Promise.resolve({
      contents: parts.map(({ object, offset, lengthBytes }) => {
        const bytes = objects.get(`golden/${object}`) ?? new Uint8Array();
        return Uint8Array.from(bytes.subarray(offset, offset + lengthBytes));
      }),
      read: NOTHING,
    });
  return await Promise.all(
    subtasks.map(async ({ vertexId, subtaskIndex, parts }) => ({
      uids: metadata.vertices.find((vertex) => vertex.vertexId === vertexId)?.uids ?? [],
      subtaskIndex,
      ...(await readRestoredParts(parts, { fetchParts } as unknown as Parameters<typeof readRestoredParts>[1])),
    })),
  );
}

const NOTHING = { localParts: 0, localBytes: 0, storeParts: 0, storeBytes: 0 };

/** What a user function finds for the current key. */
function contentOf(backend: HeapKeyedStateBackend, descriptor: StateDescriptor): unknown {
  switch (descriptor.kind) {
    case "value":
      return backend.getState(descriptor).value();
    case "list":
      return [...backend.getListState(descriptor).get()];
    case "map":
      return new Map(backend.getMapState(descriptor).entries());
    case "reducing":
      return backend.getReducingState(descriptor).get();
    case "aggregating":
      return backend.getAggregatingState(descriptor).get();
  }
}

/** What was put into a state, as it comes out. */
function expectedOf(descriptor: StateDescriptor, content: unknown): unknown {
  const numbers = content as number[];
  if (descriptor.kind === "reducing") return numbers.reduce((a, b) => a + b);
  if (descriptor.kind === "aggregating") return numbers.reduce((a, b) => a + b) / numbers.length;
  return content;
}

describe.each([PARALLELISM, 1, 5])("restored with parallelism %i", (parallelism) => {
  test("keyed state and timers are what they were", async () => {
    const tasks = await restored(parallelism);
    for (const operator of KEYED) {
      const hash = hasherOf(operator.keyType);
      let found = 0;
      const fired: string[] = [];
      for (const { subtaskIndex, keyed } of tasks.filter(({ uids }) => uids.includes(operator.uid))) {
        const range = rangeOf(subtaskIndex, parallelism);
        const backend = backendOf(operator, range);
        backend.restore(keyed as readonly RestoredPart[]);
        for (const { descriptor } of operator.states) declare(backend, descriptor);
        backend.getTimerService({
          onProcessingTime: (timestampMs) => void fired.push(`${String(backend.getCurrentKey())} ${timestampMs}`),
        });
        backend.opened();
        for (const { descriptor, entries } of operator.states) {
          for (const [key, content] of entries) {
            const group = keyGroupOf(hash(key), MAX_PARALLELISM);
            if (group < range[0] || group > range[1]) continue;
            backend.setCurrentKey(key, hash(key));
            const value = contentOf(backend, descriptor);
            if (found % 50 === 0) expect(value).toEqual(expectedOf(descriptor, content));
            else if (!isSame(value, expectedOf(descriptor, content))) expect([key, value]).toEqual([key, content]);
            found += 1;
          }
        }
        backend.fireTimers(Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
      }
      expect(found).toBe(operator.states.reduce((sum, { entries }) => sum + entries.length, 0));
      const expected = (operator.timers ?? []).flatMap(([key, times]) => times.map((at) => `${String(key)} ${at}`));
      expect(fired.toSorted()).toEqual(expected.toSorted());
    }
  });

  test("operator state is dealt by its mode", async () => {
    const tasks = await restored(parallelism);
    const hex = (uid: string, stateName: string, content: Parameters<typeof encodeOperatorState>[1]): string =>
      Buffer.concat(encodeOperatorState({ uid, stateName }, content)).toString("hex");
    for (const { uid, stateName, content } of OPERATOR) {
      const dealt = tasks.flatMap(({ uids, operator }) =>
        uids.includes(uid) ? [operator.get(uid)?.get(stateName)] : [],
      );
      expect(dealt).toHaveLength(parallelism);
      const old = Array.from({ length: PARALLELISM }, (_, subtask) => content(subtask));
      const all = { ...content(0), items: old.flatMap(({ items }) => items) };
      const { mode } = content(0);
      const each = mode === "union" ? all : mode === "broadcast" ? content(0) : undefined;
      if (each !== undefined) {
        for (const one of dealt) expect(hex(uid, stateName, one ?? all)).toBe(hex(uid, stateName, each));
        continue;
      }
      const expected = old.flatMap(({ items }) => items);
      const text = (items: readonly unknown[]): readonly string[] =>
        items.map((item) => JSON.stringify(item)).toSorted();
      expect(text(dealt.flatMap((one) => one?.items ?? []))).toEqual(text(expected));
    }
  });
});

function isSame(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (a instanceof Map && b instanceof Map) return isSame([...a], [...b]);
  if (ArrayBuffer.isView(a) && ArrayBuffer.isView(b)) return Buffer.compare(a as Uint8Array, b as Uint8Array) === 0;
  const [x, y] = [Object.entries(a), Object.entries(b)];
  return x.length === y.length && x.every(([name, value]) => isSame(value, (b as Record<string, unknown>)[name]));
}
