// KeyedSum over two skewed inputs: the running sum per key, with the increment and the input position it came from.

import {
  Encoders,
  FileSink,
  FileSource,
  KeyedCoProcessFunction,
  KeyedProcessFunction,
  Types,
  ValueStateDescriptor,
} from "@sluice/runtime";
import type {
  Collector,
  DataStream,
  KeyedContext,
  RuntimeContext,
  StreamExecutionEnvironment,
  ValueState,
} from "@sluice/runtime";

import { Pace } from "../support/pace.ts";
import { Witness } from "../support/witness.ts";
import { decodeOptions } from "./job-options.ts";
import type { KeyedSumOptions } from "./job-options.ts";

const INPUT = Types.ROW({ position: Types.LONG(), key: Types.LONG(), increment: Types.LONG() });
const PADDED = Types.ROW({
  position: Types.LONG(),
  key: Types.LONG(),
  increment: Types.LONG(),
  padding: Types.STRING(),
});
const OUTPUT = Types.TUPLE(Types.LONG(), Types.LONG(), Types.LONG(), Types.LONG());

interface Padded {
  position: number;
  key: number;
  increment: number;
  padding: string;
}
type Summed = [key: number, increment: number, sum: number, position: number];

/** What both shapes do with a record. */
class Summing {
  readonly #options: KeyedSumOptions;
  #sum!: ValueState<number>;
  #witness: Witness | undefined;
  #pace!: Pace;

  constructor(options: KeyedSumOptions) {
    this.#options = options;
  }

  open(context: RuntimeContext): void {
    const { witnessDirectory, sumPerSecond, drainFile } = this.#options;
    this.#sum = context.getState(new ValueStateDescriptor("sum", Types.LONG()));
    this.#witness = new Witness(witnessDirectory, context.indexOfThisSubtask);
    this.#pace = new Pace({ recordsPerSecond: sumPerSecond, drainFile });
  }

  add(record: Padded, out: Collector<Summed>): void {
    this.#witness?.saw(record.position);
    this.#pace.step();
    const sum = (this.#sum.value() ?? 0) + record.increment;
    this.#sum.update(sum);
    out.collect([record.key, record.increment, sum, record.position]);
  }

  close(): void {
    this.#witness?.close();
  }
}

class KeyedSum extends KeyedProcessFunction<number, Padded, Summed> {
  readonly #summing: Summing;

  constructor(options: KeyedSumOptions) {
    super();
    this.#summing = new Summing(options);
  }

  override open(context: RuntimeContext): void {
    this.#summing.open(context);
  }

  override processElement(record: Padded, _context: KeyedContext<number>, out: Collector<Summed>): void {
    this.#summing.add(record, out);
  }

  override close(): void {
    this.#summing.close();
  }
}

class ConnectedKeyedSum extends KeyedCoProcessFunction<number, Padded, Padded, Summed> {
  readonly #summing: Summing;

  constructor(options: KeyedSumOptions) {
    super();
    this.#summing = new Summing(options);
  }

  override open(context: RuntimeContext): void {
    this.#summing.open(context);
  }

  override processElement1(record: Padded, _context: KeyedContext<number>, out: Collector<Summed>): void {
    this.#summing.add(record, out);
  }

  override processElement2(record: Padded, _context: KeyedContext<number>, out: Collector<Summed>): void {
    this.#summing.add(record, out);
  }

  override close(): void {
    this.#summing.close();
  }
}

export function main(env: StreamExecutionEnvironment, args: readonly string[]): void {
  const options = decodeOptions(args);
  const padding = "x".repeat(options.paddingBytes);
  const flood = env
    .fromSource(FileSource.ndjson(options.floodPath, INPUT, { splitBytes: 256 * 1_024 }), "flood")
    .uid("flood")
    .map((record): Padded => ({ ...record, padding }), PADDED)
    .uid("flood-padding");
  const trickle = env
    .fromSource(
      FileSource.csv(options.tricklePath, INPUT, { splitBytes: 16 * 1_024, ratePerSecond: options.tricklePerSecond }),
      "trickle",
    )
    .uid("trickle")
    .map((record): Padded => ({ ...record, padding: "" }), PADDED)
    .uid("trickle-padding");
  sum(flood, trickle, options)
    .sinkTo(FileSink.forRowFormat(options.outputDirectory, Encoders.ndjson<Summed>()))
    .uid("output");
}

function sum(flood: DataStream<Padded>, trickle: DataStream<Padded>, options: KeyedSumOptions): DataStream<Summed> {
  const key = (record: Padded): number => record.key;
  return options.shape === "union"
    ? flood
        .union(trickle)
        .keyBy(key, Types.LONG())
        .process(() => new KeyedSum(options), OUTPUT)
        .uid("sum")
    : flood
        .connect(trickle)
        .keyBy(key, key, Types.LONG())
        .process(() => new ConnectedKeyedSum(options), OUTPUT)
        .uid("sum");
}
