// Functions with one and two inputs and rolling results, one operator at a time, and what planning says to wrong fields.

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

import { isFailure } from "@sluice/kit";
import {
  CoFlatMapFunction,
  CoMapFunction,
  CoProcessFunction,
  type Collector,
  OutputTag,
  RichFilterFunction,
  RichFlatMapFunction,
  RichMapFunction,
  type RuntimeContext,
  type SideOutputContext,
  type TypeDescriptor,
  Types,
  type OneInputOperator,
  type OperatorFactory,
  type TwoInputOperator,
} from "../model/index.ts";
import {
  aggregateFactory,
  type Aggregation,
  coFlatMapFactory,
  coMapFactory,
  coProcessFactory,
  filterFactory,
  flatMapFactory,
  type HarnessOptions,
  mapFactory,
  OperatorHarness,
  reduceFactory,
  testSubtask,
} from "./index.ts";

async function open(
  factory: OperatorFactory,
  options: HarnessOptions = {},
): Promise<OperatorHarness<OneInputOperator>> {
  if (factory.kind === "source") throw new Error("not a source");
  const operator = factory.create(testSubtask()) as OneInputOperator & TwoInputOperator;
  return new OperatorHarness<OneInputOperator>(operator, options).open();
}

describe("rich functions live from open to close", () => {
  const calls: string[] = [];
  class Add extends RichMapFunction<number, number> {
    #by = 0;
    override open(context: RuntimeContext): void {
      calls.push(`open ${context.operatorUid}`);
      this.#by = 10;
    }
    override map(value: number): number {
      return value + this.#by;
    }
    override close(): void {
      calls.push("close");
    }
  }

  test("map", async () => {
    const harness = await open(mapFactory(new Add() as RichMapFunction<unknown, unknown>));
    harness.process(1);
    await harness.operator.close(true);
    expect([harness.output, calls]).toEqual([[11], ["open operator-uid", "close"]]);
  });

  test("UF2: an instance serves one subtask", () => {
    const factory = mapFactory(new Add() as RichMapFunction<unknown, unknown>);
    if (factory.kind !== "oneInput") throw new Error("one input");
    factory.create(testSubtask());
    expect(() => factory.create(testSubtask({ subtaskIndex: 1 }))).toThrow(/already used/);
  });

  test("filter and flatMap", async () => {
    class Odd extends RichFilterFunction<unknown> {
      override filter(value: unknown): boolean {
        return (value as number) % 2 === 1;
      }
    }
    class Repeat extends RichFlatMapFunction<unknown, unknown> {
      override flatMap(value: unknown, out: Collector<unknown>): void {
        for (let i = 0; i < (value as number); i += 1) out.collect(value);
      }
    }
    const filter = await open(filterFactory(new Odd()));
    const rich = await open(flatMapFactory(new Repeat()));
    const plain = await open(
      flatMapFactory((value, out) => {
        for (const word of (value as string).split(" ")) out.collect(word);
      }),
    );
    for (const n of [1, 2, 3]) {
      filter.process(n);
      rich.process(n);
    }
    plain.process("a b  c");
    expect([filter.output, rich.output, plain.output]).toEqual([
      [1, 3],
      [1, 2, 2, 3, 3, 3],
      ["a", "b", "", "c"],
    ]);
    const promising = await open(flatMapFactory((async () => {}) as () => void));
    expect(() => promising.process(1)).toThrow(/returned a promise/);
  });
});

