// A JobManager of the coordinator world: the real commit log, recovery and coordinator, with a small deployment loop around them.
//
// Invariants:
//   JM1. One restart at a time; it begins with `suspend` and ends with a deployment of every subtask.
//   JM2. Once fenced it sends nothing; it ends.
//   JM3. A submission that has recorded its end does not run the job again.

import { isFailure } from "@sluice/kit";
import type { Conn } from "@sluice/kit/env";
import {
  assignState,
  type CheckpointConfig,
  CheckpointCoordinator,
  type CheckpointVertex,
  CommitLog,
  endedBySubmission,
  endStateOf,
  objectsDirectory,
  readCommitHead,
  recover,
  type Recovery,
  retryStorage,
  type SavepointOrder,
  type TakenSavepoint,
  type TaskGateway,
} from "@sluice/runtime/internal/checkpoint";
import type { AttemptNumber, CheckpointId } from "@sluice/runtime/internal/model";
import type { SimEnv } from "../index.ts";
import type { CommitChecks } from "./commit-checks.ts";
import { decode, encode, type ToJobManager, type ToTaskManager } from "./messages.ts";
import { sleep, VERTICES } from "./pipeline.ts";

export interface JobManagerOptions {
  readonly env: SimEnv;
  readonly address: string;
  readonly jobDir: string;
  /** Which start of the job this is; its restarts have the same. */
  readonly submission: string;
  readonly parallelism: number;
  readonly taskManagers: readonly string[];
  readonly config: CheckpointConfig;
  readonly heartbeatTimeoutMs: number;
  readonly checks: CommitChecks;
  /** What it restores was taken at another parallelism. */
  readonly rescaled: () => void;
  readonly claimed: (epoch: number) => void;
  /** This process ends; the log says why. */
  readonly exit: (reason: string) => void;
  readonly violate: (reason: string) => void;
}

interface Peer {
  readonly conn: Conn;
  lastHeardMs: number;
}

const HEARTBEAT_MS = 150;

const VERIFY_EVERY_ROUNDS = 20;

/** Savepoints of this world lie in its one store. */
const noOtherStore = (uri: string): Promise<never> => Promise.reject(new Error(`${uri} is not there`));

/** Rejects with FENCED only: a store that does not answer proves nothing. */
async function verifyOwnership(log: CommitLog): Promise<void> {
  try {
    await log.verifyOwnership(new AbortController().signal);
  } catch (thrown) {
    if (isFailure(thrown) && thrown.retry !== "never") return;
    throw thrown;
  }
}

/** The job's graph: three vertices in a row, same parallelism. */
export function worldVertices(parallelism: number): readonly CheckpointVertex[] {
  return VERTICES.map((vertexId, i) => ({
    vertexId,
    parallelism,
    maxParallelism: 128,
    derivesMaxParallelism: false,
    isKeyed: false,
    uids: [vertexId],
    inputVertexIds: i === 0 ? [] : [VERTICES[i - 1] as string],
  }));
}

export class SimJobManager {
  readonly #options: JobManagerOptions;
  readonly #peers = new Map<string, Peer>();
  readonly #finished = new Set<string>();
  #coordinator: CheckpointCoordinator | undefined;
  #log: CommitLog | undefined;
  #attempt = -1 as AttemptNumber;
  #isRestarting = false;
  #wantsRestart = false;
  #isFenced = false;
  #isClosing = false;

