// The CRD against a real kube-apiserver: one object per rule that breaks this rule and no other, with the one message that its user
// sees; defaults; what is accepted. Objects are written with dryRun, except where a rule compares with an older one.

import { readFileSync } from "node:fs";

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { callApiServer, kubernetes, runToEnd, startApiServer } from "@sluice/tools/peers";
import type { ApiAnswer, ApiServer, CommandOutcome } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";
import { parse } from "yaml";

import type { JsonSchema } from "../schema.ts";
import { withDefaults } from "../schema-defaults.ts";
import { FIELD_KEYS, OPERATOR_KEYS, StreamJobSpec, StreamJobStatus } from "./index.ts";

const CRD_FILE = new URL("../../../../crds/streamjobs.sluice.dev.yaml", import.meta.url);
const OBJECTS = "/apis/sluice.dev/v1alpha1/namespaces/default/streamjobs";
const CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const START_TIMEOUT_MS = 120_000;
const YAML_BYTES_MAX = 60 * 1024;

interface Crd {
  readonly spec: { readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: JsonSchema } }[] };
}
const crd = parse(readFileSync(CRD_FILE, "utf8")) as Crd;

type Json = Readonly<Record<string, unknown>>;

/** Touches every typed field, so that a case changes one. */
const FULL: Json = {
  image: "registry:5000/jobs@sha256:0123",
  job: { path: "/opt/sluice/job/sum.ts" },
  args: ["--rate", "100"],
  parallelism: 2,
  maxParallelism: 128,
  checkpointing: {
    dir: "s3://bucket/prefix",
    savepointDir: "file:///mnt/savepoints",
    interval: "10s",
    timeout: "10 min",
    minPause: "0 ms",
    mode: "EXACTLY_ONCE",
    cleanup: "RETAIN_ON_CANCELLATION",
  },
  restartStrategy: { type: "fixed-delay", fixedDelay: { attempts: 3, delay: "PT1.5S" } },
  configuration: { "web.checkpoints.history": "7" },
  objectStore: { endpoint: "http://minio:9000", region: "us-east-1", secretRef: { name: "minio.keys-1" } },
  jobManager: { resources: { cpu: "500m", memory: 536_870_912 } },
  taskManager: { resources: { cpu: 1, memory: "1.5Gi" }, slots: 2, localState: { sizeLimit: "2G" } },
  stability: { checkpoints: 1, deadline: "5m" },
  restartNonce: 1,
};

interface Case {
  /** Path of the value that carries the rule, as in the schema: `[]` for items. */
  readonly at: string;
  /** Path that the apiserver names, where it is another one. */
  readonly field?: string;
  readonly message: string;
  /** Laid over the spec of FULL (merge patch: null takes away); `name` is the object's. */
  readonly spec?: Json;
  readonly name?: string;
  /** The object before, for rules that compare; `status` is written too. */
  readonly before?: { readonly spec: Json; readonly status?: Json };
}

const DURATION = "not a duration: write for example 500ms, 10s, 5m or 1h";
const OBJECT_NAME =
  "not the name of an object: lower-case letters, digits, '-' and '.', a letter or digit at both ends";
const STORE =
  "not a place in a store: write s3://BUCKET/PREFIX, or file:///DIRECTORY on a volume that all pods of the job mount";

/** `{a: {b: value}}` of "a.b". */
function nested(path: string, value: unknown): Json {
  const [head = "", ...rest] = path.split(".");
  return { [head]: rest.length === 0 ? value : nested(rest.join("."), value) };
}
const wrong = (path: string, value: unknown, message: string): Case => ({
  at: `spec.${path}`,
  message,
  spec: nested(path, value),
});

const restart = (type: string, group: string, field: string): Case => ({
  at: `spec.restartStrategy.${group}.${field}`,
  message: DURATION,
  spec: { restartStrategy: { type, fixedDelay: null, [group]: { [field]: "soon" } } },
});

