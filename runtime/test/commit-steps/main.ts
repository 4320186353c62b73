// `npm run soak -- commit-steps`: the JobManager killed at every numbered step of the commit protocol, on real processes.
//
//   --stores S    file | minio | both (default both)
//   --points P    comma-separated names of fault points, or `all` (default), or `half`: every other one
//   --per-run N   steps that one job survives one after the other (default 1)
//   --side-by-side N   jobs at the same time (default 2)
//   --planted B   plants a bug; the run then succeeds when a run is not exact or leaves garbage
//   --in-flight   also holds uploads back at P2 on MinIO until the next JobManager has taken over
//
// One line per step; the last line is JSON. Exit code 0: every step struck, every output is exact, no garbage was left but uploads that
// were on their way, and collecting removed exactly those.

import { parseArgs } from "node:util";

import { FAULT_POINTS } from "@sluice/kit";
import type { FaultPoint } from "@sluice/kit";
import { openObjectStore, startFaultProxy } from "@sluice/kit/env/node";
import { startMinio } from "@sluice/tools/peers";
import type { MinioServer } from "@sluice/tools/peers";

import { makeBucket, s3Environment } from "../support/store.ts";
import { runSteps } from "./run-steps.ts";
import type { StepsOptions, StepsResult } from "./run-steps.ts";

const BUCKET = "checkpoints";

interface Task {
  readonly name: string;
  readonly points: readonly FaultPoint[];
  readonly run: (seed: number) => Promise<StepsResult>;
}

function settings(): {
  readonly stores: readonly ("file" | "minio")[];
  readonly points: readonly FaultPoint[];
  readonly perRun: number;
  readonly sideBySide: number;
  readonly inFlight: boolean;
  readonly planted: string | undefined;
} {
  const { values } = parseArgs({
    options: {
      stores: { type: "string", default: "both" },
      points: { type: "string", default: "all" },
      "per-run": { type: "string", default: "1" },
      "side-by-side": { type: "string", default: "2" },
      planted: { type: "string" },
      "in-flight": { type: "boolean", default: false },
      seeds: { type: "string" }, // of every soak; the steps are what they are
    },
  });
  const { stores, points } = values;
  if (stores !== "file" && stores !== "minio" && stores !== "both") throw new Error("--stores: file, minio or both");
  const wanted =
    points === "all"
      ? FAULT_POINTS
      : points === "half"
        ? FAULT_POINTS.filter((_, i) => i % 2 === 1)
        : FAULT_POINTS.filter((point) => points.split(",").includes(point));
  if (wanted.length === 0) throw new Error(`--points: some of ${FAULT_POINTS.join(", ")}`);
  return {
    stores: stores === "both" ? ["file", "minio"] : [stores],
    points: wanted,
    perRun: Math.max(1, Number(values["per-run"])),
    sideBySide: Math.max(1, Number(values["side-by-side"])),
    inFlight: values["in-flight"],
    planted: values.planted,
  };
}

function onFile(points: readonly FaultPoint[], plantedBugs: readonly string[]): Task {
  return {
    name: "file",
    points,
    run: (seed) => runSteps({ points, seed, plantedBugs, openStore: (run) => openObjectStore(run.storeUri) }),
  };
}

/** What a run needs to use this server at `endpoint`. */
function minioOptions(
  server: MinioServer,
  options: { readonly endpoint: string; readonly seed: number },
): Omit<StepsOptions, "points"> {
  const { accessKey, secretKey } = server;
  const { endpoint, seed } = options;
  return {
    seed,
    storeUri: `s3://${BUCKET}/run-${seed}`,
    env: s3Environment(server),
    s3Endpoint: endpoint,
    openStore: (run) => openObjectStore(run.storeUri, { s3: { endpoint: server.endpoint, accessKey, secretKey } }),
  };
}

function onMinio(server: MinioServer, points: readonly FaultPoint[]): Task {
  return {
    name: "minio",
    points,
    run: (seed) => runSteps({ points, ...minioOptions(server, { endpoint: server.endpoint, seed }) }),
  };
}