describe("two inputs without keys", () => {
  test("co-map, co-flatMap, co-process", async () => {
    class Both extends CoMapFunction<unknown, unknown, unknown> {
      override map1 = (value: unknown): string => `1:${String(value)}`;
      override map2 = (value: unknown): string => `2:${String(value)}`;
    }
    class Second extends CoFlatMapFunction<unknown, unknown, unknown> {
      override flatMap1(): void {}
      override flatMap2(value: unknown, out: Collector<unknown>): void {
        out.collect(value);
        out.collect(value);
      }
    }
    class Sides extends CoProcessFunction<unknown, unknown, unknown> {
      override processElement1(value: unknown, ctx: SideOutputContext): void {
        ctx.output(new OutputTag("side", Types.GENERIC()), value);
      }
      override processElement2(value: unknown, _ctx: SideOutputContext, out: Collector<unknown>): void {
        out.collect(value);
      }
    }
    const harnesses = await Promise.all([
      open(coMapFactory(() => new Both())),
      open(coFlatMapFactory(new Second())),
      open(coProcessFactory(new Sides())),
    ]);
    for (const harness of harnesses) {
      harness.process("a", 0);
      harness.process("b", 1);
    }
    expect(harnesses.map(({ output }) => output)).toEqual([["1:a", "2:b"], ["b", "b"], ["b"]]);
    expect(harnesses[2].sideOutputs.get("side")).toEqual(["a"]);
  });
});

const PAIR = Types.TUPLE(Types.STRING(), Types.LONG()).descriptor;
const ROW = Types.ROW({ key: Types.STRING(), n: Types.INT(), at: Types.INSTANT() }).descriptor;

async function rolled(
  options: {
    readonly aggregation: Aggregation;
    readonly type?: TypeDescriptor;
    readonly field?: string | number;
    readonly first?: boolean;
  },
  records: readonly unknown[],
): Promise<readonly unknown[]> {
  const { aggregation, type = Types.LONG().descriptor, field, first = true } = options;
  const selectors = [(record: unknown) => (Array.isArray(record) ? String(record[0]) : "")];
  const keyed = { keyType: Types.STRING(), selectors };
  const harness = await open(aggregateFactory({ aggregation, type, field, first }), { keyed });
  for (const record of records) harness.process(record);
  return harness.output;
}