function podTemplateCases(role: "jobManager" | "taskManager"): readonly Case[] {
  const at = `spec.${role}.podTemplate`;
  const container = (rest: Json): Json =>
    nested(`${role}.podTemplate.spec.containers`, [{ name: "other", image: "x", command: ["y"] }, rest]);
  return [
    {
      at: `${at}.metadata.labels`,
      message:
        "labels sluice.dev/*, app.kubernetes.io/name and app.kubernetes.io/managed-by are the operator's: choose other keys",
      spec: nested(`${role}.podTemplate.metadata.labels`, { team: "a", "app.kubernetes.io/name": "mine" }),
    },
    {
      at: `${at}.metadata.annotations`,
      message: "annotations sluice.dev/* are the operator's: choose other keys",
      spec: nested(`${role}.podTemplate.metadata.annotations`, { "sluice.dev/x": "y" }),
    },
    {
      at: `${at}.spec`,
      message:
        "restartPolicy and automountServiceAccountToken are the operator's: leave them out; a token can be mounted as a projected volume",
      spec: nested(`${role}.podTemplate.spec`, { restartPolicy: "Always", nodeSelector: { a: "b" } }),
    },
    {
      at: `${at}.spec`,
      message: "names of volumes that begin with sluice- are the operator's: choose another name",
      spec: nested(`${role}.podTemplate.spec.volumes`, [{ name: "sluice-tmp", emptyDir: {} }]),
    },
    {
      at: `${at}.spec.containers[]`,
      field: `${at}.spec.containers[1]`,
      message:
        "container sluice is the operator's: leave command, args, image and resources out; spec.image, spec.args and resources beside podTemplate set them",
      spec: container({ name: "sluice", args: ["x"] }),
    },
    {
      at: `${at}.spec.containers[]`,
      field: `${at}.spec.containers[1]`,
      message:
        "SLUICE_SECRET, SLUICE_REST_TOKEN, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY are set by the operator (the latter two out of objectStore.secretRef): leave them out",
      spec: container({ name: "sluice", env: [{ name: "AWS_ACCESS_KEY_ID", value: "x" }] }),
    },
  ];
}

