// State handed to a plan of another parallelism, against Flink's formulas written down once more, item by item.

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

import type { CheckpointId, CheckpointMetadata, JobPlan, OperatorStateMode, PartHandle } from "../model/index.ts";
import { assignState, fitPlan, fitVertices, keyGroupRangeOf, type StateAssignment } from "./assign.ts";
import { emptyMetadata } from "./checkpoint.fixture.ts";
import type { CheckpointVertex } from "./types.ts";

/** Named states of one operator: what each subtask holds. */
type States = Readonly<Record<string, { readonly mode: OperatorStateMode; readonly bySubtask: readonly string[][] }>>;

const UID = "op";

function handle(overrides: Partial<PartHandle>): PartHandle {
  return {
    uid: UID,
    stateName: "s",
    kind: "operator",
    object: "x",
    offset: 0,
    lengthBytes: 1,
    crc32c: 0,
    ...overrides,
  };
}

function metadataOf(
  subtasks: readonly (readonly PartHandle[])[],
  options: { readonly maxParallelism?: number; readonly finished?: readonly number[]; readonly uids?: string[] } = {},
): CheckpointMetadata {
  const { maxParallelism = 128, finished = [], uids = [UID] } = options;
  return {
    ...emptyMetadata(1 as CheckpointId),
    vertices: [
      {
        vertexId: "v",
        parallelism: subtasks.length,
        maxParallelism,
        uids,
        subtasks: subtasks.map((parts, subtaskIndex) => ({
          subtaskIndex,
          finished: finished.includes(subtaskIndex),
          parts,
        })),
      },
    ],
  };
}

function vertex(parallelism: number, overrides: Partial<CheckpointVertex> = {}): readonly CheckpointVertex[] {
  const planned = { vertexId: "v", parallelism, maxParallelism: 128, derivesMaxParallelism: false, isKeyed: true };
  return [{ ...planned, uids: [UID], inputVertexIds: [], ...overrides }];
}

function assign(metadata: CheckpointMetadata, vertices: readonly CheckpointVertex[]): StateAssignment["subtasks"] {
  return assignState({ metadata, vertices, unclaimedState: "fail" }).subtasks;
}

/** Takes a checkpoint of these states, restores it at `parallelism`, and says what every subtask then has. */
function restoreAt(states: States, parallelism: number): States {
  const old = Object.values(states)[0]?.bySubtask.length ?? 1;
  const subtasks = Array.from({ length: old }, (_, i) =>
    Object.entries(states).map(([stateName, { mode, bySubtask }]) =>
      handle({ stateName, mode, itemCount: bySubtask[i]?.length ?? 0, object: `${i}` }),
    ),
  );
  const restored = assign(metadataOf(subtasks), vertex(parallelism));
  return Object.fromEntries(
    Object.entries(states).map(([stateName, { mode, bySubtask }]) => [
      stateName,
      {
        mode,
        bySubtask: restored.map(({ parts }) => {
          const own = parts.filter((part) => part.stateName === stateName);
          if (own.length === 0) throw new Error(`DE3: a subtask without any part of ${stateName}`);
          return own.flatMap(({ object, items }) => (bySubtask[Number(object)] ?? []).slice(...(items ?? [])));
        }),
      },
    ]),
  );
}

/** RoundRobinOperatorStateRepartitioner.repartitionSplitState, as Flink has it, over lists. */
function flinkSplit(states: States, parallelism: number): Readonly<Record<string, readonly string[][]>> {
  const result: Record<string, string[][]> = {};
  let startParallelOp = 0;
  for (const name of Object.keys(states).sort()) {
    const all = (states[name]?.bySubtask ?? []).flat();
    const lists: string[][] = Array.from({ length: parallelism }, () => []);
    let index = 0;
    let remainder = all.length % parallelism;
    let newStart = startParallelOp;
    for (let i = 0; i < parallelism; i += 1) {
      const at = (i + startParallelOp) % parallelism;
      let take = Math.floor(all.length / parallelism);
      if (remainder > 0) {
        take += 1;
        remainder -= 1;
      } else if (remainder === 0) {
        newStart = at;
        remainder -= 1;
      }
      for (; take > 0; take -= 1) lists[at]?.push(all[index++] as string);
    }
    startParallelOp = newStart;
    result[name] = lists;
  }
  return result;
}

const parallelisms = fc.integer({ min: 1, max: 9 });
const counts = (parallelism: number) =>
  fc.array(fc.integer({ min: 0, max: 7 }), { minLength: parallelism, maxLength: parallelism });
