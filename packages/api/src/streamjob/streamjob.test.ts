// The contract between users, controller and pods: defaults, configuration, PodConfig and PodReport over versions. The rules in CEL
// are tested against a real apiserver (crd.test.ts).

import { describe, expect, test } from "@jest/globals";
import { NOT_IMPLEMENTED_OPTIONS, OPTION_GROUPS } from "@sluice/runtime/internal/model";
import fc from "fast-check";

import { problemsOf } from "../schema-check.ts";
import { knownFields, withDefaults } from "../schema-defaults.ts";
import {
  FIELD_KEYS,
  flinkConfigurationOf,
  OPERATOR_KEYS,
  PodConfig,
  readPodConfig,
  readPodReport,
  StreamJob,
  StreamJobSpec,
  writePodConfig,
  writePodReport,
} from "./index.ts";
import type { PodReport } from "./index.ts";

const JOB = { namespace: "ns", name: "sum" };
const spec = (changes: object = {}): StreamJobSpec =>
  withDefaults(StreamJobSpec, {
    job: { path: "/opt/sluice/job/sum.ts" },
    checkpointing: { dir: "s3://bucket/prefix/", interval: "10s" },
    objectStore: { endpoint: "http://minio:9000", secretRef: { name: "minio" } },
    ...changes,
  });

test("a spec of the fewest fields gets its defaults, as the apiserver fills them in", () => {
  const filled = withDefaults(StreamJobSpec, {
    job: { inline: "x" },
    taskManager: { slots: 2, resources: { cpu: 2 } },
  });
  expect(filled).toEqual({
    job: { inline: "x" },
    imagePullPolicy: "IfNotPresent",
    parallelism: 1,
    state: "Running",
    upgradeMode: "Savepoint",
    allowNonRestoredState: false,
    onExistingData: "Refuse",
    jobManager: { resources: { cpu: "500m", memory: "512Mi" } },
    taskManager: { resources: { cpu: 2, memory: "1Gi" }, slots: 2, localState: { sizeLimit: "1Gi" } },
    stability: { checkpoints: 1, deadline: "5m" },
  });
  expect(problemsOf(StreamJobSpec, filled, { allowsUnknownFields: false })).toEqual([]);
});

test("what is not described is left out, but for what somebody else describes", () => {
  const podTemplate = {
    metadata: { labels: { any: "thing" } },
    spec: { nodeSelector: { a: "b" }, containers: [{ name: "side", stdin: true, env: [{ name: "A", value: "1" }] }] },
  };
  const known = spec({ taskManager: { podTemplate }, configuration: { "any.key": "1" } });
  expect(knownFields(StreamJobSpec, known)).toEqual(known);
  expect(knownFields(StreamJobSpec, { ...known, turbo: 1, job: { ...known.job, turbo: [1] } })).toEqual(known);
});

test.each([
  [{ parallelism: 0 }, "$.parallelism: 0 is below 1"],
  [{ parallelism: "2" }, "$.parallelism: string instead of integer"],
  [{ paralelism: 2 }, "$.paralelism: is not known"],
  [{ args: Array(257).fill("x") }, "$.args: 257 items, more than 256"],
  [{ image: "" }, "$.image: 0 characters, fewer than 1"],
  [
    { jobManager: { resources: { memory: 1.5 } } },
    "$.jobManager.resources.memory: number instead of integer or string",
  ],
  [{ jobManager: { resources: { memory: 1 }, podTemplate: { spec: { nodeSelector: { a: "b" } } } } }, undefined],
])("the validator, case %#", (changes, problem) => {
  expect(problemsOf(StreamJobSpec, spec(changes), { allowsUnknownFields: false })).toEqual(
    problem === undefined ? [] : [problem],
  );
});

describe("configuration", () => {
  test("CF1: fields become Flink's keys, absent ones none; savepoints have a place of their own", () => {
    expect(flinkConfigurationOf(spec({ configuration: { "web.checkpoints.history": "7" } }), JOB)).toEqual({
      "execution.checkpointing.dir": "s3://bucket/prefix/",
      "execution.checkpointing.interval": "10s",
      "execution.checkpointing.savepoint-dir": "s3://bucket/prefix/_savepoints/ns/sum",
      "execution.state-recovery.ignore-unclaimed-state": "false",
      "parallelism.default": "1",
      "s3.endpoint": "http://minio:9000",
      "taskmanager.numberOfTaskSlots": "1",
      "web.checkpoints.history": "7",
    });
    const restarts = { type: "exponential-delay", exponentialDelay: { backoffMultiplier: 2, maxBackoff: "1m" } };
    expect(flinkConfigurationOf(spec({ restartStrategy: restarts }), JOB)).toMatchObject({
      "restart-strategy.type": "exponential-delay",
      "restart-strategy.exponential-delay.backoff-multiplier": "2",
      "restart-strategy.exponential-delay.max-backoff": "1m",
    });
  });

  test("CK1: every key is one that the runtime knows, listed with all its older names", () => {
    const options = [...OPTION_GROUPS.flatMap((group) => group.options), ...NOT_IMPLEMENTED_OPTIONS];
    const listed = [...Object.values(FIELD_KEYS).flat(), ...OPERATOR_KEYS];
    expect(listed.length).toBeGreaterThan(40);
    expect(new Set(listed).size).toBe(listed.length);
    for (const key of listed) {
      const option = options.find((one) => one.key === key || one.aliases.includes(key));
      expect([key, option?.status]).toEqual([key, "implemented"]);
      for (const name of [option?.key, ...(option?.aliases ?? [])]) expect(listed).toContain(name);
    }
    for (const [key] of Object.values(FIELD_KEYS)) expect(options.map((option) => option.key)).toContain(key); // what is set is the newest name
    // whatever a restart strategy has is typed
    const restarts = options.map((option) => option.key).filter((key) => key.startsWith("restart-strategy."));
    for (const key of restarts) expect(listed).toContain(key);
  });
});

