// Keys, values, origins and contradictions of the configuration.

import { describe, expect, test } from "@jest/globals";
import { isFailure } from "@sluice/kit";
import fc from "fast-check";

import { configurationOf, parseConfiguration } from "./configuration.ts";
import type { ConfigEntry } from "./configuration.ts";
import { CheckpointingOptions, StateBackendOptions } from "./checkpointing-options.ts";
import { findOption, NOT_IMPLEMENTED_OPTIONS, OPTION_GROUPS, optionNames } from "./registry.ts";
import { HeartbeatOptions, PipelineOptions } from "./runtime-options.ts";
import { runtimeSettings } from "./settings.ts";

/** `key=value` on the command line; returns "ok" or "CODE: message". */
function outcome(run: () => unknown): string {
  try {
    run();
    return "ok";
  } catch (thrown) {
    if (!isFailure(thrown)) throw thrown;
    return `${thrown.code}: ${thrown.message}`;
  }
}

function parse(...texts: string[]): ReturnType<typeof parseConfiguration> {
  return parseConfiguration(
    texts.map((text): ConfigEntry => {
      const [, origin = "command line", key = "", value = ""] = /^(?:(code|file):)?([^=]*)=(.*)$/.exec(text) ?? [];
      return { key, value, origin: origin as ConfigEntry["origin"] };
    }),
  );
}

describe("CF1: every key is known, or an error names the nearest", () => {
  test.each([
    ["execution.checkpointing.interval=10 s", "ok"],
    ["execution.checkpointing.intervall=10 s", 'did you mean "execution.checkpointing.interval"'],
    ["execution.checkpoint.interval=10 s", 'did you mean "execution.checkpointing.interval"'],
    ["state.backend.typ=hashmap", 'did you mean "state.backend.type"'],
    ["state.checkpoints.dir=file:///tmp/x", "ok"],
    ["heartbeat.timout=9 s", 'did you mean "heartbeat.timeout"'],
    ["completely.different=1", "CONFIG_UNKNOWN_KEY: completely.different (from the command line) is not"],
    ["code:completely.different=1", "(from the job's code)"],
    ["env.java.opts.all=-Xmx1g", "ok"],
    ["taskmanager.memory.process.size=4g", "ok"],
  ])("%s -> %s", (text, expected) => expect(outcome(() => parse(text))).toContain(expected));
});

describe("OP1: what Flink knows and Sluice does not implement is refused, unless it describes what happens anyway", () => {
  test.each([
    ["execution.checkpointing.unaligned.enabled=true", "CONFIG_NOT_IMPLEMENTED"],
    ["execution.checkpointing.unaligned=true", "CONFIG_NOT_IMPLEMENTED"],
    ["execution.checkpointing.unaligned.enabled=false", "ok"],
    ["execution.checkpointing.checkpoints-after-tasks-finish=true", "ok"],
    ["execution.checkpointing.checkpoints-after-tasks-finish=false", "that output would be lost"],
    ["execution.checkpointing.incremental=true", "CONFIG_NOT_IMPLEMENTED"],
    ["state.backend.type=hashmap", "ok"],
    ["state.backend=HASHMAP", "ok"],
    ["state.backend.type=rocksdb", 'the value "rocksdb" is one of Flink\'s that Sluice does not implement yet'],
    ["state.backend.type=rockdb", "CONFIG_INVALID"],
    ["restart-strategy.type=failure-rate", "ok"],
    ["state.checkpoints.create-subdir=true", "ok"],
    ["execution.checkpointing.create-subdir=false", "would write one log"],
    ["metrics.reporters=prom", "ok"],
    ["metrics.reporters=slf4j", "CONFIG_NOT_IMPLEMENTED"],
    ["restart-strategy=off", "ok"],
    ["execution.checkpointing.dir=hdfs://name/x", "CONFIG_NOT_IMPLEMENTED"],
    ["s3.access-key=AKIA", "CONFIG_NOT_IMPLEMENTED"],
  ])("%s -> %s", (text, expected) => expect(outcome(() => parse(text))).toContain(expected));
});

