// The I/O side of a TaskManager: everything that touches store and local disk, on a thread of its own.
//
// Invariants:
//   IO1. Messages of a slot count only for the attempt that is running (SL1).
//   IO2. Every request of the main thread and every fetch of a slot is answered once.
//   IO3. No promise floats: what a message starts ends in an answer or a log line.
//
// Not here: the thread and its ports (bin/io-worker.ts).

import { AssertionError, Failure, failureToJson, toFailure } from "@sluice/kit";
import type { Clock, Disk, Host, Log, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import type { StoreOpener } from "../../checkpoint/index.ts";
import type { AttemptNumber, Epoch, FetchedParts, PartHandle } from "../../model/index.ts";
import type { IoReply, IoRequest } from "../../task/index.ts";
import { LocalCopies } from "./local-copies.ts";
import type { IoCommand, IoEvent } from "./messages.ts";
import { SnapshotReader } from "./snapshot-reader.ts";
import { SnapshotUploads } from "./uploads.ts";

export interface IoServiceOptions {
  readonly env: {
    readonly clock: Clock;
    readonly timers: Timers;
    readonly rng: Rng;
    readonly log: Log;
    readonly host: Host;
  };
  /** Undefined: no checkpoints are taken. */
  readonly store: ObjectStore | undefined;
  /** Of savepoints in other places. */
  readonly openStore: StoreOpener;
  readonly localCopies: {
    /** None: no copies are made (`execution.checkpointing.local-backup.enabled` is false). */
    readonly disks: readonly Disk[];
    readonly bytesMax: number;
    /** `execution.state-recovery.from-local`. */
    readonly readsFirst: boolean;
  };
  /** Tests only: smaller packs than PACK_BYTES. */
  readonly packBytes?: number;
  readonly send: (event: IoEvent) => void;
}

interface RunningAttempt {
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly abort: AbortController;
  readonly uploads: SnapshotUploads;
  readonly reader: Promise<SnapshotReader>;
}

/** Which slot a message came from. */
export interface SlotOrigin {
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
}

export class IoService {
  readonly #options: IoServiceOptions;
  readonly #local: LocalCopies;
  #running: RunningAttempt | undefined;

  constructor(options: IoServiceOptions) {
    this.#options = options;
    this.#local = new LocalCopies({ ...options.localCopies, env: options.env });
  }

  onCommand(command: IoCommand): void {
    switch (command.type) {
      case "attemptStarted":
        this.#start(command);
        return;
      case "attemptEnded":
        if (this.#running?.epoch === command.epoch && this.#running.attempt === command.attempt) this.#end();
        return;
      case "subtaskFinished":
        if (this.#running?.epoch === command.epoch && this.#running.attempt === command.attempt)
          this.#running.uploads.finished(command.subtask);
        return;
      case "checkpointCompleted":
        this.#running?.uploads.completed(command.checkpointId);
        this.#local.completed(command.checkpointId);
        return;
      case "checkpointAborted":
        this.#running?.uploads.aborted(command.checkpointId);
        this.#local.aborted(command.checkpointId);
        return;
      case "listLocalCopies":
        this.#answer(command.requestId, this.#local.paths());
        return;
      case "findLocalCopies":
        this.#answer(command.requestId, this.#find(command.jobDir, command.objects));
        return;
      case "repairObjects":
        this.#answer(command.requestId, this.#repair(command.jobDir, command.objects));
        return;
    }
  }

  /** From a slot; `reply` goes back to it, and may give the buffers in `transfer` away. */
  onSlotRequest(
    origin: SlotOrigin,
    request: IoRequest,
    reply: (reply: IoReply, transfer: readonly ArrayBuffer[]) => void,
  ): void {
    const running = this.#running;
    const isCurrent = running !== undefined && running.epoch === origin.epoch && running.attempt === origin.attempt;
    if (request.type === "submit") {
      if (isCurrent) running.uploads.submit(request.submission); // IO1
      return;
    }
    const { requestId, parts } = request;
    const read = isCurrent ? this.#fetch(running, parts) : Promise.reject(ended());
    read.then(
      (fetched) =>
        reply(
          { type: "fetched", requestId, fetched },
          fetched.contents.map((bytes) => bytes.buffer as ArrayBuffer),
        ),
      (thrown: unknown) =>
        reply({ type: "fetchFailed", requestId, failure: failureToJson(this.#expected(thrown)) }, []),
    );
  }

  async #fetch(running: RunningAttempt, parts: readonly PartHandle[]): Promise<FetchedParts> {
    return (await running.reader).read(parts, running.abort.signal);
  }

  #start(command: Extract<IoCommand, { readonly type: "attemptStarted" }>): void {
    this.#end();
    const { env, store, openStore, send } = this.#options;
    if (store === undefined) return;
    const { epoch, attempt, taskManagerId, jobDir, restoreDir, restoreStore, subtaskCount } = command;
    const reader = async (): Promise<SnapshotReader> =>
      new SnapshotReader({
        env,
        store: restoreStore === null ? store : await openStore(restoreStore),
        local: this.#local,
        readsLocal: this.#options.localCopies.readsFirst && restoreStore === null,
        restoreDir,
        onDamaged: (object, reason) => send({ type: "objectDamaged", object, reason }),
      });
    const opening = reader();
    opening.catch(() => undefined); // told to whoever fetches
    this.#running = {
      epoch,
      attempt,
      abort: new AbortController(),
      uploads: new SnapshotUploads({
        env,
        store,
        openStore,
        local: this.#local,
        epoch,
        attempt,
        taskManagerId,
        jobDir,
        subtaskCount,
        ...(this.#options.packBytes === undefined ? {} : { packBytes: this.#options.packBytes }),
        onAck: (ack) => send({ type: "acknowledged", ack }),
        onDecline: (decline) => send({ type: "declined", decline }),
      }),
      reader: opening,
    };
    // What lies in another store never had copies here.
    const restoredId = restoreStore === null ? command.restoredCheckpointId : null;
    this.#local.attemptStarted({ jobDir, restoreDir, restoredId });
  }

  #end(): void {
    this.#running?.abort.abort();
    this.#running?.uploads.end();
    this.#running = undefined;
  }

  async #find(jobDir: string, objects: readonly string[]): Promise<readonly string[]> {
    const held: string[] = [];
    for (const object of objects) if ((await this.#local.read(`${jobDir}/${object}`)) !== undefined) held.push(object);
    return held;
  }

  async #repair(jobDir: string, objects: readonly string[]): Promise<readonly string[]> {
    const { store, env } = this.#options;
    const repaired: string[] = [];
    for (const object of objects) {
      const bytes = await this.#local.read(`${jobDir}/${object}`);
      if (bytes === undefined || store === undefined) continue;
      // Whatever lies there is not what was written; nobody overwrites (S1), so it goes first: damaged or gone is the same.
      await store.remove(`${jobDir}/${object}`);
      if ((await store.put(`${jobDir}/${object}`, bytes)) !== "stored") continue;
      repaired.push(object);
      env.log.warn("repaired an object of the store from the local copy", { object });
    }
    return repaired;
  }

  #answer(requestId: number, result: Promise<readonly string[]>): void {
    result.then(
      (objects) => this.#options.send({ type: "objects", requestId, objects }),
      (thrown: unknown) =>
        this.#options.send({ type: "requestFailed", requestId, failure: failureToJson(this.#expected(thrown)) }),
    );
  }

  /** A broken assertion is no failure of a request. */
  #expected(thrown: unknown): Failure {
    if (thrown instanceof AssertionError) this.#options.env.host.crash(thrown.message);
    return toFailure(thrown);
  }
}

function ended(): Failure {
  return new Failure("CANCELED", {
    retry: "never",
    message: "the attempt has ended, or no checkpoint storage is configured",
  });
}
