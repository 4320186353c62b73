// Streams as users see them (Flink's names): each call adds a transformation to the job's graph.
//
// Invariants:
//   DS1. Nothing runs here; a stream is a reference to the outputs it is made of.
//   DS2. An undeclared output type is GENERIC: it may travel, but it is never a key and never state (T3).
//
// Not here: what becomes of the graph (graph/), how records are processed (operators/).

import { PrintSink } from "../connectors/index.ts";
import type { Exchange, KeyBy, Transformation, TransformationInput } from "../graph/index.ts";
import {
  containsGeneric,
  describeType,
  sameType,
  Types,
  type BroadcastProcessFunction,
  type CoFlatMapFunction,
  type CoMapFunction,
  type CoProcessFunction,
  type FilterFunction,
  type FlatMapFunction,
  type KeyedBroadcastProcessFunction,
  type KeyedCoProcessFunction,
  type KeyedProcessFunction,
  type KeySelector,
  type MapFunction,
  type MapStateDescriptor,
  type OutputTag,
  type Partitioner,
  type ProcessFunction,
  type ReduceFunction,
  type RichFilterFunction,
  type RichFlatMapFunction,
  type RichMapFunction,
  type RichSinkFunction,
  type SinkFunction,
  type TypeInformation,
} from "../model/index.ts";
import {
  aggregateFactory,
  coProcessFactory,
  keyedCoProcessFactory,
  keyedProcessFactory,
  processFactory,
  reduceFactory,
  type Aggregation,
  type FunctionOrSupplier,
  type Sink,
} from "../operators/index.ts";
import { DataStreamSink } from "./data-stream-sink.ts";
import {
  broadcastOf,
  checkBroadcastStates,
  coFlatMapOf,
  coMapOf,
  filterOf,
  flatMapOf,
  keepsState,
  keyed,
  keyedBroadcastOf,
  mapOf,
  type AddedFunction,
  type AnyMapDescriptor,
  type FieldOf,
  sinkOf,
} from "./functions.ts";
import type { GraphBuilder } from "./graph-builder.ts";
import {
  addSideOutput,
  addTransformation,
  invalid,
  nameOf,
  setBufferTimeout,
  setMaxParallelism,
  setParallelism,
  setUid,
  type Added,
} from "./operator-settings.ts";

/** An output that a stream is made of. */
interface StreamOutput {
  readonly transformationId: number;
  readonly sideOutput?: string;
  readonly exchange?: Exchange;
}

/** A stream of records of type T; several outputs after `union`. */
export class DataStream<T> {
  protected readonly builder: GraphBuilder;
  /** The outputs that this is made of, each with the way to spread its records. */
  protected readonly sources: readonly StreamOutput[];
  readonly type: TypeInformation<T>;

  constructor(builder: GraphBuilder, sources: readonly StreamOutput[], type: TypeInformation<T>) {
    this.builder = builder;
    this.sources = sources;
    this.type = type;
  }

  /** One record out for each record in. */
  map<O>(
    fn: MapFunction<T, O> | RichMapFunction<T, O>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return this.addFunction(this.inputs(0), mapOf(fn, outputType));
  }

  /** Keeps the records for which `fn` says true. */
  filter(fn: FilterFunction<T> | RichFilterFunction<T>): SingleOutputStreamOperator<T> {
    return this.addFunction(this.inputs(0), filterOf(fn, this.type));
  }

  /** Any number of records out for each record in: `fn` gives them to its collector. */
  flatMap<O>(
    fn: FlatMapFunction<T, O> | RichFlatMapFunction<T, O>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return this.addFunction(this.inputs(0), flatMapOf(fn, outputType));
  }

  process<O>(
    fn: FunctionOrSupplier<ProcessFunction<T, O>>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return this.addFunction(this.inputs(0), {
      fn,
      name: "process",
      factory: processFactory(fn as FunctionOrSupplier<ProcessFunction<unknown, unknown>>),
      stateful: false,
      type: outputType,
    });
  }

