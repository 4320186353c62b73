// Numbers and their running sums per key into a bucket: the job of the S3 sink's test. Arguments: the output URI, the count of numbers, the
// file with which the job runs at full speed (support/pace.ts).

import {
  Encoders,
  FileSink,
  GeneratorSource,
  KeyedProcessFunction,
  Types,
  ValueStateDescriptor,
} from "@sluice/runtime";
import type { Collector, KeyedContext, RuntimeContext, StreamExecutionEnvironment, ValueState } from "@sluice/runtime";

import { Pace } from "../support/pace.ts";

const SUMMED = Types.TUPLE(Types.LONG(), Types.LONG(), Types.LONG());
const KEYS = 10;
/** Of each slot: the input outlasts all that is done to the job, on a slow machine too. */
const PER_SECOND = 500;

class Sum extends KeyedProcessFunction<number, number, [number, number, number]> {
  #sum!: ValueState<number>;

  override open(context: RuntimeContext): void {
    this.#sum = context.getState(new ValueStateDescriptor("sum", Types.LONG()));
  }

  override processElement(n: number, ctx: KeyedContext<number>, out: Collector<[number, number, number]>): void {
    const sum = (this.#sum.value() ?? 0) + n;
    this.#sum.update(sum);
    out.collect([ctx.getCurrentKey(), n, sum]);
  }
}

export function main(
  env: StreamExecutionEnvironment,
  [output = "", count = "0", drainFile = ""]: readonly string[],
): void {
  if (process.env["AWS_SECRET_ACCESS_KEY"] !== undefined)
    throw new Error("user code sees the credentials of the store");
  let pace: Pace | undefined; // one per slot: each loads this module
  const numbers = new GeneratorSource({ count: Number(count), type: Types.LONG(), generate: (i) => i });
  env
    .fromSource(numbers)
    .uid("numbers")
    .map((n) => {
      pace ??= new Pace({ recordsPerSecond: PER_SECOND, drainFile });
      pace.step();
      return n;
    }, Types.LONG())
    .uid("paced")
    .keyBy((n) => n % KEYS, Types.LONG())
    .process(() => new Sum(), SUMMED)
    .uid("sum")
    .sinkTo(FileSink.forRowFormat(output, Encoders.ndjson<[number, number, number]>()))
    .uid("output");
}
