// What a snapshot part says about itself: section type, operator, state, types. JSON in UTF-8, fields in the order below.
//
//   keyed-run, timers: {uid, stateName, stateKind, keyType, valueType, ttl, namespace, maxParallelism, keyGroups}
//   operator-list:     {uid, stateName, stateKind, mode, itemType}
//   type               {kind} | {kind: TUPLE, fields} | {kind: ROW, names, fields} | {kind: LIST, element} | {kind: MAP, key, value}
//
// Invariants:
//   DE1. A reader refuses a section, a field, a kind or a type that it does not know: FORMAT_UNSUPPORTED, never a guess.
//   DE2. The same state gives the same bytes: the order of fields is fixed, and a stored type has no defaults.
//
// Not here: the bytes around it (format.ts), what may differ between a stored and a declared type (evolution.ts).

import { assert, Failure, toFailure } from "@sluice/kit";
import { canBeKey, describeType } from "../model/index.ts";
import type { OperatorStateMode, StateTtlConfig, StoredStateKind, TypeDescriptor } from "../model/index.ts";

const TYPE_DEPTH_MAX = 64;

/** Numbers of the section types; those that no release writes yet are taken, so that they never mean something else. */
export const SECTIONS = { "keyed-run": 1, "operator-list": 2, timers: 3 } as const;
export const RESERVED_SECTIONS: Readonly<Record<number, string>> = {
  4: "delta run",
  5: "RocksDB files",
  6: "channel state",
  7: "part index",
};

export type SectionType = keyof typeof SECTIONS;

/** Keyed state, or timers, of the key groups of one subtask. */
export interface KeyedPartDescription {
  readonly section: "keyed-run" | "timers";
  readonly uid: string;
  readonly stateName: string;
  readonly stateKind: StoredStateKind;
  readonly keyType: TypeDescriptor;
  /** What is stored per key: of a list the LIST of its elements, of a map the MAP, of timers INSTANT. */
  readonly valueType: TypeDescriptor;
  /** Not null: values (of lists and maps: elements) are stored with the time of the access that their life counts from. */
  readonly ttl: Required<StateTtlConfig> | null;
  /** Nothing but null yet: the type of the namespace between key and value. */
  readonly namespace: null;
  readonly maxParallelism: number;
  readonly keyGroups: readonly [first: number, last: number];
}

/** The items of one operator state of one subtask. */
export interface OperatorPartDescription {
  readonly section: "operator-list";
  readonly uid: string;
  readonly stateName: string;
  readonly stateKind: "operator-list";
  readonly mode: OperatorStateMode;
  /** The type of all items, each in its encoding; null: items are JSON or bytes as the operator likes. */
  readonly itemType: TypeDescriptor | null;
}

/** What a part says about itself. */
export type PartDescription = KeyedPartDescription | OperatorPartDescription;

const KEYED_FIELDS = [
  "uid",
  "stateName",
  "stateKind",
  "keyType",
  "valueType",
  "ttl",
  "namespace",
  "maxParallelism",
  "keyGroups",
] as const;
const OPERATOR_FIELDS = ["uid", "stateName", "stateKind", "mode", "itemType"] as const;
const KEYED_KINDS: readonly unknown[] = ["value", "list", "map", "reducing", "aggregating"];
const MODES: readonly unknown[] = ["split", "union", "broadcast"];

/** The description as it is stored (DE2). */
export function writeDescription(description: PartDescription): Uint8Array {
  const { uid, stateName, stateKind } = description;
  if (description.section === "operator-list") {
    const { mode, itemType } = description;
    const json = { uid, stateName, stateKind, mode, itemType: itemType === null ? null : storedType(itemType) };
    return new TextEncoder().encode(JSON.stringify(json));
  }
  const { keyType, valueType, ttl, namespace, maxParallelism, keyGroups } = description;
  assert((stateKind === "timers") === (description.section === "timers"), "timers have a section of their own");
  const json = {
    uid,
    stateName,
    stateKind,
    keyType: storedType(keyType),
    valueType: storedType(valueType),
    ttl: ttl === null ? null : { ttlMs: ttl.ttlMs, updateType: ttl.updateType, stateVisibility: ttl.stateVisibility },
    namespace,
    maxParallelism,
    keyGroups,
  };
  return new TextEncoder().encode(JSON.stringify(json));
}

