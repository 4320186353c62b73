// Types that change between two versions of a job: what can be read is read right, everything else is refused with its place.

import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { ByteReader } from "@sluice/kit";

import {
  AggregatingStateDescriptor,
  ListStateDescriptor,
  MapStateDescriptor,
  ReducingStateDescriptor,
  TypeInformation,
  Types,
  valueFromJson,
  valueToJson,
  ValueStateDescriptor,
} from "../model/index.ts";
import type { CheckpointId, JsonValue, TypeDescriptor } from "../model/index.ts";
import { codecFor, encodeValue } from "./codec.ts";
import { compareTypes, evolvingReader, incompatibleState } from "./evolution.ts";
import type { HeapKeyedStateBackend } from "./index.ts";
import { finish, makeBackend, placeOfKey, setKey, toRestored } from "./model.fixture.ts";

const { INT, LONG, DOUBLE, STRING, BOOLEAN, BYTES, INSTANT, ROW, LIST, MAP, TUPLE } = Types;
const AB = ROW({ a: INT(), b: STRING() });

test.each<[string, TypeInformation<unknown>, TypeInformation<unknown>, readonly string[]]>([
  ["INT to LONG", INT(), LONG(), ["INT becomes LONG"]],
  [
    "a field added",
    AB,
    ROW({ a: INT(), b: STRING(), c: LIST(STRING()) }, { defaults: { c: ["x"] } }),
    ['field "c": added with default ["x"]'],
  ],
  ["a field removed", AB, ROW({ b: STRING() }), ['field "a": removed']],
  ["fields in another order", AB, ROW({ b: STRING(), a: INT() }), ["fields in another order"]],
  [
    "everything at once",
    AB,
    ROW({ c: BOOLEAN(), a: LONG() }, { defaults: { c: false } }),
    ['field "c": added with default false', 'field "a": INT becomes LONG', 'field "b": removed'],
  ],
  ["in a LIST", LIST(LIST(INT())), LIST(LIST(LONG())), ['field "[].[]": INT becomes LONG']],
  ["in the values of a MAP", MAP(INT(), AB), MAP(INT(), ROW({ a: INT() })), ['field "{}.b": removed']],
  ["in a TUPLE", TUPLE(STRING(), INT()), TUPLE(STRING(), LONG()), ['field "1": INT becomes LONG']],
  ["in a ROW of a ROW", ROW({ r: AB }), ROW({ r: ROW({ b: STRING() }) }), ['field "r.a": removed']],
])("%s evolves", (_what, stored, declared, changes) => {
  expect(compareTypes(stored.descriptor, declared.descriptor)).toEqual({ type: "evolves", changes });
});

test("a default alone is no change", () => {
  const declared = ROW({ a: INT(), b: STRING() }, { defaults: { b: "x" } });
  expect(compareTypes(AB.descriptor, declared.descriptor)).toEqual({ type: "same" });
});

test.each<[string, TypeInformation<unknown>, TypeInformation<unknown>, RegExp]>([
  ["LONG to INT", LONG(), INT(), /the snapshot holds LONG, the job declares INT/],
  ["INT to DOUBLE", INT(), DOUBLE(), /the snapshot holds INT, the job declares DOUBLE/],
  ["LONG to INSTANT", LONG(), INSTANT(), /the snapshot holds LONG, the job declares INSTANT/],
  ["a new field without a default", AB, ROW({ a: INT(), b: STRING(), c: BYTES() }), /field "c": .* new field BYTES/],
  [
    "a field of another type",
    AB,
    ROW({ a: INT(), b: INT() }),
    /field "b": the snapshot holds STRING, the job dec.* INT/,
  ],
  ["deep inside", MAP(INT(), LIST(ROW({ x: AB }))), MAP(INT(), LIST(ROW({ x: INT() }))), /field "\{\}\.\[\]\.x": /],
  ["a longer TUPLE", TUPLE(INT()), TUPLE(INT(), INT()), /holds TUPLE\(INT\), the job declares TUPLE\(INT, INT\)/],
  ["keys of a MAP", MAP(INT(), INT()), MAP(LONG(), INT()), /map keys of INT, .* LONG; keys never change their type/],
  ["LIST to MAP", LIST(INT()), MAP(INT(), INT()), /the snapshot holds LIST\(INT\), the job declares MAP\(INT, INT\)/],
])("%s is incompatible, and the failure says where, what and what to do", (_what, stored, declared, message) => {
  const types = { stored: stored.descriptor, declared: declared.descriptor };
  expect(compareTypes(types.stored, types.declared).type).toBe("incompatible");
  const failure = incompatibleState('operator uid o, state "s"', types);
  expect(failure).toMatchObject({ code: "STATE_INCOMPATIBLE", message: expect.stringMatching(message) });
  expect(failure.message).toMatch(/^operator uid o, state "s": /u);
  expect(failure.remedy).toMatch(/default/u);
});