  /** All records of this and the other streams, which have the same type. */
  union(...others: readonly DataStream<T>[]): DataStream<T> {
    for (const other of others) {
      this.#sameJob(other);
      if (!sameType(this.type.descriptor, other.type.descriptor)) {
        throw invalid(
          `union of streams of ${describeType(this.type.descriptor)} and ${describeType(other.type.descriptor)}`,
          "map both to one type first",
        );
      }
    }
    return new DataStream(this.builder, [...this.sources, ...others.flatMap((other) => other.sources)], this.type);
  }

  /** Two streams with two types, for a function with two inputs. */
  connect<U>(other: DataStream<U>): ConnectedStreams<T, U>;
  /** A stream beside one that all subtasks get, with broadcast state. */
  connect<U>(other: BroadcastStream<U>): BroadcastConnectedStream<T, U>;
  connect<U>(other: DataStream<U> | BroadcastStream<U>): ConnectedStreams<T, U> | BroadcastConnectedStream<T, U> {
    if (other instanceof BroadcastStream) {
      this.#sameJob(other.stream);
      return new BroadcastConnectedStream(this, other);
    }
    this.#sameJob(other);
    return new ConnectedStreams(this, other);
  }

  /** Partitions by a key. The key's type is declared: its encoding decides the key group (T3). */
  keyBy<K>(selector: KeySelector<T, K>, keyType: TypeInformation<K>): KeyedStream<T, K> {
    return new KeyedStream(this, selector, keyType);
  }

  /** The next operator's subtasks take records in turns. */
  rebalance(): DataStream<T> {
    return this.#spread({ partitioning: "REBALANCE" });
  }

  /** As {@link rebalance}, but each subtask serves only some of the next operator's: fewer channels, and less network. */
  rescale(): DataStream<T> {
    return this.#spread({ partitioning: "RESCALE" });
  }

  /** Every record goes to a subtask of the next operator chosen by chance. */
  shuffle(): DataStream<T> {
    return this.#spread({ partitioning: "SHUFFLE" });
  }

  /** All records go to the first subtask of the next operator. */
  global(): DataStream<T> {
    return this.#spread({ partitioning: "GLOBAL" });
  }

  /** Every subtask of the next operator gets every record. */
  broadcast(): DataStream<T>;
  /** The same, for a function that keeps what it makes of them in states of these names: `other.connect(this)`. */
  broadcast(...states: readonly [AnyMapDescriptor, ...AnyMapDescriptor[]]): BroadcastStream<T>;
  broadcast(...states: readonly AnyMapDescriptor[]): DataStream<T> | BroadcastStream<T> {
    const spread = this.#spread({ partitioning: "BROADCAST" });
    return states.length === 0 ? spread : new BroadcastStream(spread, states);
  }

  /** Subtask i feeds subtask i of the next operator. Another parallelism there is refused when the job is planned. */
  forward(): DataStream<T> {
    return this.#spread({ partitioning: "FORWARD" });
  }

