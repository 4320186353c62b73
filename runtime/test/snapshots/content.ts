// A snapshot with everything that the format can hold: all types, as keys and as values, with the values that are odd; all kinds of keyed
// state; operator state of the three modes, typed and not; three subtasks, one of them finished. Deterministic, byte for byte.
//
// The golden snapshots are this content as version 1 wrote it. Nothing here may change; what a later version adds gets content of its
// own beside it.

import { keyGroupOf, keyGroupRange } from "@sluice/kit";

import { writeCheckpointMetadata } from "../../src/checkpoint/index.ts";
import {
  AggregatingStateDescriptor,
  keyHasher,
  ListStateDescriptor,
  MapStateDescriptor,
  ReducingStateDescriptor,
  Types,
  ValueStateDescriptor,
} from "../../src/model/index.ts";
import type {
  CheckpointId,
  CheckpointMetadata,
  OperatorStateContent,
  PartHandle,
  SnapshotPart,
  StateDescriptor,
  TypeDescriptor,
  TypeInformation,
} from "../../src/model/index.ts";
import { codecFor, encodeOperatorState, encodeValue, HeapKeyedStateBackend } from "../../src/state/index.ts";
import { OpenPack, partBytes } from "../../src/taskmanager/io/index.ts";

export const PARALLELISM = 3;
export const MAX_PARALLELISM = 16;
/** Wall clock of the writer. */
export const WALL_MS = 1_700_000_000_000;
export const TIMER_STATE = "_timer_state/processing_user-timers";
export const DIRECTORY = "golden/chk-7";
const OBJECT = "chk-7/x-2.0.tm-1.0123456789abcdef-0";

/** What a key has in a state, whatever its kind: a list its elements, a map its entries, reducing and aggregating what was added. */
export interface KeyedContent {
  readonly descriptor: StateDescriptor;
  readonly entries: readonly (readonly [key: unknown, content: unknown])[];
}

export interface KeyedOperator {
  readonly uid: string;
  readonly keyType: TypeDescriptor;
  readonly states: readonly KeyedContent[];
  readonly timers?: readonly (readonly [key: unknown, timestampsMs: readonly number[]])[];
}

const texts = ["", "a", "naïve", "日本", "\u{1f600}", "\ud800x", "\udc00", "\ufeffBOM", "\0", "x".repeat(300)];
const longs = [0, 1, -1, 42, 2 ** 31, -(2 ** 31) - 1, 2 ** 53 - 1, -(2 ** 53) + 1];
const ints = [0, 1, -1, 2 ** 31 - 1, -(2 ** 31)];
const doubles = [0, 0.1, -1.5, NaN, Infinity, -Infinity, 5e-324, 1.7976931348623157e308];
const blobs = [new Uint8Array(), Uint8Array.of(0, 255, 128), new Uint8Array(70_000).map((_, i) => (i * 7) & 0xff)];

const Address = Types.ROW({ street: Types.STRING(), zip: Types.INT() });
const Profile = Types.ROW({ name: Types.STRING(), tags: Types.LIST(Types.STRING()), address: Address });
const Pair = Types.TUPLE(Types.LONG(), Types.STRING());

/** Values of each type, the odd ones included. */
const VALUES: readonly (readonly [name: string, type: TypeInformation<unknown>, values: readonly unknown[]])[] = [
  ["int", Types.INT(), ints],
  ["long", Types.LONG(), longs],
  ["double", Types.DOUBLE(), [...doubles, -0]],
  ["string", Types.STRING(), texts],
  ["boolean", Types.BOOLEAN(), [true, false]],
  ["instant", Types.INSTANT(), longs],
  ["bytes", Types.BYTES(), blobs],
  ["tuple", Pair, longs.map((n, i) => [n, texts[i]])],
  ["empty tuple", Types.TUPLE(), [[]]],
  ["row", Profile, texts.map((name, i) => ({ name, tags: texts.slice(0, i), address: { street: `${i}`, zip: i } }))],
  ["list", Types.LIST(Types.DOUBLE()), [[], doubles, [-0]]],
  ["map", Types.MAP(Types.STRING(), Pair), [new Map(), new Map(texts.map((text, i) => [text, [i, text]]))]],
];