const CASES: readonly Case[] = [
  {
    at: "",
    field: "<nil>",
    name: "a.b",
    message:
      "the name is part of the names of pods and Services: use at most 45 lower-case letters, digits and '-', beginning with a letter, ending with a letter or digit",
  },
  {
    at: "",
    field: "<nil>",
    message:
      "checkpointing.dir holds the job's commit log, without which its state is lost: put the old place back, or delete the StreamJob and apply it again with the new place and initialSnapshot",
    before: { spec: {}, status: { everStateful: true } },
    spec: { checkpointing: { dir: "s3://other/prefix" } },
  },
  {
    at: "spec",
    message: "parallelism is above maxParallelism: lower parallelism, or raise maxParallelism before the job has state",
    spec: { parallelism: 129 },
  },
  {
    at: "spec",
    message:
      "maxParallelism cannot be changed once set, the job's state is cut by it: put the old value back, or delete the StreamJob and apply it again with onExistingData: NewLineage",
    before: { spec: {} },
    spec: { maxParallelism: null },
  },
  {
    at: "spec",
    message:
      "upgradeMode Savepoint and LastState keep the job's state, which needs a place: set checkpointing.dir, or upgradeMode: Stateless for a job whose state may be lost",
    spec: { checkpointing: null, upgradeMode: "LastState" },
  },
  {
    at: "spec",
    message:
      "initialSnapshot has no place beside upgradeMode Stateless, whose starts begin without state: remove it, or use Savepoint or LastState",
    spec: { initialSnapshot: { path: "s3://bucket/sp" }, upgradeMode: "Stateless" },
  },
  {
    at: "spec",
    message: "an s3:// place needs objectStore: set its endpoint and secretRef.name",
    spec: { objectStore: null },
  },
  {
    at: "spec.job",
    message: "job needs exactly one of path, inline, configMap and uri",
    spec: { job: { inline: "export function main() {}" } },
  },
  wrong(
    "job.path",
    "sum.ts",
    "not an absolute path of a module in the image: write for example /opt/sluice/job/sum.ts",
  ),
  {
    at: "spec.job.configMap.name",
    message: OBJECT_NAME,
    spec: { job: { path: null, configMap: { name: "Jobs", key: "sum.ts" } } },
  },
  {
    at: "spec.job.configMap.key",
    message:
      "not a key of a module: letters, digits, '-', '_' and '.', ending in .ts, .mts, .js or .mjs, for example sum.ts",
    spec: { job: { path: null, configMap: { name: "jobs", key: "sum.py" } } },
  },
  {
    at: "spec.job.uri.url",
    message: "not a URL of a module: write https://HOST/PATH, http://HOST/PATH or s3://BUCKET/PATH",
    spec: { job: { path: null, uri: { url: "ftp://host/sum.ts", sha256: "0".repeat(64) } } },
  },
  {
    at: "spec.job.uri.sha256",
    message: "not a SHA-256: write the 64 lower-case hex digits that sha256sum prints for the module",
    spec: { job: { path: null, uri: { url: "https://host/sum.ts", sha256: "A".repeat(64) } } },
  },
  wrong("image", "jobs: 1", "not an image: write REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST, without spaces"),
  wrong("checkpointing.dir", "s3://", STORE),
  wrong("checkpointing.savepointDir", "/mnt/savepoints", STORE),
  wrong("initialSnapshot.path", "savepoint-1", STORE),
  wrong("checkpointing.interval", "ten seconds", DURATION),
  wrong("checkpointing.timeout", "10 parsecs", DURATION),
  wrong("checkpointing.minPause", "-1s", DURATION),
  wrong("stability.deadline", "5 m 3 s", DURATION),
  restart("fixed-delay", "fixedDelay", "delay"),
  restart("failure-rate", "failureRate", "failureRateInterval"),
  restart("failure-rate", "failureRate", "delay"),
  restart("exponential-delay", "exponentialDelay", "initialBackoff"),
  restart("exponential-delay", "exponentialDelay", "maxBackoff"),
  restart("exponential-delay", "exponentialDelay", "resetBackoffThreshold"),
  {
    at: "spec.restartStrategy",
    message: "fixedDelay belongs to type fixed-delay: remove it or change type",
    spec: { restartStrategy: { type: "none" } },
  },
  {
    at: "spec.restartStrategy",
    message: "failureRate belongs to type failure-rate: remove it or change type",
    spec: { restartStrategy: { failureRate: { delay: "1s" } } },
  },
  {
    at: "spec.restartStrategy",
    message: "exponentialDelay belongs to type exponential-delay: remove it or change type",
    spec: { restartStrategy: { exponentialDelay: { maxBackoff: "1s" } } },
  },
  wrong(
    "objectStore.endpoint",
    "minio:9000",
    "not an endpoint: write for example http://minio:9000 or https://s3.eu-central-1.amazonaws.com",
  ),
  wrong("objectStore.secretRef.name", "Minio", OBJECT_NAME),
  wrong("jobManager.resources.memory", "lots", "not a quantity above zero: write for example 512Mi or 2Gi"),
  wrong("jobManager.resources.cpu", "0", "not a quantity above zero: write for example 500m or 2"),
  wrong("taskManager.resources.memory", 0, "not a quantity above zero: write for example 512Mi or 2Gi"),
  wrong("taskManager.resources.cpu", "-1", "not a quantity above zero: write for example 500m or 2"),
  wrong("taskManager.localState.sizeLimit", "1 Gi", "not a quantity above zero: write for example 1Gi or 20Gi"),
  ...podTemplateCases("jobManager"),
  ...podTemplateCases("taskManager"),
  ...Object.entries(FIELD_KEYS)
    .filter(([field]) => !field.startsWith("restartStrategy."))
    .map(([field, keys]): Case => ({
      at: "spec.configuration",
      message: `${keys[0]}${keys.length > 1 ? " (and its older names)" : ""}: set spec.${field} instead`,
      spec: { configuration: { [keys.at(-1) ?? ""]: "1" } },
    })),
  {
    at: "spec.configuration",
    message: "restart-strategy.*: set spec.restartStrategy instead",
    spec: { configuration: { "restart-strategy.fixed-delay.delay": "1s" } },
  },
  {
    at: "spec.configuration",
    message: `${OPERATOR_KEYS.join(", ")}: the operator sets these for its pods, leave them out`,
    spec: { configuration: { "rest.address": "0.0.0.0" } },
  },
];

