// A sink that prints to standard output of the TaskManager: `subtask> record`.
//
// Invariants:
//   PS1. At least once: what was printed before a failure is printed again by the replay.

import type { OneInputOperator, SubtaskInfo } from "../model/index.ts";
import type { Sink } from "../operators/index.ts";
import { localFiles } from "./local-files.ts";

class PrintOperator implements OneInputOperator {
  readonly #prefix: string;

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  open(): void {}

  processElement(record: unknown): void {
    const text = typeof record === "string" ? record : (JSON.stringify(record) ?? String(record));
    localFiles.print(`${this.#prefix}${text}\n`);
  }

  close(): void {}
}

/** Flink: DataStream.print(): the prefix is the subtask, counted from 1, when there is more than one. */
export class PrintSink<T = unknown> implements Sink<T> {
  readonly name = "print";
  readonly stateful = false;
  readonly canRetract = false;

  createOperator(subtask: SubtaskInfo): OneInputOperator {
    return new PrintOperator(subtask.parallelism > 1 ? `${subtask.subtaskIndex + 1}> ` : "");
  }
}
