// A whole cluster in the process and thread of a test (Flink: MiniCluster): JobManager, TaskManagers and slots are the code of
// production, checkpoints included; only threads, sockets and processes are missing.
//
// Invariants (tests cite them):
//   MC1. Killing a part is as sudden as SIGKILL: what it held in memory is lost, nobody is told but by broken connections, and a
//        new one takes its place.
//   MC2. The job's code runs in this thread. A breakpoint in it stops everything, clocks included (steady-clock.ts).
//   MC3. Whatever a test waits for ends: in what it waits for, in the end of the job, or in a timeout that says what was waited for.
//
// Not here: the parts (cluster-parts.ts).

import { randomBytes } from "node:crypto";

import { assert, Failure, failureFromJson, isFailure } from "@sluice/kit";
import type { FailureCode } from "@sluice/kit";
import type { Log, LogLevel, ObjectStore } from "@sluice/kit/env";
import { NodeLog, nodeRng, openObjectStore } from "@sluice/kit/env/node";
import { buildGraph } from "../datastream/index.ts";
import type { JobMain } from "../datastream/index.ts";
import type { OperationOutcome, OperationRequest } from "../checkpoint/index.ts";
import { buildPlan, enumerateSplits } from "../graph/index.ts";
import type { JobMaster } from "../jobmanager/index.ts";
import { configurationOf, parseConfiguration, runtimeSettings } from "../model/configuration/index.ts";
import type { JobPlan } from "../model/index.ts";
import type { TaskManager } from "../taskmanager/index.ts";
import { startJobManager, startTaskManager } from "./cluster-parts.ts";
import type { ClusterSetup, EndState } from "./cluster-parts.ts";
import { Life } from "./life.ts";
import { MemoryNet } from "./memory-net.ts";
import { MemoryDisk, MemoryObjectStore } from "./memory-store.ts";
import { SteadyClock } from "./steady-clock.ts";

/** A job with checkpoints that goes on failing ends soon instead of trying for ever, and nobody waits for delays. */
const TEST_RESTARTS = {
  "restart-strategy.type": "fixed-delay",
  "restart-strategy.fixed-delay.attempts": "10",
  "restart-strategy.fixed-delay.delay": "10 ms",
} as const;

const STOP_PATIENCE_MS = 10_000;
const TIMEOUT_MS = 30_000;
const LOOK_MS = 5;
const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => SILENT };

export interface MiniClusterOptions {
  /** Of the job, which its checkpoints lie under. Default "test". */
  readonly name?: string;
  /** Default 1. */
  readonly taskManagers?: number;
  /** Default: as many as the job needs, spread over the TaskManagers. */
  readonly slotsPerTaskManager?: number;
  /** parallelism.default. */
  readonly parallelism?: number;
  /** What `main` gets as its second argument. */
  readonly arguments?: readonly string[];
  /** Flink-named keys, as by -D; what the job sets in code wins. */
  readonly configuration?: Readonly<Record<string, string>>;
  /** Environment variables that the job declares, secrets among them; the process's own are not read. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Where checkpoints go: memory of this cluster (default), a store that several clusters share, or a `file:///` URI. */
  readonly store?: MemoryObjectStore | string;
  /** Log of all parts on standard error, from this level on. Default: none. */
  readonly logLevel?: LogLevel;
}

/** How the job is doing. */
export interface MiniClusterStatus {
  /** Flink: JobStatus. */
  readonly state: string;
  /** Every task of the job runs, or has finished. */
  readonly isRunning: boolean;
  /** Restarts under the current JobManager. */
  readonly restarts: number;
  /** Changes of parallelism under the current JobManager. */
  readonly rescales: number;
  /** Subtasks of the operator that has most. */
  readonly parallelism: number;
  /** Completed under the current JobManager. */
  readonly completedCheckpoints: number;
  /** That the running attempt, or one before it under this JobManager, began from. */
  readonly restoredCheckpointId: number | undefined;
  /** Failures under the current JobManager, newest first: code, what, what to do, and the stack of the job's code. */
  readonly failures: readonly string[];
}

interface TaskManagerPart {
  readonly life: Life;
  /** Undefined while it starts. */
  manager: TaskManager | undefined;
}

