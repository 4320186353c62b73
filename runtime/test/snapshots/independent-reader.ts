// A reader of snapshots written from docs/internals/snapshot-format.md alone: it shares no code with Sluice, checksum and hash included.
// What this program cannot read, the page does not say. It refuses whatever the page does not name.
//
// Not here: anything imported but from Node (independent-reader.test.ts looks).

type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };
type Type = { readonly kind: string; readonly [name: string]: unknown };

export interface ReadEntry {
  readonly subtask: number;
  /** The values as JSON: doubles that JSON has no number for as text, bytes as hex, maps as pairs. */
  readonly key: Json;
  readonly mapKey?: Json;
  readonly timeMs?: number;
  readonly value: Json;
}

export interface ReadState {
  readonly uid: string;
  readonly stateName: string;
  readonly stateKind: string;
  readonly mode: string | undefined;
  readonly ttl: Json;
  readonly entries: readonly ReadEntry[];
}

export interface ReadSnapshot {
  readonly metadata: Record<string, Json>;
  readonly states: readonly ReadState[];
}

class Refused extends Error {}

function refuse(reason: string): never {
  throw new Refused(reason);
}

function must(condition: boolean, reason: string): void {
  if (!condition) refuse(reason);
}

// CRC-32C, bit by bit: Castagnoli's polynomial, reflected.
function crc(bytes: Uint8Array): number {
  let register = 0xffffffff;
  for (const byte of bytes) {
    register ^= byte;
    for (let bit = 0; bit < 8; bit += 1) register = register & 1 ? (register >>> 1) ^ 0x82f63b78 : register >>> 1;
  }
  return (register ^ 0xffffffff) >>> 0;
}

const MASK = 0xffffffffn;
const rotl = (x: bigint, by: bigint): bigint => ((x << by) | (x >> (32n - by))) & MASK;

// MurmurHash3 x86 32-bit, seed 0.
function murmur(bytes: Uint8Array): bigint {
  let h = 0n;
  const scramble = (k: bigint): bigint => (rotl((k * 0xcc9e2d51n) & MASK, 15n) * 0x1b873593n) & MASK;
  const whole = bytes.length - (bytes.length % 4);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < whole; at += 4) {
    h ^= scramble(BigInt(view.getUint32(at, true)));
    h = (rotl(h, 13n) * 5n + 0xe6546b64n) & MASK;
  }
  let tail = 0n;
  for (let at = bytes.length - 1; at >= whole; at -= 1) tail = (tail << 8n) | BigInt(bytes[at] ?? 0);
  if (whole < bytes.length) h ^= scramble(tail);
  h ^= BigInt(bytes.length);
  h = ((h ^ (h >> 16n)) * 0x85ebca6bn) & MASK;
  h = ((h ^ (h >> 13n)) * 0xc2b2ae35n) & MASK;
  return h ^ (h >> 16n);
}

function orderHash(hash: bigint): bigint {
  const m = ((hash ^ (hash >> 16n)) * 0x9e3779b1n) & MASK;
  return m ^ (m >> 15n);
}

class Cursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get isAtEnd(): boolean {
    return this.at === this.#bytes.length;
  }

  take(count: number): Uint8Array {
    must(this.at + count <= this.#bytes.length, "it ends early");
    this.at += count;
    return this.#bytes.subarray(this.at - count, this.at);
  }

  skipped(count: number): number {
    this.take(count);
    return this.at - count;
  }

  u8 = (): number => this.#view.getUint8(this.skipped(1));
  u16 = (): number => this.#view.getUint16(this.skipped(2), true);
  u32 = (): number => this.#view.getUint32(this.skipped(4), true);
  i32 = (): number => this.#view.getInt32(this.skipped(4), true);
  f64 = (): number => this.#view.getFloat64(this.skipped(8), true);

  i64(): number {
    const value = this.#view.getBigInt64(this.skipped(8), true);
    must(value < 2n ** 53n && value > -(2n ** 53n), "an i64 beyond 2^53 - 1");
    return Number(value);
  }

  varint(): number {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.u8();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte >= 0x80) continue;
      must(byte !== 0 || shift === 0n, "an overlong varint");
      return Number(value);
    }
  }
}