  constructor(options: JobManagerOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { env, jobDir, config, parallelism, submission } = this.#options;
    const request = { jobName: "job", uid: "uid", lineage: submission, newLineage: false, mayCreate: true };
    const signal = new AbortController().signal;
    try {
      const before = await retryStorage(env, signal, "look", () => readCommitHead(env.store, jobDir, signal));
      if (endedBySubmission(before, request) !== undefined) return this.#options.exit("ended before"); // JM3
      const { log } = await CommitLog.claim({
        store: env.store,
        jobDir,
        env,
        request,
        planDigest: "digest",
        signal,
      });
      this.#log = log;
    } catch (thrown) {
      if (isFailure(thrown) && (thrown.code === "JOB_FINISHED" || thrown.code === "JOB_CLOSED"))
        return this.#options.exit("the job has finished");
      throw thrown;
    }
    this.#coordinator = new CheckpointCoordinator({
      env,
      store: env.store,
      openStore: noOtherStore,
      commitLog: this.#log,
      vertices: worldVertices(parallelism),
      config,
      gateway: this.#gateway(),
      listener: {
        failJob: (failure) => this.#restart(failure.message),
        fenced: (failure) => {
          this.#isFenced = true;
          this.#options.exit(failure.message);
        },
        completed: () => undefined,
        finalCompleted: () => undefined,
        stopFailed: (failure) => this.#restart(failure.message),
      },
    });
    await env.net.listen(this.#options.address, (conn) => this.#accept(conn));
    this.#options.claimed(this.#log.epoch);
    this.#restart("start");
    for (;;) {
      await sleep(env, HEARTBEAT_MS, "jm-heartbeat");
      for (const [name, peer] of this.#peers) {
        peer.conn.send(encode({ type: "heartbeat" }));
        if (env.clock.nowMs() - peer.lastHeardMs > this.#options.heartbeatTimeoutMs) this.#lost(name, peer);
      }
    }
  }

  /** Somebody asks for a savepoint; undefined when none came of it. */
  async takeSavepoint(order: SavepointOrder): Promise<TakenSavepoint | undefined> {
    try {
      return await this.#coordinator?.takeSavepoint(order);
    } catch (thrown) {
      if (isFailure(thrown)) return undefined;
      throw thrown;
    }
  }

  #accept(conn: Conn): void {
    let name: string | undefined;
    const peer: Peer = { conn, lastHeardMs: this.#options.env.clock.nowMs() };
    conn.onClose = () => {
      if (name !== undefined) this.#lost(name, peer);
    };
    conn.onFrame = (frame) => {
      const message = decode<ToJobManager>(frame);
      peer.lastHeardMs = this.#options.env.clock.nowMs();
      if (message.type === "register") {
        name = message.taskManager;
        const before = this.#peers.get(name);
        this.#peers.set(name, peer);
        before?.conn.close();
        if (!this.#isRestarting) this.#restart(`${name} registered`);
        return;
      }
      this.#receive(message);
    };
  }

  #lost(name: string, peer: Peer): void {
    if (this.#peers.get(name) !== peer) return;
    this.#peers.delete(name);
    peer.conn.close();
    this.#restart(`${name} lost`);
  }

  #receive(message: Exclude<ToJobManager, { readonly type: "register" }>): void {
    const coordinator = this.#coordinator;
    if (coordinator === undefined || this.#isFenced || message.type === "heartbeat") return;
    if (message.type === "ack") return coordinator.ack(message.ack);
    if (message.type === "decline") return coordinator.decline(message.decline);
    if (message.epoch !== this.#log?.epoch || message.attempt !== this.#attempt || this.#isRestarting) return;
    if (message.type === "running") coordinator.taskRunning(message.subtask);
    if (message.type === "ended") coordinator.sourceEnded(message.subtask);
    if (message.type === "finished") {
      coordinator.taskFinished(message.subtask);
      this.#finished.add(`${message.subtask.vertexId}/${message.subtask.subtaskIndex}`);
      if (this.#finished.size === VERTICES.length * this.#options.parallelism) this.#close();
    }
  }

  /** JM1. Floating by design: it ends in a deployment, a violation, or the end of this process. */
  #restart(reason: string): void {
    this.#wantsRestart = true;
    if (this.#isRestarting || this.#isFenced || this.#isClosing) return;
    this.#isRestarting = true;
    this.#options.env.log.info("restart", { reason });
    this.#restartNow().catch((thrown: unknown) => {
      if (this.#isFenced || (isFailure(thrown) && thrown.code === "FENCED")) return this.#options.exit("fenced");
      this.#options.violate(
        `a restart failed: ${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}`,
      );
    });
  }

  async #restartNow(): Promise<void> {
    const { env, taskManagers, parallelism, jobDir } = this.#options;
    const log = this.#log;
    const coordinator = this.#coordinator;
    if (log === undefined || coordinator === undefined) return;
    while (this.#wantsRestart) {
      await coordinator.suspend();
      await sleep(env, env.rng.below(100), "restart-delay");
      for (let round = 1; taskManagers.some((name) => !this.#peers.has(name)); round += 1) {
        await sleep(env, 40, "wait-for-slots");
        // Without this a JobManager that a newer one has fenced would wait for its TaskManagers for ever.
        if (round % VERIFY_EVERY_ROUNDS === 0) await verifyOwnership(log);
      }
      this.#wantsRestart = false;
      const recovery = await recover({
        store: env.store,
        openStore: noOtherStore,
        log,
        env,
        localCopies: new Set(),
        allSinksCanRetract: true,
        allowReplay: undefined,
        signal: new AbortController().signal,
      });
      if (recovery.type === "repair") throw new Error("nothing can be repaired here");
      if (this.#wantsRestart) continue;
      this.#attempt = (this.#attempt + 1) as AttemptNumber;
      this.#finished.clear();
      this.#isRestarting = false;
      const metadata = recovery.type === "restore" ? recovery.metadata : null;
      coordinator.attemptStarted(this.#attempt, metadata);
      this.#deploy(recovery, log);
      env.log.info("deployed", { attempt: this.#attempt, restored: metadata?.checkpointId ?? 0, parallelism, jobDir });
      return;
    }
    this.#isRestarting = false;
  }

  #deploy(recovery: Exclude<Recovery, { readonly type: "repair" }>, log: CommitLog): void {
    const isRestore = recovery.type === "restore";
    const metadata = isRestore ? recovery.metadata : null;
    const retract = isRestore ? recovery.retract : null;
    const restoreDir = isRestore ? objectsDirectory(recovery.place, recovery.metadata) : "";
    const { jobState, lineage } = log.head;
    const endsAtOnce = jobState === "stopping" || jobState === "draining";
    const { epoch } = log;
    const { parallelism, taskManagers } = this.#options;
    const vertices = worldVertices(parallelism);
    if (metadata?.vertices.some((old) => old.parallelism !== parallelism) === true) this.#options.rescaled();
    const all =
      metadata === null
        ? vertices.flatMap((v) =>
            Array.from({ length: parallelism }, (_, subtaskIndex) => ({
              vertexId: v.vertexId,
              subtaskIndex,
              finished: false,
              parts: [],
            })),
          )
        : assignState({ metadata, vertices, unclaimedState: "fail" }).subtasks;
    taskManagers.forEach((name, i) => {
      const subtasks = all.filter((s) => s.subtaskIndex % taskManagers.length === i);
      const restoredId = metadata?.checkpointId ?? null;
      const restore = { restoredId, restoreDir, retract, endsAtOnce, subtasks };
      this.#send(name, { type: "deploy", epoch, attempt: this.#attempt, lineage, parallelism, ...restore });
    });
  }

  #gateway(): TaskGateway {
    const { taskManagers, checks } = this.#options;
    const toAll = (type: "complete" | "aborted", epoch: CommitLog["epoch"], id: CheckpointId): void => {
      if (this.#isFenced) this.#options.violate(`CL8: ${type} ${id} was sent after fencing`);
      for (const name of taskManagers) this.#send(name, { type, epoch, attempt: this.#attempt, id });
    };
    return {
      triggerCheckpoint: (subtask, trigger) => {
        checks.triggered(trigger.barrier.checkpointId, trigger.epoch, trigger.attempt);
        const name = taskManagers[subtask.subtaskIndex % taskManagers.length];
        if (name !== undefined) this.#send(name, { type: "trigger", subtask, trigger });
      },
      notifyComplete: (epoch, id) => toAll("complete", epoch, id),
      notifyAborted: (epoch, id) => toAll("aborted", epoch, id),
    };
  }

  #send(name: string, message: ToTaskManager): void {
    this.#peers.get(name)?.conn.send(encode(message));
  }

  #close(): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    const state = endStateOf(this.#log?.head);
    this.#coordinator?.close(state).then(
      () => this.#options.exit(state),
      (thrown: unknown) => {
        if (isFailure(thrown) && thrown.code === "FENCED") this.#options.exit("fenced");
        else this.#options.violate(`close failed: ${String(thrown)}`);
      },
    );
  }
}
