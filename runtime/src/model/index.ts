// Public module of runtime/model: the vocabulary that all other folders share. Types and small pure helpers, no behaviour.

export { canBeKey, keyHasher } from "./key-hash.ts";
export type { KeyHasher } from "./key-hash.ts";
export { valueFromJson, valueToJson } from "./json-value.ts";
export { containsGeneric, describeType, sameType } from "./type-descriptor.ts";
export type { JsonValue, TypeDescriptor, TypeKind } from "./type-descriptor.ts";
export { TypeInformation, Types } from "./types.ts";
export {
  AggregatingStateDescriptor,
  ListStateDescriptor,
  MapStateDescriptor,
  ReducingStateDescriptor,
  ValueStateDescriptor,
} from "./state.ts";
export type {
  AggregateFunction,
  AggregatingState,
  KeyedStateStore,
  ListState,
  MapState,
  ReduceFunction,
  ReducingState,
  StateDescriptor,
  StateDescriptorOptions,
  StateKind,
  StateTtlConfig,
  StoredStateKind,
  TtlStateVisibility,
  TtlUpdateType,
  ValueState,
} from "./state.ts";
export { KeyedCoProcessFunction, KeyedProcessFunction, OutputTag, ProcessFunction, RichFunction } from "./functions.ts";
export {
  CoFlatMapFunction,
  CoMapFunction,
  CoProcessFunction,
  RichFilterFunction,
  RichFlatMapFunction,
  RichMapFunction,
} from "./rich-functions.ts";
export type { FlatMapFunction } from "./rich-functions.ts";
export { RichSinkFunction } from "./sink-function.ts";
export type { SinkContext, SinkFunction } from "./sink-function.ts";
export type {
  Collector,
  FilterFunction,
  KeyedContext,
  KeySelector,
  MapFunction,
  OnTimerContext,
  Partitioner,
  RuntimeContext,
  SideOutputContext,
  TimeDomain,
  TimerService,
} from "./functions.ts";
export { SAVEPOINT_LOCATION_BYTES_MAX, subtaskKey } from "./checkpoint.ts";
export { BroadcastProcessFunction, KeyedBroadcastProcessFunction } from "./broadcast-functions.ts";
export type {
  BroadcastContext,
  KeyedBroadcastContext,
  KeyedBroadcastOnTimerContext,
  KeyedReadOnlyBroadcastContext,
  ReadOnlyBroadcastContext,
  StateOf,
} from "./broadcast-functions.ts";
export type {
  BroadcastState,
  CheckpointedFunction,
  CheckpointListener,
  FunctionInitializationContext,
  FunctionSnapshotContext,
  OperatorStateStore,
  ReadOnlyBroadcastState,
} from "./checkpointed.ts";
export type {
  AttemptNumber,
  Barrier,
  CheckpointAck,
  CheckpointId,
  CheckpointingMode,
  CheckpointMetadata,
  Epoch,
  OperatorStateMode,
  PartHandle,
  PartKind,
  SavepointTarget,
  SnapshotPart,
  SubtaskCheckpointStats,
  SubtaskId,
} from "./checkpoint.ts";
export { connects } from "./plan.ts";
export type { OperatorSchema, StateSchema } from "./schema.ts";
export type {
  JobPlan,
  Partitioning,
  PlanEdge,
  PlanEnvironment,
  PlanOperator,
  PlanVertex,
  SideOutputRef,
} from "./plan.ts";
export { HISTOGRAM_FIGURES } from "./metrics.ts";
export type {
  Counter,
  Histogram,
  HistogramFigure,
  HistogramStatistics,
  Meter,
  MetricGroup,
  MetricSample,
  OperatorMetrics,
} from "./metrics.ts";
export { AsyncFunction } from "./async.ts";
export type { AsyncInvoke, AsyncResult, AsyncRetryStrategy } from "./async.ts";
export type {
  DeferringOperator,
  JobContext,
  KeyedStateAccess,
  OneInputOperator,
  Operator,
  OperatorContext,
  OperatorFactory,
  OperatorState,
  OperatorStateContent,
  OperatorStateItem,
  RestoredOperatorState,
  SourceOperator,
  SourceStatus,
  SubtaskInfo,
  TimerTarget,
  TwoInputOperator,
} from "./operator.ts";
export { isTaskOver, NOTHING_READ } from "./slot.ts";
export type {
  ChannelSpec,
  FetchedParts,
  PartsRead,
  RestorePart,
  SlotCommand,
  SlotEvent,
  SlotPort,
  SlotSpec,
  SnapshotSubmission,
  TaskRestore,
  TaskRestored,
  TaskSpec,
  TaskState,
} from "./slot.ts";
export type { EndOfLog, JobManagerConfig, ProcessEvent, S3Config, StoreConfig, TaskManagerConfig } from "./process.ts";
export {
  CheckpointingOptions,
  ConfigOption,
  configurationOf,
  EffectiveConfiguration,
  findOption,
  HeartbeatOptions,
  NOT_IMPLEMENTED_OPTIONS,
  OPTION_GROUPS,
  optionNames,
  JVM_ONLY_PREFIXES,
  parseConfiguration,
  PipelineOptions,
  ProcessOptions,
  RestartStrategyOptions,
  runtimeSettings,
  S3Options,
  StateBackendOptions,
  StateRecoveryOptions,
  TaskManagerOptions,
  s3Settings,
} from "./configuration/index.ts";
export type {
  CheckpointSettings,
  ConfigEntry,
  ConfigOrigin,
  OptionGroup,
  OptionStatus,
  OptionType,
  RestartSettings,
  RuntimeSettings,
} from "./configuration/index.ts";
