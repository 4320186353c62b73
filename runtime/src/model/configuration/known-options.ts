// Options of Flink that Sluice knows and does not implement yet, and those that only a JVM has.
//
// The defaults are Flink's where Sluice behaves that way already: that value is accepted, every other is refused (OP1).

import { ConfigOption, boolean, double, duration, int, memory, oneOf, storeUri, string } from "./option.ts";
import type { OptionType } from "./option.ts";

type Row = readonly [
  key: string,
  type: OptionType<unknown>,
  defaultText: string | undefined,
  description: string,
  aliases?: readonly string[],
];

const CHECKPOINTING: readonly Row[] = [
  ["interval-during-backlog", duration(), undefined, "Interval while a source works off a backlog."],
  ["unaligned.enabled", boolean(), "false", "Barriers overtake records.", ["execution.checkpointing.unaligned"]],
  ["unaligned.forced", boolean(), "false", "Unaligned checkpoints also for iterations."],
  [
    "aligned-checkpoint-timeout",
    duration(),
    "0 ms",
    "When an aligned checkpoint becomes unaligned.",
    ["execution.checkpointing.alignment-timeout"],
  ],
  ["unaligned.max-subtasks-per-channel-state-file", int({ min: 1 }), undefined, "Subtasks per file of in-flight data."],
  ["unaligned.interruptible-timers.enabled", boolean(), "false", "Timers give way to barriers."],
  ["unaligned.recover-output-on-downstream.enabled", boolean(), "false", "Who restores output in flight."],
  ["unaligned.during-recovery.enabled", boolean(), "false", "Checkpoints while in-flight data is restored."],
  [
    "data-inline-threshold",
    memory(),
    undefined,
    "State below this size goes into the metadata.",
    ["state.storage.fs.memory-threshold"],
  ],
  ["write-buffer-size", memory(), undefined, "Buffer of checkpoint streams.", ["state.storage.fs.write-buffer-size"]],
  [
    "file-merging.enabled",
    boolean(),
    "false",
    "Flink's merging of small files; Sluice packs all state of a TaskManager anyway.",
  ],
  ["file-merging.across-checkpoint-boundary", boolean(), "false", "Files shared by checkpoints."],
  ["file-merging.max-file-size", memory(), undefined, "Size of merged files."],
  ["file-merging.max-space-amplification", double({ min: 1 }), undefined, "Garbage allowed in merged files."],
  ["file-merging.pool-blocking", boolean(), "false", "Whether writers wait for a file."],
  ["file-merging.max-subtasks-per-file", int({ min: 1 }), undefined, "Subtasks per merged file."],
].map(([key, ...rest]) => [`execution.checkpointing.${key as string}`, ...rest] as unknown as Row);

const STATE: readonly Row[] = [
  [
    "execution.state-recovery.without-channel-state.checkpoint-id",
    int({ min: 1 }),
    undefined,
    "Restore without in-flight data.",
  ],
  ["state.backend.rocksdb.memory.managed", boolean(), undefined, "RocksDB within managed memory."],
  ["state.backend.rocksdb.memory.fixed-per-slot", memory(), undefined, "Memory of RocksDB per slot."],
  ["state.backend.rocksdb.memory.fixed-per-tm", memory(), undefined, "Memory of RocksDB per TaskManager."],
  ["state.backend.rocksdb.memory.write-buffer-ratio", double({ min: 0, max: 1 }), undefined, "Share of write buffers."],
  [
    "state.backend.rocksdb.memory.high-prio-pool-ratio",
    double({ min: 0, max: 1 }),
    undefined,
    "Share of indexes and filters.",
  ],
  ["state.backend.rocksdb.memory.partitioned-index-filters", boolean(), undefined, "Partitioned indexes and filters."],
  ["state.backend.rocksdb.timer-service.factory", oneOf(["ROCKSDB", "HEAP"]), undefined, "Where timers live."],
  ["state.backend.rocksdb.checkpoint.transfer.thread.num", int({ min: 1 }), undefined, "Threads that move files."],
  ["state.backend.rocksdb.localdir", string(), undefined, "Directory of RocksDB."],
  ["state.backend.rocksdb.predefined-options", string(), undefined, "A set of RocksDB options."],
  ["state.backend.rocksdb.options-factory", string(), undefined, "A factory of RocksDB options."],
  [
    "state.changelog.enabled",
    boolean(),
    "false",
    "Every change of state goes to a log.",
    ["state.backend.changelog.enabled"],
  ],
  [
    "state.changelog.storage",
    oneOf(["memory", "filesystem"]),
    undefined,
    "Where the log lives.",
    ["state.backend.changelog.storage"],
  ],
  [
    "state.changelog.periodic-materialize.interval",
    duration(),
    undefined,
    "Interval of full snapshots below the log.",
    ["state.backend.changelog.periodic-materialize.interval"],
  ],
  ...(
    [
      ["preemptive-persist-threshold", memory()],
      ["batch.persist-delay", duration()],
      ["batch.persist-size-threshold", memory()],
      ["upload.max-in-flight", memory()],
      ["upload.timeout", duration()],
      ["upload.max-attempts", int({ min: 1 })],
      ["upload.num-threads", int({ min: 1 })],
      ["upload.buffer-size", memory()],
      ["compression.enabled", boolean()],
    ] as const
  ).map(([name, type]): Row => [
    `state.changelog.dstl.dfs.${name}`,
    type,
    undefined,
    "Storage of the change log.",
    [`dstl.dfs.${name}`],
  ]),
  ["state.backend.forst.primary-dir", storeUri(), undefined, "Directory of ForSt."],
  ["state.backend.forst.local-dir", string(), undefined, "Local directory of ForSt."],
  ["state.backend.forst.sync.enforce-local", boolean(), undefined, "Synchronous state stays local."],
  ["state.backend.forst.cache.size-based-limit", memory(), undefined, "Size of the file cache."],
  ["state.backend.forst.cache.reserve-size", memory(), undefined, "Disk that the cache leaves free."],
  ["state.backend.forst.executor.read-io-parallelism", int({ min: 1 }), undefined, "Threads that read."],
  ["state.backend.forst.executor.write-io-parallelism", int({ min: 1 }), undefined, "Threads that write."],
];

