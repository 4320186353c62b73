// Options of checkpointing, recovery and state. Names and meanings are Flink's (CheckpointingOptions, StateRecoveryOptions,
// StateBackendOptions); keys that are ours say so.

import {
  boolean,
  directories,
  duration,
  int,
  memory,
  oneOf,
  optional,
  storeUri,
  string,
  withDefault,
} from "./option.ts";

/** Flink: CheckpointingOptions. */
export const CheckpointingOptions = {
  CHECKPOINTING_INTERVAL: optional({
    key: "execution.checkpointing.interval",
    type: duration({ minMs: 10 }),
    description:
      "Time between the starts of periodic checkpoints. Without it there are none, and only the final checkpoint of a job whose input ends is taken.",
  }),
  CHECKPOINTING_MODE: withDefault({
    key: "execution.checkpointing.mode",
    type: oneOf(["EXACTLY_ONCE", "AT_LEAST_ONCE"]),
    default: "EXACTLY_ONCE",
    description:
      "EXACTLY_ONCE: tasks with several inputs align barriers. AT_LEAST_ONCE: they do not wait, and records may count twice after a restore.",
  }),
  CHECKPOINTING_TIMEOUT: withDefault({
    key: "execution.checkpointing.timeout",
    type: duration({ minMs: 10 }),
    default: "10 min",
    description: "A checkpoint that takes longer is aborted and counts as failed.",
  }),
  MIN_PAUSE: withDefault({
    key: "execution.checkpointing.min-pause",
    type: duration(),
    default: "0 ms",
    description:
      "Shortest time from the end of one checkpoint to the start of the next periodic one. Above zero only one checkpoint runs at a time.",
  }),
  MAX_CONCURRENT: withDefault({
    key: "execution.checkpointing.max-concurrent-checkpoints",
    type: int({ min: 1 }),
    default: "1",
    description: "Checkpoints that may be in progress at the same time.",
  }),
  TOLERABLE_FAILED: withDefault({
    key: "execution.checkpointing.tolerable-failed-checkpoints",
    type: int({ min: 0 }),
    default: "0",
    description: "Consecutive checkpoint failures that do not fail the job.",
  }),
  EXTERNALIZED_RETENTION: withDefault({
    key: "execution.checkpointing.externalized-checkpoint-retention",
    type: oneOf(["RETAIN_ON_CANCELLATION", "DELETE_ON_CANCELLATION", "NO_EXTERNALIZED_CHECKPOINTS"]),
    default: "RETAIN_ON_CANCELLATION",
    flinkDefault: "NO_EXTERNALIZED_CHECKPOINTS",
    description:
      "Whether the checkpoints of a cancelled job are kept. Kept ones let `sluice run` with the same name go on from them. NO_EXTERNALIZED_CHECKPOINTS acts as DELETE_ON_CANCELLATION.",
  }),
  STORAGE: withDefault({
    key: "execution.checkpointing.storage",
    aliases: ["state.checkpoint-storage"],
    type: oneOf(["filesystem", "jobmanager"]),
    default: "filesystem",
    flinkDefault: "jobmanager, or filesystem once a directory is set",
    only: ["filesystem"],
    description: "Checkpoints live in execution.checkpointing.dir.",
  }),
  CHECKPOINTS_DIRECTORY: optional({
    key: "execution.checkpointing.dir",
    aliases: ["state.checkpoints.dir", "state.backend.fs.checkpointdir"],
    type: storeUri(),
    description: "Where checkpoints and the commit log live.",
  }),
  SAVEPOINT_DIRECTORY: optional({
    key: "execution.checkpointing.savepoint-dir",
    aliases: ["state.savepoints.dir"],
    type: storeUri(),
    description: "Where savepoints go when whoever asks for one names no place.",
  }),
  MAX_RETAINED: withDefault({
    key: "execution.checkpointing.num-retained",
    aliases: ["state.checkpoints.num-retained"],
    type: int({ min: 1, max: 100 }),
    default: "3",
    flinkDefault: "1",
    description: "Completed checkpoints that are kept.",
  }),
  CREATE_SUBDIR: withDefault({
    key: "execution.checkpointing.create-subdir",
    aliases: ["state.checkpoints.create-subdir"],
    type: boolean(),
    default: "true",
    only: ["true"],
    because:
      "a job's checkpoints and its commit log share a directory of their own, {namespace}/{job}; without it two jobs would write one log, " +
      "and who restores a checkpoint of another job would not find the log that keeps it",
    description:
      "A directory per job below execution.checkpointing.dir. Always so: it holds the job's commit log beside the checkpoints.",
  }),
  CLEANER_PARALLEL_MODE: withDefault({
    key: "execution.checkpointing.cleaner.parallel-mode",
    aliases: ["state.checkpoint.cleaner.parallel-mode"],
    type: boolean(),
    default: "true",
    description:
      "The objects of a checkpoint that is not needed any more are deleted side by side. Off, one after the other: slower, and easier on the store.",
  }),
  AFTER_TASKS_FINISH: withDefault({
    key: "execution.checkpointing.checkpoints-after-tasks-finish",
    aliases: ["execution.checkpointing.checkpoints-after-tasks-finish.enabled"],
    type: boolean(),
    default: "true",
    only: ["true"],
    because:
      "what a sink wrote last is published by the checkpoint after the end of the input; without it that output would be lost",
    description: "Checkpoints go on after some tasks have finished, and a last one follows the end of the input.",
  }),
  LOCAL_BACKUP_ENABLED: withDefault({
    key: "execution.checkpointing.local-backup.enabled",
    aliases: ["state.backend.local-recovery"],
    type: boolean(),
    default: "true",
    flinkDefault: "false",
    description:
      "TaskManagers keep a copy of what they stored for the newest checkpoint on their own disk; recovery reads it first.",
  }),
  LOCAL_BACKUP_DIRS: optional({
    key: "execution.checkpointing.local-backup.dirs",
    aliases: ["taskmanager.state.local.root-dirs"],
    type: directories(),
    description:
      "Where local copies lie: absolute directories, separated by commas, that copies are spread over. Each TaskManager uses one of its own inside. Without it `localState` in the TaskManager's work directory.",
  }),
  LOCAL_BACKUP_BYTES_MAX: withDefault({
    key: "sluice.checkpointing.local-backup.max-size",
    type: memory(),
    default: "8 gb",
    description:
      "Sluice's own. Most bytes of local copies of one TaskManager. A new copy makes older ones go; what does not fit is read from the store.",
  }),
} as const;

