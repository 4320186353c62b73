// The operations world: the real JobMaster (scheduler, operations, coordinator, commit log) over the real protocol to TaskManagers with
// model tasks. Users ask for savepoints, stops, cancellations, rescales, checkpoints and disposals while TaskManagers, JobManagers, the
// network and the store fail.
//
// Two phases: faults on (nothing may ever be wrong), then healed (every operation gets an outcome, every user an answer, and the job ends,
// with exact output). Invariants: OS1-OS8 (operation-checks.ts), those of commit-checks.ts and ledger.ts, and
//   OS9. When faults have ended, the job goes on to its end and nobody waits for an operation for ever.

import { plantBugs, SeededRng } from "@sluice/kit";
import type { Rng } from "@sluice/kit/env";
import { jobDirectory } from "@sluice/runtime/internal/checkpoint";
import { type EventOwner, type FaultPlan, type SimNode, World } from "../../index.ts";
import { CommitChecks } from "../commit-checks.ts";
import { Ledger } from "../ledger.ts";
import { Nemesis } from "../nemesis.ts";
import { resultOf, type RunOptions, type RunResult } from "../run.ts";
import { JOB_NAME, JobManagerProcess, NAMESPACE } from "./job-manager.ts";
import { Incidents } from "./justified.ts";
import { OperationChecks } from "./operation-checks.ts";
import { drawFaults, drawShape, planOf, type Shape, STORE_URI, SAVEPOINT_DIRECTORY } from "./shape.ts";
import { OperationsTaskManager } from "./task-manager.ts";
import { type Reachable, Users } from "./users.ts";

const JOB_DIR = jobDirectory(NAMESPACE, JOB_NAME);
const SECRET = "secret";
const SUPERVISE_MS = 200;
const LIVENESS_MS = 150_000;
const EVENT_COUNT_MAX = 400_000;
/** A rescale is deployed after so long, or the job ends before. */
const RESCALED_MS = 10_000;

/** One seed. Never throws for what the seed finds: the result says it. */
export async function runOperationsWorld(options: RunOptions): Promise<RunResult> {
  plantBugs(options.planted);
  const faults = drawFaults(new SeededRng(options.seed).fork("swarm"));
  const world = new World({ seed: options.seed, faults, keepsTrace: options.keepsTrace });
  const run = new OperationsRun(world, drawShape(world.rng.fork("shape"), faults));
  return await resultOf(world, options, run);
}

interface JobManagerNode {
  readonly node: SimNode;
  readonly owner: EventOwner;
  jobManager: JobManagerProcess | undefined;
  epoch: number;
}

class OperationsRun {
  readonly commits: CommitChecks;
  readonly operations: OperationChecks;
  readonly ledger: Ledger;
  readonly users: Users;
  jobManagerCount = 0;
  killCount = 0;
  readonly #world: World;
  readonly #shape: Shape;
  readonly #rng: Rng;
  readonly #nemesis: Nemesis;
  readonly #incidents: Incidents;
  readonly #taskManagers: SimNode[] = [];
  /** Oldest first; more than one is up while an old one is a zombie. */
  readonly #jobManagers: JobManagerNode[] = [];
  #address = "";
  #submissions = 1;
  #isHealed = false;

  constructor(world: World, shape: Shape) {
    this.#world = world;
    this.#shape = shape;
    this.#rng = world.rng.fork("nemesis");
    this.#nemesis = new Nemesis({ world, rng: this.#rng, isHealed: () => this.#isHealed });
    const { timeoutMs } = shape.settings.checkpoints;
    const slotCount = shape.taskManagerCount * shape.slotsPerTaskManager;
    this.#incidents = new Incidents({ slotCount, timeoutMs, ...kindsOf(world.faults) });
    this.commits = new CommitChecks(world, {
      jobDir: JOB_DIR,
      laneCount: shape.laneCount,
      stopping: () => this.#killSoon("a stop is the head"),
      appended: (record, before) => {
        this.operations.appended(record, before);
        if (record.ops.length > (before?.ops.length ?? 0)) this.#killSoon("an operation is recorded");
      },
    });
    this.ledger = new Ledger(shape.laneCount, (reason) => world.violate(reason));
    this.operations = new OperationChecks({
      world,
      commits: this.commits,
      incidents: this.#incidents,
      plannedParallelism: shape.parallelism,
      storeUri: STORE_URI,
    });
    this.users = new Users({
      world,
      rng: world.rng.fork("users"),
      checks: this.operations,
      wishes: shape.wishes,
      countMax: shape.wishCountMax,
      lossProbability: shape.answerLossProbability,
      slotCount,
      jobManagers: () => this.#reachable(),
      savepointDirectory: SAVEPOINT_DIRECTORY,
      storeUri: STORE_URI,
    });
  }

  get counts(): RunResult["counts"] {
    return {
      ...this.operations.counts,
      ...this.users.counts,
      commits: this.commits.commitCount,
      jobManagers: this.jobManagerCount,
      kills: this.killCount,
      transactions: this.ledger.publishedTransactionCount,
    };
  }

