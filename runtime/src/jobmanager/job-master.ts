// The JobManager's shell around the scheduler: runs its effects over connections, timers and the checkpoint coordinator.
//
// Invariants (tests cite them):
//   JM1. Events are applied one after the other; an effect that causes an event at once only queues it.
//   JM2. After `fenced` nothing is sent to anybody and nothing is written; the process ends.
//   JM3. Checkpoints run only while every task of the attempt runs (or has ended); they stop before anything is restored.
//   JM4. The order of a restart: suspend checkpoints, read the head, assign state, deploy.
//
// Not here: decisions (scheduler.ts, checkpoint/coordinator.ts), what to restore (restore.ts), the process (bin/run-jobmanager.ts).

import { assert, AssertionError, describeFailure, Failure, failureFromJson, planted, toFailure } from "@sluice/kit";
import type { Cancel, Clock, Host, Log, Net, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import {
  CheckpointCoordinator,
  checkpointIdOfPath,
  checkpointVertices,
  endStateOf,
  fitPlan,
} from "../checkpoint/index.ts";
import type {
  CommitLog,
  CommitRecord,
  OperationRequest,
  RecordedOperation,
  StoreOpener,
  TaskGateway,
} from "../checkpoint/index.ts";
import type { RuntimeSettings } from "../model/configuration/index.ts";
import type {
  AttemptNumber,
  CheckpointAck,
  CheckpointId,
  CheckpointMetadata,
  Epoch,
  JobPlan,
  SubtaskId,
  TaskRestored,
  TaskSpec,
} from "../model/index.ts";
import { subtaskKey } from "../model/index.ts";
import type {
  DeployRequest,
  JobManagerMessage,
  JobManagerRequest,
  RpcOptions,
  TaskManagerMessage,
} from "../rpc/index.ts";
import { copyHolders, SlotsWatch } from "./copy-holders.ts";
import { JobHistory } from "./job-history.ts";
import { jobView, logView, taskManagerView } from "./job-view.ts";
import { LocalCopyMap } from "./local-copy-map.ts";
import { Operations } from "./operations.ts";
import type { OperationRunners } from "./operations.ts";
import { slotsRequired, subtasksOfSlot } from "./placement.ts";
import type { JobManagerView, JobView, LogView, RestoreSummary, TaskManagerView } from "./rest/source.ts";
import { NOTHING_TO_RESTORE, prepareRestore } from "./restore.ts";
import type { PreparedRestore } from "./restore.ts";
import { RestoreReport } from "./restore-report.ts";
import { RestartStrategy } from "./restart-strategy.ts";
import { checkpointRunners, endMessage } from "./checkpoint-operations.ts";
import { planAt } from "./rescale.ts";
import { rescaleRunner } from "./rescale-operation.ts";
import { initialSchedulerState, mayRescale, schedule, wantedPlan } from "./scheduler.ts";
import type { EndState, SchedulerEffect, SchedulerEvent, SchedulerState } from "./scheduler.ts";
import { TaskManagers } from "./task-managers.ts";
import type { TaskManagerEntry } from "./task-managers.ts";

/** A deployment includes the end of the threads before it: cancellation, termination, and then some. */
const DEPLOY_TIMEOUT_MS = 120_000;
/** A TaskManager that lost its JobManager looks for the next one at least this often (task-manager.ts), and then some. */
const COPIES_WAIT_MS = 2_500;

export interface JobMasterEnv {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly rng: Rng;
  readonly net: Net;
  readonly log: Log;
  readonly host: Host;
}

/** The claimed log and the store it lies in; undefined without checkpointing. */
export interface JobStorage {
  readonly store: ObjectStore;
  /** Of savepoints in other places. */
  readonly openStore: StoreOpener;
  readonly log: CommitLog;
}

export interface JobMasterOptions {
  readonly env: JobMasterEnv;
  readonly rpc: Pick<RpcOptions, "self" | "secret" | "heartbeat">;
  readonly jobId: string;
  readonly plan: JobPlan;
  readonly moduleUrl: string;
  readonly settings: RuntimeSettings;
  readonly configuration: Readonly<Record<string, string>>;
  /** Lineage without a log. */
  readonly lineage: string;
  readonly allowReplay: CheckpointId | undefined;
  /** The job has ended for good, and the log says so. */
  readonly onEnded: (as: EndState, message: string) => void;
  /** This JobManager may not or cannot go on (JM2). */
  readonly onFatal: (failure: Failure) => void;
}

export class JobMaster implements JobManagerView {
  readonly #options: JobMasterOptions;
  readonly #taskManagers: TaskManagers;
  readonly #history: JobHistory;
  /** Of the newest checkpoint that was restored or taken here; undefined before the first preparation. */
  #newest: CheckpointMetadata | null | undefined;
  #preparing: Promise<void> = Promise.resolve();
  #rescaleCount = 0;
  readonly #restartStrategy: RestartStrategy;
  readonly #operations: Operations;
  readonly #operationIds: Rng;
  readonly #life = new AbortController();
  readonly #queue: SchedulerEvent[] = [];
  readonly #prepared = new Map<AttemptNumber, PreparedRestore>();
  readonly #damaged = new Map<string, string>();
  readonly #localCopies = new LocalCopyMap();
  #restoreReport: RestoreReport | undefined;
  #restored: RestoreSummary | undefined;
  /** With the number of key groups of the state that was restored last. */
  #plan: JobPlan;
  #state: SchedulerState;
  #isStepping = false;
  #isOver = false;
  #storage: JobStorage | undefined;
  #endedBefore: { readonly store: ObjectStore; readonly record: CommitRecord } | undefined;
  #coordinator: CheckpointCoordinator | undefined;
  #cancelDelay: Cancel | undefined;
  #cancelCopiesWait: Cancel | undefined;
  readonly #slots = new SlotsWatch();
  #restartCount = 0;

  constructor(options: JobMasterOptions) {
    const { env, plan, settings } = options;
    this.#options = options;
    this.#plan = plan;
    this.#history = new JobHistory(env.clock, settings.exceptionHistoryMax);
    this.#restartStrategy = new RestartStrategy(settings.restart, env.rng.fork("restart-strategy"));
    this.#operationIds = env.rng.fork("operation-ids");
    this.#operations = new Operations({
      env,
      runners: this.#runners(),
      onFenced: (failure) => this.#fatal(failure),
    });
    this.#state = initialSchedulerState(plan);
    this.#taskManagers = new TaskManagers({
      rpc: { env, ...options.rpc },
      onRegistered: (entry) => this.#registered(entry),
      onLost: (entry, failure) => this.#lost(entry, failure),
      onMessage: (entry, message) => this.#onMessage(entry, message),
    });
  }

  // ---- life

  /** TaskManagers may register from now on; returns the address as bound. */
  listen(address: string): Promise<string> {
    return this.#taskManagers.listen(address);
  }

  /** The log is claimed (or there is none): the job begins. */
  start(storage: JobStorage | undefined): void {
    const { env, settings } = this.#options;
    this.#storage = storage;
    const plan = this.#recordedPlan();
    this.#plan = plan;
    if (storage !== undefined) {
      this.#coordinator = new CheckpointCoordinator({
        env,
        store: storage.store,
        openStore: storage.openStore,
        commitLog: storage.log,
        vertices: checkpointVertices(plan),
        config: settings.checkpoints,
        gateway: this.#gateway(),
        listener: {
          failJob: (failure) => this.#dispatch({ type: "jobFailure", failure }),
          fenced: (failure) => this.#fatal(failure),
          completed: (metadata) => {
            const { checkpointId, kind } = metadata;
            if (kind === "savepoint") return; // nobody restores from it, and nobody keeps copies of it
            const { jobDir } = storage.log;
            this.#newest = metadata;
            this.#localCopies.completed(checkpointId, (path) => checkpointIdOfPath(jobDir, path));
          },
          finalCompleted: (id) => env.log.info("the final checkpoint is committed", { checkpoint: id }),
          stopFailed: (failure) => this.#dispatch({ type: "stopFailed", failure }),
        },
      });
    }
    this.#dispatch({ type: "started", plan });
    this.#operations.start(storage?.log);
  }

  /** As planned, at the parallelism that somebody asked an earlier JobManager of this submission for. */
  #recordedPlan(): JobPlan {
    const { env, plan } = this.#options;
    const rescale = this.#storage?.log.head.rescale ?? null;
    if (rescale === null || planted("rescale-forgotten-by-failover")) return plan;
    const rescaled = planAt(plan, rescale.parallelism);
    if (rescaled === undefined)
      env.log.warn("the job has other vertices than when it was rescaled: it runs as planned");
    return rescaled ?? plan;
  }

  /** An earlier JobManager has recorded the end of the job: this one only tells of it. */
  endedBefore(as: EndState, store: ObjectStore, record: CommitRecord): void {
    assert(this.#state.job === "INITIALIZING", "a job that has ended is not started");
    this.#state = { ...this.#state, job: as }; // JS1 is about what a job does: this one does nothing any more
    this.#endedBefore = { store, record };
    this.#history.jobState(as);
    this.#operations.endedBefore(record);
    this.#isOver = true;
    this.#taskManagers.close(`job ${this.#options.plan.jobName} is ${as}`);
  }

  /** Goes without ending the job: the next JobManager continues it. TaskManagers wait for that one, or go too. */
  async suspend(options: { readonly endsTaskManagers: boolean } = { endsTaskManagers: false }): Promise<void> {
    if (this.#isOver) return;
    this.#dispatch({ type: "suspendRequested" });
    this.#operations.end(undefined); // what runs is begun again by the next JobManager
    if (options.endsTaskManagers) this.#shutDownTaskManagers(`job ${this.#options.plan.jobName} is suspended`);
    this.#options.env.log.info("suspended: the job continues with the next JobManager");
    try {
      await this.#coordinator?.suspend();
    } catch (thrown) {
      this.#options.env.log.warn("suspended without a clean end of the log", { failure: toFailure(thrown).message });
    }
    this.#end("the JobManager is suspended");
  }

  // ---- JobManagerView

  get host(): string {
    return this.#options.env.host.name;
  }

  wallMs(): number {
    return this.#options.env.clock.wallMs();
  }

  job(): JobView {
    const { jobId, settings, configuration } = this.#options;
    return jobView({
      jobId,
      plan: this.#plan,
      state: this.#state,
      history: this.#history,
      restartCount: this.#restartCount,
      taskManagers: this.#taskManagers.all(),
      checkpoints: this.#coordinator?.stats(),
      checkpointConfig: settings.checkpoints,
      configuration,
      storeUri: this.#storage?.store.uri,
      restored: this.#restored,
      rescaleCount: this.#rescaleCount,
      requirements: this.#storage?.log.head.rescale?.requirements,
    });
  }

  taskManagers(): readonly TaskManagerView[] {
    return this.#taskManagers.all().map((entry) => taskManagerView(entry, this.#state));
  }

  slotsRequired(): number {
    return slotsRequired(wantedPlan(this.#state));
  }

  submission(): string {
    return this.#options.lineage;
  }

  log(): LogView | undefined {
    if (this.#storage !== undefined) return logView(this.#storage.store, this.#storage.log.head);
    return this.#endedBefore === undefined ? undefined : logView(this.#endedBefore.store, this.#endedBefore.record);
  }

  startOperation(id: string, request: OperationRequest): Promise<void> {
    return this.#operations.request(id, request);
  }

  operation(id: string): RecordedOperation | undefined {
    return this.#operations.find(id);
  }

  newOperationId(): string {
    return Array.from({ length: 4 }, () => this.#operationIds.u32().toString(16).padStart(8, "0")).join("");
  }

  /** How operations are done. */
  #runners(): OperationRunners {
    const { env, jobId, settings } = this.#options;
    return {
      rescale: rescaleRunner({
        env,
        deployedPlan: () => this.#plan,
        wantedPlan: () => wantedPlan(this.#state),
        slotCount: () => this.#taskManagers.slotCount,
        isDeployed: () => this.#state.job === "RUNNING" && this.#state.deployment !== undefined,
        mayRescale: () => !this.#isOver && mayRescale(this.#state),
        coordinator: () => this.#coordinator,
        log: () => this.#storage?.log,
        newest: () => this.#newest,
        unclaimedState: unclaimedState(settings),
        onRescaled: (plan) => this.#dispatch({ type: "rescaled", plan }),
        signal: this.#life.signal,
      }),
      cancel: () => {
        this.#dispatch({ type: "cancelRequested" });
        return Promise.resolve(undefined); // OP4: the record of the job's end settles it
      },
      ...checkpointRunners({
        env,
        jobId,
        savepointDirectory: settings.savepointDirectory,
        coordinator: () => this.#coordinator,
        storage: () => this.#storage,
        random: () => this.newOperationId(),
        signal: this.#life.signal,
      }),
    };
  }

  // ---- TaskManagers

  #registered(entry: TaskManagerEntry): void {
    const { taskManagerId, slotCount, dataAddress, localCopies } = entry.registration;
    this.#localCopies.registered(taskManagerId, localCopies);
    this.#options.env.log.info("TaskManager registered", {
      taskManager: taskManagerId,
      slots: slotCount,
      dataAddress,
      localCopies: localCopies.length,
    });
    this.#slots.changed();
    this.#dispatch({ type: "registered", taskManager: { id: taskManagerId, slotCount } });
  }

  #lost(entry: TaskManagerEntry, failure: Failure): void {
    if (this.#isOver) return;
    const { taskManagerId } = entry.registration;
    this.#localCopies.lost(taskManagerId);
    this.#options.env.log.warn("TaskManager lost", { taskManager: taskManagerId, failure: failure.message });
    this.#dispatch({ type: "lost", taskManagerId, failure });
  }

  #onMessage(entry: TaskManagerEntry, message: TaskManagerMessage): void {
    if (this.#isOver) return;
    const { taskManagerId } = entry.registration;
    const epoch = this.#epoch;
    switch (message.type) {
      case "taskState": {
        if (message.epoch !== epoch) return;
        const { attempt, subtask, state } = message;
        const failure = message.failure === undefined ? undefined : failureFromJson(message.failure);
        if (message.restored !== undefined && attempt === this.#state.deployment?.attempt)
          this.#taskRestored(subtask, message.restored);
        if (message.counters !== undefined) this.#history.taskEnded(subtaskKey(subtask), attempt, message.counters);
        this.#dispatch({ type: "taskState", attempt, subtask, state, failure });
        return;
      }
      case "acknowledgeCheckpoint":
        if (this.#options.settings.localCopies.enabled)
          this.#localCopies.kept(taskManagerId, this.#pathsOf(message.ack));
        this.#coordinator?.ack(message.ack);
        return;
      case "declineCheckpoint":
        this.#coordinator?.decline(message.decline);
        return;
      case "attemptEnded":
        if (message.epoch === epoch) this.#dispatch({ type: "attemptEnded", attempt: message.attempt, taskManagerId });
        return;
      case "objectDamaged":
        this.#damaged.set(message.object, message.reason);
        this.#options.env.log.warn("an object of the checkpoint is damaged", {
          object: message.object,
          reason: message.reason,
          taskManager: taskManagerId,
        });
        return;
    }
  }

  /** Where the parts of an acknowledgement lie in the store, and in copies on who sent it. */
  #pathsOf({ parts }: CheckpointAck): readonly string[] {
    const jobDir = this.#storage?.log.jobDir ?? "";
    return [...new Set(parts.map(({ object }) => `${jobDir}/${object}`))];
  }

  #taskRestored(subtask: SubtaskId, restored: TaskRestored): void {
    const { clock, log } = this.#options.env;
    const now = { nowMs: clock.nowMs(), wallMs: clock.wallMs() };
    const summary = this.#restoreReport?.add(subtask, restored, now);
    if (summary === undefined) return;
    this.#restored = summary;
    const { checkpointId, durationMs, localSubtasks, localBytes, storeSubtasks, storeBytes, tasks } = summary;
    log.info("restored", {
      checkpoint: checkpointId,
      durationMs: Math.round(durationMs),
      localSubtasks,
      localBytes,
      storeSubtasks,
      storeBytes,
      tasks,
    });
  }

  /** What the prepared attempt restores, if it looks for local copies. */
  #preparedForLocal(): PreparedRestore | undefined {
    return this.#options.settings.localCopies.readsFirst ? this.#prepared.get(this.#state.attempt) : undefined;
  }

  /** Where the bytes lie that a slot of the prepared attempt restores. */
  #localBytes(slotIndex: number): ReadonlyMap<string, number> {
    const prepared = this.#preparedForLocal();
    if (prepared === undefined) return new Map();
    const parts = subtasksOfSlot(wantedPlan(this.#state), slotIndex).flatMap(
      (subtask) => prepared.tasks.get(subtaskKey(subtask))?.parts ?? [],
    );
    return this.#localCopies.bytesOf(prepared.restoreDir, parts);
  }

  #missesCopies(): boolean {
    const prepared = this.#preparedForLocal();
    if (prepared === undefined) return false;
    const parts = [...prepared.tasks.values()].flatMap((task) => task.parts);
    const held = parts.filter(({ object }) => this.#localCopies.isHeld(`${prepared.restoreDir}/${object}`)).length;
    return held > 0 && held < parts.length;
  }

  get #epoch(): Epoch {
    return this.#storage?.log.epoch ?? (1 as Epoch);
  }

  #tell(taskManagerId: string, message: JobManagerMessage): void {
    this.#taskManagers.get(taskManagerId)?.peer.send(message);
  }

  /** TaskManagers whose threads of the deployed attempt may run. */
  #tellDeployed(message: JobManagerMessage): void {
    for (const id of this.#state.deployment?.active ?? []) this.#tell(id, message);
  }

  #gateway(): TaskGateway {
    return {
      triggerCheckpoint: (subtask, { epoch, attempt, barrier }) => {
        const owner = this.#state.deployment?.owners[subtask.subtaskIndex];
        if (owner !== undefined) this.#tell(owner, { type: "triggerCheckpoint", epoch, attempt, subtask, barrier });
      },
      notifyComplete: (epoch, checkpointId) =>
        this.#tellDeployed({ type: "notifyCheckpointComplete", epoch, checkpointId }),
      notifyAborted: (epoch, checkpointId, latestCompletedId) =>
        this.#tellDeployed({ type: "notifyCheckpointAborted", epoch, checkpointId, latestCompletedId }),
    };
  }

  // ---- the scheduler's shell

  #dispatch(event: SchedulerEvent): void {
    if (this.#isOver) return;
    this.#queue.push(event);
    if (this.#isStepping) return; // JM1
    this.#isStepping = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined && !this.#isOver; next = this.#queue.shift())
        this.#step(next);
    } catch (thrown) {
      if (thrown instanceof AssertionError) this.#options.env.host.crash(thrown.message);
      throw thrown;
    } finally {
      this.#isStepping = false;
    }
  }

  #step(event: SchedulerEvent): void {
    const { env } = this.#options;
    const before = this.#state;
    const [state, effects] = schedule(before, event, {
      decideRestart: (failure) => this.#restartStrategy.onFailure(failure, env.clock.nowMs()),
      localBytes: (slotIndex) => this.#localBytes(slotIndex),
      missesCopies: () => this.#missesCopies(),
    });
    this.#state = state;
    if (state.job !== before.job)
      env.log.info("job state", { from: before.job, to: state.job, attempt: state.attempt });
    this.#history.jobState(state.job);
    const attempt = state.deployment?.attempt ?? state.attempt;
    if (state.executions !== before.executions) {
      for (const [key, execution] of state.executions)
        if (execution !== before.executions.get(key)) this.#history.taskState(key, execution, attempt);
    }
    for (const effect of effects) this.#run(effect);
  }

  #run(effect: SchedulerEffect): void {
    if (this.#isOver) return;
    const { env } = this.#options;
    switch (effect.type) {
      case "prepare":
        // One after the other: a job that is rescaled while it waits is prepared again.
        this.#preparing = this.#preparing.then(() => this.#prepare(effect.attempt));
        this.#guard(this.#preparing);
        return;
      case "armDelay": {
        const { attempt } = effect;
        this.#cancelDelay?.();
        this.#cancelDelay = env.timers.after(effect.delayMs, "restart-delay", () =>
          this.#dispatch({ type: "delayOver", attempt }),
        );
        return;
      }
      case "armCopiesWait":
        env.log.info("waiting for TaskManagers with local copies", { atMostMs: COPIES_WAIT_MS });
        this.#cancelCopiesWait = env.timers.after(COPIES_WAIT_MS, "copies-wait", () =>
          this.#dispatch({ type: "copiesWaitOver" }),
        );
        return;
      case "deploy":
        this.#deploy(effect.attempt, effect.owners);
        return;
      case "cancelAttempt":
        for (const id of effect.taskManagerIds)
          this.#tell(id, { type: "cancelAttempt", epoch: this.#epoch, attempt: effect.attempt });
        return;
      case "taskRunning":
        this.#coordinator?.taskRunning(effect.subtask);
        return;
      case "taskFinished":
        this.#coordinator?.taskFinished(effect.subtask);
        return;
      case "sourceEnded":
        this.#coordinator?.sourceEnded(effect.subtask);
        return;
      case "recordException":
        this.#recordException(effect);
        return;
      case "noSlots":
        env.log.warn("waiting for TaskManagers", {
          code: "NO_SLOTS",
          missing: effect.missingCount,
          required: this.slotsRequired(),
          registered: this.#taskManagers.slotCount,
        });
        return;
      case "restarting":
        this.#restartCount += 1;
        env.log.warn("the job restarts", {
          attempt: effect.attempt,
          delayMs: Math.round(effect.delayMs),
          cause: effect.failure.code,
        });
        return;
      case "rescaling":
        this.#rescaleCount += 1;
        this.#slots.changed(); // who waits for slots may need fewer now
        return;
      case "close":
        this.#guard(this.#close(effect.as));
        return;
      case "jobEnded":
        this.#jobEnded(effect.as, effect.failure);
        return;
    }
  }

  #recordException(effect: Extract<SchedulerEffect, { readonly type: "recordException" }>): void {
    const { env } = this.#options;
    const { plan } = this.#state;
    const { failure, subtask, taskManagerId } = effect;
    const vertex = plan.vertices.find(({ id }) => id === subtask?.vertexId);
    const taskName =
      subtask === null || vertex === undefined
        ? null
        : `${vertex.name} (${subtask.subtaskIndex + 1}/${vertex.parallelism}) - execution #${this.#state.attempt}`;
    const endpoint =
      taskManagerId === null ? null : (this.#taskManagers.get(taskManagerId)?.registration.dataAddress ?? null);
    this.#history.exception(failure, { taskName, endpoint, taskManagerId });
    env.log.error("failure", {
      code: failure.code,
      failure: failure.message,
      task: taskName,
      taskManager: taskManagerId,
      ...(isUserCode(failure) ? { stack: failure.stack } : {}),
    });
  }

  /** JM4. */
  async #prepare(attempt: AttemptNumber): Promise<void> {
    const { env, allowReplay, settings } = this.#options;
    if (attempt !== this.#state.attempt) return;
    const plan = wantedPlan(this.#state);
    const storage = this.#storage;
    const { signal } = this.#life;
    if (storage === undefined) {
      this.#prepared.set(attempt, NOTHING_TO_RESTORE);
      this.#dispatch({ type: "prepared", attempt });
      return;
    }
    await this.#coordinator?.suspend(); // rejects with FENCED
    let prepared: PreparedRestore;
    try {
      prepared = await prepareRestore({
        ...storage,
        plan,
        env,
        copies: copyHolders({
          taskManagers: this.#taskManagers,
          jobDir: storage.log.jobDir,
          log: env.log,
          enoughSlots: (of) => this.#slots.until(() => this.#taskManagers.slotCount >= this.slotsRequired(), of),
        }),
        damaged: this.#damaged,
        allowReplay,
        unclaimedState: unclaimedState(settings),
        signal,
      });
    } catch (thrown) {
      if (thrown instanceof AssertionError || signal.aborted) throw thrown;
      const failure = toFailure(thrown);
      if (failure.code === "FENCED") throw failure;
      this.#dispatch({ type: "prepareFailed", attempt, failure });
      return;
    }
    this.#newest = prepared.metadata;
    this.#prepared.set(attempt, prepared);
    this.#dispatch({ type: "prepared", attempt });
  }

  #deploy(attempt: AttemptNumber, owners: readonly string[]): void {
    const { env, jobId, moduleUrl, configuration, lineage } = this.#options;
    const prepared = this.#prepared.get(attempt);
    assert(prepared !== undefined, "SC2: what an attempt restores is known before it is deployed");
    const planned = this.#state.plan;
    const plan = fitPlan(prepared.metadata, planned);
    this.#plan = plan;
    this.#prepared.clear();
    const restoredId = prepared.metadata?.checkpointId ?? null;
    env.log.info("deploying", { attempt, slots: owners.length, checkpoint: restoredId });
    this.#restoreReport =
      restoredId === null
        ? undefined
        : new RestoreReport({
            checkpointId: restoredId,
            startedMs: env.clock.nowMs(),
            expectedCount: prepared.tasks.size,
          });
    this.#coordinator?.attemptStarted(attempt, prepared.metadata, checkpointVertices(planned));
    const slotOwners = owners.map((taskManagerId) => ({
      taskManagerId,
      dataAddress: this.#taskManagers.get(taskManagerId)?.registration.dataAddress ?? "",
    }));
    const shared = {
      type: "deploy",
      epoch: this.#epoch,
      attempt,
      jobId,
      lineage: this.#storage?.log.head.lineage ?? lineage,
      moduleUrl,
      plan: { ...plan, configuration },
      slotOwners,
      jobDir: this.#storage?.log.jobDir ?? "",
      restoreDir: prepared.restoreDir,
      restoreStore: prepared.restoreStore,
      restoredCheckpointId: restoredId,
      checkpointing: this.#storage !== undefined,
      endsAtOnce: prepared.endsAtOnce,
    } as const satisfies Omit<DeployRequest, "slots">;
    for (const id of new Set(owners)) {
      const slots = owners.flatMap((owner, slotIndex) =>
        owner === id
          ? [
              {
                slotIndex,
                tasks: subtasksOfSlot(plan, slotIndex).map((subtask): TaskSpec => ({
                  subtask,
                  restore: prepared.tasks.get(subtaskKey(subtask)),
                })),
              },
            ]
          : [],
      );
      this.#guard(this.#deployOn(id, { ...shared, slots }));
    }
  }

  async #deployOn(taskManagerId: string, request: DeployRequest): Promise<void> {
    const peer = this.#taskManagers.get(taskManagerId)?.peer;
    try {
      if (peer === undefined)
        throw new Failure("PEER_LOST", { retry: "backoff", message: `TaskManager ${taskManagerId} is lost` });
      await peer.request(request satisfies JobManagerRequest, DEPLOY_TIMEOUT_MS);
    } catch (thrown) {
      this.#dispatch({ type: "deployFailed", attempt: request.attempt, taskManagerId, failure: toFailure(thrown) });
    }
  }

  // ---- the end

  /** SC5: the log first. */
  async #close(as: EndState): Promise<void> {
    const { env, settings } = this.#options;
    try {
      if (as === "CANCELED")
        await this.#coordinator?.close("cancelled", { deletesCheckpoints: !settings.retainOnCancellation });
      else await this.#coordinator?.close(as === "FINISHED" ? endStateOf(this.#storage?.log.head) : "failed");
    } catch (thrown) {
      const failure = toFailure(thrown);
      if (thrown instanceof AssertionError || failure.code === "FENCED") throw thrown;
      // Its work is done or given up either way; the next start finds an open log and its head.
      env.log.error("the commit log does not say how the job ended", { as, failure: failure.message });
    }
    this.#dispatch({ type: "closed", as });
  }

  #jobEnded(as: EndState, failure: Failure | undefined): void {
    this.#shutDownTaskManagers(`job ${this.#options.plan.jobName} is ${as}`);
    const message =
      failure === undefined ? endMessage(as, this.#options.plan.jobName, this.#storage) : describeWithStack(failure);
    this.#end(message);
    this.#operations.end(as === "FINISHED" ? "finished" : as === "CANCELED" ? "cancelled" : "failed");
    this.#options.onEnded(as, message);
  }

  #shutDownTaskManagers(reason: string): void {
    for (const { peer } of this.#taskManagers.all())
      peer.send({ type: "shutdown", reason } satisfies JobManagerMessage);
  }

  /** JM2. */
  #fatal(failure: Failure): void {
    if (this.#isOver) return;
    this.#options.env.log.error("this JobManager ends", { code: failure.code, failure: failure.message });
    this.#end(failure.message);
    this.#options.onFatal(failure);
  }

  #end(reason: string): void {
    this.#isOver = true;
    this.#operations.end(undefined);
    this.#life.abort();
    this.#cancelDelay?.();
    this.#cancelCopiesWait?.();
    this.#coordinator?.dispose();
    this.#taskManagers.close(reason);
  }

  /** What an effect started ends in an event, or ends this JobManager. */
  #guard(task: Promise<void>): void {
    task.catch((thrown: unknown) => {
      if (thrown instanceof AssertionError) this.#options.env.host.crash(thrown.message);
      if (!this.#isOver) this.#fatal(toFailure(thrown));
    });
  }
}

/** State of operators that the plan does not have. */
function unclaimedState({ ignoreUnclaimedState }: RuntimeSettings): "drop" | "fail" {
  return ignoreUnclaimedState ? "drop" : "fail";
}

/** Its stack leads into the job's own code. */
function isUserCode(failure: Failure): boolean {
  return failure.code === "USER_FUNCTION_FAILED" || failure.code === "TASK_LOST";
}

function describeWithStack(failure: Failure): string {
  const text = describeFailure(failure);
  return isUserCode(failure) && failure.stack !== undefined ? `${text}\n${failure.stack}` : text;
}