/** UTF-8, a lone surrogate as its three-byte form. */
function text(bytes: Uint8Array): string {
  let out = "";
  const cursor = new Cursor(bytes);
  while (!cursor.isAtEnd) {
    const lead = cursor.u8();
    const more = lead < 0x80 ? 0 : lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    let point = more === 0 ? lead : lead & (0x3f >> more);
    for (const byte of cursor.take(more)) {
      must((byte & 0xc0) === 0x80, "no UTF-8");
      point = (point << 6) | (byte & 0x3f);
    }
    out += String.fromCodePoint(point);
  }
  return out;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function readValue(from: Cursor, type: Type): Json {
  const fields = (): readonly Json[] => {
    const types = type["fields"] as readonly Type[];
    if (types.length === 0) must(from.u8() === 0, "no fields are one zero byte");
    return types.map((field) => readValue(from, field));
  };
  switch (type.kind) {
    case "INT":
      return from.i32();
    case "LONG":
    case "INSTANT":
      return from.i64();
    case "DOUBLE": {
      const value = from.f64();
      return Number.isFinite(value) && !Object.is(value, -0) ? value : Object.is(value, -0) ? "-0" : String(value);
    }
    case "BOOLEAN": {
      const byte = from.u8();
      must(byte < 2, "a boolean is 0 or 1");
      return byte === 1;
    }
    case "STRING":
      return text(from.take(from.varint()));
    case "BYTES":
      return hex(from.take(from.varint()));
    case "TUPLE":
      return fields();
    case "ROW": {
      const values = fields();
      return Object.fromEntries((type["names"] as readonly string[]).map((name, i) => [name, values[i] as Json]));
    }
    case "LIST":
      return Array.from({ length: from.varint() }, () => readValue(from, type["element"] as Type));
    case "MAP":
      return Array.from({ length: from.varint() }, () => {
        const key = readValue(from, type["key"] as Type);
        return [key, readValue(from, type["value"] as Type)];
      });
    default:
      return refuse(`type ${type.kind} is not known`);
  }
}

/** The canonical encoding of a key, made from its stored one; `isInside`: strings and bytes are preceded by their length. */
function canonical(from: Cursor, type: Type, isInside: boolean): Uint8Array {
  switch (type.kind) {
    case "INT":
      return from.take(4);
    case "LONG":
    case "INSTANT":
      return from.take(8);
    case "DOUBLE": {
      const bytes = from.take(8);
      return new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0) === 0 ? new Uint8Array(8) : bytes;
    }
    case "BOOLEAN":
      return from.take(1);
    case "STRING":
    case "BYTES": {
      const stored = from.take(from.varint());
      // TextEncoder writes U+FFFD for a lone surrogate, as the page wants it.
      const bytes = type.kind === "BYTES" ? stored : new TextEncoder().encode(text(stored));
      return isInside ? Buffer.concat([u32(bytes.length), bytes]) : bytes;
    }
    case "TUPLE":
    case "ROW": {
      const types = type["fields"] as readonly Type[];
      if (types.length === 0) from.take(1);
      return Buffer.concat(types.map((field) => canonical(from, field, true)));
    }
    case "LIST": {
      const count = from.varint();
      const elements = Array.from({ length: count }, () => canonical(from, type["element"] as Type, true));
      return Buffer.concat([u32(count), ...elements]);
    }
    default:
      return refuse(`${type.kind} is no type of keys`);
  }
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function onlyFields(of: object, ...names: readonly string[]): void {
  must(Object.keys(of).toSorted().join() === names.toSorted().join(), `fields ${Object.keys(of).join()}`);
}

function knownType(type: Type): void {
  const plain = ["INT", "LONG", "DOUBLE", "STRING", "BOOLEAN", "INSTANT", "BYTES"];
  if (plain.includes(type.kind)) return onlyFields(type, "kind");
  const inner: Record<string, readonly string[]> = {
    TUPLE: ["fields"],
    ROW: ["names", "fields"],
    LIST: ["element"],
    MAP: ["key", "value"],
  };
  const names = inner[type.kind] ?? refuse(`type ${type.kind} is not known`);
  onlyFields(type, "kind", ...names);
  for (const name of names) {
    if (name === "fields") (type["fields"] as readonly Type[]).forEach(knownType);
    else if (name !== "names") knownType(type[name] as Type);
  }
}

/** Reads the snapshot in `{jobDir}/chk-N` or a savepoint's directory; `read` gives an object by its path. Throws on anything odd. */
export function readIndependently(directory: string, read: (path: string) => Uint8Array): ReadSnapshot {
  const metadata = readMetadata(read(`${directory}/_metadata`));
  const base = metadata["base"] === "self" ? directory : directory.split("/").slice(0, -1).join("/");
  const objects = metadata["objects"] as readonly string[];
  const names = metadata["states"] as readonly { uid: string; stateName: string; kind: string; mode?: string }[];
  const states = new Map<string, { -readonly [K in keyof ReadState]: ReadState[K] } & { entries: ReadEntry[] }>();
  for (const vertex of metadata["vertices"] as readonly { subtasks: readonly (readonly Json[])[] }[]) {
    for (const [subtask, finished, ...parts] of vertex.subtasks) {
      must(finished === 0 || finished === 1, "finished is 0 or 1");
      for (const row of parts as readonly (readonly number[])[]) {
        const [state = -1, object = -1, offset = 0, length = 0, checksum = 0, itemCount = -1, first, last] = row;
        const name = names[state] ?? refuse("a part of no state");
        const bytes = read(`${base}/${objects[object] ?? refuse("a part in no object")}`).subarray(
          offset,
          offset + length,
        );
        must(bytes.length === length && crc(bytes) === checksum, `the checksum of ${name.uid}/${name.stateName}`);
        const part = readPart(bytes, subtask as number);
        const { uid, stateName, stateKind, mode, ttl } = part;
        must(uid === name.uid && stateName === name.stateName, "a part under another name");
        must(
          (stateKind === "operator-list") === (name.kind === "operator") && mode === name.mode,
          "a part of another kind",
        );
        must(String(part.keyGroups) === String(first === undefined ? undefined : [first, last]), "key groups");
        must(itemCount === -1 || itemCount === part.count, `${part.count} entries, not ${itemCount}`);
        const id = JSON.stringify([uid, stateName]);
        const sum = states.get(id) ?? { uid, stateName, stateKind, mode, ttl, entries: [] };
        states.set(id, sum);
        sum.entries.push(...part.entries);
      }
    }
  }
  return { metadata, states: [...states.values()] };
}

function readMetadata(bytes: Uint8Array): Record<string, Json> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  must(bytes.length >= 16 && Buffer.from(bytes.subarray(0, 4)).toString("latin1") === "SLC0", "no frame");
  must(view.getUint16(4) === 1 && view.getUint16(6) === 2, "not checkpoint metadata of version 1");
  const body = bytes.subarray(16);
  must(view.getUint32(8) === body.length && view.getUint32(12) === crc(body), "the frame is damaged");
  const metadata = JSON.parse(new TextDecoder().decode(body)) as Record<string, Json>;
  onlyFields(
    metadata,
    ...["checkpointId", "kind", "base", "lineage", "epoch", "attempt", "planDigest", "timestampMs", "isFinal"],
    ...["objects", "states", "vertices"],
  );
  return metadata;
}

