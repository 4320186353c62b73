// How a job is checkpointed, as code says it. Every setter writes a Flink-named key: code, -D and file are one configuration.
//
// Invariants:
//   CC1. The configuration map is the only place; a getter reads what a setter, -D or a file wrote.
//   CC2. A value that cannot be right is refused where it is given (Failure CONFIG_INVALID).
//
// Not here: defaults and the parsing of keys that the processes use.

import { Failure } from "@sluice/kit";
import type { CheckpointingMode as Mode } from "../model/index.ts";

/** Guarantee of state after a failure (Flink: CheckpointingMode). */
export const CheckpointingMode = {
  EXACTLY_ONCE: "EXACTLY_ONCE",
  AT_LEAST_ONCE: "AT_LEAST_ONCE",
} as const satisfies Record<string, Mode>;
export type CheckpointingMode = Mode;

/** What becomes of the last checkpoint when the job is cancelled (Flink: ExternalizedCheckpointRetention). */
export const ExternalizedCheckpointRetention = {
  RETAIN_ON_CANCELLATION: "RETAIN_ON_CANCELLATION",
  DELETE_ON_CANCELLATION: "DELETE_ON_CANCELLATION",
  NO_EXTERNALIZED_CHECKPOINTS: "NO_EXTERNALIZED_CHECKPOINTS",
} as const;
export type ExternalizedCheckpointRetention =
  (typeof ExternalizedCheckpointRetention)[keyof typeof ExternalizedCheckpointRetention];

/** The older name of {@link ExternalizedCheckpointRetention}. */
export const ExternalizedCheckpointCleanup = ExternalizedCheckpointRetention;
export type ExternalizedCheckpointCleanup = ExternalizedCheckpointRetention;

/** The configuration of one job under construction. */
export type Configuration = Map<string, string>;

export function setKey(configuration: Configuration, key: string, value: string): void {
  configuration.set(key, value);
}

/** A duration in milliseconds under a Flink key, as Flink writes durations. */
export function setMillis(configuration: Configuration, key: string, valueMs: number, minMs: number): void {
  setKey(configuration, key, `${checkInt(key, valueMs, minMs)} ms`);
}

export function setInt(configuration: Configuration, key: string, value: number, min: number): void {
  setKey(configuration, key, String(checkInt(key, value, min)));
}

/** A number with a fraction, within bounds. */
export function setNumber(configuration: Configuration, key: string, value: number, min: number, max: number): void {
  if (!(Number.isFinite(value) && value >= min && value <= max))
    throw refuse(key, value, `a number from ${min} to ${max}`);
  setKey(configuration, key, String(value));
}

export function setOneOf(configuration: Configuration, key: string, value: string, allowed: readonly string[]): void {
  if (!allowed.includes(value)) throw refuse(key, value, `one of ${allowed.join(", ")}`);
  setKey(configuration, key, value);
}

/** The value, when it is a whole number of at least `min`; else Failure CONFIG_INVALID naming `key`. */
export function checkInt(key: string, value: number, min: number): number {
  if (!(Number.isSafeInteger(value) && value >= min)) throw refuse(key, value, `a whole number of at least ${min}`);
  return value;
}

export function setPlace(configuration: Configuration, key: string, uri: string): void {
  if (!/^[a-z][a-z0-9+.-]*:\/\/.+/i.test(uri))
    throw refuse(key, uri, "a URI, for example file:///var/checkpoints or s3://bucket/prefix");
  setKey(configuration, key, uri);
}

function refuse(key: string, value: unknown, wanted: string): Failure {
  return new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `${key} was set to ${String(value)}`,
    remedy: `give ${wanted}`,
  });
}

/** Flink: CheckpointConfig. Durations are milliseconds. */
export class CheckpointConfig {
  readonly #configuration: Configuration;

  constructor(configuration: Configuration) {
    this.#configuration = configuration;
  }

  /** Time between the starts of two checkpoints. */
  setCheckpointInterval(intervalMs: number): this {
    setMillis(this.#configuration, "execution.checkpointing.interval", intervalMs, 10); // Flink's minimum
    return this;
  }

  /** Default EXACTLY_ONCE. */
  setCheckpointingMode(mode: CheckpointingMode): this {
    setOneOf(this.#configuration, "execution.checkpointing.mode", mode, Object.values(CheckpointingMode));
    return this;
  }

  getCheckpointingMode(): CheckpointingMode {
    const mode = this.#configuration.get("execution.checkpointing.mode");
    return mode === CheckpointingMode.AT_LEAST_ONCE ? mode : CheckpointingMode.EXACTLY_ONCE;
  }

  /** Shortest time between the end of a checkpoint and the start of the next. Default 0. */
  setMinPauseBetweenCheckpoints(pauseMs: number): this {
    setMillis(this.#configuration, "execution.checkpointing.min-pause", pauseMs, 0);
    return this;
  }

  /** A checkpoint that takes longer is aborted. Default 10 minutes. */
  setCheckpointTimeout(timeoutMs: number): this {
    setMillis(this.#configuration, "execution.checkpointing.timeout", timeoutMs, 10);
    return this;
  }

  /** Default 1. */
  setMaxConcurrentCheckpoints(count: number): this {
    setInt(this.#configuration, "execution.checkpointing.max-concurrent-checkpoints", count, 1);
    return this;
  }

  /** Consecutive failed checkpoints that the job survives. Default 0. */
  setTolerableCheckpointFailureNumber(count: number): this {
    setInt(this.#configuration, "execution.checkpointing.tolerable-failed-checkpoints", count, 0);
    return this;
  }

  setExternalizedCheckpointRetention(retention: ExternalizedCheckpointRetention): this {
    setOneOf(
      this.#configuration,
      "execution.checkpointing.externalized-checkpoint-retention",
      retention,
      Object.values(ExternalizedCheckpointRetention),
    );
    return this;
  }

  /** The older name of {@link setExternalizedCheckpointRetention}. */
  setExternalizedCheckpointCleanup(cleanup: ExternalizedCheckpointCleanup): this {
    return this.setExternalizedCheckpointRetention(cleanup);
  }

  /** Where checkpoints are stored: `file:///dir` or `s3://bucket/prefix`. */
  setCheckpointStorage(uri: string): this {
    setPlace(this.#configuration, "execution.checkpointing.dir", uri);
    setKey(this.#configuration, "execution.checkpointing.storage", "filesystem");
    return this;
  }
}
