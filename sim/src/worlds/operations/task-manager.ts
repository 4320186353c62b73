// A TaskManager of the operations world: the real protocol to its JobManager, model tasks in its slots.
//
// Invariants (those of taskmanager/task-manager.ts that a JobManager can see):
//   TM1. At most one attempt runs here; the next one starts when the one before is gone.
//   TM2. Without its JobManager nothing runs: on loss of the connection all tasks end, then it registers again, for ever.
//   TM3. An order for another attempt than the running one changes nothing.
//   TM4. Messages of an attempt go to the JobManager that deployed it, and to no later one.
//
// Not here: what tasks do (pipeline.ts).

import { Failure, toFailure } from "@sluice/kit";
import type { CheckpointTrigger, SubtaskRestore } from "@sluice/runtime/internal/checkpoint";
import type { CheckpointId, TaskSpec, TaskState } from "@sluice/runtime/internal/model";
import {
  connectRpc,
  type DeployRequest,
  type JobManagerMessage,
  type JobManagerRequest,
  type RegisterRequest,
  type RpcPeer,
  type TaskManagerMessage,
  type TaskManagerReport,
} from "@sluice/runtime/internal/rpc";
import type { SimEnv } from "../../index.ts";
import type { ToJobManager } from "../messages.ts";
import { Pipeline, type PipelineOptions, sleep, VERTICES } from "../pipeline.ts";

const RECONNECT_MS = 400;
const STOP_MS = 40;

export interface OperationsTaskManagerOptions {
  readonly env: SimEnv;
  readonly name: string;
  readonly slotCount: number;
  readonly secret: string;
  readonly heartbeat: { readonly intervalMs: number; readonly timeoutMs: number };
  readonly jobManagerAddress: () => string;
  readonly tasks: Omit<PipelineOptions, "env" | "name">;
  /** What this TaskManager is told and tells, for checkers. */
  readonly seen: {
    readonly deployed: (request: DeployRequest) => void;
    readonly triggered: (trigger: CheckpointTrigger) => void;
    readonly notified: (id: CheckpointId) => void;
    readonly declined: () => void;
    readonly inputEnded: () => void;
  };
  /** The job has ended: this process goes. */
  readonly exit: (reason: string) => void;
}

interface Running {
  readonly request: DeployRequest;
  readonly peer: RpcPeer;
  readonly pipelines: readonly Pipeline[];
  unfinishedCount: number;
  isOver: boolean;
}

export class OperationsTaskManager {
  readonly #options: OperationsTaskManagerOptions;
  readonly #instanceId: string;
  #running: Running | undefined;
  #deploying: Promise<void> = Promise.resolve();
  /** The newest cancellation: it may overtake a deployment that waits for its turn. */
  #cancelled: { readonly epoch: number; readonly attempt: number } | undefined;

  constructor(options: OperationsTaskManagerOptions) {
    this.#options = options;
    this.#instanceId = options.env.rng.u32().toString(16);
  }

  async run(): Promise<void> {
    const { env, jobManagerAddress } = this.#options;
    for (;;) {
      if (jobManagerAddress() !== "") await this.#session(jobManagerAddress()).catch(() => undefined); // looked for again
      await sleep(env, 50 + env.rng.below(RECONNECT_MS), "tm-reconnect");
    }
  }

  async #session(address: string): Promise<void> {
    const { env, name, secret, heartbeat } = this.#options;
    const closed = Promise.withResolvers<void>();
    let peer: RpcPeer | undefined;
    await connectRpc(
      { env, self: { role: "taskmanager", id: name }, secret, heartbeat },
      address,
      new AbortController().signal,
      (opened) => {
        peer = opened;
        opened.start({
          onMessage: (body) => this.#obey(opened, body as JobManagerMessage),
          onRequest: (body) => this.#answer(opened, body as JobManagerRequest),
          heartbeatBody: () => this.#report(),
          onClose: () => {
            if (this.#running?.peer === opened) this.#end(this.#running); // TM2
            closed.resolve();
          },
        });
      },
    );
    if (peer === undefined) return;
    this.#cancelled = undefined; // of another JobManager
    try {
      await peer.request(this.#registration());
    } catch (thrown) {
      peer.close(toFailure(thrown));
    }
    await closed.promise;
  }

  #registration(): RegisterRequest {
    const { name, slotCount } = this.#options;
    return {
      type: "register",
      taskManagerId: name,
      instanceId: this.#instanceId,
      slotCount,
      dataAddress: `${name}:6121`,
      metricsAddress: "",
      processId: 1,
      localCopies: [],
      hardware: { cpuCores: 1, physicalMemoryBytes: 1, heapLimitBytes: 1 },
    };
  }

