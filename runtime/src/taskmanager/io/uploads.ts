// From submitted snapshots to acknowledged checkpoints: packs parts, keeps a local copy, stores, acknowledges.
//
// Invariants (tests cite them):
//   UP1. A subtask is acknowledged once, after every object that holds a part of it is known to be stored.
//   UP2. An object's name is written with one content only: names hold epoch, attempt, TaskManager and chance; after an unknown
//        outcome the same name gets the same bytes again (P2).
//   UP3. Storing is tried until it succeeded, the checkpoint is over, or the store says that trying again is useless.
//   UP4. A pack is closed when it is full, or when all subtasks of this TaskManager have submitted (or have finished before). Once per
//        checkpoint one is closed early, when it is more than half full or after LINGER_MS: what has come by then is on its way. So one
//        TaskManager stores at most ceil(bytes / PACK_BYTES) + 2 objects for a checkpoint, whatever its parts and however late they come.
//   UP5. A savepoint's packs go to its own directory and nowhere else; no completed checkpoint ends its upload.
//
// Not here: where parts lie in a pack (pack.ts), deleting from the store (only the coordinator does).

import { assert, Failure, retry, throwIfAborted, toFailure } from "@sluice/kit";
import type { Cancel, Clock, Log, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import { directoryOfMetadata, placeOf } from "../../checkpoint/index.ts";
import type { CheckpointDecline, StoreOpener } from "../../checkpoint/index.ts";
import type {
  AttemptNumber,
  CheckpointAck,
  CheckpointId,
  Epoch,
  PartHandle,
  SnapshotSubmission,
  SubtaskId,
} from "../../model/index.ts";
import { subtaskKey } from "../../model/index.ts";
import type { LocalCopies } from "./local-copies.ts";
import { OpenPack, PACK_BYTES, partBytes } from "./pack.ts";
import type { ClosedPack, PackEntry } from "./pack.ts";

/** How long parts wait for those of other subtasks. */
export const LINGER_MS = 500;
export const STORE_BACKOFF = {
  initialMs: 50,
  maxMs: 3_000,
  multiplier: 2,
  jitter: 0.3,
  resetAfterMs: Number.POSITIVE_INFINITY,
} as const;
/** Checkpoints that were aborted before their snapshots came: the newest of them. */
const OVER_MAX = 64;

export interface UploadEnv {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly rng: Rng;
  readonly log: Log;
}

export interface UploadOptions {
  readonly env: UploadEnv;
  readonly store: ObjectStore;
  /** Of savepoints in other places. */
  readonly openStore: StoreOpener;
  readonly local: LocalCopies;
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly taskManagerId: string;
  readonly jobDir: string;
  readonly subtaskCount: number;
  /** Default PACK_BYTES. */
  readonly packBytes?: number;
  readonly onAck: (ack: CheckpointAck) => void;
  readonly onDecline: (decline: CheckpointDecline) => void;
}

interface Submitted {
  readonly submission: SnapshotSubmission;
  readonly submittedMs: number;
  readonly handles: PartHandle[];
  /** Parts that are not stored yet. */
  missingCount: number;
}

interface PendingUpload {
  readonly id: CheckpointId;
  /** URI of a savepoint's directory. */
  readonly savepoint: string | undefined;
  readonly abort: AbortController;
  readonly submitted: Map<string, Submitted>;
  pack: OpenPack<Submitted>;
  packCount: number;
  cancelLinger: Cancel | undefined;
  wasEarly: boolean;
}

/** Uploads of one attempt. */
export class SnapshotUploads {
  readonly #options: UploadOptions;
  readonly #pending = new Map<CheckpointId, PendingUpload>();
  readonly #over = new Set<CheckpointId>();
  /** Subtasks that have finished: they submit nothing any more. */
  readonly #finished = new Set<string>();
  #completedId = -1;
  #isEnded = false;

  constructor(options: UploadOptions) {
    assert(options.subtaskCount > 0, "an attempt has subtasks");
    this.#options = options;
  }

  submit(submission: SnapshotSubmission): void {
    const { checkpointId: id, savepoint } = submission;
    if (this.#isEnded || this.#over.has(id)) return; // it came after its checkpoint was given up
    if (savepoint === undefined && id <= this.#completedId) return;
    const upload = this.#uploadOf(id, savepoint);
    const key = subtaskKey(submission.subtask);
    assert(!upload.submitted.has(key), "TK4: a snapshot is submitted at most once");
    const submitted: Submitted = {
      submission,
      submittedMs: this.#options.env.clock.nowMs(),
      handles: [],
      missingCount: submission.parts.length,
    };
    upload.submitted.set(key, submitted);
    for (const part of submission.parts) this.#pack(upload, { owner: submitted, part, lengthBytes: partBytes(part) });
    if (submitted.missingCount === 0) this.#acknowledge(upload, submitted);
    if (this.#isWhole(upload))
      this.#closePack(upload); // UP4
    else if (upload.pack.isHalfFull) this.#closeEarly(upload);
    else if (!upload.pack.isEmpty && !upload.wasEarly && upload.cancelLinger === undefined)
      upload.cancelLinger = this.#options.env.timers.after(LINGER_MS, "pack-linger", () => this.#closeEarly(upload));
  }

  /** UP4: once per checkpoint. */
  #closeEarly(upload: PendingUpload): void {
    if (upload.wasEarly) return;
    upload.wasEarly = true;
    this.#closePack(upload);
  }

  /** It takes part in no further checkpoint: nobody waits for it. */
  finished(subtask: SubtaskId): void {
    this.#finished.add(subtaskKey(subtask));
    for (const upload of this.#pending.values()) if (this.#isWhole(upload)) this.#closePack(upload);
  }

  #isWhole(upload: PendingUpload): boolean {
    const { submitted } = upload;
    let count = submitted.size;
    for (const key of this.#finished) if (!submitted.has(key)) count += 1;
    assert(count <= this.#options.subtaskCount, "who submits or finishes is a subtask of this attempt");
    return count === this.#options.subtaskCount;
  }

  #pack(upload: PendingUpload, entry: PackEntry<Submitted>): void {
    const own = new OpenPack<Submitted>(this.#packOptions);
    own.add(entry);
    if (own.isFull) {
      this.#storePack(upload, own); // PK1
      return;
    }
    upload.pack.add(entry);
    if (upload.pack.isFull) this.#closePack(upload);
  }

  get #packOptions(): { readonly packBytes: number } {
    return { packBytes: this.#options.packBytes ?? PACK_BYTES };
  }

  /** Its checkpoint and all below are confirmed. */
  completed(id: CheckpointId): void {
    this.#completedId = Math.max(this.#completedId, id);
    for (const upload of this.#pending.values())
      if (upload.id <= id && upload.savepoint === undefined) this.#drop(upload); // UP5
  }

  aborted(id: CheckpointId): void {
    this.#over.add(id);
    if (this.#over.size > OVER_MAX) this.#over.delete(Math.min(...this.#over) as CheckpointId);
    const upload = this.#pending.get(id);
    if (upload !== undefined) this.#drop(upload);
  }

  /** Gives everything up. */
  end(): void {
    this.#isEnded = true;
    for (const upload of this.#pending.values()) this.#drop(upload);
  }

  #uploadOf(id: CheckpointId, savepoint: string | undefined): PendingUpload {
    const known = this.#pending.get(id);
    if (known !== undefined) return known;
    const upload: PendingUpload = {
      id,
      savepoint,
      abort: new AbortController(),
      submitted: new Map(),
      pack: new OpenPack(this.#packOptions),
      packCount: 0,
      cancelLinger: undefined,
      wasEarly: false,
    };
    this.#pending.set(id, upload);
    return upload;
  }

  #drop(upload: PendingUpload): void {
    upload.cancelLinger?.();
    upload.abort.abort();
    this.#pending.delete(upload.id);
  }

  #closePack(upload: PendingUpload): void {
    upload.cancelLinger?.();
    upload.cancelLinger = undefined;
    if (upload.pack.isEmpty) return;
    const full = upload.pack;
    upload.pack = new OpenPack(this.#packOptions);
    this.#storePack(upload, full);
  }

  #storePack(upload: PendingUpload, open: OpenPack<Submitted>): void {
    if (upload.abort.signal.aborted) return;
    const { epoch, attempt, taskManagerId, env } = this.#options;
    // UP2: chance keeps the name apart from that of another process with the same id in the same attempt.
    const chance = env.rng.u32().toString(16).padStart(8, "0");
    const directory = upload.savepoint === undefined ? `chk-${upload.id}/` : "";
    const object = `${directory}x-${epoch}.${attempt}.${taskManagerId}.${chance}-${upload.packCount}`;
    const pack = open.close(object);
    upload.packCount += 1;
    void this.#store(upload, object, pack);
  }

  async #store(upload: PendingUpload, object: string, pack: ClosedPack<Submitted>): Promise<void> {
    const { local, env } = this.#options;
    const { signal } = upload.abort;
    let path = object;
    let stored = (): Promise<void> => Promise.resolve();
    try {
      const place = await this.#placeOf(upload);
      const { store } = place;
      path = `${place.directory}${object}`;
      // Beside the upload: nobody waits for the local disk (LC3). A savepoint is not what a failure goes back to.
      if (upload.savepoint === undefined) stored = local.keep(path, pack.bytes);
      await retry(
        async () => {
          throwIfAborted(signal);
          const outcome = await store.put(path, pack.bytes, signal);
          if (outcome === "stored") return;
          throw new Failure("STORAGE_UNAVAILABLE", {
            retry: "backoff",
            message: `${store.uri}/${path}: outcome unknown`,
          });
        },
        {
          backoff: STORE_BACKOFF,
          ...env,
          signal,
          deadlineMs: Number.POSITIVE_INFINITY,
          onRetry: (failure, tries) =>
            env.log.warn("storing a snapshot is tried again", {
              object,
              tries,
              code: failure.code,
              failure: failure.message,
            }),
        },
      );
    } catch (thrown) {
      if (signal.aborted) return; // UP3: nobody waits for it any more
      this.#decline(upload, pack, toFailure(thrown, "STORAGE_UNAVAILABLE", path));
      return;
    } finally {
      await stored();
    }
    if (signal.aborted) return;
    for (const { owner, handle } of pack.placed) {
      owner.handles.push(handle);
      owner.missingCount -= 1;
      if (owner.missingCount === 0) this.#acknowledge(upload, owner); // UP1
    }
  }

  /** Where the objects of an upload go; `directory` ends with a slash. */
  async #placeOf(upload: PendingUpload): Promise<{ readonly store: ObjectStore; readonly directory: string }> {
    const { store, openStore, jobDir } = this.#options;
    if (upload.savepoint === undefined) return { store, directory: `${jobDir}/` };
    const place = await placeOf(upload.savepoint, { store, openStore });
    return { store: place.store, directory: directoryOfMetadata(place.metadataPath) };
  }

  #acknowledge(upload: PendingUpload, submitted: Submitted): void {
    const { submission, handles } = submitted;
    assert(handles.length === submission.parts.length, "UP1: every part has its address");
    const { checkpointId, epoch, attempt, subtask, finished, stats } = submission;
    const asyncMs = stats.asyncMs + (this.#options.env.clock.nowMs() - submitted.submittedMs);
    this.#options.onAck({
      checkpointId,
      epoch,
      attempt,
      subtask,
      parts: handles,
      finished,
      stats: { ...stats, asyncMs },
    });
    if (!this.#isWhole(upload)) return;
    // Whatever is still to come of this checkpoint is its confirmation: the parts need not stay in memory for it.
    if ([...upload.submitted.values()].every((other) => other.missingCount === 0)) this.#pending.delete(upload.id);
  }

  #decline(upload: PendingUpload, pack: ClosedPack<Submitted>, failure: Failure): void {
    const { epoch, attempt, onDecline, env } = this.#options;
    env.log.error("a snapshot cannot be stored", {
      checkpoint: upload.id,
      code: failure.code,
      failure: failure.message,
    });
    const owners = new Set(pack.placed.map(({ owner }) => owner));
    this.aborted(upload.id);
    for (const { submission } of owners) {
      onDecline({
        checkpointId: upload.id,
        epoch,
        attempt,
        subtask: submission.subtask,
        reason: "storage",
        message: `${failure.code}: ${failure.message}`,
      });
    }
  }
}
