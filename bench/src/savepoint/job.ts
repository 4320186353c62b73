// The job that `npm run bench -- savepoint` measures: one keyed state of so many entries with so many bytes each, then idle.
//
// Arguments: number of entries, bytes per entry.

import { DiscardSink, GeneratorSource, KeyedProcessFunction, Types, ValueStateDescriptor } from "@sluice/runtime";
import type { Collector, KeyedContext, RuntimeContext, StreamExecutionEnvironment, ValueState } from "@sluice/runtime";

/** After the state is filled a few records go on, so that the job never ends. */
const TRICKLE_PER_SECOND = 100;

class Fill extends KeyedProcessFunction<number, number, number> {
  readonly #value: string;
  #state!: ValueState<string>;

  constructor(bytes: number) {
    super();
    this.#value = "x".repeat(bytes);
  }

  override open(context: RuntimeContext): void {
    this.#state = context.getState(new ValueStateDescriptor("payload", Types.STRING()));
  }

  override processElement(key: number, _context: KeyedContext<number>, out: Collector<number>): void {
    if (this.#state.value() !== undefined) return;
    this.#state.update(`${key} ${this.#value}`.slice(0, this.#value.length));
    out.collect(key);
  }
}

export function main(env: StreamExecutionEnvironment, args: readonly string[]): void {
  const [entries = 1, bytes = 1] = args.map(Number);
  const all = new GeneratorSource({ count: entries, generate: (i) => i, type: Types.LONG() });
  const trickle = new GeneratorSource({
    count: Number.POSITIVE_INFINITY,
    ratePerSecond: TRICKLE_PER_SECOND,
    generate: (i) => i % entries,
    type: Types.LONG(),
  });
  env
    .fromSource(all)
    .uid("keys")
    .union(env.fromSource(trickle).uid("trickle"))
    .keyBy((key) => key, Types.LONG())
    .process(() => new Fill(bytes), Types.LONG())
    .uid("fill")
    .sinkTo(new DiscardSink());
}
