// Real processes over a file store: the whole thread from plan to published output, through kills.

import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { afterEach, describe, expect, test } from "@jest/globals";

import type { ProcessEvent } from "../model/index.ts";
import { runPlanProcess } from "./index.ts";
import { listPublished, publishedLines, TestCluster, until } from "./test/cluster.ts";
import type { ClusterOptions, Managed } from "./test/cluster.ts";

const JOBS = fileURLToPath(new URL("./test/", import.meta.url));

let cluster: TestCluster | undefined;
/** Of the keyed sum that runs. */
let drainFile: string | undefined;
const directories: string[] = [];

afterEach(async () => {
  await cluster?.stop();
  cluster = undefined;
  drainFile = undefined;
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), "sluice-processes-"));
  directories.push(directory);
  return directory;
}

/** Every position once; per key the sums are those of one pass in some order of the key's records. */
function expectExact(lines: readonly string[], count: number, keys: number): void {
  const rows = lines.map((line) => JSON.parse(line) as readonly [key: number, position: number, sum: number]);
  expect(rows.map(([, position]) => position).sort((a, b) => a - b)).toEqual(
    Array.from({ length: count }, (_, i) => i),
  );
  for (let key = 0; key < keys; key += 1) {
    const own = rows.filter((row) => row[0] === key).sort((a, b) => a[2] - b[2] || b[1] - a[1]); // position 0 adds nothing
    let sum = 0;
    for (const [, position, reported] of own) {
      sum += position;
      if (reported !== sum) throw new Error(`key ${key}: sum ${reported} at position ${position}, expected ${sum}`);
    }
  }
}

const COUNT = 24_000;
/** Of each subtask, until {@link finish}: the input outlasts all that is done to the job, on a slow machine too. */
const PER_SECOND = 200;
const KEYS = 7;
const CONFIGURATION = {
  "execution.checkpointing.interval": "300 ms",
  "parallelism.default": "2",
  "heartbeat.timeout": "3 s",
};

async function startKeyedSum(options: Partial<ClusterOptions> = {}): Promise<{
  readonly out: string;
  /** Directory of the object store. */
  readonly store: string;
  readonly jobManager: Managed;
  readonly taskManagers: readonly Managed[];
}> {
  const out = join(scratch(), "out");
  const store = join(scratch(), "store");
  drainFile = join(scratch(), "drain");
  cluster = new TestCluster({
    jobPath: join(JOBS, "keyed-sum-job.ts"),
    jobArguments: [out, String(COUNT), String(PER_SECOND), String(KEYS), drainFile],
    configuration: CONFIGURATION,
    taskManagers: 2,
    slots: 1,
    store: { uri: pathToFileURL(store).href },
    ...options,
  });
  return { out, store, ...(await cluster.start()) };
}

function ended(managed: Managed): ProcessEvent | undefined {
  return managed.events.find(({ event }) => event === "jobEnded" || event === "fatal");
}

/** Lets the job run at full speed to its end. */
async function finish(jobManager: Managed): Promise<void> {
  if (drainFile !== undefined) writeFileSync(drainFile, "");
  try {
    await until("the end of the job", () => jobManager.exitCode !== undefined, 60_000);
    expect(ended(jobManager)).toMatchObject({ event: "jobEnded", state: "FINISHED" });
  } catch (error) {
    throw new Error(`${String(error)}\n${cluster?.logs()}`, { cause: error });
  }
}

interface JobDetails {
  readonly state: string;
  readonly vertices: readonly { readonly status: string; readonly metrics: { readonly "read-records": number } }[];
}

