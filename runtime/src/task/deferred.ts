// The operators of a chain whose results come later (asynchronous I/O), as the task's steps see them.
//
// Invariants:
//   DE1. They emit inside task steps only, and only while the task's outputs have room (TK3).
//   DE2. `rows` bounds what the task may read: every one of them has room for it, as far as one row makes one input.
//
// Not here: the operators themselves (operators/async-wait.ts).

import type { DeferringOperator, Operator } from "../model/index.ts";

/** Answers emitted between two looks at the room of the outputs. */
const INPUTS_PER_TURN = 64;

function isDeferring(operator: Operator): operator is DeferringOperator {
  return "emitReady" in operator;
}

interface Link<O extends Operator> {
  readonly operator: O;
  attribute(thrown: unknown): unknown;
}

export class DeferredResults {
  readonly #links: readonly Link<DeferringOperator>[];

  constructor(chain: readonly Link<Operator>[]) {
    this.#links = chain.filter((link): link is Link<DeferringOperator> => isDeferring(link.operator));
  }

  get isEmpty(): boolean {
    return this.#links.length === 0;
  }

  /** Rows that may be read now (DE2). */
  get rows(): number {
    let rows = Number.POSITIVE_INFINITY;
    for (const { operator } of this.#links) rows = Math.min(rows, operator.room);
    return rows;
  }

  /** Clock time at which one of them has something to do by itself. */
  get wakeAtMs(): number {
    let atMs = Number.POSITIVE_INFINITY;
    for (const { operator } of this.#links) atMs = Math.min(atMs, operator.wakeAtMs);
    return atMs;
  }

  /** Whether this operator of the chain, if it is one of them, still holds inputs. */
  holds(operator: Operator): boolean {
    return isDeferring(operator) && !operator.isIdle;
  }

  /** Emits what is due while the outputs have room (DE1). True when something was emitted. */
  emit(outputs: { readonly hasRoom: boolean }): boolean {
    let emittedEver = false;
    for (const link of this.#links) {
      for (let emitted = INPUTS_PER_TURN; emitted === INPUTS_PER_TURN && outputs.hasRoom;) {
        try {
          emitted = link.operator.emitReady(INPUTS_PER_TURN);
        } catch (thrown) {
          throw link.attribute(thrown);
        }
        emittedEver = emittedEver || emitted > 0;
      }
    }
    return emittedEver;
  }
}