describe("rolling results", () => {
  test("RO1: reduce gives the first record as it is, then combines", async () => {
    const factory = reduceFactory((a, b) => `${String(a)}${String(b)}`, { kind: "STRING" });
    const keyed = { keyType: Types.STRING(), selectors: [(text: string) => text.toLowerCase()] };
    const harness = await open(factory, { keyed });
    for (const text of ["a", "b", "A", "B", "a"]) harness.process(text);
    expect(harness.output).toEqual(["a", "b", "aA", "bB", "aAa"]);
  });

  test.each<readonly [Aggregation, number[], number[]]>([
    ["sum", [3, -1, 5], [3, 2, 7]],
    ["min", [3, 5, -1, 0], [3, 3, -1, -1]],
    ["max", [3, 1, 5, 4], [3, 3, 5, 5]],
    ["minBy", [3, 5, -1], [3, 3, -1]],
    ["maxBy", [3, 1, 5], [3, 3, 5]],
  ])("%s of plain numbers needs no field", async (aggregation, records, expected) => {
    expect(await rolled({ aggregation }, records)).toEqual(expected);
  });

  test("RO2: sum, min and max keep the other fields of the first record, minBy and maxBy do not", async () => {
    const type = Types.TUPLE(Types.STRING(), Types.STRING(), Types.LONG()).descriptor;
    const records = [
      ["k", "first", 2],
      ["k", "second", 1],
      ["other", "x", 0],
      ["k", "third", 5],
    ];
    const last = async (aggregation: Aggregation): Promise<unknown> =>
      (await rolled({ aggregation, type, field: 2 }, records)).at(-1);
    expect(await last("sum")).toEqual(["k", "first", 8]);
    expect(await last("min")).toEqual(["k", "first", 1]);
    expect(await last("max")).toEqual(["k", "first", 5]);
    expect(await last("minBy")).toEqual(["k", "second", 1]);
    expect(await last("maxBy")).toEqual(["k", "third", 5]);
  });

  test("minBy and maxBy keep the first of equal records, or the last", async () => {
    const records = [
      ["k", 1],
      ["k", 1],
    ];
    for (const aggregation of ["minBy", "maxBy"] as const) {
      const [, kept] = await rolled({ aggregation, type: PAIR, field: 1 }, records);
      const [, replaced] = await rolled({ aggregation, type: PAIR, field: 1, first: false }, records);
      expect([kept === records[0], replaced === records[1]]).toEqual([true, true]);
    }
  });

  test("rows by name; strings, times and NaN compare as in Java", async () => {
    const row = (key: string, n: number): unknown => ({ key, n, at: n * 10 });
    const rows = [row("b", 1), row("a", 2)];
    expect(await rolled({ aggregation: "min", type: ROW, field: "key" }, rows)).toEqual([
      row("b", 1),
      { key: "a", n: 1, at: 10 },
    ]);
    expect((await rolled({ aggregation: "maxBy", type: ROW, field: "at" }, rows)).at(-1)).toBe(rows[1]);
    const type: TypeDescriptor = { kind: "DOUBLE" };
    expect(await rolled({ aggregation: "max", type }, [1, NaN, 7])).toEqual([1, NaN, NaN]);
    expect(await rolled({ aggregation: "min", type }, [NaN, 2, NaN])).toEqual([NaN, 2, 2]);
  });

  test("RO3: what was emitted stays as it was", () =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: -100, max: 100 }), { minLength: 1 }), async (values) => {
        for (const aggregation of ["sum", "min", "max"] as const) {
          const results = await rolled(
            { aggregation, type: PAIR, field: 1 },
            values.map((n) => Object.freeze(["k", n])),
          );
          const model = values.map((_, i) => {
            const seen = values.slice(0, i + 1);
            if (aggregation === "sum") return seen.reduce((a, b) => a + b, 0);
            return aggregation === "min" ? Math.min(...seen) : Math.max(...seen);
          });
          expect(results).toEqual(model.map((n) => ["k", n]));
        }
      }),
      { numRuns: 30 },
    ));

  test.each<readonly [TypeDescriptor, number, string]>([
    [{ kind: "INT" }, 2 ** 31 - 1, "the sum of a record is 2147483648, which INT cannot hold"],
    [{ kind: "LONG" }, Number.MAX_SAFE_INTEGER, "the sum of a record is 9007199254740992, which LONG cannot hold"],
  ])("RO4: %j overflows with a failure", async (type, large, message) => {
    await expect(rolled({ aggregation: "sum", type }, [large, 1])).rejects.toMatchObject({
      code: "TYPE_MISMATCH",
      message,
    });
  });

  test.each<readonly [Aggregation, TypeDescriptor, string | number | undefined, string]>([
    ["sum", ROW, undefined, "sum() of a stream of ROW(key STRING, n INT, at INSTANT): no such field"],
    ["sum", ROW, "m", 'sum("m") of a stream of ROW(key STRING, n INT, at INSTANT): no such field'],
    ["sum", ROW, "key", 'sum("key") of a stream of ROW(key STRING, n INT, at INSTANT): field "key" is STRING'],
    ["sum", ROW, "at", 'sum("at") of a stream of ROW(key STRING, n INT, at INSTANT): field "at" is INSTANT'],
    ["max", PAIR, 2, "max(2) of a stream of TUPLE(STRING, LONG): no such field"],
    ["max", { kind: "LONG" }, "n", 'max("n") of a stream of LONG: its records have no fields'],
    ["max", { kind: "BYTES" }, undefined, "max() of a stream of BYTES: a record is BYTES"],
    ["min", { kind: "GENERIC" }, undefined, "min() of a stream of GENERIC: nothing is known about its records"],
  ])("%s of %j by %p is refused with a remedy", (aggregation, type, field, message) => {
    let thrown: unknown;
    try {
      aggregateFactory({ aggregation, type, field, first: true });
    } catch (error) {
      thrown = error;
    }
    expect(isFailure(thrown) && [thrown.code, thrown.message, thrown.remedy !== ""]).toEqual([
      "JOB_GRAPH_INVALID",
      message,
      true,
    ]);
  });

  test("reduce of records of no declared type is refused", () => {
    expect(() => reduceFactory((a) => a, { kind: "LIST", element: { kind: "GENERIC" } })).toThrow(
      "reduce of a stream of LIST(GENERIC): its last result is state, whose type is declared",
    );
  });
});