/** One operator per type of key, with a sum per key. */
const KEYS: readonly (readonly [name: string, type: TypeInformation<unknown>, keys: readonly unknown[]])[] = [
  ["int", Types.INT(), ints],
  ["long", Types.LONG(), [...longs, ...Array.from({ length: 3_000 }, (_, i) => (i + 1) * 1_000_003)]],
  ["double", Types.DOUBLE(), doubles],
  ["string", Types.STRING(), [...texts, ...Array.from({ length: 1_000 }, (_, i) => `key-${i}`)]],
  ["boolean", Types.BOOLEAN(), [true, false]],
  ["instant", Types.INSTANT(), longs],
  ["bytes", Types.BYTES(), blobs.slice(0, 2)],
  ["tuple", Pair, longs.map((n, i) => [n, texts[i]])],
  ["row", Address, ints.map((zip, i) => ({ street: texts[i], zip }))],
  ["list", Types.LIST(Types.STRING()), [[], texts, ["a", "b"]]],
];

const mean = {
  createAccumulator: (): [number, number] => [0, 0],
  add: (value: number, [sum, count]: [number, number]): [number, number] => [sum + value, count + 1],
  getResult: ([sum, count]: [number, number]) => sum / count,
  merge: (a: [number, number], b: [number, number]): [number, number] => [a[0] + b[0], a[1] + b[1]],
};

const TTL = { ttl: { ttlMs: 3_600_000, updateType: "OnReadAndWrite", stateVisibility: "NeverReturnExpired" } } as const;
const userKeys = Array.from({ length: 40 }, (_, i) => `user-${i}`);

/** All keyed operators. */
export const KEYED: readonly KeyedOperator[] = [
  {
    uid: "values",
    keyType: Types.STRING().descriptor,
    states: VALUES.map(([name, type, values]) => ({
      descriptor: new ValueStateDescriptor(`of ${name}`, type),
      entries: values.map((value, i) => [`${name}-${i}`, value] as const),
    })),
  },
  {
    uid: "kinds",
    keyType: Types.STRING().descriptor,
    states: [
      {
        descriptor: new ListStateDescriptor<unknown>("list", Profile),
        entries: userKeys.map((key, i) => [key, Array.from({ length: 1 + (i % 5) }, (_, n) => profile(i, n))] as const),
      },
      {
        descriptor: new MapStateDescriptor<unknown, unknown>("map", Types.LONG(), Types.STRING()),
        entries: userKeys.map(
          (key, i) => [key, new Map(longs.slice(0, 1 + (i % 8)).map((n) => [n, `${key} ${n}`]))] as const,
        ),
      },
      {
        descriptor: new MapStateDescriptor<unknown, unknown>("large map", Types.INT(), Types.BYTES()),
        entries: [["one", new Map(Array.from({ length: 45 }, (_, i) => [i, new Uint8Array(2_000).fill(i)]))]],
      },
      {
        descriptor: new ReducingStateDescriptor<unknown>("sum", (a, b) => (a as number) + (b as number), Types.LONG()),
        entries: userKeys.map((key, i) => [key, [i, 1_000, -7]] as const),
      },
      {
        descriptor: new AggregatingStateDescriptor(
          "mean",
          mean,
          Types.TUPLE(Types.LONG(), Types.LONG()),
        ) as unknown as StateDescriptor,
        entries: userKeys.map((key, i) => [key, [i, i + 1, i + 5]] as const),
      },
    ],
  },
  {
    uid: "mortal",
    keyType: Types.STRING().descriptor,
    states: [
      {
        descriptor: new ValueStateDescriptor<unknown>("value", Types.LONG(), TTL),
        entries: userKeys.map((key, i) => [key, i] as const),
      },
      {
        descriptor: new ListStateDescriptor<unknown>("list", Types.STRING(), TTL),
        entries: userKeys.map((key, i) => [key, texts.slice(0, 1 + (i % 10))] as const),
      },
      {
        descriptor: new MapStateDescriptor<unknown, unknown>("map", Types.STRING(), Profile, TTL),
        entries: userKeys.map(
          (key, i) => [key, new Map(texts.slice(0, 1 + (i % 3)).map((t, n) => [t, profile(i, n)]))] as const,
        ),
      },
    ],
    timers: userKeys.map(
      (key, i) => [key, Array.from({ length: 1 + (i % 3) }, (_, n) => WALL_MS + i * 1_000 + n)] as const,
    ),
  },
  ...KEYS.map(([name, type, keys]) => ({
    uid: `by ${name}`,
    keyType: type.descriptor,
    states: [
      { descriptor: new ValueStateDescriptor("sum", Types.LONG()), entries: keys.map((key, i) => [key, i] as const) },
    ],
  })),
];

