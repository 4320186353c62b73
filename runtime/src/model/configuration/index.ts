// Configuration: every key that Flink has and Sluice knows, read and checked in one place (docs/configuration.md).

export { CheckpointingOptions, StateBackendOptions, StateRecoveryOptions } from "./checkpointing-options.ts";
export { configurationOf, EffectiveConfiguration, parseConfiguration } from "./configuration.ts";
export type { ConfigEntry, ConfigOrigin } from "./configuration.ts";
export { JVM_ONLY_PREFIXES } from "./known-options.ts";
export { ConfigOption } from "./option.ts";
export type { OptionStatus, OptionType } from "./option.ts";
export { findOption, NOT_IMPLEMENTED_OPTIONS, OPTION_GROUPS, optionNames } from "./registry.ts";
export type { OptionGroup } from "./registry.ts";
export {
  HeartbeatOptions,
  PipelineOptions,
  ProcessOptions,
  RestartStrategyOptions,
  S3Options,
  TaskManagerOptions,
} from "./runtime-options.ts";
export { runtimeSettings, s3Settings } from "./settings.ts";
export type { CheckpointSettings, LocalCopySettings, RestartSettings, RuntimeSettings } from "./settings.ts";
