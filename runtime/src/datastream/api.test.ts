// The environment: every setter is a configuration key, and a job module that cannot be used is refused with a reason.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";

import { isFailure } from "@sluice/kit";
import { parseConfiguration } from "../model/configuration/index.ts";
import {
  buildGraph,
  CheckpointingMode,
  EmbeddedRocksDBStateBackend,
  ExternalizedCheckpointCleanup,
  ExternalizedCheckpointRetention,
  HashMapStateBackend,
  RestartStrategies,
  StreamExecutionEnvironment,
} from "./index.ts";

type Configure = (env: StreamExecutionEnvironment) => unknown;

function keysOf(
  configure: Configure,
  configuration: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  const env = new StreamExecutionEnvironment({ jobName: "job", configuration });
  configure(env);
  return env.getStreamGraph().configuration;
}

const P = "execution.checkpointing";
const SETTERS: readonly (readonly [configure: Configure, expected: Readonly<Record<string, string>>])[] = [
  [(env) => env.enableCheckpointing(60_000), { [`${P}.interval`]: "60000 ms" }],
  [
    (env) => env.enableCheckpointing(1_000, CheckpointingMode.AT_LEAST_ONCE),
    { [`${P}.interval`]: "1000 ms", [`${P}.mode`]: "AT_LEAST_ONCE" },
  ],
  [(env) => env.getCheckpointConfig().setMinPauseBetweenCheckpoints(30_000), { [`${P}.min-pause`]: "30000 ms" }],
  [(env) => env.getCheckpointConfig().setCheckpointTimeout(120_000), { [`${P}.timeout`]: "120000 ms" }],
  [(env) => env.getCheckpointConfig().setMaxConcurrentCheckpoints(1), { [`${P}.max-concurrent-checkpoints`]: "1" }],
  [
    (env) => env.getCheckpointConfig().setTolerableCheckpointFailureNumber(3),
    { [`${P}.tolerable-failed-checkpoints`]: "3" },
  ],
  [
    (env) =>
      env.getCheckpointConfig().setExternalizedCheckpointCleanup(ExternalizedCheckpointCleanup.RETAIN_ON_CANCELLATION),
    { [`${P}.externalized-checkpoint-retention`]: "RETAIN_ON_CANCELLATION" },
  ],
  [
    (env) =>
      env
        .getCheckpointConfig()
        .setExternalizedCheckpointRetention(ExternalizedCheckpointRetention.DELETE_ON_CANCELLATION),
    { [`${P}.externalized-checkpoint-retention`]: "DELETE_ON_CANCELLATION" },
  ],
  [
    (env) => env.getCheckpointConfig().setCheckpointStorage("file:///checkpoints"),
    { [`${P}.storage`]: "filesystem", [`${P}.dir`]: "file:///checkpoints" },
  ],
  [(env) => env.setDefaultSavepointDirectory("s3://b/savepoints"), { [`${P}.savepoint-dir`]: "s3://b/savepoints" }],
  [(env) => env.setStateBackend(new HashMapStateBackend()), { "state.backend.type": "hashmap" }],
  [
    (env) => env.setParallelism(4).setMaxParallelism(256),
    { "parallelism.default": "4", "pipeline.max-parallelism": "256" },
  ],
  [(env) => env.setBufferTimeout(10), { "execution.buffer-timeout.interval": "10 ms" }],
  [(env) => env.setBufferTimeout(-1), { "execution.buffer-timeout.enabled": "false" }],
  [(env) => env.setBufferTimeout(-1).setBufferTimeout(0), { "execution.buffer-timeout.interval": "0 ms" }],
  [(env) => env.disableOperatorChaining(), { "pipeline.operator-chaining.enabled": "false" }],
  [(env) => env.setRestartStrategy(RestartStrategies.noRestart()), { "restart-strategy.type": "none" }],
  [
    (env) => env.setRestartStrategy(RestartStrategies.fixedDelayRestart(3, 500)),
    {
      "restart-strategy.type": "fixed-delay",
      "restart-strategy.fixed-delay.attempts": "3",
      "restart-strategy.fixed-delay.delay": "500 ms",
    },
  ],
  [
    (env) => env.setRestartStrategy(RestartStrategies.failureRateRestart(3, 60_000, 0)),
    {
      "restart-strategy.type": "failure-rate",
      "restart-strategy.failure-rate.max-failures-per-interval": "3",
      "restart-strategy.failure-rate.failure-rate-interval": "60000 ms",
      "restart-strategy.failure-rate.delay": "0 ms",
    },
  ],
  [
    (env) =>
      env.setRestartStrategy(
        RestartStrategies.exponentialDelayRestart({
          initialBackoffMs: 100,
          maxBackoffMs: 5_000,
          backoffMultiplier: 2,
          resetBackoffThresholdMs: 60_000,
          jitterFactor: 0.2,
        }),
      ),
    {
      "restart-strategy.type": "exponential-delay",
      "restart-strategy.exponential-delay.initial-backoff": "100 ms",
      "restart-strategy.exponential-delay.max-backoff": "5000 ms",
      "restart-strategy.exponential-delay.backoff-multiplier": "2",
      "restart-strategy.exponential-delay.reset-backoff-threshold": "60000 ms",
      "restart-strategy.exponential-delay.jitter-factor": "0.2",
    },
  ],
];