export class MiniCluster implements AsyncDisposable {
  readonly #setup: ClusterSetup;
  readonly #net = new MemoryNet();
  readonly #disks: readonly MemoryDisk[];
  readonly #slots: number;
  readonly #taskManagers: TaskManagerPart[] = [];
  readonly #end = Promise.withResolvers<"FINISHED" | "CANCELED">();
  #jobManager: Life | undefined;
  #master: JobMaster | undefined;
  #isOver = false;

  private constructor(setup: ClusterSetup, options: { readonly taskManagers: number; readonly slots: number }) {
    this.#setup = setup;
    this.#slots = options.slots;
    this.#disks = Array.from({ length: options.taskManagers }, () => new MemoryDisk());
    this.#end.promise.catch(() => undefined); // a test need not wait for the end
  }

  /**
   * Plans the job and starts it. `job` is its `main`, or the URL of the module that exports it. Rejects with the Failure of a
   * wrong graph or configuration.
   */
  static async start(job: JobMain | URL, options: MiniClusterOptions = {}): Promise<MiniCluster> {
    const main = job instanceof URL ? job.href : job;
    const given = Object.entries({
      ...(options.parallelism === undefined ? {} : { "parallelism.default": String(options.parallelism) }),
      ...options.configuration,
    });
    const typed = parseConfiguration(given.map(([key, value]) => ({ key, value, origin: "command line" })));
    const graph = await buildGraph({
      job: main,
      arguments: options.arguments ?? [],
      configuration: typed.toRecord(),
      jobName: options.name ?? "test",
      readEnvironment: (name) => options.environment?.[name],
    });
    const splits = await enumerateSplits(graph);
    const plan = buildPlan(graph, { bundleHash: "", splits });
    const configured = configurationOf({ ...typed.toRecord(), ...plan.configuration });
    const isCheckpointing = runtimeSettings(configured).checkpoints.intervalMs !== null;
    const effective = isCheckpointing ? configurationOf({ ...TEST_RESTARTS, ...configured.toRecord() }) : configured;
    const settings = runtimeSettings(effective);
    const taskManagers = options.taskManagers ?? 1;
    const slots = options.slotsPerTaskManager ?? Math.ceil(slotsNeeded(plan) / taskManagers);
    checkSlots(plan, taskManagers * slots);
    const cluster = new MiniCluster(
      {
        job: main,
        plan,
        settings,
        configuration: effective.toRecord(),
        store: isCheckpointing ? await storeOf(options.store) : undefined,
        lineage: randomBytes(6).toString("hex"),
        clock: new SteadyClock(),
        environment: options.environment ?? {},
        log: options.logLevel === undefined ? SILENT : new NodeLog({ level: options.logLevel, format: "pretty" }),
      },
      { taskManagers, slots },
    );
    cluster.#startJobManager();
    for (let i = 0; i < taskManagers; i += 1) cluster.#startTaskManager(i);
    return cluster;
  }

  /** How the job ended. Rejects with its Failure when it failed; the message holds the stack of the job's code. */
  waitForEnd(): Promise<"FINISHED" | "CANCELED"> {
    return this.#setup.clock.hold(this.#end.promise);
  }

  status(): MiniClusterStatus {
    const view = this.#master?.job();
    return {
      state: view?.state ?? "INITIALIZING",
      isRunning:
        view?.state === "RUNNING" &&
        view.vertices.every(({ subtasks }) =>
          subtasks.every(({ state }) => state === "RUNNING" || state === "FINISHED"),
        ),
      restarts: view?.restartCount ?? 0,
      rescales: view?.rescaleCount ?? 0,
      parallelism: Math.max(0, ...(view?.vertices.map(({ subtasks }) => subtasks.length) ?? [])),
      completedCheckpoints: view?.checkpoints.counts.completed ?? 0,
      restoredCheckpointId: view?.checkpoints.latestRestored?.id,
      failures: view?.exceptions.map(({ text }) => text) ?? [],
    };
  }

  /** Resolves when `condition` holds; rejects after `timeoutMs`, or when the job ended before (MC3). `what` names it for people. */
  waitUntil(
    what: string,
    condition: (status: MiniClusterStatus) => boolean,
    options: { readonly timeoutMs?: number } = {},
  ): Promise<void> {
    const { timeoutMs = TIMEOUT_MS } = options;
    return this.#setup.clock.hold(this.#watch(what, condition, timeoutMs));
  }