  #report(): TaskManagerReport {
    const request = this.#running?.request;
    const running = request === undefined ? null : { epoch: request.epoch, attempt: request.attempt };
    return { running, tasks: [], stuck: [], residentBytes: 0, freeMemoryBytes: 0, metrics: {} };
  }

  #obey(peer: RpcPeer, message: JobManagerMessage): void {
    const running = this.#running?.peer === peer ? this.#running : undefined;
    switch (message.type) {
      case "cancelAttempt":
        this.#cancelled = message;
        if (running?.request.epoch === message.epoch && running.request.attempt === message.attempt)
          this.#endLater(running); // TM3
        return;
      case "triggerCheckpoint": {
        const { epoch, attempt, subtask, barrier } = message;
        this.#options.seen.triggered({ epoch, attempt, barrier });
        for (const pipeline of running?.pipelines ?? [])
          if (pipeline.subtaskIndex === subtask.subtaskIndex) pipeline.trigger({ epoch, attempt, barrier });
        return;
      }
      case "notifyCheckpointComplete": {
        if (running?.request.epoch !== message.epoch) return;
        this.#options.seen.notified(message.checkpointId);
        const { epoch, attempt } = running.request;
        for (const pipeline of running.pipelines) pipeline.complete({ epoch, attempt, id: message.checkpointId });
        return;
      }
      case "notifyCheckpointAborted": {
        if (running?.request.epoch !== message.epoch) return;
        const { epoch, attempt } = running.request;
        for (const pipeline of running.pipelines) pipeline.aborted({ epoch, attempt, id: message.checkpointId });
        return;
      }
      case "shutdown":
        this.#options.exit(message.reason);
        return;
    }
  }

  async #answer(peer: RpcPeer, request: JobManagerRequest): Promise<unknown> {
    if (request.type !== "deploy") return { objects: [] }; // no local copies in this world
    this.#options.seen.deployed(request);
    const turn = this.#deploying.then(() => this.#deploy(peer, request));
    this.#deploying = turn.catch(() => undefined); // the answer carries the failure
    await turn;
    return {};
  }

  async #deploy(peer: RpcPeer, request: DeployRequest): Promise<void> {
    const { env } = this.#options;
    if (this.#running !== undefined) {
      await sleep(env, env.rng.below(STOP_MS), "old-attempt-ends");
      this.#end(this.#running); // TM1
    }
    const wasCancelled = this.#cancelled?.epoch === request.epoch && this.#cancelled.attempt >= request.attempt;
    if (peer.isClosed || wasCancelled)
      throw new Failure("CANCELED", { retry: "never", message: "the deployment was cancelled before it began" });
    const { lineage, plan, epoch, attempt, restoredCheckpointId, restoreDir, endsAtOnce } = request;
    const send = (message: ToJobManager): void => this.#say(running, message);
    const pipelines = request.slots.map(
      ({ slotIndex }) =>
        new Pipeline(
          { ...this.#options.tasks, env, name: this.#options.name },
          { send },
          { epoch, attempt, lineage, subtaskIndex: slotIndex },
        ),
    );
    const running: Running = {
      request,
      peer,
      pipelines,
      unfinishedCount: pipelines.length * VERTICES.length,
      isOver: false,
    };
    this.#running = running;
    const tasks = request.slots.flatMap((slot) => slot.tasks);
    for (const { subtask } of tasks) this.#state(running, subtask, "INITIALIZING");
    const through = tasks.find(({ restore }) => restore?.retractThrough !== undefined)?.restore;
    for (const pipeline of pipelines) {
      void pipeline.start({
        type: "deploy",
        epoch,
        attempt,
        lineage,
        parallelism: plan.vertices[0]?.parallelism ?? 1,
        restoredId: restoredCheckpointId,
        restoreDir,
        endsAtOnce,
        retract:
          through?.retractThrough === undefined
            ? null
            : { aboveId: through.checkpointId, throughId: through.retractThrough },
        subtasks: tasks.map(restoreOf),
      });
    }
  }

  #say(running: Running, message: ToJobManager): void {
    const send = (body: TaskManagerMessage): void => running.peer.send(body); // TM4
    switch (message.type) {
      case "ack":
        return send({ type: "acknowledgeCheckpoint", ack: message.ack });
      case "decline":
        this.#options.seen.declined();
        return send({ type: "declineCheckpoint", decline: message.decline });
      case "running":
        return this.#state(running, message.subtask, "RUNNING");
      case "ended":
        this.#options.seen.inputEnded();
        return this.#state(running, message.subtask, "DRAINED");
      case "finished":
        this.#state(running, message.subtask, "FINISHED");
        running.unfinishedCount -= 1;
        if (running.unfinishedCount === 0) this.#end(running);
        return;
      default:
        return;
    }
  }

  #state(running: Running, subtask: TaskSpec["subtask"], state: TaskState): void {
    if (running.isOver) return;
    const { epoch, attempt } = running.request;
    running.peer.send({ type: "taskState", epoch, attempt, subtask, state } satisfies TaskManagerMessage);
  }

  #endLater(running: Running): void {
    const { env } = this.#options;
    for (const pipeline of running.pipelines) pipeline.stop();
    env.timers.after(env.rng.below(STOP_MS), "attempt-ends", () => this.#end(running));
  }

  #end(running: Running): void {
    if (running.isOver) return;
    running.isOver = true;
    for (const pipeline of running.pipelines) pipeline.stop();
    if (this.#running === running) this.#running = undefined;
    const { epoch, attempt } = running.request;
    running.peer.send({ type: "attemptEnded", epoch, attempt } satisfies TaskManagerMessage);
  }
}

function restoreOf({ subtask, restore }: TaskSpec): SubtaskRestore {
  return { ...subtask, finished: false, parts: restore?.parts ?? [] };
}