/** The description in a part of this section number, whose checksum was verified. @throws Failure FORMAT_UNSUPPORTED (DE1) */
export function readDescription(section: number, bytes: Uint8Array, where: string): PartDescription {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (thrown) {
    throw unsupported(where, `its description is not JSON: ${toFailure(thrown).message}`);
  }
  const d = (typeof json === "object" && json !== null ? json : {}) as Readonly<Record<string, unknown>>;
  switch (section) {
    case SECTIONS["keyed-run"]:
      return readKeyed("keyed-run", d, where);
    case SECTIONS.timers:
      return readKeyed("timers", d, where);
    case SECTIONS["operator-list"]:
      return readOperator(d, where);
    default:
      throw unsupported(where, unknownSection(section));
  }
}

/** `section type 4 (delta run), which this release does not know`. */
export function unknownSection(section: number): string {
  const name = RESERVED_SECTIONS[section];
  return `it is of section type ${section}${name === undefined ? "" : ` (${name})`}, which this release does not know`;
}

function readKeyed(
  section: KeyedPartDescription["section"],
  d: Readonly<Record<string, unknown>>,
  where: string,
): KeyedPartDescription {
  refuseUnknownFields(d, KEYED_FIELDS, where);
  const { uid, stateName } = readNames(d, where);
  const { stateKind, maxParallelism, keyGroups } = d;
  const isKnown = section === "timers" ? stateKind === "timers" : KEYED_KINDS.includes(stateKind);
  if (!isKnown) throw unsupported(where, `state kind ${JSON.stringify(stateKind)} is not known to this release`);
  const [first, last]: readonly unknown[] = Array.isArray(keyGroups) && keyGroups.length === 2 ? keyGroups : [];
  if (!isCount(first) || !isCount(last) || !isCount(maxParallelism) || first > last || last >= maxParallelism) {
    throw unsupported(where, "its description has no valid range of key groups");
  }
  if (d["namespace"] !== null) throw unsupported(where, "it has namespaces, which this release does not know");
  const kind = stateKind as StoredStateKind;
  const valueType = readType(d["valueType"], where);
  if (!fitsKind(kind, valueType)) throw unsupported(where, `${describeType(valueType)} is no type of ${kind} state`);
  return {
    section,
    uid,
    stateName,
    stateKind: kind,
    keyType: readType(d["keyType"], where),
    valueType,
    ttl: readTtl(d["ttl"], where),
    namespace: null,
    maxParallelism,
    keyGroups: [first, last],
  };
}

function fitsKind(kind: StoredStateKind, type: TypeDescriptor): boolean {
  if (kind === "list") return type.kind === "LIST";
  if (kind === "map") return type.kind === "MAP" && canBeKey(type.key);
  return kind !== "timers" || type.kind === "INSTANT";
}

function readOperator(d: Readonly<Record<string, unknown>>, where: string): OperatorPartDescription {
  refuseUnknownFields(d, OPERATOR_FIELDS, where);
  const { uid, stateName } = readNames(d, where);
  const { stateKind, mode, itemType } = d;
  if (stateKind !== "operator-list" || !MODES.includes(mode)) {
    const found = `state kind ${JSON.stringify(stateKind)}, mode ${JSON.stringify(mode)}`;
    throw unsupported(where, `${found} is not known to this release`);
  }
  return {
    section: "operator-list",
    uid,
    stateName,
    stateKind,
    mode: mode as OperatorStateMode,
    itemType: itemType === null ? null : readType(itemType, where),
  };
}

function refuseUnknownFields(d: Readonly<Record<string, unknown>>, fields: readonly string[], where: string): void {
  const unknown = Object.keys(d).find((name) => !fields.includes(name));
  const missing = fields.find((name) => !Object.hasOwn(d, name));
  if (unknown !== undefined) throw unsupported(where, `its description has the unknown field "${unknown}"`);
  if (missing !== undefined) throw unsupported(where, `its description lacks the field "${missing}"`);
}

function readNames(
  d: Readonly<Record<string, unknown>>,
  where: string,
): { readonly uid: string; readonly stateName: string } {
  const { uid, stateName } = d;
  if (typeof uid === "string" && typeof stateName === "string") return { uid, stateName };
  throw unsupported(where, "its description names no operator and state");
}

