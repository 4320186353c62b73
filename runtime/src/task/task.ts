// One task: the chain of one subtask, its inputs and outputs, its part in checkpoints, its life.
//
// Invariants (tests cite them):
//   TK1. All methods are called from the slot's loop, one at a time; user code runs only inside them (continuations of asynchronous
//        functions run between steps and reach nothing of the task: operators/async-wait.ts AW2).
//   TK2. At the trigger of a checkpoint the barrier goes to every output before any later record, and state is captured
//        before any later record is processed: both happen in one synchronous stretch.
//   TK3. A task whose output has no room is not run until its staging has drained; nothing is dropped.
//   TK4. A snapshot is submitted at most once, and only while its checkpoint was not aborted.
//   TK5. Side effects of checkpoint n are asked for only by notifyCheckpointComplete(m >= n).
//   TK6. FINISHED is reported after the final checkpoint, or a stop, was confirmed (or at once without checkpointing).
//   TK7. After the barrier of a stop nothing is processed: what is not in its savepoint happens in the job that goes on from it.
//   TK8. Timers fire between batches of records, in the order of time, a bounded number per step: neither barriers nor the slot's other
//        tasks wait for a burst of them.
//
// The order of a step is here, and every change of the task's state; what a step consists of has files of its own: input (gate-input.ts,
// source-input.ts) and timers (task-timers.ts) within a budget (step-budget.ts), outputs (task-outputs.ts), snapshots
// (task-snapshots.ts), the end (finish-protocol.ts) and what is published at it (commits.ts), figures (task-figures.ts).
//
// Not here: the loop over tasks (slot-runner.ts), barrier alignment (checkpoint/aligner), codecs and rings (network/).

import { assert, failureToJson, planted, toFailure } from "@sluice/kit";
import type { Clock, Log } from "@sluice/kit/env";
import type {
  AttemptNumber,
  Barrier,
  CheckpointId,
  CheckpointingMode,
  Epoch,
  PartsRead,
  SlotPort,
  SubtaskId,
  TaskRestore,
  TaskState,
} from "../model/index.ts";
import { isTaskOver } from "../model/index.ts";
import type { InputGate, RecordWriter } from "../network/index.ts";
import type { HeapKeyedStateBackend } from "../state/index.ts";
import type { HeadLoop } from "./chain.ts";
import { attributed, type ChainedOperator } from "./chained-operator.ts";
import { Commits } from "./commits.ts";
import type { TaskCounters } from "./counters.ts";
import { DeferredResults } from "./deferred.ts";
import { FinishProtocol } from "./finish-protocol.ts";
import { GateInput } from "./gate-input.ts";
import { openChain } from "./open-chain.ts";
import type { TaskMetrics } from "./operator-context.ts";
import { SourceInput } from "./source-input.ts";
import { StepBudget } from "./step-budget.ts";
import { TaskFigures } from "./task-figures.ts";
import { TaskOutputs } from "./task-outputs.ts";
import { TaskSnapshots, type SnapshotTrigger } from "./task-snapshots.ts";
import { TaskTimers } from "./task-timers.ts";

export interface TaskOptions {
  readonly subtask: SubtaskId;
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly restore: TaskRestore | undefined;
  readonly mode: CheckpointingMode;
  readonly checkpointingEnabled: boolean;
  /** The job was stopped with what is restored: opening publishes it, then the task ends (TK7). */
  readonly endsAtOnce: boolean;
  readonly bufferTimeoutMs: number;
  /** Head first. */
  readonly chain: readonly ChainedOperator[];
  /** Undefined for a source. */
  readonly gate: InputGate | undefined;
  /** By input channel; empty for a source. */
  readonly headLoops: readonly HeadLoop[];
  readonly writers: readonly RecordWriter[];
  readonly keyedState: HeapKeyedStateBackend | undefined;
  readonly metrics: TaskMetrics;
  readonly counters: TaskCounters;
  readonly port: SlotPort;
  readonly clock: Clock;
  readonly log: Log;
  /** Makes the slot's loop run again soon. */
  readonly wake: () => void;
}

export class Task {
  readonly subtask: SubtaskId;
  readonly #options: TaskOptions;
  readonly #budget: StepBudget;
  readonly #outputs: TaskOutputs;
  readonly #deferred: DeferredResults;
  readonly #finish: FinishProtocol;
  readonly #commits: Commits;
  readonly #snapshots: TaskSnapshots;
  readonly #figures: TaskFigures;
  readonly #timers: TaskTimers;
  /** One of the two. */
  readonly #source: SourceInput | undefined;
  readonly #gate: GateInput | undefined;
  #state: TaskState = "INITIALIZING";
  #lastFlushMs = 0;
  readonly #closed = Promise.withResolvers<void>();

