// Words of a text, counted: one record in becomes several out, and the result is printed.
//
//   npm run sluice -- run examples/word-count.ts
//   npm run sluice -- run examples/word-count.ts -- my-lines.ndjson   lines of the form {"line": "..."}
//
// Printing is at least once: after a failure lines may appear again. For exactly once use a FileSink, as keyed-sum.ts.

import { fileURLToPath } from "node:url";

import { FileSource, KeyedProcessFunction, ProcessFunction, Types, ValueStateDescriptor } from "@sluice/runtime";
import type { Collector, KeyedContext, RuntimeContext, StreamExecutionEnvironment, ValueState } from "@sluice/runtime";

interface Line {
  line: string;
}

class SplitFunction extends ProcessFunction<Line, string> {
  override processElement({ line }: Line, _ctx: object, out: Collector<string>): void {
    for (const word of line.toLowerCase().match(/\p{L}+/gu) ?? []) out.collect(word);
  }
}

class CountFunction extends KeyedProcessFunction<string, string, string> {
  #count!: ValueState<number>;

  override open(runtimeContext: RuntimeContext): void {
    this.#count = runtimeContext.getState(new ValueStateDescriptor("count", Types.INT()));
  }

  override processElement(word: string, _ctx: KeyedContext<string>, out: Collector<string>): void {
    const count = (this.#count.value() ?? 0) + 1;
    this.#count.update(count);
    out.collect(`${word} ${count}`);
  }
}

export function main(env: StreamExecutionEnvironment, args: readonly string[]): void {
  const [input = fileURLToPath(new URL("./data/lines.ndjson", import.meta.url))] = args;
  env
    .fromSource(FileSource.ndjson(input, Types.ROW({ line: Types.STRING() })), "lines")
    .uid("lines")
    .process(() => new SplitFunction(), Types.STRING())
    .name("split")
    .keyBy((word) => word, Types.STRING())
    .process(() => new CountFunction(), Types.STRING())
    .name("count")
    .uid("count")
    .print();
}