describe("values", () => {
  test.each([
    ["execution.checkpointing.mode=at-least-once", "ok"],
    ["execution.checkpointing.mode=AT_MOST_ONCE", "is not one of EXACTLY_ONCE, AT_LEAST_ONCE"],
    ["execution.checkpointing.interval=PT2S", "ok"],
    ["execution.checkpointing.interval=5 ms", "is shorter than 10 ms"],
    ["execution.checkpointing.interval=soon", "is not a duration"],
    ["execution.checkpointing.timeout=0", "is shorter than 10 ms"],
    ["execution.checkpointing.max-concurrent-checkpoints=0", "is not a whole number at least 1"],
    ["execution.checkpointing.num-retained=1.5", "is not a whole number from 1 to 100"],
    ["parallelism.default=two", "is not a whole number"],
    ["execution.checkpointing.dir=/tmp/x", "has no scheme"],
    ["execution.checkpointing.dir=s3://bucket/p/", "ok"],
    ["execution.checkpointing.dir=file://host/x", "is not a directory of a store"],
    ["sluice.taskmanager.slot-heap-size=1 kb", "is less than"],
    ["restart-strategy.failure-rate.max-failures-per-interval=0", "is not a whole number from 1 to 10000"],
    ["restart-strategy.failure-rate.failure-rate-interval=0", "is shorter than 1 ms"],
    ["restart-strategy.failure-rate.delay=never", "is not a duration"],
    ["web.checkpoints.history=-1", "is not a whole number from 0 to 10000"],
    ["web.exception-history-size=0", "is not a whole number from 1 to 10000"],
    ["state.checkpoint.cleaner.parallel-mode=sometimes", "is neither true nor false"],
  ])("%s -> %s", (text, expected) => expect(outcome(() => parse(text))).toContain(expected));

  test("typed values, older names and units", () => {
    const configuration = parse("execution.checkpointing.interval=2 s", "state.checkpoints.num-retained=5");
    expect(configuration.get(CheckpointingOptions.CHECKPOINTING_INTERVAL)).toBe(2_000);
    expect(configuration.get(CheckpointingOptions.MAX_RETAINED)).toBe(5);
    expect(configuration.get(CheckpointingOptions.CHECKPOINTING_TIMEOUT)).toBe(600_000);
    expect(configuration.get(StateBackendOptions.STATE_BACKEND)).toBe("hashmap");
    expect(configuration.toRecord()).toEqual({
      "execution.checkpointing.interval": "2 s",
      "execution.checkpointing.num-retained": "5",
    });
  });
});

describe("CF2: code beats the command line, which beats a file", () => {
  test.each([
    [["file:parallelism.default=2", "parallelism.default=3"], 3, "command line"],
    [["parallelism.default=3", "file:parallelism.default=2"], 3, "command line"],
    [["code:parallelism.default=4", "parallelism.default=3"], 4, "code"],
    [["parallelism.default=3", "parallelism.default=5"], 5, "command line"],
    [[], 1, "default"],
  ])("%j -> %i from %s", (texts, value, origin) => {
    const configuration = parse(...texts);
    expect(configuration.get(PipelineOptions.PARALLELISM)).toBe(value);
    expect(configuration.origin(PipelineOptions.PARALLELISM)).toBe(origin);
  });

  test("two names of one option with different values are a mistake", () => {
    expect(outcome(() => parse("state.backend=hashmap", "state.backend.type=hashmap"))).toBe("ok");
    expect(
      outcome(() => parse("state.checkpoints.num-retained=2", "execution.checkpointing.num-retained=3")),
    ).toContain("two names of one option");
  });
});

test("CF3: all mistakes are told at once", () => {
  const text = outcome(() => parse("parallelism.default=x", "nope=1", "heartbeat.interval=1 s"));
  expect(text).toContain("2 mistakes");
  expect(text).toContain("parallelism.default");
  expect(text).toContain("nope");
});

test("CF4: a configuration survives the way to another process", () => {
  const names = [...optionNames()].filter((name) => findOption(name)?.default !== undefined);
  fc.assert(
    fc.property(fc.subarray(names), (chosen) => {
      const keys = new Set<string>();
      const entries = chosen.flatMap((name) => {
        const option = findOption(name)!;
        if (keys.has(option.key)) return [];
        keys.add(option.key);
        return [`${name}=${option.default!}`];
      });
      const configuration = parse(...entries);
      const again = configurationOf(configuration.toRecord());
      expect(again.toRecord()).toEqual(configuration.toRecord());
      expect(Object.keys(again.toRecord())).toHaveLength(keys.size);
    }),
    { numRuns: 50 },
  );
});

test("OP2: every default parses, and every option is described", () => {
  const options = [...OPTION_GROUPS.flatMap((group) => group.options), ...NOT_IMPLEMENTED_OPTIONS];
  expect(options.length).toBeGreaterThan(80);
  for (const option of options) {
    if (option.default !== undefined) expect(outcome(() => option.parse(option.default!))).toBe("ok");
    expect(option.description.length).toBeGreaterThan(5);
  }
});

