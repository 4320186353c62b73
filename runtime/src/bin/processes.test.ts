// Real processes over a file store: the whole thread from plan to published output, through kills.

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
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
const directories: string[] = [];

afterEach(async () => {
  await cluster?.stop();
  cluster = undefined;
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
  expect(rows.map(([, position]) => position).sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
  for (let key = 0; key < keys; key += 1) {
    const own = rows.filter((row) => row[0] === key).sort((a, b) => a[2] - b[2] || a[1] - b[1]);
    let sum = 0;
    for (const [, position, reported] of own) {
      sum += position;
      if (reported !== sum) throw new Error(`key ${key}: sum ${reported} at position ${position}, expected ${sum}`);
    }
  }
}

const COUNT = 24_000;
const KEYS = 7;

async function startKeyedSum(options: Partial<ClusterOptions> & { readonly rate?: number } = {}): Promise<{
  readonly out: string;
  readonly jobManager: Managed;
  readonly taskManagers: readonly Managed[];
}> {
  const out = join(scratch(), "out");
  const store = join(scratch(), "store");
  cluster = new TestCluster({
    jobPath: join(JOBS, "keyed-sum-job.ts"),
    jobArguments: [out, String(COUNT), String(options.rate ?? 4_000), String(KEYS)],
    configuration: { "execution.checkpointing.interval": "300 ms", "parallelism.default": "2", "heartbeat.timeout": "3 s" },
    taskManagers: 2,
    slots: 1,
    store: { uri: pathToFileURL(store).href },
    ...options,
  });
  return { out, ...(await cluster.start()) };
}

function ended(managed: Managed): ProcessEvent | undefined {
  return managed.events.find(({ event }) => event === "jobEnded" || event === "fatal");
}

async function finish(jobManager: Managed): Promise<void> {
  try {
    await until("the end of the job", () => jobManager.exitCode !== undefined, 60_000);
    expect(ended(jobManager)).toMatchObject({ event: "jobEnded", state: "FINISHED" });
  } catch (error) {
    throw new Error(`${String(error)}\n${cluster?.logs()}`, { cause: error });
  }
}

describe("a job of several processes", () => {
  test("survives kill -9 of a TaskManager and of the JobManager with exact output", async () => {
    const { out, jobManager, taskManagers } = await startKeyedSum();
    const [, second] = taskManagers;
    if (cluster === undefined || second === undefined) throw new Error("no cluster");
    await until("published output", () => listPublished(out).length >= 2);
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
