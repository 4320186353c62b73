// What may differ between the type that a snapshot holds and the type that the job declares, and how old values become new ones.
//
//   ROW: a field added, with a default | a field removed | fields in another order
//   INT becomes LONG, anywhere in a value: fields, elements, values of maps
//   everything else is incompatible: other kinds, TUPLEs of another length, keys of maps; keys of state do not even come here
//
// Invariants:
//   EV1. compareTypes and evolvingReader agree: what is not incompatible can be read, what is incompatible is never read.
//   EV2. A default is a new value for every row that needs it: rows never share one.
//   EV3. Values that were read are of the declared type, exactly: writing them again is never refused.
//
// Not here: when types are compared (states.ts, task/), whole checkpoints against a job (checkpoint/compatibility.ts).

import { assert, Failure } from "@sluice/kit";
import type { ByteReader } from "@sluice/kit";
import { describeType, sameType, valueFromJson } from "../model/index.ts";
import type { TypeDescriptor } from "../model/index.ts";
import { codecFor } from "./codec.ts";

/** What became of a type. `path` is where in it, "" for the whole: `address.zip`, `[].amount`, `{}.count`. */
export type TypeChange =
  | { readonly type: "same" }
  | { readonly type: "evolves"; readonly changes: readonly string[] }
  | { readonly type: "incompatible"; readonly path: string; readonly reason: string };

/** Reads a value of the stored type as one of the declared type. */
export type ValueReader = (from: ByteReader) => unknown;

type Row = Extract<TypeDescriptor, { readonly kind: "ROW" }>;

/** Compares the type of stored values with the declared one. */
export function compareTypes(stored: TypeDescriptor, declared: TypeDescriptor, path = ""): TypeChange {
  if (sameType(stored, declared)) return { type: "same" };
  if (stored.kind === "INT" && declared.kind === "LONG")
    return { type: "evolves", changes: [`${at(path)}INT becomes LONG`] };
  if (stored.kind === "ROW" && declared.kind === "ROW") return compareRows(stored, declared, path);
  if (stored.kind === "TUPLE" && declared.kind === "TUPLE" && stored.fields.length === declared.fields.length) {
    return all(
      stored.fields.map((field, i) => compareTypes(field, declared.fields[i] as TypeDescriptor, inside(path, i))),
    );
  }
  if (stored.kind === "LIST" && declared.kind === "LIST")
    return compareTypes(stored.element, declared.element, inside(path, "[]"));
  if (stored.kind === "MAP" && declared.kind === "MAP") {
    if (!sameType(stored.key, declared.key)) {
      const types = `${describeType(stored.key)}, the job declares ${describeType(declared.key)}`;
      return {
        type: "incompatible",
        path,
        reason: `the snapshot has map keys of ${types}; keys never change their type`,
      };
    }
    return compareTypes(stored.value, declared.value, inside(path, "{}"));
  }
  const reason = `the snapshot holds ${describeType(stored)}, the job declares ${describeType(declared)}`;
  return { type: "incompatible", path, reason };
}

function compareRows(stored: Row, declared: Row, path: string): TypeChange {
  const changes: TypeChange[] = declared.names.map((name, i) => {
    const type = declared.fields[i] as TypeDescriptor;
    const before = fieldOf(stored, name);
    const where = inside(path, name);
    if (before !== undefined) return compareTypes(before, type, where);
    const value = declared.defaults?.[name];
    if (value === undefined) {
      const reason = `the job declares the new field ${describeType(type)} without a default for what was stored before`;
      return { type: "incompatible", path: where, reason };
    }
    return { type: "evolves", changes: [`${at(where)}added with default ${JSON.stringify(value)}`] };
  });
  for (const name of stored.names) {
    if (!declared.names.includes(name))
      changes.push({ type: "evolves", changes: [`${at(inside(path, name))}removed`] });
  }
  const change = all(changes);
  return change.type === "same" ? { type: "evolves", changes: [`${at(path)}fields in another order`] } : change;
}