  /** Resolves when every task of the job runs. */
  waitUntilRunning(): Promise<void> {
    return this.waitUntil("that every task runs", (status) => status.isRunning);
  }

  /** Takes a checkpoint now and waits until it has completed; the result is its id. */
  async triggerCheckpoint(): Promise<number> {
    await this.waitUntilRunning();
    const { checkpointId } = await this.#operate("a checkpoint", { kind: "checkpoint", checkpointType: "CONFIGURED" });
    assert(checkpointId !== undefined, "a checkpoint that is done has an id");
    return checkpointId;
  }

  /** Takes a savepoint below `directory` (a URI) and waits until it is complete; the result is where it lies. */
  async takeSavepoint(directory?: string): Promise<string> {
    await this.waitUntilRunning();
    const targetDirectory = directory ?? null;
    const request = { kind: "savepoint", targetDirectory, formatType: "NATIVE", cancelsJob: false } as const;
    const { location } = await this.#operate("a savepoint", request);
    assert(location !== undefined, "a savepoint that is done lies somewhere");
    return location;
  }

  /** Stops the job with a savepoint below `directory` (a URI), and waits for its end; the result is where the savepoint lies. */
  async stopWithSavepoint(directory?: string, options: { readonly drain?: boolean } = {}): Promise<string> {
    await this.waitUntilRunning();
    const { drain = false } = options;
    const request = { kind: "stop", targetDirectory: directory ?? null, formatType: "NATIVE", drain } as const;
    const { location } = await this.#operate("a stop with savepoint", request);
    assert(location !== undefined, "a savepoint that is done lies somewhere");
    await this.waitForEnd();
    return location;
  }

  /**
   * Gives every operator this parallelism while the job runs, as PUT /jobs/:id/resource-requirements does: a checkpoint, then a restart
   * from it. Waits until every task runs again. Rejects when there are not as many slots.
   */
  async rescale(parallelism: number): Promise<void> {
    await this.waitUntilRunning();
    const vertices = this.#master?.job().plan.vertices ?? [];
    const bounds = { parallelism: { lowerBound: parallelism, upperBound: parallelism } };
    const requirements = Object.fromEntries(vertices.map(({ id }) => [id, bounds]));
    await this.#operate("a rescale", { kind: "rescale", requirements });
    await this.waitUntil("the new parallelism", (now) => now.isRunning && now.parallelism === parallelism);
  }

  async #operate(what: string, request: OperationRequest): Promise<Extract<OperationOutcome, { type: "done" }>> {
    const master = this.#master;
    assert(master !== undefined, "a job that runs has a JobManager");
    const id = master.newOperationId();
    await master.startOperation(id, request);
    const outcome = () => master.operation(id)?.outcome ?? undefined;
    await this.waitUntil(what, () => outcome() !== undefined || this.#master !== master);
    const settled = outcome();
    if (settled === undefined) {
      throw new Failure("PEER_LOST", { retry: "now", message: `the JobManager was killed during ${what}` });
    }
    if (settled.type === "failed") throw failureFromJson(settled.failure);
    return settled;
  }

