// What is written for a checkpoint: its id is reserved, its metadata stored, its record appended.
//
// Invariants (tests cite them):
//   CW1. Metadata is one object with the same bytes at every try, repeated until it is known to be stored (P3); a failure that no
//        repetition heals is told.
//   CW2. What a checkpoint has begun to write ends in one event, or in none once it was given up (`abort`) or the coordinator is over.
//
// Not here: when to write (coordinator.ts), what follows a commit (cleaning.ts, origin-release.ts).

import { Failure, faultPoint } from "@sluice/kit";
import type { Clock, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import { createHash } from "node:crypto";
import type { CheckpointId, CheckpointMetadata } from "../model/index.ts";
import { commitChange } from "./commit-change.ts";
import type { CommitLog } from "./commit-log.ts";
import type { CoordinatorLife } from "./coordinator-life.ts";
import type { CoordinatorEffect, CoordinatorEvent } from "./coordinator-state.ts";
import { placeOf, recordedPath, type StoreOpener, uriOf } from "./location.ts";
import { metadataPath, writeCheckpointMetadata } from "./metadata.ts";
import { StorageBackoff, storageFailure } from "./storage-retry.ts";
import type { CheckpointConfig, CheckpointRef } from "./types.ts";

export interface CheckpointWritesOptions {
  readonly env: { readonly clock: Clock; readonly timers: Timers; readonly rng: Rng };
  readonly store: ObjectStore;
  /** Of savepoints in other places. */
  readonly openStore: StoreOpener;
  readonly commitLog: Pick<CommitLog, "jobDir" | "append" | "reserveIds">;
  readonly config: Pick<CheckpointConfig, "timeoutMs" | "retainedMax">;
  readonly life: Pick<CoordinatorLife, "isOver">;
  /** CW2. */
  readonly onEvent: (event: CoordinatorEvent) => void;
}

export class CheckpointWrites {
  readonly #options: CheckpointWritesOptions;
  readonly #metadata = new Map<CheckpointId, CheckpointMetadata>();
  readonly #io = new Map<CheckpointId, AbortController>();

  constructor(options: CheckpointWritesOptions) {
    this.#options = options;
  }

  /** Of a checkpoint whose writing has begun and that was not forgotten since. */
  metadataOf(id: CheckpointId): CheckpointMetadata | undefined {
    return this.#metadata.get(id);
  }

  /** Checkpoints with something under way. */
  get ids(): readonly CheckpointId[] {
    return [...this.#io.keys()];
  }

  /** CW2: the core has given it up, or nobody waits for it. */
  abort(id: CheckpointId): void {
    this.#io.get(id)?.abort();
  }

  abortAll(): void {
    for (const io of this.#io.values()) io.abort();
  }

  /** The checkpoint is complete or aborted. */
  forget(id: CheckpointId): void {
    this.#io.delete(id);
    this.#metadata.delete(id);
  }

  /** P1: another block of ids, as long as a checkpoint may take. The failure when there is none. */
  async reserveIds(): Promise<Failure | undefined> {
    const giveUp = new AbortController();
    const { env, config, commitLog } = this.#options;
    const cancel = env.timers.after(config.timeoutMs, "reserve-ids-timeout", () => giveUp.abort());
    try {
      const outcome = await commitLog.reserveIds(giveUp.signal);
      return outcome.type === "failed" ? outcome.failure : undefined;
    } finally {
      cancel();
    }
  }

  /** P3: one PUT, repeated with the same bytes until it is known to have happened (CW1). `location`: of a savepoint. */
  async writeMetadata(metadata: CheckpointMetadata, location: string | null): Promise<void> {
    const { env, commitLog, life, onEvent } = this.#options;
    const id = metadata.checkpointId;
    const bytes = writeCheckpointMetadata(metadata);
    const io = new AbortController();
    this.#io.set(id, io);
    this.#metadata.set(id, metadata);
    const backoff = new StorageBackoff(env);
    const name = location ?? metadataPath(commitLog.jobDir, id);
    for (;;) {
      let failure: Failure;
      try {
        const place = await placeOf(name, this.#options);
        faultPoint("P3-before-put");
        const outcome = await place.store.put(place.metadataPath, bytes, io.signal);
        if (io.signal.aborted || life.isOver) return;
        if (outcome === "stored") {
          faultPoint("P3-after-put");
          const sha256 = createHash("sha256").update(bytes).digest("hex");
          const ref: CheckpointRef = { kind: metadata.kind, id, path: recordedPath(place), sha256 };
          onEvent({ type: "metadataWritten", ref });
          return;
        }
        failure = new Failure("STORAGE_UNAVAILABLE", {
          retry: "backoff",
          message: `${uriOf(place.store, place.metadataPath)}: outcome unknown`,
        });
      } catch (thrown) {
        failure = storageFailure(thrown, name);
      }
      if (io.signal.aborted) return; // timed out: the core has given it up already
      if (failure.retry === "never") {
        onEvent({ type: "metadataFailed", id, failure });
        return;
      }
      if (!(await backoff.sleep("metadata-write", [io.signal]))) return;
    }
  }

  /** P4: the record that makes it a checkpoint. True: it is one. */
  async commit(effect: Extract<CoordinatorEffect, { readonly type: "commit" }>): Promise<boolean> {
    const { commitLog, config, env, onEvent } = this.#options;
    const { id } = effect.ref;
    const io = new AbortController();
    this.#io.set(id, io);
    const options = { retainedMax: config.retainedMax, wallMs: env.clock.wallMs() };
    faultPoint("P4-before-append");
    const outcome = await commitLog.append((previous) => commitChange(previous, effect, options), io.signal);
    if (outcome.type === "failed") {
      onEvent({ type: "commitFailed", id, failure: outcome.failure });
      return false;
    }
    faultPoint("P4-after-append");
    onEvent({ type: "committed", id, record: outcome.record });
    return true;
  }
}