function all(changes: readonly TypeChange[]): TypeChange {
  const broken = changes.find(({ type }) => type === "incompatible");
  if (broken !== undefined) return broken;
  const evolved = changes.flatMap((change) => (change.type === "evolves" ? change.changes : []));
  return evolved.length === 0 ? { type: "same" } : { type: "evolves", changes: evolved };
}

/** The reader of stored values (EV1-EV3). The types must not be incompatible. */
export function evolvingReader(stored: TypeDescriptor, declared: TypeDescriptor): ValueReader {
  if (sameType(stored, declared) || (stored.kind === "INT" && declared.kind === "LONG")) return plainReader(stored);
  if (stored.kind === "ROW" && declared.kind === "ROW") return rowReader(stored, declared);
  if (stored.kind === "TUPLE" && declared.kind === "TUPLE") {
    const fields = stored.fields.map((field, i) => evolvingReader(field, declared.fields[i] as TypeDescriptor));
    return (from) => fields.map((field) => field(from));
  }
  if (stored.kind === "LIST" && declared.kind === "LIST") {
    const element = evolvingReader(stored.element, declared.element);
    return (from) => Array.from({ length: from.count(1) }, () => element(from));
  }
  assert(stored.kind === "MAP" && declared.kind === "MAP", "EV1: incompatible types are never read");
  const key = codecFor(stored.key);
  const value = evolvingReader(stored.value, declared.value);
  return (from) => {
    const map = new Map<unknown, unknown>();
    for (let left = from.count(1); left > 0; left -= 1) {
      const k = key.read(from);
      map.set(k, value(from));
    }
    return map;
  };
}

function rowReader(stored: Row, declared: Row): ValueReader {
  const readers = stored.names.map((name, i) => {
    const before = stored.fields[i] as TypeDescriptor;
    const type = fieldOf(declared, name);
    return type === undefined ? plainReader(before) : evolvingReader(before, type);
  });
  // In the order of the declaration, as `write` and the users' own rows have them.
  const fields = declared.names.map((name, i) => {
    const from = stored.names.indexOf(name);
    const type = declared.fields[i] as TypeDescriptor;
    const value = declared.defaults?.[name];
    assert(from >= 0 || value !== undefined, "EV1: incompatible types are never read");
    return { name, from, initial: () => valueFromJson(type, value) }; // EV2
  });
  const isEmpty = stored.names.length === 0;
  return (from) => {
    if (isEmpty && from.u8() !== 0) throw from.failure("an empty value is one zero byte");
    const values = readers.map((read) => read(from));
    return Object.fromEntries(
      fields.map((field) => [field.name, field.from < 0 ? field.initial() : values[field.from]]),
    );
  };
}

function plainReader(type: TypeDescriptor): ValueReader {
  const codec = codecFor(type);
  return (from) => codec.read(from);
}

function fieldOf(row: Row, name: string): TypeDescriptor | undefined {
  const i = row.names.indexOf(name);
  return i < 0 ? undefined : row.fields[i];
}

function inside(path: string, name: string | number): string {
  return path === "" ? String(name) : `${path}.${name}`;
}

function at(path: string): string {
  return path === "" ? "" : `field "${path}": `;
}

/** The failure of a state whose stored values the job cannot read; `where` names operator and state. */
export function incompatibleState(
  where: string,
  types: { readonly stored: TypeDescriptor; readonly declared: TypeDescriptor },
): Failure {
  const change = compareTypes(types.stored, types.declared);
  assert(change.type === "incompatible", "EV1: only what is incompatible is refused");
  return new Failure("STATE_INCOMPATIBLE", {
    retry: "never",
    message: `${where}: ${at(change.path)}${change.reason}`,
    remedy: remedyOf(change, types.stored),
  });
}

function remedyOf(change: Extract<TypeChange, { readonly type: "incompatible" }>, stored: TypeDescriptor): string {
  if (change.reason.includes("without a default")) {
    const name = change.path.split(".").at(-1) ?? change.path;
    return `declare one: Types.ROW({ ... }, { defaults: { ${JSON.stringify(name)}: ... } })`;
  }
  return (
    `declare ${describeType(stored)} as before, or give the new state another name. What may change: a field of a ROW added with a ` +
    "default, a field removed, INT to LONG; keys never"
  );
}
