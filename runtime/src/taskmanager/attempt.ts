// The share of this TaskManager in one deployment of the job: slots, the channels between them, the bridge to other TaskManagers.
//
// Invariants:
//   AT1. Rings, bells, mailboxes and threads are fresh for every attempt (SL1).
//   AT2. `onEnded` is called once, when all threads are gone: then the slots are free.
//   AT3. What is reported names epoch and attempt (TJ1).
//   AT4. What finished tasks have published leaves before the bridge closes, however long the receivers take: a slow one would
//        wait for ever for the end of its input. Only a cancellation or a broken bridge ends the waiting.
//   AT5. A broken bridge fails every task: the JobManager takes no failure from one that has finished.
//
// Not here: the connection to the JobManager (task-manager.ts).

import { assert, failureFromJson, failureToJson, sleep } from "@sluice/kit";
import type { Failure } from "@sluice/kit";
import type { Clock, Host, Log, Timers } from "@sluice/kit/env";
import type { CheckpointDecline } from "../checkpoint/index.ts";
import type { Barrier, ChannelSpec, CheckpointId, OperatorMetrics, SlotSpec, SubtaskId } from "../model/index.ts";
import type { RuntimeSettings } from "../model/configuration/index.ts";
import { allocateMailbox, allocateRing, Doorbell } from "../network/index.ts";
import type { AttemptBridge, IncomingChannel, OutgoingChannel } from "../network/index.ts";
import type { DeployRequest, TaskManagerMessage, TaskManagerReport } from "../rpc/index.ts";
import { slotCountersBytes } from "../task/index.ts";
import { channelKey, channelRoutes } from "./channels.ts";
import type { DataPlane } from "./data-plane.ts";
import type { SlotHost } from "./seams.ts";
import { flatMetrics } from "./operator-metrics.ts";
import { Slot } from "./slot.ts";
import type { DeclineEvent } from "./slot.ts";

/** Between two looks whether the last batches have left. */
const DRAIN_TURN_MS = 10;

export interface AttemptOptions {
  readonly env: { readonly clock: Clock; readonly timers: Timers; readonly log: Log; readonly host: Host };
  readonly request: DeployRequest;
  readonly taskManagerId: string;
  readonly slotHost: SlotHost;
  readonly dataPlane: DataPlane;
  readonly settings: Pick<RuntimeSettings, "cancellationTimeoutMs" | "stuckTimeoutMs" | "heartbeatIntervalMs">;
  readonly plantedBugs: readonly string[];
  readonly send: (message: TaskManagerMessage) => void;
  readonly onEnded: () => void;
}

export class Attempt {
  readonly request: DeployRequest;
  readonly #options: AttemptOptions;
  readonly #bridge: AttemptBridge | undefined;
  readonly #slots: readonly Slot[];
  #endedCount = 0;
  #isCancelled = false;
  #isBroken = false;

