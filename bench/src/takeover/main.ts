// `npm run bench -- takeover`: how long a JobManager process needs to take over a job of many tasks (issue: 1,000 tasks within 5 s).
//
// The JobManager is the real process over a real file:// store; TaskManagers are simulated (simulated-task-manager.ts): real connections,
// no slots. Each round kills the JobManager with SIGKILL and starts the next one at once.
//
// Invariants:
//   BT1. A round counts only if the new JobManager restored a checkpoint of all tasks and every task was deployed with its state.
//   BT2. Time runs from the start of the process to the arrival of the last deployment at its TaskManager.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { NodeClock, NodeHost, NodeLog, NodeNet, nodeRng, NodeTimers, openObjectStore } from "@sluice/kit/env/node";
import { PROCESS_ENTRIES } from "@sluice/runtime/internal/bin";
import type { JobManagerConfig, ProcessEvent } from "@sluice/runtime/internal/model";
import type { DeployRequest } from "@sluice/runtime/internal/rpc";

import { chainPlan } from "./plan.ts";
import { SimulatedTaskManager } from "./simulated-task-manager.ts";

const { values } = parseArgs({
  options: {
    vertices: { type: "string", default: "4" },
    parallelism: { type: "string", default: "250" },
    "task-managers": { type: "string", default: "50" },
    rounds: { type: "string", default: "7" },
  },
});
const [vertices, parallelism, taskManagers, rounds] = [
  Number(values.vertices),
  Number(values.parallelism),
  Number(values["task-managers"]),
  Number(values.rounds),
];
const SECRET = "0123456789abcdef";
const WAIT_MS = 120_000;

const directory = mkdtempSync(join(tmpdir(), "sluice-takeover-"));
const storeUri = pathToFileURL(join(directory, "checkpoints")).href;
const configuration = {
  "execution.checkpointing.interval": "1 s",
  "execution.checkpointing.dir": storeUri,
  "parallelism.default": String(parallelism),
};
const planPath = join(directory, "plan.json");
const configPath = join(directory, "jobmanager.json");
writeFileSync(planPath, JSON.stringify({ ...chainPlan(vertices, parallelism), configuration }));

interface JobManager {
  readonly child: ChildProcess;
  readonly startedMs: number;
  readonly listening: { readonly rpcAddress: string; readonly restAddress: string; readonly atMs: number };
}

function writeConfig(addresses: { readonly rpcAddress: string; readonly restAddress: string }): void {
  const config: JobManagerConfig = {
    jobName: "takeover",
    namespace: "bench",
    uid: "bench",
    moduleUrl: "file:///nowhere/job.ts",
    planPath,
    configuration,
    store: { uri: storeUri },
    ...addresses,
    start: { lineage: "bench", newLineage: false, from: undefined, allowReplay: undefined },
    plantedBugs: [],
  };
  writeFileSync(configPath, JSON.stringify(config));
}

