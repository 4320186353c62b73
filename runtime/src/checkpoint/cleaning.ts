// What a coordinator deletes, and when: condemned checkpoints, leftovers of earlier epochs and of savepoints, old records.
//
// Invariants (tests cite them): CL3, CL7, CL8 of types.ts, and
//   CQ1. Deletions and trims of the log go one after the other; a sweep, and the leftovers of savepoints, go beside them.
//   CQ2. A deletion that fails fails nothing else: it is told as not done, and left to a later commit or to the next JobManager.
//   CQ3. At the end of the job the log is asked once more who owns it, before each round of deletions.
//
// Not here: what is condemned (commit-change.ts, deletion.ts), what is reachable (garbage.ts), what the job started from
// (origin-release.ts).

import { faultPoint } from "@sluice/kit";
import type { Log, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import type { CheckpointId, CheckpointMetadata } from "../model/index.ts";
import type { CommitLog } from "./commit-log.ts";
import type { CoordinatorLife } from "./coordinator-life.ts";
import { deletionChange } from "./deletion.ts";
import { CheckpointGarbage } from "./garbage.ts";
import { directoryOfMetadata, placeOf, type StoreOpener } from "./location.ts";
import { StorageBackoff, storageFailure } from "./storage-retry.ts";
import type { CheckpointConfig, CommitRecord } from "./types.ts";

/** Look at old commit records every so many commits, and remove at most so many at a time. */
export const TRIM_EVERY_COMMITS = 64;
const TRIM_COUNT_MAX = 256;
/** Uploads of an aborted savepoint may still arrive for a while: what lies there is removed after each of these times. */
const DISCARD_AFTER_MS = [1_000, 30_000] as const;

export interface CheckpointCleaningOptions {
  readonly env: { readonly timers: Timers; readonly rng: Rng; readonly log: Log };
  readonly store: ObjectStore;
  /** Of savepoints in other places. */
  readonly openStore: StoreOpener;
  readonly commitLog: Pick<CommitLog, "jobDir" | "head" | "isFenced" | "append" | "trim" | "verifyOwnership">;
  readonly config: Pick<CheckpointConfig, "cleansInParallel">;
  readonly life: Pick<CoordinatorLife, "isOver" | "guard">;
  /** A condemned checkpoint is gone, or is not (CQ2). */
  readonly onCleaned: (id: CheckpointId, isRemoved: boolean) => void;
  /** A checkpoint is gone, whoever wanted it. */
  readonly onRemoved: (id: CheckpointId) => void;
  /** Ids that lie in the store and that the log does not know. */
  readonly onOrphans: (ids: readonly CheckpointId[]) => void;
}

export class CheckpointCleaning {
  readonly #options: CheckpointCleaningOptions;
  readonly #garbage: CheckpointGarbage;
  /** CQ1. */
  #deletions: Promise<void> = Promise.resolve();
  #sweeping: Promise<void> = Promise.resolve();
  #commitsSinceTrim = 0;

  constructor(options: CheckpointCleaningOptions) {
    this.#options = options;
    this.#garbage = new CheckpointGarbage(options.store, options.commitLog.jobDir, options.config);
  }

  /** Remembers a checkpoint that this process committed or restored, so that its metadata need not be read again. */
  learn(path: string, metadata: CheckpointMetadata): void {
    this.#garbage.learn(path, metadata);
  }

  /** What was begun is done; it may have failed. Leftovers of savepoints are not waited for. */
  async settled(): Promise<void> {
    await this.#deletions;
    await this.#sweeping; // leftovers of earlier epochs go too
  }

  /** P6, of what the log condemned. */
  delete(ids: readonly CheckpointId[]): void {
    this.#afterDeletions(async () => {
      for (const id of ids) this.#options.onCleaned(id, await this.#isRemoved(id));
    });
  }

  /** A record was appended: now and then old ones go. */
  committed(): void {
    this.#commitsSinceTrim += 1;
    if (this.#commitsSinceTrim < TRIM_EVERY_COMMITS) return;
    this.#commitsSinceTrim = 0;
    this.#afterDeletions(() => this.#trim());
  }

  /** What earlier epochs left behind and the log does not know is condemned with the next commit. `idMax`: their last id. */
  sweep(idMax: number): void {
    const { commitLog, env, life, onOrphans } = this.#options;
    const sweep = async (): Promise<void> => {
      try {
        const ids = await this.#garbage.orphans(idMax, commitLog.head);
        if (ids.length > 0) onOrphans(ids);
      } catch (thrown) {
        env.log.info("sweep skipped", { failure: storageFailure(thrown, "sweep").message });
      }
    };
    if (idMax <= 0) return;
    this.#sweeping = sweep();
    life.guard(this.#sweeping);
  }

  /** Removes what a savepoint that will never be complete has left. Nobody else writes to its directory. */
  discard(location: string): void {
    const { env, life } = this.#options;
    const sweep = async (): Promise<void> => {
      try {
        const place = await placeOf(location, this.#options);
        for (const { path } of await place.store.list(directoryOfMetadata(place.metadataPath))) {
          if (life.isOver) return;
          await place.store.remove(path);
        }
      } catch (thrown) {
        env.log.info("leftovers of a savepoint stay", { location, failure: storageFailure(thrown, location).message });
      }
    };
    for (const delayMs of DISCARD_AFTER_MS)
      env.timers.after(delayMs, "discard-savepoint", () => {
        if (!life.isOver) life.guard(sweep());
      });
  }

  /**
   * P6 for the last record of a job that has ended: what it condemns is deleted (CQ3), then a record says what is left. Rejects with FENCED;
   * any other failure leaves the rest to the next JobManager.
   */
  async deleteCondemned(closed: CommitRecord, roundsMax: number): Promise<CommitRecord> {
    const { commitLog, env } = this.#options;
    if (closed.condemned.length === 0) return closed;
    const never = new AbortController().signal;
    const deleted = new Set<CheckpointId>();
    const backoff = new StorageBackoff(env);
    for (let round = 0; round < roundsMax && deleted.size < closed.condemned.length; round += 1) {
      if (round > 0) await backoff.sleep("last-delete", [never]);
      try {
        await commitLog.verifyOwnership(never);
      } catch (thrown) {
        const failure = storageFailure(thrown, "commit log");
        if (failure.code === "FENCED") throw failure; // CL8
        continue;
      }
      for (const id of closed.condemned) if (!deleted.has(id) && (await this.#isRemoved(id))) deleted.add(id);
    }
    env.log.info("condemned checkpoints of the ended job are deleted", {
      deleted: deleted.size,
      left: closed.condemned.length - deleted.size,
    });
    const outcome = await commitLog.append((previous) => deletionChange(previous, deleted), never);
    return outcome.type === "appended" ? outcome.record : closed; // the next JobManager finds nothing there to delete
  }

  #afterDeletions(act: () => Promise<void>): void {
    this.#deletions = this.#deletions.then(act);
    this.#options.life.guard(this.#deletions);
  }

  async #trim(): Promise<void> {
    const { commitLog, env, life } = this.#options;
    try {
      if (!life.isOver) await commitLog.trim(TRIM_COUNT_MAX, new AbortController().signal);
    } catch (thrown) {
      env.log.warn("old commit records stay", { failure: storageFailure(thrown, "trim").message });
    }
  }

  async #isRemoved(id: CheckpointId): Promise<boolean> {
    const { commitLog, env, life, onRemoved } = this.#options;
    const mayDelete = (): boolean => !life.isOver && !commitLog.isFenced;
    let result: "removed" | "not-now" = "not-now";
    try {
      if (mayDelete()) {
        faultPoint("P6-before-delete");
        result = await this.#garbage.remove(id, () => commitLog.head, mayDelete);
        faultPoint("P6-after-delete");
      }
    } catch (thrown) {
      env.log.info("deletion postponed", { checkpoint: id, failure: storageFailure(thrown, "delete").message });
    }
    if (result === "removed") onRemoved(id);
    return result === "removed";
  }
}
