// The fields of a StreamJob's spec.
//
// Invariants:
//   SP1. What can be checked without a lookup is checked by a rule here, with one message that says what to do.
//   SP2. Names and meanings are Flink's where Flink has the thing; a typed field sets exactly one key (configuration.ts).
//   SP3. No field that nothing implements.
//
// Not here: Flink's defaults of the typed fields (runtime/src/model/configuration), rules over several fields (spec.ts).

import { explained, flag, integer, limited, list, map, number, object, oneOf, ruled, text } from "../schema.ts";
import type { Message } from "../schema.ts";
import { configurationRules } from "./configuration-keys.ts";
import { bounded, duration, JOB_FILE_ENDINGS, objectName, quantity, storeUri } from "./fields.ts";
import { PodTemplate } from "./pod-template.ts";

const INLINE_CHARS_MAX = 131_072;
const PARALLELISM_MAX = 32_768;
const count = (minimum: number, maximum: number, description: string, byDefault?: number): ReturnType<typeof integer> =>
  limited(integer(description), { minimum, maximum, ...(byDefault === undefined ? {} : { default: byDefault }) });

/** Where the job's module is. */
export const JobSource = explained(
  "The job's module. Exactly one of path, inline, configMap and uri.",
  ruled(
    object(
      {},
      {
        path: ruled(bounded(1024, "A file in the image."), {
          rule: `self.matches(r'^/.+${JOB_FILE_ENDINGS}$')`,
          message: "not an absolute path of a module in the image: write for example /opt/sluice/job/sum.ts",
        }),
        inline: bounded(
          INLINE_CHARS_MAX,
          "The module itself, as TypeScript. `@sluice/runtime` can be imported. Longer ones: a ConfigMap, a URI or the image.",
        ),
        configMap: explained(
          "A key of a ConfigMap in the StreamJob's namespace. Its other keys lie beside it and can be imported. A change of the ConfigMap restarts nothing.",
          object({
            name: objectName("Name of the ConfigMap."),
            key: ruled(bounded(253, "The module's key."), {
              rule: `self.matches(r'^[-._a-zA-Z0-9]+${JOB_FILE_ENDINGS}$')`,
              message:
                "not a key of a module: letters, digits, '-', '_' and '.', ending in .ts, .mts, .js or .mjs, for example sum.ts",
            }),
          }),
        ),
        uri: explained(
          "A module that the pods fetch.",
          object({
            url: ruled(bounded(2048, "`https://`, `http://` or `s3://`."), {
              rule: "self.matches(r'^(https?|s3)://[^/]+/.+$')",
              message: "not a URL of a module: write https://HOST/PATH, http://HOST/PATH or s3://BUCKET/PATH",
            }),
            sha256: ruled(bounded(64, "What the module's bytes must have: 64 hex digits."), {
              rule: "self.matches('^[0-9a-f]{64}$')",
              message: "not a SHA-256: write the 64 lower-case hex digits that sha256sum prints for the module",
            }),
          }),
        ),
      },
    ),
    {
      rule: "[has(self.path), has(self.inline), has(self.configMap), has(self.uri)].exists_one(x, x)",
      message: "job needs exactly one of path, inline, configMap and uri",
    },
  ),
);
export type JobSource = Message<typeof JobSource>;

/** `execution.checkpointing.*`. */
export const Checkpointing = explained(
  "Checkpoints and savepoints: Flink's execution.checkpointing.*. Without it the job keeps no state over restarts, and upgradeMode must be Stateless.",
  object(
    {
      dir: storeUri(
        "execution.checkpointing.dir: where checkpoints and the commit log live, in {namespace}/{name} below it.",
      ),
      // Without one there would be no commit log, and nothing that an upgrade could go on from.
      interval: limited(
        duration(
          "execution.checkpointing.interval: time between the starts of periodic checkpoints. The job's code may set another one.",
        ),
        { default: "10s" },
      ),
    },
    {
      savepointDir: storeUri(
        "execution.checkpointing.savepoint-dir: where savepoints go. Without it {dir}/_savepoints/{namespace}/{name}.",
      ),
      mode: oneOf(["EXACTLY_ONCE", "AT_LEAST_ONCE"], "execution.checkpointing.mode; Flink's default EXACTLY_ONCE."),
      timeout: duration("execution.checkpointing.timeout; default 10m."),
      minPause: duration("execution.checkpointing.min-pause; default 0s."),
      maxConcurrent: count(1, 100, "execution.checkpointing.max-concurrent-checkpoints; default 1."),
      tolerableFailures: count(0, 2_147_483_647, "execution.checkpointing.tolerable-failed-checkpoints; default 0."),
      retained: count(1, 100, "execution.checkpointing.num-retained; default 3."),
      cleanup: oneOf(
        ["RETAIN_ON_CANCELLATION", "DELETE_ON_CANCELLATION"],
        "execution.checkpointing.externalized-checkpoint-retention: whether the checkpoints of a deleted StreamJob are kept; default RETAIN_ON_CANCELLATION.",
      ),
    },
  ),
);
export type Checkpointing = Message<typeof Checkpointing>;