describe("settings are consistent", () => {
  const settings = (...texts: string[]): ReturnType<typeof runtimeSettings> => runtimeSettings(parse(...texts));

  test("defaults, with the deviations from Flink", () => {
    const made = settings();
    expect(made.checkpoints).toMatchObject({
      mode: "EXACTLY_ONCE",
      intervalMs: null,
      retainedMax: 3,
      concurrentMax: 1,
    });
    expect([made.heartbeatIntervalMs, made.heartbeatTimeoutMs]).toEqual([1_000, 5_000]);
    expect(made.restart).toEqual({ type: "none" });
    expect(made.store).toBeUndefined();
    expect(made.retainOnCancellation).toBe(true);
    expect(configurationOf({}).get(HeartbeatOptions.TIMEOUT)).toBe(5_000);
  });

  test("periodic checkpoints bring restarts with exponential delay", () =>
    expect(settings("execution.checkpointing.interval=1 s").restart).toMatchObject({
      type: "exponential-delay",
      initialMs: 1_000,
      maxMs: 60_000,
      firstAtOnce: true,
    }));

  test("failure rate, with Flink's defaults", () => {
    expect(settings("restart-strategy.type=failure-rate").restart).toEqual({
      type: "failure-rate",
      failuresMax: 1,
      intervalMs: 60_000,
      delayMs: 1_000,
    });
    const key = "restart-strategy.failure-rate";
    const given = [
      `${key}.max-failures-per-interval=4`,
      `${key}.failure-rate-interval=5 min`,
      `${key}.delay=0 s`,
    ] as const;
    expect(settings("restart-strategy=failurerate", ...given).restart).toMatchObject({
      failuresMax: 4,
      intervalMs: 300_000,
      delayMs: 0,
    });
  });

  test("what REST remembers, and how condemned checkpoints are deleted", () => {
    const of = (...texts: string[]): unknown => {
      const { checkpoints, exceptionHistoryMax } = settings(...texts);
      return [checkpoints.historyMax, exceptionHistoryMax, checkpoints.cleansInParallel];
    };
    expect(of()).toEqual([10, 16, true]);
    expect(of("web.checkpoints.history=0", "web.exception-history-size=3")).toEqual([0, 3, true]);
    expect(of("execution.checkpointing.cleaner.parallel-mode=false")).toEqual([10, 16, false]);
  });

  test("a minimum pause means one checkpoint at a time, and says so", () => {
    const made = settings(
      "execution.checkpointing.min-pause=1 s",
      "execution.checkpointing.max-concurrent-checkpoints=3",
    );
    expect(made.checkpoints.concurrentMax).toBe(1);
    expect(made.warnings.join()).toContain("has no effect");
  });

  test("a JVM's option is a warning", () =>
    expect(settings("env.java.opts.all=-Xmx1g").warnings.join()).toContain("concerns the JVM"));

  test("local copies: on by default; either key switches reading them first off; several directories", () => {
    expect(settings().localCopies).toEqual({
      enabled: true,
      directories: undefined,
      bytesMax: 8 * 2 ** 30,
      readsFirst: true,
    });
    expect(settings("state.backend.local-recovery=false").localCopies).toMatchObject({
      enabled: false,
      readsFirst: false,
    });
    expect(settings("execution.state-recovery.from-local=false").localCopies).toMatchObject({
      enabled: true,
      readsFirst: false,
    });
    const { directories } = settings("taskmanager.state.local.root-dirs=/a, file:///b/c;/d").localCopies;
    expect(directories).toEqual(["/a", "/b/c", "/d"]);
    const relative = outcome(() => settings("execution.checkpointing.local-backup.dirs=/a,b"));
    expect(relative).toContain('"b", which is not absolute');
  });

  test("a bucket in the host name", () => {
    expect(settings("state.checkpoints.dir=s3://b/p", "s3.path-style-access=false").store).toEqual({
      uri: "s3://b/p",
      pathStyle: false,
    });
    expect(settings("s3.path.style.access=true").s3).toEqual({});
  });

  test("the store with its endpoint", () =>
    expect(settings("state.checkpoints.dir=s3://b/p", "s3.endpoint=http://127.0.0.1:9000").store).toEqual({
      uri: "s3://b/p",
      endpoint: "http://127.0.0.1:9000",
    }));

  test.each([
    [["heartbeat.interval=5 s"], "is not longer than"],
    [["parallelism.default=8", "pipeline.max-parallelism=4"], "is above pipeline.max-parallelism"],
    [["pipeline.max-parallelism=0"], "is 0"],
    [
      ["restart-strategy=exponential-delay", "restart-strategy.exponential-delay.initial-backoff=2 min"],
      "is below initial-backoff",
    ],
    [["state.checkpoints.dir=s3://b/p", "s3.endpoint=127.0.0.1:9000"], "is not an address"],
  ])("%j -> %s", (texts, expected) => expect(outcome(() => settings(...texts))).toContain(expected));
});
