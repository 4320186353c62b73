// All slots of a job in this thread, over real rings: what jobs do between their sources and their sinks, without processes.
//
// A slot loads no module here: main is a function, so a test's own classes and arrays are in reach of what it runs.
//
// Not here: the JobManager, the store (snapshots stay in memory), other threads.

import { setImmediate as immediate, setTimeout as sleep } from "node:timers/promises";

import { assert, failureFromJson, type Failure } from "@sluice/kit";
import { NodeClock, NodeLog } from "@sluice/kit/env/node";
import { buildGraph, type JobMain } from "../../src/datastream/index.ts";
import { buildPlan, enumerateSplits } from "../../src/graph/index.ts";
import {
  type AttemptNumber,
  type Barrier,
  type ChannelSpec,
  type CheckpointId,
  configurationOf,
  type Epoch,
  type JobPlan,
  type OneInputOperator,
  type PartHandle,
  runtimeSettings,
  type SlotCommand,
  type SlotEvent,
  type SlotPort,
  type SlotSpec,
  type SnapshotPart,
  type SnapshotSubmission,
  type SubtaskInfo,
  NOTHING_READ,
  subtaskKey,
  type TaskState,
} from "../../src/model/index.ts";
import { allocateMailbox, allocateRing, Doorbell } from "../../src/network/index.ts";
import { noUploads, type Sink } from "../../src/operators/index.ts";
import { buildSlot, readSlotCounters, slotCountersBytes } from "../../src/task/index.ts";
import { channelRoutes } from "../../src/taskmanager/channels.ts";

export interface SlotsOptions {
  readonly configuration?: Readonly<Record<string, string>>;
  readonly arguments?: readonly string[];
  /** Of declared variables. */
  readonly environment?: Readonly<Record<string, string>>;
  /** False: tasks finish by themselves at the end of their input. */
  readonly checkpointing?: boolean;
  readonly restore?: Snapshot;
}

/** What all subtasks stored at one barrier. */
export interface Snapshot {
  readonly checkpointId: CheckpointId;
  readonly submissions: ReadonlyMap<string, SnapshotSubmission>;
}

interface Slot {
  readonly spec: SlotSpec;
  readonly commands: SlotCommand[];
  readonly bell: Doorbell;
}

export class Slots {
  readonly plan: JobPlan;
  readonly states = new Map<string, TaskState>();
  readonly failures: Failure[] = [];
  /** All that slots said. */
  readonly events: SlotEvent[] = [];
  /** Messages of declined checkpoints. */
  readonly declined: string[] = [];
  readonly #slots: readonly Slot[];
  readonly #snapshots = new Map<CheckpointId, Map<string, SnapshotSubmission>>();
  readonly #running: Promise<unknown>;

  private constructor(options: {
    readonly plan: JobPlan;
    readonly slots: readonly Slot[];
    readonly run: (slots: Slots) => Promise<unknown>;
  }) {
    this.plan = options.plan;
    this.#slots = options.slots;
    for (const { spec } of options.slots)
      for (const { subtask } of spec.tasks) this.states.set(subtaskKey(subtask), "INITIALIZING");
    this.#running = options.run(this);
  }

  /** Plans the job and starts all of it. */
  static async start(main: JobMain, options: SlotsOptions = {}): Promise<Slots> {
    const { configuration = {}, checkpointing = false, restore } = options;
    const build = (): ReturnType<typeof buildGraph> =>
      buildGraph({
        job: main,
        arguments: options.arguments ?? [],
        configuration,
        jobName: "job",
        readEnvironment: (name) => options.environment?.[name],
      });
    const planned = await build();
    const plan = buildPlan(planned, { splits: await enumerateSplits(planned), bundleHash: "" });
    const slots = wire(plan, restore);
    const { bufferTimeoutMs, checkpoints } = runtimeSettings(configurationOf(plan.configuration));
    const runners = await Promise.all(
      slots.map(async (slot) => ({ slot, graph: await build() })), // as threads do: every slot builds its own graph
    );
    return new Slots({
      plan,
      slots,
      run: (all) =>
        Promise.all(
          runners.map(({ slot, graph }) => {
            const settings = { mode: checkpoints.mode, checkpointingEnabled: checkpointing, bufferTimeoutMs };
            const env = {
              clock: new NodeClock(),
              log: new NodeLog({ level: "error" }),
              port: all.#port(slot, restore),
              yieldToEvents: () => immediate(),
              openUploads: noUploads,
              readEnvironment: (name: string) => options.environment?.[name],
            };
            return buildSlot(slot.spec, graph, settings, env).run();
          }),
        ),
    });
  }

