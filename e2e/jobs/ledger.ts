// Numbered records through keyed state into an exactly-once file sink: the job of the end-to-end tests.
//
// Record i has key i % keys and sequence number floor(i / keys) in its key. With a number of keys that is a multiple of the first
// parallelism all records of a key come from one split, so that their order is fixed. Each line of the output is
//
//   key sequence count sum emittedMs openedMs version
//
// count and sum are the key's state after the record: lost, doubled or restored-twice state shows in every later line of the key.
// emittedMs is the wall clock when the line was written, openedMs when its function was opened: they tell who wrote it (ledger/timing.ts).
//
// Not here: checking (ledger/audit.ts). The file imports nothing but the runtime, because tests send it as an inline job too.

import {
  Encoders,
  FileSink,
  GeneratorSource,
  KeyedProcessFunction,
  Parameters,
  Types,
  ValueStateDescriptor,
} from "@sluice/runtime";
import type { Collector, KeyedContext, RuntimeContext, StreamExecutionEnvironment, ValueState } from "@sluice/runtime";

/** More than any container of the tests may use. */
const EXHAUST_BYTES = 4 * 2 ** 30;
const CHUNK_BYTES = 16 * 2 ** 20;

/** Allocates outside of V8's heap, whose limit would end the thread before the kernel ends the process. */
function exhaustMemory(): never {
  const held: Buffer[] = [];
  while (held.length * CHUNK_BYTES < EXHAUST_BYTES) held.push(Buffer.alloc(CHUNK_BYTES, held.length + 1));
  throw new RangeError(`${held.length} chunks of ${CHUNK_BYTES} bytes were had: this container has no limit of memory`);
}

interface CountOptions {
  readonly keys: number;
  readonly version: string;
  /** From this record on it throws; -1: never. */
  readonly throwAt: number;
  /** At this record it allocates until the kernel kills the process, in the first attempt; -1: never. */
  readonly exhaustAt: number;
  /** From this record on it does so in every attempt and every subtask; -1: never. */
  readonly crashFrom: number;
}

class Count extends KeyedProcessFunction<number, number, string> {
  readonly #keys: number;
  readonly #version: string;
  readonly #throwAt: number;
  readonly #exhaustAt: number;
  readonly #crashFrom: number;
  #openedMs = 0;
  #isFirstAttempt = false;
  #count!: ValueState<number>;
  #sum!: ValueState<number>;

  constructor(options: CountOptions) {
    super();
    this.#keys = options.keys;
    this.#version = options.version;
    this.#throwAt = options.throwAt;
    this.#exhaustAt = options.exhaustAt;
    this.#crashFrom = options.crashFrom;
  }

  override open(context: RuntimeContext): void {
    this.#openedMs = Date.now();
    this.#isFirstAttempt = context.attemptNumber === 0;
    this.#count = context.getState(new ValueStateDescriptor("count", Types.LONG()));
    this.#sum = context.getState(new ValueStateDescriptor("sum", Types.LONG()));
  }

  override processElement(index: number, ctx: KeyedContext<number>, out: Collector<string>): void {
    if (this.#throwAt >= 0 && index >= this.#throwAt) throw new RangeError(`record ${index} is poison`);
    if (index === this.#exhaustAt && this.#isFirstAttempt) exhaustMemory();
    if (this.#crashFrom >= 0 && index >= this.#crashFrom) exhaustMemory();
    const count = (this.#count.value() ?? 0) + 1;
    const sum = (this.#sum.value() ?? 0) + index;
    this.#count.update(count);
    this.#sum.update(sum);
    const sequence = Math.floor(index / this.#keys);
    const fields = [ctx.getCurrentKey(), sequence, count, sum, Date.now(), this.#openedMs, this.#version];
    out.collect(fields.join(" "));
  }
}

export function main(env: StreamExecutionEnvironment): void {
  const { output, count, rate, keys, version, throwAt, exhaustAt, crashFrom } = env.declareParameters({
    output: Parameters.string(),
    count: Parameters.int(),
    rate: Parameters.int({ default: 10_000 }),
    keys: Parameters.int({ default: 60 }),
    version: Parameters.string({ default: "v1" }),
    throwAt: Parameters.int({ default: -1 }),
    exhaustAt: Parameters.int({ default: -1 }),
    crashFrom: Parameters.int({ default: -1 }),
  });
  const numbers = new GeneratorSource({ count, ratePerSecond: rate, type: Types.LONG(), generate: (i) => i });
  env
    .fromSource(numbers, "numbers")
    .uid("numbers")
    .keyBy((index) => index % keys, Types.LONG())
    .process(() => new Count({ keys, version, throwAt, exhaustAt, crashFrom }), Types.STRING())
    .uid("count")
    .sinkTo(FileSink.forRowFormat(output, Encoders.text()))
    .uid("output");
}
