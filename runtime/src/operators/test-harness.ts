// Runs one operator without a cluster: opens it, feeds it, collects what it emits, takes and restores snapshots.
//
// Invariants:
//   TH1. Time stands still until the test moves it; `wake` is counted, never acted upon.
//   TH2. Keyed state lives in plain maps: this is about the operator, not about the state backend.

import { assert, Failure } from "@sluice/kit";
import type { Log } from "@sluice/kit/env";
import type {
  AttemptNumber,
  CheckpointId,
  Counter,
  Epoch,
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
  ValueState,
  ValueStateDescriptor,
} from "../model/index.ts";

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

export interface HarnessOptions {
  readonly subtask?: SubtaskInfo;
  /** Per input; set for keyed operators. */
  readonly keySelectors?: readonly KeySelector<never, unknown>[];
  readonly checkpointingEnabled?: boolean;
  readonly restored?: RestoredOperatorState;
}

const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => SILENT };

class MapKeyed {
  readonly #values = new Map<string, Map<unknown, unknown>>();
  #key: unknown;
  #hasKey = false;

  setCurrentKey(key: unknown): void {
    this.#key = key;
    this.#hasKey = true;
  }

  getCurrentKey(): unknown {
    return this.#key;
  }

  getState<T>(descriptor: ValueStateDescriptor<T>): ValueState<T> {
    const values = this.#values.get(descriptor.name) ?? new Map<unknown, unknown>();
    this.#values.set(descriptor.name, values);
    const key = (): unknown => {
      if (this.#hasKey) return this.#key;
      throw new Failure("STATE_ACCESS_INVALID", {
        retry: "never",
        message: `state "${descriptor.name}" without a key`,
      });
    };
    return {
      value: () => values.get(key()) as T | undefined,
      update: (value) => void values.set(key(), value),
      clear: () => void values.delete(key()),
    };
  }
}

export class OperatorHarness<O extends Operator> {
  readonly operator: O;
  readonly subtask: SubtaskInfo;
  /** What was emitted, in order. */
  readonly output: unknown[] = [];
  /** By the tag's id. */
  readonly sideOutputs = new Map<string, unknown[]>();
  readonly counters = new Map<string, number>();
  nowMs = 0;
  wakeCount = 0;
  readonly #keyed: MapKeyed | undefined;
  readonly #options: HarnessOptions;
  #onWake: () => void = () => {};

  constructor(operator: O, options: HarnessOptions = {}) {
    this.operator = operator;
    this.#options = options;
    this.subtask = options.subtask ?? testSubtask();
    this.#keyed = options.keySelectors === undefined ? undefined : new MapKeyed();
  }

  /** Opens with the state given in the options. */
  async open(): Promise<this> {
    const context: OperatorContext = {
      subtask: this.subtask,
      output: { collect: (record) => void this.output.push(record) },
      sideOutput: ({ id }) => {
        const records = this.sideOutputs.get(id) ?? [];
        this.sideOutputs.set(id, records);
        return { collect: (record) => void records.push(record) };
      },
      metrics: { counter: (name) => this.#counter(name) },
      clock: { nowMs: () => this.nowMs, wallMs: () => this.nowMs },
      log: SILENT,
      keyed: this.#keyed,
      checkpointingEnabled: this.#options.checkpointingEnabled ?? true,
      wake: () => {
        this.wakeCount += 1;
        this.#onWake();
      },
    };
    await this.operator.open(context, this.#options.restored);
    return this;
  }

  /** Feeds one record into input 0 or 1. */
  process(record: unknown, input: 0 | 1 = 0): void {
    const select = this.#options.keySelectors?.[input] as KeySelector<unknown, unknown> | undefined;
    if (select !== undefined) this.#keyed?.setCurrentKey(select(record));
    const operator = this.operator as Operator & Partial<OneInputOperator & TwoInputOperator>;
    if (operator.processElement !== undefined) operator.processElement(record);
    else if (input === 0) operator.processElement1?.(record);
    else operator.processElement2?.(record);
  }

  async snapshot(checkpointId: number, isFinal = false): Promise<OperatorState> {
    const barrier = { checkpointId: checkpointId as CheckpointId, timestampMs: this.nowMs, isFinal };
    return (await this.operator.snapshotState?.(barrier)) ?? new Map<string, never>();
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

  #counter(name: string): Counter {
    const { counters } = this;
    return {
      inc(by = 1) {
        counters.set(name, (counters.get(name) ?? 0) + by);
      },
      get count() {
        return counters.get(name) ?? 0;
      },
    };
  }
}
