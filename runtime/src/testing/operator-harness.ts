// One operator of a job, without a cluster (Flink: OneInputStreamOperatorTestHarness and its like). Every call is synchronous: a test
// steps through the function with a debugger, and sees its exceptions as they are.
//
// Invariants (tests cite them):
//   HA1. The operator is made by the API that jobs use; its state and its snapshots are those of a job. Records and time are the
//        test's.
//   HA2. Time stands still until `setProcessingTime`.
//   HA3. A snapshot can be restored into several subtasks, and those of several subtasks into another number of them, as a job is
//        rescaled: keyed state by key group, operator state by its mode.
//
// Not here: how records travel between operators (mini-cluster.ts).

import { assert, Failure } from "@sluice/kit";
import { StreamExecutionEnvironment } from "../datastream/index.ts";
import type { DataStream, DataStreamSink } from "../datastream/index.ts";
import type { Transformation } from "../graph/index.ts";
import { TypeInformation } from "../model/index.ts";
import type { CheckpointId, Operator, OutputTag } from "../model/index.ts";
import { OperatorHarness, testSubtask } from "../operators/index.ts";
import type { HarnessKeys } from "../operators/index.ts";
import { dealSnapshots } from "./operator-snapshot.ts";
import type { OperatorSnapshot } from "./operator-snapshot.ts";

export interface TestHarnessOptions {
  /** Begins from this snapshot, or from those of all subtasks of an earlier parallelism, in their order. */
  readonly restore?: OperatorSnapshot | readonly OperatorSnapshot[];
  /** Which subtask this is. Default 0 of 1. */
  readonly subtaskIndex?: number;
  readonly parallelism?: number;
  /** Default 128. */
  readonly maxParallelism?: number;
  /** Milliseconds. Default 0. */
  readonly processingTime?: number;
}

/** What harnesses of one and two inputs share. */
abstract class OperatorTestHarness<O> {
  readonly #harness: OperatorHarness<Operator>;
  readonly #isKeyed: boolean;
  #checkpointId: number;

  /** Use oneInputTestHarness and its like. */
  constructor(opened: OpenedOperator) {
    this.#harness = opened.harness;
    this.#isKeyed = opened.isKeyed;
    this.#checkpointId = opened.restoredId;
  }

  /** What was emitted and not yet taken, in order. Answers of async I/O that have come are emitted by this call. */
  get output(): readonly O[] {
    this.#harness.emitDeferred();
    return this.#harness.output as O[];
  }

  /** What was emitted since the last call; as {@link output}. */
  takeOutput(): readonly O[] {
    this.#harness.emitDeferred();
    return this.#harness.output.splice(0) as O[];
  }