  /** `partitioner` names the subtask of the next operator for a record's key; state needs {@link keyBy} instead. */
  partitionCustom<K>(partitioner: Partitioner<K>, selector: KeySelector<T, K>): DataStream<T> {
    return this.#spread({
      partitioning: "CUSTOM",
      selector: selector as KeySelector<unknown, unknown>,
      partitioner: partitioner as Partitioner<unknown>,
    });
  }

  sinkTo(sink: Sink<T>): DataStreamSink {
    return new DataStreamSink(
      addTransformation(this.builder, this.inputs(0), {
        name: sink.name,
        factory: { kind: "sink", create: (subtask) => sink.createOperator(subtask) },
        stateful: sink.stateful,
        type: this.type,
        canRetract: sink.canRetract,
      }),
    );
  }

  /**
   * Calls a function for every record (Flink: addSink). What it does outside is done at least once, unless it waits for its checkpoints:
   * a {@link RichSinkFunction} may implement CheckpointedFunction and CheckpointListener, and with the first it needs a `uid`.
   */
  addSink(fn: SinkFunction<T> | RichSinkFunction<T>): DataStreamSink {
    return this.addSinkFunction(this.inputs(0), sinkOf(fn, this.type));
  }

  /** Prints to standard output of the TaskManager. */
  print(): DataStreamSink {
    return this.sinkTo(new PrintSink<T>());
  }

  /** @internal */
  inputs(inputIndex: 0 | 1, keyBy?: KeyBy): readonly TransformationInput[] {
    return this.sources.map(({ transformationId, sideOutput, exchange }) => ({
      transformationId,
      inputIndex,
      ...(sideOutput === undefined ? {} : { sideOutput }),
      ...(keyBy === undefined ? (exchange === undefined ? {} : { exchange }) : { keyBy }),
    }));
  }

  /** @internal */
  addFunction<O>(inputs: readonly TransformationInput[], added: AddedFunction<O>): SingleOutputStreamOperator<O> {
    return this.addOperator(inputs, this.#claimed(added));
  }

  /** @internal */
  addSinkFunction(inputs: readonly TransformationInput[], added: AddedFunction<T>): DataStreamSink {
    return new DataStreamSink(addTransformation(this.builder, inputs, this.#claimed(added)));
  }

  /** @internal */
  addOperator<O>(inputs: readonly TransformationInput[], added: Added<O>): SingleOutputStreamOperator<O> {
    return new SingleOutputStreamOperator(this.builder, addTransformation(this.builder, inputs, added), added.type);
  }

  /** The function belongs to this operator now, which is called after its class. */
  #claimed<O>(added: AddedFunction<O>): AddedFunction<O> {
    const { fn } = added;
    if (fn === undefined) return added;
    const name = nameOf(fn, added.name);
    this.builder.claimFunction(fn, name);
    return { ...added, name, stateful: added.stateful || keepsState(fn) };
  }

  /** The last word counts: `rebalance().broadcast()` broadcasts, and keyBy overrules both. */
  #spread(exchange: Exchange): DataStream<T> {
    return new DataStream(
      this.builder,
      this.sources.map((output) => ({ ...output, exchange })),
      this.type,
    );
  }

  #sameJob(other: DataStream<unknown>): void {
    if (other.builder !== this.builder)
      throw invalid("streams of two environments were combined", "build a job from one environment");
  }
}

/** The output of one operator, which can be named and sized. */
export class SingleOutputStreamOperator<T> extends DataStream<T> {
  readonly #transformation: Transformation;

  constructor(builder: GraphBuilder, transformation: Transformation, type: TypeInformation<T>) {
    super(builder, [{ transformationId: transformation.id }], type);
    this.#transformation = transformation;
  }

  /** Shown in REST, metrics and messages. */
  name(name: string): this {
    this.#transformation.name = name;
    return this;
  }

  /** A longer text than the name, shown in the job's plan. */
  setDescription(description: string): this {
    this.#transformation.description = description;
    return this;
  }

