// A whole cluster in a simulated world: one JobManager and three TaskManagers with simulated slots, a store that fails, processes that
// crash and stand still. Each slot counts records; what its sink publishes is a ledger that must hold every record exactly once.

import { describe, expect, test } from "@jest/globals";
import { failureToJson, SeededRng, toFailure } from "@sluice/kit";
import type { Rng } from "@sluice/kit/env";
import { HEALTHY, World } from "@sluice/sim";
import type { FaultPlan, SimEnv, SimNode } from "@sluice/sim";

import { noOtherStore } from "../checkpoint/memory-store.fixture.ts";
import { configurationOf, runtimeSettings } from "../model/configuration/index.ts";
import type { CheckpointId, JobManagerConfig, JobPlan, PlanVertex, SlotCommand, SlotSpec } from "../model/index.ts";
import { DataServer, MailboxReader } from "../network/index.ts";
import type { IoReply } from "../task/index.ts";
import { DataPlane, IoService, TaskManager } from "../taskmanager/index.ts";
import type { SlotHandlers, SlotThread } from "../taskmanager/index.ts";
import { claimJob, JobMaster } from "./index.ts";

const SLOTS = 2;
const RECORDS = 150;
const RECORD_MS = 40;
const SECRET = "secret";
const LIMITS = { virtualMs: 3_600_000, events: 3_000_000 };

const CONFIGURATION = {
  "execution.checkpointing.interval": "500 ms",
  "execution.checkpointing.timeout": "8 s",
  "execution.checkpointing.tolerable-failed-checkpoints": "5",
  "task.cancellation.timeout": "2 s",
};

function vertex(id: string, inputs: readonly string[]): PlanVertex {
  return {
    id,
    name: id,
    parallelism: SLOTS,
    maxParallelism: 128,
    chain: [
      {
        transformationId: 0,
        name: id,
        uid: `uid-${id}`,
        kind: inputs.length === 0 ? "source" : "sink",
        stateful: true,
        canRetract: true,
      },
    ],
    inputs: inputs.map((sourceVertexId) => ({
      id: 0,
      sourceVertexId,
      targetVertexId: id,
      inputIndex: 0,
      partitioning: "FORWARD",
      type: { kind: "LONG" },
    })),
    splits: [],
  };
}

const PLAN: JobPlan = {
  formatVersion: 0,
  jobName: "world",
  digest: "d1",
  arguments: [],
  configuration: CONFIGURATION,
  vertices: [vertex("src", []), vertex("sink", ["src"])],
};

const CONFIG: JobManagerConfig = {
  jobName: "world",
  namespace: "sim",
  uid: "uid",
  moduleUrl: "file:///job.ts",
  planPath: "",
  configuration: CONFIGURATION,
  store: { uri: "sim://store" },
  rpcAddress: "jm:1",
  restAddress: "",
  start: { lineage: "lin1", newLineage: false, from: undefined, allowReplay: undefined },
  plantedBugs: [],
};

/** Id of an operation. */
const ASKED = "a".repeat(32);

/** What the sinks published: per slot, each published range of records once, by the checkpoint that published it. */
class Ledger {
  /** A sink that publishes at the barrier instead of waiting for the commit: the audit has to find it. */
  readonly publishesEarly: boolean;
  readonly #published = new Map<string, readonly [from: number, to: number]>();
  restores = 0;

  constructor(publishesEarly: boolean) {
    this.publishesEarly = publishesEarly;
  }

  /** Idempotent, as the publishing of a file is: the name is the slot and the checkpoint. */
  publish(slot: number, id: number, range: readonly [number, number]): void {
    const name = `${slot}/${id}`;
    const before = this.#published.get(name);
    if (before !== undefined && (before[0] !== range[0] || before[1] !== range[1])) {
      throw new Error(`${name} published ${String(before)} and then ${String(range)}`);
    }
    this.#published.set(name, range);
  }

  /** The ranges of a slot, in order. */
  rangesOf(slot: number): readonly (readonly [number, number])[] {
    return [...this.#published]
      .filter(([name, [from, to]]) => name.startsWith(`${slot}/`) && to > from)
      .map(([, range]) => range)
      .sort((a, b) => a[0] - b[0]);
  }
}

interface Pending {
  readonly id: number;
  readonly range: readonly [number, number];
}

/** State of a slot in a snapshot: where the source stands, and what the sink has still to publish. */
interface Snapshot {
  readonly position: number;
  readonly pending: readonly Pending[];
}

/** A slot without a thread: source and sink in one, on timers of its TaskManager's node. */
class SimSlot implements SlotThread {
  readonly #env: SimEnv;
  readonly #spec: SlotSpec;
  readonly #handlers: SlotHandlers;
  readonly #io: IoService;
  readonly #ledger: Ledger;
  readonly #mailbox: MailboxReader;
  #position = 0;
  #publishedTo = 0;
  #pending: Pending[] = [];
  #finalId = -1;
  #isOver = false;
  #isRunning = false;
  #isDrained = false;