/** Every rule of the schema as "path: message". */
function rulesOf(schema: JsonSchema, at: string): readonly string[] {
  const below = (name: string): string => (at === "" ? name : `${at}.${name}`);
  const { properties = {}, items, additionalProperties } = schema;
  return [
    ...(schema["x-kubernetes-validations"] ?? []).map(({ message }) => `${at}: ${message}`),
    ...Object.entries(properties).flatMap(([name, field]) => rulesOf(field, below(name))),
    ...(items === undefined ? [] : rulesOf(items, `${at}[]`)),
    ...(additionalProperties === undefined || additionalProperties === false
      ? []
      : rulesOf(additionalProperties, `${at}{}`)),
  ];
}

/** A value with every field that is described. */
function exampleOf(schema: JsonSchema): unknown {
  const { type, properties = {}, items, minimum = 1 } = schema;
  if (type === "object")
    return Object.fromEntries(Object.entries(properties).map(([name, field]) => [name, exampleOf(field)]));
  if (type === "array") return items === undefined ? [] : [exampleOf(items)];
  if (type === "boolean") return true;
  if (type === "integer") return Math.max(minimum, 1);
  if (schema.format === "date-time") return "2026-01-02T03:04:05Z";
  if (schema.pattern === "^[0-9a-fA-F]{32}$") return "0f".repeat(16);
  expect([type, schema.pattern]).toEqual(["string", undefined]);
  return schema.enum?.at(-1) ?? "text";
}

/** RFC 7386. */
function merged(base: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> = { ...(base as Json | undefined) };
  for (const [name, value] of Object.entries(patch))
    if (value === null) delete result[name];
    else result[name] = merged(result[name], value);
  return result;
}

function streamJob(name: string, spec: unknown): Json {
  return { apiVersion: "sluice.dev/v1alpha1", kind: "StreamJob", metadata: { name }, spec };
}

test("the CRD is small enough for kubectl's annotation and everybody's patience", () => {
  expect(readFileSync(CRD_FILE).length).toBeLessThan(YAML_BYTES_MAX);
});

test("every rule has exactly one case", () => {
  const rules = rulesOf(crd.spec.versions[0]!.schema.openAPIV3Schema, "");
  expect(rules.length).toBeGreaterThan(60);
  expect(CASES.map(({ at, message }) => `${at}: ${message}`).toSorted()).toEqual(rules.toSorted());
});