  async go(): Promise<void> {
    const world = this.#world;
    const { chaosMs, taskManagerCount, wishEveryMs } = this.#shape;
    for (let i = 0; i < taskManagerCount; i += 1) {
      const node = world.node(`tm${i}`);
      this.#taskManagers.push(node);
      this.#startTaskManager(node);
    }
    this.#startJobManager();
    this.#supervise();
    this.#disturb();
    this.#nemesis.repeat(wishEveryMs, "somebody wants something", () => this.users.wish());
    const inChaos = await world.runUntil(() => world.loop.nowMs >= chaosMs, {
      virtualMs: chaosMs * 2,
      events: EVENT_COUNT_MAX,
    });
    if (inChaos === "limit") world.violate("the run stood still while faults were on");
    this.#heal();
    const end = world.loop.nowMs + LIVENESS_MS;
    const isOver = (): boolean =>
      this.#hasEnded() && this.operations.open.length === 0 && this.users.waiting.length === 0;
    const healed = await world.runUntil(isOver, { virtualMs: end, events: EVENT_COUNT_MAX });
    if (healed === "limit") {
      const { truth } = this.commits;
      const waiting = [...this.users.waiting, ...this.operations.open.map((id) => `(open) ${id.slice(0, 8)}`)];
      world.violate(
        `OS9: the job is ${truth?.jobState ?? "not begun"} (record ${truth?.seq ?? 0}, head ${this.commits.headId}), users wait for [${waiting.join(", ")}] ${LIVENESS_MS} ms after everything was healed`,
      );
    } else this.#finish();
    await world.runUntil(() => true, { virtualMs: end, events: EVENT_COUNT_MAX }); // throws what was found last
  }

  /** Nobody will start it again. */
  #hasEnded(): boolean {
    const state = this.commits.truth?.jobState;
    return state === "finished" || (state === "cancelled" && !this.#shape.restartsCancelled);
  }

  #finish(): void {
    this.operations.finish();
    const { truth } = this.commits;
    if (truth?.jobState !== "finished") return; // cancelled: what its last checkpoint holds may wait for ever
    const positions = this.commits.positions();
    this.ledger.finish((lane) => positions.get(lane) ?? 0);
    const isDrained = truth.head?.kind === "savepoint";
    for (const [lane, position] of positions) {
      if (!isDrained && position !== this.#shape.recordCount)
        this.#world.violate(
          `OS9: the job has finished, lane ${lane} was read up to ${position} of ${this.#shape.recordCount}`,
        );
    }
    const wanted = Object.values(truth.rescale?.parallelism ?? {})[0] ?? this.#shape.parallelism;
    const { lastDeployedParallelism, lastRescaleMs } = this.operations;
    if (this.#world.loop.nowMs - lastRescaleMs > RESCALED_MS && lastDeployedParallelism !== wanted)
      this.#world.violate(`OS7: the job ended at parallelism ${lastDeployedParallelism}, the log says ${wanted}`);
  }

  #heal(): void {
    this.#world.heal();
    this.#isHealed = true;
    this.#incidents.healed(this.#world.loop.nowMs);
    for (const old of this.#jobManagers.slice(0, -1)) old.node.crash("superseded, ended by its supervisor");
  }

