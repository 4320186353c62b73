// What the options mean together: plain settings for the parts that act on them.
//
// Invariants:
//   ST1. Settings are consistent: whoever gets them checks nothing again.
//   ST2. A value that another value overrules is reported as a warning, not changed silently.

import { Failure } from "@sluice/kit";
import type { CheckpointingMode } from "../checkpoint.ts";
import type { S3Config, StoreConfig } from "../process.ts";
import { CheckpointingOptions, StateRecoveryOptions } from "./checkpointing-options.ts";
import type { EffectiveConfiguration } from "./configuration.ts";
import {
  HeartbeatOptions,
  PipelineOptions,
  ProcessOptions,
  RestartStrategyOptions,
  S3Options,
  TaskManagerOptions,
} from "./runtime-options.ts";

/** Of periodic checkpoints: the shape of checkpoint/CheckpointConfig. */
export interface CheckpointSettings {
  readonly mode: CheckpointingMode;
  /** null: no periodic checkpoints. */
  readonly intervalMs: number | null;
  readonly timeoutMs: number;
  readonly minPauseMs: number;
  readonly concurrentMax: number;
  readonly tolerableFailedCount: number;
  readonly retainedMax: number;
  /** The objects of a condemned checkpoint are deleted side by side. */
  readonly cleansInParallel: boolean;
  /** Ended checkpoints that are remembered for people. */
  readonly historyMax: number;
}

export type RestartSettings =
  | { readonly type: "none" }
  | { readonly type: "fixed-delay"; readonly attemptsMax: number; readonly delayMs: number }
  | {
      readonly type: "failure-rate";
      /** Failures within `intervalMs` that do not fail the job. */
      readonly failuresMax: number;
      readonly intervalMs: number;
      readonly delayMs: number;
    }
  | {
      readonly type: "exponential-delay";
      readonly initialMs: number;
      readonly maxMs: number;
      readonly multiplier: number;
      readonly jitter: number;
      readonly resetAfterMs: number;
      readonly attemptsMax: number;
      readonly firstAtOnce: boolean;
    };

/** Copies of snapshots on the TaskManagers' own disks. */
export interface LocalCopySettings {
  readonly enabled: boolean;
  /** Undefined: in the TaskManager's work directory. */
  readonly directories: readonly string[] | undefined;
  readonly bytesMax: number;
  /** Recovery looks there first; without copies there is nothing to look at. */
  readonly readsFirst: boolean;
}

export interface RuntimeSettings {
  readonly checkpoints: CheckpointSettings;
  /** False: the checkpoints of a cancelled job are deleted. */
  readonly retainOnCancellation: boolean;
  readonly store: StoreConfig | undefined;
  /** Where to start from, as a new lineage. */
  readonly restorePath: string | undefined;
  readonly claimMode: "NO_CLAIM" | "CLAIM";
  /** Where savepoints go by default, a URI. */
  readonly savepointDirectory: string | undefined;
  /** To reach any other S3 store by. */
  readonly s3: S3Config;
  readonly allowReplay: number | undefined;
  /** State whose operator is not in the job any more is dropped instead of refused. */
  readonly ignoreUnclaimedState: boolean;
  readonly localCopies: LocalCopySettings;
  readonly restart: RestartSettings;
  readonly heartbeatIntervalMs: number;
  readonly heartbeatTimeoutMs: number;
  readonly parallelism: number;
  /** Undefined: derived from the parallelism. */
  readonly maxParallelism: number | undefined;
  /** Infinity: a batch leaves when it is full. */
  readonly bufferTimeoutMs: number;
  readonly slotsPerTaskManager: number;
  readonly slotHeapBytes: number | undefined;
  readonly stuckTimeoutMs: number;
  readonly cancellationTimeoutMs: number;
  readonly planTimeoutMs: number;
  /** Failures that are remembered for people. */
  readonly exceptionHistoryMax: number;
  /** False: the JobManager stays when its job has ended. */
  readonly shutsDownOnFinish: boolean;
  readonly warnings: readonly string[];
}