  constructor(env: SimEnv, spec: SlotSpec, handlers: SlotHandlers, io: IoService, ledger: Ledger) {
    this.#env = env;
    this.#spec = spec;
    this.#handlers = handlers;
    this.#io = io;
    this.#ledger = ledger;
    this.#mailbox = new MailboxReader(spec.mailbox);
    env.timers.after(5, "slot-start", () => this.#start());
  }

  terminate(): void {
    this.#exit(1);
  }

  #exit(code: number): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#env.timers.after(1, "slot-exit", () => this.#handlers.onExit({ code, error: undefined }));
  }

  #all(state: string, more: object = {}): void {
    for (const { subtask } of this.#spec.tasks) this.#handlers.onEvent({ type: "taskState", subtask, state, ...more });
  }

  #start(): void {
    if (this.#isOver) return;
    this.#all("INITIALIZING");
    this.#poll();
    const { epoch, attempt, tasks } = this.#spec;
    const source = tasks.find(({ subtask }) => subtask.vertexId === "src");
    const parts = source?.restore?.parts ?? [];
    if (source?.restore === undefined) {
      this.#run();
      return;
    }
    const restoredId = source.restore.checkpointId;
    this.#io.onSlotRequest({ epoch, attempt }, { type: "fetch", requestId: 1, parts }, (reply: IoReply) => {
      if (this.#isOver) return;
      if (reply.type === "fetchFailed") {
        this.#all("FAILED", { failure: reply.failure });
        return;
      }
      const state = JSON.parse(new TextDecoder().decode(reply.fetched.contents[0])) as Snapshot;
      this.#position = state.position;
      this.#pending = [...state.pending];
      this.#ledger.restores += 1;
      this.#publish(restoredId); // restoring n publishes n first (protocols 1)
      this.#publishedTo = state.position;
      this.#run();
    });
  }

  #run(): void {
    this.#isRunning = true;
    this.#all("RUNNING");
    const step = (): void => {
      if (this.#isOver || this.#isDrained) return;
      if (this.#position < RECORDS) {
        this.#position += 1;
        this.#env.timers.after(RECORD_MS, "record", step);
        return;
      }
      this.#isDrained = true;
      this.#all("DRAINED");
    };
    step();
  }

