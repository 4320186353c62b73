// The coordinator world: JobManagers that run the real commit log, coordinator and recovery; TaskManagers with model tasks; a
// faulty store and network; a nemesis that kills, pauses and partitions.
//
// Two phases: faults on (nothing may ever be wrong), then healed (the job must finish within a bound, with exact output).

import { plantBugs, SeededRng } from "@sluice/kit";
import type { Rng } from "@sluice/kit/env";
import type { CheckpointConfig } from "@sluice/runtime/internal/checkpoint";
import { type SimNode, swarm, World } from "../index.ts";
import { CommitChecks } from "./commit-checks.ts";
import { SimJobManager } from "./job-manager.ts";
import { Ledger } from "./ledger.ts";
import { Nemesis } from "./nemesis.ts";
import { resultOf, type RunOptions, type RunResult } from "./run.ts";
import { SimTaskManager } from "./task-manager.ts";

const JOB_DIR = "jobs/default/job";
const SUPERVISE_MS = 120;
const LIVENESS_MS = 60_000;
const EVENT_COUNT_MAX = 200_000;

interface Shape {
  readonly laneCount: number;
  /** Every JobManager has its own parallelism. */
  readonly rescales: boolean;
  readonly parallelism: number;
  readonly taskManagerCount: number;
  readonly recordCount: number;
  readonly chaosMs: number;
  readonly heartbeatTimeoutMs: number;
  /** The head is damaged now and then while no JobManager is up. */
  readonly damages: boolean;
  /** Mean time between savepoints that somebody asks for; 0: nobody does. */
  readonly savepointMeanMs: number;
  /** How many of them stop the job, which somebody then starts again. */
  readonly stopChance: number;
  readonly config: CheckpointConfig;
}

function drawShape(rng: Rng): Shape {
  return {
    laneCount: 1 + rng.below(4),
    rescales: rng.chance(0.6),
    parallelism: 1 + rng.below(3),
    taskManagerCount: 1 + rng.below(3),
    recordCount: 20 + rng.below(60),
    chaosMs: 1_500 + rng.below(4_000),
    heartbeatTimeoutMs: 400 + rng.below(400),
    damages: rng.chance(0.4),
    savepointMeanMs: rng.chance(0.6) ? 80 + rng.below(400) : 0,
    stopChance: rng.chance(0.6) ? 0.4 : 0,
    config: {
      mode: "EXACTLY_ONCE",
      intervalMs: 60 + rng.below(300),
      timeoutMs: 300 + rng.below(1_500),
      minPauseMs: rng.chance(0.5) ? 0 : rng.below(100),
      concurrentMax: 1 + rng.below(3),
      tolerableFailedCount: rng.chance(0.3) ? 0 : rng.below(8),
      retainedMax: 1 + rng.below(4),
      cleansInParallel: true,
      historyMax: 10,
    },
  };
}

/** One seed. Never throws for what the seed finds: the result says it. */
export async function runCoordinatorWorld(options: RunOptions): Promise<RunResult> {
  plantBugs(options.planted);
  const faults = swarm(new SeededRng(options.seed).fork("swarm"));
  const world = new World({ seed: options.seed, faults, keepsTrace: options.keepsTrace });
  const run = new CoordinatorRun(world, drawShape(world.rng.fork("shape")));
  return await resultOf(world, options, run);
}

class CoordinatorRun {
  readonly checks: CommitChecks;
  readonly ledger: Ledger;
  jobManagerCount = 0;
  killCount = 0;
  rescaleCount = 0;
  readonly #world: World;
  readonly #shape: Shape;
  readonly #rng: Rng;
  readonly #nemesis: Nemesis;
  readonly #taskManagers: SimNode[] = [];
  /** Oldest first; more than one is up while an old one is a zombie. */
  readonly #jobManagers: SimNode[] = [];
  #address = "";
  #newest: SimJobManager | undefined;
  #submissions = 1;
  #savepoints = 0;
  #epoch = 0;
  #isHealed = false;