/** A running job shows itself over REST and in /metrics of both kinds of processes. */
async function expectVisible(of: TestCluster, taskManagers: readonly Managed[]): Promise<void> {
  const { jobs } = (await of.rest("/jobs")) as { readonly jobs: readonly { readonly id: string }[] };
  const details = async (): Promise<JobDetails> => (await of.rest(`/jobs/${jobs[0]?.id ?? ""}`)) as JobDetails;
  await until("counters in heartbeats", async () => ((await details()).vertices[1]?.metrics["read-records"] ?? 0) > 0);
  const job = await details();
  expect([job.state, ...job.vertices.map(({ status }) => status)]).toEqual(["RUNNING", "RUNNING", "RUNNING"]);
  const [first] = taskManagers[0]?.events ?? [];
  const address = first?.event === "listening" ? first.metricsAddress : undefined;
  const page = await (await fetch(`http://${address ?? ""}/metrics`)).text();
  expect(page).toMatch(/^flink_taskmanager_job_task_numRecordsIn\{[^}]*task_name="keyed sum[^}]*\} [1-9]/mu);
}

describe("a job of several processes", () => {
  test("survives kill -9 of a TaskManager and of the JobManager with exact output", async () => {
    const { out, jobManager, taskManagers } = await startKeyedSum();
    const [, second] = taskManagers;
    if (cluster === undefined || second === undefined) throw new Error("no cluster");
    await until("published output", () => listPublished(out).length >= 2);
    await expectVisible(cluster, taskManagers);
    await cluster.kill(second);
    await cluster.startTaskManager(1);
    await until("a restart", () => jobManager.stderr.includes('"message":"the job restarts"'));
    const published = listPublished(out).length;
    await until("output after the restart", () => listPublished(out).length >= published + 4);
    expect(jobManager.stderr).toMatch(/"attempt":1,"slots":2,"checkpoint":[1-9]/);
    await cluster.kill(jobManager);
    const next = await cluster.startJobManager();
    await finish(next);
    expect(next.stderr).toMatch(/"attempt":0,"slots":2,"checkpoint":[1-9]/);
    expect(next.stderr).toMatch(/"epoch":2/);
    expectExact(publishedLines(out), COUNT, KEYS);
  }, 90_000);
});

describe("bad jobs end with one clear message", () => {
  test.each([
    ["throws", /USER_FUNCTION_FAILED[^]*taste[^]*record 500 is not to my taste[^]*bad-job\.ts/u, {}],
    ["exits", /TASK_LOST[^]*ended with exit code 0[^]*process\.exit/u, {}],
    ["rejects", /TASK_LOST[^]*nobody caught me/u, {}],
    [
      "loops",
      /USER_FUNCTION_STUCK[^]*"[^"]*taste[^"]*"[^]*has not returned[^]*endless loop/u,
      { "sluice.task.stuck-timeout": "2 s" },
    ],
    ["fills-heap", /OUT_OF_MEMORY[^]*slot-heap-size/u, { "sluice.taskmanager.slot-heap-size": "64 mb" }],
  ] as const)(
    "a function that %s",
    async (what, message, configuration) => {
      cluster = new TestCluster({
        jobPath: join(JOBS, "bad-job.ts"),
        jobArguments: [what],
        configuration: { "restart-strategy.type": "none", "heartbeat.interval": "200 ms", ...configuration },
        taskManagers: 1,
        slots: 1,
      });
      const { jobManager, taskManagers } = await cluster.start();
      try {
        await until("the end of the job", () => jobManager.exitCode !== undefined, 30_000);
        await until("the end of the TaskManager", () => taskManagers[0]?.exitCode !== undefined, 10_000);
      } catch (error) {
        throw new Error(`${String(error)}\n${cluster.logs()}`, { cause: error });
      }
      const end = ended(jobManager);
      expect(end).toMatchObject({ event: "jobEnded", state: "FAILED", message: expect.stringMatching(message) });
      expect([jobManager.exitCode, taskManagers[0]?.exitCode]).toEqual([1, 0]);
    },
    60_000,
  );

  test.each([
    [
      "main-throws",
      {
        code: "JOB_MAIN_FAILED",
        message: expect.stringMatching(/RangeError: no such airport/u),
        stack: expect.stringMatching(/bad-job\.ts/u),
      },
    ],
    ["main-exits", { code: "JOB_MAIN_FAILED", message: expect.stringMatching(/ended its process \(exit code 3\)/u) }],
    ["main-loops", { code: "JOB_MAIN_TIMEOUT", message: expect.stringMatching(/within 1.5 s/u) }],
    ["main-waits", { code: "JOB_MAIN_TIMEOUT" }],
  ])("%s", async (what, failure) => {
    const planning = runPlanProcess({
      moduleUrl: pathToFileURL(join(JOBS, "bad-job.ts")).href,
      arguments: [what],
      configuration: {},
      jobName: "bad",
      // what is to end by itself may take its time on a busy machine
      ...(failure.code === "JOB_MAIN_TIMEOUT" ? { timeoutMs: 1_500 } : {}),
    });
    await expect(planning).rejects.toMatchObject(failure);
  });

  test("a module that is not there, and one that is none", async () => {
    const plan = (path: string) =>
      runPlanProcess({ moduleUrl: pathToFileURL(path).href, arguments: [], configuration: {}, jobName: "bad" });
    await expect(plan("/nowhere/job.ts")).rejects.toMatchObject({ code: "JOB_MODULE_NOT_FOUND" });
    const path = join(scratch(), "job.ts");
    writeFileSync(path, "export const mein = 1;\n");
    await expect(plan(path)).rejects.toMatchObject({ code: "JOB_MODULE_INVALID" });
  });

  test("PP2: user code finds what it declared, and no secret, in its environment", async () => {
    const variables = {
      SLUICE_SECRET: "0123456789abcdef",
      SLUICE_REST_TOKEN: "0123456789abcdef",
      AWS_SECRET_ACCESS_KEY: "0123456789abcdef",
      BAD_JOB_TOKEN: "a token",
      BAD_JOB_REGION: "eu",
    };
    Object.assign(process.env, variables);
    try {
      const { plan, output } = await runPlanProcess({
        moduleUrl: pathToFileURL(join(JOBS, "bad-job.ts")).href,
        arguments: ["main-prints"],
        configuration: {},
        jobName: "bad",
      });
      expect(JSON.parse(output)).toEqual({
        ours: [null, null, null],
        undeclared: null,
        declared: "eu",
        secret: null,
      });
      expect(plan.environment).toEqual({
        values: { BAD_JOB_REGION: "eu" },
        secrets: [{ name: "BAD_JOB_TOKEN", optional: false }],
      });
    } finally {
      for (const name of Object.keys(variables)) delete process.env[name];
    }
  });

  test("checkpointing without a place for checkpoints is refused with the key to set", async () => {
    cluster = new TestCluster({
      jobPath: join(JOBS, "bad-job.ts"),
      jobArguments: [""],
      configuration: { "execution.checkpointing.interval": "1 s" },
      taskManagers: 0,
      slots: 1,
    });
    const { jobManager } = await cluster.start();
    await until("the end of the JobManager", () => jobManager.exitCode !== undefined);
    expect(ended(jobManager)).toMatchObject({
      event: "fatal",
      code: "CONFIG_INVALID",
      remedy: expect.stringMatching(/execution\.checkpointing\.dir/u),
      retry: "never",
    });
    expect(jobManager.exitCode).toBe(1);
  });
});

describe("the end of processes", () => {
  test("REST cancels a job; the log says so, and the next start continues it", async () => {
    const { out, jobManager, taskManagers } = await startKeyedSum();
    if (cluster === undefined) throw new Error("no cluster");
    await until("published output", () => listPublished(out).length >= 2);
    const jobs = (await cluster.rest("/jobs")) as {
      readonly jobs: readonly { readonly id: string; readonly status: string }[];
    };
    expect(jobs.jobs).toMatchObject([{ status: "RUNNING" }]);
    await cluster.cancel(jobs.jobs[0]?.id ?? "");
    await until("the end of the job", () => jobManager.exitCode !== undefined, 20_000);
    expect([ended(jobManager), jobManager.exitCode]).toMatchObject([{ event: "jobEnded", state: "CANCELED" }, 0]);
    await until("the end of the TaskManagers", () => taskManagers.every(({ exitCode }) => exitCode === 0), 10_000);
    const restarted = await cluster.startJobManager();
    await until("the end of a JobManager that a supervisor starts once more", () => restarted.exitCode !== undefined);
    expect(ended(restarted)).toMatchObject({ event: "jobEnded", state: "CANCELED" });
    const next = await cluster.startJobManager({ newSubmission: true });
    await Promise.all([cluster.startTaskManager(0), cluster.startTaskManager(1)]);
    await finish(next);
    expectExact(publishedLines(out), COUNT, KEYS);
  }, 90_000);

  test("REST tells every record of a job that has finished, though no heartbeat told the last ones", async () => {
    const { jobManager } = await startKeyedSum({
      configuration: { ...CONFIGURATION, "execution.shutdown-on-application-finish": "false" },
    });
    const of = cluster;
    if (of === undefined || drainFile === undefined) throw new Error("no cluster");
    writeFileSync(drainFile, "");
    const { jobs } = (await of.rest("/jobs")) as { readonly jobs: readonly { readonly id: string }[] };
    const details = async (): Promise<JobDetails> => (await of.rest(`/jobs/${jobs[0]?.id ?? ""}`)) as JobDetails;
    await until("the end of the job", async () => (await details()).state === "FINISHED", 60_000);
    const { vertices } = await details();
    expect(vertices.map(({ status }) => status)).toEqual(["FINISHED", "FINISHED"]);
    expect(vertices.map(({ metrics }) => metrics["read-records"])).toEqual([COUNT, COUNT]);
    jobManager.child.kill("SIGTERM");
    await until("the end of the JobManager", () => jobManager.exitCode !== undefined, 20_000);
  }, 90_000);

  test("with DELETE_ON_CANCELLATION REST cancels a job with its checkpoints; the next start is empty because the log says so", async () => {
    const { out, store, jobManager } = await startKeyedSum({
      configuration: {
        ...CONFIGURATION,
        "execution.checkpointing.externalized-checkpoint-retention": "DELETE_ON_CANCELLATION",
      },
    });
    if (cluster === undefined) throw new Error("no cluster");
    await until("published output", () => listPublished(out).length >= 2);
    const { jobs } = (await cluster.rest("/jobs")) as { readonly jobs: readonly { readonly id: string }[] };
    const checkpoints = (): readonly string[] =>
      (readdirSync(join(store, "test", "process-test"), { recursive: true }) as string[]).filter(
        (path) => path.includes("chk-") && path.includes("/"),
      );
    expect(checkpoints()).not.toEqual([]);
    await cluster.cancel(jobs[0]?.id ?? "");
    await until("the end of the job", () => jobManager.exitCode !== undefined, 20_000);
    expect(ended(jobManager)).toMatchObject({ event: "jobEnded", state: "CANCELED" });
    expect(checkpoints()).toEqual([]);
    const before = new Set(listPublished(out));
    const next = await cluster.startJobManager({ newSubmission: true });
    await Promise.all([cluster.startTaskManager(0), cluster.startTaskManager(1)]);
    await finish(next);
    expect(next.stderr).toMatch(/the job starts empty: its checkpoints were deleted when it was cancelled/u);
    expect(next.stderr).toMatch(/"attempt":0,"slots":2,"checkpoint":null/u);
    const again = publishedLines(out, (name) => !before.has(name)); // what was published stays
    expectExact(again, COUNT, KEYS);
    expect(listPublished(out)).toEqual(expect.arrayContaining([...before]));
  }, 90_000);

  test("SIGTERM suspends: the job is not over, and the next JobManager goes on; a finished one is refused", async () => {
    const { out, jobManager } = await startKeyedSum();
    if (cluster === undefined) throw new Error("no cluster");
    await until("published output", () => listPublished(out).length >= 2);
    await cluster.kill(jobManager, "SIGTERM");
    expect([ended(jobManager), jobManager.exitCode]).toEqual([undefined, 0]);
    const next = await cluster.startJobManager();
    await finish(next);
    expectExact(publishedLines(out), COUNT, KEYS);
    const restarted = await cluster.startJobManager();
    await until("the end of the restarted JobManager", () => restarted.exitCode !== undefined);
    expect(ended(restarted)).toMatchObject({ event: "jobEnded", state: "FINISHED" });
    const again = await cluster.startJobManager({ newSubmission: true });
    await until("the end of the JobManager", () => again.exitCode !== undefined);
    expect(ended(again)).toMatchObject({ event: "fatal", code: "JOB_FINISHED", retry: "never" });
  }, 90_000);

  test("a TaskManager that stands still for longer than the heartbeat timeout is replaced, and does no harm when it wakes", async () => {
    const { out, jobManager, taskManagers } = await startKeyedSum();
    const [, second] = taskManagers;
    if (cluster === undefined || second === undefined) throw new Error("no cluster");
    await until("published output", () => listPublished(out).length >= 2);
    second.child.kill("SIGSTOP");
    await until("its loss", () => jobManager.stderr.includes("no heartbeat"), 15_000);
    second.child.kill("SIGCONT");
    await finish(jobManager);
    expect(jobManager.stderr).toMatch(/"attempt":1,"slots":2,"checkpoint":[1-9]/u);
    expectExact(publishedLines(out), COUNT, KEYS);
  }, 90_000);

  test("a JobManager that stands still meanwhile is fenced: it notifies nobody and ends", async () => {
    const { out, jobManager } = await startKeyedSum();
    if (cluster === undefined) throw new Error("no cluster");
    await until("published output", () => listPublished(out).length >= 2);
    jobManager.child.kill("SIGSTOP");
    const next = await cluster.startJobManager({ elsewhere: true });
    await Promise.all([cluster.startTaskManager(2), cluster.startTaskManager(3)]);
    await until("output of the next epoch", () => next.stderr.includes('"message":"checkpoint completed"'), 30_000);
    jobManager.child.kill("SIGCONT");
    await until("its end", () => jobManager.exitCode !== undefined, 20_000);
    expect(ended(jobManager)).toMatchObject({ event: "fatal", code: "FENCED", retry: "never" });
    await finish(next);
    expectExact(publishedLines(out), COUNT, KEYS);
  }, 90_000);
});

test("SW1: code that changes during a run is refused; a new start over the same log runs it and continues", async () => {
  const code = scratch();
  writeFileSync(join(code, "job.ts"), 'export { main } from "./imported.ts";\n');
  const imported = join(code, "imported.ts");
  writeFileSync(
    imported,
    `export { main } from ${JSON.stringify(pathToFileURL(join(JOBS, "keyed-sum-job.ts")).href)};\n`,
  );
  const { out, jobManager, taskManagers } = await startKeyedSum({ jobPath: join(code, "job.ts") });
  const [, second] = taskManagers;
  if (cluster === undefined || second === undefined) throw new Error("no cluster");
  await until("published output", () => listPublished(out).length >= 2);
  appendFileSync(imported, "// another version, with the same graph\n");
  await cluster.kill(second);
  await cluster.startTaskManager(1);
  await until("the end of the JobManager", () => jobManager.exitCode !== undefined);
  expect(ended(jobManager)).toMatchObject({
    event: "jobEnded",
    state: "FAILED",
    message: expect.stringMatching(/PLAN_MISMATCH.*job\.ts.*deploy the same files to every process/su),
  });
  await until("the end of the TaskManagers", () => taskManagers.every(({ exitCode }) => exitCode !== undefined));
  const upgraded = await cluster.start();
  await finish(upgraded.jobManager);
  expect(upgraded.jobManager.stderr).toMatch(/"attempt":0,"slots":2,"checkpoint":[1-9]/u);
  expectExact(publishedLines(out), COUNT, KEYS);
}, 90_000);

test("a TaskManager with another secret is refused, and both logs say why", async () => {
  const { jobManager } = await startKeyedSum({ taskManagers: 0 });
  if (cluster === undefined) throw new Error("no cluster");
  const stranger = await cluster.startTaskManager(7, { secret: "another secret, as long as the first" });
  const saysWhy = (process: Managed): boolean => process.stderr.includes("the secrets differ");
  await until("both to say why", () => saysWhy(jobManager) && saysWhy(stranger));
  expect([jobManager.exitCode, stranger.exitCode]).toEqual([undefined, undefined]);
});

test("PS4: a JobManager that runs has left to the next one what it compiled, before anything ends it", async () => {
  const compiled = join(scratch(), "compiled");
  const { jobManager } = await startKeyedSum({ taskManagers: 0, environment: { NODE_COMPILE_CACHE: compiled } });
  const files = (): readonly unknown[] => readdirSync(compiled, { recursive: true });
  await until("one file for each of its modules", () => files().length > 100);
  expect(jobManager.exitCode).toBe(undefined);
});

describe("a damaged newest checkpoint", () => {
  test("is repaired from the TaskManagers' local copies", async () => {
    const { out, store, jobManager } = await startKeyedSum();
    if (cluster === undefined) throw new Error("no cluster");
    await until("published output", () => listPublished(out).length >= 2);
    await cluster.kill(jobManager);
    const struck = damageNewest(store);
    const next = await cluster.startJobManager();
    await finish(next);
    expect(struck).toBeGreaterThan(0);
    expect(next.stderr).toMatch(/repaired from local copies/u);
    expectExact(publishedLines(out), COUNT, KEYS);
  }, 90_000);

  test("JR1: flipped bits without a copy anywhere: back to the checkpoint before, because the sink can retract", async () => {
    const { out, store, jobManager, taskManagers } = await startKeyedSum();
    if (cluster === undefined) throw new Error("no cluster");
    await until("published output", () => listPublished(out).length >= 6);
    for (const one of [jobManager, ...taskManagers]) await cluster.kill(one);
    for (const i of [0, 1]) rmSync(join(cluster.directory, `work-${i}`), { recursive: true, force: true });
    const struck = damageNewest(store, (bytes) => bytes.map((byte, i) => (i === 20 ? byte ^ 4 : byte)) as Buffer);
    const next = await cluster.startJobManager();
    await Promise.all([cluster.startTaskManager(0), cluster.startTaskManager(1)]);
    await finish(next);
    expect(struck).toBeGreaterThan(0);
    expect(next.stderr).toMatch(/goes back behind its newest checkpoint/u);
    expectExact(publishedLines(out), COUNT, KEYS);
  }, 90_000);
});

/** Damages every object of parts of the newest checkpoint; returns how many. Default: cuts it. */
function damageNewest(store: string, damage: (bytes: Buffer) => Buffer = () => Buffer.from("cut")): number {
  const jobDirectory = join(store, "test", "process-test");
  const newest = Math.max(
    ...readdirSync(jobDirectory).flatMap((name) => (name.startsWith("chk-") ? [Number(name.slice(4))] : [])),
  );
  const directory = join(jobDirectory, `chk-${newest}`);
  const objects = readdirSync(directory).filter((name) => name.startsWith("x-"));
  for (const name of objects) writeFileSync(join(directory, name), damage(readFileSync(join(directory, name))));
  return objects.length;
}
