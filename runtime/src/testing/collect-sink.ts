// A sink that a test reads: records of completed checkpoints, in memory.
//
// Invariants (tests cite them):
//   CO1. `values()` holds every record exactly once whatever is killed, as a transactional sink outside would: records of checkpoint n
//        appear when n has completed, or when a job restores n; what was not in a restored checkpoint is forgotten.
//   CO2. Without checkpoints records appear at once.
//
// It plays the part of the world outside of the cluster: what it holds survives killed parts.

import type {
  AttemptNumber,
  Barrier,
  CheckpointId,
  Epoch,
  OneInputOperator,
  OperatorContext,
  RestoredOperatorState,
  SubtaskInfo,
} from "../model/index.ts";
import type { Sink } from "../operators/index.ts";

/** Records of one subtask between two barriers. */
interface Batch<T> {
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly checkpointId: CheckpointId;
  readonly records: readonly T[];
}

/**
 * Collects what a job emits. Create it in the test, use it in `main` by `sinkTo(sink)` with a uid, read `values()` afterwards.
 * One object serves one operator.
 */
export class CollectSink<T> implements Sink<T> {
  readonly name = "collect";
  readonly stateful = true;
  readonly canRetract = true;
  readonly #published: Batch<T>[] = [];
  #pending: readonly Batch<T>[] = [];

  /** What is final so far: in order per subtask, in order of checkpoints between subtasks. */
  values(): readonly T[] {
    return this.#published.flatMap(({ records }) => records);
  }

  createOperator(subtask: SubtaskInfo): OneInputOperator {
    const { epoch, attempt } = subtask;
    let records: T[] = [];
    let isCheckpointing = false;
    const cut = (checkpointId: CheckpointId): Batch<T> => {
      const batch = { epoch, attempt, checkpointId, records };
      records = [];
      return batch;
    };
    return {
      open: (context: OperatorContext, restored: RestoredOperatorState | undefined) => {
        isCheckpointing = context.checkpointingEnabled;
        this.#begin(subtask, restored);
      },
      processElement: (record) => {
        records.push(record as T);
        if (!isCheckpointing) this.#published.push(cut(0 as CheckpointId)); // CO2
      },
      snapshotState: (barrier: Barrier) => {
        this.#pending = [...this.#pending, cut(barrier.checkpointId)];
        return new Map([["collected", { mode: "split", items: [] }]]);
      },
      notifyCheckpointComplete: (id) => {
        this.#settle((batch) =>
          batch.epoch === epoch && batch.attempt === attempt && batch.checkpointId <= id ? "publish" : "keep",
        );
      },
      close: () => {},
    };
  }

  /** A subtask begins from a checkpoint, or anew: what earlier attempts left is decided by it (CO1). */
  #begin({ epoch, attempt }: SubtaskInfo, restored: RestoredOperatorState | undefined): void {
    const restoredId = restored?.checkpointId ?? -1;
    this.#settle((batch) => {
      const isEarlier = batch.epoch < epoch || (batch.epoch === epoch && batch.attempt < attempt);
      if (!isEarlier) return "keep";
      return batch.checkpointId <= restoredId ? "publish" : "forget";
    });
    const through = restored?.retractThrough;
    if (through === undefined) return;
    const kept = this.#published.filter(({ checkpointId }) => checkpointId <= restoredId || checkpointId > through);
    this.#published.splice(0, this.#published.length, ...kept);
  }

  #settle(decide: (batch: Batch<T>) => "publish" | "forget" | "keep"): void {
    const kept: Batch<T>[] = [];
    for (const batch of this.#pending) {
      const decision = decide(batch);
      if (decision === "publish") this.#published.push(batch);
      if (decision === "keep") kept.push(batch);
    }
    this.#pending = kept;
  }
}