  #poll(): void {
    if (this.#isOver) return;
    for (let message = this.#mailbox.poll(); message !== undefined; message = this.#mailbox.poll()) {
      this.#obey(JSON.parse(new TextDecoder().decode(message)) as SlotCommand);
    }
    if (!this.#isOver) this.#env.timers.after(7, "poll", () => this.#poll());
  }

  #obey(command: SlotCommand): void {
    if (this.#isOver) return;
    switch (command.type) {
      case "cancel":
        this.#all("CANCELED");
        this.#handlers.onEvent({ type: "slotEnded" });
        this.#exit(0);
        return;
      case "notifyCheckpointComplete":
        if (!this.#isRunning) return;
        this.#publish(command.checkpointId);
        if (this.#finalId < 0 || command.checkpointId < this.#finalId) return;
        this.#all("FINISHED");
        this.#handlers.onEvent({ type: "slotEnded" });
        this.#exit(0);
        return;
      case "notifyCheckpointAborted":
        return; // its output goes with the next checkpoint
      case "triggerCheckpoint":
        if (this.#isRunning) this.#snapshot(command.barrier);
    }
  }

  #publish(id: CheckpointId): void {
    for (const { id: own, range } of this.#pending)
      if (own <= id) this.#ledger.publish(this.#spec.slotIndex, own, range);
    this.#pending = this.#pending.filter(({ id: own }) => own > id);
  }

  #snapshot(barrier: { readonly checkpointId: CheckpointId; readonly isFinal: boolean }): void {
    const { checkpointId, isFinal } = barrier;
    if (isFinal) this.#finalId = checkpointId;
    this.#pending.push({ id: checkpointId, range: [this.#publishedTo, this.#position] });
    this.#publishedTo = this.#position;
    if (this.#ledger.publishesEarly) this.#publish(checkpointId);
    const { epoch, attempt, tasks } = this.#spec;
    for (const { subtask } of tasks) {
      const isSource = subtask.vertexId === "src";
      const state: Snapshot = { position: this.#position, pending: this.#pending };
      const chunks = [new TextEncoder().encode(JSON.stringify(state))];
      const submission = {
        checkpointId,
        epoch,
        attempt,
        subtask,
        parts: isSource ? [{ uid: "uid-src", stateName: "state", kind: "operator" as const, chunks }] : [],
        finished: this.#isDrained && isFinal,
        stats: { startDelayMs: 0, alignmentMs: 0, syncMs: 0, asyncMs: 0, stateSizeBytes: 10 },
      };
      this.#io.onSlotRequest({ epoch, attempt }, { type: "submit", submission }, () => {});
    }
  }
}

function startTaskManager(node: SimNode, name: string, ledger: Ledger): void {
  node.start(async (env) => {
    const io = new IoService({
      env,
      store: env.store,
      openStore: noOtherStore,
      localCopies: { disks: [env.disk], bytesMax: 10_000, readsFirst: true },
      send: (event) => taskManager.onIoEvent(event),
    });
    const server = new DataServer({ ...env, listenAddress: `${name}:2`, taskManagerId: name });
    const taskManager: TaskManager = new TaskManager({
      env,
      id: name,
      secret: SECRET,
      jobManagerAddress: CONFIG.rpcAddress,
      slotCount: 1,
      metricsAddress: "",
      processId: 1,
      hardware: { cpuCores: 1, physicalMemoryBytes: 1, heapLimitBytes: 1 },
      settings: runtimeSettings(configurationOf(CONFIGURATION)),
      plantedBugs: [],
      slotHost: { start: (spec, handlers) => new SimSlot(env, spec, handlers, io, ledger) },
      dataPlane: new DataPlane({
        env,
        net: env.net,
        server,
        address: `${name}:2`,
        taskManagerId: name,
        secret: SECRET,
      }),
      io: { post: (command) => io.onCommand(command) },
      machine: { residentBytes: () => 0, freeMemoryBytes: () => 0, metrics: () => ({}) },
      onShutdown: () => void taskManager.stop("the job has ended"),
    });
    await taskManager.run();
  });
}

interface JobManagerRun {
  ended: string;
  message: string;
  fatal: string;
  restarts: number;
  master: JobMaster | undefined;
}

function startJobManager(node: SimNode, run: JobManagerRun): void {
  node.start(async (env) => {
    const settings = runtimeSettings(configurationOf(CONFIGURATION));
    run.master = new JobMaster({
      env,
      rpc: {
        self: { role: "jobmanager", id: "jm" },
        secret: SECRET,
        heartbeat: { intervalMs: 1_000, timeoutMs: 5_000 },
      },
      jobId: "0".repeat(32),
      plan: PLAN,
      moduleUrl: CONFIG.moduleUrl,
      settings,
      configuration: CONFIGURATION,
      lineage: "lin1",
      allowReplay: undefined,
      onEnded: (as, message) => {
        run.ended = as;
        run.message = message;
      },
      onFatal: (failure) => {
        run.fatal = failure.code;
        node.crash(`fatal ${failure.code}`);
      },
    });
    const { master } = run;
    await master.listen(CONFIG.rpcAddress);
    try {
      const started = await claimJob({
        config: CONFIG,
        plan: PLAN,
        settings,
        store: env.store,
        openStore: noOtherStore,
        env,
        signal: new AbortController().signal,
      });
      if (started.type === "ended") {
        run.ended = started.state;
        run.message = "ended before";
      } else {
        master.start(started.storage);
      }
    } catch (thrown) {
      run.fatal = failureToJson(toFailure(thrown)).code;
      node.crash(`refused ${run.fatal}`);
    }
  });
}

interface WorldResult {
  readonly ended: string;
  readonly ledger: Ledger;
  readonly kills: number;
  readonly trace: string;
  /** The JobManager that was the last. */
  readonly master: JobMaster | undefined;
}

/** Runs one job to its end; crashes and pauses while `chaosMs` of virtual time pass. */
async function runWorld(
  seed: number,
  options: {
    readonly faults: FaultPlan;
    readonly chaosMs: number;
    readonly publishesEarly?: boolean;
    /** Does something to the job while it runs. */
    readonly disturb?: (around: { world: World; run: JobManagerRun; jobManager: SimNode }) => void;
  },
): Promise<WorldResult> {
  const world = new World({ seed, faults: options.faults, keepsTrace: false });
  const rng: Rng = new SeededRng(seed, 99);
  const ledger = new Ledger(options.publishesEarly ?? false);
  const run: JobManagerRun = { ended: "", message: "", fatal: "", restarts: 0, master: undefined };
  const jobManager = world.node("jm");
  const names = ["tm-a", "tm-b", "tm-c"];
  const taskManagers = names.map((name) => world.node(name));
  startJobManager(jobManager, run);
  taskManagers.forEach((node, i) => startTaskManager(node, names[i] as string, ledger));
  let kills = 0;
  const supervise = (): void => {
    if (run.ended !== "") return;
    if (!jobManager.isUp && run.fatal !== "JOB_FINISHED") startJobManager(jobManager, run);
    taskManagers.forEach((node, i) => {
      if (!node.isUp) startTaskManager(node, names[i] as string, ledger);
    });
    world.after(300, "supervise", supervise);
  };
  world.after(300, "supervise", supervise);
  const chaos = (): void => {
    if (world.loop.nowMs > options.chaosMs) {
      world.heal();
      return;
    }
    const victim = rng.below(4) === 0 ? jobManager : (taskManagers[rng.below(3)] as SimNode);
    if (rng.chance(0.6)) victim.crash("chaos");
    else victim.pause(500 + rng.below(9_000));
    kills += 1;
    world.after(1_500 + rng.below(4_000), "chaos", chaos);
  };
  if (options.chaosMs > 0) world.after(2_000, "chaos", chaos);
  options.disturb?.({ world, run, jobManager });
  const outcome = await world.runUntil(() => run.ended !== "" || run.fatal === "JOB_FINISHED", LIMITS);
  const trace = world.loop.tail(120).join("\n");
  if (outcome === "limit") throw new Error(`seed ${seed}: the job did not end\n${trace}`);
  return { ended: run.ended === "" ? run.fatal : run.ended, ledger, kills, trace, master: run.master };
}

function expectExactlyOnce(seed: number, { ledger, trace }: WorldResult): void {
  for (let slot = 0; slot < SLOTS; slot += 1) {
    let at = 0;
    for (const [from, to] of ledger.rangesOf(slot)) {
      if (from !== at)
        throw new Error(
          `seed ${seed}, slot ${slot}: records ${at} to ${from} are ${from > at ? "missing" : "doubled"}\n${trace}`,
        );
      at = to;
    }
    if (at !== RECORDS)
      throw new Error(`seed ${seed}, slot ${slot}: ${at} of ${RECORDS} records were published\n${trace}`);
  }
}

describe("a simulated cluster", () => {
  test("without faults a job runs to its end without a restart", async () => {
    const result = await runWorld(1, { faults: HEALTHY, chaosMs: 0 });
    expect(result.ended).toBe("FINISHED");
    expect(result.ledger.restores).toBe(0);
    expectExactlyOnce(1, result);
  });

  test("JM1-JM4, TM1-TM4: crashes, pauses, broken connections, a failing store: every record exactly once, and the job ends", async () => {
    const faults: FaultPlan = {
      ...HEALTHY,
      net: { ...HEALTHY.net, breakProbability: 0.0005 },
      store: { ...HEALTHY.store, failProbability: 0.03, unknownProbability: 0.03, conflictProbability: 0.02 },
      disk: { fullProbability: 0.05, failProbability: 0.05, tornProbability: 0.5, lossProbability: 0.2 },
    };
    let restores = 0;
    let kills = 0;
    for (let seed = 1; seed <= 25; seed += 1) {
      const result = await runWorld(seed, { faults, chaosMs: 30_000 });
      expect([
        seed,
        ["FINISHED", "JOB_FINISHED"].includes(result.ended) ? "" : `${result.ended}\n${result.trace}`,
      ]).toEqual([seed, ""]);
      expectExactlyOnce(seed, result);
      restores += result.ledger.restores;
      kills += result.kills;
    }
    expect(restores).toBeGreaterThan(25);
    expect(kills).toBeGreaterThan(50);
  }, 120_000);

  test.each([
    { request: { kind: "checkpoint", checkpointType: "FULL" }, ended: "FINISHED" },
    { request: { kind: "cancel" }, ended: "CANCELED" },
  ] as const)(
    "OJ1: a $request.kind that was recorded when the JobManager died is done by the next one",
    async ({ request, ended }) => {
      const asked: (JobMaster | undefined)[] = [];
      const result = await runWorld(1, {
        faults: HEALTHY,
        chaosMs: 0,
        disturb: ({ world, run, jobManager }) =>
          world.after(2_000, "ask", () => {
            asked.push(run.master);
            void run.master
              ?.startOperation(ASKED, request)
              .then(() => jobManager.crash("it has recorded what it was asked"));
          }),
      });
      expect([result.ended, asked.includes(result.master)]).toEqual([ended, false]);
      expect(result.master?.operation(ASKED)?.outcome).toMatchObject({ type: "done" });
      if (ended === "FINISHED") expectExactlyOnce(1, result);
    },
  );

  test("the audit itself: a sink that publishes before the commit is found", async () => {
    const audits: string[] = [];
    for (let seed = 1; seed <= 5 && audits.length === 0; seed += 1) {
      const result = await runWorld(seed, { faults: HEALTHY, chaosMs: 30_000, publishesEarly: true });
      try {
        expectExactlyOnce(seed, result);
      } catch (thrown) {
        audits.push(String(thrown));
      }
    }
    expect(audits[0]).toMatch(/doubled|published/u);
  });
});