  constructor(world: World, shape: Shape) {
    this.#world = world;
    this.#shape = shape;
    this.#rng = world.rng.fork("nemesis");
    this.#nemesis = new Nemesis({ world, rng: this.#rng, isHealed: () => this.#isHealed });
    this.checks = new CommitChecks(world, {
      jobDir: JOB_DIR,
      laneCount: shape.laneCount,
      stopping: () => this.#stopping(),
    });
    this.ledger = new Ledger(shape.laneCount, (reason) => world.violate(reason));
  }

  get counts(): RunResult["counts"] {
    return {
      commits: this.checks.commitCount,
      jobManagers: this.jobManagerCount,
      kills: this.killCount,
      regressions: this.checks.regressionCount,
      rescales: this.rescaleCount,
      savepoints: this.checks.savepointCount,
      stops: this.checks.stopCount,
      retracted: this.ledger.retractedTransactionCount,
      transactions: this.ledger.publishedTransactionCount,
    };
  }

  async go(): Promise<void> {
    const world = this.#world;
    const { chaosMs, recordCount } = this.#shape;
    for (let i = 0; i < this.#shape.taskManagerCount; i += 1) {
      const node = world.node(`tm${i}`);
      this.#taskManagers.push(node);
      this.#startTaskManager(node);
    }
    this.#startJobManager();
    this.#supervise();
    this.#disturb();
    this.#askForSavepoints();
    const isFinished = (): boolean => this.checks.truth?.jobState === "finished";
    const inChaos = await world.runUntil(() => world.loop.nowMs >= chaosMs || isFinished(), {
      virtualMs: chaosMs * 2,
      events: EVENT_COUNT_MAX,
    });
    if (inChaos === "limit") world.violate("the run stood still while faults were on");
    this.#heal();
    const end = world.loop.nowMs + LIVENESS_MS;
    const healed = await world.runUntil(isFinished, { virtualMs: end, events: EVENT_COUNT_MAX });
    if (healed === "limit")
      world.violate(
        `liveness: not finished ${LIVENESS_MS} ms after everything was healed (record ${this.checks.truth?.seq ?? 0}, head ${this.checks.headId})`,
      );
    else this.ledger.finish(() => recordCount);
    await world.runUntil(() => true, { virtualMs: end, events: EVENT_COUNT_MAX }); // throws what was found last
  }

  #heal(): void {
    this.#world.heal();
    this.#isHealed = true;
    for (const old of this.#jobManagers.slice(0, -1)) old.crash("superseded, ended by its supervisor");
  }

