// The start of a task: what it restores is read, then its operators are opened with it.
//
// Invariants (tests cite them):
//   OH1. Keyed state is restored before the first operator opens; the chain opens tail to head, so that whatever the head emits finds
//        open successors.
//   OH2. A task that was cancelled meanwhile opens no further operator.
//
// Not here: reading parts (restored-parts.ts), what an operator does with its state (operators/, connectors/).

import { assert } from "@sluice/kit";
import type { PartsRead, SlotPort, TaskRestore } from "../model/index.ts";
import { NOTHING_READ } from "../model/index.ts";
import type { HeapKeyedStateBackend } from "../state/index.ts";
import type { ChainedOperator } from "./chained-operator.ts";
import { readRestoredParts } from "./restored-parts.ts";

export interface OpenChainOptions {
  /** Head first. */
  readonly chain: readonly Pick<ChainedOperator, "uid" | "open">[];
  /** Undefined: a fresh start. */
  readonly restore: TaskRestore | undefined;
  readonly keyedState: Pick<HeapKeyedStateBackend, "restore" | "opened"> | undefined;
  readonly port: Pick<SlotPort, "fetchParts">;
  /** OH2. */
  readonly isOver: () => boolean;
}

/** Restores and opens. Where the parts came from; undefined when the task ended meanwhile. Rejects with what fails the task. */
export async function openChain(options: OpenChainOptions): Promise<PartsRead | undefined> {
  const { chain, restore, keyedState, port, isOver } = options;
  const parts = restore === undefined ? undefined : await readRestoredParts(restore.parts, port);
  assert(parts === undefined || parts.keyed.length === 0 || keyedState !== undefined, "keyed parts go to a keyed task");
  if (parts !== undefined) keyedState?.restore(parts.keyed);
  for (const link of chain.toReversed()) {
    if (isOver()) return undefined;
    await link.open(
      restore === undefined
        ? undefined
        : {
            checkpointId: restore.checkpointId,
            retractThrough: restore.retractThrough,
            claimedLineage: restore.claimedLineage,
            states: parts?.operator.get(link.uid) ?? new Map<string, never>(),
          },
    );
  }
  keyedState?.opened();
  return parts?.read ?? NOTHING_READ;
}
