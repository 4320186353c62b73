// A source that computes its records from their index.
//
// Invariants:
//   GS1. Record i is `generate(i)`, whatever the parallelism: split s of n holds the indexes s, s + n, s + 2n, ...
//   GS2. The state is the number of records already emitted of each split; a restore goes on exactly there.
//   GS3. The number of splits is the parallelism at the first start, for good. With fewer subtasks one has several, which take turns
//        (an endless one must not starve the others); with more some have none. The rate of a subtask is that of its splits.

import { assert } from "@sluice/kit";
import type {
  Collector,
  OperatorContext,
  OperatorState,
  RestoredOperatorState,
  SourceOperator,
  SourceStatus,
  SubtaskInfo,
  TypeInformation,
} from "../model/index.ts";
import { optionInvalid, shareOf, subtaskRateLimit, type RateLimit, type Source } from "../operators/index.ts";
import { jsonState, jsonValues, SOURCE_SPLITS } from "./json-state.ts";

export interface GeneratorOptions<T> {
  /** How many records in total; Infinity: never ends. */
  readonly count: number;
  /** Of the whole source, not of a subtask; undefined: as fast as it goes. */
  readonly ratePerSecond?: number;
  /** The record with this index; called once per record and replay, so it must depend on the index only. */
  readonly generate: (index: number) => T;
  readonly type: TypeInformation<T>;
}

interface GeneratorSplit {
  readonly first: number;
  readonly stride: number;
}

interface Progress extends GeneratorSplit {
  emitted: number;
}

/** Flink: DataGeneratorSource. */
export class GeneratorSource<T> implements Source<T> {
  readonly name = "generator";
  readonly type: TypeInformation<T>;
  readonly #options: GeneratorOptions<T>;

  constructor(options: GeneratorOptions<T>) {
    const { count, ratePerSecond } = options;
    if (!(count === Number.POSITIVE_INFINITY || (Number.isSafeInteger(count) && count >= 0))) {
      throw optionInvalid(`GeneratorSource: count is ${count}`, "give a whole number, or Infinity");
    }
    if (ratePerSecond !== undefined && !(Number.isFinite(ratePerSecond) && ratePerSecond > 0)) {
      throw optionInvalid(
        `GeneratorSource: ratePerSecond is ${ratePerSecond}`,
        "give a positive number, or leave it out",
      );
    }
    this.#options = options;
    this.type = options.type;
  }

  enumerateSplits(options: { readonly parallelism: number }): Promise<readonly unknown[]> {
    const stride = options.parallelism;
    return Promise.resolve(Array.from({ length: stride }, (_, first): GeneratorSplit => ({ first, stride })));
  }

  createOperator(options: { readonly splits: readonly unknown[]; readonly subtask: SubtaskInfo }): SourceOperator {
    return new GeneratorOperator(this.#options, shareOf(options.splits as readonly GeneratorSplit[], options.subtask));
  }
}

class GeneratorOperator<T> implements SourceOperator {
  readonly #options: GeneratorOptions<T>;
  #progress: Progress[];
  #output!: Collector<unknown>;
  #context!: OperatorContext;
  #rate: RateLimit | undefined;
  /** Index of the split that is polled next. */
  #turn = 0;
  wakeAtMs = Number.POSITIVE_INFINITY;

  constructor(options: GeneratorOptions<T>, splits: readonly GeneratorSplit[]) {
    this.#options = options;
    this.#progress = splits.map(({ first, stride }) => ({ first, stride, emitted: 0 }));
  }

  open(context: OperatorContext, restored: RestoredOperatorState | undefined): void {
    this.#context = context;
    this.#output = context.output;
    const stored = restored?.states.get(SOURCE_SPLITS);
    if (stored !== undefined) this.#progress = [...jsonValues<Progress>(stored)];
    const splits = this.#progress;
    this.#rate = subtaskRateLimit({
      ratePerSecond: this.#options.ratePerSecond,
      parallelism: (splits[0]?.stride ?? 1) / Math.max(1, splits.length), // GS3
      nowMs: context.clock.nowMs(),
    });
  }

  poll(recordsMax: number): SourceStatus {
    const { count } = this.#options;
    let budget = recordsMax;
    if (this.#rate !== undefined) {
      budget = this.#rate.available(this.#context.clock.nowMs(), recordsMax);
      if (budget === 0) {
        if (this.#progress.every((split) => split.first + split.emitted * split.stride >= count)) return "finished";
        this.wakeAtMs = this.#rate.nextMs();
        return "idle";
      }
    }
    const granted = budget;
    const splits = this.#progress;
    for (let turns = splits.length; turns > 0 && budget > 0; turns -= 1) {
      const split = splits[this.#turn];
      assert(split !== undefined, "GS3: a turn is one of the splits");
      budget = this.#emit(split, budget);
      this.#turn = (this.#turn + 1) % splits.length;
    }
    this.#rate?.take(granted - budget);
    return budget === 0 ? "more" : "finished";
  }

  /** The hot loop. Returns what is left of the budget. */
  #emit(split: Progress, budget: number): number {
    const { stride } = split;
    const { count, generate } = this.#options;
    const output = this.#output;
    const from = split.first + split.emitted * stride;
    const left = from >= count ? 0 : Math.ceil((count - from) / stride);
    const n = Math.min(budget, left);
    const to = from + n * stride;
    for (let index = from; index < to; index += stride) output.collect(generate(index));
    split.emitted += n;
    assert(n >= 0, "GS2: progress never goes back");
    return budget - n;
  }

  snapshotState(): OperatorState {
    return new Map([[SOURCE_SPLITS, jsonState(this.#progress)]]);
  }

  close(): void {}
}
