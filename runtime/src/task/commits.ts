// What the operators of a task do when a checkpoint is complete: publish.
//
// Invariants (tests cite them):
//   TK5. (task.ts) Side effects of checkpoint n are asked for only by notifyCheckpointComplete(m >= n).
//   CJ1. Operators are told in the order of the chain; answers that come later delay only the end of the task.
//   CJ2. A checkpoint is settled when it, or a later one, was told to all operators and no answer is missing: that to an older
//        confirmation may come after that to the final one.
//
// Not here: what the end waits for (finish-protocol.ts).

import type { CheckpointId } from "../model/index.ts";
import { attributed, type ChainedOperator } from "./chained-operator.ts";

export class Commits {
  readonly #chain: readonly Pick<ChainedOperator, "operator" | "attribute">[];
  readonly #onFailed: (thrown: unknown) => Promise<void>;
  readonly #onAnswered: () => void;
  /** The newest checkpoint of which all operators were told that it is complete. */
  #confirmedId = 0;
  #pendingCount = 0;

  constructor(options: {
    /** Head first. */
    readonly chain: readonly Pick<ChainedOperator, "operator" | "attribute">[];
    /** An operator could not publish. */
    readonly onFailed: (thrown: unknown) => Promise<void>;
    /** An answer came, after its failure if it was one. */
    readonly onAnswered: () => void;
  }) {
    this.#chain = options.chain;
    this.#onFailed = options.onFailed;
    this.#onAnswered = options.onAnswered;
  }

  /** Tells all operators that checkpoint `id` is complete (CJ1). Throws what one of them throws. */
  tell(id: CheckpointId): void {
    for (const link of this.#chain) {
      const committing = attributed(link, () => link.operator.notifyCheckpointComplete?.(id));
      if (committing instanceof Promise) {
        this.#pendingCount += 1;
        committing.catch(this.#onFailed).finally(() => {
          this.#pendingCount -= 1;
          this.#onAnswered();
        });
      }
    }
    this.#confirmedId = Math.max(this.#confirmedId, id);
  }

  /** CJ2. */
  isSettled(id: CheckpointId): boolean {
    return this.#pendingCount === 0 && this.#confirmedId >= id;
  }
}
