// Savepoints of a job with an exactly-once file sink, in one process: taken, moved, restored, claimed, disposed of. The audit counts
// every record that was ever published.

import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";

import { readCommitRecord } from "../../src/checkpoint/index.ts";
import { Encoders, FileSink, GeneratorSource } from "../../src/connectors/index.ts";
import type { StreamExecutionEnvironment } from "../../src/datastream/index.ts";
import { KeyedProcessFunction, Types, ValueStateDescriptor } from "../../src/model/index.ts";
import type { Collector, KeyedContext, RuntimeContext, ValueState } from "../../src/model/index.ts";
import { MiniCluster } from "../../src/testing/index.ts";

const KEYS = 4;
const COMMITS = "checkpoints/test/sums/commits";

/** Keys of which a task of this test has processed a record: slots share the test's process. */
const touched = new Set<number>();

class Count extends KeyedProcessFunction<number, number, string> {
  #count!: ValueState<number>;

  override open(context: RuntimeContext): void {
    this.#count = context.getState(new ValueStateDescriptor("count", Types.LONG()));
  }

  override processElement(_value: number, ctx: KeyedContext<number>, out: Collector<string>): void {
    const count = (this.#count.value() ?? 0) + 1;
    this.#count.update(count);
    touched.add(ctx.getCurrentKey());
    out.collect(`${ctx.getCurrentKey()} ${count}`);
  }
}

let folder = "";
beforeEach(() => {
  touched.clear();
  folder = mkdtempSync(join(tmpdir(), "sluice-savepoints-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const uri = (name: string): string => pathToFileURL(join(folder, name)).href;

interface Start {
  readonly name?: string;
  readonly from?: string;
  readonly claim?: boolean;
  readonly count?: number;
  readonly ratePerSecond?: number;
  readonly intervalMs?: number;
  readonly countUid?: string;
  readonly parallelism?: number;
  readonly configuration?: Readonly<Record<string, string>>;
}

function start(options: Start = {}): Promise<MiniCluster> {
  const { name = "sums", count = 1_200, ratePerSecond = 2_000, intervalMs = 60_000, countUid = "count" } = options;
  const job = (env: StreamExecutionEnvironment): void => {
    env.enableCheckpointing(intervalMs);
    env
      .fromSource(new GeneratorSource({ count, ratePerSecond, generate: (i) => i, type: Types.LONG() }))
      .uid("numbers")
      .keyBy((n) => n % KEYS, Types.LONG())
      .process(() => new Count(), Types.STRING())
      .uid(countUid)
      .sinkTo(FileSink.forRowFormat(join(folder, "out"), Encoders.text<string>()))
      .uid("out");
  };
  return MiniCluster.start(job, {
    parallelism: options.parallelism ?? 2,
    taskManagers: 2,
    store: uri("checkpoints"),
    name,
    configuration: {
      "execution.checkpointing.savepoint-dir": uri("savepoints"),
      ...(options.from === undefined ? {} : { "execution.state-recovery.path": options.from }),
      ...(options.claim === true ? { "execution.state-recovery.claim-mode": "CLAIM" } : {}),
      ...options.configuration,
    },
  });
}

/** Lines of published files, by lineage. */
function published(): ReadonlyMap<string, readonly string[]> {
  const byLineage = new Map<string, string[]>();
  if (!existsSync(join(folder, "out"))) return byLineage;
  for (const file of readdirSync(join(folder, "out"))) {
    const lineage = /^part-([^-]+)-/u.exec(file)?.[1];
    if (lineage === undefined) continue;
    const lines = readFileSync(join(folder, "out", file), "utf8")
      .split("\n")
      .filter(Boolean);
    byLineage.set(lineage, [...(byLineage.get(lineage) ?? []), ...lines]);
  }
  return byLineage;
}

const all = (): readonly string[] => [...published().values()].flat();

/** Every key has the counts `from[key]` + 1 to its last, once each. Returns the first count of every key. */
function expectContiguous(lines: readonly string[], count?: number): readonly number[] {
  return Array.from({ length: KEYS }, (_, key) => {
    const counts = lines
      .filter((line) => line.startsWith(`${key} `))
      .map((line) => Number(line.split(" ")[1]))
      .sort((a, b) => a - b);
    const first = counts[0] ?? 0;
    const last = count === undefined ? (counts.at(-1) ?? 0) : count / KEYS;
    const expected = Array.from({ length: last - first + 1 }, (__, i) => first + i);
    const missing = expected.filter((n) => !counts.includes(n)).length;
    const doubled = counts.filter((n, i) => n === counts[i - 1]).length;
    expect({ key, missing, doubled, last: counts.at(-1) }).toEqual({ key, missing: 0, doubled: 0, last });
    return first;
  });
}

const FROM_THE_START = [1, 1, 1, 1];
/** Every key has records: without them a drain right after the start would rightly publish nothing of a key. */
const some = (cluster: MiniCluster): Promise<void> =>
  cluster.waitUntil("records of every key", ({ isRunning }) => isRunning && touched.size === KEYS);
const directory = (location: string): string => fileURLToPath(location);

describe("a savepoint", () => {
  test("is taken beside the checkpoints, commits nothing, and the job goes on to an exact end", async () => {
    await using cluster = await start({ intervalMs: 50 });
    await some(cluster);
    const location = await cluster.takeSavepoint();
    expect(location).toMatch(/^file:.*\/savepoints\/savepoint-[0-9a-f]{6}-[0-9a-f]{12}$/u);
    const names = readdirSync(directory(location));
    expect(names).toContain("_metadata");
    expect(names.filter((name) => name.startsWith("x-")).length).toBeGreaterThan(0);
    await cluster.waitForEnd();
    expect(expectContiguous(all(), 1_200)).toEqual(FROM_THE_START);
  });

  test("C9: without another checkpoint nothing is published, and a failure goes back behind it", async () => {
    await using cluster = await start();
    await cluster.triggerCheckpoint();
    const before = all().length;
    await cluster.takeSavepoint();
    expect(all().length).toBe(before);
    cluster.killTaskManager();
    await cluster.waitUntil("a restart", ({ restarts, isRunning }) => restarts > 0 && isRunning);
    expect(cluster.status().restoredCheckpointId).toBe(1);
    await cluster.waitForEnd();
    expect(expectContiguous(all(), 1_200)).toEqual(FROM_THE_START);
  });

  test("a place that does not exist is told, and the job goes on", async () => {
    await using cluster = await start();
    await expect(cluster.takeSavepoint("gs://nowhere/x")).rejects.toMatchObject({ code: "CONFIG_NOT_IMPLEMENTED" });
    await expect(cluster.takeSavepoint("relative")).rejects.toMatchObject({ code: "CONFIG_INVALID" });
    await cluster.waitForEnd();
    expect(expectContiguous(all(), 1_200)).toEqual(FROM_THE_START);
  });
});

describe("a stop with savepoint", () => {
  test("C10: all output up to it is published; the next run of the name goes on from it, exactly", async () => {
    await using cluster = await start();
    await some(cluster);
    await cluster.stopWithSavepoint();
    const stopped = all().length;
    expect(stopped).toBeLessThan(1_200);
    await using next = await start();
    await next.waitForEnd();
    expect(published().size).toBe(1); // the same lineage
    expect(expectContiguous(all(), 1_200)).toEqual(FROM_THE_START);
    expect(next.status().restoredCheckpointId).toBe(1);
  });

  test("with a drain the job is finished: a plain start is refused, its output is whole", async () => {
    await using cluster = await start();
    await some(cluster);
    await cluster.stopWithSavepoint(undefined, { drain: true });
    expect(expectContiguous(all(), undefined)).toEqual(FROM_THE_START);
    await using next = await start();
    await expect(next.waitForEnd()).rejects.toMatchObject({ code: "JOB_FINISHED" });
  });

  test("C10: a JobManager that dies right after the record lets the next one publish and end, nothing more", async () => {
    await using cluster = await start();
    await some(cluster);
    const stop = cluster.stopWithSavepoint().catch((thrown: unknown) => thrown);
    const commits = join(folder, COMMITS);
    await cluster.waitUntil("the record", () =>
      readdirSync(commits).some((file) => readFileSync(join(commits, file), "utf8").includes('"jobState":"stopping"')),
    );
    cluster.killJobManager();
    expect(await cluster.waitForEnd()).toBe("FINISHED");
    await stop;
    await using next = await start();
    await next.waitForEnd();
    expect(expectContiguous(all(), 1_200)).toEqual(FROM_THE_START);
  });

  test("a failed one restarts the job from its newest checkpoint", async () => {
    await using cluster = await start({ count: 2_000 });
    await cluster.triggerCheckpoint();
    // Nobody can write below a file.
    mkdirSync(join(folder, "savepoints"));
    renameSync(join(folder, "savepoints"), join(folder, "moved"));
    cpSync(join(folder, `${COMMITS}/000000000001`), join(folder, "savepoints"));
    await expect(cluster.stopWithSavepoint()).rejects.toMatchObject({ message: expect.stringContaining("savepoint") });
    rmSync(join(folder, "savepoints"));
    await cluster.waitForEnd();
    expect(expectContiguous(all(), 2_000)).toEqual(FROM_THE_START);
  });
});

describe("a job that starts from a savepoint", () => {
  async function stopped(): Promise<string> {
    await using cluster = await start();
    await some(cluster);
    return await cluster.stopWithSavepoint();
  }

  test("OR1: NO_CLAIM leaves it alone, also when it was moved, and twice", async () => {
    const location = await stopped();
    const [[original, before] = ["", []]] = [...published()];
    const moved = `${directory(location)}-moved`;
    renameSync(directory(location), moved);
    const files = readdirSync(moved);
    await using first = await start({ name: "first", from: moved, intervalMs: 50 });
    await using second = await start({
      name: "second",
      from: pathToFileURL(moved).href,
      intervalMs: 50,
      parallelism: 1,
    });
    await Promise.all([first.waitForEnd(), second.waitForEnd()]);
    expect(readdirSync(moved)).toEqual(files);
    const forks = [...published()].filter(([lineage]) => lineage !== original).map(([, lines]) => lines);
    expect(forks).toHaveLength(2);
    for (const fork of forks) expect(expectContiguous([...before, ...fork], 1_200)).toEqual(FROM_THE_START);
  });

  test("a fork of a job that goes on commits nothing of what waits in the savepoint; a claim does", async () => {
    await using cluster = await start({ count: 6_000 });
    await some(cluster);
    const location = await cluster.takeSavepoint();
    await cluster.cancel(); // no checkpoint ever: nothing is published
    expect(all()).toEqual([]);
    await using fork = await start({ name: "fork", from: location });
    await fork.waitForEnd();
    expect(expectContiguous(all(), 1_200).some((first) => first > 1)).toBe(true);
    rmSync(join(folder, "out"), { recursive: true });
  });

  test("OR2: CLAIM publishes what waits in it, keeps others out, and deletes it in the end", async () => {
    await using cluster = await start();
    await some(cluster);
    const location = await cluster.takeSavepoint();
    await cluster.cancel();
    expect(all()).toEqual([]);
    await using claimer = await start({ name: "claimer", from: location, claim: true, intervalMs: 40 });
    await claimer.waitUntilRunning();
    await using other = await start({ name: "other", from: location, claim: true });
    const refused = other.waitForEnd();
    await expect(refused).rejects.toMatchObject({ code: "OPERATION_CONFLICT" });
    await expect(refused).rejects.toThrow("claimed by job test/claimer");
    await claimer.waitUntil("that the savepoint is gone", () => !existsSync(join(directory(location), "_metadata")));
    await claimer.waitForEnd();
    expect(expectContiguous(all(), 1_200)).toEqual(FROM_THE_START);
    expect(existsSync(directory(location))).toBe(false);
  });

  test("from a retained checkpoint of a cancelled job", async () => {
    await using cluster = await start();
    await cluster.triggerCheckpoint();
    await cluster.cancel();
    const before = all();
    const checkpoint = join(folder, "checkpoints/test/sums/chk-1");
    await using next = await start({ name: "next", from: checkpoint, intervalMs: 50 });
    await next.waitForEnd();
    expect(existsSync(checkpoint)).toBe(true);
    expect(expectContiguous(all(), 1_200)).toEqual(FROM_THE_START);
    expect(all().length).toBeGreaterThan(before.length);
  });

  test("OR1: the checkpoint is pinned in its log while it is needed, and not behind another lineage that does not need it", async () => {
    await using cluster = await start();
    await cluster.triggerCheckpoint();
    const savepoint = await cluster.stopWithSavepoint();
    const from = join(folder, "checkpoints/test/sums/chk-1");
    const holders = (): readonly string[] => {
      const newest = readdirSync(join(folder, COMMITS)).toSorted().at(-1) ?? "";
      const content = readCommitRecord(readFileSync(join(folder, COMMITS, newest)));
      return content.type === "ok" ? content.record.pins.map(({ ref, holder }) => `${holder} chk-${ref.id}`) : [];
    };
    await using fork = await start({ name: "fork", from });
    await some(fork);
    const [holder, ...others] = holders();
    expect([holder, others]).toEqual([expect.stringMatching(/^restore:test\/fork:.* chk-1$/u), []]);
    fork.killJobManager();
    await fork.waitUntil("the next JobManager", ({ isRunning }) => isRunning);
    expect(holders()).toEqual([holder]);
    await fork.stop();
    await using other = await start({ name: "fork", from: savepoint });
    await some(other);
    expect(holders()).toEqual([]);
  });

  test("a renamed operator is refused with the reason; its state may be dropped on demand", async () => {
    const location = await stopped();
    await using renamed = await start({ name: "renamed", from: location, countUid: "counts" });
    const refused = renamed.waitForEnd();
    await expect(refused).rejects.toMatchObject({ code: "STATE_INCOMPATIBLE" });
    await expect(refused).rejects.toThrow('"count"');
    await using dropped = await start({
      name: "dropped",
      from: location,
      countUid: "counts",
      configuration: { "execution.state-recovery.ignore-unclaimed-state": "true" },
    });
    expect(await dropped.waitForEnd()).toBe("FINISHED");
  });
});
