// A subtask's snapshot between its barrier and its submission: operator state may still be on its way to disk, keyed state is
// encoded in small steps between batches.
//
// Invariants:
//   SN1. Everything is captured when the constructor returns; later writes of the task do not change the snapshot.
//   SN2. A step is short: the caller's budget bounds the pause that records see.
//   SN3. A released snapshot is never submitted.
//
// Not here: where parts are stored (taskmanager/io), when a snapshot is taken (task.ts).

import { assert, type Failure, toFailure } from "@sluice/kit";
import type { Barrier, OperatorState, SnapshotPart } from "../model/index.ts";
import { encodeOperatorState, type KeyedSnapshot } from "../state/index.ts";

/** Operator state of one chained operator, captured, perhaps not yet durable. */
export interface CapturedOperatorState {
  readonly uid: string;
  readonly state: OperatorState | Promise<OperatorState>;
}

export interface SnapshotTimes {
  readonly startDelayMs: number;
  readonly alignmentMs: number;
  readonly syncMs: number;
  /** Monotonic time at which the asynchronous part began. */
  readonly asyncFromMs: number;
}

export class PendingSnapshot {
  readonly barrier: Barrier;
  readonly times: SnapshotTimes;
  readonly finished: boolean;
  readonly #keyed: KeyedSnapshot | undefined;
  #keyedDone: boolean;
  #operatorParts: SnapshotPart[] | undefined;
  #failure: Failure | undefined;
  #released = false;

  constructor(options: {
    readonly barrier: Barrier;
    readonly times: SnapshotTimes;
    readonly finished: boolean;
    readonly operators: readonly CapturedOperatorState[];
    readonly keyed: KeyedSnapshot | undefined;
    /** Called when operator state became ready or failed. */
    readonly wake: () => void;
  }) {
    this.barrier = options.barrier;
    this.times = options.times;
    this.finished = options.finished;
    this.#keyed = options.keyed;
    this.#keyedDone = options.keyed === undefined;
    const settle = (states: readonly { readonly uid: string; readonly state: OperatorState }[]): void => {
      this.#operatorParts = states.flatMap(({ uid, state }) =>
        [...state].map(([stateName, content]): SnapshotPart => {
          const { mode, items } = content;
          const chunks = encodeOperatorState({ uid, stateName }, content);
          return { uid, stateName, kind: "operator", mode, itemCount: items.length, chunks };
        }),
      );
    };
    const pending = options.operators.some(({ state }) => state instanceof Promise);
    if (!pending) {
      settle(options.operators.map(({ uid, state }) => ({ uid, state: state as OperatorState })));
      return;
    }
    Promise.all(options.operators.map(async ({ uid, state }) => ({ uid, state: await state })))
      .then(settle)
      .catch((thrown: unknown) => {
        this.#failure = toFailure(thrown);
      })
      .finally(options.wake);
  }

  /** Set when capturing operator state failed: the checkpoint is to be declined. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Encodes for about `budgetMs` (SN2). True when there was something to do. */
  step(budgetMs: number): boolean {
    if (this.#keyedDone || this.#released) return false;
    assert(this.#keyed !== undefined, "an unfinished encoding has a keyed snapshot");
    this.#keyedDone = this.#keyed.step(budgetMs);
    return true;
  }

  get ready(): boolean {
    return this.#keyedDone && this.#operatorParts !== undefined && !this.#released;
  }

  /** All parts; the snapshot gives them away. */
  takeParts(): SnapshotPart[] {
    assert(this.ready, "SN3: parts are taken once, when ready");
    const parts = [...(this.#operatorParts ?? []), ...(this.#keyed?.parts() ?? [])];
    this.release();
    return parts;
  }

  /** Gives up what copy-on-write still protects. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#keyed?.release();
  }
}
