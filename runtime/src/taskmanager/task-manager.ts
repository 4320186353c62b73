// A TaskManager: stays registered with its JobManager, runs what it is told to, reports.
//
// Invariants (tests cite them):
//   TM1. At most one attempt runs here; the next one starts when the threads of the one before are gone.
//   TM2. Without its JobManager nothing runs: on loss of the connection all tasks are cancelled, then it registers again, for ever.
//   TM3. An order for another attempt than the running one changes nothing.
//   TM4. Messages of an attempt go to the JobManager that deployed it, and to no later one.
//
// Not here: slots (slot.ts), store and local disk (io/), sockets and threads of the process (bin/run-taskmanager.ts).

import { assert, Backoff, Failure, sleep, toFailure } from "@sluice/kit";
import type { Clock, Host, Log, Net, Rng, Timers } from "@sluice/kit/env";
import type { RuntimeSettings } from "../model/configuration/index.ts";
import { isTaskOver, subtaskKey } from "../model/index.ts";
import type { OperatorMetrics, SubtaskId } from "../model/index.ts";
import { connectRpc, jobManagerMessage, jobManagerRequest, parse } from "../rpc/index.ts";
import type {
  DeployRequest,
  JobManagerMessage,
  ObjectsReply,
  RegisterRequest,
  RpcPeer,
  TaskManagerMessage,
  TaskManagerReport,
} from "../rpc/index.ts";
import { Attempt } from "./attempt.ts";
import type { DataPlane } from "./data-plane.ts";
import type { IoEvent } from "./io/index.ts";
import { IoRequests } from "./io-requests.ts";
import type { TaskManagerHealth } from "./metrics/metrics-server.ts";
import { TaskRates } from "./metrics/task-rates.ts";
import type { IoGate, MachineFigures, SlotHost } from "./seams.ts";

/** A JobManager that takes over waits for its TaskManagers: the longest pause is part of every failover. */
export const RECONNECT = {
  initialMs: 50,
  maxMs: 500,
  multiplier: 1.7,
  jitter: 0.3,
  resetAfterMs: Number.POSITIVE_INFINITY,
} as const;

export interface TaskManagerOptions {
  readonly env: {
    readonly clock: Clock;
    readonly timers: Timers;
    readonly rng: Rng;
    readonly net: Net;
    readonly log: Log;
    readonly host: Host;
  };
  readonly id: string;
  readonly secret: string;
  readonly jobManagerAddress: string;
  readonly slotCount: number;
  readonly metricsAddress: string;
  readonly processId: number;
  readonly hardware: RegisterRequest["hardware"];
  readonly settings: Pick<
    RuntimeSettings,
    "cancellationTimeoutMs" | "stuckTimeoutMs" | "heartbeatIntervalMs" | "heartbeatTimeoutMs"
  >;
  readonly plantedBugs: readonly string[];
  readonly slotHost: SlotHost;
  readonly dataPlane: DataPlane;
  readonly io: IoGate;
  readonly machine: MachineFigures;
  /** The job has ended for good: the process may go. */
  readonly onShutdown: (reason: string) => void;
}

interface RunningAttempt {
  readonly attempt: Attempt;
  readonly ended: Promise<void>;
  readonly peer: RpcPeer;
}

/** What /metrics shows of the running attempt. */
export interface TaskManagerSnapshot {
  readonly registered: boolean;
  readonly deployment: DeployRequest | undefined;
  readonly report: TaskManagerReport;
  /** What operators of a subtask registered; empty for others. */
  readonly operatorMetrics: (subtask: SubtaskId) => readonly OperatorMetrics[];
}