  /** Resolves when all tasks are in one of these states; throws the first failure. */
  async reach(...states: readonly TaskState[]): Promise<void> {
    await this.until(() => [...this.states.values()].every((state) => states.includes(state)));
  }

  /** Polls a condition of the test; throws the first failure. */
  async until(isMet: () => boolean): Promise<void> {
    while (!isMet()) {
      const [failure] = this.failures;
      if (failure !== undefined) {
        await this.cancel();
        throw failure;
      }
      await sleep(1);
    }
  }

  /** Runs to the end of the input; throws the first failure. */
  async finish(): Promise<void> {
    await this.reach("FINISHED");
    await this.#running;
  }

  /** Takes a checkpoint; `confirm` it separately. */
  async checkpoint(id: number, isFinal = false): Promise<Snapshot> {
    const snapshot = this.trigger(id, isFinal);
    await this.until(() => snapshot.submissions.size === this.states.size);
    return snapshot;
  }

  /** Starts a checkpoint, or the savepoint of a drain; what it returns fills. */
  trigger(id: number, isFinal = false, savepoint?: Barrier["savepoint"]): Snapshot {
    const checkpointId = id as CheckpointId;
    const submissions = new Map<string, SnapshotSubmission>();
    this.#snapshots.set(checkpointId, submissions);
    const barrier = { checkpointId, timestampMs: 0, isFinal, ...(savepoint === undefined ? {} : { savepoint }) };
    this.#post({ type: "triggerCheckpoint", barrier });
    return { checkpointId, submissions };
  }

  confirm(id: number): void {
    this.#post({ type: "notifyCheckpointComplete", checkpointId: id as CheckpointId });
  }

  /** Waits for the end of the input and takes the final checkpoint. */
  async finishWith(id: number): Promise<void> {
    await this.reach("DRAINED");
    await this.checkpoint(id, true);
    this.confirm(id);
    await this.finish();
  }

  /** Ends everything at once, as a failure elsewhere would. */
  async cancel(): Promise<void> {
    this.#post({ type: "cancel" });
    await this.#running;
  }

  /** Records that left all subtasks of the vertex whose name begins so. */
  recordsOut(vertexName: string): number {
    const { id } = this.plan.vertices.find(({ name }) => name.startsWith(vertexName)) ?? {};
    return this.#slots.reduce((sum, { spec }) => {
      const counters = readSlotCounters(spec.counters, spec.tasks.length);
      const task = spec.tasks.findIndex(({ subtask }) => subtask.vertexId === id);
      return sum + (counters.tasks[task]?.numRecordsOut ?? 0);
    }, 0);
  }

  #post(command: SlotCommand): void {
    for (const { commands, bell } of this.#slots) {
      commands.push(command);
      bell.ring();
    }
  }

  #port(slot: Slot, restore: Snapshot | undefined): SlotPort {
    return {
      poll: () => slot.commands.shift(),
      send: (event) => this.#onEvent(event),
      submitSnapshot: (submission) => {
        this.#snapshots.get(submission.checkpointId)?.set(subtaskKey(submission.subtask), submission);
      },
      fetchParts: (parts) =>
        Promise.resolve({ contents: parts.map((part) => contentOf(part, restore)), read: NOTHING_READ }),
    };
  }

  #onEvent(event: SlotEvent): void {
    this.events.push(event);
    if (event.type === "declineCheckpoint") this.declined.push(event.failure.message);
    if (event.type !== "taskState") return;
    this.states.set(subtaskKey(event.subtask), event.state);
    if (event.failure !== undefined) this.failures.push(failureFromJson(event.failure));
  }
}