interface Part extends ReadState {
  readonly keyGroups: readonly number[] | undefined;
  readonly count: number;
}

function readPart(bytes: Uint8Array, subtask: number): Part {
  const head = new Cursor(bytes);
  must(Buffer.from(head.take(4)).toString("latin1") === "SLKS", "no part");
  const [version, section] = [head.u16(), head.u16()];
  const [headerBytes, descriptionBytes, blockCount, checksum, flags] = [
    head.u32(),
    head.u32(),
    head.u32(),
    head.u32(),
    head.u32(),
  ];
  must(headerBytes <= bytes.length, "the header is cut off");
  const header = Uint8Array.from(bytes.subarray(0, headerBytes));
  header.fill(0, 20, 24);
  must(crc(header) === checksum, "the checksum of a header");
  must(version === 1 && flags === 0 && section >= 1 && section <= 3, `version ${version}, section ${section}`);
  must(headerBytes === 28 + descriptionBytes + 20 * blockCount, "sizes that do not add up");
  const description = JSON.parse(new TextDecoder().decode(head.take(descriptionBytes))) as Description;
  const read = section === 2 ? itemReader(description) : entryReader(description, section);
  const entries: ReadEntry[] = [];
  let count = 0;
  let offset = headerBytes;
  let before = -1n;
  for (let i = 0; i < blockCount; i += 1) {
    const [keyGroup, firstHash, entryCount, length, blockCrc] = [
      head.u32(),
      head.u32(),
      head.u32(),
      head.u32(),
      head.u32(),
    ];
    const block = bytes.subarray(offset, offset + length);
    must(block.length === length && crc(block) === blockCrc, "the checksum of a block");
    const from = new Cursor(block);
    let inBlock = 0;
    for (; !from.isAtEnd; inBlock += 1) {
      const { place, found } = read(from, keyGroup);
      must(place >= before, "entries out of order");
      must(inBlock > 0 || place === (BigInt(keyGroup) << 32n) + BigInt(firstHash), "the first order hash of a block");
      before = place;
      entries.push(...found.map((entry) => ({ subtask, ...entry })));
    }
    must(inBlock === entryCount && entryCount > 0, "the number of entries in a block");
    count += inBlock;
    offset += length;
  }
  must(offset === bytes.length, "the blocks do not end where the part ends");
  const { uid, stateName, stateKind, mode, ttl = null, keyGroups } = description;
  return { uid, stateName, stateKind, mode, ttl, keyGroups, count, entries };
}

