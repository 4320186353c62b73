// Whether a task's results have somewhere to go: the writers of its output edges, and operators that can say that they are full.
//
// Invariants (tests cite them):
//   TK3. (task.ts) A task whose output has no room is not run until its staging has drained; nothing is dropped.
//   TO1. An operator that can take no more counts as an output without room.
//   TO2. Barriers and the end go to every output edge.
//
// Asked once per chunk of rows: plain loops, nothing is allocated.
//
// Not here: where a record goes (network/record-writer.ts), what is done while there is room (task.ts).

import type { Barrier, Operator } from "../model/index.ts";
import type { RecordWriter } from "../network/index.ts";

export class TaskOutputs {
  readonly #writers: readonly RecordWriter[];
  /** Operators of the chain that may say that they can take no more. */
  readonly #gated: readonly Operator[];

  constructor(writers: readonly RecordWriter[], operators: readonly Operator[]) {
    this.#writers = writers;
    this.#gated = operators.filter((operator) => "isAvailable" in operator);
  }

  /** Whether user code may emit. */
  get hasRoom(): boolean {
    const writers = this.#writers;
    for (let i = 0; i < writers.length; i += 1) if (!(writers[i] as RecordWriter).available) return false;
    return this.#operatorsHaveRoom();
  }

  /** Sends what is staged as far as there is credit. True: there is room again. */
  drain(): boolean {
    const writers = this.#writers;
    let drained = true;
    for (let i = 0; i < writers.length; i += 1) {
      const writer = writers[i] as RecordWriter;
      if (!writer.available && !writer.drain()) drained = false;
    }
    return drained && this.#operatorsHaveRoom();
  }

  /** Lets batches leave that are not full. */
  flush(): void {
    for (const writer of this.#writers) writer.flush();
  }

  broadcastBarrier(barrier: Barrier): void {
    for (const writer of this.#writers) writer.broadcastBarrier(barrier);
  }

  broadcastEndOfData(): void {
    for (const writer of this.#writers) writer.broadcastEndOfData();
  }

  get bytesWritten(): number {
    let bytes = 0;
    for (const writer of this.#writers) bytes += writer.bytesWritten;
    return bytes;
  }

  /** TO1. */
  #operatorsHaveRoom(): boolean {
    const gated = this.#gated;
    for (let i = 0; i < gated.length; i += 1) if ((gated[i] as Operator).isAvailable === false) return false;
    return true;
  }
}