const CONFIG: PodConfig = {
  formatVersion: 1,
  job: { name: "sum", namespace: "ns", uid: "u" },
  attempt: "0123456789",
  submission: "0123456789ab",
  image: "sluice:1",
  source: { kind: "inline", path: "/etc/sluice/job.ts" },
  arguments: ["--rate", "100"],
  configuration: { "parallelism.default": "2" },
  store: { uri: "s3://bucket/prefix" },
  start: { newLineage: false, mayCreate: true, onForeignLog: "refuse", pinRestored: false },
  taskManagers: 2,
  slots: 1,
  memory: { jobManagerHeapBytes: 1, planHeapBytes: 1, taskManagerHeapBytes: 1, ioHeapBytes: 1, slotHeapBytes: 1 },
};

describe("PC1: PodConfig over versions", () => {
  test("a round trip, also with fields of a newer controller", () => {
    expect(problemsOf(PodConfig, CONFIG, { allowsUnknownFields: false })).toEqual([]);
    expect(readPodConfig(writePodConfig(CONFIG))).toEqual(CONFIG);
    const newer = {
      ...CONFIG,
      later: 1,
      start: { ...CONFIG.start, expectHead: { id: null, path: "p", more: 1 }, order: [3, 1] },
    };
    expect(readPodConfig(JSON.stringify(newer))).toEqual(newer);
  });

  test.each([
    [JSON.stringify({ formatVersion: 2 }), "FORMAT_UNSUPPORTED", /format version 2, this image reads up to 1/],
    [JSON.stringify({ ...CONFIG, attempt: "x" }), "CONFIG_INVALID", /\$\.attempt: "x" does not look like/],
    ["{", "CONFIG_INVALID", /undefined instead of object/],
    ["null", "CONFIG_INVALID", /null instead of object/],
  ])("case %#", (written, code, message) => {
    expect(() => readPodConfig(written)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });
});

const PREFLIGHT: PodReport = {
  formatVersion: 1,
  kind: "preflight",
  plan: {
    jobName: "sum",
    digest: "d",
    slotsNeeded: 2,
    maxParallelism: 128,
    vertexCount: 3,
    stateful: true,
    checkpointed: true,
  },
  log: { kind: "exists", uid: "u", lineage: "l", submission: "s", seq: 7, jobState: "stopped", closed: false },
};

describe("PodReport", () => {
  test.each([
    PREFLIGHT,
    { ...PREFLIGHT, log: { kind: "absent" as const } },
    { formatVersion: 1, kind: "stopped" as const, message: "SIGTERM" },
    { formatVersion: 1, kind: "jobEnded" as const, state: "FINISHED" as const, message: "" },
  ])("a round trip: $kind $log.kind", (report) => {
    expect(readPodReport(writePodReport(report))).toEqual({ type: "report", report });
  });

  test("PR1: whatever the texts are, it fits and can be read", () => {
    const words = fc.string({ unit: "binary", maxLength: 5_000, size: "max" });
    fc.assert(
      fc.property(words, words, (message, remedy) => {
        const failure = { code: "JOB_MAIN_FAILED", message, remedy, retry: "never" as const };
        const report: PodReport = { formatVersion: 1, kind: "failure", failure };
        const written = writePodReport(report);
        expect(new TextEncoder().encode(written).length).toBeLessThanOrEqual(4096);
        const read = readPodReport(written);
        expect(read.type).toBe("report");
        if (JSON.stringify(report).length < 1000) expect(read).toEqual({ type: "report", report });
      }),
      { numRuns: 30 },
    );
    const long = { code: "X", message: `begin${"ä".repeat(9000)}end`, remedy: "do this", retry: "never" as const };
    expect(writePodReport({ formatVersion: 1, kind: "fatal", failure: long })).toMatch(/begin.* … .*end.*do this/u);
  });

  test.each([
    [undefined, /left no report/],
    ["", /left no report/],
    ["Segmentation fault", /no report: Segmentation fault/],
    [JSON.stringify({ ...PREFLIGHT, formatVersion: 2 }), /format version 2: the image is newer/],
    [JSON.stringify({ ...PREFLIGHT, kind: "later" }), /cannot be read: \$: fits none of 5/],
    ["null", /cannot be read/],
  ])("PR2, PR3: case %# is none", (written, problem) => {
    expect(readPodReport(written)).toEqual({ type: "none", problem: expect.stringMatching(problem) });
  });
});

test("a whole object, as the apiserver gives it, is a StreamJob", () => {
  const job = {
    apiVersion: "sluice.dev/v1alpha1",
    kind: "StreamJob",
    metadata: { name: "sum", namespace: "ns", uid: "u", generation: 1, managedFields: [] },
    spec: spec(),
    status: { lifecycleState: "Deploying", deployedSpec: spec() },
  };
  expect(problemsOf(StreamJob, job, { allowsUnknownFields: true })).toEqual([]);
});
