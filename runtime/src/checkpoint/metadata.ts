// `_metadata` of a checkpoint or savepoint: names, writer and reader.
//
//   {jobDir}/chk-{id}/_metadata      one frame of kind checkpoint-metadata, formatVersion 1, around JSON:
//   {
//     checkpointId, kind, base, lineage, epoch, attempt, planDigest, timestampMs, isFinal,
//     objects: [path],                                        what parts refer to by index, each once
//     states: [{uid, stateName, kind, mode?}],
//     vertices: [{vertexId, parallelism, maxParallelism, uids, subtasks: [[subtaskIndex, finished 0|1, part...]]}]
//   }
//   part = [state, object, offset, lengthBytes, crc32c, itemCount | -1, firstKeyGroup?, lastKeyGroup?]
//
// Invariants:
//   ME1. What names repeat stands once: a part costs about 40 bytes, 10,000 subtasks with three parts each 1.2 MB.
//   ME2. A reader refuses fields, kinds and modes it does not know (`unsupported`); what contradicts itself is damaged.
//   ME3. read(write(m)) equals m; the same metadata gives the same bytes.
//
// Not here: what the parts hold (state/), who may write it (coordinator-shell.ts).

import { assert } from "@sluice/kit";
import type { CheckpointId, CheckpointMetadata, PartHandle } from "../model/index.ts";
import { readFrame, writeFrame } from "./frame.ts";
import { joinPath } from "./location.ts";

export const METADATA_VERSION = 1;

export type MetadataContent =
  | { readonly type: "ok"; readonly metadata: CheckpointMetadata }
  | { readonly type: "unsupported"; readonly version: number; readonly reason: string }
  | { readonly type: "damaged"; readonly reason: string };

/** Directory of checkpoint `id`, with a trailing slash. Everything exclusive to it lies below (P2). */
export function checkpointDirectory(jobDir: string, id: CheckpointId): string {
  return `${jobDir}/chk-${id}/`;
}

export function metadataPath(jobDir: string, id: CheckpointId): string {
  return `${checkpointDirectory(jobDir, id)}_metadata`;
}

/** The id in a path below `{jobDir}/chk-{id}/`, or undefined. */
export function checkpointIdOfPath(jobDir: string, path: string): CheckpointId | undefined {
  if (!path.startsWith(`${jobDir}/chk-`)) return undefined;
  const match = /^chk-([0-9]+)(?:\/|$)/u.exec(path.slice(jobDir.length + 1));
  return match === null ? undefined : (Number(match[1]) as CheckpointId);
}

type Vertex = CheckpointMetadata["vertices"][number];
type StoredState = Pick<PartHandle, "uid" | "stateName" | "kind" | "mode">;
type StoredPart = readonly number[];
type StoredSubtask = readonly [subtaskIndex: number, finished: number, ...parts: readonly StoredPart[]];

// A field that is added to the model does not compile before it has a place in the format, and METADATA_VERSION a new number.
const SCALARS = {
  checkpointId: true,
  kind: true,
  base: true,
  lineage: true,
  epoch: true,
  attempt: true,
  planDigest: true,
  timestampMs: true,
  isFinal: true,
} as const satisfies Readonly<Record<Exclude<keyof CheckpointMetadata, "vertices">, true>>;
const PART_FIELDS = {
  uid: true,
  stateName: true,
  kind: true,
  keyGroups: true,
  mode: true,
  itemCount: true,
  object: true,
  offset: true,
  lengthBytes: true,
  crc32c: true,
} as const satisfies Readonly<Record<keyof PartHandle, true>>;
const SCALAR_NAMES = Object.keys(SCALARS) as readonly (keyof typeof SCALARS)[];

