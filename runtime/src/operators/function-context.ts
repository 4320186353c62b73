// The context that functions get with every record.
//
// Invariants:
//   FC1. One object per operator and subtask; what it costs is paid by the calls that use it.

import type { Collector, OperatorContext, OutputTag, SideOutputContext } from "../model/index.ts";

/** Side outputs by tag; a tag is looked up by name and checked once. */
export class FunctionContext implements SideOutputContext {
  readonly #operator: OperatorContext;
  readonly #collectors = new Map<OutputTag<unknown>, Collector<unknown>>();

  constructor(operator: OperatorContext) {
    this.#operator = operator;
  }

  output<X>(tag: OutputTag<X>, value: X): void {
    let collector = this.#collectors.get(tag);
    if (collector === undefined) {
      collector = this.#operator.sideOutput(tag);
      // A tag made for every record would be a leak: those are checked each time.
      if (this.#collectors.size < TAGS_MAX) this.#collectors.set(tag, collector);
    }
    collector.collect(value);
  }
}

/** Tags of one operator that are kept. */
const TAGS_MAX = 1_000;
