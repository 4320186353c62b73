// KeyedSum over one file, which can be told to misbehave: the job of the tests of bad input, storage faults and second starts.

import { existsSync } from "node:fs";

import {
  DataStreamSink,
  Encoders,
  FileSink,
  FileSource,
  KeyedProcessFunction,
  Types,
  ValueStateDescriptor,
} from "@sluice/runtime";
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
const OUTPUT = Types.TUPLE(Types.LONG(), Types.LONG(), Types.LONG(), Types.LONG());

interface Input {
  position: number;
  key: number;
  increment: number;
}
type Summed = [key: number, increment: number, sum: number, position: number];

class KeyedSum extends KeyedProcessFunction<number, Input, Summed> {
  readonly #options: NumbersOptions;
  #sum!: ValueState<number>;
  #pace: Pace | undefined;
  #cured = false;

  constructor(options: NumbersOptions) {
    super();
    this.#options = options;
  }

  override open(context: RuntimeContext): void {
    const { perSecond, drainFile, cureFile, mishap } = this.#options;
    this.#sum = context.getState(new ValueStateDescriptor("sum", Types.LONG()));
    if (perSecond > 0) this.#pace = new Pace({ recordsPerSecond: perSecond, drainFile });
    this.#cured = mishap === "none" || existsSync(cureFile);
  }

  override processElement(record: Input, _context: KeyedContext<number>, out: Collector<Summed>): void {
    this.#pace?.step();
    const sum = (this.#sum.value() ?? 0) + record.increment;
    this.#sum.update(sum);
    out.collect([record.key, record.increment, sum, record.position]);
    if (this.#cured || record.position !== this.#options.mishapAt) return;
    // A promise gets past the compiler where void is expected; the runtime must notice.
    return misbehave(this.#options.mishap, record.position) as undefined;
  }
}

function misbehave(mishap: NumbersOptions["mishap"], position: number): unknown {
  switch (mishap) {
    case "throw-in-function":
      throw new RangeError(`position ${position} is too much for me`);
    case "promise-from-function":
      return Promise.resolve(position);
    case "exit-in-function":
      return process.exit(0);
    case "loop-in-function":
      for (;;);
    default:
      return undefined;
  }
}

/** Counts as published what it saw: nobody can take it back. */
const finalSink: Sink<Summed> = {
  name: "final sink",
  stateful: false,
  canRetract: false,
  createOperator: () => ({ open() {}, processElement() {}, close() {} }),
};

export async function main(env: StreamExecutionEnvironment, args: readonly string[]): Promise<void> {
  const options = decodeNumbers(args);
  if (!existsSync(options.cureFile)) {
    if (options.mishap === "throw-in-main") throw new TypeError("main does not like its arguments");
    if (options.mishap === "loop-in-main") for (;;);
    if (options.mishap === "hang-in-main") await new Promise((resolve) => setTimeout(resolve, 2 ** 31 - 1));
  }
  const { deadLetterDirectory } = options;
  const source = FileSource.ndjson(options.inputPath, INPUT, {
    splitBytes: 64 * 1_024,
    ...(deadLetterDirectory === "" ? {} : { onError: "skip", deadLetterDirectory }),
  });
  const padding = "x".repeat(options.perSecond > 0 ? PADDING_CHARS : 0);
  const summed = env
    .fromSource(source, "numbers")
    .uid("numbers")
    .map((record) => ({ ...record, padding }), PADDED)
    .uid("padding")
    .keyBy((record) => record.key, Types.LONG())
    .process(() => new KeyedSum(options), OUTPUT);
  if (options.mishap !== "missing-uid") summed.uid(options.mishap === "duplicate-uids" ? "numbers" : "sum");
  const output: DataStreamSink = summed.sinkTo(
    FileSink.forRowFormat(options.outputDirectory, Encoders.ndjson<Summed>()),
  );
  output.uid("output");
  if (options.withFinalSink) summed.sinkTo(finalSink).name("final sink");
}