const mode = { "fixed-delay": "fixedDelay", "failure-rate": "failureRate", "exponential-delay": "exponentialDelay" };

/** `restart-strategy.*`. */
export const RestartStrategy = explained(
  "What happens after a failure inside of the job: Flink's restart-strategy.*. Default: exponential-delay when checkpoints are periodic, else none.",
  ruled(
    object(
      {
        type: oneOf(["none", "fixed-delay", "failure-rate", "exponential-delay"], "restart-strategy.type."),
      },
      {
        fixedDelay: explained(
          "restart-strategy.fixed-delay.*; with type fixed-delay only.",
          object(
            {},
            {
              attempts: count(0, 2_147_483_647, "Restarts before the job fails; default 1."),
              delay: duration("Time from a failure to the restart; default 1s."),
            },
          ),
        ),
        failureRate: explained(
          "restart-strategy.failure-rate.*; with type failure-rate only.",
          object(
            {},
            {
              maxFailuresPerInterval: count(1, 10_000, "Failures within one interval that restart the job; default 1."),
              failureRateInterval: duration("The interval in which failures are counted; default 1m."),
              delay: duration("Time from a failure to the restart; default 1s."),
            },
          ),
        ),
        exponentialDelay: explained(
          "restart-strategy.exponential-delay.*; with type exponential-delay only.",
          object(
            {},
            {
              initialBackoff: duration("The first delay; default 1s."),
              maxBackoff: duration("The longest delay; default 1m."),
              backoffMultiplier: limited(number("Factor from one delay to the next; default 1.5."), { minimum: 1 }),
              resetBackoffThreshold: duration(
                "After this long without a failure the delay is the initial one again; default 1h.",
              ),
              jitterFactor: limited(number("Share of the delay that chance adds or takes; default 0.1."), {
                minimum: 0,
                maximum: 1,
              }),
              attemptsBeforeResetBackoff: count(
                0,
                2_147_483_647,
                "Restarts without a reset of the delay before the job fails; default: no limit.",
              ),
            },
          ),
        ),
      },
    ),
    ...Object.entries(mode).map(([type, field]) => ({
      rule: `!has(self.${field}) || self.type == '${type}'`,
      message: `${field} belongs to type ${type}: remove it or change type`,
    })),
  ),
);
export type RestartStrategy = Message<typeof RestartStrategy>;

export const ObjectStore = explained(
  "The object store of all s3:// places of this job.",
  object(
    {
      endpoint: ruled(bounded(512, "`http://HOST:PORT` or `https://HOST:PORT`: s3.endpoint."), {
        rule: "self.matches(r'^https?://[^/ ]+/?$')",
        message: "not an endpoint: write for example http://minio:9000 or https://s3.eu-central-1.amazonaws.com",
      }),
      secretRef: explained(
        "A Secret in the StreamJob's namespace with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        object({ name: objectName("Name of the Secret.") }),
      ),
    },
    { region: bounded(64, "Region of the buckets: s3.endpoint.region.") },
  ),
);
export type ObjectStore = Message<typeof ObjectStore>;

const RESOURCES_FIELDS = {
  memory: quantity("Request and limit; it is divided into heaps and tables.", "512Mi or 2Gi"),
  cpu: quantity("Request; no limit.", "500m or 2"),
};
const RESOURCES = object(RESOURCES_FIELDS);
export type Resources = Message<typeof RESOURCES>;
/** Of the container; each of the two has its default. */
const resources = (cpu: string, memory: string): typeof RESOURCES =>
  limited(
    object({
      memory: limited(RESOURCES_FIELDS.memory, { default: memory }),
      cpu: limited(RESOURCES_FIELDS.cpu, { default: cpu }),
    }),
    { default: { cpu, memory } },
  );

const podTemplate = explained(
  "Labels, annotations and anything of a PodSpec, merged over what the operator makes.",
  PodTemplate,
);

export const JobManagerSpec = limited(
  explained("The JobManager's pod.", object({ resources: resources("500m", "512Mi") }, { podTemplate })),
  { default: { resources: { cpu: "500m", memory: "512Mi" } } },
);
export type JobManagerSpec = Message<typeof JobManagerSpec>;

const LocalState = limited(
  explained(
    "The volume of local copies and scratch files: an emptyDir, counted against the node's ephemeral storage.",
    object({ sizeLimit: limited(quantity("Of the volume.", "1Gi or 20Gi"), { default: "1Gi" }) }),
  ),
  { default: { sizeLimit: "1Gi" } },
);

