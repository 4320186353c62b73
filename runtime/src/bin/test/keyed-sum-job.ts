// The job of the process tests: numbered records, a running sum per key, an exactly-once file sink.
//
// Arguments: output directory, number of records, records per second, number of keys, drain file. With the last one the pace is that
// of each subtask of the source and ends when the file exists (PC2); without it it is the pace of all, to the end.

import {
  Encoders,
  FileSink,
  GeneratorSource,
  KeyedProcessFunction,
  Types,
  ValueStateDescriptor,
} from "@sluice/runtime";
import type { Collector, KeyedContext, RuntimeContext, StreamExecutionEnvironment, ValueState } from "@sluice/runtime";

import { Pace } from "../../../test/support/pace.ts";

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
  const [directory = "", count = "1000", rate = "1000", keys = "10", drainFile] = args;
  const keyCount = Number(keys);
  const recordsPerSecond = Number(rate);
  let pace: Pace | undefined; // one per slot: each loads this module
  env
    .fromSource(
      new GeneratorSource({
        count: Number(count),
        ...(drainFile === undefined ? { ratePerSecond: recordsPerSecond } : {}),
        generate: (i) => i,
        type: Types.LONG(),
      }),
    )
    .uid("numbers")
    .map((position) => {
      if (drainFile !== undefined) pace ??= new Pace({ recordsPerSecond, drainFile });
      pace?.step();
      return position;
    }, Types.LONG())
    .uid("pace")
    .keyBy((position) => position % keyCount, Types.LONG())
    .process(() => new KeyedSum(), Types.TUPLE(Types.LONG(), Types.LONG(), Types.LONG()))
    .name("keyed sum")
    .uid("keyed-sum")
    .sinkTo(FileSink.forRowFormat(directory, Encoders.ndjson()))
    .uid("sink");
}
