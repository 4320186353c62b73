// Those who asked for a checkpoint or a savepoint, and wait for an answer.
//
// Invariants (tests cite them):
//   PE1. Who asks for a checkpoint gets the next one that is triggered, not one that is under way: it would lack what came in between.
//   PE2. Everybody gets one answer: the checkpoint or a newer one, its failure, or at the latest that the coordinator ends.
//
// Not here: when a checkpoint is triggered (coordinator.ts), savepoints that wait to be triggered (savepoint-requests.ts).

import { Failure } from "@sluice/kit";
import type { CheckpointId } from "../model/index.ts";
import { neverBegan } from "./savepoint-requests.ts";
import type { TakenSavepoint } from "./types.ts";

/** One who asked for a checkpoint. */
export interface AskedCheckpoint {
  readonly taken: Promise<CheckpointId>;
  /** It has waited too long; nothing once the checkpoint has begun. */
  refuse(failure: Failure): void;
}

/** One who asked for a savepoint. */
export interface AskedSavepoint {
  /** Tells it from the others of this process. */
  readonly token: number;
  readonly taken: Promise<TakenSavepoint>;
}

export class PendingAnswers {
  /** Of the next checkpoint. */
  #waiting: PromiseWithResolvers<CheckpointId>[] = [];
  /** Of those that began. */
  readonly #asked = new Map<CheckpointId, readonly PromiseWithResolvers<CheckpointId>[]>();
  readonly #savepoints = new Map<number, PromiseWithResolvers<TakenSavepoint>>();
  #nextToken = 1;

  /** The next checkpoint. */
  checkpoint(): AskedCheckpoint {
    const asked = Promise.withResolvers<CheckpointId>();
    this.#waiting.push(asked);
    const refuse = (failure: Failure): void => {
      if (!this.#waiting.includes(asked)) return; // it has begun
      this.#waiting = this.#waiting.filter((other) => other !== asked);
      asked.reject(failure);
    };
    return { taken: asked.promise, refuse };
  }

  savepoint(): AskedSavepoint {
    const token = this.#nextToken;
    this.#nextToken += 1;
    const taken = Promise.withResolvers<TakenSavepoint>();
    this.#savepoints.set(token, taken);
    return { token, taken: taken.promise };
  }

  /** Checkpoint `id` begins: it is what those who wait have asked for (PE1). */
  triggered(id: CheckpointId): void {
    if (this.#waiting.length > 0) this.#asked.set(id, this.#waiting.splice(0));
  }

  completed(id: CheckpointId): void {
    this.#answer(id, (asked) => asked.resolve(id));
  }

  /** A newer one is complete before it: that holds what it would have held (C2 of coordinator.ts). */
  subsumed(id: CheckpointId, by: CheckpointId): void {
    this.#answer(id, (asked) => asked.resolve(by));
  }

  aborted(id: CheckpointId, failure: Failure): void {
    this.#answer(id, (asked) => asked.reject(failure));
  }

  savepointTaken(token: number, taken: TakenSavepoint): void {
    this.#savepoints.get(token)?.resolve(taken);
  }

  savepointFailed(token: number, failure: Failure): void {
    this.#savepoints.get(token)?.reject(failure);
  }

  /** Nobody waits for this answer any more. */
  forgetSavepoint(token: number): void {
    this.#savepoints.delete(token);
  }

  /** There will be no next checkpoint soon. */
  refuseWaiting(failure: Failure): void {
    for (const asked of this.#waiting.splice(0)) asked.reject(failure);
  }

  /** PE2: the coordinator ends. */
  interruptAll(): void {
    this.refuseWaiting(interrupted());
    for (const id of [...this.#asked.keys()]) this.aborted(id, interrupted());
    for (const asked of this.#savepoints.values()) asked.reject(interrupted());
  }

  #answer(id: CheckpointId, how: (asked: PromiseWithResolvers<CheckpointId>) => void): void {
    for (const asked of this.#asked.get(id) ?? []) how(asked);
    this.#asked.delete(id);
  }
}

/** The answer to whoever has waited for a checkpoint as long as one may take. */
export function checkpointOverdue(timeoutMs: number): Failure {
  return new Failure("CHECKPOINT_DECLINED", {
    retry: "backoff",
    message: `no checkpoint was taken: ${neverBegan(timeoutMs)}`,
    remedy: "ask again once the job runs",
  });
}

/** The answer to whoever asks at the wrong moment. */
export function interrupted(): Failure {
  return new Failure("CANCELED", {
    retry: "backoff",
    message: "the job is being stopped or restarted",
    remedy: "ask for a checkpoint again once it runs",
  });
}
