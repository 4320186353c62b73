// What checkpoint operations do: checkpoint, savepoint, stop, disposal, pins.
//
// Not here: recording them (operations.ts), the savepoints themselves (checkpoint/).

import { Failure, planted, toFailure } from "@sluice/kit";
import type { Clock, Log, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import { disposeSavepoint, placeName, withoutStartPins } from "../checkpoint/index.ts";
import type {
  CheckpointCoordinator,
  CommitLog,
  SavepointOrder,
  StoreOpener,
  TakenSavepoint,
} from "../checkpoint/index.ts";
import type { OperationRunners } from "./operations.ts";
import { savepointLocation } from "./savepoint-location.ts";
import type { EndState } from "./scheduler.ts";

/** Where the job's checkpoints are. */
interface OwnStorage {
  readonly store: ObjectStore;
  readonly openStore: StoreOpener;
  readonly log: CommitLog;
}

export interface CheckpointOperationsOptions {
  readonly env: { readonly clock: Clock; readonly timers: Timers; readonly rng: Rng; readonly log: Log };
  readonly jobId: string;
  /** Where savepoints go that were asked for without a place. */
  readonly savepointDirectory: string | undefined;
  /** Undefined before the log is claimed, and for a job without checkpoints. */
  readonly coordinator: () => CheckpointCoordinator | undefined;
  readonly storage: () => OwnStorage | undefined;
  /** Hex digits that nobody has drawn before. */
  readonly random: () => string;
  readonly signal: AbortSignal;
}

const RANDOM_LENGTH = 12;

export function checkpointRunners(options: CheckpointOperationsOptions): OperationRunners {
  const { env, jobId, savepointDirectory, coordinator, storage, random, signal } = options;
  const take = (target: string | null, order: Omit<SavepointOrder, "location">): Promise<TakenSavepoint> => {
    const name = { jobId, random: random().slice(0, RANDOM_LENGTH) };
    const location = savepointLocation(target ?? savepointDirectory, name);
    const taker = coordinator();
    if (taker === undefined) throw noCheckpoints();
    return taker.takeSavepoint({ location, ...order });
  };
  return {
    checkpoint: async () => {
      const taker = coordinator();
      if (taker === undefined) throw noCheckpoints();
      return { type: "done", checkpointId: await taker.triggerCheckpoint() };
    },
    savepoint: async ({ targetDirectory, cancelsJob }, { followedBy }) => {
      const { id, location } = await take(targetDirectory, { stops: "no", operationId: null });
      if (cancelsJob) followedBy({ kind: "cancel" });
      return { type: "done", location, checkpointId: id };
    },
    stop: async ({ targetDirectory, drain }, { id }) => {
      if (planted("stop-takes-intermediate")) {
        const { location } = await take(targetDirectory, { stops: "no", operationId: null });
        return { type: "done", location };
      }
      await take(targetDirectory, { stops: drain ? "drain" : "suspend", operationId: id });
      return undefined; // settled by the record that makes the savepoint the head
    },
    dispose: async ({ savepointPath }, { isResumed }) => {
      const own = storage();
      if (own === undefined) throw noCheckpoints();
      const { store, openStore } = own;
      try {
        const disposed = await disposeSavepoint({ name: savepointPath, stores: [store], openStore, env, signal });
        return { type: "done", location: disposed.location };
      } catch (thrown) {
        if (isResumed && toFailure(thrown).code === "INPUT_NOT_FOUND") return { type: "done" }; // it had come to its end
        throw thrown;
      }
    },
    unpin: async ({ holder }) => {
      const own = storage();
      if (own === undefined) throw noCheckpoints();
      const appended = await own.log.append((previous) => withoutStartPins(previous, holder), signal);
      if (appended.type === "failed") throw appended.failure;
      return { type: "done" };
    },
  };
}

/** What is said when the job has ended without a failure. */
export function endMessage(as: EndState, jobName: string, storage: OwnStorage | undefined): string {
  const record = storage?.log.head;
  if (storage === undefined || record?.jobState !== "stopped" || record.head === null) return `job ${jobName} is ${as}`;
  const savepoint = placeName(storage.store, record.head.path);
  return `job ${jobName} was stopped with savepoint ${savepoint}; its next run goes on from there`;
}

function noCheckpoints(): Failure {
  return new Failure("CONFIG_INVALID", {
    retry: "never",
    message: "the job takes no checkpoints",
    remedy: "set execution.checkpointing.interval and execution.checkpointing.dir",
  });
}