  #startTaskManager(node: SimNode): void {
    const { recordCount, laneCount, emitEveryMs, declineProbability, slotsPerTaskManager, settings } = this.#shape;
    const now = (): number => this.#world.loop.nowMs;
    this.#incidents.fewSlots(now());
    node.start((env) =>
      new OperationsTaskManager({
        env,
        name: node.name,
        slotCount: slotsPerTaskManager,
        secret: SECRET,
        heartbeat: { intervalMs: settings.heartbeatIntervalMs, timeoutMs: settings.heartbeatTimeoutMs },
        jobManagerAddress: () => this.#address,
        tasks: {
          jobDir: JOB_DIR,
          recordCount,
          laneCount,
          emitEveryMs,
          declines: () => !this.#isHealed && env.rng.chance(declineProbability),
          publish: (id, name, lane, records) => {
            this.commits.sideEffect(id, `${node.name} publishes ${name}`);
            this.ledger.publish(name, lane, records);
          },
          retract: (lineage, lane, range) => this.ledger.retract(lineage, lane, range),
        },
        seen: {
          deployed: (request) => this.operations.deployed(request),
          triggered: (trigger) => {
            this.commits.triggered(trigger.barrier.checkpointId, trigger.epoch, trigger.attempt);
            this.operations.triggered(trigger);
          },
          notified: (id) => this.commits.sideEffect(id, `${node.name} is notified`),
          declined: () => this.#incidents.declined(now()),
          inputEnded: () => this.#incidents.inputEnded(now()),
        },
        exit: (reason) => this.#down(node, reason),
      }).run(),
    );
  }

  #startJobManager(): void {
    const { settings, parallelism } = this.#shape;
    const node = this.#world.node(`jm${this.jobManagerCount}`);
    this.jobManagerCount += 1;
    this.#address = `${node.name}:6123`;
    const address = this.#address;
    const submission = `lineage-${this.#submissions}`;
    const owner = node.start((env) => {
      one.jobManager = new JobManagerProcess({
        env,
        address,
        secret: SECRET,
        submission,
        plan: planOf(parallelism),
        settings,
        claimed: (epoch) => {
          one.epoch = epoch;
          this.#incidents.claimed(this.#world.loop.nowMs);
        },
        exit: (reason) => node.crash(reason),
        violate: (reason) => this.#world.violate(`${node.name}: ${reason}`),
      });
      return one.jobManager.run();
    });
    const one: JobManagerNode = { node, owner, jobManager: undefined, epoch: 0 };
    this.#jobManagers.push(one);
  }

  #reachable(): readonly Reachable[] {
    return this.#jobManagers.flatMap(({ owner, jobManager, epoch }) =>
      owner.isAlive && jobManager !== undefined ? [{ owner, jobManager, epoch }] : [],
    );
  }

  /** Starts what is down again; takes a long pause for a death now and then, so that two JobManagers are alive at once. */
  #supervise(): void {
    this.#world.after(SUPERVISE_MS, "supervise", () => {
      for (const tm of this.#taskManagers) if (!tm.isUp && this.#rng.chance(0.5)) this.#startTaskManager(tm);
      const newest = this.#jobManagers.at(-1)?.node;
      const isGone = newest === undefined || !newest.isUp;
      const looksGone = newest?.isPaused === true && this.#rng.chance(0.3);
      if (isGone) this.#decideSubmission();
      // Of a job that has ended somebody wants to know something.
      const isNeeded = !this.#hasEnded() || this.users.waiting.length > 0;
      if (isNeeded && ((isGone && this.#rng.chance(0.6)) || looksGone)) this.#startJobManager();
      this.#supervise();
    });
  }

  /** Whoever stopped or cancelled the job starts it again, as another submission. A supervisor that knows of nothing repeats the old one. */
  #decideSubmission(): void {
    const { truth } = this.commits;
    if (truth?.submission !== `lineage-${this.#submissions}` || this.#rng.chance(0.3)) return;
    const { jobState } = truth;
    if (jobState === "stopped" || (jobState === "cancelled" && this.#shape.restartsCancelled)) this.#submissions += 1;
  }

  /** What the log has just been told must outlive its JobManager, and the TaskManagers: right after it is where it would be forgotten. */
  #killSoon(why: string): void {
    if (this.#world.faults.crashMeanMs === 0 || this.#isHealed || this.#rng.chance(0.7)) return;
    const victim = this.#rng.chance(0.6) ? this.#jobManagers.at(-1)?.node : this.#taskManagers[0];
    this.#world.after(1 + this.#rng.below(150), `nemesis kills ${victim?.name ?? "nobody"}: ${why}`, () => {
      if (!this.#isHealed && victim?.isUp === true) this.#kill(victim);
    });
  }

  #disturb(): void {
    const { crashMeanMs, pauseMeanMs } = this.#world.faults;
    this.#nemesis.repeat(crashMeanMs, "nemesis kills", () => this.#kill(this.#victim()));
    this.#nemesis.repeat(pauseMeanMs, "nemesis pauses", () => this.#pause(this.#victim()));
    this.#nemesis.repeat(this.#shape.leaveMeanMs, "nemesis sends SIGTERM", () => {
      const newest = this.#reachable().at(-1);
      if (newest === undefined) return;
      this.#world.loop.at(1, newest.owner, "SIGTERM", () => void newest.jobManager.leave());
    });
    this.#nemesis.partitions(() => this.#jobManagers.at(-1)?.node, this.#taskManagers);
  }

  #kill(node: SimNode): void {
    this.killCount += 1;
    this.#down(node, "killed");
  }

  #down(node: SimNode, reason: string): void {
    if (this.#taskManagers.includes(node)) this.#noticed();
    node.crash(reason);
  }

  #pause(node: SimNode): void {
    const durationMs = 50 + this.#rng.below(2_000);
    this.#noticed();
    this.#world.after(durationMs, "a pause ends", () => this.#noticed());
    node.pause(durationMs);
  }

  /** The job may restart now, with fewer slots. */
  #noticed(): void {
    const { nowMs } = this.#world.loop;
    this.#incidents.restarted(nowMs);
    this.#incidents.fewSlots(nowMs);
  }

  #victim(): SimNode {
    const jobManagers = this.#jobManagers.slice(-2).map(({ node }) => node);
    const pool = this.#rng.chance(0.5) ? jobManagers : this.#taskManagers;
    return pool[this.#rng.below(pool.length)] as SimNode;
  }
}

function kindsOf({ store, net }: FaultPlan): { readonly hasStoreFaults: boolean; readonly hasNetFaults: boolean } {
  const { failProbability, unknownProbability, conflictProbability, slowProbability, fullMeanMs } = store;
  return {
    hasStoreFaults: failProbability + unknownProbability + conflictProbability + slowProbability + fullMeanMs > 0,
    hasNetFaults: net.breakProbability + net.partitionMeanMs + net.slowReaderProbability > 0,
  };
}
