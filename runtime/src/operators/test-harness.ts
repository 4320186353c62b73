// Runs one operator without a cluster: opens it, feeds it, collects what it emits, takes and restores snapshots.
//
// Invariants:
//   TH1. Time stands still until the test moves it; `wake` is counted, never acted upon.
//   TH2. Keyed state lives in the backend that jobs use, with the key groups of the subtask.

import { assert, Failure, keyGroupRange } from "@sluice/kit";
import type { Log } from "@sluice/kit/env";
import { OperatorMetricRegistry } from "../metrics/index.ts";
import { keyHasher } from "../model/index.ts";
import type {
  AttemptNumber,
  CheckpointId,
  DeferringOperator,
  JobContext,
  Epoch,
  KeyHasher,
  KeySelector,
  OneInputOperator,
  Operator,
  OperatorContext,
  OperatorState,
  RestoredOperatorState,
  SourceOperator,
  SourceStatus,
  SubtaskInfo,
  TwoInputOperator,
  TypeInformation,
} from "../model/index.ts";
import { HeapKeyedStateBackend } from "../state/index.ts";
import type { RestoredPart } from "../state/index.ts";
import { noUploads } from "./connector.ts";

/** Answers of async I/O that a step asks for at once. */
const INPUTS_PER_STEP = 64;

/** A subtask for tests; every field can be overridden. */
export function testSubtask(overrides: Partial<SubtaskInfo> = {}): SubtaskInfo {
  return {
    jobName: "test",
    lineage: "lineage1",
    epoch: 1 as Epoch,
    attempt: 0 as AttemptNumber,
    operatorName: "operator",
    uid: "operator-uid",
    subtaskIndex: 0,
    parallelism: 1,
    maxParallelism: 128,
    ...overrides,
  };
}

/** What an operator that is restored with unchanged parallelism is given of its own snapshot. */
export function restoredStates(state: OperatorState): RestoredOperatorState["states"] {
  return state;
}

/** How records of a keyed operator get their key, and the keyed state it begins with. */
export interface HarnessKeys {
  readonly keyType: TypeInformation<unknown>;
  /** Per input. */
  readonly selectors: readonly KeySelector<never, unknown>[];
  /** What `snapshotKeyed` of one or more harnesses gave: each takes the keys of its own key groups. */
  readonly restored?: readonly RestoredPart[];
}

export interface HarnessOptions {
  readonly subtask?: SubtaskInfo;
  /** Set for keyed operators. */
  readonly keyed?: HarnessKeys;
  readonly checkpointingEnabled?: boolean;
  /** Parameters and environment of the job. */
  readonly job?: JobContext;
  /** Default: there is no object store. */
  readonly openUploads?: OperatorContext["openUploads"];
  readonly restored?: RestoredOperatorState;
}

const TIMERS_PER_ROUND = 1_000;

const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => SILENT };

export class OperatorHarness<O extends Operator> {
  readonly operator: O;
  readonly subtask: SubtaskInfo;
  /** What was emitted, in order. */
  readonly output: unknown[] = [];
  /** By the tag's id. */
  readonly sideOutputs = new Map<string, unknown[]>();
  /** What the operator and its functions registered. */
  readonly metrics = new OperatorMetricRegistry({ nowMs: () => this.nowMs, warn() {} });
  nowMs = 0;
  wakeCount = 0;
  readonly #keyed: { readonly backend: HeapKeyedStateBackend; readonly hashOf: KeyHasher } | undefined;
  readonly #options: HarnessOptions;
  #onWake: () => void = () => {};

  constructor(operator: O, options: HarnessOptions = {}) {
    this.operator = operator;
    this.#options = options;
    this.subtask = options.subtask ?? testSubtask();
    this.#keyed = options.keyed === undefined ? undefined : this.#keyedState(options.keyed);
  }