export class TaskManager {
  readonly #options: TaskManagerOptions;
  readonly #instanceId: string;
  readonly #io: IoRequests;
  readonly #life = new AbortController();
  readonly #rates = new TaskRates();
  #peer: RpcPeer | undefined;
  #isRegistered = false;
  #running: RunningAttempt | undefined;
  /** Deployments take turns (TM1). */
  #deploying: Promise<void> = Promise.resolve();
  #lastProblem = "";
  /** The newest cancellation: it may overtake a deployment that waits for its turn. */
  #cancelled: { readonly epoch: number; readonly attempt: number } | undefined;

  constructor(options: TaskManagerOptions) {
    this.#options = options;
    this.#instanceId = `${options.env.rng.u32().toString(16).padStart(8, "0")}`;
    this.#io = new IoRequests(options.io);
  }

  /** Registers and stays registered until `stop`. */
  async run(): Promise<void> {
    const { env } = this.#options;
    const backoff = new Backoff(RECONNECT, env.rng);
    const { signal } = this.#life;
    while (!signal.aborted) {
      const startedMs = env.clock.nowMs();
      try {
        await this.#session();
      } catch (thrown) {
        this.#problem(toFailure(thrown, "PEER_LOST"));
      }
      if (signal.aborted) return;
      if (env.clock.nowMs() - startedMs > 2 * RECONNECT.maxMs) backoff.reset();
      await sleep(env.timers, backoff.nextDelayMs(env.clock.nowMs()), signal).catch(() => undefined);
    }
  }

  /** Ends everything gracefully; resolves when all slots are gone. The JobManager is told first: it places the tasks elsewhere. */
  async stop(reason: string): Promise<void> {
    this.#life.abort();
    this.#peer?.close(new Failure("CANCELED", { retry: "never", message: reason }));
    this.#running?.attempt.cancel();
    await this.#running?.ended;
  }

  snapshot(): TaskManagerSnapshot {
    return {
      registered: this.#peer !== undefined,
      deployment: this.#running?.attempt.request,
      report: this.#report(),
      operatorMetrics: (subtask) => this.#running?.attempt.operatorMetrics(subtask) ?? [],
    };
  }

  /** Whether its JobManager may give it work. */
  health(): TaskManagerHealth {
    if (this.#isRegistered) return { isReady: true, reason: "" };
    const { jobManagerAddress } = this.#options;
    const reason = this.#life.signal.aborted
      ? "it ends"
      : `it is not registered at the JobManager ${jobManagerAddress} (yet)${this.#lastProblem === "" ? "" : `: ${this.#lastProblem}`}`;
    return { isReady: false, reason };
  }

  /** From the I/O thread. */
  onIoEvent(event: IoEvent): void {
    switch (event.type) {
      case "acknowledged":
        this.#send({ type: "acknowledgeCheckpoint", ack: event.ack });
        return;
      case "declined":
        this.#send({ type: "declineCheckpoint", decline: event.decline });
        return;
      case "objectDamaged":
        this.#send({ type: "objectDamaged", object: event.object, reason: event.reason });
        return;
      case "objects":
      case "requestFailed":
        this.#io.onReply(event);
        return;
    }
  }

  /** One registration, from connecting to the loss of the connection. */
  async #session(): Promise<void> {
    const { env, id, secret, jobManagerAddress, settings } = this.#options;
    const closed = Promise.withResolvers<Failure>();
    let peer: RpcPeer | undefined;
    await connectRpc(
      {
        env,
        self: { role: "taskmanager", id },
        secret,
        heartbeat: { intervalMs: settings.heartbeatIntervalMs, timeoutMs: settings.heartbeatTimeoutMs },
      },
      jobManagerAddress,
      this.#life.signal,
      (opened) => {
        peer = opened;
        opened.start({
          onMessage: (body) => this.#onMessage(opened, body),
          onRequest: (body) => this.#onRequest(opened, body),
          heartbeatBody: () => this.#heartbeat(),
          onClose: (failure) => {
            if (this.#peer === opened) {
              this.#peer = undefined;
              this.#isRegistered = false;
            }
            this.#cancelOf(opened); // TM2
            closed.resolve(failure);
          },
        });
      },
    );
    assert(peer !== undefined, "a finished handshake has given the connection over");
    this.#cancelled = undefined; // of another JobManager
    this.#peer = peer;
    try {
      await peer.request(this.#registration(await this.#io.localCopies()));
    } catch (thrown) {
      peer.close(toFailure(thrown));
      throw thrown;
    }
    this.#lastProblem = "";
    this.#isRegistered = !peer.isClosed;
    env.log.info("registered", { jobManager: peer.identity.id, address: jobManagerAddress });
    const failure = await closed.promise;
    if (!this.#life.signal.aborted) this.#problem(failure);
  }

  #registration(localCopies: readonly string[]): RegisterRequest {
    const { id, slotCount, dataPlane, metricsAddress, processId, hardware } = this.#options;
    const dataAddress = dataPlane.address;
    return {
      type: "register",
      taskManagerId: id,
      instanceId: this.#instanceId,
      slotCount,
      dataAddress,
      metricsAddress,
      processId,
      localCopies,
      hardware,
    };
  }

  /** Says once what keeps it from its JobManager, not every two seconds. */
  #problem(failure: Failure): void {
    const text = `${failure.code}: ${failure.message}`;
    if (text === this.#lastProblem) return;
    this.#lastProblem = text;
    this.#options.env.log.warn("no JobManager; it is tried again and again", {
      code: failure.code,
      failure: failure.message,
    });
  }