const NETWORK: readonly Row[] = [
  ...(
    [
      ["buffer-debloat.enabled", boolean()],
      ["buffer-debloat.period", duration()],
      ["buffer-debloat.samples", int({ min: 1 })],
      ["buffer-debloat.target", duration()],
      ["buffer-debloat.threshold-percentages", int({ min: 1, max: 100 })],
      ["buffers-per-channel", int({ min: 0 })],
      ["floating-buffers-per-gate", int({ min: 0 })],
      ["max-buffers-per-channel", int({ min: 1 })],
      ["max-overdraft-buffers-per-gate", int({ min: 0 })],
    ] as const
  ).map(([name, type]): Row => [`taskmanager.network.memory.${name}`, type, undefined, "Buffers between tasks."]),
  ["taskmanager.memory.segment-size", memory(), undefined, "Size of network buffers."],
];

const OTHERS: readonly Row[] = [
  [
    "jobmanager.execution.failover-strategy",
    oneOf(["full", "region"]),
    "full",
    "What restarts together: all tasks of a job are one region.",
  ],
  ["execution.runtime-mode", oneOf(["STREAMING", "BATCH", "AUTOMATIC"]), "STREAMING", "How a job runs."],
  [
    "pipeline.operator-chaining.chain-operators-with-different-max-parallelism",
    boolean(),
    "false",
    "Operators of different max parallelism share a task (true in Flink).",
  ],
  ["pipeline.auto-watermark-interval", duration(), undefined, "Interval of watermarks."],
  [
    "high-availability.type",
    oneOf(["NONE", "zookeeper", "kubernetes"]),
    "NONE",
    "The commit log makes a JobManager recoverable without it.",
    ["high-availability"],
  ],
  ["high-availability.storageDir", storeUri(), undefined, "Directory of high availability."],
  ["job-result-store.storage-path", storeUri(), undefined, "Directory of job results."],
  ["s3.access-key", string(), undefined, "Set the environment variable AWS_ACCESS_KEY_ID.", ["s3.access.key"]],
  ["s3.secret-key", string(), undefined, "Set the environment variable AWS_SECRET_ACCESS_KEY.", ["s3.secret.key"]],
];

/** Options of Flink that are not implemented yet. */
export const KNOWN_OPTIONS: readonly ConfigOption<unknown>[] = [...CHECKPOINTING, ...STATE, ...NETWORK, ...OTHERS].map(
  ([key, type, defaultText, description, aliases = []]) =>
    new ConfigOption({
      key,
      type,
      description,
      aliases,
      status: "known",
      ...(defaultText === undefined ? {} : { default: defaultText }),
    }),
);

/** Keys that begin with one of these concern the JVM or services that Sluice does not have: accepted, with a warning. */
export const JVM_ONLY_PREFIXES: readonly string[] = [
  "akka.",
  "blob.",
  "classloader.",
  "env.",
  "jobmanager.memory.",
  "jobmanager.rpc.",
  "kubernetes.",
  "metrics.internal.",
  "pekko.",
  "pipeline.classpaths",
  "pipeline.jars",
  "pipeline.object-reuse",
  "pipeline.serialization-config",
  "pipeline.force-kryo",
  "pipeline.generic-types",
  "python.",
  "queryable-state.",
  "security.",
  "taskmanager.memory.flink.",
  "taskmanager.memory.framework.",
  "taskmanager.memory.jvm-",
  "taskmanager.memory.managed.",
  "taskmanager.memory.network.",
  "taskmanager.memory.process.",
  "taskmanager.memory.task.",
  "taskmanager.rpc.",
  "yarn.",
];
