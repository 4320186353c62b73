// Operations over REST on real processes: asked for by id, done once, whoever answers; with a token that guards them.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { OPERATION_ID_HEADER } from "@sluice/api";
import type { AggregatedMetric, CheckpointStatusMessage } from "@sluice/api";
import type { LocalCluster } from "@sluice/cli";

import { PROCESS_ENTRIES } from "../../src/bin/index.ts";
import type { ProcessEvent } from "../../src/model/index.ts";

import { type } from "../support/command-line.ts";
import { NumbersRun, untilCompleted } from "../support/numbers-run.ts";

const TOKEN = "a-token-of-this-test-9876543210";
const CHECKPOINT = "0".repeat(31) + "1";
const CANCEL = "0".repeat(31) + "2";

const TEST_TIMEOUT_MS = 180_000;
const PER_SECOND = 1_000;
/** More than both subtasks get through before the test is given up: the job is cancelled, it does not end. */
const COUNT = (2 * PER_SECOND * TEST_TIMEOUT_MS) / 1_000;

const run = new NumbersRun({ seed: 31, count: COUNT });
const tokenBefore = process.env["SLUICE_REST_TOKEN"];
beforeAll(() => {
  process.env["SLUICE_REST_TOKEN"] = TOKEN; // for the processes and for our own questions
});
afterAll(async () => {
  if (tokenBefore === undefined) delete process.env["SLUICE_REST_TOKEN"];
  else process.env["SLUICE_REST_TOKEN"] = tokenBefore;
  await run.dispose();
});

/** The process alone, without anybody who starts it again. */
function startJobManager(configPath: string): {
  readonly restAddress: Promise<string>;
  readonly exit: Promise<number>;
} {
  const child = spawn(process.execPath, [fileURLToPath(PROCESS_ENTRIES.jobManager), "--config", configPath], {
    env: { ...process.env, NODE_OPTIONS: "", SLUICE_SECRET: "0123456789abcdef" },
    stdio: ["pipe", "pipe", "ignore"],
  });
  const restAddress = Promise.withResolvers<string>();
  createInterface({ input: child.stdout! }).on("line", (line) => {
    const event = JSON.parse(line) as ProcessEvent;
    if (event.event === "listening") restAddress.resolve(event.restAddress ?? "");
  });
  return { restAddress: restAddress.promise, exit: once(child, "exit").then(([code]) => Number(code)) };
}

async function killJobManager(cluster: LocalCluster): Promise<void> {
  const { starts } = cluster.process({ kind: "jobmanager", index: 0 });
  cluster.kill({ kind: "jobmanager", index: 0 });
  await cluster.until(
    "the next JobManager listens",
    () => {
      const next = cluster.process({ kind: "jobmanager", index: 0 });
      return next.starts > starts && next.isListening;
    },
    { timeoutMs: 30_000 },
  );
}

test(
  "a checkpoint that was asked for is the same one after a failover, and an accepted cancellation survives it",
  async () => {
    const cluster = await run.start({ perSecond: PER_SECOND }, { name: run.name });
    await untilCompleted(cluster, 1);
    const { rest } = cluster;
    const jid = await rest.jobId();
    const trigger = (): Promise<void> => rest.post(`/jobs/${jid}/checkpoints`, { checkpointType: "FULL" }, CHECKPOINT);
    const outcome = (): Promise<number | undefined> =>
      cluster.until(
        "the checkpoint that was asked for completes",
        async () => {
          const path = `/jobs/${jid}/checkpoints/${CHECKPOINT}`;
          const { status, operation } = await rest.get<CheckpointStatusMessage>(path);
          return status.id === "COMPLETED" && operation?.checkpointId;
        },
        { timeoutMs: 30_000 },
      );
    await trigger();
    await trigger();
    const id = await outcome();
    expect(id).toBeGreaterThan(0);

    await killJobManager(cluster);
    await cluster.until("the next JobManager knows the operation", async () => (await trigger(), true), {
      timeoutMs: 30_000,
    });
    expect(await outcome()).toBe(id);
    await untilCompleted(cluster, 1);

    // What an autoscaler reads is measured: the keyed vertex works, and its thread's heap is collected.
    const { vertices } = await rest.job();
    const figures = (path: string, ...names: readonly string[]): Promise<readonly AggregatedMetric[]> =>
      rest.get(`${path}/metrics?get=${names.join(",")}&agg=sum`);
    const working = await cluster.until(
      "heartbeats bring rates",
      async () => {
        const path = `/jobs/${jid}/vertices/${vertices.at(-1)?.id}/subtasks`;
        const found = await figures(path, "numRecordsInPerSecond", "busyTimeMsPerSecond", "idleTimeMsPerSecond");
        return found.every(({ sum }) => Number(sum) > 0) && found.length === 3 && found;
      },
      { timeoutMs: 30_000 },
    );
    for (const { id, sum } of working) if (id.endsWith("MsPerSecond")) expect(sum).toBeLessThanOrEqual(2_000);
    await cluster.until(
      "a slot's heap is collected",
      async () => {
        const [young] = await figures("/taskmanagers", "Status.JVM.GarbageCollector.G1_Young_Generation.Count");
        return Number(young?.sum) > 0;
      },
      { timeoutMs: 30_000 },
    );

    // Without the token nobody gets in, with it the command line does.
    const url = cluster.restUrl() ?? "";
    const cancel = (headers: Readonly<Record<string, string>>): Promise<Response> =>
      fetch(`${url}/jobs/${jid}?mode=cancel`, { method: "PATCH", headers });
    expect((await cancel({})).status).toBe(401);
    const typed = (token: string): ReturnType<typeof type> =>
      type(["status", url], { directory: run.directory, env: { SLUICE_REST_TOKEN: token } });
    const [stranger, friend] = [typed(""), typed(TOKEN)];
    expect(await stranger.exit).toBe(2);
    expect(stranger.text()).toMatch(/does not take the token[^]*SLUICE_REST_TOKEN/u);
    expect(await friend.exit).toBe(0);
    expect(friend.text()).toContain("RUNNING");

    // The answer says that the cancellation is on record; the JobManager that gave it does not live to do it.
    cluster.pause({ kind: "taskmanager", index: 0 });
    const accepted = await cancel({ authorization: `Bearer ${TOKEN}`, [OPERATION_ID_HEADER]: CANCEL });
    expect(accepted.status).toBe(202);
    cluster.kill({ kind: "jobmanager", index: 0 });
    cluster.resume({ kind: "taskmanager", index: 0 });
    await cluster.until("the job ends", () => cluster.outcome !== undefined, { timeoutMs: 60_000 });
    expect(await cluster.waitForEnd()).toMatchObject({ state: "CANCELED" });

    // A JobManager that dies on its way out is started again: it tells what its predecessor recorded, and goes.
    const again = startJobManager(run.at("work", "jobmanager.json"));
    const restUrl = `http://${await again.restAddress}`;
    const headers = { authorization: `Bearer ${TOKEN}` };
    const last = async (path: string): Promise<unknown> => {
      for (;;) {
        const response = await fetch(`${restUrl}${path}`, { headers });
        if (response.status !== 503) return await response.json();
      }
    };
    expect(await last(`/jobs/${jid}/checkpoints/${CHECKPOINT}`)).toEqual({
      status: { id: "COMPLETED" },
      operation: { checkpointId: id },
    });
    expect(await last(`/jobs/${jid}/status`)).toEqual({ status: "CANCELED" });
    expect(await again.exit).toBe(0);
  },
  TEST_TIMEOUT_MS,
);
