// KeyedSum over one file: the job of the tests of storage faults.

import { Encoders, FileSink, FileSource, KeyedProcessFunction, Types, ValueStateDescriptor } from "@sluice/runtime";
import type {
  Collector,
  KeyedContext,
  RuntimeContext,
  Sink,
  StreamExecutionEnvironment,
  ValueState,
} from "@sluice/runtime";

import { decodeNumbers } from "./numbers-options.ts";
import type { NumbersOptions } from "./numbers-options.ts";
import { Pace } from "./pace.ts";

const INPUT = Types.ROW({ position: Types.LONG(), key: Types.LONG(), increment: Types.LONG() });
/** A paced job's channels would hold its whole input, and a barrier wait behind it: wide records keep them short. */
const PADDED = Types.ROW({
  position: Types.LONG(),
  key: Types.LONG(),
  increment: Types.LONG(),
  padding: Types.STRING(),
});
const PADDING_CHARS = 1_500;
/** Small, so that every subtask gets some. */
const SPLIT_BYTES = 64 * 1_024;
const OUTPUT = Types.TUPLE(Types.LONG(), Types.LONG(), Types.LONG(), Types.LONG());

interface Padded {
  position: number;
  key: number;
  increment: number;
  padding: string;
}
type Summed = [key: number, increment: number, sum: number, position: number];

class KeyedSum extends KeyedProcessFunction<number, Padded, Summed> {
  readonly #options: NumbersOptions;
  #sum!: ValueState<number>;
  #pace: Pace | undefined;

  constructor(options: NumbersOptions) {
    super();
    this.#options = options;
  }

  override open(context: RuntimeContext): void {
    const { perSecond, drainFile } = this.#options;
    this.#sum = context.getState(new ValueStateDescriptor("sum", Types.LONG()));
    if (perSecond > 0) this.#pace = new Pace({ recordsPerSecond: perSecond, drainFile });
  }

  override processElement(record: Padded, _context: KeyedContext<number>, out: Collector<Summed>): void {
    this.#pace?.step();
    const sum = (this.#sum.value() ?? 0) + record.increment;
    this.#sum.update(sum);
    out.collect([record.key, record.increment, sum, record.position]);
  }
}

/** What it saw counts as published: nobody can take it back. */
const finalSink: Sink<Summed> = {
  name: "final sink",
  stateful: false,
  canRetract: false,
  createOperator: () => ({ open() {}, processElement() {}, close() {} }),
};

export function main(env: StreamExecutionEnvironment, args: readonly string[]): void {
  const options = decodeNumbers(args);
  const padding = "x".repeat(options.perSecond > 0 ? PADDING_CHARS : 0);
  const { sourcePerSecond, drainFile } = options;
  let pace: Pace | undefined; // one per slot: each loads this module
  const summed = env
    .fromSource(FileSource.ndjson(options.inputPath, INPUT, { splitBytes: SPLIT_BYTES }), "numbers")
    .uid("numbers")
    .map((record): Padded => {
      if (sourcePerSecond > 0) pace ??= new Pace({ recordsPerSecond: sourcePerSecond, drainFile });
      pace?.step();
      return { ...record, padding };
    }, PADDED)
    .uid("padding")
    .keyBy((record) => record.key, Types.LONG())
    .process(() => new KeyedSum(options), OUTPUT)
    .uid(options.sumUid ?? "sum");
  summed.sinkTo(FileSink.forRowFormat(options.outputDirectory, Encoders.ndjson<Summed>())).uid("output");
  if (options.withFinalSink) summed.sinkTo(finalSink).name("final sink");
}