async function startJobManager(): Promise<JobManager> {
  const startedMs = performance.now();
  const child = spawn(process.execPath, [fileURLToPath(PROCESS_ENTRIES.jobManager), "--config", configPath], {
    env: { ...process.env, SLUICE_SECRET: SECRET, SLUICE_LOG_LEVEL: process.env["SLUICE_LOG_LEVEL"] ?? "error" },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const listening = Promise.withResolvers<JobManager["listening"]>();
  createInterface({ input: child.stdout! }).on("line", (line) => {
    const event = JSON.parse(line) as ProcessEvent;
    if (event.event === "fatal") listening.reject(new Error(event.message));
    if (event.event !== "listening") return;
    const { rpcAddress = "", restAddress = "" } = event;
    listening.resolve({ rpcAddress, restAddress, atMs: performance.now() });
  });
  return { child, startedMs, listening: await listening.promise };
}

/** What the TaskManagers were told since `expect`. */
class Deployments {
  #waiting = Promise.withResolvers<number>();
  #tasks = 0;
  #restored = 0;
  #id: number | null = null;

  add(request: DeployRequest): void {
    for (const { tasks } of request.slots) {
      this.#tasks += tasks.length;
      this.#restored += tasks.filter(({ restore }) => (restore?.parts.length ?? 0) > 0).length;
    }
    this.#id = request.restoredCheckpointId;
    if (this.#tasks === vertices * parallelism) this.#waiting.resolve(performance.now());
  }

  expect(): Promise<number> {
    this.#waiting = Promise.withResolvers<number>();
    this.#tasks = 0;
    this.#restored = 0;
    return this.#waiting.promise;
  }

  /** BT1. */
  check(): void {
    if (this.#id === null || this.#restored !== vertices * parallelism)
      throw new Error(`checkpoint ${this.#id}: ${this.#restored} of ${this.#tasks} tasks were deployed with state`);
  }
}

async function untilCheckpoint(restAddress: string): Promise<void> {
  const deadlineMs = performance.now() + WAIT_MS;
  while (performance.now() < deadlineMs) {
    const { jobs } = (await (await fetch(`http://${restAddress}/jobs`)).json()) as {
      readonly jobs: readonly { readonly id: string }[];
    };
    const response = await fetch(`http://${restAddress}/jobs/${jobs[0]?.id}/checkpoints`);
    const { counts } = (await response.json()) as { readonly counts: { readonly completed: number } };
    if (counts.completed > 0) return;
    await sleep(50);
  }
  throw new Error("no checkpoint completed");
}

const deployments = new Deployments();
writeConfig({ rpcAddress: "127.0.0.1:0", restAddress: "127.0.0.1:0" });
let current = await startJobManager();
writeConfig(current.listening);
const log = new NodeLog({ level: "error" });
const env = {
  clock: new NodeClock(),
  timers: new NodeTimers(),
  rng: nodeRng(),
  net: new NodeNet(),
  log,
  host: new NodeHost({ log }),
};
const store = await openObjectStore(storeUri, {});
const managers = Array.from(
  { length: taskManagers },
  (_, i) =>
    new SimulatedTaskManager({
      env: { ...env, rng: env.rng.fork(`tm-${i}`) },
      id: `tm-${i}`,
      slots: Math.ceil(parallelism / taskManagers),
      secret: SECRET,
      address: current.listening.rpcAddress,
      store,
      onDeployed: (request) => deployments.add(request),
    }),
);
const keepAlive = setInterval(() => undefined, 1_000);
for (const manager of managers) void manager.run();

const figures: { readonly total: number; readonly listening: number; readonly cpuMs: number }[] = [];
for (let round = 0; round < rounds; round += 1) {
  await untilCheckpoint(current.listening.restAddress);
  const all = deployments.expect();
  const gone = new Promise((resolve) => current.child.once("exit", resolve));
  current.child.kill("SIGKILL");
  await gone;
  current = await startJobManager();
  const lastMs = await all;
  deployments.check();
  figures.push({
    total: lastMs - current.startedMs,
    listening: current.listening.atMs - current.startedMs,
    cpuMs: await cpuMsOf(current.listening.restAddress),
  });
  const { total, listening, cpuMs } = figures.at(-1)!;
  console.log(
    `round ${round + 1}: ${Math.round(total)} ms from start of the process to the last deployment, ` +
      `${Math.round(listening)} ms of it until it listens; ${Math.round(cpuMs)} ms of CPU time`,
  );
}
current.child.kill("SIGKILL");
for (const manager of managers) manager.stop();
clearInterval(keepAlive);
rmSync(directory, { recursive: true, force: true });

const totals = figures.map(({ total }) => total).sort((a, b) => a - b);
console.log(
  `${vertices * parallelism} tasks on ${taskManagers} simulated TaskManagers: median ${Math.round(totals[totals.length >> 1] ?? 0)} ms, ` +
    `${Math.round(totals[0] ?? 0)} to ${Math.round(totals.at(-1) ?? 0)} ms over ${rounds} rounds`,
);
console.log(JSON.stringify({ benchmark: "takeover", vertices, parallelism, taskManagers, totalsMs: totals, figures }));
process.exit(0);

async function cpuMsOf(restAddress: string): Promise<number> {
  const response = await fetch(`http://${restAddress}/jobmanager/metrics?get=Status.JVM.CPU.Time`);
  const [entry] = (await response.json()) as readonly { readonly value: string }[];
  return Number(entry?.value) / 1e6;
}
