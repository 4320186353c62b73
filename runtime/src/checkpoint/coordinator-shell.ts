// The coordinator's shell: runs the effects of coordinator.ts over storage, timers and messages.
//
// Invariants:
//   CS1. Events are applied one after the other; an effect that causes an event at once only queues it.
//   CS2. After `fenced`, `close` or `dispose` no message is sent and nothing is deleted (CL8).
//   CS3. No promise floats: what an effect starts ends in an event, or in the listener.
//
// Not here: decisions (coordinator.ts), deployment and restarts (jobmanager/).

import { assert, AssertionError, Failure, faultPoint, planted, sleep, toFailure } from "@sluice/kit";
import type { Cancel, Clock, Host, Log, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import { createHash } from "node:crypto";
import type { AttemptNumber, CheckpointAck, CheckpointId, CheckpointMetadata, SubtaskId } from "../model/index.ts";
import { fitVertices } from "./assign.ts";
import { type CommitLog, ID_BLOCK_COUNT } from "./commit-log.ts";
import { commitChange } from "./commit-change.ts";
import { type CoordinatorEffect, type CoordinatorEvent, initialCoordinatorState } from "./coordinator-state.ts";
import { step } from "./coordinator.ts";
import { cancellationChange, deletionChange, lastCondemned } from "./deletion.ts";
import { CheckpointGarbage } from "./garbage.ts";
import { directoryOfMetadata, placeOf, recordedPath, type StoreOpener, uriOf } from "./location.ts";
import { metadataPath, writeCheckpointMetadata } from "./metadata.ts";
import { settledAtEnd } from "./operations.ts";
import { deleteClaimed, ORIGIN_PIN_RENEWAL_MS, type OriginPlace, releaseOrigin, renewOrigin } from "./origin.ts";
import { condemnedClaims, onlyPublishes, withoutClaim } from "./start.ts";
import { CheckpointStatsTracker } from "./stats.ts";
import { StorageBackoff, storageFailure } from "./storage-retry.ts";
import type {
  CheckpointConfig,
  CheckpointCoordination,
  CheckpointDecline,
  CheckpointRef,
  CheckpointStatsSnapshot,
  CheckpointVertex,
  CommitRecord,
  CoordinatorListener,
  EndedJobState,
  RecordedClaim,
  SavepointOrder,
  TakenSavepoint,
  TaskGateway,
} from "./types.ts";

/** Look at old commit records every so many commits, and remove at most so many at a time. */
const TRIM_EVERY_COMMITS = 64;
const TRIM_COUNT_MAX = 256;
/** Savepoints that wait to be triggered; more are refused. */
const SAVEPOINTS_QUEUED_MAX = 64;
/** Uploads of an aborted savepoint may still arrive for a while: what lies there is removed after each of these times. */
const DISCARD_AFTER_MS = [1_000, 30_000] as const;
/** The end of a job waits so long for what it started from to be let go; pins end by themselves. */
const LET_GO_MS = 5_000;
/** A cancelled job has no next commit to repeat a failed deletion: try so often, leave the rest to the next JobManager. */
const LAST_DELETE_ROUNDS_MAX = 3;

export interface CoordinatorOptions {
  readonly env: {
    readonly clock: Clock;
    readonly timers: Timers;
    readonly rng: Rng;
    readonly log: Log;
    readonly host: Host;
  };
  readonly store: ObjectStore;
  /** Of savepoints in other places. */
  readonly openStore: StoreOpener;
  /** Claimed; its job directory holds the checkpoints too. */
  readonly commitLog: CommitLog;
  readonly vertices: readonly CheckpointVertex[];
  readonly config: CheckpointConfig;
  readonly gateway: TaskGateway;
  readonly listener: CoordinatorListener;
}

export class CheckpointCoordinator implements CheckpointCoordination {
  readonly #options: CoordinatorOptions;
  readonly #stats: CheckpointStatsTracker;
  readonly #garbage: CheckpointGarbage;
  readonly #metadata = new Map<CheckpointId, CheckpointMetadata>();
  readonly #timeouts = new Map<CheckpointId, Cancel>();
  readonly #io = new Map<CheckpointId, AbortController>();
  readonly #queue: CoordinatorEvent[] = [];
  #state: ReturnType<typeof initialCoordinatorState>;
  /** As planned. */
  #vertices: readonly CheckpointVertex[];
  readonly #life = new AbortController();
  #isStepping = false;
  #isStopped = false;
  #cancelTick: Cancel | undefined;
  #commitTask: Promise<void> = Promise.resolve();
  #cleanTask: Promise<void> = Promise.resolve();
  /** Beside {@link #cleanTask}: what the job started from may lie in a store that is away, and that must hold up no deletion. */
  #letGoTask: Promise<void> = Promise.resolve();
  #sweepTask: Promise<void> = Promise.resolve();
  #commitsSinceTrim = 0;
  readonly #claimTries = new SparseTries();
  readonly #originTries = new SparseTries();
  /** What the job started from and has not let go yet. */
  #heldOrigin: string | null = null;
  #isLettingOriginGo = false;
  #cancelRenewal: Cancel | undefined;
  /** Those who asked for a checkpoint: of the next one, and of those that began. */
  #waiting: PromiseWithResolvers<CheckpointId>[] = [];
  readonly #asked = new Map<CheckpointId, readonly PromiseWithResolvers<CheckpointId>[]>();
  /** Those who asked for a savepoint, by token. */
  readonly #savepoints = new Map<number, PromiseWithResolvers<TakenSavepoint>>();
  #nextToken = 1;

  constructor(options: CoordinatorOptions) {
    this.#options = options;
    const { commitLog } = options;
    this.#vertices = options.vertices;
    this.#stats = new CheckpointStatsTracker(options.vertices, options.config.historyMax);
    this.#garbage = new CheckpointGarbage(options.store, commitLog.jobDir, options.config);
    this.#state = initialCoordinatorState({
      config: options.config,
      vertices: options.vertices,
      claimed: commitLog.head,
    });
    this.#sweep(commitLog.head.idHigh - ID_BLOCK_COUNT);
    if (commitLog.head.head === null && commitLog.head.origin !== null) this.#armRenewal(commitLog.head.origin);
  }

  attemptStarted(
    attempt: AttemptNumber,
    restored: CheckpointMetadata | null,
    vertices: readonly CheckpointVertex[] = this.#vertices,
  ): void {
    const { config, commitLog, env } = this.#options;
    this.#vertices = vertices;
    this.#stats.attemptStarted(vertices);
    if (restored !== null) {
      const { head, origin } = commitLog.head;
      this.#stats.restored({
        id: restored.checkpointId,
        restoreTimestampMs: env.clock.wallMs(),
        isSavepoint: restored.kind === "savepoint",
        externalPath: head?.path ?? origin ?? "",
      });
      if (head?.id === restored.checkpointId) this.#garbage.learn(head.path, restored);
    }
    // Flink: the first trigger comes after a random time in [min pause, interval], so that jobs do not march in step.
    const spreadMs = Math.max(0, Math.floor((config.intervalMs ?? 0) - config.minPauseMs));
    this.#dispatch({
      type: "attemptStarted",
      attempt,
      vertices: fitVertices(restored, vertices),
      initialDelayMs: config.minPauseMs + env.rng.below(spreadMs + 1),
      isStopping: onlyPublishes(commitLog.head, restored),
    });
  }

  taskRunning(subtask: SubtaskId): void {
    this.#dispatch({ type: "taskRunning", subtask });
  }

  taskFinished(subtask: SubtaskId): void {
    this.#dispatch({ type: "taskFinished", subtask });
  }

  sourceEnded(subtask: SubtaskId): void {
    this.#dispatch({ type: "sourceEnded", subtask });
  }

  ack(ack: CheckpointAck): void {
    this.#dispatch({ type: "acked", ack });
  }

  decline(decline: CheckpointDecline): void {
    this.#dispatch({ type: "declined", decline });
  }

  async triggerCheckpoint(): Promise<CheckpointId> {
    if (this.#isStopped) throw interrupted();
    const { env, config } = this.#options;
    const asked = Promise.withResolvers<CheckpointId>();
    this.#waiting.push(asked);
    const cancel = env.timers.after(config.timeoutMs, "checkpoint-queue", () => {
      if (!this.#waiting.includes(asked)) return; // it has begun
      this.#waiting = this.#waiting.filter((other) => other !== asked);
      asked.reject(neverBegan(config.timeoutMs));
    });
    this.#dispatch({ type: "triggerRequested" });
    try {
      return await asked.promise;
    } finally {
      cancel();
    }
  }

  async takeSavepoint(order: SavepointOrder): Promise<TakenSavepoint> {
    const { env, config, store, openStore } = this.#options;
    const place = await placeOf(order.location, { store, openStore });
    await place.store.stat(place.metadataPath); // a store that is not there is told before anything stops for it
    if (this.#isStopped) throw interrupted();
    if (this.#state.savepointRequests.length >= SAVEPOINTS_QUEUED_MAX) {
      throw new Failure("CHECKPOINT_DECLINED", {
        retry: "backoff",
        message: `${SAVEPOINTS_QUEUED_MAX} savepoints wait to be taken already`,
        remedy: "wait until one of them is complete",
      });
    }
    const token = this.#nextToken;
    this.#nextToken += 1;
    const taken = Promise.withResolvers<TakenSavepoint>();
    this.#savepoints.set(token, taken);
    const cancel = env.timers.after(config.timeoutMs, "savepoint-queue", () =>
      this.#dispatch({ type: "savepointOverdue", token }),
    );
    this.#dispatch({ type: "savepointRequested", request: { ...order, token } });
    try {
      return await taken.promise;
    } finally {
      cancel();
      this.#savepoints.delete(token);
    }
  }

  async suspend(): Promise<CommitRecord> {
    const wasRunning = this.#state.phase === "running";
    this.#dispatch({ type: "suspended" });
    if (wasRunning) this.#refuseWaiting(interrupted()); // C11
    for (const [id, io] of this.#io) if (this.#isCommitting(id)) io.abort();
    await this.#commitTask;
    return this.#options.commitLog.settled();
  }

  async close(
    jobState: EndedJobState,
    options: { readonly deletesCheckpoints: boolean } = { deletesCheckpoints: false },
  ): Promise<CommitRecord> {
    const { deletesCheckpoints } = options;
    assert(!deletesCheckpoints || jobState === "cancelled", "only a cancelled job's checkpoints are deleted");
    await this.suspend();
    await this.#cleanTask;
    await this.#sweepTask; // leftovers of earlier epochs go too
    await Promise.race([this.#letGoTask, sleep(this.#options.env.timers, LET_GO_MS)]);
    const never = new AbortController().signal;
    const { commitLog, env } = this.#options;
    const { abandoned, deleted } = this.#state;
    const wallMs = env.clock.wallMs();
    const outcome = await commitLog.append(
      (previous) => ({
        ...(deletesCheckpoints
          ? cancellationChange(previous, { abandoned, deleted, wallMs })
          : {
              closed: jobState === "finished",
              jobState,
              condemned: lastCondemned(previous, { abandoned, deleted }),
            }),
        ops: settledAtEnd(previous.ops, jobState),
      }),
      never,
    );
    try {
      if (outcome.type === "failed") throw outcome.failure;
      // No commit comes after this one: what the log has condemned goes now, else it would stay for ever.
      return await this.#deleteCondemned(outcome.record, deletesCheckpoints ? LAST_DELETE_ROUNDS_MAX : 1);
    } finally {
      this.dispose();
    }
  }

  dispose(): void {
    if (this.#isStopped) return;
    this.#dispatch({ type: "stopped" });
    this.#isStopped = true;
    this.#refuseWaiting(interrupted());
    for (const id of [...this.#asked.keys()]) this.#answer(id, (asked) => asked.reject(interrupted()));
    for (const asked of this.#savepoints.values()) asked.reject(interrupted());
    this.#cancelTick?.();
    this.#cancelRenewal?.();
    for (const cancel of this.#timeouts.values()) cancel();
    this.#timeouts.clear();
    for (const io of this.#io.values()) io.abort();
    this.#life.abort();
    this.#options.commitLog.dispose();
  }

  stats(): CheckpointStatsSnapshot {
    return this.#stats.snapshot();
  }

  #isCommitting(id: CheckpointId): boolean {
    return this.#state.pending.some((p) => p.id === id && p.progress === "committing");
  }

  #dispatch(event: CoordinatorEvent): void {
    if (this.#isStopped) return;
    this.#queue.push(event);
    if (this.#isStepping) return; // CS1
    this.#isStepping = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        const { clock } = this.#options.env;
        const context = { nowMs: clock.nowMs(), wallMs: clock.wallMs(), nextId: this.#options.commitLog.peekId() };
        const [state, effects] = step(this.#state, next, context);
        this.#state = state;
        for (const effect of effects) this.#run(effect);
      }
    } finally {
      this.#isStepping = false;
    }
  }

  #run(effect: CoordinatorEffect): void {
    if (this.#isStopped) return;
    const { env, gateway, listener, commitLog } = this.#options;
    switch (effect.type) {
      case "trigger": {
        const id = commitLog.takeId();
        assert(id === effect.id, "P1: the id comes from the reserved block");
        const { isFinal } = effect.trigger.barrier;
        const { savepoint } = effect;
        this.#stats.triggered(id, {
          isFinal,
          isSavepoint: savepoint !== null,
          wallMs: effect.trigger.barrier.timestampMs,
          subtaskCount: effect.expectedCount,
        });
        env.log.debug("checkpoint triggered", {
          checkpoint: id,
          final: isFinal,
          savepoint: savepoint?.location ?? null,
        });
        if (savepoint === null && this.#waiting.length > 0) this.#asked.set(id, this.#waiting.splice(0));
        for (const subtask of effect.targets) gateway.triggerCheckpoint(subtask, effect.trigger);
        faultPoint("P2-triggered");
        return;
      }
      case "armTick":
        this.#cancelTick?.();
        this.#cancelTick = env.timers.after(effect.delayMs, "checkpoint-tick", () => this.#dispatch({ type: "tick" }));
        return;
      case "armTimeout": {
        const { id } = effect;
        this.#timeouts.get(id)?.();
        this.#timeouts.set(
          id,
          env.timers.after(effect.delayMs, "checkpoint-timeout", () => this.#dispatch({ type: "timedOut", id })),
        );
        return;
      }
      case "reserveIds":
        this.#guard(this.#reserveIds());
        return;
      case "ackAccepted":
        faultPoint("P2-first-ack");
        this.#stats.acked(effect.ack, effect.id, env.clock.wallMs());
        return;
      case "writeMetadata":
        this.#guard(this.#writeMetadata(effect.metadata, effect.location));
        if (planted("savepoint-answered-before-metadata")) this.#answerEarly(effect.metadata.checkpointId);
        return;
      case "cancelMetadata":
      case "giveUpCommit":
        this.#io.get(effect.id)?.abort();
        return;
      case "commit":
        this.#commitTask = this.#commit(effect);
        this.#guard(this.#commitTask);
        return;
      case "notifyComplete":
        faultPoint("P5-before-notify");
        gateway.notifyComplete(this.#state.epoch, effect.id); // P5
        faultPoint("P5-after-notify");
        return;
      case "completed":
        this.#completed(effect);
        return;
      case "savepointFailed":
        this.#savepoints.get(effect.request.token)?.reject(effect.failure);
        if (effect.id !== null) this.#discard(effect.request.location);
        return;
      case "stopFailed":
        if (!planted("failed-stop-not-restarted")) listener.stopFailed(effect.failure);
        return;
      case "aborted":
        this.#forget(effect.id);
        this.#stats.failed(effect.id, { reason: effect.reason, wallMs: env.clock.wallMs() });
        env.log.info("checkpoint aborted", { checkpoint: effect.id, reason: effect.reason });
        this.#answer(effect.id, (asked) =>
          asked.reject(new Failure(effect.code, { retry: "backoff", message: effect.reason })),
        );
        if (effect.notifies) gateway.notifyAborted(this.#state.epoch, effect.id, effect.latestCompletedId);
        return;
      case "delete":
        this.#cleanTask = this.#cleanTask.then(() => this.#delete(effect.ids));
        this.#guard(this.#cleanTask);
        return;
      case "failJob":
        env.log.warn("checkpoints fail the job", { failure: effect.failure.message });
        listener.failJob(effect.failure);
        return;
    }
  }

  #completed(effect: Extract<CoordinatorEffect, { readonly type: "completed" }>): void {
    const { id, isFinal, savepoint } = effect;
    const { env, listener, commitLog, store } = this.#options;
    const metadata = this.#metadata.get(id);
    assert(metadata !== undefined, "a completed checkpoint has metadata");
    const path = metadataPath(commitLog.jobDir, id);
    if (savepoint === null) this.#garbage.learn(path, metadata);
    const externalPath = savepoint === null ? uriOf(store, path) : savepoint.location;
    this.#stats.completed(id, { externalPath, wallMs: env.clock.wallMs() });
    this.#forget(id);
    env.log.info("checkpoint completed", { checkpoint: id, final: isFinal, savepoint: savepoint?.location ?? null });
    listener.completed(metadata);
    this.#answer(id, (asked) => asked.resolve(id));
    if (savepoint !== null) this.#savepoints.get(savepoint.token)?.resolve({ id, location: savepoint.location });
    if (savepoint !== null && planted("savepoint-swept-when-done")) this.#discard(savepoint.location);
    if (isFinal) listener.finalCompleted(id);
  }

  /** Planted. */
  #answerEarly(id: CheckpointId): void {
    const savepoint = this.#state.pending.find((p) => p.id === id)?.savepoint;
    if (savepoint?.stops === "no") this.#savepoints.get(savepoint.token)?.resolve({ id, location: savepoint.location });
  }

  #answer(id: CheckpointId, how: (asked: PromiseWithResolvers<CheckpointId>) => void): void {
    for (const asked of this.#asked.get(id) ?? []) how(asked);
    this.#asked.delete(id);
  }

  #refuseWaiting(failure: Failure): void {
    for (const asked of this.#waiting.splice(0)) asked.reject(failure);
  }

  #forget(id: CheckpointId): void {
    this.#timeouts.get(id)?.();
    this.#timeouts.delete(id);
    this.#io.delete(id);
    this.#metadata.delete(id);
  }

  async #reserveIds(): Promise<void> {
    const giveUp = new AbortController();
    const { env, config, commitLog } = this.#options;
    const cancel = env.timers.after(config.timeoutMs, "reserve-ids-timeout", () => giveUp.abort());
    try {
      const outcome = await commitLog.reserveIds(giveUp.signal);
      if (outcome.type === "failed") this.#refuseWaiting(outcome.failure);
      this.#dispatch({ type: outcome.type === "appended" ? "idsReserved" : "idsNotReserved" });
    } finally {
      cancel();
    }
  }

  /** P3: one PUT, repeated with the same bytes until it is known to have happened. */
  async #writeMetadata(metadata: CheckpointMetadata, location: string | null): Promise<void> {
    const { env, commitLog } = this.#options;
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
        if (io.signal.aborted || this.#isStopped) return;
        if (outcome === "stored") {
          faultPoint("P3-after-put");
          const sha256 = createHash("sha256").update(bytes).digest("hex");
          const ref: CheckpointRef = { kind: metadata.kind, id, path: recordedPath(place), sha256 };
          this.#dispatch({ type: "metadataWritten", ref });
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
        this.#dispatch({ type: "metadataFailed", id, failure });
        return;
      }
      if (!(await backoff.sleep("metadata-write", [io.signal]))) return;
    }
  }

  /** Removes what a savepoint that will never be complete has left. Nobody else writes to its directory. */
  #discard(location: string): void {
    const { env } = this.#options;
    const sweep = async (): Promise<void> => {
      try {
        const place = await placeOf(location, this.#options);
        for (const { path } of await place.store.list(directoryOfMetadata(place.metadataPath))) {
          if (this.#isStopped) return;
          await place.store.remove(path);
        }
      } catch (thrown) {
        env.log.info("leftovers of a savepoint stay", { location, failure: storageFailure(thrown, location).message });
      }
    };
    for (const delayMs of DISCARD_AFTER_MS)
      env.timers.after(delayMs, "discard-savepoint", () => {
        if (!this.#isStopped) this.#guard(sweep());
      });
  }

  /** P4. */
  async #commit(effect: Extract<CoordinatorEffect, { readonly type: "commit" }>): Promise<void> {
    const { commitLog, config, env } = this.#options;
    const { id } = effect.ref;
    const { origin } = commitLog.head;
    const condemned = condemnedClaims(commitLog.head);
    const io = new AbortController();
    this.#io.set(id, io);
    const options = { retainedMax: config.retainedMax, wallMs: env.clock.wallMs() };
    faultPoint("P4-before-append");
    const outcome = await commitLog.append((previous) => commitChange(previous, effect, options), io.signal);
    if (outcome.type === "appended") faultPoint("P4-after-append");
    if (outcome.type === "failed") {
      this.#dispatch({ type: "commitFailed", id, failure: outcome.failure });
      return;
    }
    this.#dispatch({ type: "committed", id, record: outcome.record });
    this.#heldOrigin ??= origin;
    this.#letOriginGo();
    // P6: a record before this one condemned it. Another job may need it for long.
    if (condemned.length > 0 && this.#claimTries.isDue()) {
      for (const claim of condemned) this.#letGo(() => this.#deleteClaimed(claim));
    }
    this.#commitsSinceTrim += 1;
    if (this.#commitsSinceTrim < TRIM_EVERY_COMMITS) return;
    this.#commitsSinceTrim = 0;
    this.#cleanTask = this.#cleanTask.then(() => this.#trim());
    this.#guard(this.#cleanTask);
  }

  /** OR1: there is an own checkpoint. Tried again with later commits: its store may be away. */
  #letOriginGo(): void {
    const origin = this.#heldOrigin;
    if (origin === null || this.#isLettingOriginGo || !this.#originTries.isDue()) return;
    this.#cancelRenewal?.();
    this.#isLettingOriginGo = true;
    this.#letGo(async () => {
      try {
        await releaseOrigin(origin, this.#originPlace());
        this.#heldOrigin = null;
      } finally {
        this.#isLettingOriginGo = false;
      }
    });
  }

  /** OR1: a job that takes long to its first checkpoint keeps what it started from. */
  #armRenewal(origin: string): void {
    const { timers, log } = this.#options.env;
    const renew = async (): Promise<void> => {
      const isNeeded = (): boolean => !this.#isStopped && this.#options.commitLog.head.head === null;
      if (!isNeeded()) return;
      try {
        if (!(await renewOrigin(origin, this.#originPlace()))) return;
      } catch (thrown) {
        const failure = storageFailure(thrown, origin);
        log.warn("what the job started from is not pinned anew: its owner may delete it", { failure: failure.message });
      }
      if (isNeeded()) this.#armRenewal(origin);
    };
    this.#cancelRenewal = timers.after(ORIGIN_PIN_RENEWAL_MS, "origin-pin", () => this.#guard(renew()));
  }

  /** Something that may fail, and is done again with the next commit or by somebody else. */
  #letGo(act: () => Promise<void>): void {
    const { env } = this.#options;
    this.#letGoTask = this.#letGoTask.then(async () => {
      try {
        if (!this.#isStopped) await act();
      } catch (thrown) {
        const failure = storageFailure(thrown, "the state that the job started from");
        if (failure.code === "FENCED") throw failure;
        env.log.info("what the job started from is not let go yet", { failure: failure.message });
      }
    });
    this.#guard(this.#letGoTask);
  }

  async #deleteClaimed(claim: RecordedClaim): Promise<void> {
    const { commitLog, env } = this.#options;
    const mayDelete = (): boolean => !this.#isStopped && !commitLog.isFenced;
    const verifyOwnership = (): Promise<void> => commitLog.verifyOwnership(this.#life.signal);
    if (!(await deleteClaimed(claim, { ...this.#originPlace(), mayDelete, verifyOwnership }))) return;
    env.log.info("the claimed savepoint is deleted: own checkpoints have replaced it", { savepoint: claim.path });
    await commitLog.append((previous) => withoutClaim(previous, claim), this.#life.signal);
  }

  #originPlace(): OriginPlace {
    const { store, openStore, commitLog, env } = this.#options;
    return { store, openStore, env, jobDir: commitLog.jobDir, uid: commitLog.head.uid, signal: this.#life.signal };
  }

  async #trim(): Promise<void> {
    try {
      if (!this.#isStopped) await this.#options.commitLog.trim(TRIM_COUNT_MAX, new AbortController().signal);
    } catch (thrown) {
      this.#options.env.log.warn("old commit records stay", { failure: storageFailure(thrown, "trim").message });
    }
  }

  /** P6. Failures leave the rest for the next commit. */
  async #delete(ids: readonly CheckpointId[]): Promise<void> {
    for (const id of ids) this.#dispatch({ type: (await this.#isRemoved(id)) ? "cleaned" : "notCleaned", ids: [id] });
  }

  async #isRemoved(id: CheckpointId): Promise<boolean> {
    const { commitLog, env } = this.#options;
    const mayDelete = (): boolean => !this.#isStopped && !commitLog.isFenced;
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
    if (result === "removed") this.#stats.discarded([id]);
    return result === "removed";
  }

  /**
   * P6 for the last record of a job that has ended: the log is asked once more who owns it, then what it condemns is deleted, then a record
   * says what is left. Rejects with FENCED; any other failure leaves the rest to the next JobManager.
   */
  async #deleteCondemned(closed: CommitRecord, roundsMax: number): Promise<CommitRecord> {
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

  /** What earlier epochs left behind and the log does not know is condemned with the next commit. */
  #sweep(idMax: number): void {
    const { commitLog, env } = this.#options;
    const sweep = async (): Promise<void> => {
      try {
        const ids = await this.#garbage.orphans(idMax, commitLog.head);
        if (ids.length > 0) this.#dispatch({ type: "orphansFound", ids });
      } catch (thrown) {
        env.log.info("sweep skipped", { failure: storageFailure(thrown, "sweep").message });
      }
    };
    if (idMax <= 0) return;
    this.#sweepTask = sweep();
    this.#guard(this.#sweepTask);
  }

  /** CS3: a rejection of what an effect started. */
  #guard(task: Promise<void>): void {
    task.catch((thrown: unknown) => {
      if (thrown instanceof AssertionError) this.#options.env.host.crash(thrown.message);
      const failure = toFailure(thrown);
      if (this.#isStopped || failure.code === "CANCELED") return;
      this.dispose();
      this.#options.listener.fenced(failure);
    });
  }
}

/** What is tried with a commit, and may fail for long, is tried with fewer and fewer of them. */
class SparseTries {
  #commits = 0;
  #dueCommits = 1;

  isDue(): boolean {
    this.#commits += 1;
    if (this.#commits < this.#dueCommits) return false;
    this.#commits = 0;
    this.#dueCommits = Math.min(TRIM_EVERY_COMMITS, this.#dueCommits * 2);
    return true;
  }
}

function neverBegan(timeoutMs: number): Failure {
  return new Failure("CHECKPOINT_DECLINED", {
    retry: "backoff",
    message: `no checkpoint was taken: it could not begin within ${timeoutMs} ms: not all tasks run, or others are under way`,
    remedy: "ask again once the job runs",
  });
}

function interrupted(): Failure {
  return new Failure("CANCELED", {
    retry: "backoff",
    message: "the job is being stopped or restarted",
    remedy: "ask for a checkpoint again once it runs",
  });
}
