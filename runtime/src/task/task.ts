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
// Not here: the loop over tasks (slot-runner.ts), barrier alignment (checkpoint/aligner), codecs and rings (network/).

import { assert, Failure, failureToJson, planted, toFailure } from "@sluice/kit";
import type { Clock, Log } from "@sluice/kit/env";
import { BarrierAligner, type AlignerDecision } from "../checkpoint/index.ts";
import type {
  AttemptNumber,
  Barrier,
  CheckpointId,
  CheckpointingMode,
  Epoch,
  Operator,
  RestoredOperatorState,
  SlotPort,
  SourceOperator,
  SourceStatus,
  SubtaskId,
  TaskRestore,
  TaskRestored,
  TaskState,
} from "../model/index.ts";
import { NOTHING_READ } from "../model/index.ts";
import type { ChannelHead, InputGate, RecordWriter } from "../network/index.ts";
import type { HeapKeyedStateBackend } from "../state/index.ts";
import type { CountingCollector, HeadLoop } from "./chain.ts";
import type { TaskCounters } from "./counters.ts";
import { DeferredResults } from "./deferred.ts";
import type { TaskMetrics } from "./operator-context.ts";
import { readRestoredParts } from "./restored-parts.ts";
import { PendingSnapshot, type CapturedOperatorState } from "./snapshot.ts";

/** Rows between two looks at output room and the clock; fewer while the user's functions are slow. */
const ROWS_PER_CHUNK = 256;
const ROWS_PER_CHUNK_MIN = 8;
/** A chunk that takes longer is halved, one that takes a quarter of it is doubled. */
const CHUNK_MS = 1;
/** Rows in one step at most, so that tasks of a slot take turns. */
const ROWS_PER_STEP = 4_096;
/** Time of one step at most (plus one chunk): slow functions hold up neither barriers and commands nor the slot's other tasks. */
const STEP_MS = 4;
/** Figures are not older than this, also when batches wait until they are full. */
const PUBLISH_MS = 1_000;
/** So many rows of each state with a time to live are looked at so often, also when no records come. */
const SWEPT_ROWS = 1_000;
const SWEEP_MS = 100;
/** Slice of snapshot encoding per step (protocols 3). */
const ENCODE_BUDGET_MS = 2;
/** One step of all other work of the slot meanwhile: encoding gets about half of the thread, and records wait no longer for it. */
const STEP_WHILE_ENCODING_MS = 1;