  /** What was emitted into this side output, in order. */
  getSideOutput<X>(tag: OutputTag<X>): readonly X[] {
    return (this.#harness.sideOutputs.get(tag.id) ?? []) as X[];
  }

  getProcessingTime(): number {
    return this.#harness.nowMs;
  }

  /** HA2. Milliseconds; never backwards. Fires the timers that have come to their time, restored ones too. */
  setProcessingTime(toMs: number): void {
    assert(toMs >= this.#harness.nowMs, "processing time never goes backwards");
    this.#harness.advanceProcessingTime(toMs);
  }

  /** State as a checkpoint holds it now (HA3). */
  async snapshot(): Promise<OperatorSnapshot> {
    this.#checkpointId += 1;
    const checkpointId = this.#checkpointId;
    const operator = await this.#harness.snapshot(checkpointId);
    return { checkpointId, operator, keyed: this.#isKeyed ? this.#harness.snapshotKeyed(checkpointId) : [] };
  }

  /** Tells a function that listens that the checkpoint of this snapshot has completed. */
  async notifyCheckpointComplete(snapshot: OperatorSnapshot): Promise<void> {
    await this.#harness.operator.notifyCheckpointComplete?.(snapshot.checkpointId as CheckpointId);
  }

  /** Ends the operator as after its last record. */
  async close(): Promise<void> {
    this.#harness.operator.finish?.();
    await this.#harness.operator.close(true);
  }

  protected feed(record: unknown, input: 0 | 1): void {
    this.#harness.process(record, input);
  }
}

export class OneInputTestHarness<I, O> extends OperatorTestHarness<O> {
  processElement(value: I): void {
    this.feed(value, 0);
  }

  processElements(...values: readonly I[]): void {
    for (const value of values) this.feed(value, 0);
  }
}

export class TwoInputTestHarness<I1, I2, O> extends OperatorTestHarness<O> {
  processElement1(value: I1): void {
    this.feed(value, 0);
  }

  processElement2(value: I2): void {
    this.feed(value, 1);
  }
}

/** Opens the one operator that `build` adds to a stream of records of `type`: keyed or not, with any function, also of a sink. */
export async function oneInputTestHarness<I, O = never>(
  type: TypeInformation<I>,
  build: (stream: DataStream<I>) => DataStream<O> | DataStreamSink,
  options: TestHarnessOptions = {},
): Promise<OneInputTestHarness<I, O>> {
  return new OneInputTestHarness(
    await openOperator((env) => build(env.fromCollection([], type)), { inputCount: 1, options }),
  );
}

/** Opens the one operator that `build` adds to two streams. */
export async function twoInputTestHarness<I1, I2, O>(
  types: readonly [first: TypeInformation<I1>, second: TypeInformation<I2>],
  build: (first: DataStream<I1>, second: DataStream<I2>) => DataStream<O>,
  options: TestHarnessOptions = {},
): Promise<TwoInputTestHarness<I1, I2, O>> {
  const [first, second] = types;
  return new TwoInputTestHarness(
    await openOperator((env) => build(env.fromCollection([], first), env.fromCollection([], second)), {
      inputCount: 2,
      options,
    }),
  );
}

interface OpenedOperator {
  readonly harness: OperatorHarness<Operator>;
  readonly isKeyed: boolean;
  readonly restoredId: number;
}

async function openOperator(
  build: (env: StreamExecutionEnvironment) => unknown,
  { inputCount, options }: { readonly inputCount: number; readonly options: TestHarnessOptions },
): Promise<OpenedOperator> {
  const env = new StreamExecutionEnvironment({ jobName: "test", configuration: {} });
  build(env);
  const transformation = onlyOperator(env.getStreamGraph().transformations, inputCount);
  const { subtaskIndex = 0, parallelism = 1, maxParallelism = 128 } = options;
  const uid = transformation.uid ?? "operator-uid";
  const subtask = testSubtask({
    operatorName: transformation.name,
    uid,
    subtaskIndex,
    parallelism,
    maxParallelism,
  });
  const { factory } = transformation;
  assert(factory.kind !== "source", "an operator with inputs is no source");
  const given = options.restore ?? [];
  const snapshots = "checkpointId" in given ? [given] : given;
  const dealt = snapshots.length === 0 ? undefined : dealSnapshots(snapshots, { uid, subtaskIndex, parallelism });
  const keys = keysOf(transformation);
  const harness = new OperatorHarness<Operator>(factory.create(subtask), {
    subtask,
    ...(keys === undefined ? {} : { keyed: { ...keys, ...(dealt === undefined ? {} : { restored: dealt.keyed }) } }),
    ...(dealt === undefined ? {} : { restored: dealt.operator }),
  });
  harness.nowMs = options.processingTime ?? 0;
  await harness.open();
  return { harness, isKeyed: keys !== undefined, restoredId: dealt?.operator.checkpointId ?? 0 };
}

/** The first `inputCount` transformations are the sources. */
function onlyOperator(transformations: readonly Transformation[], inputCount: number): Transformation {
  const [operator, ...others] = transformations.slice(inputCount);
  if (operator !== undefined && others.length === 0) return operator;
  const names = transformations.slice(inputCount).map(({ name }) => name);
  throw new Failure("JOB_GRAPH_INVALID", {
    retry: "never",
    message: `a test harness runs one operator, and this is ${names.length === 0 ? "none" : names.join(" and ")}`,
    remedy: "Test operators one by one, or the whole job in a MiniCluster.",
  });
}

function keysOf({ inputs }: Transformation): HarnessKeys | undefined {
  const keys = [0, 1].map((index) => inputs.find(({ inputIndex }) => inputIndex === index)?.keyBy);
  const [first] = keys;
  if (first === undefined) return undefined;
  const selectors = keys.flatMap((keyBy) => (keyBy === undefined ? [] : [keyBy.selector]));
  return { keyType: new TypeInformation(first.type), selectors };
}
