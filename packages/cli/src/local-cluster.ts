// A JobManager and its TaskManagers as supervised processes of this machine.
//
// Invariants:
//   LC1. A JobManager that is started again listens on the addresses of its predecessor: TaskManagers and people find it there.
//   LC2. The secret of a run is random, and only in the environment of its processes.
//   LC3. `waitForEnd` settles once: when the job ended, when a process was given up, or when the cluster was stopped.
//   LC4. After the end or `stop` no process of the cluster is left.
//
// Not here: plan and configuration (submission.ts), restarts (supervised-process.ts), the terminal (run.ts).

import { randomBytes } from "node:crypto";
import { accessSync, constants, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { assert, Failure } from "@sluice/kit";
import { PROCESS_ENTRIES } from "@sluice/runtime/internal/bin";
import type {
  JobManagerConfig,
  JobPlan,
  ProcessEvent,
  StoreConfig,
  TaskManagerConfig,
} from "@sluice/runtime/internal/model";

import { newOperationId, RestClient } from "./rest-client.ts";
import { announceRun, refuseSecondRun, withdrawRun } from "./run-file.ts";
import { prepareSubmission, submissionNamespace } from "./submission.ts";
import type { Submission } from "./submission.ts";
import { DEFAULT_RESTARTS, SupervisedProcess } from "./supervised-process.ts";
import type { RestartPolicy, SupervisionEvent } from "./supervised-process.ts";

/** Names one process: there is one JobManager, TaskManagers count from 0. */
export interface ProcessRef {
  readonly kind: "jobmanager" | "taskmanager";
  readonly index: number;
}

export interface ClusterProcess extends ProcessRef {
  /** `jobmanager`, `tm-1` ... */
  readonly id: string;
  /** Undefined while it is down. */
  readonly pid: number | undefined;
  readonly isListening: boolean;
  /** Times that it was started. */
  readonly starts: number;
  readonly logPath: string;
}

export type ClusterEvent = SupervisionEvent & { readonly process: ProcessRef; readonly atMs: number };

export type JobOutcome =
  | { readonly state: "FINISHED" | "CANCELED"; readonly message: string }
  /** `failure`: why a process was given up, if that ended it; `details`: the job's newest failure with the stack of its code. */
  | {
      readonly state: "FAILED";
      readonly message: string;
      readonly failure: Failure | undefined;
      readonly details: string;
    }
  /** `stop` came first: the job can be continued. */
  | { readonly state: "STOPPED"; readonly message: string };

export interface LocalClusterOptions {
  /** Path or file: URL of the job's module. */
  readonly job: string;
  readonly arguments?: readonly string[];
  readonly name?: string;
  /** Flink-named keys, as by -D. */
  readonly configuration?: Readonly<Record<string, string>>;
  /** Default 1. */
  readonly taskManagers?: number;
  readonly slots?: number;
  /** Default `.sluice/<name>` in the current directory. */
  readonly workDir?: string;
  /** Default 0: any free port. */
  readonly restPort?: number;
  readonly newLineage?: boolean;
  readonly from?: string;
  /** Default: drawn. Started again with the same one, the run goes on (checkpoint/decideStart). */
  readonly lineage?: string;
  readonly allowReplay?: number;
  /** Tests only. */
  readonly plantedBugs?: readonly string[];
  /** Added to the environment of all processes. */
  readonly env?: Readonly<Record<string, string>>;
  readonly restarts?: Partial<RestartPolicy>;
  readonly onEvent?: (event: ClusterEvent) => void;
}

const EVENTS_MAX = 10_000;
const LOOK_INTERVAL_MS = 20;
const GRACE_MS = 5_000;
/** After the end of the job its TaskManagers have been told already; the JobManager stays for clients that wait for an answer. */
const GRACE_AFTER_END_MS = { taskManager: 2_000, jobManager: 12_000 } as const;

/** Plans the job and starts its processes. Rejects with the Failure of a wrong input; later ones are the job's outcome. */
export async function startLocalCluster(options: LocalClusterOptions): Promise<LocalCluster> {
  const submission = await prepareSubmission({
    job: options.job,
    arguments: options.arguments ?? [],
    name: options.name,
    configuration: options.configuration ?? {},
    taskManagers: options.taskManagers ?? 1,
    slots: options.slots,
    workDir: options.workDir,
    newLineage: options.newLineage ?? false,
    from: options.from,
    lineage: options.lineage,
  });
  const cluster = new LocalCluster(submission, options);
  try {
    await cluster.start();
  } catch (thrown) {
    await cluster.stop();
    throw thrown;
  }
  return cluster;
}

export class LocalCluster {
  readonly #submission: Submission;
  readonly #options: LocalClusterOptions;
  readonly #events: ClusterEvent[] = [];
  readonly #outcome = Promise.withResolvers<JobOutcome>();
  readonly #env: NodeJS.ProcessEnv;
  readonly #jobManager: SupervisedProcess;
  readonly #taskManagers: SupervisedProcess[] = [];
  #rpcAddress = "127.0.0.1:0";
  #restAddress: string;
  #isListening = false;
  #hasRun = false;
  #ended: JobOutcome | undefined;
  #stopping: Promise<void> | undefined;
  /** Asks the JobManager as it is now. */
  readonly rest: RestClient;

  /** Use startLocalCluster. */
  constructor(submission: Submission, options: LocalClusterOptions) {
    this.#submission = submission;
    this.#options = options;
    this.#restAddress = `${submission.restHost}:${options.restPort ?? 0}`;
    this.#env = {
      SLUICE_LOG_FORMAT: "pretty",
      ...process.env,
      ...options.env,
      SLUICE_SECRET: randomBytes(32).toString("hex"), // LC2
    };
    this.rest = new RestClient(() => this.restUrl());
    this.#jobManager = this.#supervise({ kind: "jobmanager", index: 0 });
  }

  get name(): string {
    return this.#submission.name;
  }

  get plan(): JobPlan {
    return this.#submission.plan;
  }

  get workDir(): string {
    return this.#submission.workDir;
  }

  /** Where checkpoints go; undefined when none are taken. */
  get store(): StoreConfig | undefined {
    return this.#submission.store;
  }

  get isDefaultStore(): boolean {
    return this.#submission.isDefaultStore;
  }

  get slotsPerTaskManager(): number {
    return this.#submission.slots;
  }

  /** Of the configuration, for people. */
  get warnings(): readonly string[] {
    return this.#submission.warnings;
  }

  /** What the module's `main` printed. */
  get mainOutput(): string {
    return this.#submission.mainOutput;
  }

  /** Lineage that a new commit log gets. */
  get lineage(): string {
    return this.#submission.lineage;
  }

  /** Oldest first, bounded. */
  get events(): readonly ClusterEvent[] {
    return this.#events;
  }

  /** How the job ended, or undefined. */
  get outcome(): JobOutcome | undefined {
    return this.#ended;
  }

  /** `http://host:port`; undefined before the first JobManager listens. The address stays, also while a JobManager is down. */
  restUrl(): string | undefined {
    if (!this.#isListening) return undefined;
    return `http://${this.#restAddress.replace(/^(0\.0\.0\.0|\[::\])(?=:)/u, "127.0.0.1")}`;
  }

  processes(): readonly ClusterProcess[] {
    return [
      this.#describe({ kind: "jobmanager", index: 0 }, this.#jobManager),
      ...this.#taskManagers.map((process, index) => this.#describe({ kind: "taskmanager", index }, process)),
    ];
  }

  process(ref: ProcessRef): ClusterProcess {
    return this.#describe(ref, this.#find(ref));
  }

  /** Sends a signal (default SIGKILL) to a process that runs, and gives its pid; it is started again. Throws when it is down. */
  kill(ref: ProcessRef, signal: NodeJS.Signals = "SIGKILL"): number {
    const process = this.#find(ref);
    const { pid } = process;
    if (pid === undefined || !process.kill(signal)) {
      throw new Failure("PEER_LOST", {
        retry: "backoff",
        message: `${idOf(ref)} is not running: nobody to send ${signal} to`,
      });
    }
    return pid;
  }

  /** Stops it in its tracks (SIGSTOP): it says nothing any more, but its connections stay. */
  pause(ref: ProcessRef): number {
    return this.kill(ref, "SIGSTOP");
  }

  /** Lets a paused one go on. */
  resume(ref: ProcessRef): number {
    return this.kill(ref, "SIGCONT");
  }

  /** Waits for a condition: the first value of `look` that is neither undefined, null nor false. Errors of `look` mean "not yet". */
  async until<T>(
    what: string,
    look: () => T | Promise<T>,
    options: { readonly timeoutMs: number },
  ): Promise<Exclude<T, undefined | null | false>> {
    const deadlineMs = performance.now() + options.timeoutMs;
    let last = "nothing seen";
    for (;;) {
      try {
        const value = await look();
        if (value !== undefined && value !== null && value !== false)
          return value as Exclude<T, undefined | null | false>;
        last = String(value);
      } catch (thrown) {
        last = (thrown as Error).message;
      }
      if (performance.now() >= deadlineMs || this.#ended !== undefined) {
        const why =
          this.#ended === undefined
            ? `${options.timeoutMs} ms`
            : `until the job was ${this.#ended.state} (${this.#ended.message})`;
        throw new Failure("INTERNAL", { retry: "never", message: `waited ${why} in vain: ${what} (last: ${last})` });
      }
      await sleep(LOOK_INTERVAL_MS);
    }
  }

  /** Settles when the job has ended and all processes are gone (LC3). */
  async waitForEnd(): Promise<JobOutcome> {
    const outcome = await this.#outcome.promise;
    await this.#stopAll(GRACE_AFTER_END_MS.taskManager, GRACE_AFTER_END_MS.jobManager);
    return outcome;
  }

  /** Asks the JobManager to cancel, again and again until one takes it or the job has ended. */
  async cancel(timeoutMs = 60_000): Promise<void> {
    const operationId = newOperationId();
    try {
      await this.until(
        "a JobManager takes the cancellation",
        async () => {
          await this.rest.cancel(operationId);
          return true;
        },
        { timeoutMs },
      );
    } catch (thrown) {
      if (this.#ended === undefined) throw thrown;
    }
  }

  /** Ends all processes, gracefully unless `graceMs` is 0; the job is not cancelled and can be continued. */
  async stop(graceMs = GRACE_MS): Promise<void> {
    this.#end({ state: "STOPPED", message: `job ${this.name} was stopped and can be continued` });
    await this.#stopAll(graceMs);
  }

  /** Called by startLocalCluster. Resolves when the JobManager listens. */
  async start(): Promise<void> {
    const { workDir, plan } = this.#submission;
    makeWorkDirectory(workDir);
    refuseSecondRun(workDir);
    announceRun(workDir, { name: this.name, pid: process.pid, restUrl: undefined });
    writeFileSync(join(workDir, "plan.json"), JSON.stringify(plan));
    this.#writeJobManagerConfig();
    for (const ref of this.#refs()) rmSync(this.#logPath(ref), { force: true });
    this.#jobManager.start();
    await Promise.race([this.#firstListening.promise, this.#outcome.promise]);
  }

  readonly #firstListening = Promise.withResolvers<void>();

  #refs(): readonly ProcessRef[] {
    const taskManagers = Array.from(
      { length: this.#submission.taskManagers },
      (_, index) => ({ kind: "taskmanager", index }) as const,
    );
    return [{ kind: "jobmanager", index: 0 }, ...taskManagers];
  }

  #find(ref: ProcessRef): SupervisedProcess {
    const process = ref.kind === "jobmanager" ? this.#jobManager : this.#taskManagers[ref.index];
    if (process !== undefined) return process;
    throw new Failure("PEER_LOST", { retry: "backoff", message: `there is no ${idOf(ref)} (yet)` });
  }

  #describe(ref: ProcessRef, process: SupervisedProcess): ClusterProcess {
    const { pid, starts, state } = process;
    return { ...ref, id: idOf(ref), pid, isListening: state === "running", starts, logPath: this.#logPath(ref) };
  }

  #logPath(ref: ProcessRef): string {
    return join(this.#submission.workDir, "logs", `${idOf(ref)}.log`);
  }

  #configPath(ref: ProcessRef): string {
    return join(this.#submission.workDir, `${idOf(ref)}.json`);
  }

  #supervise(ref: ProcessRef): SupervisedProcess {
    const entry = ref.kind === "jobmanager" ? PROCESS_ENTRIES.jobManager : PROCESS_ENTRIES.taskManager;
    return new SupervisedProcess({
      command: process.execPath,
      args: [fileURLToPath(entry), "--config", this.#configPath(ref)],
      env: this.#env,
      logPath: this.#logPath(ref),
      restarts: { ...DEFAULT_RESTARTS, ...this.#options.restarts },
      name: ref.kind === "jobmanager" ? "the JobManager" : `TaskManager ${idOf(ref)}`,
      onEvent: (event) => this.#onEvent(ref, event),
    });
  }

  #onEvent(ref: ProcessRef, event: SupervisionEvent): void {
    const known: ClusterEvent = { ...event, process: ref, atMs: performance.now() };
    this.#events.push(known);
    if (this.#events.length > EVENTS_MAX) this.#events.shift();
    if (event.type === "said" && ref.kind === "jobmanager") this.#onJobManagerSaid(event.said);
    if (event.type === "gaveUp") this.#onGaveUp(ref, event.failure);
    this.#options.onEvent?.(known);
  }

  #onJobManagerSaid(said: ProcessEvent): void {
    if (said.event === "listening") {
      assert(said.rpcAddress !== undefined && said.restAddress !== undefined, "a JobManager says where it listens");
      const isFirst = !this.#isListening;
      this.#rpcAddress = said.rpcAddress;
      this.#restAddress = said.restAddress;
      this.#isListening = true;
      if (isFirst) this.#onFirstListening();
    } else if (said.event === "jobEnded") {
      const { state, message } = said;
      if (state === "FAILED") void this.#endFailed(message);
      else this.#end({ state, message });
    } else if (said.event === "stopped") {
      this.#end({ state: "STOPPED", message: said.message });
    }
  }

  /** The JobManager lingers for a moment after its last word: time to ask for the stack of what failed. */
  async #endFailed(message: string): Promise<void> {
    let details = "";
    try {
      const [newest] = (await this.rest.exceptions()).exceptionHistory.entries;
      details = newest?.stacktrace ?? "";
    } catch {
      // it is gone: the message says enough
    }
    this.#end({ state: "FAILED", message, failure: undefined, details });
  }

  #onFirstListening(): void {
    this.#writeJobManagerConfig(); // LC1
    announceRun(this.workDir, { name: this.name, pid: process.pid, restUrl: this.restUrl() });
    for (const ref of this.#refs()) {
      if (ref.kind !== "taskmanager" || this.#ended !== undefined) continue;
      this.#writeTaskManagerConfig(ref);
      const taskManager = this.#supervise(ref);
      this.#taskManagers.push(taskManager);
      taskManager.start();
    }
    this.#firstListening.resolve();
    void this.#watchForRunning();
  }

  /** Remembers whether the job ran: see #onGaveUp. */
  async #watchForRunning(): Promise<void> {
    while (this.#ended === undefined && !this.#hasRun) {
      try {
        this.#hasRun = (await this.rest.job()).timestamps.RUNNING > 0;
      } catch {
        // asked again: the JobManager may be down
      }
      await sleep(100);
    }
  }

  #onGaveUp(ref: ProcessRef, failure: Failure): void {
    // A JobManager that was killed after it had recorded the end of the job: its successor finds a finished job.
    if (ref.kind === "jobmanager" && failure.code === "JOB_FINISHED" && this.#hasRun) {
      this.#end({ state: "FINISHED", message: `job ${this.name} is FINISHED` });
      return;
    }
    this.#end({ state: "FAILED", message: failure.message, failure, details: "" });
  }

  #end(outcome: JobOutcome): void {
    if (this.#ended !== undefined) return; // LC3
    this.#ended = outcome;
    this.#outcome.resolve(outcome);
  }

  #stopAll(graceMs: number, jobManagerGraceMs = graceMs): Promise<void> {
    this.#stopping ??= this.#stopOnce(graceMs, jobManagerGraceMs);
    if (graceMs === 0) for (const process of [...this.#taskManagers, this.#jobManager]) process.kill("SIGKILL");
    return this.#stopping;
  }

  async #stopOnce(graceMs: number, jobManagerGraceMs: number): Promise<void> {
    const taskManagers = this.#taskManagers.map((process) => process.stop(graceMs));
    await Promise.all([...taskManagers, this.#jobManager.stop(jobManagerGraceMs)]);
    withdrawRun(this.workDir);
  }

  #writeJobManagerConfig(): void {
    const { name, uid, lineage, moduleUrl, configuration, store, workDir } = this.#submission;
    const { newLineage = false, from, allowReplay, plantedBugs = [] } = this.#options;
    const config: JobManagerConfig = {
      jobName: name,
      namespace: submissionNamespace(),
      uid,
      moduleUrl,
      planPath: join(workDir, "plan.json"),
      configuration,
      store,
      rpcAddress: this.#rpcAddress,
      restAddress: this.#restAddress,
      start: { lineage, newLineage, from, allowReplay },
      plantedBugs,
    };
    writeFileSync(this.#configPath({ kind: "jobmanager", index: 0 }), JSON.stringify(config, undefined, 2));
  }

  #writeTaskManagerConfig(ref: ProcessRef): void {
    const { configuration, store, workDir, slots } = this.#submission;
    const metricsPort = this.#submission.metricsPort;
    const config: TaskManagerConfig = {
      id: idOf(ref),
      jobManagerAddress: this.#rpcAddress,
      dataAddress: "127.0.0.1:0",
      metricsAddress: `127.0.0.1:${metricsPort === undefined ? 0 : metricsPort + ref.index}`,
      slots,
      workDir: join(workDir, idOf(ref)),
      store,
      configuration,
      plantedBugs: this.#options.plantedBugs ?? [],
    };
    mkdirSync(config.workDir, { recursive: true });
    writeFileSync(this.#configPath(ref), JSON.stringify(config, undefined, 2));
  }
}

function makeWorkDirectory(workDir: string): void {
  try {
    mkdirSync(join(workDir, "logs"), { recursive: true });
    accessSync(workDir, constants.W_OK);
  } catch (thrown) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `${workDir} cannot be the directory of this run: ${(thrown as Error).message}`,
      remedy: "Give one that can be made and written to: --work-dir DIR.",
      cause: thrown,
    });
  }
}

function idOf(ref: ProcessRef): string {
  return ref.kind === "jobmanager" ? "jobmanager" : `tm-${ref.index + 1}`;
}