test("a default that is none of its field is refused where it is declared", () => {
  expect(() => ROW({ a: INT() }, { defaults: { a: 1.5 } })).toThrow(/"a": 1.5 is not INT/u);
  expect(() => ROW({ a: INT() }, { defaults: { b: 1 } as never })).toThrow(
    /the field "b", which ROW\(a INT\) does not have/u,
  );
});

/** A type, how to draw its values, and a type that it may become. */
interface Evolution {
  readonly stored: TypeDescriptor;
  readonly declared: TypeDescriptor;
}

const same = (type: TypeInformation<unknown>): Evolution => ({ stored: type.descriptor, declared: type.descriptor });
const leaf: fc.Arbitrary<Evolution> = fc.oneof(
  fc.constantFrom(INT(), LONG(), DOUBLE(), STRING(), BOOLEAN(), BYTES(), INSTANT()).map(same),
  fc.constant({ stored: INT().descriptor, declared: LONG().descriptor }),
);
const DEFAULTS: readonly (readonly [TypeDescriptor, JsonValue])[] = [
  [INT().descriptor, 7],
  [LIST(STRING()).descriptor, ["x"]],
  [MAP(STRING(), DOUBLE()).descriptor, [["k", "NaN"]]],
];
const { evolution } = fc.letrec<{ evolution: Evolution }>((tie) => ({
  evolution: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    leaf,
    tie("evolution").map(({ stored, declared }): Evolution => {
      return { stored: { kind: "LIST", element: stored }, declared: { kind: "LIST", element: declared } };
    }),
    tie("evolution").map(({ stored, declared }): Evolution => {
      const key = STRING().descriptor;
      return { stored: { kind: "MAP", key, value: stored }, declared: { kind: "MAP", key, value: declared } };
    }),
    fc.array(tie("evolution"), { maxLength: 3 }).map((fields): Evolution => {
      return {
        stored: { kind: "TUPLE", fields: fields.map((f) => f.stored) },
        declared: { kind: "TUPLE", fields: fields.map((f) => f.declared) },
      };
    }),
    fc
      .array(fc.record({ of: tie("evolution"), became: fc.constantFrom("kept", "removed", "added") }), { maxLength: 4 })
      .chain((fields) =>
        fc.shuffledSubarray(fields, { minLength: fields.length }).map((shuffled): Evolution => {
          const nameOf = (field: (typeof fields)[number]): string => `f${fields.indexOf(field)}`;
          const before = fields.filter(({ became }) => became !== "added");
          const after = shuffled.filter(({ became }) => became !== "removed");
          const added = (field: (typeof fields)[number]): (typeof DEFAULTS)[number] =>
            DEFAULTS[fields.indexOf(field) % DEFAULTS.length] as (typeof DEFAULTS)[number];
          const typeAfter = (field: (typeof fields)[number]): TypeDescriptor =>
            field.became === "added" ? added(field)[0] : field.of.declared;
          const defaults = after
            .filter(({ became }) => became === "added")
            .map((f) => [nameOf(f), added(f)[1]] as const);
          return {
            stored: { kind: "ROW", names: before.map(nameOf), fields: before.map((f) => f.of.stored) },
            declared: {
              kind: "ROW",
              names: after.map(nameOf),
              fields: after.map(typeAfter),
              defaults: Object.fromEntries(defaults),
            },
          };
        }),
      ),
  ),
}));

function valuesOf(type: TypeDescriptor): fc.Arbitrary<unknown> {
  switch (type.kind) {
    case "INT":
      return fc.integer();
    case "LONG":
    case "INSTANT":
      return fc.maxSafeInteger();
    case "DOUBLE":
      return fc.double();
    case "STRING":
      return fc.string({ unit: "binary", maxLength: 5 });
    case "BOOLEAN":
      return fc.boolean();
    case "BYTES":
      return fc.uint8Array({ maxLength: 5 });
    case "TUPLE":
      return fc.tuple(...type.fields.map(valuesOf));
    case "ROW":
      return fc.tuple(...type.fields.map(valuesOf)).map((values) => {
        return Object.fromEntries(values.map((value, i) => [type.names[i] as string, value]));
      });
    case "LIST":
      return fc.array(valuesOf(type.element), { maxLength: 3 });
    case "MAP":
      return fc
        .array(fc.tuple(valuesOf(type.key), valuesOf(type.value)), { maxLength: 3 })
        .map((pairs) => new Map(pairs));
    case "GENERIC":
      throw new Error("no values of GENERIC are stored");
  }
}

