// A sink that drops its records: for benchmarks, and for streams that are run for their side effects.

import type { OneInputOperator } from "../model/index.ts";
import type { Sink } from "../operators/index.ts";

class DiscardOperator implements OneInputOperator {
  open(): void {}
  processElement(): void {}
  close(): void {}
}

/** Flink: DiscardingSink. */
export class DiscardSink<T = unknown> implements Sink<T> {
  readonly name = "discard";
  readonly stateful = false;
  /** There is nothing to take back. */
  readonly canRetract = true;

  createOperator(): OneInputOperator {
    return new DiscardOperator();
  }
}
