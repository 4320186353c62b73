// @sluice/runtime: what a job module imports. Everything listed here is public and keeps its meaning.
//
// Not here: the processes that run jobs; their parts are @sluice/runtime/internal/* and may change any time.

export {
  CheckpointConfig,
  CheckpointingMode,
  ConnectedKeyedStreams,
  ConnectedStreams,
  DataStream,
  DataStreamSink,
  EmbeddedRocksDBStateBackend,
  ExternalizedCheckpointCleanup,
  ExternalizedCheckpointRetention,
  HashMapStateBackend,
  KeyedStream,
  RestartStrategies,
  SingleOutputStreamOperator,
  StreamExecutionEnvironment,
} from "./datastream/index.ts";
export type { JobMain, RestartStrategy, StateBackend } from "./datastream/index.ts";
export {
  CollectionSource,
  DiscardSink,
  Encoders,
  FileSink,
  FileSource,
  GeneratorSource,
  NumberSequenceSource,
  PrintSink,
  SocketTextSource,
} from "./connectors/index.ts";
export type {
  CsvOptions,
  FileSourceOptions,
  GeneratorOptions,
  Paths,
  RecordEncoder,
  SocketTextOptions,
} from "./connectors/index.ts";
export type { FunctionOrSupplier, Sink, Source } from "./operators/index.ts";
export {
  AggregatingStateDescriptor,
  CoFlatMapFunction,
  CoMapFunction,
  CoProcessFunction,
  KeyedCoProcessFunction,
  KeyedProcessFunction,
  ListStateDescriptor,
  MapStateDescriptor,
  OutputTag,
  ProcessFunction,
  ReducingStateDescriptor,
  RichFilterFunction,
  RichFlatMapFunction,
  RichFunction,
  RichMapFunction,
  TypeInformation,
  Types,
  ValueStateDescriptor,
} from "./model/index.ts";
export type {
  AggregateFunction,
  AggregatingState,
  BroadcastState,
  CheckpointedFunction,
  CheckpointListener,
  Collector,
  FilterFunction,
  FlatMapFunction,
  FunctionInitializationContext,
  FunctionSnapshotContext,
  KeyedContext,
  KeyedStateStore,
  KeySelector,
  ListState,
  MapFunction,
  MapState,
  OperatorStateStore,
  Partitioner,
  ReadOnlyBroadcastState,
  ReduceFunction,
  ReducingState,
  RuntimeContext,
  SideOutputContext,
  TypeDescriptor,
  ValueState,
} from "./model/index.ts";
export { Failure, isFailure } from "@sluice/kit";
