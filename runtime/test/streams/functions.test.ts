// Functions of the DataStream API in whole jobs: what the graph needs (uids, types) and what arrives.

import { describe, expect, test } from "@jest/globals";

import {
  CoMapFunction,
  type Collector,
  GeneratorSource,
  RichFlatMapFunction,
  type RuntimeContext,
  Types,
  type ValueState,
  ValueStateDescriptor,
} from "../../src/index.ts";
import { ArraySink, Slots } from "../support/slots.ts";

const words = (): GeneratorSource<string> =>
  new GeneratorSource({ count: 100, generate: (i) => `w${i % 4} w${i % 2}`, type: Types.STRING() });

/** The last count of each word. */
function lastCounts(records: readonly (readonly [string, number])[]): Readonly<Record<string, number>> {
  return Object.fromEntries(records);
}

describe("a word count in three spellings", () => {
  const expected = { w0: 75, w1: 75, w2: 25, w3: 25 };

  test("flatMap and sum", async () => {
    const sink = new ArraySink<[string, number]>();
    const slots = await Slots.start((env) => {
      env.setParallelism(2);
      env
        .fromSource(words())
        .uid("words")
        .flatMap<[string, number]>(
          (line, out) => line.split(" ").forEach((word) => out.collect([word, 1])),
          Types.TUPLE(Types.STRING(), Types.LONG()),
        )
        .keyBy(([word]) => word, Types.STRING())
        .sum(1)
        .uid("sum")
        .sinkTo(sink);
    });
    await slots.finish();
    expect(sink.records).toHaveLength(200);
    expect(lastCounts(sink.records.toSorted(([, a], [, b]) => a - b))).toEqual(expected);
  });

  test("keyed rich flatMap with state of its own", async () => {
    class Count extends RichFlatMapFunction<string, [string, number]> {
      #count!: ValueState<number>;
      override open(context: RuntimeContext): void {
        this.#count = context.getState(new ValueStateDescriptor("count", Types.LONG()));
      }
      override flatMap(word: string, out: Collector<[string, number]>): void {
        const count = (this.#count.value() ?? 0) + 1;
        this.#count.update(count);
        out.collect([word, count]);
      }
    }
    const sink = new ArraySink<[string, number]>();
    const slots = await Slots.start((env) => {
      env
        .fromSource(words())
        .uid("words")
        .flatMap<string>((line, out) => line.split(" ").forEach((word) => out.collect(word)), Types.STRING())
        .keyBy((word) => word, Types.STRING())
        .flatMap(new Count(), Types.TUPLE(Types.STRING(), Types.LONG()))
        .uid("count")
        .setParallelism(2)
        .sinkTo(sink);
    });
    await slots.finish();
    expect(lastCounts(sink.records)).toEqual(expected);
  });

  test("reduce, and a co-map of two streams", async () => {
    class Ends extends CoMapFunction<string, string, string> {
      override map1 = (line: string): string => line.split(" ")[0] ?? "";
      override map2 = (line: string): string => line.split(" ")[1] ?? "";
    }
    const sink = new ArraySink<{ word: string; n: number }>();
    const slots = await Slots.start((env) => {
      const lines = env.fromSource(words()).uid("words");
      lines
        .connect(lines)
        .map(new Ends(), Types.STRING())
        .map((word) => ({ word, n: 1 }), Types.ROW({ word: Types.STRING(), n: Types.INT() }))
        .keyBy(({ word }) => word, Types.STRING())
        .reduce((a, b) => ({ word: a.word, n: a.n + b.n }))
        .uid("count")
        .sinkTo(sink);
    });
    await slots.finish();
    expect(lastCounts(sink.records.map(({ word, n }) => [word, n]))).toEqual(expected);
  });
});