/** Of any section; which fields must be there is checked by name. */
interface Description {
  readonly uid: string;
  readonly stateName: string;
  readonly stateKind: string;
  readonly mode?: string;
  readonly itemType?: Type | null;
  readonly keyType?: Type;
  readonly valueType?: Type;
  readonly ttl?: { readonly [name: string]: Json } | null;
  readonly namespace?: Json;
  readonly maxParallelism?: number;
  readonly keyGroups?: readonly [number, number];
}

interface Found {
  readonly place: bigint;
  readonly found: readonly Omit<ReadEntry, "subtask">[];
}

function itemReader(description: Description): (from: Cursor, keyGroup: number) => Found {
  onlyFields(description, "uid", "stateName", "stateKind", "mode", "itemType");
  const itemType = description.itemType ?? null;
  must(["split", "union", "broadcast"].includes(description.mode ?? ""), "a mode that is not known");
  if (itemType !== null) knownType(itemType);
  return (from) => {
    const tag = from.u8();
    const content = from.take(from.varint());
    must(tag === 1 || (tag === 0 && itemType === null), `an item with tag ${tag}`);
    if (tag === 0) return { place: 0n, found: [{ key: null, value: JSON.parse(text(content)) as Json }] };
    if (itemType === null) return { place: 0n, found: [{ key: null, value: hex(content) }] };
    const inside = new Cursor(content);
    const value = readValue(inside, itemType);
    must(inside.isAtEnd, "an item that goes on");
    return { place: 0n, found: [{ key: null, value }] };
  };
}

function entryReader(description: Description, section: number): (from: Cursor, keyGroup: number) => Found {
  onlyFields(
    description,
    ...["uid", "stateName", "stateKind", "keyType", "valueType", "ttl", "namespace", "maxParallelism", "keyGroups"],
  );
  const { keyType, valueType, stateKind, ttl, namespace, maxParallelism, keyGroups } =
    description as Required<Description>;
  knownType(keyType);
  knownType(valueType);
  if (ttl !== null) onlyFields(ttl, "ttlMs", "updateType", "stateVisibility");
  must(namespace === null, "namespaces are not known");
  const kinds = section === 3 ? ["timers"] : ["value", "list", "map", "reducing", "aggregating"];
  must(kinds.includes(stateKind), `state kind ${stateKind}`);
  const timed = (from: Cursor): { timeMs?: number } => (ttl === null ? {} : { timeMs: from.i64() });
  return (from, keyGroup) => {
    const start = from.at;
    const key = readValue(from, keyType);
    const end = from.at;
    from.at = start;
    const hash = murmur(canonical(from, keyType, false));
    must(from.at === end, "both encodings of a key end at the same byte");
    const group = Number(hash % BigInt(maxParallelism));
    must(group === keyGroup && group >= keyGroups[0] && group <= keyGroups[1], "a key in another key group");
    const place = (BigInt(group) << 32n) + orderHash(hash);
    if (stateKind === "list") {
      const elements = Array.from({ length: from.varint() }, () => {
        return { key, ...timed(from), value: readValue(from, valueType["element"] as Type) };
      });
      must(elements.length > 0, "an entry of a list without elements");
      return { place, found: elements };
    }
    if (stateKind === "map") {
      const mapKey = readValue(from, valueType["key"] as Type);
      return { place, found: [{ key, mapKey, ...timed(from), value: readValue(from, valueType["value"] as Type) }] };
    }
    return { place, found: [{ key, ...timed(from), value: readValue(from, valueType) }] };
  };
}
