// A running sum per key, the smallest job with state. It counts up for 20 seconds: long enough to kill something.
//
//   npm run sluice -- run examples/keyed-sum.ts                       the output goes to out/keyed-sum
//   npm run sluice -- run examples/keyed-sum.ts -- /somewhere/else

import {
  Encoders,
  FileSink,
  GeneratorSource,
  KeyedProcessFunction,
  Types,
  ValueStateDescriptor,
} from "@sluice/runtime";
import type { Collector, KeyedContext, RuntimeContext, StreamExecutionEnvironment, ValueState } from "@sluice/runtime";

type Sum = [key: string, sum: number];

class KeyedSumFunction extends KeyedProcessFunction<string, number, Sum> {
  #sum!: ValueState<number>;

  override open(runtimeContext: RuntimeContext): void {
    this.#sum = runtimeContext.getState(new ValueStateDescriptor("sum", Types.LONG()));
  }

  override processElement(value: number, ctx: KeyedContext<string>, out: Collector<Sum>): void {
    const sum = (this.#sum.value() ?? 0) + value;
    this.#sum.update(sum);
    out.collect([ctx.getCurrentKey(), sum]);
  }
}

export function main(env: StreamExecutionEnvironment, args: readonly string[]): void {
  const [directory = "out/keyed-sum"] = args;
  const numbers = new GeneratorSource({ count: 20_000, ratePerSecond: 1_000, generate: (i) => i, type: Types.LONG() });
  env.enableCheckpointing(1_000);
  env
    .fromSource(numbers, "numbers")
    .uid("numbers")
    .keyBy((n) => (n % 3 === 0 ? "fizz" : "other"), Types.STRING())
    .process(() => new KeyedSumFunction(), Types.TUPLE(Types.STRING(), Types.LONG()))
    .name("keyed sum")
    .uid("keyed-sum")
    .sinkTo(FileSink.forRowFormat(directory, Encoders.ndjson<Sum>()))
    .uid("output");
}