/** Flink: StateRecoveryOptions. */
export const StateRecoveryOptions = {
  PATH: optional({
    key: "execution.state-recovery.path",
    aliases: ["execution.savepoint.path"],
    type: string(),
    description:
      "A savepoint or checkpoint to start from, in any store, as a new lineage (the same as `sluice run --from`).",
  }),
  CLAIM_MODE: withDefault({
    key: "execution.state-recovery.claim-mode",
    aliases: ["execution.savepoint-restore-mode", "execution.savepoint.restore-mode"],
    type: oneOf(["NO_CLAIM", "CLAIM"]),
    default: "NO_CLAIM",
    description:
      "Who owns what the job starts from. NO_CLAIM: it stays its owner's, and the output that waits in it is neither published nor dropped. CLAIM: this job alone takes it over, publishes that output, and deletes it when its own checkpoints have replaced it. Flink's LEGACY mode does not exist.",
  }),
  IGNORE_UNCLAIMED_STATE: withDefault({
    key: "execution.state-recovery.ignore-unclaimed-state",
    aliases: ["execution.savepoint.ignore-unclaimed-state"],
    type: boolean(),
    default: "false",
    description:
      "State whose operator (by uid) is not in the job any more is dropped instead of refused (the same as `sluice run --allow-non-restored-state`).",
  }),
  FROM_LOCAL: withDefault({
    key: "execution.state-recovery.from-local",
    type: boolean(),
    default: "true",
    flinkDefault: "false",
    description:
      "Recovery prefers slots whose TaskManager has local copies and reads those first, verified; what is missing or damaged there comes from the store, part by part. Off, copies only stand in for damaged objects of the store.",
  }),
  ALLOW_REPLAY: optional({
    key: "execution.state-recovery.allow-replay",
    type: int({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    description:
      "Sluice's own. When the newest checkpoint is damaged beyond repair and not every sink can take output back: the id of the older checkpoint to go back to, which accepts that output after it appears twice.",
  }),
} as const;

/** Flink: StateBackendOptions. */
export const StateBackendOptions = {
  STATE_BACKEND: withDefault({
    key: "state.backend.type",
    aliases: ["state.backend"],
    type: oneOf(["hashmap", "rocksdb", "forst"]),
    default: "hashmap",
    only: ["hashmap"],
    description: "Where keyed state lives while the job runs: hashmap is the memory of the slots.",
  }),
  INCREMENTAL: withDefault({
    key: "execution.checkpointing.incremental",
    aliases: ["state.backend.incremental"],
    type: boolean(),
    default: "false",
    status: "known",
    description: "Checkpoints that store only what changed.",
  }),
} as const;
