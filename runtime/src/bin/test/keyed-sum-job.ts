// The job of the process tests: numbered records, a running sum per key, an exactly-once file sink.
//
// Arguments: output directory, number of records, records per second, number of keys.

import {
  Encoders,
  FileSink,
  GeneratorSource,
  KeyedProcessFunction,
  Types,
  ValueStateDescriptor,
} from "@sluice/runtime";
import type { Collector, KeyedContext, RuntimeContext, StreamExecutionEnvironment, ValueState } from "@sluice/runtime";

/** key, input position, sum of the key so far. */
type Output = [key: number, position: number, sum: number];

class KeyedSum extends KeyedProcessFunction<number, number, Output> {
  #sum!: ValueState<number>;

  override open(context: RuntimeContext): void {
    this.#sum = context.getState(new ValueStateDescriptor("sum", Types.LONG()));
  }

  override processElement(position: number, ctx: KeyedContext<number>, out: Collector<Output>): void {
    const sum = (this.#sum.value() ?? 0) + position;
    this.#sum.update(sum);
    out.collect([ctx.getCurrentKey(), position, sum]);
  }
}

export function main(env: StreamExecutionEnvironment, args: readonly string[]): void {
  const [directory = "", count = "1000", rate = "1000", keys = "10"] = args;
  const keyCount = Number(keys);
  env
    .fromSource(
      new GeneratorSource({
        count: Number(count),
        ratePerSecond: Number(rate),
        generate: (i) => i,
        type: Types.LONG(),
      }),
    )
    .uid("numbers")
    .keyBy((position) => position % keyCount, Types.LONG())
    .process(() => new KeyedSum(), Types.TUPLE(Types.LONG(), Types.LONG(), Types.LONG()))
    .name("keyed sum")
    .uid("keyed-sum")
    .sinkTo(FileSink.forRowFormat(directory, Encoders.ndjson()))
    .uid("sink");
}
