// The job that `npm run bench -- keyed-sum` measures: the guide's KeyedSum as a user writes it (row API, heap state).
//
// Arguments: number of keys, key kind (long | string), folder for the gap reports.
//
// Not here: measuring (main.ts), but for the gap between records, which only the job itself sees.

import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DiscardSink, GeneratorSource, KeyedProcessFunction, Types, ValueStateDescriptor } from "@sluice/runtime";
import type { Collector, KeyedContext, RuntimeContext, StreamExecutionEnvironment, ValueState } from "@sluice/runtime";

/** The clock is read once in so many records: often enough for gaps of milliseconds, too seldom to cost anything. */
const RECORDS_PER_LOOK = 64;
const REPORT_INTERVAL_MS = 250;

/** Remembers the largest gaps between looks at the clock; the file holds [atWallMs, gapMs] pairs. */
class GapWatch {
  readonly #path: string;
  #countdown = RECORDS_PER_LOOK;
  #lastMs = performance.now();
  #reportedMs = 0;
  #gaps: [atWallMs: number, gapMs: number][] = [];

  constructor(path: string) {
    this.#path = path;
  }

  record(): void {
    this.#countdown -= 1;
    if (this.#countdown === 0) this.#look();
  }

  #look(): void {
    this.#countdown = RECORDS_PER_LOOK;
    const nowMs = performance.now();
    const gapMs = nowMs - this.#lastMs;
    if (gapMs > 0.5) this.#gaps.push([Date.now(), gapMs]);
    this.#lastMs = nowMs;
    if (nowMs - this.#reportedMs > REPORT_INTERVAL_MS) {
      this.#reportedMs = nowMs;
      // under another name first: the benchmark may read at any moment
      writeFileSync(`${this.#path}.new`, JSON.stringify(this.#gaps));
      renameSync(`${this.#path}.new`, this.#path);
      this.#lastMs = performance.now();
    }
  }
}

class KeyedSumFunction<K> extends KeyedProcessFunction<K, [K, number], [K, number]> {
  readonly #folder: string;
  #sum!: ValueState<number>;
  #gaps!: GapWatch;

  constructor(folder: string) {
    super();
    this.#folder = folder;
  }

  override open(context: RuntimeContext): void {
    this.#sum = context.getState(new ValueStateDescriptor("sum", Types.LONG()));
    this.#gaps = new GapWatch(join(this.#folder, `gaps-${context.indexOfThisSubtask}.json`));
  }

  override processElement(value: [K, number], ctx: KeyedContext<K>, out: Collector<[K, number]>): void {
    const sum = (this.#sum.value() ?? 0) + value[1];
    this.#sum.update(sum);
    out.collect([value[0], sum]);
    this.#gaps.record();
  }
}

/** splitmix32: keys without order, the same for every run. */
function scramble(index: number): number {
  let z = (index + 0x9e3779b9) | 0;
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return (z ^ (z >>> 15)) >>> 0;
}

export function main(env: StreamExecutionEnvironment, args: readonly string[]): void {
  const [keysText = "1000", keyKind = "long", folder = "."] = args;
  const keyCount = Number(keysText);
  if (keyKind === "long") {
    env
      .fromSource(
        new GeneratorSource<[number, number]>({
          count: Number.POSITIVE_INFINITY,
          generate: (index) => [scramble(index) % keyCount, index & 1023],
          type: Types.TUPLE(Types.LONG(), Types.LONG()),
        }),
      )
      .uid("source")
      .keyBy((record) => record[0], Types.LONG())
      .process(() => new KeyedSumFunction<number>(folder), Types.TUPLE(Types.LONG(), Types.LONG()))
      .name("KeyedSum")
      .uid("keyed-sum")
      .sinkTo(new DiscardSink());
    return;
  }
  const keys = Array.from({ length: keyCount }, (_, i) => `key-${String(i).padStart(12, "0")}`);
  env
    .fromSource(
      new GeneratorSource<[string, number]>({
        count: Number.POSITIVE_INFINITY,
        generate: (index) => [keys[scramble(index) % keyCount] as string, index & 1023],
        type: Types.TUPLE(Types.STRING(), Types.LONG()),
      }),
    )
    .uid("source")
    .keyBy((record) => record[0], Types.STRING())
    .process(() => new KeyedSumFunction<string>(folder), Types.TUPLE(Types.STRING(), Types.LONG()))
    .name("KeyedSum")
    .uid("keyed-sum")
    .sinkTo(new DiscardSink());
}
