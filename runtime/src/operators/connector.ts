// What a source or a sink is to the rest of the runtime: a description that makes operators on workers.
//
// Invariants:
//   CN1. A description is immutable and made by the user's `main` in every process alike.
//   CN2. Splits are plain JSON; only the source that made them looks inside.

import { Failure } from "@sluice/kit";
import type { StagedUploads } from "@sluice/kit/env";
import type { OneInputOperator, SourceOperator, SubtaskInfo, TypeInformation } from "../model/index.ts";

/** A source of records of type T. */
export interface Source<T> {
  /** Default name of the operator. */
  readonly name: string;
  readonly type: TypeInformation<T>;
  /** Runs in the plan process; the result is frozen in the plan. Failure INPUT_NOT_FOUND names what is missing. */
  enumerateSplits(options: { readonly parallelism: number }): Promise<readonly unknown[]>;
  /** `splits` are those of the whole source; the operator takes its share. */
  createOperator(options: { readonly splits: readonly unknown[]; readonly subtask: SubtaskInfo }): SourceOperator;
}

/** A sink for records of type T. */
export interface Sink<T> {
  readonly name: string;
  /** Has operator state: needs a uid. */
  readonly stateful: boolean;
  /**
   * Whether output of checkpoints above a given one can be hidden again, also when it was published. A sink that cannot
   * keeps a job with a damaged newest checkpoint from going back by itself (protocols 1).
   */
  readonly canRetract: boolean;
  /** Only for inference. */
  readonly recordType?: T;
  createOperator(subtask: SubtaskInfo): OneInputOperator;
}

/** The share of one subtask: split j belongs to subtask j % parallelism. */
export function shareOf<S>(splits: readonly S[], subtask: SubtaskInfo): readonly S[] {
  return splits.filter((_, j) => j % subtask.parallelism === subtask.subtaskIndex);
}

/** Where nothing reaches an object store: tests and programs without one. */
export function noUploads(uri: string): Promise<StagedUploads> {
  return Promise.reject(
    optionInvalid(`${uri} cannot be written to here: no object store is configured`, "use a directory, or sluice run"),
  );
}

/** The failure of configuration given in code; `what` names the option. */
export function optionInvalid(what: string, remedy: string): Failure {
  return new Failure("CONFIG_INVALID", { retry: "never", message: what, remedy });
}