  /** Identity of the operator's state: unique in the job and the same for its whole life. */
  uid(uid: string): this {
    setUid(this.#transformation, uid);
    return this;
  }

  setParallelism(parallelism: number): this {
    setParallelism(this.#transformation, parallelism);
    return this;
  }

  /** Number of key groups: the highest parallelism that the operator's state can ever have. */
  setMaxParallelism(maxParallelism: number): this {
    setMaxParallelism(this.#transformation, maxParallelism);
    return this;
  }

  /** As `env.setBufferTimeout`, for what this operator's task sends; -1: records wait until a batch is full. */
  setBufferTimeout(timeoutMs: number): this {
    setBufferTimeout(this.#transformation, timeoutMs);
    return this;
  }

  /** Begins a task of its own, which operators behind it may join. */
  startNewChain(): this {
    this.#transformation.chaining = "HEAD";
    return this;
  }

  /** Shares its task with no other operator. */
  disableChaining(): this {
    this.#transformation.chaining = "NEVER";
    return this;
  }

  /** The records that this operator's function emits with `ctx.output(tag, value)`. */
  getSideOutput<X>(tag: OutputTag<X>): DataStream<X> {
    addSideOutput(this.#transformation, tag);
    return new DataStream(this.builder, [{ transformationId: this.#transformation.id, sideOutput: tag.id }], tag.type);
  }
}

function checkKeyType(keyType: TypeInformation<unknown>): void {
  if (!containsGeneric(keyType.descriptor)) return;
  throw invalid(
    `keyBy with a key of type ${describeType(keyType.descriptor)}`,
    "declare a key type without GENERIC, for example Types.STRING() or Types.LONG()",
  );
}

/** A stream partitioned by key; state of its functions belongs to the current key. */
export class KeyedStream<T, K> {
  readonly #stream: DataStream<T>;
  readonly #keyBy: KeyBy;
  readonly keyType: TypeInformation<K>;

  constructor(stream: DataStream<T>, selector: KeySelector<T, K>, keyType: TypeInformation<K>) {
    checkKeyType(keyType);
    this.#stream = stream;
    this.#keyBy = { selector: selector as KeySelector<unknown, unknown>, type: keyType.descriptor };
    this.keyType = keyType;
  }

  /** Needs a `uid`: its state is found by it. */
  process<O>(
    fn: FunctionOrSupplier<KeyedProcessFunction<K, T, O>>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return this.#stream.addFunction(this.inputs(0), {
      fn,
      name: "keyed process",
      factory: keyedProcessFactory(fn as FunctionOrSupplier<KeyedProcessFunction<unknown, unknown, unknown>>),
      stateful: true,
      type: outputType,
    });
  }

  /** As on a stream without keys; a {@link RichMapFunction} may use keyed state and then needs a `uid`. */
  map<O>(
    fn: MapFunction<T, O> | RichMapFunction<T, O>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return this.#stream.addFunction(this.inputs(0), keyed(mapOf(fn, outputType)));
  }

  /** As on a stream without keys; a {@link RichFilterFunction} may use keyed state and then needs a `uid`. */
  filter(fn: FilterFunction<T> | RichFilterFunction<T>): SingleOutputStreamOperator<T> {
    return this.#stream.addFunction(this.inputs(0), keyed(filterOf(fn, this.#stream.type)));
  }

  /** As on a stream without keys; a {@link RichFlatMapFunction} may use keyed state and then needs a `uid`. */
  flatMap<O>(
    fn: FlatMapFunction<T, O> | RichFlatMapFunction<T, O>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return this.#stream.addFunction(this.inputs(0), keyed(flatMapOf(fn, outputType)));
  }

  /** As on a stream without keys; a {@link RichSinkFunction} may use keyed state and then needs a `uid`. */
  addSink(fn: SinkFunction<T> | RichSinkFunction<T>): DataStreamSink {
    return this.#stream.addSinkFunction(this.inputs(0), keyed(sinkOf(fn, this.#stream.type)));
  }

  /**
   * Rolling: one result for each record, of the key's last result and the record; the first record is its own result. Needs a `uid`, and
   * a stream of a declared type.
   */
  reduce(fn: ReduceFunction<T>): SingleOutputStreamOperator<T> {
    const { type } = this.#stream;
    const factory = reduceFactory(fn as ReduceFunction<unknown>, type.descriptor);
    return this.#stream.addOperator(this.inputs(0), { name: "reduce", factory, stateful: true, type });
  }

  /** Rolling sum of a field (rows by name, tuples by position, plain numbers without); other fields are those of the first record. */
  sum(field?: FieldOf<T>): SingleOutputStreamOperator<T> {
    return this.#aggregate("sum", field);
  }

  /** Rolling minimum of a field; other fields are those of the first record. */
  min(field?: FieldOf<T>): SingleOutputStreamOperator<T> {
    return this.#aggregate("min", field);
  }

  /** Rolling maximum of a field; other fields are those of the first record. */
  max(field?: FieldOf<T>): SingleOutputStreamOperator<T> {
    return this.#aggregate("max", field);
  }

  /** The record with the smallest value of a field so far; of equal ones the first, or the last if `first` is false. */
  minBy(field?: FieldOf<T>, first = true): SingleOutputStreamOperator<T> {
    return this.#aggregate("minBy", field, first);
  }

  /** The record with the largest value of a field so far; of equal ones the first, or the last if `first` is false. */
  maxBy(field?: FieldOf<T>, first = true): SingleOutputStreamOperator<T> {
    return this.#aggregate("maxBy", field, first);
  }

  #aggregate(aggregation: Aggregation, field: FieldOf<T> | undefined, first = true): SingleOutputStreamOperator<T> {
    const { type } = this.#stream;
    const factory = aggregateFactory({ aggregation, type: type.descriptor, field, first });
    return this.#stream.addOperator(this.inputs(0), { name: aggregation, factory, stateful: true, type });
  }

  /** Two keyed streams with one key space. */
  connect<U>(other: KeyedStream<U, K>): ConnectedKeyedStreams<T, U, K>;
  /** A keyed stream beside one that all subtasks get, with broadcast state. */
  connect<U>(other: BroadcastStream<U>): KeyedBroadcastConnectedStream<T, U, K>;
  connect<U>(
    other: KeyedStream<U, K> | BroadcastStream<U>,
  ): ConnectedKeyedStreams<T, U, K> | KeyedBroadcastConnectedStream<T, U, K> {
    if (other instanceof KeyedStream) return new ConnectedKeyedStreams(this, other);
    return new KeyedBroadcastConnectedStream(this, other);
  }

  /** @internal */
  inputs(inputIndex: 0 | 1): readonly TransformationInput[] {
    return this.#stream.inputs(inputIndex, this.#keyBy);
  }

  /** @internal */
  get stream(): DataStream<T> {
    return this.#stream;
  }
}

/** Two streams on their way to a function with two inputs. */
export class ConnectedStreams<A, B> {
  readonly #first: DataStream<A>;
  readonly #second: DataStream<B>;

  constructor(first: DataStream<A>, second: DataStream<B>) {
    this.#first = first;
    this.#second = second;
  }

  /** Keys both inputs; both selectors give keys of one type. */
  keyBy<K>(
    first: KeySelector<A, K>,
    second: KeySelector<B, K>,
    keyType: TypeInformation<K>,
  ): ConnectedKeyedStreams<A, B, K> {
    return new ConnectedKeyedStreams(this.#first.keyBy(first, keyType), this.#second.keyBy(second, keyType));
  }

  /** One record out for each record of either input. */
  map<O>(
    fn: FunctionOrSupplier<CoMapFunction<A, B, O>>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return this.#add(coMapOf(fn, outputType));
  }

  /** Any number of records out for each record of either input. */
  flatMap<O>(
    fn: FunctionOrSupplier<CoFlatMapFunction<A, B, O>>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return this.#add(coFlatMapOf(fn, outputType));
  }

  process<O>(
    fn: FunctionOrSupplier<CoProcessFunction<A, B, O>>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return this.#add({
      fn,
      name: "co-process",
      factory: coProcessFactory(fn as FunctionOrSupplier<CoProcessFunction<unknown, unknown, unknown>>),
      stateful: false,
      type: outputType,
    });
  }

  #add<O>(added: AddedFunction<O>): SingleOutputStreamOperator<O> {
    return this.#first.addFunction([...this.#first.inputs(0), ...this.#second.inputs(1)], added);
  }
}

/** Two keyed streams that share a key space. */
export class ConnectedKeyedStreams<A, B, K> {
  readonly #first: KeyedStream<A, K>;
  readonly #second: KeyedStream<B, K>;

  constructor(first: KeyedStream<A, K>, second: KeyedStream<B, K>) {
    if (!sameType(first.keyType.descriptor, second.keyType.descriptor)) {
      throw invalid(
        `connect of streams keyed by ${describeType(first.keyType.descriptor)} and ${describeType(second.keyType.descriptor)}`,
        "key both by the same type",
      );
    }
    this.#first = first;
    this.#second = second;
  }

  /** Needs a `uid`: its state is found by it. */
  process<O>(
    fn: FunctionOrSupplier<KeyedCoProcessFunction<K, A, B, O>>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return this.#add({
      fn,
      name: "keyed co-process",
      factory: keyedCoProcessFactory(
        fn as FunctionOrSupplier<KeyedCoProcessFunction<unknown, unknown, unknown, unknown>>,
      ),
      stateful: true,
      type: outputType,
    });
  }

  /** One record out for each record in; the function may use keyed state. Needs a `uid`. */
  map<O>(
    fn: FunctionOrSupplier<CoMapFunction<A, B, O>>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return this.#add(keyed(coMapOf(fn, outputType)));
  }

  /** Any number of records out for each record in; the function may use keyed state. Needs a `uid`. */
  flatMap<O>(
    fn: FunctionOrSupplier<CoFlatMapFunction<A, B, O>>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    return this.#add(keyed(coFlatMapOf(fn, outputType)));
  }

  #add<O>(added: AddedFunction<O>): SingleOutputStreamOperator<O> {
    return this.#first.stream.addFunction([...this.#first.inputs(0), ...this.#second.inputs(1)], added);
  }
}

