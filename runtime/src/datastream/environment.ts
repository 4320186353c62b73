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
import { Failure } from "@sluice/kit";
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
  setPlace,
} from "./checkpoint-config.ts";
import { SingleOutputStreamOperator } from "./data-stream.ts";
import { DeclaredEnvironment, type EnvironmentOptions } from "./declared-environment.ts";
import { GraphBuilder } from "./graph-builder.ts";
import {
  parseParameters,
  type ParameterDeclarations,
  type ParameterValue,
  type ParameterValues,
} from "./parameters.ts";
import type { RestartStrategy, StateBackend } from "./strategies.ts";

/** What a job module exports as `main`. */
export type JobMain = (env: StreamExecutionEnvironment, args: readonly string[]) => void | Promise<void>;

/** Flink: StreamExecutionEnvironment. A job does not make one: its `main` receives it. */
export class StreamExecutionEnvironment {
  readonly #builder = new GraphBuilder();
  readonly #configuration: Configuration;
  readonly #checkpointConfig: CheckpointConfig;
  readonly #arguments: readonly string[];
  readonly #environment: DeclaredEnvironment;
  #parameters: Readonly<Record<string, ParameterValue | undefined>> | undefined;
  #jobName: string;

  constructor(options: {
    readonly jobName: string;
    readonly configuration: Readonly<Record<string, string>>;
    readonly arguments?: readonly string[];
    /** Where declared environment variables come from: the process that plans, afterwards the plan. */
    readonly readEnvironment?: (name: string) => string | undefined;
  }) {
    this.#jobName = options.jobName;
    this.#arguments = options.arguments ?? [];
    this.#environment = new DeclaredEnvironment(options.readEnvironment ?? (() => undefined));
    this.#configuration = new Map(Object.entries(options.configuration));
    this.#checkpointConfig = new CheckpointConfig(this.#configuration);
  }

  /**
   * Declares all parameters of the job, which stand behind `--name` on its command line, and gives their values. An argument that is not
   * declared is an error; `--help` lists them. Functions see them by `getJobParameters()`.
   */
  declareParameters<const D extends ParameterDeclarations>(declared: D): ParameterValues<D> {
    if (this.#parameters !== undefined) {
      throw new Failure("CONFIG_INVALID", {
        retry: "never",
        message: "declareParameters was called twice",
        remedy: "declare all parameters in one call: what is not declared there is refused",
      });
    }
    const values = parseParameters(declared, this.#arguments);
    this.#parameters = values;
    return values;
  }

  /**
   * Declares an environment variable that the job may read. Its value is frozen in the plan, so that every process sees the same one. A
   * secret is not: `main` gets undefined, functions read it on the TaskManager by `getEnvironment(name)`.
   */
  declareEnvironment(
    name: string,
    options?: EnvironmentOptions & { readonly secret?: false; readonly optional?: false },
  ): string;
  declareEnvironment(name: string, options: EnvironmentOptions): string | undefined;
  declareEnvironment(name: string, options: EnvironmentOptions = {}): string | undefined {
    return this.#environment.declare(name, options);
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

  /** Where savepoints go when whoever asks for one names no place: `file:///dir` or `s3://bucket/prefix`. */
  setDefaultSavepointDirectory(uri: string): this {
    setPlace(this.#configuration, "execution.checkpointing.savepoint-dir", uri);
    return this;
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
  getStreamGraph(): StreamGraph {
    const given = Object.entries(this.#parameters ?? {}).flatMap(([name, value]): [string, ParameterValue][] =>
      value === undefined ? [] : [[name, value]],
    );
    return this.#builder.build({
      jobName: this.#jobName,
      args: this.#arguments,
      parameters: this.#parameters === undefined ? undefined : Object.fromEntries(given),
      environment: this.#environment.toPlan(),
      configuration: this.#configuration,
    });
  }
}