/** Split states with item counts per subtask. */
const splitStates = parallelisms.chain((parallelism) =>
  fc.dictionary(fc.constantFrom("a", "b", "c", "z"), counts(parallelism), { minKeys: 1 }).map((byName): States =>
    Object.fromEntries(
      Object.entries(byName).map(([name, each]) => [
        name,
        {
          mode: "split" as const,
          bySubtask: each.map((n, i) => Array.from({ length: n }, (_, k) => `${name}${i}.${k}`)),
        },
      ]),
    ),
  ),
);

const itemsOf = (states: States): readonly string[] =>
  Object.values(states).flatMap(({ bySubtask }) => bySubtask.flat());

describe("DE1: split", () => {
  test("another parallelism deals as Flink's repartitioner does, over chains of restores", () => {
    fc.assert(
      fc.property(splitStates, fc.array(parallelisms, { minLength: 1, maxLength: 4 }), (first, chain) => {
        let states = first;
        for (const parallelism of chain) {
          const before = states;
          const old = Object.values(before)[0]?.bySubtask.length;
          states = restoreAt(before, parallelism);
          expect([...itemsOf(states)].sort()).toEqual([...itemsOf(first)].sort()); // every item exactly once
          if (old === parallelism) expect(states).toEqual(before);
          else {
            const dealt = Object.fromEntries(Object.entries(states).map(([name, s]) => [name, s.bySubtask]));
            expect(dealt).toEqual(flinkSplit(before, parallelism));
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test("balance: no subtask has two items more than another, of one state or of several with one item each", () => {
    const state = (...bySubtask: string[][]) => ({ mode: "split" as const, bySubtask });
    const sizes = (states: States, name: string) => states[name]?.bySubtask.map((list) => list.length);
    const one = restoreAt({ a: state(["1", "2", "3", "4", "5"], [], ["6", "7"]) }, 4);
    expect(sizes(one, "a")).toEqual([2, 2, 2, 1]);
    const small = restoreAt({ a: state(["1"], []), b: state(["2"], []), c: state([], ["3"]) }, 3);
    expect(["a", "b", "c"].map((name) => sizes(small, name))).toEqual([
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 1],
    ]);
  });

  test("items that were not counted (an older release) stay where they are, or are refused", () => {
    const old = metadataOf([[handle({})], [handle({})]]);
    expect(assign(old, vertex(2)).map(({ parts }) => parts)).toEqual([[handle({})], [handle({})]]);
    expect(() => assign(old, vertex(3))).toThrow(/state "s" of operator "op".*from 2 to 3 subtasks/su);
  });
});

test("DE2: union gives everybody everything, in the order of the old subtasks; broadcast i gets copy i % old", () => {
  fc.assert(
    fc.property(parallelisms, parallelisms, (old, parallelism) => {
      const bySubtask = Array.from({ length: old }, (_, i) => [`${i}`]);
      const { u, b } = restoreAt({ u: { mode: "union", bySubtask }, b: { mode: "broadcast", bySubtask } }, parallelism);
      const subtasks = Array.from({ length: parallelism }, (_, i) => i);
      expect(u?.bySubtask).toEqual(subtasks.map(() => bySubtask.flat()));
      expect(b?.bySubtask).toEqual(subtasks.map((i) => [`${i % old}`]));
    }),
  );
});

describe("finished subtasks", () => {
  const splits = (itemCount: number, object: string) => handle({ mode: "split", itemCount, object });

  test("AG5, DE3: what is left of a source is dealt, and a subtask that gets nothing knows that there was something", () => {
    const metadata = metadataOf([[splits(0, "0")], [splits(1, "1")], []], { finished: [2] });
    for (const parallelism of [1, 2, 3, 5]) {
      const restored = assign(metadata, vertex(parallelism));
      expect(restored.every(({ parts }) => parts.length > 0)).toBe(true);
      const items = restored.flatMap(({ parts }) => parts.map((part) => part.items ?? [0, part.itemCount ?? 0]));
      expect(items.reduce((sum, [from, to]) => sum + to - from, 0)).toBe(1);
    }
    expect(assign(metadata, vertex(3)).map(({ finished }) => finished)).toEqual([false, false, true]);
    expect(assign(metadata, vertex(4)).some(({ finished }) => finished)).toBe(false);
  });

  test("all finished: all are, at any parallelism", () => {
    const metadata = metadataOf([[splits(0, "0")], [splits(0, "1")]], { finished: [0, 1] });
    for (const parallelism of [1, 2, 5])
      expect(assign(metadata, vertex(parallelism)).every(({ finished }) => finished)).toBe(true);
  });

  test("union state with some, not all, finished is refused", () => {
    const union = handle({ mode: "union", itemCount: 1 });
    expect(() => assign(metadataOf([[union], []], { finished: [1] }), vertex(2))).toThrow(/union state "s"/u);
    expect(assign(metadataOf([[union], [union]], { finished: [0, 1] }), vertex(3))).toHaveLength(3);
  });
});

describe("AG2: keyed state", () => {
  const keyed = (parallelism: number, maxParallelism: number) =>
    metadataOf(
      Array.from({ length: parallelism }, (_, subtaskIndex) => {
        const keyGroups = keyGroupRangeOf({ maxParallelism, parallelism, subtaskIndex });
        return [handle({ kind: "keyed", keyGroups, object: `${subtaskIndex}` })];
      }),
      { maxParallelism },
    );

  test("ranges cover every group once", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 64, max: 512 }), (parallelism, maxParallelism) => {
        let next = 0;
        for (let subtaskIndex = 0; subtaskIndex < parallelism; subtaskIndex += 1) {
          const [first, last] = keyGroupRangeOf({ maxParallelism, parallelism, subtaskIndex });
          expect(first).toBe(next);
          next = last + 1;
        }
        expect(next).toBe(maxParallelism);
      }),
    );
  });

  test("every subtask is given exactly the parts that hold one of its groups", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 40, max: 200 }),
        (old, parallelism, maxParallelism) => {
          const owner = (group: number, p: number): number => Math.floor((group * p) / maxParallelism); // Flink
          const expected = Array.from({ length: parallelism }, () => new Set<string>());
          for (let group = 0; group < maxParallelism; group += 1)
            expected[owner(group, parallelism)]?.add(`${owner(group, old)}`);
          const restored = assign(keyed(old, maxParallelism), vertex(parallelism, { maxParallelism }));
          expect(restored.map(({ parts }) => new Set(parts.map(({ object }) => object)))).toEqual(expected);
          expect(restored.flatMap(({ parts }) => parts.map(({ items }) => items)).every((i) => i === undefined)).toBe(
            true,
          );
        },
      ),
    );
  });

  test("AG4: a plan that derived its number of key groups takes that of the state, in all its copies", () => {
    const metadata = keyed(2, 128);
    const planned = vertex(100, { maxParallelism: 256, derivesMaxParallelism: true });
    expect(fitVertices(metadata, planned)[0]?.maxParallelism).toBe(128);
    expect(fitVertices(null, planned)[0]?.maxParallelism).toBe(256);
    expect(assign(metadata, planned)).toHaveLength(100);
    const chain = [{ transformationId: 0, name: UID, uid: UID, kind: "oneInput", stateful: true }] as const;
    const plan: JobPlan = {
      formatVersion: 0,
      jobName: "j",
      digest: "d",
      arguments: [],
      configuration: {},
      vertices: [
        {
          id: "v",
          name: "v",
          parallelism: 100,
          maxParallelism: 256,
          derivesMaxParallelism: true,
          chain,
          inputs: [],
          splits: [],
        },
      ],
    };
    expect(fitPlan(metadata, plan).vertices[0]?.maxParallelism).toBe(128);
    expect(fitPlan(metadata, plan).digest).toBe("d");
  });

  test.each<readonly [about: string, vertices: readonly CheckpointVertex[], message: RegExp]>([
    ["another max parallelism that was set", vertex(2, { maxParallelism: 64 }), /128 key groups.*max parallelism 64/su],
    [
      "a parallelism above the state's max parallelism",
      vertex(129, { maxParallelism: 256, derivesMaxParallelism: true }),
      /128 key groups.*parallelism 129/su,
    ],
    ["an operator without keys", vertex(2, { isKeyed: false }), /"op" has keyed state.*nothing keys/su],
    ["an operator that is not the head", vertex(2, { uids: ["other", UID] }), /"op" has keyed state/su],
    ["a renamed operator", vertex(2, { uids: ["renamed"] }), /"op".*no operator with that uid/su],
  ])("STATE_INCOMPATIBLE: %s", (_about, vertices, message) => {
    let thrown: unknown;
    try {
      assign(keyed(2, 128), vertices);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: "STATE_INCOMPATIBLE", message: expect.stringMatching(message) });
    expect((thrown as { remedy: string }).remedy).not.toBe("");
  });

  test("AG1: state without an operator is dropped when that was allowed, and named", () => {
    const options = { metadata: keyed(2, 128), vertices: vertex(2, { uids: ["renamed"] }) };
    const { subtasks, droppedUids } = assignState({ ...options, unclaimedState: "drop" });
    expect([droppedUids, subtasks.map(({ parts }) => parts)]).toEqual([[UID], [[], []]]);
    const without = metadataOf([[], []], { uids: ["stateless"] });
    expect(assignState({ metadata: without, vertices: vertex(2), unclaimedState: "fail" }).droppedUids).toEqual([]);
  });
});