  constructor(options: AttemptOptions) {
    const { request, dataPlane, env } = options;
    assert(request.slots.length > 0, "a deployment has slots");
    this.#options = options;
    this.request = request;
    const { specs, bridgeBell, incoming, outgoing } = wire(options);
    if (incoming.length + outgoing.length > 0) {
      this.#bridge = dataPlane.open({
        epoch: request.epoch,
        attempt: request.attempt,
        bell: new Doorbell(bridgeBell),
        peers: new Map(request.slotOwners.map((owner) => [owner.taskManagerId, owner.dataAddress])),
        incoming,
        outgoing,
        onFailure: (failure) => this.#failAll(failure),
      });
    }
    this.#slots = specs.map(
      (spec) =>
        new Slot({
          env,
          host: options.slotHost,
          spec,
          cancellationTimeoutMs: options.settings.cancellationTimeoutMs,
          stuckTimeoutMs: options.settings.stuckTimeoutMs,
          sampleIntervalMs: options.settings.heartbeatIntervalMs,
          onTaskState: (event) => options.send({ epoch: request.epoch, attempt: request.attempt, ...event }), // AT3
          onDecline: (event) => options.send({ type: "declineCheckpoint", decline: this.#declineOf(event) }),
          onEnded: () => this.#slotEnded(),
        }),
    );
  }

  /** Whether this is the attempt that a message speaks of. */
  is(of: { readonly epoch: number; readonly attempt: number }): boolean {
    return this.request.epoch === of.epoch && this.request.attempt === of.attempt;
  }

  get subtasks(): readonly SubtaskId[] {
    return this.request.slots.flatMap((slot) => slot.tasks.map((task) => task.subtask));
  }

  trigger(subtask: SubtaskId, barrier: Barrier): void {
    for (const slot of this.#slots) if (slot.hosts(subtask)) slot.trigger(barrier);
  }

  notifyComplete(checkpointId: CheckpointId): void {
    for (const slot of this.#slots) slot.post({ type: "notifyCheckpointComplete", checkpointId });
  }

  notifyAborted(checkpointId: CheckpointId): void {
    for (const slot of this.#slots) slot.post({ type: "notifyCheckpointAborted", checkpointId });
  }

  cancel(): void {
    this.#isCancelled = true;
    for (const slot of this.#slots) slot.cancel();
  }

  /** Samples all slots: for heartbeats and metrics. */
  report(): Pick<TaskManagerReport, "tasks" | "stuck"> {
    const tasks: TaskManagerReport["tasks"][number][] = [];
    const stuck: TaskManagerReport["stuck"][number][] = [];
    for (const slot of this.#slots) {
      const sample = slot.sample();
      if (sample.stuck !== undefined) stuck.push(sample.stuck);
      slot.spec.tasks.forEach(({ subtask }, i) => {
        const counters = sample.counters.tasks[i];
        if (counters === undefined) return;
        const vertex = this.request.plan.vertices.find(({ id }) => id === subtask.vertexId);
        const operators = slot.metricsOf(subtask);
        const isPlain = vertex === undefined || operators.length === 0;
        tasks.push({ subtask, counters: isPlain ? counters : { ...counters, ...flatMetrics(vertex, operators) } });
      });
    }
    return { tasks, stuck };
  }

  /** Figures of one task without those of its operators. */
  countersOf(subtask: SubtaskId): Readonly<Record<string, number>> | undefined {
    return this.#slots.find((slot) => slot.hosts(subtask))?.countersOf(subtask);
  }

  /** What operators of this subtask registered, as last heard; for /metrics. */
  operatorMetrics(subtask: SubtaskId): readonly OperatorMetrics[] {
    return this.#slots.find((slot) => slot.hosts(subtask))?.metricsOf(subtask) ?? [];
  }

  #declineOf(event: DeclineEvent): CheckpointDecline {
    const { epoch, attempt } = this.request;
    const failure = failureFromJson(event.failure);
    return {
      checkpointId: event.checkpointId,
      epoch,
      attempt,
      subtask: event.subtask,
      reason:
        failure.code === "CHECKPOINT_SUPERSEDED"
          ? "superseded"
          : failure.code === "CHECKPOINT_DECLINED"
            ? "not-ready"
            : "async-failure",
      message: `${failure.code}: ${failure.message}`,
    };
  }

  /** A channel between TaskManagers broke: the attempt cannot go on; the JobManager decides what follows. */
  #failAll(failure: Failure): void {
    this.#isBroken = true;
    const { epoch, attempt } = this.request;
    const json = failureToJson(failure);
    for (const subtask of this.subtasks) {
      this.#options.send({ type: "taskState", epoch, attempt, subtask, state: "FAILED", failure: json }); // AT5
    }
  }

  #slotEnded(): void {
    this.#endedCount += 1;
    assert(this.#endedCount <= this.#slots.length, "AT2: a slot ends once");
    if (this.#endedCount < this.#slots.length) return;
    void this.#closeBridge();
  }

  /** What the last tasks published still has to leave; a cancelled attempt waits for nothing. */
  async #closeBridge(): Promise<void> {
    const { timers } = this.#options.env;
    const isLeaving = (): boolean =>
      this.#bridge !== undefined && !this.#isCancelled && !this.#isBroken && !this.#bridge.isDrained;
    while (isLeaving()) await sleep(timers, DRAIN_TURN_MS); // AT4
    this.#bridge?.stop();
    this.#options.onEnded();
  }
}

interface Wiring {
  readonly specs: readonly SlotSpec[];
  readonly bridgeBell: SharedArrayBuffer;
  readonly incoming: readonly IncomingChannel[];
  readonly outgoing: readonly OutgoingChannel[];
}

/** Allocates everything that the slots share (AT1). */
function wire(options: AttemptOptions): Wiring {
  const { request, taskManagerId, plantedBugs } = options;
  const bridgeBell = Doorbell.allocate();
  const bells = new Map(request.slots.map(({ slotIndex }) => [slotIndex, Doorbell.allocate()]));
  const channels = new Map<number, ChannelSpec[]>(request.slots.map(({ slotIndex }) => [slotIndex, []]));
  const incoming: IncomingChannel[] = [];
  const outgoing: OutgoingChannel[] = [];
  for (const route of channelRoutes(request.plan)) {
    const sourceSlot = route.source.subtaskIndex;
    const targetSlot = route.target.subtaskIndex;
    const sourceBell = bells.get(sourceSlot);
    const targetBell = bells.get(targetSlot);
    if (sourceBell === undefined && targetBell === undefined) continue;
    const ring = allocateRing();
    const end = (slot: number, peerDoorbell: SharedArrayBuffer): void => {
      channels.get(slot)?.push({ ...route, ring, peerDoorbell });
    };
    if (sourceBell !== undefined && targetBell !== undefined) {
      end(sourceSlot, targetBell);
      if (targetSlot !== sourceSlot) end(targetSlot, sourceBell);
      continue;
    }
    const isOutgoing = sourceBell !== undefined;
    const owner = request.slotOwners[isOutgoing ? targetSlot : sourceSlot];
    assert(owner !== undefined, "every slot of the job has an owner");
    assert(owner.taskManagerId !== taskManagerId, "a slot of this TaskManager is deployed here");
    const ownBell = sourceBell ?? targetBell;
    assert(ownBell !== undefined, "one end of a remote channel is here");
    end(isOutgoing ? sourceSlot : targetSlot, bridgeBell);
    const channel = { channelKey: channelKey(route), ring, slotBell: new Doorbell(ownBell), peer: owner.taskManagerId };
    if (isOutgoing) outgoing.push(channel);
    else incoming.push(channel);
  }
  const { epoch, attempt, lineage, moduleUrl, plan, endsAtOnce } = request;
  const specs = request.slots.map(({ slotIndex, tasks }): SlotSpec => {
    const doorbell = bells.get(slotIndex);
    assert(doorbell !== undefined, "a slot has a bell");
    return {
      slotIndex,
      epoch,
      attempt,
      lineage,
      moduleUrl,
      plan,
      tasks,
      channels: channels.get(slotIndex) ?? [],
      doorbell,
      endsAtOnce,
      mailbox: allocateMailbox(),
      counters: new SharedArrayBuffer(slotCountersBytes(tasks.length)),
      plantedBugs,
    };
  });
  return { specs, bridgeBell, incoming, outgoing };
}
