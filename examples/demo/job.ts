// The job of the demo: a running sum of delays per origin airport, over real flights, exactly once.
//
// Arguments: input file (.parquet or .ndjson), output directory, URI for checkpoints, rows per second.

import {
  CheckpointingMode,
  Encoders,
  ExternalizedCheckpointCleanup,
  FileSink,
  FileSource,
  HashMapStateBackend,
  KeyedProcessFunction,
  Types,
  ValueStateDescriptor,
} from "@sluice/runtime";
import type { Collector, KeyedContext, RuntimeContext, StreamExecutionEnvironment, ValueState } from "@sluice/runtime";

/** The columns that are read; delay is in minutes, negative when early. */
const FLIGHT = Types.ROW({ origin: Types.STRING(), delay: Types.LONG() });
/** One row out for each row in: `sum` is the airport's sum up to and including this flight. */
const DELAY_SUM = Types.ROW({ origin: Types.STRING(), delay: Types.LONG(), sum: Types.LONG() });

type Flight = typeof FLIGHT.valueType;
type DelaySum = typeof DELAY_SUM.valueType;

class KeyedSumFunction extends KeyedProcessFunction<string, Flight, DelaySum> {
  #sum!: ValueState<number>;

  override open(runtimeContext: RuntimeContext): void {
    this.#sum = runtimeContext.getState(new ValueStateDescriptor("sum", Types.INT()));
  }

  override processElement(flight: Flight, ctx: KeyedContext<string>, out: Collector<DelaySum>): void {
    const sum = (this.#sum.value() ?? 0) + flight.delay;
    this.#sum.update(sum);
    out.collect({ origin: ctx.getCurrentKey(), delay: flight.delay, sum });
  }
}

export function main(env: StreamExecutionEnvironment, args: readonly string[]): void {
  const [input = "", output = "", checkpoints = "", rate = ""] = args;

  env.enableCheckpointing(2_000);
  const config = env.getCheckpointConfig();
  config.setCheckpointingMode(CheckpointingMode.EXACTLY_ONCE);
  config.setMinPauseBetweenCheckpoints(500);
  config.setCheckpointTimeout(120_000);
  config.setMaxConcurrentCheckpoints(1);
  config.setExternalizedCheckpointCleanup(ExternalizedCheckpointCleanup.RETAIN_ON_CANCELLATION);
  config.setCheckpointStorage(checkpoints);
  env.setStateBackend(new HashMapStateBackend());
  env.setParallelism(2);

  const options = { ratePerSecond: Number(rate) };
  const flights = input.endsWith(".parquet")
    ? FileSource.parquet(input, FLIGHT, options)
    : FileSource.ndjson(input, FLIGHT, options);
  env
    .fromSource(flights, "flights")
    .uid("flights")
    .keyBy((flight) => flight.origin, Types.STRING())
    .process(() => new KeyedSumFunction(), DELAY_SUM)
    .name("delay per airport")
    .uid("delay-per-airport")
    .sinkTo(FileSink.forRowFormat(output, Encoders.csv(DELAY_SUM)))
    .uid("output");
}
