// Declared types of records, keys and state: how values travel, hash and are stored.
//
// Invariants:
//   T1-T3 of type-descriptor.ts.
//
// Not here: the codecs generated from a descriptor (network/, state/).

import { assert, Failure } from "@sluice/kit";
import { valueToJson } from "./json-value.ts";
import { describeType } from "./type-descriptor.ts";
import type { JsonValue, TypeDescriptor } from "./type-descriptor.ts";

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
  /**
   * A JS object with one declared type per property, in this order. `defaults`: what a field that was added has in state
   * stored before; records must have all their fields.
   */
  ROW: <F extends Readonly<Record<string, TypeInformation<unknown>>>>(
    fields: F,
    options: { readonly defaults?: { readonly [K in keyof F]?: ValueOf<F[K]> } } = {},
  ): TypeInformation<{ -readonly [K in keyof F]: ValueOf<F[K]> }> => {
    const names = Object.keys(fields);
    assert(names.length > 0, "a ROW has at least one field");
    const types = names.map((n) => (fields[n] as TypeInformation<unknown>).descriptor);
    const row = { kind: "ROW", names, fields: types } as const;
    const given = Object.entries(options.defaults ?? {});
    if (given.length === 0) return new TypeInformation(row);
    return new TypeInformation({
      ...row,
      defaults: Object.fromEntries(given.map(([n, v]) => [n, defaultOf(row, n, v)])),
    });
  },
  LIST: <E>(element: TypeInformation<E>): TypeInformation<E[]> =>
    new TypeInformation({ kind: "LIST", element: element.descriptor }),
  MAP: <K, V>(key: TypeInformation<K>, value: TypeInformation<V>): TypeInformation<Map<K, V>> =>
    new TypeInformation({ kind: "MAP", key: key.descriptor, value: value.descriptor }),
} as const;

/** A declared default as the descriptor holds it; Failure TYPE_MISMATCH when it is none of the field. */
function defaultOf(row: Extract<TypeDescriptor, { readonly kind: "ROW" }>, name: string, value: unknown): JsonValue {
  const type = row.fields[row.names.indexOf(name)];
  if (type === undefined) {
    throw new Failure("TYPE_MISMATCH", {
      retry: "never",
      message: `a default for the field "${name}", which ${describeType(row)} does not have`,
      remedy: "give defaults for fields of the ROW",
    });
  }
  return valueToJson(type, value, name);
}
