// What users implement: functions over records (Flink's names, TypeScript spelling).
//
// Invariants:
//   UF1. Functions are synchronous; a thenable result is a failure that names the operator. (async.ts is the exception.)
//   UF2. An instance belongs to one subtask of one attempt; it is never shared between threads.

import type { Log } from "@sluice/kit/env";
import type { MetricGroup } from "./metrics.ts";
import type { KeyedStateStore } from "./state.ts";
import type { TypeInformation } from "./types.ts";

/** Receives what a function emits. */
export interface Collector<T> {
  collect(record: T): void;
}

/** Names a second output of an operator, with the type of its records (Flink: OutputTag). Read it with `getSideOutput(tag)`. */
export class OutputTag<T> {
  readonly id: string;
  readonly type: TypeInformation<T>;

  constructor(id: string, type: TypeInformation<T>) {
    this.id = id;
    this.type = type;
  }
}

/** What every function with a context can do: emit into the side outputs that the job reads. */
export interface SideOutputContext {
  /**
   * Emits `value` into the side output `tag`. Failures: JOB_GRAPH_INVALID when the job does not read it (`getSideOutput`), TYPE_MISMATCH
   * when it reads it as another type.
   */
  output<X>(tag: OutputTag<X>, value: X): void;
}

/** What a function learns in `open` (Flink: RuntimeContext). */
export interface RuntimeContext extends KeyedStateStore {
  readonly operatorName: string;
  readonly operatorUid: string;
  readonly indexOfThisSubtask: number;
  readonly numberOfParallelSubtasks: number;
  readonly maxNumberOfParallelSubtasks: number;
  readonly attemptNumber: number;
  /** Metrics of this operator and subtask. */
  getMetricGroup(): MetricGroup;
  /** The TaskManager's log, with job, operator and subtask in every line. */
  getLogger(): Log;
  /** Values of the parameters that the job declared. */
  getJobParameters(): Readonly<Record<string, string | number | boolean>>;
  /** The value of a declared environment variable, also of a secret; undefined: it is optional and not set. Others: CONFIG_INVALID. */
  getEnvironment(name: string): string | undefined;
}

/** Base of functions with a life cycle (Flink: RichFunction). */
export abstract class RichFunction {
  /** Called once before the first record, after state was restored. */
  open(_runtimeContext: RuntimeContext): void {}
  /** Called once at the end, also after a failure. */
  close(): void {}
}

/** What a timer waits for (Flink: TimeDomain). */
export type TimeDomain = "PROCESSING_TIME" | "EVENT_TIME";

/**
 * Timers of the current key (Flink: TimerService). They are state: checkpoints hold them, and they follow their key when a job is
 * rescaled. Timestamps are milliseconds since the epoch by the wall clock of the TaskManager.
 */
export interface TimerService {
  currentProcessingTime(): number;
  /**
   * Calls `onTimer` under this key once that time has come; at once when it has passed, also while the job was down. A key has at
   * most one timer per timestamp. Timers that wait when the input has ended are not fired any more.
   */
  registerProcessingTimeTimer(timestampMs: number): void;
  /** Takes a timer back; nothing happens when there is none. */
  deleteProcessingTimeTimer(timestampMs: number): void;
}

/** Per-record context of a keyed function. */
export interface KeyedContext<K> extends SideOutputContext {
  getCurrentKey(): K;
  timerService(): TimerService;
}

/** Context of a timer: the current key is the one that registered it. */
export interface OnTimerContext<K> extends KeyedContext<K> {
  timeDomain(): TimeDomain;
}

/** Flink: KeyedProcessFunction. */
export abstract class KeyedProcessFunction<K, I, O> extends RichFunction {
  abstract processElement(value: I, ctx: KeyedContext<K>, out: Collector<O>): void;
  /** A timer of this key has come to its time. */
  onTimer(_timestampMs: number, _ctx: OnTimerContext<K>, _out: Collector<O>): void {}
}

/** Flink: KeyedCoProcessFunction: two inputs, one key space, shared state. */
export abstract class KeyedCoProcessFunction<K, I1, I2, O> extends RichFunction {
  abstract processElement1(value: I1, ctx: KeyedContext<K>, out: Collector<O>): void;
  abstract processElement2(value: I2, ctx: KeyedContext<K>, out: Collector<O>): void;
  /** A timer of this key has come to its time. */
  onTimer(_timestampMs: number, _ctx: OnTimerContext<K>, _out: Collector<O>): void {}
}

/** Flink: ProcessFunction without keys. */
export abstract class ProcessFunction<I, O> extends RichFunction {
  abstract processElement(value: I, ctx: SideOutputContext, out: Collector<O>): void;
}

export type MapFunction<I, O> = (value: I) => O;
export type FilterFunction<T> = (value: T) => boolean;
export type KeySelector<T, K> = (value: T) => K;
/** The subtask, from 0 below `numPartitions`, that records of this key go to (Flink: Partitioner). */
export type Partitioner<K> = (key: K, numPartitions: number) => number;
