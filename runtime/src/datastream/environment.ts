// Where a job begins: the environment that a job module's `main` receives.
//
// Invariants:
//   EN1. `main` only describes the job; nothing runs before the plan was made from what it built.
//   EN2. Configuration given from outside (-D, file) is there before `main`; what code sets wins over it.
//
// Not here: loading the module (build-graph.ts).

import {
  CollectionSource,
  NumberSequenceSource,
  SocketTextSource,
  type SocketTextOptions,
} from "../connectors/index.ts";
import type { StreamGraph } from "../graph/index.ts";
import type { TypeInformation } from "../model/index.ts";
import type { Source } from "../operators/index.ts";
import {
  CheckpointConfig,
  setInt,
  setKey,
  setMillis,
  type CheckpointingMode,
  type Configuration,
} from "./checkpoint-config.ts";
import { SingleOutputStreamOperator } from "./data-stream.ts";
import { GraphBuilder } from "./graph-builder.ts";
import type { RestartStrategy, StateBackend } from "./strategies.ts";

/** What a job module exports as `main`. */
export type JobMain = (env: StreamExecutionEnvironment, args: readonly string[]) => void | Promise<void>;

/** Flink: StreamExecutionEnvironment. A job does not make one: its `main` receives it. */
export class StreamExecutionEnvironment {
  readonly #builder = new GraphBuilder();
  readonly #configuration: Configuration;
  readonly #checkpointConfig: CheckpointConfig;
  #jobName: string;

  constructor(options: { readonly jobName: string; readonly configuration: Readonly<Record<string, string>> }) {
    this.#jobName = options.jobName;
    this.#configuration = new Map(Object.entries(options.configuration));
    this.#checkpointConfig = new CheckpointConfig(this.#configuration);
  }

  /** Takes a checkpoint every `intervalMs`. The mode's default is EXACTLY_ONCE. */
  enableCheckpointing(intervalMs: number, mode?: CheckpointingMode): this {
    this.#checkpointConfig.setCheckpointInterval(intervalMs);
    if (mode !== undefined) this.#checkpointConfig.setCheckpointingMode(mode);
    return this;
  }

  getCheckpointConfig(): CheckpointConfig {
    return this.#checkpointConfig;
  }

  setStateBackend(backend: StateBackend): this {
    backend.applyTo(this.#configuration);
    return this;
  }

  setRestartStrategy(strategy: RestartStrategy): this {
    strategy.applyTo(this.#configuration);
    return this;
  }

  /** Parallelism of operators that set none. Default 1. */
  setParallelism(parallelism: number): this {
    setInt(this.#configuration, "parallelism.default", parallelism, 1);
    return this;
  }

  /** Number of key groups: the highest parallelism the job's state can ever have. Default: from the parallelism, at least 128. */
  setMaxParallelism(maxParallelism: number): this {
    setInt(this.#configuration, "pipeline.max-parallelism", maxParallelism, 1);
    return this;
  }

  /** How long a partly filled buffer may wait, in milliseconds; -1: until it is full. Default 100. */
  setBufferTimeout(timeoutMs: number): this {
    const enabledKey = "execution.buffer-timeout.enabled";
    if (timeoutMs === -1) {
      setKey(this.#configuration, enabledKey, "false");
      return this;
    }
    this.#configuration.delete(enabledKey); // code wins over what came from outside
    setMillis(this.#configuration, "execution.buffer-timeout.interval", timeoutMs, 0);
    return this;
  }

  /** Gives every operator a task of its own. Chained operators call each other; others exchange batches. */
  disableOperatorChaining(): this {
    setKey(this.#configuration, "pipeline.operator-chaining.enabled", "false");
    return this;
  }

  /** The stream of a source's records; `name` is shown in REST, metrics and messages. */
  fromSource<T>(source: Source<T>, name: string = source.name): SingleOutputStreamOperator<T> {
    const transformation = this.#builder.add({
      name,
      uid: undefined,
      factory: { kind: "source", create: (options) => source.createOperator(options) },
      stateful: true,
      canRetract: undefined,
      parallelism: undefined,
      maxParallelism: undefined,
      inputs: [],
      outputType: source.type.descriptor,
      enumerateSplits: (options) => source.enumerateSplits(options),
    });
    return new SingleOutputStreamOperator(this.#builder, transformation, source.type);
  }

  /**
   * The records of a list, in its order: runs with parallelism 1 unless told otherwise. Flink: fromCollection, fromData.
   * The list is part of the job's code: it must come out the same in every process.
   */
  fromCollection<T>(records: Iterable<T>, type: TypeInformation<T>): SingleOutputStreamOperator<T> {
    return this.fromSource(new CollectionSource(records, type)).setParallelism(1);
  }

  /** As {@link fromCollection}, with the records as arguments behind their type. Flink: fromElements. */
  fromElements<T>(type: TypeInformation<T>, ...records: readonly T[]): SingleOutputStreamOperator<T> {
    return this.fromCollection(records, type);
  }

  /** The whole numbers from `from` to `to`, both included. */
  fromSequence(from: number, to: number): SingleOutputStreamOperator<number> {
    return this.fromSource(new NumberSequenceSource(from, to));
  }

  /** Lines of text from a TCP connection, with parallelism 1. What was received and is in no checkpoint yet is lost with a failure. */
  socketTextStream(options: SocketTextOptions): SingleOutputStreamOperator<string> {
    return this.fromSource(new SocketTextSource(options)).setParallelism(1);
  }

  /**
   * Names the job. It does not run it: whoever called `main` runs what was built. It resolves at once, so that programs
   * written for Flink keep their last line.
   */
  execute(jobName?: string): Promise<void> {
    if (jobName !== undefined) this.#jobName = jobName;
    return Promise.resolve();
  }

  /** What was built so far. */
  getStreamGraph(args: readonly string[] = []): StreamGraph {
    return this.#builder.build({ jobName: this.#jobName, args, configuration: this.#configuration });
  }
}