/** The bytes of `_metadata` (ME3). */
export function writeCheckpointMetadata(metadata: CheckpointMetadata): Uint8Array {
  const objects = new Indexed<string>((object) => object);
  const states = new Indexed<StoredState>((s) => JSON.stringify([s.uid, s.stateName, s.kind, s.mode ?? null]));
  const vertices = metadata.vertices.map(({ vertexId, parallelism, maxParallelism, uids, subtasks }) => ({
    vertexId,
    parallelism,
    maxParallelism,
    uids,
    subtasks: subtasks.map(({ subtaskIndex, finished, parts }): StoredSubtask => {
      const stored = parts.map((part) => {
        assert(
          Object.keys(part).every((name) => Object.hasOwn(PART_FIELDS, name)),
          "ME3: every field of a part is stored",
        );
        const { uid, stateName, kind, mode } = part;
        const state = states.indexOf({ uid, stateName, kind, ...(mode === undefined ? {} : { mode }) });
        const { offset, lengthBytes, crc32c, itemCount = -1, keyGroups = [] } = part;
        return [state, objects.indexOf(part.object), offset, lengthBytes, crc32c, itemCount, ...keyGroups];
      });
      return [subtaskIndex, finished ? 1 : 0, ...stored];
    }),
  }));
  const scalars = Object.fromEntries(SCALAR_NAMES.map((name) => [name, metadata[name]]));
  return writeFrame("checkpoint-metadata", METADATA_VERSION, {
    ...scalars,
    objects: objects.values,
    states: states.values,
    vertices,
  });
}

/** Values in the order in which they first came. */
class Indexed<T> {
  readonly values: T[] = [];
  readonly #indexes = new Map<string, number>();
  readonly #keyOf: (value: T) => string;

  constructor(keyOf: (value: T) => string) {
    this.#keyOf = keyOf;
  }

  indexOf(value: T): number {
    const key = this.#keyOf(value);
    const known = this.#indexes.get(key);
    if (known !== undefined) return known;
    this.#indexes.set(key, this.values.length);
    return this.values.push(value) - 1;
  }
}

export function readCheckpointMetadata(bytes: Uint8Array): MetadataContent {
  const frame = readFrame("checkpoint-metadata", bytes);
  if (frame.type === "damaged") return frame;
  const { version } = frame;
  if (version !== METADATA_VERSION) {
    const reason = `it has format version ${version}; this release reads version ${METADATA_VERSION}`;
    return { type: "unsupported", version, reason };
  }
  try {
    return { type: "ok", metadata: readContent(fieldsOf(frame.json)) };
  } catch (thrown) {
    if (thrown instanceof Unknown) return { type: "unsupported", version, reason: thrown.message };
    if (thrown instanceof Nonsense) return { type: "damaged", reason: thrown.message };
    throw thrown;
  }
}

/** The checksum is right, but the content is not what any writer writes. */
class Nonsense extends Error {}
/** The content is of a writer that knows more (ME2). */
class Unknown extends Error {}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(json: unknown): Fields {
  if (typeof json !== "object" || json === null || Array.isArray(json)) throw new Nonsense("not checkpoint metadata");
  return json as Fields;
}

function readContent(d: Fields): CheckpointMetadata {
  refuseUnknown(d, [...SCALAR_NAMES, "objects", "states", "vertices"]);
  const objects = listOf(d, "objects").map(textIn("an object"));
  const states = listOf(d, "states").map((json): StoredState => {
    const s = fieldsOf(json);
    refuseUnknown(s, ["uid", "stateName", "kind", "mode"]);
    const { mode } = s;
    return {
      uid: text(s, "uid"),
      stateName: text(s, "stateName"),
      kind: oneOf(s, "kind", ["keyed", "operator"]),
      ...(mode === undefined ? {} : { mode: oneOf(s, "mode", ["split", "union", "broadcast"]) }),
    };
  });
  return {
    checkpointId: count(d, "checkpointId") as CheckpointId,
    kind: oneOf(d, "kind", ["checkpoint", "savepoint"]),
    base: oneOf(d, "base", ["job", "self"]),
    lineage: text(d, "lineage"),
    epoch: count(d, "epoch") as CheckpointMetadata["epoch"],
    attempt: count(d, "attempt") as CheckpointMetadata["attempt"],
    planDigest: text(d, "planDigest"),
    timestampMs: count(d, "timestampMs"),
    isFinal: flag(d, "isFinal"),
    vertices: listOf(d, "vertices").map((json) => readVertex(fieldsOf(json), { objects, states })),
  };
}

