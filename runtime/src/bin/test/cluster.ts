// A small supervisor for process tests: starts a JobManager and TaskManagers, reads their event lines, kills and restarts them.
//
// Invariants:
//   TC1. Whatever a test does, `stop` ends every process it started.
//   TC2. Waiting is for conditions, never for time; the test's own limit ends a wait that never comes true.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";

import type { JobManagerConfig, JobPlan, ProcessEvent, StoreConfig, TaskManagerConfig } from "../../model/index.ts";
import { PROCESS_ENTRIES, runPlanProcess } from "../index.ts";

const SECRET = "a secret for the processes of one test";
const POLL_MS = 20;

export interface ClusterOptions {
  readonly jobPath: string;
  readonly jobArguments: readonly string[];
  readonly configuration: Readonly<Record<string, string>>;
  readonly taskManagers: number;
  readonly slots: number;
  readonly store?: StoreConfig;
  readonly environment?: Readonly<Record<string, string>>;
  readonly plantedBugs?: readonly string[];
}

export interface Managed {
  readonly name: string;
  child: ChildProcess;
  readonly events: ProcessEvent[];
  exitCode: number | null | undefined;
  stderr: string;
}

export class TestCluster {
  readonly directory: string;
  readonly #options: ClusterOptions;
  readonly #all: Managed[] = [];
  #plan: JobPlan | undefined;
  #rpcPort = 0;
  #restPort = 0;
  /** Counts starts by a user; a supervisor's restart of the JobManager belongs to the same one. */
  #submission = 0;

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.directory = mkdtempSync(join(tmpdir(), "sluice-cluster-"));
  }

  async start(): Promise<{ readonly jobManager: Managed; readonly taskManagers: readonly Managed[] }> {
    const { jobPath, jobArguments, configuration } = this.#options;
    const { plan } = await runPlanProcess({
      moduleUrl: pathToFileURL(jobPath).href,
      arguments: jobArguments,
      configuration,
      jobName: "process-test",
    });
    this.#plan = plan;
    this.#submission += 1;
    [this.#rpcPort = 0, this.#restPort = 0] = await freePorts(2);
    writeFileSync(join(this.directory, "plan.json"), JSON.stringify(plan));
    // A TaskManager asks again until its JobManager listens.
    const indices = Array.from({ length: this.#options.taskManagers }, (_, i) => i);
    const [jobManager, taskManagers] = await Promise.all([
      this.startJobManager(),
      Promise.all(indices.map((i) => this.startTaskManager(i))),
    ]);
    return { jobManager, taskManagers };
  }

  get plan(): JobPlan {
    if (this.#plan === undefined) throw new Error("start the cluster first");
    return this.#plan;
  }

  /**
   * Again, as a supervisor does. `elsewhere`: on ports of its own, beside one that still holds the old ones; TaskManagers
   * started later go to it. `newSubmission`: as when the user runs the job again.
   */
  async startJobManager(
    options: { readonly elsewhere?: boolean; readonly newSubmission?: boolean } = {},
  ): Promise<Managed> {
    if (options.newSubmission === true) this.#submission += 1;
    const { jobPath, configuration, store, plantedBugs = [] } = this.#options;
    if (options.elsewhere === true) [this.#rpcPort = 0, this.#restPort = 0] = await freePorts(2);
    const config: JobManagerConfig = {
      jobName: "process-test",
      namespace: "test",
      uid: "uid-1",
      moduleUrl: pathToFileURL(jobPath).href,
      planPath: join(this.directory, "plan.json"),
      configuration: { ...this.plan.configuration, ...configuration },
      store,
      rpcAddress: `127.0.0.1:${this.#rpcPort}`,
      restAddress: `127.0.0.1:${this.#restPort}`,
      start: { lineage: `lineage${this.#submission}`, newLineage: false, from: undefined, allowReplay: undefined },
      plantedBugs,
    };
    return this.#spawn("jobmanager", PROCESS_ENTRIES.jobManager, config);
  }

  async startTaskManager(index: number, options: { readonly secret?: string } = {}): Promise<Managed> {
    const { configuration, store, slots, plantedBugs = [] } = this.#options;
    const config: TaskManagerConfig = {
      id: `tm-${index}`,
      jobManagerAddress: `127.0.0.1:${this.#rpcPort}`,
      dataAddress: "127.0.0.1:0",
      metricsAddress: "127.0.0.1:0",
      slots,
      workDir: join(this.directory, `work-${index}`),
      store,
      configuration: { ...this.plan.configuration, ...configuration },
      plantedBugs,
    };
    return this.#spawn(`tm-${index}`, PROCESS_ENTRIES.taskManager, config, options.secret);
  }

  /** GET of the JobManager's REST. */
  async rest(path: string): Promise<unknown> {
    const response = await fetch(`http://127.0.0.1:${this.#restPort}${path}`);
    return response.json();
  }

  /** Cancels a job over REST. */
  async cancel(jobId: string): Promise<void> {
    await fetch(`http://127.0.0.1:${this.#restPort}/jobs/${jobId}?mode=cancel`, { method: "PATCH" });
  }

  /** Kills a process with a signal and waits for its end. */
  async kill(managed: Managed, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    managed.child.kill(signal);
    await until(`the end of ${managed.name}`, () => managed.exitCode !== undefined);
  }

  /** Ends everything (TC1). */
  async stop(): Promise<void> {
    for (const { child, exitCode } of this.#all) if (exitCode === undefined) child.kill("SIGKILL");
    await until("the end of all processes", () => this.#all.every(({ exitCode }) => exitCode !== undefined));
    if (process.env["SLUICE_KEEP"] === undefined) rmSync(this.directory, { recursive: true, force: true });
  }

  /** Logs of all processes, for a failed test. */
  logs(): string {
    return this.#all
      .map(({ name, stderr, exitCode }) => `--- ${name} (exit ${String(exitCode)})\n${stderr.slice(-8_000)}`)
      .join("\n");
  }

  async #spawn(name: string, entry: URL, config: object, secret: string = SECRET): Promise<Managed> {
    const path = join(this.directory, `${name}.json`);
    writeFileSync(path, JSON.stringify(config));
    const child = spawn(process.execPath, [fileURLToPath(entry), "--config", path], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, ...this.#options.environment, NODE_OPTIONS: "", SLUICE_SECRET: secret },
    });
    const managed: Managed = { name, child, events: [], exitCode: undefined, stderr: "" };
    this.#all.push(managed);
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (line.startsWith('{"event":')) managed.events.push(JSON.parse(line) as ProcessEvent); // user code prints there too
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => (managed.stderr += text));
    child.stdin.on("error", () => {});
    child.on("close", (code) => (managed.exitCode = code));
    await until(`${name} to listen`, () => managed.events.length > 0 || managed.exitCode !== undefined);
    return managed;
  }
}

/** Polls a condition (TC2). */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  limitMs = 60_000,
): Promise<void> {
  const endMs = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > endMs) throw new Error(`waited ${limitMs} ms in vain for ${what}`);
    await pause(POLL_MS);
  }
}

/** Lines of the published files of a directory; all of them unless `isWanted` says otherwise. */
export function publishedLines(directory: string, isWanted: (name: string) => boolean = () => true): readonly string[] {
  const names = listPublished(directory).filter(isWanted);
  return names.flatMap((name) =>
    readFileSync(join(directory, name), "utf8")
      .split("\n")
      .filter((line) => line !== ""),
  );
}

/** Names of published files, sorted. */
export function listPublished(directory: string): readonly string[] {
  try {
    return readdirSync(directory)
      .filter((name) => name.startsWith("part-"))
      .sort();
  } catch {
    return []; // no task has begun yet
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  await Promise.all(servers.map((server) => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