/** Throws CONFIG_INVALID for values that contradict each other. */
export function runtimeSettings(configuration: EffectiveConfiguration): RuntimeSettings {
  const warnings = [...configuration.warnings];
  const parallelism = configuration.get(PipelineOptions.PARALLELISM);
  const maxParallelism = configuration.get(PipelineOptions.MAX_PARALLELISM);
  if (maxParallelism === 0)
    throw contradiction("pipeline.max-parallelism is 0", "Give at least 1, or -1 to have it derived.");
  if (maxParallelism > 0 && parallelism > maxParallelism) {
    throw contradiction(
      `parallelism.default ${parallelism} is above pipeline.max-parallelism ${maxParallelism}`,
      "Lower the one or raise the other; the max parallelism of existing state cannot change.",
    );
  }
  const heartbeatIntervalMs = configuration.get(HeartbeatOptions.INTERVAL);
  const heartbeatTimeoutMs = configuration.get(HeartbeatOptions.TIMEOUT);
  if (heartbeatTimeoutMs <= heartbeatIntervalMs) {
    throw contradiction(
      `heartbeat.timeout ${heartbeatTimeoutMs} ms is not longer than heartbeat.interval ${heartbeatIntervalMs} ms`,
      "Give a timeout of several intervals.",
    );
  }
  return {
    checkpoints: checkpointSettings(configuration, warnings),
    retainOnCancellation: configuration.get(CheckpointingOptions.EXTERNALIZED_RETENTION) === "RETAIN_ON_CANCELLATION",
    store: storeSettings(configuration),
    restorePath: configuration.get(StateRecoveryOptions.PATH),
    claimMode: configuration.get(StateRecoveryOptions.CLAIM_MODE),
    savepointDirectory: configuration.get(CheckpointingOptions.SAVEPOINT_DIRECTORY),
    s3: s3Settings(configuration),
    allowReplay: configuration.get(StateRecoveryOptions.ALLOW_REPLAY),
    ignoreUnclaimedState: configuration.get(StateRecoveryOptions.IGNORE_UNCLAIMED_STATE),
    localCopies: {
      enabled: configuration.get(CheckpointingOptions.LOCAL_BACKUP_ENABLED),
      directories: configuration.get(CheckpointingOptions.LOCAL_BACKUP_DIRS),
      bytesMax: configuration.get(CheckpointingOptions.LOCAL_BACKUP_BYTES_MAX),
      readsFirst:
        configuration.get(CheckpointingOptions.LOCAL_BACKUP_ENABLED) &&
        configuration.get(StateRecoveryOptions.FROM_LOCAL),
    },
    restart: restartSettings(configuration),
    heartbeatIntervalMs,
    heartbeatTimeoutMs,
    parallelism,
    maxParallelism: maxParallelism > 0 ? maxParallelism : undefined,
    bufferTimeoutMs: configuration.get(PipelineOptions.BUFFER_TIMEOUT_ENABLED)
      ? configuration.get(PipelineOptions.BUFFER_TIMEOUT)
      : Number.POSITIVE_INFINITY,
    slotsPerTaskManager: configuration.get(TaskManagerOptions.NUM_TASK_SLOTS),
    slotHeapBytes: configuration.get(TaskManagerOptions.HEAP_SIZE),
    stuckTimeoutMs: configuration.get(TaskManagerOptions.STUCK_TIMEOUT),
    cancellationTimeoutMs: configuration.get(TaskManagerOptions.CANCELLATION_TIMEOUT),
    planTimeoutMs: configuration.get(ProcessOptions.PLAN_TIMEOUT),
    exceptionHistoryMax: configuration.get(ProcessOptions.EXCEPTION_HISTORY_SIZE),
    shutsDownOnFinish: configuration.get(ProcessOptions.SHUTDOWN_ON_FINISH),
    warnings,
  };
}

