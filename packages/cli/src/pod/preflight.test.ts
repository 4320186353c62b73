// Preflight as the pod runs it, on MinIO: what works, and one failure for each thing that can be wrong.

import { createHash } from "node:crypto";

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { PodConfig, PodReport } from "@sluice/api";
import { openObjectStore } from "@sluice/kit/env/node";
import type { ObjectStore } from "@sluice/kit/env";
import { minio, startMinio } from "@sluice/tools/peers";
import type { MinioServer } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";
import { Bucket } from "@sluice/e2e/src/ledger/bucket.ts";

import { podConfig, Pods } from "./test/pods.ts";
import type { Container } from "./test/pods.ts";
import { restrictedKey } from "./test/restricted-key.ts";

const TIMEOUT_MS = 120_000;

const JOB = `
import { GeneratorSource, Types } from "@sluice/runtime";
export function main(env, args) {
  console.log("main was called with", args.join(" "));
  const numbers = new GeneratorSource({ count: 10, ratePerSecond: 10, type: Types.LONG(), generate: (i) => i });
  env.fromSource(numbers, "numbers").uid("numbers").map((x) => x, Types.LONG()).uid("same").print("out");
}
`;
const THROWS = `
export function main() {
  console.log("reading the table");
  return lookUp("prices");
}
function lookUp(name) {
  throw new RangeError("there is no table " + name);
}
`;

type Failed = Extract<PodReport, { readonly kind: "failure" }>;

/** Exit code and report of one run. */
async function outcomeOf(container: Container): Promise<readonly [number | null, PodReport | undefined]> {
  return [await container.exited, container.report()];
}

async function failureOf(pods: Pods, config: PodConfig): Promise<Failed["failure"]> {
  const [exitCode, report] = await outcomeOf(await pods.start("preflight", "sum-pf-0123456789", config));
  expect([exitCode, report?.kind]).toEqual([1, "failure"]);
  return (report as Failed).failure;
}

describe("without a store", () => {
  let pods: Pods;
  beforeAll(() => {
    pods = new Pods();
  });
  afterAll(() => pods.stop());

  test(
    "PF1: the plan is told, and the log says what main printed",
    async () => {
      const source = { kind: "inline", path: pods.mount("job.ts", JOB) } as const;
      const configuration = { "parallelism.default": "3", "env.java.opts.all": "-Xmx1g" };
      const config = podConfig({ source, arguments: ["--rate", "7"], configuration });
      const container = await pods.start("preflight", "sum-pf-0123456789", config);
      expect(await outcomeOf(container)).toEqual([
        0,
        {
          formatVersion: 1,
          kind: "preflight",
          plan: {
            jobName: "sum",
            digest: expect.stringMatching(/^[0-9a-f]{64}$/u),
            slotsNeeded: 3,
            maxParallelism: 128,
            vertexCount: 1,
            stateful: true,
            checkpointed: false,
          },
          log: { kind: "none" },
        },
      ]);
      expect(container.output()).toContain("main was called with --rate 7");
      expect(container.errors()).toContain("warning: env.java.opts.all concerns the JVM");
    },
    TIMEOUT_MS,
  );

  test.each<readonly [string, string, Partial<PodConfig>, string, string]>([
    ["main throws", THROWS, {}, "JOB_MAIN_FAILED", "there is no table prices"],
    ["the module cannot be loaded", 'import "./missing.ts";', {}, "JOB_MODULE_INVALID", "missing.ts"],
    ["there is no main", "export const x = 1;", {}, "JOB_MODULE_INVALID", "main"],
    [
      "main does not return",
      "export function main() { for (;;); }",
      { configuration: { "sluice.plan.timeout": "1 s" } },
      "JOB_MAIN_TIMEOUT",
      "did not return within 1 s",
    ],
    [
      "main needs too much memory",
      "export function main() { const all = []; for (;;) all.push(new Array(1000).fill(all.length)); }",
      {},
      "JOB_MAIN_FAILED",
      "needed more than 128 MiB of heap",
    ],
    ["a key is unknown", JOB, { configuration: { "no.such.key": "1" } }, "CONFIG_UNKNOWN_KEY", "no.such.key"],
    [
      "keys contradict each other",
      JOB,
      { configuration: { "parallelism.default": "8", "pipeline.max-parallelism": "4" } },
      "CONFIG_INVALID",
      "above pipeline.max-parallelism 4",
    ],
  ])(
    "PF3: %s",
    async (_name, code, changes, expected, message) => {
      const source = { kind: "inline", path: pods.mount("job.ts", code) } as const;
      const failure = await failureOf(pods, podConfig({ source, ...changes }));
      expect(failure).toMatchObject({
        code: expected,
        retry: "never",
        message: expect.stringContaining(message),
        remedy: expect.stringMatching(/./u),
      });
      if (code !== THROWS) return;
      const lines = failure.message.split("\n");
      expect(lines[1]).toMatch(/^at lookUp \(file:.*\/job\.ts:7:9\)$/u);
      expect(lines[2]).toMatch(/^at (?:Module\.)?main \(file:.*\/job\.ts:4:10\)$/u);
      expect(lines.at(-1)).toBe("it had printed: reading the table");
    },
    TIMEOUT_MS,
  );

  test(
    "PF3: the module is missing, and pod.json is none",
    async () => {
      const missing = podConfig({ source: { kind: "path", path: "/no/such/job.ts" } });
      expect(await failureOf(pods, missing)).toMatchObject({ code: "JOB_MODULE_NOT_FOUND", retry: "never" });
      const newer = podConfig({ source: { kind: "path", path: "/x.ts" }, formatVersion: 99 });
      expect(await failureOf(pods, newer)).toMatchObject({ code: "FORMAT_UNSUPPORTED", retry: "never" });
    },
    TIMEOUT_MS,
  );
});

