// Flink's own command line and Java client drive a job of ours: real processes, and their words for what happened.

import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { problemsOf, REST_ROUTES } from "@sluice/api";
import type { PathParameterName, RouteDescription } from "@sluice/api";
import { startLocalCluster } from "@sluice/cli";
import type { LocalCluster } from "@sluice/cli";
import { flinkClient, runFlink, runFlinkProgram } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";

import { untilCompleted } from "../support/numbers-run.ts";

const JOB = fileURLToPath(new URL("../../src/bin/test/keyed-sum-job.ts", import.meta.url));
const DRIVE = fileURLToPath(new URL("Drive.java", import.meta.url));
const TOKEN = "a-token-of-this-test-0123456789";

const directory = mkdtempSync(join(tmpdir(), "sluice-flink-client-"));
const tokenBefore = process.env["SLUICE_REST_TOKEN"];
const clusters: LocalCluster[] = [];

beforeAll(() => {
  process.env["SLUICE_REST_TOKEN"] = TOKEN; // for the processes and for our own questions
});
afterAll(async () => {
  if (tokenBefore === undefined) delete process.env["SLUICE_REST_TOKEN"];
  else process.env["SLUICE_REST_TOKEN"] = tokenBefore;
  for (const cluster of clusters) await cluster.stop(0);
  rmSync(directory, { recursive: true, force: true });
});

async function start(options: { readonly name: string; readonly from?: string }): Promise<LocalCluster> {
  const { name, from } = options;
  const cluster = await startLocalCluster({
    job: JOB,
    arguments: [join(directory, `out-${name}`), "10000000", "2000", "10"],
    name,
    workDir: join(directory, name),
    configuration: {
      "execution.checkpointing.interval": "300 ms",
      "execution.checkpointing.dir": pathToFileURL(join(directory, "checkpoints")).href,
      "heartbeat.interval": "200 ms",
      "heartbeat.timeout": "5 s",
    },
    ...(from === undefined ? {} : { from }),
  });
  clusters.push(cluster);
  await untilCompleted(cluster, 1);
  return cluster;
}

function addressOf(cluster: LocalCluster): string {
  return (cluster.restUrl() ?? "").replace("http://", "");
}

/** Every route that reads, of a JobManager that runs a job, against its description. */
async function auditRoutes(cluster: LocalCluster): Promise<readonly string[]> {
  const job = await cluster.rest.job();
  const { history } = await cluster.rest.checkpoints();
  const values: Readonly<Partial<Record<PathParameterName, string>>> = {
    jobid: job.jid,
    vertexid: job.vertices[0]?.id ?? "",
    checkpointid: String(history.find(({ status }) => status === "COMPLETED")?.id),
    subtaskindex: "0",
    attempt: "0",
    taskmanagerid: "tm-1",
    filename: "jobmanager.log",
  };
  const problems: string[] = [];
  let asked = 0;
  for (const route of Object.values(REST_ROUTES) as RouteDescription[]) {
    if (route.method !== "GET" || route.path.includes(":triggerid")) continue;
    const path = route.path.replaceAll(/:(\w+)/gu, (_, name: string) => values[name as PathParameterName] ?? name);
    const response = await fetch(`http://${addressOf(cluster)}/v1${path}`, {
      headers: { authorization: `Bearer ${TOKEN}` },
    });
    asked += 1;
    if (response.status !== route.status) problems.push(`${path}: ${response.status}`);
    if (route.response === "text/plain") continue;
    const found = problemsOf(route.response, await response.json(), { allowsUnknownFields: false });
    problems.push(...found.map((problem) => `${path}: ${problem}`));
  }
  expect(asked).toBeGreaterThan(35);
  return problems;
}

describeWithPeer(flinkClient, "Flink's client", () => {
  test("reads every answer, takes checkpoints and savepoints, stops and cancels, and waits for the end", async () => {
    const savepoints = pathToFileURL(join(directory, "savepoints")).href;
    const first = await start({ name: "driven" });
    const address = addressOf(first);
    const jid = await first.rest.jobId();
    const flink = (...args: readonly string[]): ReturnType<typeof runFlink> =>
      runFlink({ address, token: TOKEN, args });

    expect((await runFlink({ address, args: ["list"] })).output).toMatch(/needs a token/u);
    const listed = await flink("list");
    expect(listed.output).toContain(`${jid} : driven (RUNNING)`);
    expect(await auditRoutes(first)).toEqual([]);

    const read = await runFlinkProgram(DRIVE, { address, token: TOKEN, args: ["read", jid, savepoints] });
    expect(read.output.trim().split("\n")).toEqual([
      "listJobs=1",
      "status=true",
      expect.stringMatching(/^details=[1-9]/u),
      "accumulators=0",
      "overview=1",
      ..."config jobConfig plan checkpoints checkpointConfig taskManagers exceptions jobManagerConfig vertex vertexTaskManagers backPressure subtaskTimes aggregatedMetrics"
        .split(" ")
        .map((name) => `${name}=read`),
      "checkpoint=true",
      "checkpointDetails=read",
      "savepoint=true",
      "disposed=true",
      expect.stringMatching(/^failure=CONFIG_INVALID: .*gopher/u),
    ]);
    expect(read.code).toBe(0);

    const asked = Promise.withResolvers<void>();
    const awaiting = runFlinkProgram(DRIVE, {
      address,
      token: TOKEN,
      args: ["await", jid],
      onOutput: (text) => {
        if (text.includes("asked")) asked.resolve();
      },
    });
    await Promise.race([asked.promise, awaiting]);
    const stopped = await flink("stop", "--savepointPath", savepoints, jid);
    expect(stopped.output).toContain("Savepoint completed. Path:");
    const path = /Path: (\S+)/u.exec(stopped.output)?.[1] ?? "";
    expect(existsSync(fileURLToPath(path))).toBe(true);
    expect((await awaiting).output).toContain("result=true");
    expect(await first.waitForEnd()).toMatchObject({ state: "FINISHED" });

    const second = await start({ name: "driven-on", from: path });
    const again = await second.rest.jobId();
    const cancelled = await runFlink({ address: addressOf(second), token: TOKEN, args: ["cancel", again] });
    expect(cancelled.output).toContain(`Cancelled job ${again}.`);
    expect(await second.waitForEnd()).toMatchObject({ state: "CANCELED" });
  }, 240_000);
});
