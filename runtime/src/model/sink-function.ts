// Sinks that users write as functions (Flink: SinkFunction, RichSinkFunction).
//
// What `invoke` does to the world outside is at least once: what was done after the checkpoint that is restored is done again. A function
// with operator state (CheckpointedFunction) that waits for its checkpoint (CheckpointListener) makes it exactly once; the example is
// examples/buffering-sink.ts.
//
// Invariants: UF1, UF2 of functions.ts, CP1, CP2 of checkpointed.ts.
//
// Not here: sinks of this runtime's own kind (operators/connector.ts), which can also take published output back.

import { RichFunction } from "./functions.ts";

/** Per-record context of a sink function (Flink: SinkFunction.Context). */
export interface SinkContext {
  /** Wall clock of the TaskManager, in milliseconds. */
  currentProcessingTime(): number;
}

/** Called for every record of the stream (Flink: SinkFunction). */
export type SinkFunction<T> = (value: T, ctx: SinkContext) => void;

/** Flink: RichSinkFunction. */
export abstract class RichSinkFunction<T> extends RichFunction {
  abstract invoke(value: T, ctx: SinkContext): void;
  /** All input was seen, and the final checkpoint follows: what is still held back can go out. Not called after a failure or a stop. */
  finish(): void {}
}
