// State backends and restart strategies as objects that code passes to the environment; each is a few configuration keys.

import { setInt, setKey, setMillis, setNumber, type Configuration } from "./checkpoint-config.ts";

/** What `setStateBackend` takes. */
export interface StateBackend {
  /** Writes its keys. */
  applyTo(configuration: Configuration): void;
}

/** Keyed state on the heap (Flink: HashMapStateBackend). The default. */
export class HashMapStateBackend implements StateBackend {
  applyTo(configuration: Configuration): void {
    setKey(configuration, "state.backend.type", "hashmap");
  }
}

/** Keyed state in RocksDB. Recorded; planning refuses it with CONFIG_NOT_IMPLEMENTED until the backend exists. */
export class EmbeddedRocksDBStateBackend implements StateBackend {
  readonly #incremental: boolean;

  constructor(incremental = false) {
    this.#incremental = incremental;
  }

  applyTo(configuration: Configuration): void {
    setKey(configuration, "state.backend.type", "rocksdb");
    setKey(configuration, "execution.checkpointing.incremental", String(this.#incremental));
  }
}

/** What `setRestartStrategy` takes. */
export interface RestartStrategy {
  /** Writes its keys. */
  applyTo(configuration: Configuration): void;
}

/** Flink: RestartStrategies; durations are milliseconds. */
export const RestartStrategies = {
  /** A failure ends the job. */
  noRestart: (): RestartStrategy => ({
    applyTo: (configuration) => setKey(configuration, "restart-strategy.type", "none"),
  }),
  fixedDelayRestart: (attempts: number, delayMs: number): RestartStrategy => ({
    applyTo(configuration) {
      setKey(configuration, "restart-strategy.type", "fixed-delay");
      setInt(configuration, "restart-strategy.fixed-delay.attempts", attempts, 0);
      setMillis(configuration, "restart-strategy.fixed-delay.delay", delayMs, 0);
    },
  }),
  /** Up to `failureRate` failures within `failureIntervalMs` restart the job; one more ends it. */
  failureRateRestart: (failureRate: number, failureIntervalMs: number, delayMs: number): RestartStrategy => ({
    applyTo(configuration) {
      const prefix = "restart-strategy.failure-rate";
      setKey(configuration, "restart-strategy.type", "failure-rate");
      setInt(configuration, `${prefix}.max-failures-per-interval`, failureRate, 1);
      setMillis(configuration, `${prefix}.failure-rate-interval`, failureIntervalMs, 1);
      setMillis(configuration, `${prefix}.delay`, delayMs, 0);
    },
  }),
  /** The default of a checkpointed job; what is left out keeps its default. */
  exponentialDelayRestart: (
    options: {
      readonly initialBackoffMs?: number;
      readonly maxBackoffMs?: number;
      readonly backoffMultiplier?: number;
      readonly resetBackoffThresholdMs?: number;
      readonly jitterFactor?: number;
    } = {},
  ): RestartStrategy => ({
    applyTo(configuration) {
      const prefix = "restart-strategy.exponential-delay";
      setKey(configuration, "restart-strategy.type", "exponential-delay");
      const { initialBackoffMs, maxBackoffMs, backoffMultiplier, resetBackoffThresholdMs, jitterFactor } = options;
      if (initialBackoffMs !== undefined) setMillis(configuration, `${prefix}.initial-backoff`, initialBackoffMs, 0);
      if (maxBackoffMs !== undefined) setMillis(configuration, `${prefix}.max-backoff`, maxBackoffMs, 1);
      if (backoffMultiplier !== undefined)
        setNumber(configuration, `${prefix}.backoff-multiplier`, backoffMultiplier, 1, 1_000);
      if (resetBackoffThresholdMs !== undefined) {
        setMillis(configuration, `${prefix}.reset-backoff-threshold`, resetBackoffThresholdMs, 1);
      }
      if (jitterFactor !== undefined) setNumber(configuration, `${prefix}.jitter-factor`, jitterFactor, 0, 1);
    },
  }),
} as const;