  #report(): TaskManagerReport {
    const { machine } = this.#options;
    const attempt = this.#running?.attempt;
    return {
      running: attempt === undefined ? null : { epoch: attempt.request.epoch, attempt: attempt.request.attempt },
      ...(attempt?.report() ?? { tasks: [], stuck: [] }),
      residentBytes: machine.residentBytes(),
      freeMemoryBytes: machine.freeMemoryBytes(),
      metrics: machine.metrics(),
    };
  }

  /** A heartbeat's report: with the tasks' rates. */
  #heartbeat(): TaskManagerReport {
    const report = this.#report();
    const nowMs = this.#options.env.clock.nowMs();
    const { running } = report;
    const tasks = report.tasks.map(({ subtask, counters }) => {
      const key = `${subtaskKey(subtask)}/${running?.epoch}/${running?.attempt}`;
      return { subtask, counters: { ...counters, ...this.#rates.of(key, nowMs, counters) } };
    });
    this.#rates.forgetOthers();
    return { ...report, tasks };
  }

  /** A task that has ended says its figures: the next heartbeat may come after the job. */
  #withCounters(message: TaskManagerMessage): TaskManagerMessage {
    if (message.type !== "taskState" || !isTaskOver(message.state)) return message;
    return { ...message, counters: this.#running?.attempt.countersOf(message.subtask) };
  }

  /** TM4. */
  #send(message: TaskManagerMessage): void {
    this.#running?.peer.send(message);
  }

  #cancelOf(peer: RpcPeer): void {
    if (this.#running?.peer !== peer) return;
    if (!this.#life.signal.aborted) this.#options.env.log.warn("the JobManager is lost: all tasks are cancelled");
    this.#running.attempt.cancel();
  }

  #onMessage(peer: RpcPeer, body: unknown): void {
    const parsed = parse(jobManagerMessage, body);
    if ("problem" in parsed) {
      peer.violation(parsed.problem);
      return;
    }
    this.#obey(peer, parsed.ok);
  }

  #obey(peer: RpcPeer, message: JobManagerMessage): void {
    const running = this.#running;
    const attempt = running?.peer === peer ? running.attempt : undefined;
    switch (message.type) {
      case "cancelAttempt":
        this.#cancelled = message;
        if (attempt?.is(message) === true) attempt.cancel(); // TM3
        return;
      case "triggerCheckpoint":
        if (attempt?.is(message) === true) attempt.trigger(message.subtask, message.barrier);
        return;
      case "notifyCheckpointComplete":
        if (attempt?.request.epoch !== message.epoch) return;
        this.#options.io.post({ type: "checkpointCompleted", checkpointId: message.checkpointId });
        attempt.notifyComplete(message.checkpointId);
        return;
      case "notifyCheckpointAborted":
        if (attempt?.request.epoch !== message.epoch) return;
        this.#options.io.post({ type: "checkpointAborted", checkpointId: message.checkpointId });
        attempt.notifyAborted(message.checkpointId);
        return;
      case "shutdown":
        this.#options.onShutdown(message.reason);
        return;
    }
  }

  async #onRequest(peer: RpcPeer, body: unknown): Promise<unknown> {
    const parsed = parse(jobManagerRequest, body);
    if ("problem" in parsed) throw new Failure("PROTOCOL_VIOLATION", { retry: "never", message: parsed.problem });
    const request = parsed.ok;
    switch (request.type) {
      case "deploy": {
        const turn = this.#deploying.then(() => this.#deploy(peer, request));
        this.#deploying = turn.catch(() => undefined); // the answer carries the failure; the next deployment has its own turn
        await turn;
        return {};
      }
      case "findLocalCopies":
        return { objects: await this.#io.find(request.jobDir, request.objects) } satisfies ObjectsReply;
      case "repairObjects":
        return { objects: await this.#io.repair(request.jobDir, request.objects) } satisfies ObjectsReply;
    }
  }

  async #deploy(peer: RpcPeer, request: DeployRequest): Promise<void> {
    const { env, slotCount, io } = this.#options;
    if (this.#running !== undefined) {
      this.#running.attempt.cancel();
      await this.#running.ended; // TM1
    }
    if (peer.isClosed || this.#life.signal.aborted) {
      throw new Failure("CANCELED", {
        retry: "never",
        message: "the JobManager that asked for this deployment is gone",
      });
    }
    if (this.#cancelled?.epoch === request.epoch && this.#cancelled.attempt >= request.attempt) {
      throw new Failure("CANCELED", {
        retry: "never",
        message: `attempt ${request.attempt} was cancelled before it began`,
      });
    }
    assert(this.#running === undefined, "TM1: one attempt at a time");
    if (request.slots.length > slotCount) {
      throw new Failure("NO_SLOTS", {
        retry: "backoff",
        message: `${request.slots.length} slots were asked of ${slotCount}`,
      });
    }
    const { epoch, attempt, jobDir, restoreDir, restoreStore, restoredCheckpointId } = request;
    const subtaskCount = request.slots.reduce((sum, slot) => sum + slot.tasks.length, 0);
    env.log.info("deploying", { epoch, attempt, slots: request.slots.length, tasks: subtaskCount });
    if (request.checkpointing) {
      const taskManagerId = this.#options.id;
      io.post({
        type: "attemptStarted",
        epoch,
        attempt,
        taskManagerId,
        jobDir,
        restoreDir,
        restoreStore,
        subtaskCount,
        restoredCheckpointId,
      });
    }
    const ended = Promise.withResolvers<void>();
    const started = new Attempt({
      ...this.#options,
      request,
      taskManagerId: this.#options.id,
      send: (message) => {
        if (request.checkpointing && message.type === "taskState" && message.state === "FINISHED")
          io.post({ type: "subtaskFinished", epoch, attempt, subtask: message.subtask });
        peer.send(this.#withCounters(message)); // TM4
      },
      onEnded: () => {
        if (request.checkpointing) io.post({ type: "attemptEnded", epoch, attempt });
        this.#running = undefined;
        env.log.info("all slots of the attempt are gone", { epoch, attempt });
        peer.send({ type: "attemptEnded", epoch, attempt } satisfies TaskManagerMessage);
        ended.resolve();
      },
    });
    this.#running = { attempt: started, ended: ended.promise, peer };
  }
}