/** A stream that every subtask gets, with the names of the states that are made of it. */
export class BroadcastStream<T> {
  /** @internal */
  readonly stream: DataStream<T>;
  /** @internal */
  readonly states: readonly MapStateDescriptor<unknown, unknown>[];

  constructor(stream: DataStream<T>, states: readonly AnyMapDescriptor[]) {
    this.stream = stream;
    this.states = checkBroadcastStates(states);
  }
}

/** A stream and a broadcast stream on their way to a function. */
export class BroadcastConnectedStream<A, B> {
  readonly #stream: DataStream<A>;
  readonly #broadcast: BroadcastStream<B>;

  constructor(stream: DataStream<A>, broadcast: BroadcastStream<B>) {
    this.#stream = stream;
    this.#broadcast = broadcast;
  }

  /** Needs a `uid`: its state is found by it. */
  process<O>(
    fn: FunctionOrSupplier<BroadcastProcessFunction<A, B, O>>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    const { stream, states } = this.#broadcast;
    const inputs = [...this.#stream.inputs(0), ...stream.inputs(1)];
    return this.#stream.addFunction(inputs, broadcastOf(fn, states, outputType));
  }
}

/** A keyed stream and a broadcast stream on their way to a function. */
export class KeyedBroadcastConnectedStream<A, B, K> {
  readonly #keyed: KeyedStream<A, K>;
  readonly #broadcast: BroadcastStream<B>;

  constructor(keyed: KeyedStream<A, K>, broadcast: BroadcastStream<B>) {
    this.#keyed = keyed;
    this.#broadcast = broadcast;
  }

  /** Needs a `uid`: its state is found by it. */
  process<O>(
    fn: FunctionOrSupplier<KeyedBroadcastProcessFunction<K, A, B, O>>,
    outputType: TypeInformation<O> = Types.GENERIC<O>(),
  ): SingleOutputStreamOperator<O> {
    const { stream, states } = this.#broadcast;
    const inputs = [...this.#keyed.inputs(0), ...stream.inputs(1)];
    return this.#keyed.stream.addFunction(inputs, keyedBroadcastOf(fn, states, outputType));
  }
}