  #startTaskManager(node: SimNode): void {
    const { recordCount, laneCount, chaosMs, heartbeatTimeoutMs } = this.#shape;
    node.start((env) =>
      new SimTaskManager({
        env,
        name: node.name,
        jobDir: JOB_DIR,
        recordCount,
        laneCount,
        emitEveryMs: Math.max(5, Math.floor((chaosMs * 2) / recordCount)),
        heartbeatTimeoutMs,
        jobManagerAddress: () => this.#address,
        publish: (id, name, lane, records) => {
          this.checks.sideEffect(id, `${node.name} publishes ${name}`);
          this.ledger.publish(name, lane, records);
        },
        retract: (lineage, lane, range) => this.ledger.retract(lineage, lane, range),
        notified: (id) => this.checks.sideEffect(id, `${node.name} is notified`),
      }).run(),
    );
  }

  #startJobManager(): void {
    const { config, rescales, heartbeatTimeoutMs } = this.#shape;
    const parallelism = rescales ? 1 + this.#rng.below(4) : this.#shape.parallelism;
    const node = this.#world.node(`jm${this.jobManagerCount}`);
    this.jobManagerCount += 1;
    this.#jobManagers.push(node);
    const address = `${node.name}:6123`;
    node.start((env) => {
      this.#newest = new SimJobManager({
        env,
        address,
        jobDir: JOB_DIR,
        submission: `lineage-${this.#submissions}`,
        parallelism,
        taskManagers: this.#taskManagers.map((tm) => tm.name),
        config,
        heartbeatTimeoutMs,
        checks: this.checks,
        rescaled: () => (this.rescaleCount += 1),
        claimed: (epoch) => {
          if (epoch <= this.#epoch) return; // a zombie whose claim was answered late: a newer one is known already
          this.#epoch = epoch;
          this.#address = address;
        },
        exit: (reason) => node.crash(reason),
        violate: (reason) => this.#world.violate(`${node.name}: ${reason}`),
      });
      return this.#newest.run();
    });
  }

  /** Starts what is down again; takes a long pause for a death now and then, so that two JobManagers are alive at once. */
  #supervise(): void {
    this.#world.after(SUPERVISE_MS, "supervise", () => {
      for (const tm of this.#taskManagers) if (!tm.isUp && this.#rng.chance(0.5)) this.#startTaskManager(tm);
      const newest = this.#jobManagers.at(-1);
      const isFinished = this.checks.truth?.jobState === "finished";
      // Whoever stopped the job starts it again: another submission.
      const { truth } = this.checks;
      if (truth?.jobState === "stopped" && truth.submission === `lineage-${this.#submissions}`) this.#submissions += 1;
      const isGone = newest === undefined || !newest.isUp;
      const looksGone = newest?.isPaused === true && this.#rng.chance(0.3);
      if (isGone && !this.#isHealed && this.#shape.damages && this.#rng.chance(0.6)) this.#damageHead();
      if (!isFinished && ((isGone && this.#rng.chance(0.6)) || looksGone)) this.#startJobManager();
      this.#supervise();
    });
  }

  /** The newest checkpoint loses an object, or half of one, while nobody looks; an older one stays to go back to. */
  #damageHead(): void {
    const { truth } = this.checks;
    const whole = truth?.retained.filter((ref) => !this.checks.damaged.has(ref.id)) ?? [];
    const head = truth?.head;
    if (head === null || head === undefined || whole.length < 2 || this.checks.damaged.has(head.id)) return;
    const paths = this.#world.storage.pathsOf(head.path.replace("_metadata", ""));
    const path = paths[this.#rng.below(paths.length)];
    const bytes = path === undefined ? undefined : this.#world.storage.objects.get(path)?.bytes;
    if (path === undefined || bytes === undefined) return;
    this.#world.loop.note("world", `damages ${path}`);
    this.checks.damaged.add(head.id);
    this.#world.storage.damage(path, this.#rng.chance(0.5) ? undefined : bytes.slice(0, bytes.length >> 1));
  }

  #askForSavepoints(): void {
    const { savepointMeanMs, stopChance } = this.#shape;
    this.#nemesis.repeat(savepointMeanMs, "somebody asks for a savepoint", () => {
      const stops = this.#rng.chance(stopChance) ? "suspend" : "no";
      const directory = `savepoints/savepoint-${(this.#savepoints += 1)}`;
      if (stops === "no") this.checks.intermediates.add(`${directory}/_metadata`);
      const order = { location: `sim://store/${directory}`, stops, operationId: null } as const;
      this.#newest?.takeSavepoint(order).then(
        (taken) => {
          if (taken !== undefined) this.checks.savepointTaken(`${directory}/_metadata`);
        },
        (thrown: unknown) => this.#world.violate(`a savepoint ended in ${String(thrown)}`),
      );
    });
  }

  /** What a stop has recorded must outlive its JobManager: between the record and the end is where it would be forgotten. */
  #stopping(): void {
    const node = this.#jobManagers.at(-1);
    if (this.#world.faults.crashMeanMs === 0 || this.#rng.chance(0.5)) return;
    this.#world.after(1 + this.#rng.below(100), "nemesis kills the JobManager of a stop", () => {
      if (this.#isHealed || node?.isUp !== true) return;
      this.killCount += 1;
      node.crash("killed while it stops the job");
    });
  }

  #disturb(): void {
    const { crashMeanMs, pauseMeanMs } = this.#world.faults;
    this.#nemesis.repeat(crashMeanMs, "nemesis kills", () => {
      this.killCount += 1;
      this.#victim().crash("killed");
    });
    this.#nemesis.repeat(pauseMeanMs, "nemesis pauses", () => this.#victim().pause(50 + this.#rng.below(2_000)));
    this.#nemesis.partitions(() => this.#jobManagers.at(-1), this.#taskManagers);
  }

  #victim(): SimNode {
    const all = [...this.#taskManagers, ...this.#jobManagers.slice(-2)];
    const isManager = this.#rng.chance(0.5);
    const pool = isManager ? this.#jobManagers.slice(-2) : all;
    return pool[this.#rng.below(pool.length)] as SimNode;
  }
}
