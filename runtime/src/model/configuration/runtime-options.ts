// Options of processes, restarts, the pipeline and stores. Names and meanings are Flink's; `sluice.*` keys are ours.

import { boolean, double, duration, int, memory, oneOf, optional, string, withDefault } from "./option.ts";

/** Flink: RestartStrategyOptions. */
export const RestartStrategyOptions = {
  RESTART_STRATEGY: optional({
    key: "restart-strategy.type",
    aliases: ["restart-strategy"],
    type: oneOf(["none", "fixed-delay", "exponential-delay", "failure-rate"], { off: "none", disable: "none" }),
    description: "What happens after a failure. Default: exponential-delay when checkpoints are periodic, else none.",
  }),
  FIXED_DELAY_ATTEMPTS: withDefault({
    key: "restart-strategy.fixed-delay.attempts",
    type: int({ min: 0 }),
    default: "1",
    description: "Restarts before the job fails.",
  }),
  FIXED_DELAY_DELAY: withDefault({
    key: "restart-strategy.fixed-delay.delay",
    type: duration(),
    default: "1 s",
    description: "Time from a failure to the restart.",
  }),
  FAILURE_RATE_MAX: withDefault({
    key: "restart-strategy.failure-rate.max-failures-per-interval",
    type: int({ min: 1, max: 10_000 }),
    default: "1",
    description: "Failures within one interval that restart the job; one more fails it.",
  }),
  FAILURE_RATE_INTERVAL: withDefault({
    key: "restart-strategy.failure-rate.failure-rate-interval",
    type: duration({ minMs: 1 }),
    default: "1 min",
    description: "The interval in which failures are counted. It ends with the newest failure.",
  }),
  FAILURE_RATE_DELAY: withDefault({
    key: "restart-strategy.failure-rate.delay",
    type: duration(),
    default: "1 s",
    description: "Time from a failure to the restart.",
  }),
  EXPONENTIAL_INITIAL_BACKOFF: withDefault({
    key: "restart-strategy.exponential-delay.initial-backoff",
    type: duration({ minMs: 1 }),
    default: "1 s",
    description: "The first delay.",
  }),
  EXPONENTIAL_MAX_BACKOFF: withDefault({
    key: "restart-strategy.exponential-delay.max-backoff",
    type: duration({ minMs: 1 }),
    default: "1 min",
    description: "The longest delay.",
  }),
  EXPONENTIAL_MULTIPLIER: withDefault({
    key: "restart-strategy.exponential-delay.backoff-multiplier",
    type: double({ min: 1 }),
    default: "1.5",
    description: "Factor from one delay to the next.",
  }),
  EXPONENTIAL_RESET_THRESHOLD: withDefault({
    key: "restart-strategy.exponential-delay.reset-backoff-threshold",
    type: duration({ minMs: 1 }),
    default: "1 h",
    description: "After this long without a failure the delay is the initial one again.",
  }),
  EXPONENTIAL_JITTER: withDefault({
    key: "restart-strategy.exponential-delay.jitter-factor",
    type: double({ min: 0, max: 1 }),
    default: "0.1",
    description: "Share of the delay that chance adds or takes.",
  }),
  EXPONENTIAL_ATTEMPTS: withDefault({
    key: "restart-strategy.exponential-delay.attempts-before-reset-backoff",
    type: int({ min: 0 }),
    default: "2147483647",
    description: "Restarts without a reset of the delay before the job fails.",
  }),
  EXPONENTIAL_FIRST_AT_ONCE: withDefault({
    key: "sluice.restart-strategy.exponential-delay.first-restart-at-once",
    type: boolean(),
    default: "true",
    description:
      "Sluice's own. The first restart after a time without failures waits for nothing; the delays count from the second on. Flink waits before the first as well.",
  }),
} as const;

/** Flink: HeartbeatManagerOptions. */
export const HeartbeatOptions = {
  INTERVAL: withDefault({
    key: "heartbeat.interval",
    type: duration({ minMs: 10 }),
    default: "1 s",
    flinkDefault: "10 s",
    description: "Time between heartbeats of JobManager and TaskManagers.",
  }),
  TIMEOUT: withDefault({
    key: "heartbeat.timeout",
    type: duration({ minMs: 20 }),
    default: "5 s",
    flinkDefault: "50 s",
    description: "Silence after which the other side counts as lost.",
  }),
} as const;