function checkpointSettings(configuration: EffectiveConfiguration, warnings: string[]): CheckpointSettings {
  const intervalMs = configuration.get(CheckpointingOptions.CHECKPOINTING_INTERVAL) ?? null;
  const minPauseMs = configuration.get(CheckpointingOptions.MIN_PAUSE);
  const concurrentMax = configuration.get(CheckpointingOptions.MAX_CONCURRENT);
  if (minPauseMs > 0 && concurrentMax > 1) {
    // Flink: max-concurrent-checkpoints has no effect once a minimum pause is defined
    warnings.push(
      `execution.checkpointing.min-pause is set, so one checkpoint runs at a time and max-concurrent-checkpoints ${concurrentMax} has no effect`,
    );
  }
  return {
    mode: configuration.get(CheckpointingOptions.CHECKPOINTING_MODE),
    intervalMs,
    timeoutMs: configuration.get(CheckpointingOptions.CHECKPOINTING_TIMEOUT),
    minPauseMs,
    concurrentMax: minPauseMs > 0 ? 1 : concurrentMax,
    tolerableFailedCount: configuration.get(CheckpointingOptions.TOLERABLE_FAILED),
    retainedMax: configuration.get(CheckpointingOptions.MAX_RETAINED),
    cleansInParallel: configuration.get(CheckpointingOptions.CLEANER_PARALLEL_MODE),
    historyMax: configuration.get(ProcessOptions.CHECKPOINTS_HISTORY),
  };
}

function restartSettings(configuration: EffectiveConfiguration): RestartSettings {
  const periodic = configuration.get(CheckpointingOptions.CHECKPOINTING_INTERVAL) !== undefined;
  const type = configuration.get(RestartStrategyOptions.RESTART_STRATEGY) ?? (periodic ? "exponential-delay" : "none");
  if (type === "none") return { type };
  if (type === "fixed-delay") {
    return {
      type,
      attemptsMax: configuration.get(RestartStrategyOptions.FIXED_DELAY_ATTEMPTS),
      delayMs: configuration.get(RestartStrategyOptions.FIXED_DELAY_DELAY),
    };
  }
  if (type === "failure-rate") {
    return {
      type,
      failuresMax: configuration.get(RestartStrategyOptions.FAILURE_RATE_MAX),
      intervalMs: configuration.get(RestartStrategyOptions.FAILURE_RATE_INTERVAL),
      delayMs: configuration.get(RestartStrategyOptions.FAILURE_RATE_DELAY),
    };
  }
  const initialMs = configuration.get(RestartStrategyOptions.EXPONENTIAL_INITIAL_BACKOFF);
  const maxMs = configuration.get(RestartStrategyOptions.EXPONENTIAL_MAX_BACKOFF);
  if (maxMs < initialMs) {
    throw contradiction(
      `restart-strategy.exponential-delay.max-backoff ${maxMs} ms is below initial-backoff ${initialMs} ms`,
      "Raise the one or lower the other.",
    );
  }
  return {
    type: "exponential-delay",
    initialMs,
    maxMs,
    multiplier: configuration.get(RestartStrategyOptions.EXPONENTIAL_MULTIPLIER),
    jitter: configuration.get(RestartStrategyOptions.EXPONENTIAL_JITTER),
    resetAfterMs: configuration.get(RestartStrategyOptions.EXPONENTIAL_RESET_THRESHOLD),
    attemptsMax: configuration.get(RestartStrategyOptions.EXPONENTIAL_ATTEMPTS),
    firstAtOnce: configuration.get(RestartStrategyOptions.EXPONENTIAL_FIRST_AT_ONCE),
  };
}

function storeSettings(configuration: EffectiveConfiguration): StoreConfig | undefined {
  const uri = configuration.get(CheckpointingOptions.CHECKPOINTS_DIRECTORY);
  return uri === undefined ? undefined : { uri, ...s3Settings(configuration) };
}

/** The part of a configuration that says how S3 is reached. Throws CONFIG_INVALID. */
export function s3Settings(configuration: EffectiveConfiguration): S3Config {
  const endpoint = configuration.get(S3Options.ENDPOINT);
  const region = configuration.get(S3Options.REGION);
  if (endpoint !== undefined && !/^https?:\/\/[^/]+\/?$/.test(endpoint)) {
    throw contradiction(`s3.endpoint "${endpoint}" is not an address`, "Give http://host:port or https://host:port.");
  }
  return {
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
    ...(configuration.get(S3Options.PATH_STYLE) ? {} : { pathStyle: false }),
  };
}

function contradiction(message: string, remedy: string): Failure {
  return new Failure("CONFIG_INVALID", { retry: "never", message, remedy });
}