  /** MC1. `index` counts from 0. The job restarts from its newest checkpoint, or fails when it takes none. */
  killTaskManager(index = 0): void {
    const part = this.#taskManagers[index];
    if (part === undefined) throw new RangeError(`there is no TaskManager ${index}; they are counted from 0`);
    if (this.#isOver) return;
    part.life.end();
    this.#startTaskManager(index);
  }

  /** MC1. The next JobManager continues the job from its newest checkpoint. */
  killJobManager(): void {
    if (this.#isOver) return;
    this.#jobManager?.end();
    this.#master = undefined;
    this.#startJobManager();
  }

  /** Cancels the job and waits for its end. */
  async cancel(): Promise<void> {
    await this.waitUntil("a JobManager", () => this.#master !== undefined);
    const master = this.#master;
    await master?.startOperation(master.newOperationId(), { kind: "cancel" });
    await this.waitForEnd();
  }

  /** Ends everything. A job that still runs can be continued by another cluster with the same store. */
  async stop(): Promise<void> {
    if (this.#isOver) return;
    await this.#setup.clock.hold(this.#stopParts(this.#master?.suspend()));
    this.#finish(() => this.#end.reject(gone(`the cluster of job ${this.#setup.plan.jobName} was stopped`)));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #watch(what: string, condition: (status: MiniClusterStatus) => boolean, timeoutMs: number): Promise<void> {
    const { clock } = this.#setup;
    const untilMs = clock.nowMs() + timeoutMs;
    while (!condition(this.status())) {
      if (this.#isOver) {
        const state = await this.#end.promise;
        throw gone(`the job ended (${state}) while a test waited for ${what}`);
      }
      if (clock.nowMs() > untilMs) {
        const { state, failures } = this.status();
        const why = failures[0] === undefined ? "" : `; its newest failure: ${failures[0]}`;
        throw gone(`a test waited ${timeoutMs / 1000} s for ${what}; the job is ${state}${why}`);
      }
      await new Promise<void>((resolve) => void clock.after(LOOK_MS, "look", resolve));
    }
  }

  #startJobManager(): void {
    const life = new Life("jobmanager", (thrown) => this.#broken(thrown));
    this.#jobManager = life;
    const isCurrent = (): boolean => this.#jobManager === life && life.isAlive;
    life.begin(() =>
      startJobManager(this.#setup, this.#partOf(life), {
        started: (master) => {
          if (isCurrent()) this.#master = master;
        },
        ended: (as, message) => {
          if (isCurrent()) life.begin(() => this.#ended(as, message));
        },
        fatal: (thrown) => {
          if (isCurrent()) this.#broken(thrown);
        },
      }),
    );
  }

  #startTaskManager(index: number): void {
    const id = `tm-${index + 1}`;
    const disk = this.#disks[index];
    assert(disk !== undefined, "every TaskManager has a disk");
    const life = new Life(id, (thrown) => this.#broken(thrown));
    const part: TaskManagerPart = { life, manager: undefined };
    this.#taskManagers[index] = part;
    const started = (manager: TaskManager): void => void (part.manager = manager);
    life.begin(() => startTaskManager(this.#setup, this.#partOf(life), { id, slots: this.#slots, disk, started }));
  }

  #partOf(life: Life): {
    readonly life: Life;
    readonly net: ReturnType<MemoryNet["of"]>;
    readonly rng: ReturnType<typeof nodeRng>;
  } {
    return { life, net: this.#net.of(life), rng: nodeRng() };
  }

  async #ended(as: EndState, message: string): Promise<void> {
    const newest = this.#master?.job().exceptions[0];
    await this.#stopParts(undefined); // functions are closed when a test goes on
    this.#finish(() => {
      if (as !== "FAILED") {
        this.#end.resolve(as);
        return;
      }
      const code = (newest?.name ?? "INTERNAL") as FailureCode; // an unknown one becomes INTERNAL
      this.#end.reject(failureFromJson({ code, retry: "never", message, remedy: "", stack: "" }));
    });
  }

  /** Slots end as in a TaskManager that is told to stop; what hangs is left behind. */
  async #stopParts(jobManager: Promise<void> | undefined): Promise<void> {
    const { clock } = this.#setup;
    const managers = this.#taskManagers.map(({ manager }) => manager?.stop("the cluster ends"));
    const patience = new Promise<void>((resolve) => void clock.after(STOP_PATIENCE_MS, "stop", resolve));
    await Promise.race([Promise.all([jobManager, ...managers]), patience]);
  }

  #broken(thrown: unknown): void {
    this.#finish(() => this.#end.reject(isFailure(thrown) ? thrown : (thrown as Error)));
  }

  #finish(settle: () => void): void {
    if (this.#isOver) return;
    this.#isOver = true;
    settle();
    this.#jobManager?.end();
    for (const { life } of this.#taskManagers) life.end();
    this.#setup.clock.stop();
  }
}

/** Slot i runs subtask i of every vertex. */
function slotsNeeded(plan: JobPlan): number {
  return Math.max(1, ...plan.vertices.map((vertex) => vertex.parallelism));
}

function checkSlots(plan: JobPlan, offered: number): void {
  const needed = slotsNeeded(plan);
  if (offered >= needed) return;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `the job needs ${needed} slots (its highest parallelism), and the cluster has ${offered}`,
    remedy: "Leave slotsPerTaskManager out, or raise it.",
  });
}

async function storeOf(given: MemoryObjectStore | string | undefined): Promise<ObjectStore> {
  return typeof given === "string" ? await openObjectStore(given) : (given ?? new MemoryObjectStore());
}

function gone(message: string): Failure {
  return new Failure("CANCELED", { retry: "never", message });
}
