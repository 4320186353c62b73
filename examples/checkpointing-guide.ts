// Every checkpoint setting of a usual guide to Flink, in TypeScript: a running sum per key that survives failures, with checkpoints that
// stay when the job is cancelled.
//
//   npm run sluice -- run examples/checkpointing-guide.ts
//   npm run sluice -- run examples/checkpointing-guide.ts -- --records 100 --checkpoints file:///somewhere
//   npm run sluice -- run examples/checkpointing-guide.ts -- --help

import { tmpdir } from "node:os";
import { pathToFileURL } from "node:url";

import {
  CheckpointingMode,
  ExternalizedCheckpointCleanup,
  GeneratorSource,
  HashMapStateBackend,
  KeyedProcessFunction,
  Parameters,
  Types,
  ValueStateDescriptor,
} from "@sluice/runtime";
import type { Collector, KeyedContext, RuntimeContext, StreamExecutionEnvironment, ValueState } from "@sluice/runtime";

class KeyedSumFunction extends KeyedProcessFunction<string, number, number> {
  #sum!: ValueState<number>;

  override open(runtimeContext: RuntimeContext): void {
    this.#sum = runtimeContext.getState(new ValueStateDescriptor("sum", Types.INT()));
  }

  override processElement(value: number, _ctx: KeyedContext<string>, out: Collector<number>): void {
    const sum = (this.#sum.value() ?? 0) + value;
    this.#sum.update(sum);
    out.collect(sum);
  }
}

export async function main(env: StreamExecutionEnvironment): Promise<void> {
  const { records, ratePerSecond, checkpoints } = env.declareParameters({
    records: Parameters.int({ default: 60_000, min: 1, help: "How many numbers are summed." }),
    ratePerSecond: Parameters.int({ default: 1_000, min: 1, help: "How many of them a second." }),
    checkpoints: Parameters.string({
      default: pathToFileURL(`${tmpdir()}/sluice-checkpoints`).href,
      help: "Where checkpoints are stored.",
    }),
  });

  // A checkpoint every minute.
  env.enableCheckpointing(60_000);

  const config = env.getCheckpointConfig();
  // After a failure every record counts once. The default; AT_LEAST_ONCE is faster where doubles do no harm.
  config.setCheckpointingMode(CheckpointingMode.EXACTLY_ONCE);
  // At least 30 seconds of work between two checkpoints.
  config.setMinPauseBetweenCheckpoints(30_000);
  // A checkpoint that takes longer than 2 minutes is given up.
  config.setCheckpointTimeout(120_000);
  // One at a time.
  config.setMaxConcurrentCheckpoints(1);
  // Checkpoints stay when the job is cancelled, for a new start by hand.
  config.setExternalizedCheckpointCleanup(ExternalizedCheckpointCleanup.RETAIN_ON_CANCELLATION);
  // file:/// for one machine; s3://bucket/path for several.
  config.setCheckpointStorage(checkpoints);

  // The guide's backend is `new EmbeddedRocksDBStateBackend(true)`, incremental. Until it exists state lives on the heap.
  env.setStateBackend(new HashMapStateBackend());

  env
    .fromSource(new GeneratorSource({ count: records, ratePerSecond, generate: (i) => i % 10, type: Types.INT() }))
    .uid("numbers")
    .keyBy((n) => (n % 2 === 0 ? "even" : "odd"), Types.STRING())
    .process(() => new KeyedSumFunction(), Types.INT())
    .name("keyed sum")
    .uid("keyed-sum") // its state is found by this name: keep it for the life of the job
    .print();

  await env.execute("checkpointing-guide");
}
