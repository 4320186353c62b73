// Sources of what the job's code holds: a list of records, a range of numbers. Bounded and replayable.
//
// Invariants: GS1 and GS2 of generator-source.ts, which does the work.

import { assert } from "@sluice/kit";
import { Types, type SourceOperator, type SubtaskInfo, type TypeInformation } from "../model/index.ts";
import { optionInvalid, type Source } from "../operators/index.ts";
import { GeneratorSource } from "./generator-source.ts";

/** The records of an array, in its order when the parallelism is 1. Flink: fromCollection, fromData. */
export class CollectionSource<T> implements Source<T> {
  readonly name = "collection";
  readonly type: TypeInformation<T>;
  readonly #records: GeneratorSource<T>;

  /** The array is copied; every process builds it anew from the job's code, so it must come out the same everywhere. */
  constructor(records: Iterable<T>, type: TypeInformation<T>) {
    const list = [...records];
    this.type = type;
    this.#records = new GeneratorSource({
      count: list.length,
      type,
      generate: (i) => {
        assert(i < list.length, "GS1: an index is below the count");
        return list[i] as T;
      },
    });
  }

  enumerateSplits(options: { readonly parallelism: number }): Promise<readonly unknown[]> {
    return this.#records.enumerateSplits(options);
  }

  createOperator(options: { readonly splits: readonly unknown[]; readonly subtask: SubtaskInfo }): SourceOperator {
    return this.#records.createOperator(options);
  }
}

/** The whole numbers from `from` to `to`, both included. Flink: NumberSequenceSource, fromSequence. */
export class NumberSequenceSource implements Source<number> {
  readonly name = "sequence";
  readonly type = Types.LONG();
  readonly #numbers: GeneratorSource<number>;

  constructor(from: number, to: number) {
    if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to) || !Number.isSafeInteger(to - from + 1)) {
      throw optionInvalid(`a sequence from ${from} to ${to}`, "give two whole numbers below 2^53");
    }
    if (from > to) throw optionInvalid(`a sequence from ${from} to ${to}`, "give the smaller number first");
    this.#numbers = new GeneratorSource({ count: to - from + 1, type: this.type, generate: (i) => from + i });
  }

  enumerateSplits(options: { readonly parallelism: number }): Promise<readonly unknown[]> {
    return this.#numbers.enumerateSplits(options);
  }

  createOperator(options: { readonly splits: readonly unknown[]; readonly subtask: SubtaskInfo }): SourceOperator {
    return this.#numbers.createOperator(options);
  }
}