  #keyedState({ keyType }: HarnessKeys): { readonly backend: HeapKeyedStateBackend; readonly hashOf: KeyHasher } {
    const { subtaskIndex, parallelism, maxParallelism, uid } = this.subtask;
    const { first, last } = keyGroupRange(subtaskIndex, maxParallelism, parallelism);
    const backend = new HeapKeyedStateBackend({
      keyType: keyType.descriptor,
      keyGroups: [first, last],
      maxParallelism,
      uid,
      clock: { nowMs: () => this.nowMs, wallMs: () => this.nowMs },
    });
    const wrongKey = (key: unknown): Failure =>
      new Failure("TYPE_MISMATCH", { retry: "never", message: `key ${String(key)} is not of the declared type` });
    return { backend, hashOf: keyHasher(keyType.descriptor, { wrongKey, acceptsNaN: false }) };
  }

  /** Opens with the state given in the options. Restored timers fire when the time is moved, overdue ones also by moving it nowhere. */
  async open(): Promise<this> {
    const context: OperatorContext = {
      subtask: this.subtask,
      output: { collect: (record) => void this.output.push(record) },
      sideOutput: ({ id }) => {
        const records = this.sideOutputs.get(id) ?? [];
        this.sideOutputs.set(id, records);
        return { collect: (record) => void records.push(record) };
      },
      metrics: this.metrics.root,
      job: this.#options.job ?? { parameters: {}, environment: new Map() },
      clock: { nowMs: () => this.nowMs, wallMs: () => this.nowMs },
      log: SILENT,
      keyed: this.#keyed?.backend,
      checkpointingEnabled: this.#options.checkpointingEnabled ?? true,
      openUploads: this.#options.openUploads ?? noUploads,
      wake: () => {
        this.wakeCount += 1;
        this.#onWake();
      },
    };
    this.#keyed?.backend.restore(this.#options.keyed?.restored ?? []);
    await this.operator.open(context, this.#options.restored);
    this.#keyed?.backend.opened();
    return this;
  }

  /** Feeds one record into input 0 or 1. */
  process(record: unknown, input: 0 | 1 = 0): void {
    const select = this.#options.keyed?.selectors[input] as KeySelector<unknown, unknown> | undefined;
    if (select !== undefined && this.#keyed !== undefined) {
      const key = select(record);
      this.#keyed.backend.setCurrentKey(key, this.#keyed.hashOf(key));
    } else {
      this.#keyed?.backend.clearCurrentKey();
    }
    const operator = this.operator as Operator & Partial<OneInputOperator & TwoInputOperator>;
    if (operator.processElement !== undefined) operator.processElement(record);
    else if (input === 0) operator.processElement1?.(record);
    else operator.processElement2?.(record);
  }

  /** Lets an operator whose results come later (async I/O) emit what has come, as a step of its task does. */
  emitDeferred(): void {
    const { operator } = this;
    if (!("emitReady" in operator)) return;
    const deferring = operator as Operator as DeferringOperator;
    while (deferring.emitReady(INPUTS_PER_STEP) === INPUTS_PER_STEP);
  }

  async snapshot(checkpointId: number, isFinal = false): Promise<OperatorState> {
    const barrier = { checkpointId: checkpointId as CheckpointId, timestampMs: this.nowMs, isFinal };
    return (await this.operator.snapshotState?.(barrier)) ?? new Map<string, never>();
  }

  /** Moves the time, and fires the timers whose time has come, those too that are registered meanwhile. */
  advanceProcessingTime(toMs: number): void {
    assert(toMs >= this.nowMs, "time only moves forward");
    this.nowMs = toMs;
    while ((this.#keyed?.backend.fireTimers(toMs, TIMERS_PER_ROUND) ?? 0) > 0);
  }

  /** Keyed state and timers as a checkpoint would hold it now; for `keyed.restored` of other harnesses, also at another parallelism. */
  snapshotKeyed(checkpointId: number): readonly RestoredPart[] {
    assert(this.#keyed !== undefined, "only keyed operators have keyed state");
    const snapshot = this.#keyed.backend.snapshot(checkpointId as CheckpointId);
    while (!snapshot.step(Number.POSITIVE_INFINITY));
    return snapshot.parts().map(({ stateName, keyGroups, chunks }) => {
      assert(keyGroups !== undefined, "a keyed part names its key groups");
      return { stateName, keyGroups, bytes: new Uint8Array(Buffer.concat(chunks)) };
    });
  }

  /** Polls a source until it has emitted `recordsMax` more, is finished, or (idle by rate) waits for time. */
  async poll(recordsMax: number): Promise<SourceStatus> {
    const source = this.operator as Operator as SourceOperator;
    const until = this.output.length + recordsMax;
    for (;;) {
      const wokenBefore = this.wakeCount;
      const status = source.poll(until - this.output.length);
      assert(this.output.length <= until, "a source emits at most recordsMax");
      if (status === "finished" || this.output.length === until) return status;
      if (status === "more") continue;
      if (source.wakeAtMs !== Number.POSITIVE_INFINITY) return status;
      await new Promise<void>((resolve) => {
        this.#onWake = resolve;
        if (this.wakeCount !== wokenBefore) resolve();
      });
    }
  }
}
