// Which keys of Flink's configuration the fields of a StreamJob set, and which ones the operator sets itself.
//
// Invariants:
//   CK1. Every older name of a key is listed with it: what is refused under one name is refused under all (a test compares with the
//        runtime's registry).
//
// Not here: the values (configuration.ts).

import type { CelRule } from "../schema.ts";

/** Typed fields by key: path of the field below `spec`. The first key of a field is the one that is set, the others are older names. */
export const FIELD_KEYS: Readonly<Record<string, readonly string[]>> = {
  parallelism: ["parallelism.default"],
  maxParallelism: ["pipeline.max-parallelism"],
  allowNonRestoredState: [
    "execution.state-recovery.ignore-unclaimed-state",
    "execution.savepoint.ignore-unclaimed-state",
  ],
  "initialSnapshot.path": ["execution.state-recovery.path", "execution.savepoint.path"],
  "initialSnapshot.claimMode": [
    "execution.state-recovery.claim-mode",
    "execution.savepoint-restore-mode",
    "execution.savepoint.restore-mode",
  ],
  "checkpointing.dir": ["execution.checkpointing.dir", "state.checkpoints.dir", "state.backend.fs.checkpointdir"],
  "checkpointing.savepointDir": ["execution.checkpointing.savepoint-dir", "state.savepoints.dir"],
  "checkpointing.interval": ["execution.checkpointing.interval"],
  "checkpointing.mode": ["execution.checkpointing.mode"],
  "checkpointing.timeout": ["execution.checkpointing.timeout"],
  "checkpointing.minPause": ["execution.checkpointing.min-pause"],
  "checkpointing.maxConcurrent": ["execution.checkpointing.max-concurrent-checkpoints"],
  "checkpointing.tolerableFailures": ["execution.checkpointing.tolerable-failed-checkpoints"],
  "checkpointing.retained": ["execution.checkpointing.num-retained", "state.checkpoints.num-retained"],
  "checkpointing.cleanup": ["execution.checkpointing.externalized-checkpoint-retention"],
  "restartStrategy.type": ["restart-strategy.type", "restart-strategy"],
  "restartStrategy.fixedDelay.attempts": ["restart-strategy.fixed-delay.attempts"],
  "restartStrategy.fixedDelay.delay": ["restart-strategy.fixed-delay.delay"],
  "restartStrategy.failureRate.maxFailuresPerInterval": ["restart-strategy.failure-rate.max-failures-per-interval"],
  "restartStrategy.failureRate.failureRateInterval": ["restart-strategy.failure-rate.failure-rate-interval"],
  "restartStrategy.failureRate.delay": ["restart-strategy.failure-rate.delay"],
  "restartStrategy.exponentialDelay.initialBackoff": ["restart-strategy.exponential-delay.initial-backoff"],
  "restartStrategy.exponentialDelay.maxBackoff": ["restart-strategy.exponential-delay.max-backoff"],
  "restartStrategy.exponentialDelay.backoffMultiplier": ["restart-strategy.exponential-delay.backoff-multiplier"],
  "restartStrategy.exponentialDelay.resetBackoffThreshold": [
    "restart-strategy.exponential-delay.reset-backoff-threshold",
  ],
  "restartStrategy.exponentialDelay.jitterFactor": ["restart-strategy.exponential-delay.jitter-factor"],
  "restartStrategy.exponentialDelay.attemptsBeforeResetBackoff": [
    "restart-strategy.exponential-delay.attempts-before-reset-backoff",
  ],
  "objectStore.endpoint": ["s3.endpoint", "fs.s3a.endpoint"],
  "objectStore.region": ["s3.endpoint.region", "s3.region"],
  "taskManager.slots": ["taskmanager.numberOfTaskSlots"],
  "taskManager.localState.sizeLimit": ["sluice.checkpointing.local-backup.max-size"],
  "taskManager.resources.memory": ["sluice.taskmanager.slot-heap-size"],
};

/** What the operator decides: names, ports and directories of its pods. */
export const OPERATOR_KEYS: readonly string[] = [
  "pipeline.name",
  "rest.port",
  "rest.bind-address",
  "rest.address",
  "metrics.reporter.prom.port",
  "execution.checkpointing.local-backup.dirs",
  "taskmanager.state.local.root-dirs",
  "execution.shutdown-on-application-finish",
];

/** Whatever begins with it is set by `restartStrategy`: one rule instead of one per key. */
const RESTART_PREFIX = "restart-strategy";

function noneOf(keys: readonly string[]): string {
  return keys.map((key) => `!('${key}' in self)`).join(" && ");
}

/** The rules of `spec.configuration`: one per field, and one for what the operator decides. */
export function configurationRules(): readonly CelRule[] {
  const fields = Object.entries(FIELD_KEYS).filter(([field]) => !field.startsWith("restartStrategy."));
  return [
    ...fields.map(([field, keys]) => ({
      rule: noneOf(keys),
      message: `${keys[0]}${keys.length > 1 ? " (and its older names)" : ""}: set spec.${field} instead`,
    })),
    {
      rule: `!self.exists(k, k.startsWith('${RESTART_PREFIX}'))`,
      message: `${RESTART_PREFIX}.*: set spec.restartStrategy instead`,
    },
    {
      rule: noneOf(OPERATOR_KEYS),
      message: `${OPERATOR_KEYS.join(", ")}: the operator sets these for its pods, leave them out`,
    },
  ];
}