function readTtl(json: unknown, where: string): KeyedPartDescription["ttl"] {
  if (json === null) return null;
  const d = (typeof json === "object" ? json : {}) as Readonly<Record<string, unknown>>;
  refuseUnknownFields(d, ["ttlMs", "updateType", "stateVisibility"], where);
  const { ttlMs, updateType, stateVisibility } = d;
  const isKnown =
    typeof ttlMs === "number" &&
    ttlMs > 0 &&
    (updateType === "OnCreateAndWrite" || updateType === "OnReadAndWrite") &&
    (stateVisibility === "NeverReturnExpired" || stateVisibility === "ReturnExpiredIfNotCleanedUp");
  if (!isKnown) throw unsupported(where, `its time to live is not known to this release: ${JSON.stringify(json)}`);
  return { ttlMs, updateType, stateVisibility };
}

function readType(json: unknown, where: string): TypeDescriptor {
  const type = parseType(json, 0);
  if (type === undefined) throw unsupported(where, `it names a type that this release does not know: ${shown(json)}`);
  return type;
}

function shown(json: unknown): string {
  const text = JSON.stringify(json) ?? "none";
  return text.length > 100 ? `${text.slice(0, 100)}...` : text;
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 32768;
}

/** The failure of a reader that meets what it does not know. */
export function unsupported(where: string, what: string): Failure {
  return new Failure("FORMAT_UNSUPPORTED", {
    retry: "never",
    message: `${where} cannot be read: ${what}`,
    remedy: "read it with the release that wrote it, or a newer one",
  });
}

/** The type without what is no part of it in a snapshot (DE2). */
export function storedType(type: TypeDescriptor): TypeDescriptor {
  switch (type.kind) {
    case "TUPLE":
      return { kind: "TUPLE", fields: type.fields.map(storedType) };
    case "ROW":
      return { kind: "ROW", names: type.names, fields: type.fields.map(storedType) };
    case "LIST":
      return { kind: "LIST", element: storedType(type.element) };
    case "MAP":
      return { kind: "MAP", key: storedType(type.key), value: storedType(type.value) };
    default:
      return { kind: type.kind };
  }
}

/** A TypeDescriptor from stored JSON, or undefined. */
function parseType(json: unknown, depth: number): TypeDescriptor | undefined {
  if (typeof json !== "object" || json === null || depth > TYPE_DEPTH_MAX) return undefined;
  const d = json as Readonly<Record<string, unknown>>;
  const hasOnly = (...names: readonly string[]): boolean => Object.keys(d).length === names.length + 1;
  switch (d["kind"]) {
    case "INT":
    case "LONG":
    case "DOUBLE":
    case "STRING":
    case "BOOLEAN":
    case "INSTANT":
    case "BYTES":
      return hasOnly() ? { kind: d["kind"] } : undefined;
    case "TUPLE": {
      const fields = parseTypes(d["fields"], depth);
      return fields === undefined || !hasOnly("fields") ? undefined : { kind: "TUPLE", fields };
    }
    case "ROW": {
      const fields = parseTypes(d["fields"], depth);
      const { names } = d;
      if (fields === undefined || !Array.isArray(names) || names.length !== fields.length) return undefined;
      const isKnown = hasOnly("names", "fields") && names.every((name) => typeof name === "string");
      return isKnown ? { kind: "ROW", names, fields } : undefined;
    }
    case "LIST": {
      const element = parseType(d["element"], depth + 1);
      return element === undefined || !hasOnly("element") ? undefined : { kind: "LIST", element };
    }
    case "MAP": {
      const key = parseType(d["key"], depth + 1);
      const value = parseType(d["value"], depth + 1);
      return key === undefined || value === undefined || !hasOnly("key", "value")
        ? undefined
        : { kind: "MAP", key, value };
    }
    default:
      return undefined;
  }
}

function parseTypes(json: unknown, depth: number): readonly TypeDescriptor[] | undefined {
  if (!Array.isArray(json)) return undefined;
  const types: TypeDescriptor[] = [];
  for (const item of json as readonly unknown[]) {
    const type = parseType(item, depth + 1);
    if (type === undefined) return undefined;
    types.push(type);
  }
  return types;
}
