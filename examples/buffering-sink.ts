// Sinks of one's own: records are collected and sent in batches. Two of them, and what each promises.
//
//   sluice run examples/buffering-sink.ts -- --threshold 100

import {
  GeneratorSource,
  ListStateDescriptor,
  Parameters,
  RichSinkFunction,
  Types,
  type CheckpointedFunction,
  type CheckpointListener,
  type FunctionInitializationContext,
  type FunctionSnapshotContext,
  type ListState,
  type RuntimeContext,
  type StreamExecutionEnvironment,
} from "@sluice/runtime";

/**
 * The example of Flink's documentation. A batch goes out when it is full; what is held back at a checkpoint is in it. So nothing is lost,
 * and a failure sends those batches again that went out since the last checkpoint.
 */
export class BufferingSink extends RichSinkFunction<number> implements CheckpointedFunction {
  readonly #threshold: number;
  readonly #send: (batch: readonly number[]) => void;
  #buffered: number[] = [];
  #state!: ListState<number>;

  constructor(threshold: number, send: (batch: readonly number[]) => void) {
    super();
    this.#threshold = threshold;
    this.#send = send;
  }

  initializeState(context: FunctionInitializationContext): void {
    this.#state = context
      .getOperatorStateStore()
      .getListState(new ListStateDescriptor("buffered-elements", Types.LONG()));
    this.#buffered = [...this.#state.get()]; // after a restore: this subtask's share
  }

  override invoke(value: number): void {
    this.#buffered.push(value);
    if (this.#buffered.length >= this.#threshold) this.#flush();
  }

  snapshotState(): void {
    this.#state.update(this.#buffered);
  }

  /** The input has ended: nothing comes that would fill the batch. */
  override finish(): void {
    if (this.#buffered.length > 0) this.#flush();
  }

  #flush(): void {
    this.#send(this.#buffered);
    this.#buffered = [];
  }
}

/** What a checkpoint holds of batches that wait for it. */
const PENDING = Types.ROW({ checkpointId: Types.LONG(), name: Types.STRING(), records: Types.LIST(Types.LONG()) });
interface Pending {
  readonly checkpointId: number;
  /** The same whenever this batch is sent: who receives it can tell that it has it already. */
  readonly name: string;
  readonly records: readonly number[];
}

/**
 * Exactly once: a batch is cut at each checkpoint, is part of its state, and goes out when the checkpoint is known to be complete. After a
 * failure it may be sent once more, under the same name: `send` must do nothing for a name that it has seen.
 */
export class ConfirmedSink extends RichSinkFunction<number> implements CheckpointedFunction, CheckpointListener {
  readonly #send: (name: string, records: readonly number[]) => void;
  #subtask = 0;
  #open: number[] = [];
  #pending: Pending[] = [];
  #state!: ListState<Pending>;

  constructor(send: (name: string, records: readonly number[]) => void) {
    super();
    this.#send = send;
  }

  initializeState(context: FunctionInitializationContext): void {
    this.#state = context.getOperatorStateStore().getListState(new ListStateDescriptor("pending", PENDING));
    // The checkpoint that is restored is complete, whatever was heard of it, and so are those before it.
    for (const { name, records } of this.#state.get()) this.#send(name, records);
  }

  override open(context: RuntimeContext): void {
    this.#subtask = context.indexOfThisSubtask;
  }

  override invoke(value: number): void {
    this.#open.push(value);
  }

  snapshotState(context: FunctionSnapshotContext): void {
    const checkpointId = context.getCheckpointId();
    if (this.#open.length > 0) {
      this.#pending.push({ checkpointId, name: `${checkpointId}-${this.#subtask}`, records: this.#open });
      this.#open = [];
    }
    this.#state.update(this.#pending);
  }

  notifyCheckpointComplete(checkpointId: number): void {
    for (const { name, records } of this.#pending.filter((batch) => batch.checkpointId <= checkpointId))
      this.#send(name, records);
    this.#pending = this.#pending.filter((batch) => batch.checkpointId > checkpointId);
  }
}

export function main(env: StreamExecutionEnvironment): void {
  const { count, threshold } = env.declareParameters({
    count: Parameters.int({ default: 100_000, help: "How many numbers are written." }),
    threshold: Parameters.int({ default: 1_000, help: "How many numbers a batch has." }),
  });
  env.enableCheckpointing(1_000);
  const numbers = new GeneratorSource({ count, ratePerSecond: 20_000, generate: (i) => i, type: Types.LONG() });
  env
    .fromSource(numbers)
    .uid("numbers")
    .addSink(new BufferingSink(threshold, (batch) => console.log(`${batch.length} from ${batch[0]} on`)))
    .uid("batches");
}