describeWithPeer(minio, "the store", () => {
  let server: MinioServer;
  let store: ObjectStore;
  const all: Pods[] = [];

  beforeAll(async () => {
    server = await startMinio();
    const { endpoint, accessKey, secretKey } = server;
    await new Bucket({ endpoint: () => endpoint, accessKey, secretKey }, "jobs").create();
    store = await openObjectStore("s3://jobs", { s3: { endpoint, accessKey, secretKey } });
  }, TIMEOUT_MS);
  afterAll(async () => {
    for (const pods of all) await pods.stop();
    await server?.stop();
  }, TIMEOUT_MS);

  function podsWith(credentials: Readonly<Record<string, string>> = {}): Pods {
    const { accessKey, secretKey } = server;
    const pods = new Pods({ AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey, ...credentials });
    all.push(pods);
    return pods;
  }

  function config(pods: Pods, dir: string, changes: Partial<PodConfig> = {}, endpoint = server.endpoint): PodConfig {
    return podConfig({
      source: { kind: "inline", path: pods.mount("job.ts", JOB) },
      configuration: {
        "execution.checkpointing.interval": "10 s",
        "execution.checkpointing.dir": dir,
        "execution.checkpointing.savepoint-dir": `${dir}/_savepoints/ns/sum`,
        "s3.endpoint": endpoint,
      },
      store: { uri: dir, endpoint },
      ...changes,
    });
  }

  test(
    "PF2: works, without a trace in the bucket; also with a source out of the bucket",
    async () => {
      const pods = podsWith();
      await store.put("src/sum.ts", new TextEncoder().encode(JOB));
      const sha256 = createHash("sha256").update(JOB).digest("hex");
      const source = { kind: "uri", url: "s3://jobs/src/sum.ts", sha256 } as const;
      const container = await pods.start("preflight", "sum-pf-0123456789", config(pods, "s3://jobs/a", { source }));
      expect(await outcomeOf(container)).toMatchObject([0, { plan: { checkpointed: true }, log: { kind: "absent" } }]);
      expect((await store.list("")).map(({ path }) => path)).toEqual(["src/sum.ts"]);
      const wrong = { ...source, url: "s3://jobs/src/other.ts" };
      expect(
        await failureOf(pods, config(pods, "s3://jobs/a", { source: { ...wrong, sha256: "0".repeat(64) } })),
      ).toMatchObject({
        code: "INPUT_NOT_FOUND",
        message: expect.stringContaining("s3://jobs/src/other.ts does not exist"),
      });
    },
    TIMEOUT_MS,
  );

  test(
    "PR2: a bucket that does not exist, a wrong key, a damaged log, a snapshot that is not there",
    async () => {
      const pods = podsWith();
      expect(await failureOf(pods, config(pods, "s3://nobody/a"))).toMatchObject({
        code: "CONFIG_INVALID",
        message: expect.stringContaining('the bucket "nobody" does not exist'),
      });
      const stranger = podsWith({ AWS_SECRET_ACCESS_KEY: "not the one" });
      expect(await failureOf(stranger, config(stranger, "s3://jobs/a"))).toMatchObject({
        code: "STORAGE_DENIED",
        retry: "never",
        message: expect.stringContaining("SignatureDoesNotMatch"),
      });
      const from = "s3://jobs/nowhere/savepoint-1";
      const start = { newLineage: false, mayCreate: true, onForeignLog: "refuse", pinRestored: false, from } as const;
      expect(await failureOf(pods, config(pods, "s3://jobs/a", { start }))).toMatchObject({
        code: "INPUT_NOT_FOUND",
        message: expect.stringContaining(from),
      });
      await store.put("b/ns/sum/commits/000000000001", new TextEncoder().encode("no record at all"));
      expect(await failureOf(pods, config(pods, "s3://jobs/b"))).toMatchObject({
        code: "SNAPSHOT_DAMAGED",
        retry: "never",
        message: expect.stringContaining("commits/000000000001 is damaged"),
      });
    },
    TIMEOUT_MS,
  );

  test(
    "PR2: credentials that may only read are found out before the job needs to write",
    async () => {
      const pods = podsWith(await restrictedKey(server, ["s3:GetObject", "s3:ListBucket"]));
      expect(await failureOf(pods, config(pods, "s3://jobs/a"))).toMatchObject({
        code: "STORAGE_DENIED",
        message: expect.stringContaining("can be read with these credentials, but not written"),
      });
    },
    TIMEOUT_MS,
  );

  test(
    "PR3: an endpoint where nobody is: tried for a while, then told",
    async () => {
      const pods = podsWith();
      const failure = await failureOf(pods, config(pods, "s3://jobs/a", {}, "http://127.0.0.1:1"));
      expect(failure).toMatchObject({
        code: "STORAGE_UNAVAILABLE",
        retry: "backoff",
        message: expect.stringContaining("http://127.0.0.1:1"),
      });
    },
    TIMEOUT_MS,
  );
});
