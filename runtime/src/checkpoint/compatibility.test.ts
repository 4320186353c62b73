// What is said of a job and a snapshot before anybody tries.

import { expect, test } from "@jest/globals";

import { Types } from "../model/index.ts";
import type {
  CheckpointId,
  CheckpointMetadata,
  Epoch,
  OperatorSchema,
  OperatorStateMode,
  StateSchema,
  TypeDescriptor,
  TypeInformation,
} from "../model/index.ts";
import { compareJob } from "./compatibility.ts";

const { INT, LONG, STRING, ROW, TUPLE } = Types;
const KEY = STRING().descriptor;
const TTL = { ttlMs: 1_000 };

function value(
  type: TypeInformation<unknown> = INT(),
  more: { readonly kind?: "reducing"; readonly ttl?: { readonly ttlMs: number } } = {},
): StateSchema {
  return { name: "s", kind: "value", valueType: type.descriptor, ttl: null, ...more };
}

function items(mode: OperatorStateMode, itemType: TypeDescriptor | null): StateSchema {
  return { name: "s", kind: "operator-list", mode, itemType };
}

/** One operator "op" of two subtasks with one state, stored and declared as given. */
function check(
  stored: StateSchema | undefined,
  declared: Partial<OperatorSchema>,
  plan: { readonly parallelism?: number; readonly maxParallelism?: number; readonly drop?: boolean } = {},
): ReturnType<typeof compareJob> {
  const isKeyed = stored?.kind !== "operator-list";
  const part = (i: number) => ({
    uid: "op",
    stateName: "s",
    kind: isKeyed ? ("keyed" as const) : ("operator" as const),
    ...(isKeyed ? { keyGroups: [i * 8, i * 8 + 7] as const } : { mode: "split" as const, itemCount: 1 }),
    object: "chk-1/x",
    offset: 0,
    lengthBytes: 1,
    crc32c: 0,
  });
  const subtasks = [0, 1].map((i) => ({
    subtaskIndex: i,
    finished: false,
    parts: stored === undefined ? [] : [part(i)],
  }));
  const metadata: CheckpointMetadata = {
    checkpointId: 1 as CheckpointId,
    kind: "checkpoint",
    base: "job",
    lineage: "l",
    epoch: 1 as Epoch,
    attempt: 0 as CheckpointMetadata["attempt"],
    planDigest: "p",
    timestampMs: 0,
    isFinal: false,
    vertices: [{ vertexId: "v", parallelism: 2, maxParallelism: 16, uids: ["op"], subtasks }],
  };
  const operator: OperatorSchema = {
    uid: "op",
    name: "Op",
    keyType: KEY,
    asked: "opened",
    problem: null,
    states: [],
    ...declared,
  };
  const { parallelism = 2, maxParallelism = 16, drop = false } = plan;
  return compareJob({
    metadata,
    stored: new Map(stored === undefined ? [] : [["op", [isKeyed ? { keyType: KEY, ...stored } : stored]]]),
    vertices: [
      {
        vertexId: "v",
        parallelism,
        maxParallelism,
        derivesMaxParallelism: false,
        isKeyed: true,
        uids: [operator.uid],
        inputVertexIds: [],
      },
    ],
    declared: [operator],
    unclaimedState: drop ? "drop" : "fail",
  });
}

const AB = ROW({ a: INT() });

test.each<[string, ReturnType<typeof compareJob>, boolean, string, string]>([
  ["the same", check(value(), { states: [value()] }), true, "unchanged", "[]"],
  ["INT to LONG", check(value(), { states: [value(LONG())] }), true, "evolves", "INT becomes LONG"],
  [
    "another type",
    check(value(), { states: [value(STRING())] }),
    false,
    "incompatible",
    "holds INT, the job declares STRING",
  ],
  [
    "a new field",
    check(value(AB), { states: [value(ROW({ a: INT(), b: INT() }))] }),
    false,
    "incompatible",
    "without a default",
  ],
  [
    "another kind",
    check(value(), { states: [value(INT(), { kind: "reducing" })] }),
    false,
    "incompatible",
    "value state",
  ],
  [
    "another key",
    check(value(), { keyType: LONG().descriptor, states: [value()] }),
    false,
    "incompatible",
    "keyed by STRING, the job keys by LONG",
  ],
  ["no key any more", check(value(), { keyType: null }), false, "incompatible", "the operator has no key"],
  ["not declared", check(value(), {}), true, "unchanged", "not declared in open()"],
  ["a time to live", check(value(), { states: [value(INT(), { ttl: TTL })] }), true, "evolves", "a time to live"],
  [
    "none any more",
    check(value(INT(), { ttl: TTL }), { states: [value()] }),
    true,
    "evolves",
    "no time to live any more",
  ],
  ["open() that fails", check(value(), { asked: "failed", problem: "no database" }), false, "unknown", "no database"],
  ["a connector", check(items("split", null), { asked: "connector" }), true, "unchanged", "its own format"],
  [
    "items",
    check(items("split", INT().descriptor), { states: [items("split", LONG().descriptor)] }),
    true,
    "evolves",
    "INT becomes LONG",
  ],
  [
    "another mode",
    check(items("split", INT().descriptor), { states: [items("union", INT().descriptor)] }),
    false,
    "incompatible",
    "holds split state",
  ],
  [
    "keys of broadcast state",
    check(items("broadcast", TUPLE(INT(), INT()).descriptor), {
      states: [items("broadcast", TUPLE(LONG(), INT()).descriptor)],
    }),
    false,
    "incompatible",
    "map keys of INT",
  ],
  ["a new operator", check(undefined, { states: [value()] }), true, "new", "starts empty"],
  ["an operator that is gone", check(value(), { uid: "other" }), false, "state without operator", 'uid(\\"op\\")'],
  ["one that is given up", check(value(), { uid: "other" }, { drop: true }), true, "dropped", "given up"],
  [
    "another max parallelism",
    check(value(), { states: [value()] }, { maxParallelism: 32 }),
    false,
    "incompatible",
    "16",
  ],
  ["another parallelism", check(value(), { states: [value()] }, { parallelism: 5 }), true, "unchanged", "[]"],
])("%s", (_what, { compatible, operators }, expected, verdict, text) => {
  const said = operators.find(({ uid }) => uid === "op");
  expect([compatible, said?.verdict]).toEqual([expected, verdict]);
  expect(JSON.stringify(operators)).toContain(text);
});