function profile(i: number, n: number): unknown {
  return { name: `user ${i}`, tags: [`t${n}`], address: { street: `street ${n}`, zip: i * 100 + n } };
}

/** Operator state by subtask. */
export const OPERATOR: readonly {
  readonly uid: string;
  readonly stateName: string;
  readonly content: (subtask: number) => OperatorStateContent;
}[] = [
  {
    uid: "source",
    stateName: "source-splits",
    content: (subtask) => ({
      mode: "split",
      items: [0, 1].map((i) => ({ json: { id: `file-${subtask}-${i}`, position: i * 10, names: ["ü", null, true] } })),
    }),
  },
  {
    uid: "sink",
    stateName: "pending",
    content: (subtask) => ({ mode: "split", items: [{ bytes: Uint8Array.of(subtask, 0, 255) }, { json: null }] }),
  },
  {
    uid: "user",
    stateName: "rows",
    content: (subtask) => typed("split", Profile, [profile(subtask, 0), profile(subtask, 1)]),
  },
  { uid: "user", stateName: "all", content: (subtask) => typed("union", Types.LONG(), [subtask, 2 ** 40 + subtask]) },
  {
    uid: "user",
    stateName: "rules",
    content: () =>
      typed(
        "broadcast",
        Types.TUPLE(Types.STRING(), Types.DOUBLE()),
        texts.map((text, i) => [text, i / 4]),
      ),
  },
  { uid: "user", stateName: "nothing", content: () => typed("split", Types.LONG(), []) },
];

function typed(
  mode: OperatorStateContent["mode"],
  type: TypeInformation<unknown>,
  values: readonly unknown[],
): OperatorStateContent {
  const codec = codecFor(type.descriptor);
  return { mode, itemType: type.descriptor, items: values.map((value) => ({ bytes: encodeValue(codec, value) })) };
}

export function rangeOf(subtask: number, parallelism: number): readonly [first: number, last: number] {
  const { first, last } = keyGroupRange(subtask, MAX_PARALLELISM, parallelism);
  return [first, last];
}

export function backendOf(operator: KeyedOperator, range: readonly [number, number]): HeapKeyedStateBackend {
  return new HeapKeyedStateBackend({
    keyType: operator.keyType,
    keyGroups: range,
    maxParallelism: MAX_PARALLELISM,
    uid: operator.uid,
    clock: { nowMs: () => 0, wallMs: () => WALL_MS },
  });
}

/** Canonical hash of a key, as the network computes it. */
export function hasherOf(keyType: TypeDescriptor): (key: unknown) => number {
  return keyHasher(keyType, { wrongKey: (key) => new TypeError(String(key)) as never, acceptsNaN: true });
}

/** Puts the content of a key into its state, as a user function does. The key is set. */
export function put(backend: HeapKeyedStateBackend, descriptor: StateDescriptor, content: unknown): void {
  switch (descriptor.kind) {
    case "value":
      backend.getState(descriptor).update(content);
      return;
    case "list":
      backend.getListState(descriptor).update(content as Iterable<unknown>);
      return;
    case "map":
      backend.getMapState(descriptor).putAll(content as ReadonlyMap<unknown, unknown>);
      return;
    case "reducing":
      for (const value of content as readonly unknown[]) backend.getReducingState(descriptor).add(value);
      return;
    case "aggregating":
      for (const value of content as readonly unknown[]) backend.getAggregatingState(descriptor).add(value);
  }
}