/** Flink: PipelineOptions, CoreOptions, ExecutionOptions. */
export const PipelineOptions = {
  NAME: optional({ key: "pipeline.name", type: string(), description: "Name of the job." }),
  MAX_PARALLELISM: withDefault({
    key: "pipeline.max-parallelism",
    type: int({ min: -1, max: 32_768 }),
    default: "-1",
    description:
      "Number of key groups, fixed for the life of the state. -1: derived from the parallelism, at least 128.",
  }),
  PARALLELISM: withDefault({
    key: "parallelism.default",
    type: int({ min: 1, max: 32_768 }),
    default: "1",
    description: "Parallelism of operators that do not set their own.",
  }),
  AUTO_GENERATE_UIDS: withDefault({
    key: "pipeline.auto-generate-uids",
    type: boolean(),
    default: "false",
    flinkDefault: "true",
    description:
      "Operators with state that have no uid get one from the shape of the graph, and lose their state when it changes. Off, they are an error.",
  }),
  OPERATOR_CHAINING: withDefault({
    key: "pipeline.operator-chaining.enabled",
    aliases: ["pipeline.operator-chaining"],
    type: boolean(),
    default: "true",
    description: "Operators that need no exchange between them share a task.",
  }),
  BUFFER_TIMEOUT_ENABLED: withDefault({
    key: "execution.buffer-timeout.enabled",
    type: boolean(),
    default: "true",
    description: "Off, records wait until a batch is full, a barrier passes or the stream ends.",
  }),
  BUFFER_TIMEOUT: withDefault({
    key: "execution.buffer-timeout.interval",
    aliases: ["execution.buffer-timeout"],
    type: duration(),
    default: "100 ms",
    description: "Longest time that a record waits in a batch that is not full.",
  }),
} as const;

/** Flink: TaskManagerOptions, and ours. */
export const TaskManagerOptions = {
  NUM_TASK_SLOTS: withDefault({
    key: "taskmanager.numberOfTaskSlots",
    type: int({ min: 1, max: 1_024 }),
    default: "1",
    description: "Slots (worker threads) per TaskManager.",
  }),
  HEAP_SIZE: optional({
    key: "sluice.taskmanager.slot-heap-size",
    type: memory({ minBytes: 16 * 1024 * 1024 }),
    description:
      "Sluice's own. Largest JavaScript heap of one slot; without it V8's own limit. Memory of typed tables comes on top.",
  }),
  STUCK_TIMEOUT: withDefault({
    key: "sluice.task.stuck-timeout",
    type: duration({ minMs: 100 }),
    default: "1 min",
    description: "Sluice's own. A user function that does not return for this long fails its task.",
  }),
  CANCELLATION_TIMEOUT: withDefault({
    key: "task.cancellation.timeout",
    type: duration({ minMs: 100 }),
    default: "30 s",
    flinkDefault: "3 min",
    description: "A task that does not stop within this time is terminated with its thread.",
  }),
} as const;

/** Flink: JobManagerOptions, RestOptions, metrics; and ours. */
export const ProcessOptions = {
  REST_PORT: withDefault({
    key: "rest.port",
    type: int({ min: 0, max: 65_535 }),
    default: "8081",
    description: "Port of REST and of the JobManager's /metrics; 0 for any free one.",
  }),
  REST_ADDRESS: withDefault({
    key: "rest.bind-address",
    aliases: ["rest.address"],
    type: string(),
    default: "127.0.0.1",
    flinkDefault: "the machine's name",
    description:
      "Address that REST listens on. Beyond this machine only with a token (SLUICE_REST_TOKEN): whoever reaches it can stop the job.",
  }),
  SHUTDOWN_ON_FINISH: withDefault({
    key: "execution.shutdown-on-application-finish",
    type: boolean(),
    default: "true",
    description:
      "The JobManager ends with its job, once clients that wait for an answer have it. Off, it answers REST until it is told to go.",
  }),
  PROMETHEUS_PORT: optional({
    key: "metrics.reporter.prom.port",
    type: int({ min: 1, max: 65_535 }),
    flinkDefault: "9249",
    description:
      "Port of the first TaskManager's /metrics; the next ones on this machine count up from it. Without it any free port.",
  }),
  METRICS_REPORTERS: optional({
    key: "metrics.reporters",
    type: string(),
    only: ["prom"],
    description: "`prom`: /metrics for Prometheus, which is always there. Other reporters do not exist.",
  }),
  CHECKPOINTS_HISTORY: withDefault({
    key: "web.checkpoints.history",
    type: int({ min: 0, max: 10_000 }),
    default: "10",
    description:
      "Completed and failed checkpoints that REST remembers, besides those in progress and the newest of each kind.",
  }),
  EXCEPTION_HISTORY_SIZE: withDefault({
    key: "web.exception-history-size",
    type: int({ min: 1, max: 10_000 }),
    default: "16",
    description: "Failures of the job that REST remembers.",
  }),
  PLAN_TIMEOUT: withDefault({
    key: "sluice.plan.timeout",
    type: duration({ minMs: 100 }),
    default: "30 s",
    description: "Sluice's own. Longest time that a module's `main` may take.",
  }),
} as const;

/** Flink's S3 file systems. Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. */
export const S3Options = {
  ENDPOINT: optional({
    key: "s3.endpoint",
    aliases: ["fs.s3a.endpoint"],
    type: string(),
    description: "`http://host:port` of an S3 store that is not AWS, for example MinIO.",
  }),
  REGION: optional({
    key: "s3.endpoint.region",
    aliases: ["s3.region"],
    type: string(),
    description: "Region of the bucket.",
  }),
  PATH_STYLE: withDefault({
    key: "s3.path.style.access",
    aliases: ["s3.path-style-access", "fs.s3a.path.style.access"],
    type: boolean(),
    default: "true",
    flinkDefault: "false",
    description:
      "The bucket is in the path of the address (`http://host/bucket/key`). Off, it is part of the host name (`http://bucket.host/key`), which must then resolve. Amazon's own endpoint is always addressed by host name.",
  }),
} as const;
