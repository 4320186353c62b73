// The coordinator's shell: runs the effects of coordinator.ts over storage, timers and messages.
//
// Invariants:
//   CS1. Events are applied one after the other; an effect that causes an event at once only queues it.
//   CS2. After `fenced`, `close` or `dispose` no message is sent and nothing is deleted (CL8).
//   CS3. No promise floats: what an effect starts ends in an event, or in the listener.
//
// Not here: decisions (coordinator.ts), what is written (checkpoint-writes.ts) and deleted (cleaning.ts) for checkpoints, what the job
// started from (origin-release.ts), who waits for an answer (pending-answers.ts), deployment and restarts (jobmanager/).

import { assert, Failure, faultPoint, planted } from "@sluice/kit";
import type { Cancel, Clock, Host, Log, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import type { AttemptNumber, CheckpointAck, CheckpointId, CheckpointMetadata, SubtaskId } from "../model/index.ts";
import { fitVertices } from "./assign.ts";
import { CheckpointWrites } from "./checkpoint-writes.ts";
import { CheckpointCleaning } from "./cleaning.ts";
import { type CommitLog, ID_BLOCK_COUNT } from "./commit-log.ts";
import { CoordinatorLife } from "./coordinator-life.ts";
import { type CoordinatorEffect, type CoordinatorEvent, initialCoordinatorState } from "./coordinator-state.ts";
import { step } from "./coordinator.ts";
import { endChange } from "./deletion.ts";
import { placeOf, type StoreOpener, uriOf } from "./location.ts";
import { metadataPath } from "./metadata.ts";
import { OriginRelease } from "./origin-release.ts";
import { checkpointOverdue, interrupted, PendingAnswers } from "./pending-answers.ts";
import { condemnedClaims, onlyPublishes } from "./start.ts";
import { CheckpointStatsTracker } from "./stats.ts";
import type {
  CheckpointConfig,
  CheckpointCoordination,
  CheckpointDecline,
  CheckpointStatsSnapshot,
  CheckpointVertex,
  CommitRecord,
  CoordinatorListener,
  EndedJobState,
  SavepointOrder,
  TakenSavepoint,
  TaskGateway,
} from "./types.ts";

/** Savepoints that wait to be triggered; more are refused. */
const SAVEPOINTS_QUEUED_MAX = 64;
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
  readonly #life: CoordinatorLife;
  readonly #stats: CheckpointStatsTracker;
  readonly #writes: CheckpointWrites;
  readonly #cleaning: CheckpointCleaning;
  readonly #origin: OriginRelease;
  readonly #answers = new PendingAnswers();
  readonly #timeouts = new Map<CheckpointId, Cancel>();
  readonly #queue: CoordinatorEvent[] = [];
  #state: ReturnType<typeof initialCoordinatorState>;
  /** As planned. */
  #vertices: readonly CheckpointVertex[];
  #isStepping = false;
  #cancelTick: Cancel | undefined;
  #committing: Promise<void> = Promise.resolve();

  constructor(options: CoordinatorOptions) {
    this.#options = options;
    const { commitLog, config, env } = options;
    this.#vertices = options.vertices;
    const life = new CoordinatorLife({
      host: env.host,
      onFailed: (failure) => {
        this.dispose();
        options.listener.fenced(failure);
      },
    });
    this.#life = life;
    this.#stats = new CheckpointStatsTracker(options.vertices, config.historyMax);
    this.#writes = new CheckpointWrites({ ...options, life, onEvent: (event) => this.#dispatch(event) });
    this.#cleaning = new CheckpointCleaning({
      ...options,
      life,
      onCleaned: (id, isRemoved) => this.#dispatch({ type: isRemoved ? "cleaned" : "notCleaned", ids: [id] }),
      onRemoved: (id) => this.#stats.discarded([id]),
      onOrphans: (ids) => this.#dispatch({ type: "orphansFound", ids }),
    });
    this.#origin = new OriginRelease({ ...options, life });
    this.#state = initialCoordinatorState({ config, vertices: options.vertices, claimed: commitLog.head });
    this.#cleaning.sweep(commitLog.head.idHigh - ID_BLOCK_COUNT);
    if (commitLog.head.head === null && commitLog.head.origin !== null) this.#origin.armRenewal(commitLog.head.origin);
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
      if (head?.id === restored.checkpointId) this.#cleaning.learn(head.path, restored);
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
    if (this.#life.isOver) throw interrupted();
    const { env, config } = this.#options;
    const asked = this.#answers.checkpoint();
    const cancel = env.timers.after(config.timeoutMs, "checkpoint-queue", () =>
      asked.refuse(checkpointOverdue(config.timeoutMs)),
    );
    this.#dispatch({ type: "triggerRequested" });
    try {
      return await asked.taken;
    } finally {
      cancel();
    }
  }

  async takeSavepoint(order: SavepointOrder): Promise<TakenSavepoint> {
    const { env, config, store, openStore } = this.#options;
    const place = await placeOf(order.location, { store, openStore });
    await place.store.stat(place.metadataPath); // a store that is not there is told before anything stops for it
    if (this.#life.isOver) throw interrupted();
    if (this.#state.savepointRequests.length >= SAVEPOINTS_QUEUED_MAX) {
      throw new Failure("CHECKPOINT_DECLINED", {
        retry: "backoff",
        message: `${SAVEPOINTS_QUEUED_MAX} savepoints wait to be taken already`,
        remedy: "wait until one of them is complete",
      });
    }
    const { token, taken } = this.#answers.savepoint();
    const cancel = env.timers.after(config.timeoutMs, "savepoint-queue", () =>
      this.#dispatch({ type: "savepointOverdue", token }),
    );
    this.#dispatch({ type: "savepointRequested", request: { ...order, token } });
    try {
      return await taken;
    } finally {
      cancel();
      this.#answers.forgetSavepoint(token);
    }
  }

  async suspend(): Promise<CommitRecord> {
    const wasRunning = this.#state.phase === "running";
    this.#dispatch({ type: "suspended" });
    if (wasRunning) this.#answers.refuseWaiting(interrupted()); // C11
    for (const id of this.#writes.ids) if (this.#isCommitting(id)) this.#writes.abort(id);
    await this.#committing;
    return this.#options.commitLog.settled();
  }

  async close(
    jobState: EndedJobState,
    options: { readonly deletesCheckpoints: boolean } = { deletesCheckpoints: false },
  ): Promise<CommitRecord> {
    const { deletesCheckpoints } = options;
    assert(!deletesCheckpoints || jobState === "cancelled", "only a cancelled job's checkpoints are deleted");
    await this.suspend();
    await this.#cleaning.settled();
    await this.#origin.settled();
    const { commitLog, env } = this.#options;
    const { abandoned, deleted } = this.#state;
    const end = { jobState, deletesCheckpoints, abandoned, deleted, wallMs: env.clock.wallMs() };
    const outcome = await commitLog.append((previous) => endChange(previous, end), new AbortController().signal);
    try {
      if (outcome.type === "failed") throw outcome.failure;
      // No commit comes after this one: what the log has condemned goes now, else it would stay for ever.
      return await this.#cleaning.deleteCondemned(outcome.record, deletesCheckpoints ? LAST_DELETE_ROUNDS_MAX : 1);
    } finally {
      this.dispose();
    }
  }

  dispose(): void {
    if (this.#life.isOver) return;
    this.#dispatch({ type: "stopped" });
    this.#life.end();
    this.#answers.interruptAll();
    this.#cancelTick?.();
    this.#origin.end();
    for (const cancel of this.#timeouts.values()) cancel();
    this.#timeouts.clear();
    this.#writes.abortAll();
    this.#options.commitLog.dispose();
  }

  stats(): CheckpointStatsSnapshot {
    return this.#stats.snapshot();
  }

  #isCommitting(id: CheckpointId): boolean {
    return this.#state.pending.some((p) => p.id === id && p.progress === "committing");
  }

  #dispatch(event: CoordinatorEvent): void {
    if (this.#life.isOver) return;
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
    if (this.#life.isOver) return;
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
        if (savepoint === null) this.#answers.triggered(id);
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
        this.#life.guard(this.#reserveIds());
        return;
      case "ackAccepted":
        faultPoint("P2-first-ack");
        this.#stats.acked(effect.ack, effect.id, env.clock.wallMs());
        return;
      case "writeMetadata":
        this.#life.guard(this.#writes.writeMetadata(effect.metadata, effect.location));
        if (planted("savepoint-answered-before-metadata")) this.#answerEarly(effect.metadata.checkpointId);
        return;
      case "cancelMetadata":
      case "giveUpCommit":
        this.#writes.abort(effect.id);
        return;
      case "commit":
        this.#committing = this.#commit(effect);
        this.#life.guard(this.#committing);
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
        this.#answers.savepointFailed(effect.request.token, effect.failure);
        if (effect.id !== null) this.#cleaning.discard(effect.request.location);
        return;
      case "stopFailed":
        if (!planted("failed-stop-not-restarted")) listener.stopFailed(effect.failure);
        return;
      case "aborted":
        this.#forget(effect.id);
        this.#stats.failed(effect.id, { reason: effect.reason, wallMs: env.clock.wallMs() });
        env.log.info("checkpoint aborted", { checkpoint: effect.id, reason: effect.reason });
        this.#answerAborted(effect);
        if (effect.notifies) gateway.notifyAborted(this.#state.epoch, effect.id, effect.latestCompletedId);
        return;
      case "delete":
        this.#cleaning.delete(effect.ids);
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
    const metadata = this.#writes.metadataOf(id);
    assert(metadata !== undefined, "a completed checkpoint has metadata");
    const path = metadataPath(commitLog.jobDir, id);
    if (savepoint === null) this.#cleaning.learn(path, metadata);
    const externalPath = savepoint === null ? uriOf(store, path) : savepoint.location;
    this.#stats.completed(id, { externalPath, wallMs: env.clock.wallMs() });
    this.#forget(id);
    env.log.info("checkpoint completed", { checkpoint: id, final: isFinal, savepoint: savepoint?.location ?? null });
    listener.completed(metadata);
    this.#answers.completed(id);
    if (savepoint !== null) this.#answers.savepointTaken(savepoint.token, { id, location: savepoint.location });
    if (savepoint !== null && planted("savepoint-swept-when-done")) this.#cleaning.discard(savepoint.location);
    if (isFinal) listener.finalCompleted(id);
  }

  /** Planted. */
  #answerEarly(id: CheckpointId): void {
    const savepoint = this.#state.pending.find((p) => p.id === id)?.savepoint;
    if (savepoint?.stops === "no") this.#answers.savepointTaken(savepoint.token, { id, location: savepoint.location });
  }

  /** C2: who asked for a checkpoint that a newer one subsumes has what was asked for. */
  #answerAborted(of: Extract<CoordinatorEffect, { readonly type: "aborted" }>): void {
    const { id, code, reason, latestCompletedId } = of;
    if (code !== "CANCELED" && latestCompletedId !== null && latestCompletedId > id)
      this.#answers.subsumed(id, latestCompletedId);
    else this.#answers.aborted(id, new Failure(code, { retry: "backoff", message: reason }));
  }

  #forget(id: CheckpointId): void {
    this.#timeouts.get(id)?.();
    this.#timeouts.delete(id);
    this.#writes.forget(id);
  }

  async #reserveIds(): Promise<void> {
    const failure = await this.#writes.reserveIds();
    if (failure !== undefined) this.#answers.refuseWaiting(failure);
    this.#dispatch({ type: failure === undefined ? "idsReserved" : "idsNotReserved" });
  }

  /** P4, and what a commit sets going. */
  async #commit(effect: Extract<CoordinatorEffect, { readonly type: "commit" }>): Promise<void> {
    const { head } = this.#options.commitLog;
    const before = { origin: head.origin, condemned: condemnedClaims(head) };
    if (!(await this.#writes.commit(effect))) return;
    this.#origin.committed(before);
    this.#cleaning.committed();
  }
}