describeWithPeer(kubernetes, "the CRD at a real apiserver", () => {
  let server: ApiServer;
  beforeAll(async () => {
    server = await startApiServer();
    const created = await callApiServer(server, { method: "POST", path: CRDS, body: crd });
    expect(created).toMatchObject({ status: 201 });
    for (;;) {
      const { status } = await callApiServer(server, { method: "GET", path: OBJECTS });
      if (status === 200) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }, START_TIMEOUT_MS);
  afterAll(() => server.stop());

  const create = (name: string, spec: unknown, dryRun = "?dryRun=All"): Promise<ApiAnswer> =>
    callApiServer(server, { method: "POST", path: OBJECTS + dryRun, body: streamJob(name, spec) });

  const kubectl = (args: readonly string[], input = ""): Promise<CommandOutcome> =>
    runToEnd({ command: server.kubectl, args: ["--kubeconfig", server.kubeconfig, ...args], input });

  /** Stores `before`, and says what the apiserver says of the update. */
  async function update(name: string, before: NonNullable<Case["before"]>, spec: Json): Promise<ApiAnswer> {
    const old = merged(FULL, before.spec);
    expect(await create(name, old, "")).toMatchObject({ status: 201 });
    if (before.status !== undefined) {
      const path = `${OBJECTS}/${name}/status`;
      expect(await callApiServer(server, { method: "PATCH", path, body: { status: before.status } })).toMatchObject({
        status: 200,
      });
    }
    return callApiServer(server, { method: "PATCH", path: `${OBJECTS}/${name}?dryRun=All`, body: { spec } });
  }

  test("the object that the cases change is accepted, and stored as it is but for defaults", async () => {
    const { status, body } = await create("full", FULL);
    expect(status).toBe(201);
    expect((body as { readonly spec: unknown }).spec).toEqual(withDefaults(StreamJobSpec, FULL));
  });

  test("the fewest fields get their defaults, and the same ones from withDefaults", async () => {
    const checkpointing = { dir: "file:///mnt/checkpoints" };
    const fewest = { job: { inline: "export function main() {}" }, checkpointing, jobManager: {} };
    const { status, body } = await create("fewest", fewest);
    expect(status).toBe(201);
    const { spec } = body as { readonly spec: Json };
    expect(spec).toEqual(withDefaults(StreamJobSpec, fewest));
    expect(spec).toMatchObject({
      parallelism: 1,
      state: "Running",
      upgradeMode: "Savepoint",
      onExistingData: "Refuse",
      checkpointing: { interval: "10s" },
      taskManager: { slots: 1, resources: { cpu: "1", memory: "1Gi" }, localState: { sizeLimit: "1Gi" } },
    });
  });

  test.each(CASES.map((one, index) => [`${one.at === "" ? "object" : one.at}: ${one.message}`, index] as const))(
    "%s",
    async (_name, index) => {
      const { name = `case-${index}`, before, spec = {}, message, at, field = at } = CASES[index]!;
      const { status, body } =
        before === undefined ? await create(name, merged(FULL, spec)) : await update(name, before, spec);
      const { causes = [] } = (body as { readonly details?: { readonly causes?: readonly Json[] } }).details ?? {};
      expect({ status, causes: causes.map((cause) => [cause["field"], cause["message"]]) }).toEqual({
        status: 422,
        causes: [[field, expect.stringMatching(/^Invalid value: .+/u)]],
      });
      expect(String(causes[0]?.["message"]).endsWith(`: ${message}`)).toBe(true);
    },
  );

  describe("what is next to a rule and keeps it", () => {
    test.each<readonly [string, Json]>([
      ["an inline job", { job: { path: null, inline: "x" } }],
      ["a ConfigMap", { job: { path: null, configMap: { name: "jobs", key: "Sum_1.v2.mjs" } } }],
      ["a URI", { job: { path: null, uri: { url: "s3://bucket/sum.ts", sha256: "0f".repeat(32) } } }],
      ["as many subtasks as key groups", { parallelism: 128 }],
      ["suspended from the start", { state: "Suspended" }],
      ["files need no object store", { objectStore: null, checkpointing: { dir: "file:///mnt/checkpoints" } }],
      ["no state", { checkpointing: null, upgradeMode: "Stateless" }],
      ["a snapshot to begin from", { initialSnapshot: { path: "s3://bucket/sp-1", claimMode: "CLAIM" } }],
      ["restarts off", { restartStrategy: { type: "none", fixedDelay: null } }],
      [
        "exponential",
        { restartStrategy: { type: "exponential-delay", fixedDelay: null, exponentialDelay: { jitterFactor: 0.1 } } },
      ],
      ["keys that no field sets", { configuration: { "execution.state-recovery.allow-replay": "7" } }],
      [
        "a pod template",
        {
          taskManager: {
            podTemplate: {
              metadata: { labels: { "app.kubernetes.io/part-of": "x" }, annotations: { a: "b" } },
              spec: {
                nodeSelector: { disk: "ssd" },
                serviceAccountName: "jobs",
                volumes: [{ name: "data", persistentVolumeClaim: { claimName: "c" } }],
                containers: [
                  {
                    name: "sluice",
                    env: [{ name: "TZ", value: "UTC" }],
                    volumeMounts: [{ name: "data", mountPath: "/d" }],
                  },
                  { name: "sidecar", image: "x", command: ["y"], resources: { limits: { cpu: "1" } } },
                ],
              },
            },
          },
        },
      ],
    ])("%s", async (_name, spec) => {
      const wanted = merged(FULL, spec);
      const { status, body } = await create("accepted", wanted);
      expect({ status, message: (body as Json)["message"] }).toEqual({ status: 201, message: undefined });
      expect((body as Json)["spec"]).toEqual(withDefaults(StreamJobSpec, wanted));
    });

    test.each<readonly [string, NonNullable<Case["before"]>, Json]>([
      ["set-once", { spec: { maxParallelism: null } }, { maxParallelism: 64 }],
      ["moved-early", { spec: {} }, { checkpointing: { dir: "s3://other/prefix" } }],
      ["moved-empty", { spec: {}, status: { everStateful: false } }, { checkpointing: { dir: "s3://other/prefix" } }],
      [
        "given-up",
        { spec: {}, status: { everStateful: true } },
        { checkpointing: null, upgradeMode: "Stateless", objectStore: null },
      ],
    ])("an update: %s", async (name, before, spec) => {
      const { status, body } = await update(name, before, spec);
      expect({ status, message: (body as Json)["message"] }).toEqual({ status: 200, message: undefined });
    });
  });

  test("the example of the documentation is accepted", async () => {
    const page = readFileSync(new URL("../../../../docs/operator/streamjob.md", import.meta.url), "utf8");
    const [, example = ""] = /```yaml\n(.*?)```/su.exec(page) ?? [];
    const body = parse(example) as Json;
    const answer = await callApiServer(server, { method: "POST", path: `${OBJECTS}?dryRun=All`, body });
    expect({ status: answer.status, message: (answer.body as Json)["message"] }).toEqual({ status: 201 });
  });

  test("the status is a subresource with room for all that the controller writes, and only that", async () => {
    expect(await create("status", FULL, "")).toMatchObject({ status: 201 });
    const status = merged(exampleOf(StreamJobStatus.json), {
      lifecycleState: "Stable",
      taskManagers: { summary: "1/2" },
      restarts: 3,
      deployed: { image: "jobs:1", parallelism: 2 },
      deployedSpec: FULL,
      conditions: [
        { type: "Ready", status: "True", reason: "Running", message: "m", lastTransitionTime: "2026-01-02T03:04:05Z" },
      ],
    });
    const path = `${OBJECTS}/status/status`;
    const patched = await callApiServer(server, {
      method: "PATCH",
      path,
      body: { status: merged(status, { more: 1 }) },
    });
    expect(patched).toMatchObject({ status: 200 });
    expect((patched.body as Json)["status"]).toEqual(status);
    const columns = await kubectl(["get", "sj", "status", "-o", "wide"]);
    const [head = "", row = ""] = columns.output.split("\n");
    expect(head.split(/ {2,}/u)).toEqual(
      "NAME STATE READY TASKMANAGERS LAST_CHECKPOINT RESTARTS AGE PARALLELISM IMAGE MESSAGE"
        .split(" ")
        .map((name) => name.replace("_", " ")),
    );
    expect(row).toMatch(/^status +Stable +True +1\/2 +\S+ +3 +\S+ +2 +jobs:1 +m$/u);
  });

  test("kubectl apply says the message, and where", async () => {
    const input = JSON.stringify(streamJob("kubectl", { ...FULL, parallelism: 129 }));
    const { code, output } = await kubectl(["apply", "-f", "-"], input);
    expect(code).toBe(1);
    expect(output).toMatch(/"kubectl" is invalid: spec: Invalid value: .*parallelism is above maxParallelism: lower/u);
  });
});