describe("CC1: a setter is a configuration key", () => {
  test.each(SETTERS)("%#", (configure, expected) => {
    const keys = keysOf(configure);
    expect(keys).toEqual(expected);
    // The processes that use the keys understand what the setters write.
    parseConfiguration(Object.entries(keys).map(([key, value]) => ({ key, value, origin: "code" })));
  });

  test("RocksDB is recorded, for planning to refuse", () => {
    expect(keysOf((env) => env.setStateBackend(new EmbeddedRocksDBStateBackend(true)))).toEqual({
      "state.backend.type": "rocksdb",
      [`${P}.incremental`]: "true",
    });
  });

  test("EN2: code wins over what was given from outside, which a getter reads", () => {
    const outside = { [`${P}.mode`]: "AT_LEAST_ONCE", "parallelism.default": "8" };
    let seen = "";
    const keys = keysOf((env) => {
      seen = env.getCheckpointConfig().getCheckpointingMode();
      env.setParallelism(2);
    }, outside);
    expect(seen).toBe("AT_LEAST_ONCE");
    expect(keys).toEqual({ ...outside, "parallelism.default": "2" });
  });

  test.each<Configure>([
    (env) => env.setParallelism(0),
    (env) => env.setParallelism(1.5),
    (env) => env.enableCheckpointing(Number.NaN),
    (env) => env.enableCheckpointing(5),
    (env) => env.enableCheckpointing(1_000, "SOMETIMES" as "EXACTLY_ONCE"),
    (env) => env.getCheckpointConfig().setCheckpointTimeout(-1),
    (env) => env.getCheckpointConfig().setCheckpointStorage("checkpoints"),
    (env) => env.setDefaultSavepointDirectory("/savepoints"),
    (env) => env.setRestartStrategy(RestartStrategies.exponentialDelayRestart({ jitterFactor: 7 })),
  ])("CC2: what cannot be right is refused where it is given (%#)", (configure) => {
    expect(() => keysOf(configure)).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
  });
});

describe("BG1: job modules", () => {
  let directory = "";
  beforeAll(() => void (directory = mkdtempSync(join(tmpdir(), "sluice-api-"))));
  afterAll(() => rmSync(directory, { recursive: true }));

  async function load(name: string, content: string | undefined): Promise<string> {
    const path = join(directory, name);
    if (content !== undefined) writeFileSync(path, content);
    try {
      const graph = await buildGraph({
        job: pathToFileURL(path).href,
        arguments: ["a"],
        configuration: {},
        jobName: "job",
      });
      return `built ${graph.jobName} ${graph.arguments.join()}`;
    } catch (thrown) {
      if (!isFailure(thrown)) throw thrown;
      return `${thrown.code}: ${thrown.message.replaceAll(/file:\S+\//g, "")}`;
    }
  }

  test.each<readonly [name: string, content: string | undefined, expected: string | RegExp]>([
    ["good.mjs", "export async function main(env, args) { await env.execute('named ' + args[0]); }", "built named a a"],
    ["empty.mjs", "export const start = 1;", "JOB_MODULE_INVALID: job module empty.mjs exports no function main"],
    [
      "throws.mjs",
      "export function main() { throw new TypeError('no'); }",
      "JOB_MAIN_FAILED: main of throws.mjs threw TypeError: no",
    ],
    ["rejects.mjs", "export async function main() { throw 'no'; }", "JOB_MAIN_FAILED: main of rejects.mjs threw no"],
    [
      "top.mjs",
      "throw new Error('at once');",
      /^JOB_MODULE_INVALID: job module top.mjs cannot be loaded: Error: at once/,
    ],
  ])("%s", async (name, content, expected) => {
    expect(await load(name, content)).toEqual(
      typeof expected === "string" ? expected : expect.stringMatching(expected),
    );
  });

  test("a Failure of an API call in main stays what it is", async () => {
    const failing = buildGraph({
      job: (env) => void env.setParallelism(-1),
      arguments: [],
      configuration: {},
      jobName: "job",
    });
    await expect(failing).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  });
});