/** Packs are on their way when the JobManager dies, and arrive after its successor has looked for leftovers. */
function inFlight(server: MinioServer): Task {
  const points: readonly FaultPoint[] = ["P2-triggered"];
  return {
    name: "minio, uploads in flight",
    points,
    run: async (seed) => {
      const proxy = await startFaultProxy({ target: server.endpoint, seed });
      try {
        const result = await runSteps({
          points,
          ...minioOptions(server, { endpoint: proxy.endpoint, seed }),
          // Further ones are triggered while the first ones wait for their packs; seldom, since a newer one aborts the alignment.
          configuration: {
            "execution.checkpointing.interval": "500 ms",
            "execution.checkpointing.max-concurrent-checkpoints": "100",
          },
          around: async (_point, strike, cluster) => {
            proxy.set({ only: "/x-", held: true });
            await cluster.until("a pack is on its way", () => proxy.struck.held > 0, { timeoutMs: 30_000 });
            await strike();
            await cluster.until(
              "the next JobManager has restored the job",
              async () => {
                const job = await cluster.rest.job();
                return job.vertices.every((vertex) => vertex.tasks.RUNNING === vertex.parallelism);
              },
              { timeoutMs: 60_000 },
            );
            proxy.set({ held: false });
          },
        });
        if (result.steps.every(({ collected }) => collected.length === 0))
          throw new Error("no upload was on its way: this run proves nothing");
        return result;
      } finally {
        await proxy.close();
      }
    },
  };
}

function chunks(points: readonly FaultPoint[], size: number): readonly (readonly FaultPoint[])[] {
  return Array.from({ length: Math.ceil(points.length / size) }, (_, i) => points.slice(i * size, (i + 1) * size));
}

async function main(): Promise<number> {
  const { stores, points, perRun, sideBySide, planted, inFlight: withInFlight } = settings();
  const server = stores.includes("minio") || withInFlight ? await startMinio() : undefined;
  if (server !== undefined) await makeBucket(server, BUCKET);
  const problems: string[] = [];
  const done: (StepsResult & { readonly name: string })[] = [];
  try {
    const tasks = stores.flatMap((store): readonly Task[] =>
      chunks(points, perRun).map((some) =>
        server === undefined || store === "file"
          ? onFile(some, planted === undefined ? [] : [planted])
          : onMinio(server, some),
      ),
    );
    if (withInFlight && server !== undefined) tasks.unshift(inFlight(server));
    let next = 0;
    const work = async (): Promise<void> => {
      for (let at = next; at < tasks.length; at = next) {
        next += 1;
        const task = tasks[at];
        if (task !== undefined) await runTask(task, at + 1, { problems, done });
      }
    };
    await Promise.all(Array.from({ length: sideBySide }, work));
  } finally {
    await server?.stop();
  }
  const passed = (problems.length === 0) === (planted === undefined);
  const steps = done.flatMap((result) => result.steps);
  console.log(
    JSON.stringify({
      strikes: steps.length,
      points: new Set(steps.map(({ point }) => point)).size,
      runs: done.length,
      exact: done.filter(({ audit }) => audit.passed).length,
      collected: steps.reduce((sum, { collected }) => sum + collected.length, 0),
      problems,
      ...(planted === undefined ? {} : { planted, found: problems.length > 0 }),
      verdict: passed ? "passed" : "failed",
    }),
  );
  return passed ? 0 : 1;
}

async function runTask(
  task: Task,
  seed: number,
  into: { readonly problems: string[]; readonly done: (StepsResult & { readonly name: string })[] },
): Promise<void> {
  const { name } = task;
  try {
    const result = await task.run(seed);
    into.done.push({ ...result, name });
    for (const { point, restoredId, collected, elapsedMs } of result.steps) {
      const garbage = collected.length === 0 ? "no garbage" : `collected ${collected.join(", ")}`;
      console.log(`${name} ${point}: struck, restored ${restoredId}, ${garbage}; ${(elapsedMs / 1_000).toFixed(1)} s`);
    }
    const { audit, garbageAtEnd } = result;
    if (!audit.passed)
      into.problems.push(`${name} ${task.points.join()}: the audit failed: ${JSON.stringify(audit.problems)}`);
    if (garbageAtEnd.length > 0)
      into.problems.push(`${name} ${task.points.join()}: garbage at the end: ${garbageAtEnd.join(", ")}`);
  } catch (thrown) {
    const reason = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
    into.problems.push(`${name} ${task.points.join()}: ${reason}`);
    console.log(`${name} ${task.points.join()}: DID NOT GET THROUGH: ${reason}`);
  }
}

process.exitCode = await main();
