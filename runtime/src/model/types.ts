// Declared types of records, keys and state: how values travel, hash and are stored.
//
// Invariants:
//   T1. A TypeDescriptor is plain JSON: plan, snapshot and channel carry the same description.
//   T2. Two descriptors are equal iff their canonical JSON is equal.
//   T3. Keys and state are never GENERIC.
//
// Not here: the codecs generated from a descriptor (network/, state/).

import { assert } from "@sluice/kit";

/** Plain-data description of a type (T1). Names follow Flink's `Types`. */
export type TypeDescriptor =
  | { readonly kind: "INT" | "LONG" | "DOUBLE" | "STRING" | "BOOLEAN" | "INSTANT" | "BYTES" | "GENERIC" }
  | { readonly kind: "TUPLE"; readonly fields: readonly TypeDescriptor[] }
  | { readonly kind: "ROW"; readonly names: readonly string[]; readonly fields: readonly TypeDescriptor[] }
  | { readonly kind: "LIST"; readonly element: TypeDescriptor }
  | { readonly kind: "MAP"; readonly key: TypeDescriptor; readonly value: TypeDescriptor };

export type TypeKind = TypeDescriptor["kind"];

/** A descriptor that remembers the TypeScript type of its values. */
export class TypeInformation<T> {
  readonly descriptor: TypeDescriptor;
  /** Only for inference; never set. */
  declare readonly valueType: T;

  constructor(descriptor: TypeDescriptor) {
    this.descriptor = descriptor;
  }
}

type ValueOf<I> = I extends TypeInformation<infer T> ? T : never;

/**
 * The declared types, named as in Flink's `Types`.
 * INT: 32-bit integer. LONG: safe integer as a JS number. INSTANT: milliseconds since the epoch as a JS number.
 * BYTES: Uint8Array. GENERIC: any value, for records only, never for keys or state (T3).
 */
export const Types = {
  INT: (): TypeInformation<number> => new TypeInformation({ kind: "INT" }),
  LONG: (): TypeInformation<number> => new TypeInformation({ kind: "LONG" }),
  DOUBLE: (): TypeInformation<number> => new TypeInformation({ kind: "DOUBLE" }),
  STRING: (): TypeInformation<string> => new TypeInformation({ kind: "STRING" }),
  BOOLEAN: (): TypeInformation<boolean> => new TypeInformation({ kind: "BOOLEAN" }),
  INSTANT: (): TypeInformation<number> => new TypeInformation({ kind: "INSTANT" }),
  BYTES: (): TypeInformation<Uint8Array> => new TypeInformation({ kind: "BYTES" }),
  GENERIC: <T = unknown>(): TypeInformation<T> => new TypeInformation({ kind: "GENERIC" }),
  /** A JS array with one declared type per position. */
  TUPLE: <const F extends readonly TypeInformation<unknown>[]>(
    ...fields: F
  ): TypeInformation<{ -readonly [I in keyof F]: ValueOf<F[I]> }> =>
    new TypeInformation({ kind: "TUPLE", fields: fields.map((f) => f.descriptor) }),
  /** A JS object with one declared type per property, in this order. */
  ROW: <F extends Readonly<Record<string, TypeInformation<unknown>>>>(
    fields: F,
  ): TypeInformation<{ -readonly [K in keyof F]: ValueOf<F[K]> }> => {
    const names = Object.keys(fields);
    assert(names.length > 0, "a ROW has at least one field");
    return new TypeInformation({
      kind: "ROW",
      names,
      fields: names.map((n) => (fields[n] as TypeInformation<unknown>).descriptor),
    });
  },
  LIST: <E>(element: TypeInformation<E>): TypeInformation<E[]> =>
    new TypeInformation({ kind: "LIST", element: element.descriptor }),
  MAP: <K, V>(key: TypeInformation<K>, value: TypeInformation<V>): TypeInformation<Map<K, V>> =>
    new TypeInformation({ kind: "MAP", key: key.descriptor, value: value.descriptor }),
} as const;

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