  constructor(options: TaskOptions) {
    this.#options = options;
    this.subtask = options.subtask;
    const { chain, writers, clock, gate } = options;
    const head = chain[0];
    assert(head !== undefined, "a task has at least one operator");
    const operators = chain.map(({ operator }) => operator);
    const budget = new StepBudget(clock);
    const outputs = new TaskOutputs(writers, operators);
    const deferred = new DeferredResults(chain);
    const finish = new FinishProtocol({ chain, deferred, outputs, onDrained: () => this.#setState("DRAINED") });
    this.#budget = budget;
    this.#outputs = outputs;
    this.#deferred = deferred;
    this.#finish = finish;
    this.#commits = new Commits({
      chain,
      onFailed: (thrown) => this.fail(thrown),
      onAnswered: () => this.#finishIfConfirmed(),
    });
    this.#snapshots = new TaskSnapshots({ ...options, outputs });
    this.#figures = new TaskFigures({ ...options, outputs });
    this.#timers = new TaskTimers({ ...options, head, budget, outputs, deferred, finish });
    if (gate === undefined) {
      this.#source = new SourceInput({ head, budget, outputs, deferred, finish });
    } else {
      this.#gate = new GateInput({
        ...options,
        gate,
        budget,
        outputs,
        deferred,
        finish,
        onAligned: (trigger) => this.#takeSnapshot(trigger),
        onGivenUp: (id, failure) => this.#snapshots.decline(id, failure),
      });
    }
  }

  get state(): TaskState {
    return this.#state;
  }

  /** Resolves when the task has ended, its operators are closed and its last event was sent. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** True when nothing more will happen here. */
  get ended(): boolean {
    return isTaskOver(this.#state);
  }

  /** Restores state, opens the chain (open-chain.ts), reports RUNNING. */
  async initialize(): Promise<void> {
    const { restore, port, clock } = this.#options;
    this.#setState("INITIALIZING");
    const startedMs = clock.nowMs();
    let read: PartsRead | undefined;
    try {
      read = await openChain({ ...this.#options, isOver: () => this.ended });
    } catch (thrown) {
      await this.fail(thrown);
      return;
    } finally {
      this.#options.wake(); // the slot may be asleep: nothing rang for it while this task was opening
    }
    if (read === undefined || this.ended) return; // cancelled while it was opening
    this.#state = "RUNNING";
    this.#lastFlushMs = clock.nowMs();
    const restored = restore === undefined ? undefined : { ...read, restoreMs: clock.nowMs() - startedMs };
    if (restored !== undefined) this.#figures.restored(restored);
    port.send({
      type: "taskState",
      subtask: this.subtask,
      state: "RUNNING",
      ...(restored === undefined ? {} : { restored }),
    });
    if (!this.#options.endsAtOnce) return;
    this.#finish.stop();
    void this.#succeed();
  }

  /**
   * Does a bounded amount of work. True when it did something: call again soon. Failures end the task, never the slot.
   */
  runStep(nowMs: number, sharesWithEncoding = false): boolean {
    this.#budget.enterStep(sharesWithEncoding);
    if (this.#state !== "RUNNING" && this.#state !== "DRAINED") return false;
    try {
      const encoded = this.#snapshots.step(nowMs);
      if (!this.#outputs.drain()) {
        this.#options.counters.set("isBackPressured", 1);
        return encoded;
      }
      this.#options.counters.set("isBackPressured", 0);
      if (this.#finish.stopped) return encoded;
      if (this.#finish.drained && !this.#options.checkpointingEnabled) {
        void this.#succeed(); // nothing will confirm anything: what was emitted has left this task (TK6)
        return true;
      }
      const emitted = !this.#deferred.isEmpty && this.#deferred.emit(this.#outputs);
      const held = this.#finish.resume();
      if (held !== undefined) {
        this.#takeSnapshot({ barrier: held, alignmentMs: 0, startDelayMs: 0 });
        return true;
      }
      const fired = this.#timers.step();
      const worked = this.#source === undefined ? this.#stepGate() : this.#source.step(nowMs);
      this.#timers.sweep(nowMs);
      if (nowMs - this.#lastFlushMs >= this.#options.bufferTimeoutMs) this.#flush(nowMs);
      else if (this.#figures.isDue(nowMs)) this.publishCounters();
      return worked || fired || emitted || encoded;
    } catch (thrown) {
      void this.fail(thrown);
      return true;
    }
  }

  /** A snapshot waits to be encoded. */
  get isEncoding(): boolean {
    return !this.#snapshots.isEmpty;
  }

  /** Clock time at which this task may have work that nobody will ring for; Infinity: never. */
  nextRunMs(): number {
    if (this.#state !== "RUNNING" || this.#finish.stopped) return Number.POSITIVE_INFINITY;
    if (!this.#outputs.hasRoom) return Number.POSITIVE_INFINITY; // whoever makes room rings the bell
    return Math.min(
      this.#lastFlushMs + this.#options.bufferTimeoutMs,
      this.#source?.wakeAtMs ?? Number.POSITIVE_INFINITY,
      this.#deferred.wakeAtMs,
      this.#timers.nextMs,
    );
  }

  get backPressured(): boolean {
    return !this.#outputs.hasRoom;
  }

  /** A source said that it may have more. */
  sourceReady(): void {
    this.#source?.ready();
  }

  /** From the JobManager, to sources: start a checkpoint. */
  triggerCheckpoint(barrier: Barrier, wallMs: number): void {
    if (this.#source === undefined || (this.#state !== "RUNNING" && this.#state !== "DRAINED")) return;
    if (this.#finish.stopped) return;
    try {
      if (!this.#finish.passes(barrier)) return; // answers are missing: the barrier goes out behind them
      this.#takeSnapshot({ barrier, alignmentMs: 0, startDelayMs: Math.max(0, wallMs - barrier.timestampMs) });
    } catch (thrown) {
      void this.fail(thrown);
    }
  }

  notifyCheckpointComplete(id: CheckpointId): void {
    if (this.ended || this.#state === "INITIALIZING") return;
    this.#commit(id);
  }

  notifyCheckpointAborted(id: CheckpointId): void {
    if (this.ended || this.#state === "INITIALIZING") return;
    this.#gate?.aborted(id);
    this.#snapshots.aborted(id); // TK4
    this.#finish.aborted(id);
    try {
      for (const link of this.#options.chain) attributed(link, () => link.operator.notifyCheckpointAborted?.(id));
    } catch (thrown) {
      void this.fail(thrown);
    }
  }

  /** Copies this task's figures into the shared counters. */
  publishCounters(): void {
    this.#figures.publish({ isLast: this.ended });
  }

  /** Ends the task without committing anything. */
  async cancel(): Promise<void> {
    if (this.ended) return;
    this.#state = "CANCELED";
    await this.#close(false);
    this.#options.port.send({ type: "taskState", subtask: this.subtask, state: "CANCELED" });
    this.#closed.resolve();
  }

  /** Ends the task with a failure; the first one counts. */
  async fail(thrown: unknown): Promise<void> {
    if (this.ended) return;
    this.#state = "FAILED";
    const failure = toFailure(thrown, "INTERNAL", `task ${this.subtask.vertexId}/${this.subtask.subtaskIndex}`);
    await this.#close(false);
    this.#options.port.send({
      type: "taskState",
      subtask: this.subtask,
      state: "FAILED",
      failure: failureToJson(failure),
    });
    this.#closed.resolve();
  }

  // ---- parts of a step

  #stepGate(): boolean {
    assert(this.#gate !== undefined, "a task without source has a gate");
    return this.#gate.step();
  }

  #flush(nowMs: number): void {
    this.#lastFlushMs = nowMs;
    this.#outputs.flush();
    this.publishCounters();
  }

  #takeSnapshot(trigger: SnapshotTrigger): void {
    const { barrier } = trigger;
    this.#snapshots.capture(trigger, this.#finish.drained && barrier.isFinal); // TK2
    this.#finish.captured(barrier);
    // Not at the final one: a task that is confirmed before it acknowledged would end, and nothing would ever complete.
    if (planted("sink-commits-before-record") && !barrier.isFinal) this.#commit(barrier.checkpointId);
  }

  // ---- the end

  /** TK5. */
  #commit(id: CheckpointId): void {
    try {
      this.#commits.tell(id);
    } catch (thrown) {
      void this.fail(thrown);
      return;
    }
    this.#finishIfConfirmed();
  }

  #finishIfConfirmed(): void {
    if (this.#finish.isConfirmed(this.#commits)) void this.#succeed(); // TK6
  }

  async #succeed(): Promise<void> {
    if (this.ended) return;
    try {
      this.publishCounters();
      this.#state = "FINISHED";
      await this.#close(true);
    } catch (thrown) {
      this.#state = "RUNNING";
      await this.fail(thrown);
      return;
    }
    this.#options.port.send({ type: "taskState", subtask: this.subtask, state: "FINISHED" });
    this.#closed.resolve();
    this.#options.wake();
  }

  async #close(succeeded: boolean): Promise<void> {
    this.#snapshots.dropAll();
    for (const link of this.#options.chain) {
      try {
        await link.operator.close(succeeded);
      } catch (thrown) {
        if (succeeded) throw thrown;
        this.#options.log.warn("closing an operator failed", { operator: link.name, error: String(thrown) });
      }
    }
  }

  #setState(state: TaskState): void {
    this.#state = state;
    this.#options.port.send({ type: "taskState", subtask: this.subtask, state });
  }
}