interface Tables {
  readonly objects: readonly string[];
  readonly states: readonly StoredState[];
}

function readVertex(d: Fields, tables: Tables): Vertex {
  refuseUnknown(d, ["vertexId", "parallelism", "maxParallelism", "uids", "subtasks"]);
  return {
    vertexId: text(d, "vertexId"),
    parallelism: count(d, "parallelism"),
    maxParallelism: count(d, "maxParallelism"),
    uids: listOf(d, "uids").map(textIn("a uid")),
    subtasks: listOf(d, "subtasks").map((json) => {
      if (!Array.isArray(json) || json.length < 2) throw new Nonsense("a subtask that is none");
      const [subtaskIndex, finished, ...parts] = json as readonly unknown[];
      if (!isCount(subtaskIndex) || (finished !== 0 && finished !== 1)) throw new Nonsense("a subtask that is none");
      return { subtaskIndex, finished: finished === 1, parts: parts.map((part) => readPart(part, tables)) };
    }),
  };
}

function readPart(json: unknown, { objects, states }: Tables): PartHandle {
  const row: readonly unknown[] = Array.isArray(json) ? json : [];
  const [stateIndex, objectIndex, offset, lengthBytes, crc32c, itemCount, ...groups] = row;
  const [first, last] = groups;
  const state = isCount(stateIndex) ? states[stateIndex] : undefined;
  const object = isCount(objectIndex) ? objects[objectIndex] : undefined;
  const hasGroups = groups.length === 2 && isCount(first) && isCount(last);
  const isWhole = isCount(offset) && isCount(lengthBytes) && isCount(crc32c) && (groups.length === 0 || hasGroups);
  if (state === undefined || object === undefined || !isWhole || !(itemCount === -1 || isCount(itemCount)))
    throw new Nonsense("a part that is none");
  return {
    ...state,
    ...(hasGroups ? { keyGroups: [first, last] as const } : {}),
    ...(itemCount === -1 ? {} : { itemCount }),
    object,
    offset,
    lengthBytes,
    crc32c,
  };
}

function refuseUnknown(d: Fields, known: readonly string[]): void {
  const name = Object.keys(d).find((key) => !known.includes(key));
  if (name !== undefined) throw new Unknown(`it has the unknown field "${name}"`);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function count(d: Fields, name: string): number {
  const value = d[name];
  if (!isCount(value)) throw new Nonsense(`${name} is no count`);
  return value;
}

function text(d: Fields, name: string): string {
  return textIn(name)(d[name]);
}

function textIn(what: string): (value: unknown) => string {
  return (value) => {
    if (typeof value !== "string") throw new Nonsense(`${what} is no text`);
    return value;
  };
}

function flag(d: Fields, name: string): boolean {
  const value = d[name];
  if (typeof value !== "boolean") throw new Nonsense(`${name} is neither true nor false`);
  return value;
}

function listOf(d: Fields, name: string): readonly unknown[] {
  const value = d[name];
  if (!Array.isArray(value)) throw new Nonsense(`${name} is no list`);
  return value;
}

function oneOf<const T extends string>(d: Fields, name: string, known: readonly T[]): T {
  const found = known.find((candidate) => candidate === d[name]);
  if (found === undefined) throw new Unknown(`its ${name} is ${JSON.stringify(d[name])}`);
  return found;
}

/** Paths of every object that the parts of this checkpoint lie in, below the directory that they are relative to. */
export function referencedObjects(directory: string, metadata: CheckpointMetadata): ReadonlySet<string> {
  const objects = new Set<string>();
  for (const vertex of metadata.vertices) {
    for (const subtask of vertex.subtasks)
      for (const part of subtask.parts) objects.add(joinPath(directory, part.object));
  }
  return objects;
}