function keyedParts(operator: KeyedOperator, subtask: number): readonly SnapshotPart[] {
  const [first, last] = rangeOf(subtask, PARALLELISM);
  const backend = backendOf(operator, [first, last]);
  const hash = hasherOf(operator.keyType);
  for (const { descriptor, entries } of operator.states) {
    declare(backend, descriptor);
    for (const [key, content] of entries) {
      const group = keyGroupOf(hash(key), MAX_PARALLELISM);
      if (group < first || group > last) continue;
      backend.setCurrentKey(key, hash(key));
      put(backend, descriptor, content);
    }
  }
  const service = backend.getTimerService({ onProcessingTime: () => {} });
  for (const [key, timestamps] of operator.timers ?? []) {
    const group = keyGroupOf(hash(key), MAX_PARALLELISM);
    if (group < first || group > last) continue;
    backend.setCurrentKey(key, hash(key));
    for (const timestampMs of timestamps) service.registerProcessingTimeTimer(timestampMs);
  }
  const snapshot = backend.snapshot(7 as CheckpointId);
  while (!snapshot.step(1_000));
  return snapshot.parts();
}

/** A state is there as soon as it is declared. */
export function declare(backend: HeapKeyedStateBackend, descriptor: StateDescriptor): void {
  if (descriptor.kind === "value") backend.getState(descriptor);
  else if (descriptor.kind === "list") backend.getListState(descriptor);
  else if (descriptor.kind === "map") backend.getMapState(descriptor);
  else if (descriptor.kind === "reducing") backend.getReducingState(descriptor);
  else backend.getAggregatingState(descriptor);
}

function operatorParts(uid: string, subtask: number): readonly SnapshotPart[] {
  return OPERATOR.filter((state) => state.uid === uid).map(({ stateName, content }) => {
    const { mode, items } = content(subtask);
    const chunks = encodeOperatorState({ uid, stateName }, content(subtask));
    return { uid, stateName, kind: "operator", mode, itemCount: items.length, chunks };
  });
}

/** All objects of the snapshot by path: one pack per subtask, and `_metadata`. */
export function writeSnapshot(): ReadonlyMap<string, Uint8Array> {
  const objects = new Map<string, Uint8Array>();
  const uids = [...KEYED.map(({ uid }) => uid), ...new Set(OPERATOR.map(({ uid }) => uid))];
  const handles = new Map<string, PartHandle[]>();
  for (let subtask = 0; subtask < PARALLELISM; subtask += 1) {
    const pack = new OpenPack<string>();
    for (const uid of uids) {
      const keyed = KEYED.find((operator) => operator.uid === uid);
      for (const part of keyed === undefined ? operatorParts(uid, subtask) : keyedParts(keyed, subtask))
        pack.add({ owner: `${uid}/${subtask}`, part, lengthBytes: partBytes(part) });
    }
    const { bytes, placed } = pack.close(`${OBJECT}${subtask}`);
    objects.set(`golden/${OBJECT}${subtask}`, bytes);
    for (const { owner, handle } of placed) handles.set(owner, [...(handles.get(owner) ?? []), handle]);
  }
  const metadata: CheckpointMetadata = {
    checkpointId: 7 as CheckpointId,
    kind: "checkpoint",
    base: "job",
    lineage: "golden",
    epoch: 2 as CheckpointMetadata["epoch"],
    attempt: 0 as CheckpointMetadata["attempt"],
    planDigest: "0123456789abcdef",
    timestampMs: WALL_MS,
    isFinal: false,
    vertices: uids.map((uid, i) => ({
      vertexId: `v${i}`,
      parallelism: PARALLELISM,
      maxParallelism: MAX_PARALLELISM,
      uids: uid === "sink" ? ["map", "sink"] : [uid],
      subtasks: Array.from({ length: PARALLELISM }, (_, subtaskIndex) => ({
        subtaskIndex,
        finished: uid === "source" && subtaskIndex === 2,
        parts: handles.get(`${uid}/${subtaskIndex}`) ?? [],
      })),
    })),
  };
  objects.set(`${DIRECTORY}/_metadata`, writeCheckpointMetadata(metadata));
  return objects;
}