/** One operator of the chain, with what it needs to be opened. */
export interface ChainedOperator {
  readonly uid: string;
  readonly name: string;
  readonly operator: Operator;
  /** Opens the operator; `restored` is its own operator state. */
  open(restored: RestoredOperatorState | undefined): void | Promise<void>;
  /** Makes a Failure that names this operator. */
  attribute(thrown: unknown): unknown;
  /** The collector this operator emits into. */
  readonly output: CountingCollector;
  /** Those of its side outputs. */
  readonly sideOutputs: readonly CountingCollector[];
}

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
  readonly #aligner: BarrierAligner | undefined;
  readonly #source: SourceOperator | undefined;
  #state: TaskState = "INITIALIZING";
  #snapshots: PendingSnapshot[] = [];
  #sourceIdleUntilMs = 0;
  readonly #deferred: DeferredResults;
  readonly #hasRoom = (): boolean => this.#outputsAvailable();
  /** All input was read; operators of the chain are finished one after the other, `#finishedCount` of them so far. */
  #inputEnded = false;
  #finishedCount = 0;
  /** Of a drain that waits for the chain's last answers; source tasks. */
  #drainBarrier: Barrier | undefined;
  #drained = false;
  #endedChannelCount = 0;
  /** By channel, 1 while the aligner holds it back. */
  readonly #blocked: Uint8Array;
  /** Operators of the chain that may say that they can take no more. */
  readonly #gated: readonly Operator[];
  /** Of the final checkpoint, or of a stop's savepoint. */
  #finalId: CheckpointId | undefined;
  /** The newest checkpoint of which all operators were told that it is complete. */
  #confirmedId = 0;
  /** TK7. */
  #stopped = false;
  #committing = 0;
  #lastFlushMs = 0;
  #lastSweepMs = 0;
  #lastPublishMs = 0;
  #lastMetricsMs = 0;
  #chunkRows = ROWS_PER_CHUNK;
  #stepMs = STEP_MS;
  #chunkStartedMs = 0;
  readonly #closed = Promise.withResolvers<void>();

  constructor(options: TaskOptions) {
    this.#options = options;
    this.subtask = options.subtask;
    const head = options.chain[0];
    assert(head !== undefined, "a task has at least one operator");
    if (options.gate === undefined) this.#source = head.operator as SourceOperator;
    else this.#aligner = new BarrierAligner({ channelCount: options.gate.channelCount, mode: options.mode });
    this.#deferred = new DeferredResults(options.chain);
    this.#blocked = new Uint8Array(options.gate?.channelCount ?? 0);
    this.#gated = options.chain.map(({ operator }) => operator).filter((operator) => "isAvailable" in operator);
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
    return this.#state === "FINISHED" || this.#state === "CANCELED" || this.#state === "FAILED";
  }

  /** Restores state, opens the chain tail to head (so that whatever the head emits finds open successors), reports RUNNING. */
  async initialize(): Promise<void> {
    const { chain, restore, keyedState, port, clock } = this.#options;
    this.#setState("INITIALIZING");
    const startedMs = clock.nowMs();
    let read = NOTHING_READ;
    try {
      const parts = restore === undefined ? undefined : await readRestoredParts(restore.parts, port);
      assert(
        parts === undefined || parts.keyed.length === 0 || keyedState !== undefined,
        "keyed parts go to a keyed task",
      );
      if (parts !== undefined) {
        read = parts.read;
        keyedState?.restore(parts.keyed);
      }
      for (const link of chain.toReversed()) {
        if (this.ended) return; // cancelled while an operator was opening
        await link.open(
          restore === undefined
            ? undefined
            : {
                checkpointId: restore.checkpointId,
                retractThrough: restore.retractThrough,
                claimedLineage: restore.claimedLineage,
                states: parts?.operator.get(link.uid) ?? new Map<string, never>(),
              },
        );
      }
      keyedState?.opened();
    } catch (thrown) {
      await this.fail(thrown);
      return;
    } finally {
      this.#options.wake(); // the slot may be asleep: nothing rang for it while this task was opening
    }
    if (this.ended) return;
    this.#state = "RUNNING";
    this.#lastFlushMs = clock.nowMs();
    const restored = restore === undefined ? undefined : { ...read, restoreMs: clock.nowMs() - startedMs };
    if (restored !== undefined) this.#countRestored(restored);
    port.send({
      type: "taskState",
      subtask: this.subtask,
      state: "RUNNING",
      ...(restored === undefined ? {} : { restored }),
    });
    if (!this.#options.endsAtOnce) return;
    this.#stopped = true;
    void this.#succeed();
  }

  /**
   * Does a bounded amount of work. True when it did something: call again soon. Failures end the task, never the slot.
   */
  runStep(nowMs: number, sharesWithEncoding = false): boolean {
    this.#stepMs = sharesWithEncoding ? STEP_WHILE_ENCODING_MS : STEP_MS;
    if (this.#state !== "RUNNING" && this.#state !== "DRAINED") return false;
    try {
      const encoded = this.#stepSnapshots(nowMs);
      if (!this.#drainOutputs()) {
        this.#options.counters.set("isBackPressured", 1);
        return encoded;
      }
      this.#options.counters.set("isBackPressured", 0);
      if (this.#stopped) return encoded;
      if (this.#drained && !this.#options.checkpointingEnabled) {
        void this.#succeed(); // nothing will confirm anything: what was emitted has left this task (TK6)
        return true;
      }
      const emitted = !this.#deferred.isEmpty && this.#deferred.emit(this.#hasRoom);
      if (this.#inputEnded && !this.#drained) {
        this.#finishChain();
        if (this.#drained && this.#drainBarrier !== undefined) {
          this.#takeSnapshot({ barrier: this.#drainBarrier, alignmentMs: 0, startDelayMs: 0 });
          return true;
        }
      }
      const fired = this.#stepTimers();
      const worked = this.#source === undefined ? this.#stepInputs() : this.#stepSource(this.#source, nowMs);
      if (nowMs - this.#lastSweepMs >= SWEEP_MS) this.#sweep(nowMs);
      if (nowMs - this.#lastFlushMs >= this.#options.bufferTimeoutMs) this.#flush(nowMs);
      else if (nowMs - this.#lastPublishMs >= PUBLISH_MS) this.publishCounters();
      return worked || fired || emitted || encoded;
    } catch (thrown) {
      void this.fail(thrown);
      return true;
    }
  }

  /** A snapshot waits to be encoded. */
  get isEncoding(): boolean {
    return this.#snapshots.length > 0;
  }

  /** Clock time at which this task may have work that nobody will ring for; Infinity: never. */
  nextRunMs(): number {
    if (this.#state !== "RUNNING" || this.#stopped) return Number.POSITIVE_INFINITY;
    if (this.#blockedOutputs()) return Number.POSITIVE_INFINITY; // whoever makes room rings the bell
    return Math.min(
      this.#lastFlushMs + this.#options.bufferTimeoutMs,
      this.#sourceIdleUntilMs || Number.POSITIVE_INFINITY,
      this.#deferred.wakeAtMs,
      this.#nextTimersMs(),
    );
  }

  /** Clock time at which the next timer is due; timers themselves go by the wall clock. */
  #nextTimersMs(): number {
    const timerMs = this.#options.keyedState?.nextTimerMs ?? Number.POSITIVE_INFINITY;
    if (timerMs === Number.POSITIVE_INFINITY || !this.#takesRows()) return Number.POSITIVE_INFINITY;
    const { clock } = this.#options;
    return clock.nowMs() + Math.max(0, timerMs - clock.wallMs());
  }

  get backPressured(): boolean {
    return this.#blockedOutputs();
  }

  /** From the JobManager, to sources: start a checkpoint. */
  triggerCheckpoint(barrier: Barrier, wallMs: number): void {
    if (this.#source === undefined || (this.#state !== "RUNNING" && this.#state !== "DRAINED")) return;
    if (this.#stopped) return;
    try {
      if (barrier.savepoint?.stops === true && barrier.isFinal && !this.#drained) {
        this.#finishChain(); // a drain
        if (!this.#drained) {
          this.#drainBarrier = barrier; // answers are missing: the barrier goes out behind them
          return;
        }
      }
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
    if (this.#aligner !== undefined) this.#apply(this.#aligner.onCancel(id));
    this.#dropSnapshots((snapshot) => snapshot.barrier.checkpointId === id); // TK4
    if (this.#drainBarrier?.checkpointId === id) this.#drainBarrier = undefined;
    try {
      for (const link of this.#options.chain) attributed(link, () => link.operator.notifyCheckpointAborted?.(id));
    } catch (thrown) {
      void this.fail(thrown);
    }
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

  // ---- timers

  /**
   * TK8: fires the timers that are due, as many as a step may. After the end of the input none fires any more, as in Flink: the
   * operators have finished.
   */
  #stepTimers(): boolean {
    const { keyedState, chain, clock } = this.#options;
    if (keyedState === undefined || !this.#takesRows()) return false;
    const wallMs = clock.wallMs();
    if (keyedState.nextTimerMs > wallMs) return false;
    const startedMs = this.#startChunk();
    for (let fired = 0; fired < ROWS_PER_STEP && keyedState.nextTimerMs <= wallMs && this.#takesRows();) {
      try {
        fired += keyedState.fireTimers(wallMs, Math.min(this.#chunkRows, this.#deferred.rows));
      } catch (thrown) {
        throw chain[0]?.attribute(thrown);
      }
      if (this.#endChunk() - startedMs >= this.#stepMs) break;
    }
    return true;
  }

  #sweep(nowMs: number): void {
    this.#lastSweepMs = nowMs;
    this.#options.keyedState?.sweepExpired(SWEPT_ROWS);
  }

  // ---- input

  #stepSource(source: SourceOperator, nowMs: number): boolean {
    if (this.#inputEnded || nowMs < this.#sourceIdleUntilMs) return false;
    const output = this.#options.chain[0]?.output;
    assert(output !== undefined, "a source has an output");
    const before = output.numRecords;
    const startedMs = this.#startChunk();
    for (let polled = 0; polled < ROWS_PER_STEP && this.#outputsAvailable();) {
      const rows = Math.min(this.#chunkRows, this.#deferred.rows);
      if (rows === 0) return polled > 0;
      const status = this.#poll(source, rows);
      polled += rows;
      if (status === "more") {
        if (this.#endChunk() - startedMs >= this.#stepMs) return true;
        continue;
      }
      if (status === "finished") {
        this.#finishChain();
        return true;
      }
      this.#sourceIdleUntilMs = source.wakeAtMs;
      return output.numRecords !== before;
    }
    return true;
  }

  /** Whether user code may emit: there is input, room for output, and room in operators that wait for answers. */
  #takesRows(): boolean {
    return !this.#inputEnded && this.#deferred.rows > 0 && this.#outputsAvailable();
  }

  #startChunk(): number {
    this.#chunkStartedMs = this.#options.clock.nowMs();
    return this.#chunkStartedMs;
  }

  /** Returns the time, and sizes the next chunk by how long this one took. */
  #endChunk(): number {
    const nowMs = this.#options.clock.nowMs();
    const tookMs = nowMs - this.#chunkStartedMs;
    if (tookMs > CHUNK_MS) this.#chunkRows = Math.max(ROWS_PER_CHUNK_MIN, this.#chunkRows >>> 1);
    else if (tookMs < CHUNK_MS / 4 && this.#chunkRows < ROWS_PER_CHUNK) this.#chunkRows <<= 1;
    this.#chunkStartedMs = nowMs;
    return nowMs;
  }

  #poll(source: SourceOperator, rows: number): SourceStatus {
    try {
      return source.poll(rows);
    } catch (thrown) {
      throw this.#options.chain[0]?.attribute(thrown);
    }
  }

  /** A source said that it may have more. */
  sourceReady(): void {
    this.#sourceIdleUntilMs = 0;
  }

  #stepInputs(): boolean {
    const gate = this.#options.gate;
    const aligner = this.#aligner;
    assert(gate !== undefined && aligner !== undefined, "a task without source has a gate");
    let rowsLeft = ROWS_PER_STEP;
    let worked = false;
    let heldBack = 0;
    const startedMs = this.#startChunk();
    while (rowsLeft > 0 && this.#outputsAvailable()) {
      const channel = gate.nextReady(this.#blocked);
      if (channel < 0) return worked;
      const frame = gate.head(channel);
      const rowsMax = this.#deferred.rows;
      if (!this.#deferred.isEmpty && this.#isHeldBack(frame, rowsMax)) {
        heldBack += 1; // it stays where it is; another channel may have something else
        if (heldBack >= gate.channelCount) return worked;
        continue;
      }
      worked = true;
      if (frame.kind === "RECORDS") {
        const loop = this.#options.headLoops[channel];
        assert(loop !== undefined, "every input channel has its loop");
        const from = frame.cursor;
        const to = Math.min(frame.rowCount, from + Math.min(this.#chunkRows, rowsLeft, rowsMax));
        loop.process(frame.reader, from, to);
        frame.cursor = to;
        rowsLeft -= to - from;
        if (to === frame.rowCount) gate.consume(channel);
        if (this.#endChunk() - startedMs >= this.#stepMs) return true;
      } else if (frame.kind === "BARRIER") {
        const { barrier } = frame;
        assert(barrier !== undefined, "a BARRIER frame carries a barrier");
        gate.consume(channel);
        const { clock } = this.#options;
        this.#apply(aligner.onBarrier(channel, barrier, { nowMs: clock.nowMs(), wallMs: clock.wallMs() }));
        rowsLeft -= 1;
      } else {
        gate.consume(channel);
        rowsLeft -= 1;
        // Barriers still travel after the last record: a channel that ended takes part in every later checkpoint.
        this.#endedChannelCount += 1;
        if (this.#endedChannelCount === gate.channelCount) this.#finishChain();
      }
    }
    return worked;
  }

  /**
   * Rows while an operator waits for answers and has no room. The final barrier while answers are missing: the checkpoint that lets sinks
   * publish for the last time has to come after them (TK6).
   */
  #isHeldBack(frame: ChannelHead, rowsMax: number): boolean {
    if (frame.kind === "RECORDS") return rowsMax === 0;
    return frame.kind === "BARRIER" && frame.barrier?.isFinal === true && !this.#drained;
  }

  /** Finishes operators head to tail; one that still waits for answers, and those behind it, have to wait for another step. */
  #finishChain(): void {
    const { chain } = this.#options;
    this.#inputEnded = true;
    for (; this.#finishedCount < chain.length; this.#finishedCount += 1) {
      const link = chain[this.#finishedCount] as ChainedOperator;
      if (this.#deferred.holds(link.operator)) return;
      try {
        link.operator.finish?.();
      } catch (thrown) {
        throw link.attribute(thrown);
      }
    }
    for (const writer of this.#options.writers) writer.broadcastEndOfData();
    this.#drained = true;
    this.#setState("DRAINED");
  }

  // ---- output

  #outputsAvailable(): boolean {
    const { writers } = this.#options;
    for (let i = 0; i < writers.length; i += 1) if (!(writers[i] as RecordWriter).available) return false;
    return this.#operatorsAvailable();
  }

  /** An operator that can take no more holds its task up like a full output (TK3). */
  #operatorsAvailable(): boolean {
    const gated = this.#gated;
    for (let i = 0; i < gated.length; i += 1) if ((gated[i] as Operator).isAvailable === false) return false;
    return true;
  }

  #blockedOutputs(): boolean {
    return !this.#outputsAvailable();
  }

  #drainOutputs(): boolean {
    const { writers } = this.#options;
    let drained = true;
    for (let i = 0; i < writers.length; i += 1) {
      const writer = writers[i] as RecordWriter;
      if (!writer.available && !writer.drain()) drained = false;
    }
    return drained && this.#operatorsAvailable();
  }

  #flush(nowMs: number): void {
    this.#lastFlushMs = nowMs;
    for (const writer of this.#options.writers) writer.flush();
    this.publishCounters();
  }

  #countRestored(restored: TaskRestored): void {
    const { counters } = this.#options;
    counters.set("restoreMs", restored.restoreMs);
    counters.set("restoreReadMs", restored.readMs);
    counters.set("restoredLocalParts", restored.localParts);
    counters.set("restoredLocalBytes", restored.localBytes);
    counters.set("restoredStoreParts", restored.storeParts);
    counters.set("restoredStoreBytes", restored.storeBytes);
  }

  /** Copies this task's figures into the shared counters. */
  publishCounters(): void {
    this.#lastPublishMs = this.#options.clock.nowMs();
    this.#publishMetrics();
    const { counters, chain, gate, writers, metrics } = this.#options;
    const first = chain[0];
    const last = chain.at(-1);
    counters.set("numRecordsIn", gate === undefined ? (first?.output.numRecords ?? 0) : gate.rowsRead);
    let recordsOut = last?.output.numRecords ?? 0;
    for (const { sideOutputs } of chain) for (const side of sideOutputs) recordsOut += side.numRecords;
    counters.set("numRecordsOut", recordsOut);
    counters.set("numBytesIn", gate?.bytesRead ?? 0);
    let bytesOut = 0;
    for (const writer of writers) bytesOut += writer.bytesWritten;
    counters.set("numBytesOut", bytesOut);
    counters.set("numRecordsSkipped", metrics.total("numRecordsSkipped"));
  }

  /** Operators' and users' metrics leave about once a second, and at the end. */
  #publishMetrics(): void {
    if (this.#lastPublishMs - this.#lastMetricsMs < PUBLISH_MS && !this.ended) return;
    this.#lastMetricsMs = this.#lastPublishMs;
    const operators = this.#options.metrics.sample();
    if (operators.length > 0) this.#options.port.send({ type: "metrics", subtask: this.subtask, operators });
  }

  // ---- checkpoints

  #apply(decisions: readonly AlignerDecision[]): void {
    const aligner = this.#aligner;
    if (aligner !== undefined)
      for (let i = 0; i < this.#blocked.length; i += 1) this.#blocked[i] = aligner.isBlocked(i) ? 1 : 0;
    for (const decision of decisions) {
      if (decision.type === "trigger") {
        this.#takeSnapshot(decision);
      } else if (decision.type === "aborted") {
        this.#decline(
          decision.checkpointId,
          new Failure("CHECKPOINT_SUPERSEDED", {
            retry: "never",
            message: `alignment of checkpoint ${decision.checkpointId} was given up: ${decision.reason}`,
          }),
        );
      }
    }
  }

  #takeSnapshot(trigger: {
    readonly barrier: Barrier;
    readonly alignmentMs: number;
    readonly startDelayMs: number;
  }): void {
    const { chain, writers, keyedState, clock, counters } = this.#options;
    const { barrier } = trigger;
    const startedMs = clock.nowMs();
    for (const writer of writers) writer.broadcastBarrier(barrier); // TK2
    let snapshot: PendingSnapshot;
    try {
      const operators: CapturedOperatorState[] = [];
      for (const link of chain) {
        const state = attributed(link, () => link.operator.snapshotState?.(barrier));
        if (state !== undefined) operators.push({ uid: link.uid, state });
      }
      const keyed = keyedState?.snapshot(barrier.checkpointId);
      const nowMs = clock.nowMs();
      snapshot = new PendingSnapshot({
        barrier,
        finished: this.#drained && barrier.isFinal,
        times: {
          alignmentMs: trigger.alignmentMs,
          startDelayMs: trigger.startDelayMs,
          syncMs: nowMs - startedMs,
          asyncFromMs: nowMs,
        },
        operators,
        keyed,
        wake: this.#options.wake,
      });
    } catch (thrown) {
      // Flink: a failure in the synchronous part always fails the task.
      throw toFailure(thrown, "USER_FUNCTION_FAILED", `snapshot of checkpoint ${barrier.checkpointId}`);
    }
    counters.set("checkpointAlignmentMs", trigger.alignmentMs);
    counters.set("checkpointStartDelayMs", trigger.startDelayMs);
    counters.set("lastCheckpointSyncMs", snapshot.times.syncMs);
    this.#stopped = barrier.savepoint?.stops === true;
    if (barrier.isFinal || this.#stopped) this.#finalId = barrier.checkpointId;
    this.#snapshots.push(snapshot);
    // Not at the final one: a task that is confirmed before it acknowledged would end, and nothing would ever complete.
    if (planted("sink-commits-before-record") && !barrier.isFinal) this.#commit(barrier.checkpointId);
  }

  #stepSnapshots(nowMs: number): boolean {
    if (this.#snapshots.length === 0) return false;
    let worked = false;
    for (const snapshot of [...this.#snapshots]) {
      if (snapshot.failure !== undefined) {
        this.#dropSnapshots((other) => other === snapshot);
        this.#decline(snapshot.barrier.checkpointId, snapshot.failure);
        continue;
      }
      if (!worked) worked = snapshot.step(ENCODE_BUDGET_MS);
      if (snapshot.ready) this.#submit(snapshot, nowMs);
    }
    return worked;
  }

  #submit(snapshot: PendingSnapshot, nowMs: number): void {
    this.#snapshots = this.#snapshots.filter((other) => other !== snapshot);
    const { epoch, attempt, port, counters } = this.#options;
    const parts = snapshot.takeParts();
    const stateSizeBytes = parts.reduce(
      (sum, part) => sum + part.chunks.reduce((bytes, chunk) => bytes + chunk.byteLength, 0),
      0,
    );
    counters.set("stateSizeBytes", stateSizeBytes);
    port.submitSnapshot({
      checkpointId: snapshot.barrier.checkpointId,
      savepoint: snapshot.barrier.savepoint?.location,
      epoch,
      attempt,
      subtask: this.subtask,
      parts,
      finished: snapshot.finished,
      stats: {
        startDelayMs: snapshot.times.startDelayMs,
        alignmentMs: snapshot.times.alignmentMs,
        syncMs: snapshot.times.syncMs,
        asyncMs: Math.max(0, nowMs - snapshot.times.asyncFromMs),
        stateSizeBytes,
      },
    });
  }

  #dropSnapshots(which: (snapshot: PendingSnapshot) => boolean): void {
    for (const snapshot of this.#snapshots) if (which(snapshot)) snapshot.release();
    this.#snapshots = this.#snapshots.filter((snapshot) => !which(snapshot));
  }

  #decline(checkpointId: CheckpointId, failure: Failure): void {
    this.#options.port.send({
      type: "declineCheckpoint",
      subtask: this.subtask,
      checkpointId,
      failure: failureToJson(failure),
    });
  }

  /** TK5. Operators commit in chain order; asynchronous commits delay only the end of the task. */
  #commit(id: CheckpointId): void {
    for (const link of this.#options.chain) {
      try {
        const committing = attributed(link, () => link.operator.notifyCheckpointComplete?.(id));
        if (committing instanceof Promise) {
          this.#committing += 1;
          committing
            .catch((thrown: unknown) => this.fail(thrown))
            .finally(() => {
              this.#committing -= 1;
              this.#finishIfConfirmed();
            });
        }
      } catch (thrown) {
        void this.fail(thrown);
        return;
      }
    }
    this.#confirmedId = Math.max(this.#confirmedId, id);
    this.#finishIfConfirmed();
  }

  /** Whichever answer comes last: that of an older confirmation may come after that of the final one. */
  #finishIfConfirmed(): void {
    if (
      (this.#drained || this.#stopped) &&
      this.#committing === 0 &&
      this.#finalId !== undefined &&
      this.#confirmedId >= this.#finalId
    )
      void this.#succeed(); // TK6
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
    this.#dropSnapshots(() => true);
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

/** What the operator throws names it. */
function attributed<T>(link: ChainedOperator, call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw link.attribute(thrown);
  }
}