/** What becomes of a value, told over the values themselves instead of their bytes. */
function expectedOf(value: unknown, stored: TypeDescriptor, declared: TypeDescriptor): unknown {
  if (stored.kind === "LIST" && declared.kind === "LIST")
    return (value as readonly unknown[]).map((element) => expectedOf(element, stored.element, declared.element));
  if (stored.kind === "MAP" && declared.kind === "MAP")
    return new Map(
      [...(value as Map<unknown, unknown>)].map(([k, v]) => [k, expectedOf(v, stored.value, declared.value)]),
    );
  if (stored.kind === "TUPLE" && declared.kind === "TUPLE") {
    return (value as readonly unknown[]).map((field, i) => {
      return expectedOf(field, stored.fields[i] as TypeDescriptor, declared.fields[i] as TypeDescriptor);
    });
  }
  if (stored.kind !== "ROW" || declared.kind !== "ROW") return value;
  return Object.fromEntries(
    declared.names.map((name, i) => {
      const type = declared.fields[i] as TypeDescriptor;
      const before = stored.fields[stored.names.indexOf(name)];
      const field = (value as Readonly<Record<string, unknown>>)[name];
      return [
        name,
        before === undefined ? valueFromJson(type, declared.defaults?.[name]) : expectedOf(field, before, type),
      ];
    }),
  );
}

test("EV1, EV3: what evolves is read as values of the declared type, with what it had and its defaults", () => {
  const scenario = evolution.chain((e) => valuesOf(e.stored).map((value) => ({ ...e, value })));
  fc.assert(
    fc.property(scenario, ({ stored, declared, value }) => {
      expect(compareTypes(stored, declared).type).not.toBe("incompatible");
      const from = new ByteReader(encodeValue(codecFor(stored), value), { what: "value" });
      const read = evolvingReader(stored, declared)(from);
      from.expectEnd();
      expect(read).toEqual(expectedOf(value, stored, declared));
      expect(() => encodeValue(codecFor(declared), read)).not.toThrow();
    }),
    { numRuns: 500 },
  );
});

const KEY = STRING().descriptor;
const typed = (descriptor: TypeDescriptor): TypeInformation<unknown> => new TypeInformation(descriptor);

/** The same state under two types, with what a key has in it put in and read out. */
interface Kind {
  readonly name: string;
  declare(backend: HeapKeyedStateBackend, type: TypeDescriptor): Handle;
}

interface Handle {
  put(values: readonly unknown[]): void;
  get(): readonly unknown[];
}

const KINDS: readonly Kind[] = [
  {
    name: "value",
    declare: (backend, type) => {
      const state = backend.getState(new ValueStateDescriptor("s", typed(type)));
      return { put: ([value]) => state.update(value), get: () => [state.value()] };
    },
  },
  {
    name: "list",
    declare: (backend, type) => {
      const state = backend.getListState(new ListStateDescriptor("s", typed(type)));
      return { put: (values) => state.update(values), get: () => [...state.get()] };
    },
  },
  {
    name: "map",
    declare: (backend, type) => {
      const state = backend.getMapState(new MapStateDescriptor("s", INT(), typed(type)));
      return { put: (values) => values.forEach((value, i) => state.put(i, value)), get: () => [...state.values()] };
    },
  },
  {
    name: "reducing",
    declare: (backend, type) => {
      const state = backend.getReducingState(new ReducingStateDescriptor("s", (a: unknown) => a, typed(type)));
      return { put: ([value]) => state.add(value), get: () => [state.get()] };
    },
  },
  {
    name: "aggregating",
    declare: (backend, type) => {
      const state = backend.getAggregatingState(new AggregatingStateDescriptor("s", keepLast, typed(type)));
      return { put: ([value]) => state.add(value), get: () => [state.get()] };
    },
  },
];
const keepLast = {
  createAccumulator: (): unknown => undefined,
  add: (value: unknown): unknown => value,
  getResult: (accumulator: unknown): unknown => accumulator,
  merge: (a: unknown): unknown => a,
};

