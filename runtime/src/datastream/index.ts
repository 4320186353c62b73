// Public module of runtime/datastream: the API that jobs are written with, and how a job becomes a graph.

export { StreamExecutionEnvironment } from "./environment.ts";
export type { JobMain } from "./environment.ts";
export { buildGraph } from "./build-graph.ts";
export type { BuildGraphOptions } from "./build-graph.ts";
export {
  BroadcastConnectedStream,
  BroadcastStream,
  ConnectedKeyedStreams,
  ConnectedStreams,
  DataStream,
  KeyedBroadcastConnectedStream,
  KeyedStream,
  SingleOutputStreamOperator,
} from "./data-stream.ts";
export { Parameters } from "./parameters.ts";
export type {
  Parameter,
  ParameterDeclarations,
  ParameterOptions,
  ParameterValue,
  ParameterValues,
} from "./parameters.ts";
export type { EnvironmentOptions } from "./declared-environment.ts";
export { AsyncDataStream, AsyncRetryStrategies } from "./async-data-stream.ts";
export type { RetryOptions } from "./async-data-stream.ts";
export { DataStreamSink } from "./data-stream-sink.ts";
export {
  CheckpointConfig,
  CheckpointingMode,
  ExternalizedCheckpointCleanup,
  ExternalizedCheckpointRetention,
} from "./checkpoint-config.ts";
export { EmbeddedRocksDBStateBackend, HashMapStateBackend, RestartStrategies } from "./strategies.ts";
export type { RestartStrategy, StateBackend } from "./strategies.ts";