export const TaskManagerSpec = limited(
  explained(
    "The TaskManagers' pods. There are as many as the job's slots need.",
    object(
      {
        resources: resources("1", "1Gi"),
        slots: count(1, 1024, "Slots (worker threads) per TaskManager.", 1),
        localState: LocalState,
      },
      { podTemplate },
    ),
  ),
  { default: { resources: { cpu: "1", memory: "1Gi" }, slots: 1, localState: { sizeLimit: "1Gi" } } },
);
export type TaskManagerSpec = Message<typeof TaskManagerSpec>;

export const Stability = limited(
  explained(
    "When a new version counts as stable. One that does not become so in time ends Stalled, with the snapshot that it started from kept.",
    object({
      checkpoints: count(0, 100, "Completed checkpoints without a restart of the job in between.", 1),
      deadline: limited(duration("Longest time from the start of its pods."), { default: "5m" }),
    }),
  ),
  { default: { checkpoints: 1, deadline: "5m" } },
);
export type Stability = Message<typeof Stability>;

export const UPGRADE_MODES = ["Savepoint", "LastState", "Stateless"] as const;
export const DESIRED_STATES = ["Running", "Suspended"] as const;
export const ON_EXISTING_DATA = ["Refuse", "Resume", "NewLineage"] as const;
export const IMAGE_PULL_POLICIES = ["Always", "IfNotPresent", "Never"] as const;

/** The fields of `spec`; the rules over several of them stand in spec.ts. */
export const SPEC_FIELDS = {
  required: {
    job: JobSource,
    imagePullPolicy: limited(oneOf(IMAGE_PULL_POLICIES, "As Kubernetes has it."), { default: "IfNotPresent" }),
    parallelism: count(1, PARALLELISM_MAX, "parallelism.default: of operators that do not set their own.", 1),
    state: limited(
      oneOf(
        DESIRED_STATES,
        "Suspended stops the job as upgradeMode says; its data stays. Running goes on from its state with upgradeMode Savepoint or LastState, and begins without state with Stateless, as of the spec that resumes it.",
      ),
      { default: "Running" },
    ),
    upgradeMode: limited(
      oneOf(
        UPGRADE_MODES,
        "What a new version starts from. Savepoint: one that the old version stops with. LastState: the newest checkpoint; the old version is just ended. Stateless: nothing.",
      ),
      { default: "Savepoint" },
    ),
    allowNonRestoredState: limited(
      flag("State whose operator (by uid) is not in the job any more is dropped instead of refused."),
      { default: false },
    ),
    onExistingData: limited(
      oneOf(
        ON_EXISTING_DATA,
        "What to do with data that another StreamJob of this name has left in checkpointing.dir. Refuse: start nothing and say so. Resume: go on from its newest checkpoint. NewLineage: start without state beside it. Nothing is deleted in any case.",
      ),
      { default: "Refuse" },
    ),
    jobManager: JobManagerSpec,
    taskManager: TaskManagerSpec,
    stability: Stability,
  },
  optional: {
    image: ruled(bounded(512, "Of all pods of the job; default: the image that the controller was installed with."), {
      rule: "self.matches(r'^[^\\s]+$')",
      message: "not an image: write REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST, without spaces",
    }),
    args: limited(list(limited(text(), { maxLength: 8192 }), "Arguments of the job's `main`."), { maxItems: 256 }),
    maxParallelism: count(
      1,
      PARALLELISM_MAX,
      "pipeline.max-parallelism: number of key groups, fixed for the life of the state. Cannot be changed once set. Default: derived from the parallelism, at least 128.",
    ),
    initialSnapshot: explained(
      "A savepoint or checkpoint that the first deployment starts from. Looked at once: later starts go on from the job's own state.",
      object({
        path: storeUri("Directory of the savepoint or checkpoint."),
        claimMode: limited(
          oneOf(
            ["NO_CLAIM", "CLAIM"],
            "NO_CLAIM: it stays its owner's. CLAIM: this job takes it over, publishes output that waits in it, and deletes it when own checkpoints have replaced it.",
          ),
          { default: "NO_CLAIM" },
        ),
      }),
    ),
    checkpointing: Checkpointing,
    restartStrategy: RestartStrategy,
    configuration: ruled(
      limited(
        map(
          limited(text(), { maxLength: 4096 }),
          "Further keys of docs/configuration.md, as Flink names them. The job's code beats them. Keys that a field of this spec or the operator sets are refused.",
        ),
        { maxProperties: 128 },
      ),
      ...configurationRules(),
    ),
    objectStore: ObjectStore,
    restartNonce: limited(
      integer("Another number restarts the job without a savepoint, from its newest checkpoint (LastState)."),
      { minimum: 0, maximum: Number.MAX_SAFE_INTEGER, format: "int64" },
    ),
  },
} as const;
