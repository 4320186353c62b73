// A running sum over one file, which misbehaves as it is told: the job of the tests of bad input and second starts.
//
// Its only argument is JobOptions as JSON. Loading the module itself may hang, so that needs an environment variable: no
// argument has arrived yet, and nothing was declared. One of the machine's language is passed on as it is.

import { existsSync } from "node:fs";
import { isMainThread } from "node:worker_threads";

import { Encoders, FileSink, FileSource, KeyedProcessFunction, Types, ValueStateDescriptor } from "@sluice/runtime";
import type {
  Collector,
  KeyedContext,
  RuntimeContext,
  StreamExecutionEnvironment,
  TypeInformation,
  ValueState,
} from "@sluice/runtime";

import { publishedFiles } from "./published.ts";

export type Mishap =
  | "none"
  | "duplicate-uids"
  | "missing-uid"
  | "graph-by-chance"
  | "main-waits-in-slot"
  | "open-throws"
  | "open-loops"
  | "wrong-type"
  | "promise"
  | "exits"
  | "loops";

export interface JobOptions {
  readonly format: "ndjson" | "csv" | "parquet";
  readonly input: string;
  readonly output: string;
  /** Skips malformed records and writes them here. */
  readonly deadLetters?: string;
  readonly ratePerSecond?: number;
  readonly mishap: Mishap;
  /** A function misbehaves from this position on, as soon as output is published, unless `cureFile` exists. */
  readonly mishapAt: number;
  readonly cureFile: string;
}

interface Numbered {
  position: number;
  key: number;
}
/** key, position, sum of the positions of this key so far. */
type Summed = [key: number, position: number, sum: number];

const NUMBERED = Types.ROW({ position: Types.LONG(), key: Types.LONG() });
const SUMMED = Types.TUPLE(Types.LONG(), Types.LONG(), Types.LONG());

const atImport = process.env["LC_POSITIONS_AT_IMPORT"];
if (atImport === "loops" || (atImport === "loops-in-slot" && !isMainThread)) loop();

class Sum extends KeyedProcessFunction<number, Numbered, Summed> {
  readonly #options: JobOptions;
  #sum!: ValueState<number>;
  #mishap: Mishap = "none";

  constructor(options: JobOptions) {
    super();
    this.#options = options;
  }

  override open(context: RuntimeContext): void {
    if (!existsSync(this.#options.cureFile)) this.#mishap = this.#options.mishap;
    if (this.#mishap === "open-throws") throw new RangeError("no table for this subtask");
    if (this.#mishap === "open-loops") loop();
    this.#sum = context.getState(new ValueStateDescriptor("sum", Types.LONG()));
  }

  override processElement(record: Numbered, _context: KeyedContext<number>, out: Collector<Summed>): void {
    const { position, key } = record;
    const sum = (this.#sum.value() ?? 0) + position;
    this.#sum.update(sum);
    out.collect([key, position, sum]);
    if (this.#mishap === "none" || position < this.#options.mishapAt || !this.#hasPublished(position)) return undefined;
    // A promise gets past the compiler where void is expected; the runtime must notice.
    return this.#misbehave(key, out) as undefined;
  }

  /** A mishap waits for published output: something must be there that it could damage. */
  #hasPublished(position: number): boolean {
    return position % 50 === 0 && publishedFiles(this.#options.output).length > 0;
  }

  #misbehave(key: number, out: Collector<Summed>): unknown {
    switch (this.#mishap) {
      case "promise":
        return Promise.resolve(key);
      case "exits":
        return process.exit(0);
      case "loops":
        return loop();
      case "wrong-type":
        out.collect([key, 0.5, Number.NaN]);
        return undefined;
      default:
        return undefined;
    }
  }
}

function loop(): never {
  for (;;);
}

class PassOn extends KeyedProcessFunction<number, Summed, Summed> {
  override processElement(sum: Summed, _context: KeyedContext<number>, out: Collector<Summed>): void {
    out.collect(sum);
  }
}

function sourceOf(options: JobOptions): FileSource<Numbered> {
  const { format, input, deadLetters, ratePerSecond } = options;
  const more = {
    ...(deadLetters === undefined ? {} : { onError: "skip" as const, deadLetterDirectory: deadLetters }),
    ...(ratePerSecond === undefined ? {} : { ratePerSecond }),
  };
  if (format === "ndjson") return FileSource.ndjson(input, NUMBERED, more);
  if (format === "csv") return FileSource.csv(input, NUMBERED, more);
  // The real file holds airports where this type says numbers.
  const wrong = Types.ROW({ origin: Types.LONG(), delay: Types.LONG() }) as TypeInformation<unknown>;
  return FileSource.parquet(input, wrong as TypeInformation<Numbered>, more);
}

export async function main(env: StreamExecutionEnvironment, args: readonly string[]): Promise<void> {
  const options = JSON.parse(args[0] ?? "{}") as JobOptions;
  const { mishap } = options;
  if (mishap === "main-waits-in-slot" && !isMainThread) await new Promise(() => setInterval(() => {}, 1_000));
  const source = env.fromSource(sourceOf(options), "numbers").uid("numbers");
  const input = mishap === "graph-by-chance" && !isMainThread ? source.filter(() => true) : source;
  const sums = input
    .keyBy((record) => record.key, Types.LONG())
    .process(() => new Sum(options), SUMMED)
    .name("sum");
  if (mishap !== "missing-uid") sums.uid(mishap === "duplicate-uids" ? "numbers" : "sum");
  // A consumer behind another exchange: what the function emits goes through a codec.
  sums
    .keyBy(([key]) => key, Types.LONG())
    .process(() => new PassOn(), SUMMED)
    .uid("pass-on")
    .sinkTo(FileSink.forRowFormat(options.output, Encoders.ndjson<Summed>()))
    .uid("output");
}