test("HB3, RR3: states of every kind become what the job declares, over any ranges, and stay so", () => {
  const scenario = fc
    .tuple(fc.constantFrom(...KINDS), evolution)
    .chain(([kind, e]) =>
      fc
        .array(fc.array(valuesOf(e.stored), { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 8 })
        .map((contents) => ({ kind, ...e, contents })),
    );
  fc.assert(
    fc.property(scenario, ({ kind, stored, declared, contents }) => {
      const before = makeBackend(KEY);
      const state = kind.declare(before, stored);
      contents.forEach((values, i) => {
        setKey(before, KEY, `k${i}`);
        state.put(values);
      });
      const parts = toRestored(finish(before.snapshot(1 as CheckpointId)));
      let found = 0;
      for (const range of [
        [0, 5],
        [6, 15],
      ] as const) {
        const evolved = makeBackend(KEY, range);
        evolved.restore(parts);
        const handle = kind.declare(evolved, declared);
        evolved.opened();
        const again = makeBackend(KEY, range);
        again.restore(toRestored(finish(evolved.snapshot(2 as CheckpointId))));
        const handleAgain = kind.declare(again, declared);
        contents.forEach((values, i) => {
          if (!isIn(range, `k${i}`)) return;
          const expected = (kind.name === "list" || kind.name === "map" ? values : values.slice(0, 1)).map((value) =>
            expectedOf(value, stored, declared),
          );
          setKey(evolved, KEY, `k${i}`);
          expect(handle.get()).toEqual(expected);
          setKey(again, KEY, `k${i}`);
          expect(handleAgain.get()).toEqual(expected);
          found += 1;
        });
      }
      expect(found).toBe(contents.length);
    }),
    { numRuns: 200 },
  );
});

function isIn([first, last]: readonly [number, number], key: string): boolean {
  const group = Math.floor(placeOfKey(KEY, key) / 2 ** 32);
  return group >= first && group <= last;
}

test("HB3: what cannot evolve is refused when it is declared, and so is what is declared too late", () => {
  const before = makeBackend(KEY);
  setKey(before, KEY, "k");
  before.getState(new ValueStateDescriptor("s", AB)).update({ a: 1, b: "x" });
  const parts = toRestored(finish(before.snapshot(1 as CheckpointId)));
  const restored = (): HeapKeyedStateBackend => {
    const backend = makeBackend(KEY);
    backend.restore(parts);
    return backend;
  };
  const declare = (backend: HeapKeyedStateBackend, type: TypeInformation<unknown>): unknown =>
    backend.getState(new ValueStateDescriptor("s", type));
  expect(() => declare(restored(), ROW({ a: STRING() }))).toThrow(
    /^operator uid op-1, state "s": field "a": the snapshot holds INT, the job declares STRING$/u,
  );
  expect(() => restored().getListState(new ListStateDescriptor("s", AB))).toThrow(
    /the snapshot holds ROW\(a INT, b STRING\), the job declares list state of LIST/u,
  );
  const late = restored();
  late.opened();
  expect(() => declare(late, ROW({ a: LONG() }))).toThrow(/declared only while records are processed/u);
  const twice = restored();
  declare(twice, ROW({ a: LONG() }));
  expect(() => declare(twice, AB)).toThrow(/declared twice, as ROW\(a LONG\) and as ROW\(a INT, b STRING\)/u);
  // Not asked for: stored again as it was (HB2), and an empty state may still change.
  const untouched = restored();
  untouched.opened();
  expect(finish(untouched.snapshot(2 as CheckpointId))[0]?.itemCount).toBe(1);
  const elsewhere = makeBackend(KEY, [0, 0]);
  elsewhere.restore(parts);
  expect(() => declare(elsewhere, ROW({ a: STRING() }))).toThrow(/the job declares STRING/u);
});

test("EV2: rows do not share their defaults", () => {
  const declared = ROW({ a: INT(), tags: LIST(STRING()) }, { defaults: { tags: [] } });
  const stored = LIST(ROW({ a: INT() })).descriptor;
  const bytes = encodeValue(codecFor(stored), [{ a: 1 }, { a: 2 }]);
  const rows = evolvingReader(stored, LIST(declared).descriptor)(new ByteReader(bytes, { what: "rows" })) as {
    tags: string[];
  }[];
  rows[0]?.tags.push("x");
  expect(rows.map((row) => row.tags)).toEqual([["x"], []]);
});

test("JV1, JV2: values survive as JSON, text included, and nothing else is taken for a value", () => {
  const typed = evolution.chain(({ stored: type }) => valuesOf(type).map((value) => ({ type, value })));
  fc.assert(
    fc.property(typed, ({ type, value }) => {
      const json = JSON.parse(JSON.stringify(valueToJson(type, value))) as unknown;
      expect(encodeValue(codecFor(type), valueFromJson(type, json))).toEqual(encodeValue(codecFor(type), value));
    }),
  );
  const typeOf = fc.tuple(evolution, fc.jsonValue());
  fc.assert(
    fc.property(typeOf, ([{ stored: type }, json]) => {
      let value: unknown;
      try {
        value = valueFromJson(type, json);
      } catch (thrown) {
        expect(thrown).toMatchObject({ code: "TYPE_MISMATCH" });
        return;
      }
      expect(codecFor(type).check(value)).toBeUndefined();
    }),
  );
});
