// One operator of a task's chain, as the parts of the task see it.
//
// Not here: how chains are built (slot-builder.ts), how records go through them (chain.ts).

import type { Operator, RestoredOperatorState } from "../model/index.ts";
import type { CountingCollector } from "./chain.ts";

/** One operator of the chain, with what it needs to be opened. */
export interface ChainedOperator {
  readonly uid: string;
  readonly name: string;
  readonly operator: Operator;
  /** Opens the operator; `restored` is its own operator state. */
  open(restored: RestoredOperatorState | undefined): void | Promise<void>;
  /** Makes a Failure that names this operator. */
  attribute(thrown: unknown): unknown;
  /** The collector this operator emits into. */
  readonly output: CountingCollector;
  /** Those of its side outputs. */
  readonly sideOutputs: readonly CountingCollector[];
}

/** What the operator throws names it. */
export function attributed<T>(link: Pick<ChainedOperator, "attribute">, call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw link.attribute(thrown);
  }
}
