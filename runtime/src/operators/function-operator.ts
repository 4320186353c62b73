// What operators around a user function share: the output, and the life of the function: state, opening, checkpoints, closing.
//
// Invariants:
//   FO1. Order of a life: initializeState, open, records; at a barrier snapshotState; close once.
//   FO2. A function without `initializeState` has no operator state, and restored operator state for it is a failure, not forgotten.
//
// Not here: how a record reaches the function (stateless.ts, co-functions.ts, keyed.ts).

import { assert, Failure } from "@sluice/kit";
import type {
  Barrier,
  CheckpointedFunction,
  CheckpointId,
  CheckpointListener,
  Collector,
  Operator,
  OperatorContext,
  OperatorState,
  RestoredOperatorState,
  RichFunction,
  StateSchema,
  SubtaskInfo,
} from "../model/index.ts";
import { HeapOperatorStateStore } from "./operator-state-store.ts";
import { refusePromise, runtimeContextOf } from "./user-function.ts";

/** Where a record goes before an operator is open. */
export const NOWHERE: Collector<unknown> = {
  collect() {
    assert(false, "an operator emits only between open and close");
  },
};

const NO_STATE: OperatorState = new Map();

/** Whether a function has operator state: its operator needs a uid then. */
export function isCheckpointed(fn: object): fn is CheckpointedFunction {
  const { initializeState, snapshotState } = fn as Partial<CheckpointedFunction>;
  return typeof initializeState === "function" && typeof snapshotState === "function";
}

export abstract class FunctionOperator implements Operator {
  readonly subtask: SubtaskInfo;
  output = NOWHERE;
  readonly #rich: RichFunction | undefined;
  #store: HeapOperatorStateStore | undefined;

  /** `rich`: undefined for a plain function. */
  constructor(subtask: SubtaskInfo, rich: RichFunction | undefined) {
    this.subtask = subtask;
    this.#rich = rich;
  }

  /** The operator state of the function; only if it has any. */
  protected get store(): HeapOperatorStateStore | undefined {
    return this.#store;
  }

  open(context: OperatorContext, restored: RestoredOperatorState | undefined): void {
    this.output = context.output;
    const fn = this.#rich;
    const state = this.stateOf(fn, restored);
    this.#store = state;
    if (fn === undefined) return;
    const runtimeContext = runtimeContextOf(context);
    if (state !== undefined && isCheckpointed(fn)) {
      const initialized = fn.initializeState({
        isRestored: () => restored !== undefined,
        getRestoredCheckpointId: () => restored?.checkpointId,
        getOperatorStateStore: () => state,
        getKeyedStateStore: () => runtimeContext,
      }) as unknown;
      refusePromise(initialized, this.subtask);
    }
    // `open` is declared void, which does not keep an async method from being assigned to it.
    refusePromise(fn.open(runtimeContext) as unknown, this.subtask);
  }

  snapshotState(barrier: Barrier): OperatorState {
    const fn = this.#rich;
    if (this.#store === undefined) return NO_STATE;
    if (fn !== undefined && isCheckpointed(fn)) {
      const taken = fn.snapshotState({
        getCheckpointId: () => barrier.checkpointId,
        getCheckpointTimestamp: () => barrier.timestampMs,
      }) as unknown;
      refusePromise(taken, this.subtask);
    }
    return this.#store.snapshot();
  }

  declaredStates(): readonly StateSchema[] {
    return this.#store?.declaredStates() ?? [];
  }

  notifyCheckpointComplete(id: CheckpointId): void {
    const told = (this.#rich as Partial<CheckpointListener> | undefined)?.notifyCheckpointComplete?.(id) as unknown;
    refusePromise(told, this.subtask);
  }

  notifyCheckpointAborted(id: CheckpointId): void {
    const told = (this.#rich as Partial<CheckpointListener> | undefined)?.notifyCheckpointAborted?.(id) as unknown;
    refusePromise(told, this.subtask);
  }

  close(): void {
    this.#rich?.close();
  }

  /** FO2; operators that give their function state by other means override it. */
  protected stateOf(
    fn: RichFunction | undefined,
    restored: RestoredOperatorState | undefined,
  ): HeapOperatorStateStore | undefined {
    const { subtask } = this;
    if (fn !== undefined && isCheckpointed(fn)) return new HeapOperatorStateStore({ subtask, restored });
    const [name] = [...(restored?.states ?? [])].find(([, { items }]) => items.length > 0) ?? [];
    if (name === undefined) return undefined;
    throw new Failure("STATE_INCOMPATIBLE", {
      retry: "never",
      message: `operator "${subtask.operatorName}" (uid ${subtask.uid}): the checkpoint has operator state "${name}", and the function keeps none`,
      remedy:
        "let the function implement CheckpointedFunction again, or give the operator another uid and drop the state",
    });
  }
}