/** A sink into an array of the test: what it holds arrived, and what it held at each barrier. A restarted job begins an empty one. */
export class ArraySink<T> implements Sink<T> {
  readonly name = "array";
  readonly stateful = false;
  readonly canRetract = true;
  /** By subtask. */
  readonly bySubtask = new Map<number, T[]>();
  readonly #atBarriers = new Map<number, Map<number, readonly T[]>>();

  createOperator(subtask: SubtaskInfo): OneInputOperator {
    const own: T[] = [];
    this.bySubtask.set(subtask.subtaskIndex, own);
    return {
      open() {},
      processElement: (record) => void own.push(record as T),
      snapshotState: ({ checkpointId }) => {
        const at = this.#atBarriers.get(checkpointId) ?? new Map<number, readonly T[]>();
        this.#atBarriers.set(checkpointId, at.set(subtask.subtaskIndex, [...own]));
        return new Map();
      },
      close() {},
    };
  }

  /** All that arrived. */
  get records(): readonly T[] {
    return [...this.bySubtask.values()].flat();
  }

  /** What had arrived before the barrier of this checkpoint: all that survives a restart from it. */
  recordsAt(checkpointId: number): readonly T[] {
    return [...(this.#atBarriers.get(checkpointId)?.values() ?? [])].flat();
  }
}

/** The object's name tells the subtask and which of its parts: memory is the store. */
function handleOf(key: string, index: number, part: SnapshotPart): PartHandle {
  const { chunks: _, ...description } = part;
  return { ...description, object: `${key}#${index}`, offset: 0, lengthBytes: 0, crc32c: 0 };
}

function contentOf(handle: PartHandle, restore: Snapshot | undefined): Uint8Array {
  const [key = "", index = ""] = handle.object.split("#");
  const part = restore?.submissions.get(key)?.parts[Number(index)];
  assert(part !== undefined, "a restored part was stored");
  return Buffer.concat(part.chunks);
}

function wire(plan: JobPlan, restore: Snapshot | undefined): readonly Slot[] {
  const count = Math.max(...plan.vertices.map(({ parallelism }) => parallelism));
  const bells = Array.from({ length: count }, () => Doorbell.allocate());
  const channels = bells.map((): ChannelSpec[] => []);
  for (const route of channelRoutes(plan)) {
    const ring = allocateRing();
    const [from, to] = [route.source.subtaskIndex, route.target.subtaskIndex];
    const end = (slot: number, peer: number): void => {
      channels[slot]?.push({ ...route, ring, peerDoorbell: bells[peer] as SharedArrayBuffer });
    };
    end(from, to);
    if (from !== to) end(to, from);
  }
  return bells.map((doorbell, slotIndex): Slot => {
    const tasks = plan.vertices
      .filter(({ parallelism }) => slotIndex < parallelism)
      .map(({ id }) => {
        const subtask = { vertexId: id, subtaskIndex: slotIndex };
        const key = subtaskKey(subtask);
        const parts = restore?.submissions.get(key)?.parts.map((part, i) => handleOf(key, i, part)) ?? [];
        const from = { checkpointId: restore?.checkpointId ?? (0 as CheckpointId), retractThrough: undefined, parts };
        return { subtask, restore: restore === undefined ? undefined : from };
      });
    return {
      commands: [],
      bell: new Doorbell(doorbell),
      spec: {
        slotIndex,
        epoch: 1 as Epoch,
        attempt: 0 as AttemptNumber,
        lineage: "test",
        moduleUrl: "",
        plan,
        tasks,
        channels: channels[slotIndex] ?? [],
        doorbell,
        endsAtOnce: false,
        mailbox: allocateMailbox(),
        counters: new SharedArrayBuffer(slotCountersBytes(tasks.length)),
        plantedBugs: [],
      },
    };
  });
}
