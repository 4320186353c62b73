// Descriptions of types as plain data, and what can be said of them.
//
// Invariants:
//   T1. A TypeDescriptor is plain JSON: plan, snapshot and channel carry the same description.
//   T2. Two descriptors are equal iff their canonical JSON is equal; defaults, which only old state asks for, aside.
//   T3. Keys and state are never GENERIC.
//
// Not here: how users declare types (types.ts), what may change between a stored and a declared type (state/evolution.ts).

/** What JSON can hold. */
export type JsonValue =
  string | number | boolean | null | readonly JsonValue[] | { readonly [name: string]: JsonValue };

/** Plain-data description of a type (T1). Names follow Flink's `Types`. */
export type TypeDescriptor =
  | { readonly kind: "INT" | "LONG" | "DOUBLE" | "STRING" | "BOOLEAN" | "INSTANT" | "BYTES" | "GENERIC" }
  | { readonly kind: "TUPLE"; readonly fields: readonly TypeDescriptor[] }
  | {
      readonly kind: "ROW";
      readonly names: readonly string[];
      readonly fields: readonly TypeDescriptor[];
      /** By field name, as json-value.ts writes values: what a field has in state that was stored before there was such a field. */
      readonly defaults?: Readonly<Record<string, JsonValue>>;
    }
  | { readonly kind: "LIST"; readonly element: TypeDescriptor }
  | { readonly kind: "MAP"; readonly key: TypeDescriptor; readonly value: TypeDescriptor };

export type TypeKind = TypeDescriptor["kind"];

/** Canonical text of a descriptor, as messages and equality use it (T2): `TUPLE(LONG, STRING)`. */
export function describeType(type: TypeDescriptor): string {
  switch (type.kind) {
    case "TUPLE":
      return `TUPLE(${type.fields.map(describeType).join(", ")})`;
    case "ROW":
      return `ROW(${type.names.map((name, i) => `${name} ${describeType(type.fields[i] as TypeDescriptor)}`).join(", ")})`;
    case "LIST":
      return `LIST(${describeType(type.element)})`;
    case "MAP":
      return `MAP(${describeType(type.key)}, ${describeType(type.value)})`;
    default:
      return type.kind;
  }
}

/** T2. */
export function sameType(a: TypeDescriptor, b: TypeDescriptor): boolean {
  return describeType(a) === describeType(b);
}

/** True when the type, or a type inside it, is GENERIC. */
export function containsGeneric(type: TypeDescriptor): boolean {
  switch (type.kind) {
    case "GENERIC":
      return true;
    case "TUPLE":
    case "ROW":
      return type.fields.some(containsGeneric);
    case "LIST":
      return containsGeneric(type.element);
    case "MAP":
      return containsGeneric(type.key) || containsGeneric(type.value);
    default:
      return false;
  }
}
