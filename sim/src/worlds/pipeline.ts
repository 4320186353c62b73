// Model tasks: source -> counter -> sink of one subtask index, connected by queues in order. They count records, snapshot, acknowledge and
// publish.
//
// What they work on are lanes: numbered streams that are counted each by itself, and dealt anew when the job has another parallelism; every
// task has one item of operator state per lane. The sink publishes a lane's transaction when its checkpoint is notified as complete, or when a
// restore of that checkpoint carries it.
//
// Invariants:
//   TM1. A message of another epoch or attempt than the running one changes nothing.
//   TM2. A snapshot object has a name nobody else uses; an unknown outcome repeats the same name and bytes.
//   TM3. An abort discards nothing: the next checkpoint carries the transaction.
//   TM4. After the barrier of a stop nothing is processed; the pipeline ends when it is notified.
//   TM5. A lane has at most one pipeline per attempt, and all three tasks of it have the same lanes.
//
// Not here: the real task loop (runtime/task), who deploys them (task-manager.ts, operations/task-manager.ts).

import { crc32c } from "@sluice/kit";
import type { AttemptNumber, Barrier, CheckpointId, Epoch, PartHandle } from "@sluice/runtime/internal/model";
import type { SimEnv } from "../index.ts";
import type { ToJobManager, ToTaskManager } from "./messages.ts";
import type { OutputRecord } from "./ledger.ts";

export const VERTICES = ["source", "counter", "sink"] as const;
export type VertexName = (typeof VERTICES)[number];

/** One item of operator state; `position` is how many records of the lane the task had seen at the barrier. */
export interface LaneContent {
  readonly lane: number;
  readonly position: number;
  readonly sum: number;
  readonly transactions: readonly (readonly [id: number, records: readonly OutputRecord[]])[];
}

/** What one part holds. */
export interface PartContent {
  readonly id: number;
  readonly epoch: number;
  readonly attempt: number;
  readonly lanes: readonly LaneContent[];
}

export interface PipelineOptions {
  readonly env: SimEnv;
  /** Of the TaskManager. */
  readonly name: string;
  readonly jobDir: string;
  /** Of every lane. */
  readonly recordCount: number;
  readonly laneCount: number;
  readonly emitEveryMs: number;
  /** Asked for every snapshot of a task: it cannot be taken. Absent: it can. */
  readonly declines?: () => boolean;
  readonly publish: (id: number, name: string, lane: number, records: readonly OutputRecord[]) => void;
  readonly retract: (
    lineage: string,
    lane: number,
    range: { readonly aboveId: number; readonly throughId: number },
  ) => void;
}

/** Whoever carries what the tasks say to the JobManager. */
export interface PipelineOwner {
  send(message: ToJobManager): void;
}

type Item = { readonly lane: Lane; readonly value: number } | { readonly barrier: Barrier };
type CountedItem = { readonly lane: Lane; readonly record: OutputRecord } | { readonly barrier: Barrier };

/** A lane as the three tasks of a pipeline have it. */
class Lane {
  readonly index: number;
  readonly transactions = new Map<number, readonly OutputRecord[]>();
  emitted = 0;
  counted = 0;
  sum = 0;
  sunk = 0;
  buffer: OutputRecord[] = [];

  constructor(index: number) {
    this.index = index;
  }

  restore(vertex: VertexName, { position, sum, transactions }: LaneContent): void {
    if (vertex === "source") this.emitted = position;
    if (vertex === "counter") {
      this.counted = position;
      this.sum = sum;
    }
    if (vertex === "sink") {
      this.sunk = position;
      // The restored checkpoint is the head: what it carries is committed, and published before the first record.
      for (const [id, records] of transactions) this.transactions.set(id, records);
    }
  }

  contentOf(vertex: VertexName): LaneContent {
    const position = { source: this.emitted, counter: this.counted, sink: this.sunk }[vertex];
    return {
      lane: this.index,
      position,
      sum: vertex === "counter" ? this.sum : 0,
      transactions: vertex === "sink" ? [...this.transactions] : [],
    };
  }
}

export class Pipeline {
  readonly subtaskIndex: number;
  readonly #options: PipelineOptions;
  readonly #owner: PipelineOwner;
  readonly #epoch: Epoch;
  readonly #attempt: AttemptNumber;
  readonly #lineage: string;
  readonly #aborted = new Set<number>();
  readonly #toCounter: Item[] = [];
  readonly #toSink: CountedItem[] = [];
  /** TM5. */
  readonly #lanes = new Map<number, Lane>();
  #isRunning = true;
  #isRestored = false;
  /** TM4. */
  #isStopped = false;
  #finalId: number | undefined;

  constructor(
    options: PipelineOptions,
    owner: PipelineOwner,
    of: {
      readonly epoch: Epoch;
      readonly attempt: AttemptNumber;
      readonly lineage: string;
      readonly subtaskIndex: number;
    },
  ) {
    this.#options = options;
    this.#owner = owner;
    this.#epoch = of.epoch;
    this.#attempt = of.attempt;
    this.#lineage = of.lineage;
    this.subtaskIndex = of.subtaskIndex;
  }

  stop(): void {
    this.#isRunning = false;
  }

  async start(message: Extract<ToTaskManager, { readonly type: "deploy" }>): Promise<void> {
    const { subtasks, restoredId, restoreDir, endsAtOnce, retract, parallelism } = message;
    const { laneCount } = this.#options;
    for (const vertex of VERTICES) {
      const restore = subtasks.find((r) => r.vertexId === vertex && r.subtaskIndex === this.subtaskIndex);
      for (const part of restore?.parts ?? []) {
        const content = await this.#read(part, restoreDir);
        if (content === undefined || !this.#isRunning) return;
        for (const one of content.lanes.slice(...(part.items ?? []))) this.#lane(one.lane).restore(vertex, one);
      }
    }
    if (restoredId === null) for (let lane = this.subtaskIndex; lane < laneCount; lane += parallelism) this.#lane(lane);
    if (retract !== null) for (const lane of this.#lanes.keys()) this.#options.retract(this.#lineage, lane, retract);
    if (restoredId !== null) this.#publish(restoredId);
    this.#isRestored = true;
    for (const vertexId of VERTICES) this.#say("running", vertexId);
    if (endsAtOnce) return this.#end();
    if (this.#hasEmittedAll()) this.#say("ended", "source");
    else this.#emitLater();
  }

  #lane(index: number): Lane {
    const lane = this.#lanes.get(index) ?? new Lane(index);
    this.#lanes.set(index, lane);
    return lane;
  }

  #hasEmittedAll(): boolean {
    return [...this.#lanes.values()].every(({ emitted }) => emitted >= this.#options.recordCount);
  }

  trigger(trigger: { readonly epoch: Epoch; readonly attempt: AttemptNumber; readonly barrier: Barrier }): void {
    if (!this.#isRunning || !this.#isRestored || !this.#isMine(trigger) || this.#isStopped) return; // TM1, TM4
    this.#isStopped = trigger.barrier.savepoint?.stops === true;
    this.#snapshot("source", trigger.barrier);
    this.#toCounter.push({ barrier: trigger.barrier });
    this.#drainLater();
  }

  complete(message: { readonly epoch: Epoch; readonly attempt: AttemptNumber; readonly id: CheckpointId }): void {
    if (!this.#isRunning || !this.#isMine(message)) return; // TM1
    this.#publish(message.id);
    if (this.#finalId === undefined || message.id < this.#finalId) return;
    this.#end();
  }

  #end(): void {
    for (const vertexId of VERTICES) this.#say("finished", vertexId);
    this.#isRunning = false;
  }

  aborted(message: { readonly epoch: Epoch; readonly attempt: AttemptNumber; readonly id: CheckpointId }): void {
    if (this.#isMine(message)) this.#aborted.add(message.id); // TM3: only uploads stop
  }

  #isMine(message: { readonly epoch: Epoch; readonly attempt: AttemptNumber }): boolean {
    return message.epoch === this.#epoch && message.attempt === this.#attempt;
  }

  #say(type: "running" | "ended" | "finished", vertexId: VertexName): void {
    const subtask = { vertexId, subtaskIndex: this.subtaskIndex };
    this.#owner.send({ type, subtask, epoch: this.#epoch, attempt: this.#attempt });
  }

  #emitLater(): void {
    const { env, emitEveryMs, recordCount } = this.#options;
    env.timers.after(emitEveryMs / 2 + env.rng.below(emitEveryMs), "emit", () => {
      if (!this.#isRunning || this.#isStopped) return;
      for (const lane of this.#lanes.values()) {
        for (let n = 1 + env.rng.below(4); n > 0 && lane.emitted < recordCount; n -= 1) {
          this.#toCounter.push({ lane, value: lane.emitted });
          lane.emitted += 1;
        }
      }
      this.#drainLater();
      if (this.#hasEmittedAll()) this.#say("ended", "source");
      else this.#emitLater();
    });
  }

  #drainLater(): void {
    const { env } = this.#options;
    env.timers.after(1 + env.rng.below(15), "count", () => {
      if (!this.#isRunning || this.#toCounter.length === 0) return;
      for (const item of this.#toCounter.splice(0, this.#toCounter.length)) this.#count(item);
      env.timers.after(1 + env.rng.below(15), "sink", () => {
        if (!this.#isRunning) return;
        for (const item of this.#toSink.splice(0, this.#toSink.length)) this.#sink(item);
      });
    });
  }

  #count(item: Item): void {
    if ("barrier" in item) {
      this.#snapshot("counter", item.barrier);
      this.#toSink.push(item);
      return;
    }
    const { lane, value } = item;
    lane.counted += 1;
    lane.sum += value;
    this.#toSink.push({ lane, record: [value, lane.counted, lane.sum] });
  }

  #sink(item: CountedItem): void {
    if ("record" in item) {
      item.lane.sunk += 1;
      item.lane.buffer.push(item.record);
      return;
    }
    const id = item.barrier.checkpointId;
    for (const lane of this.#lanes.values()) {
      lane.transactions.set(id, lane.buffer);
      lane.buffer = [];
    }
    if (item.barrier.isFinal || item.barrier.savepoint?.stops === true) this.#finalId = id;
    this.#snapshot("sink", item.barrier);
  }

  #publish(id: number): void {
    for (const { index, transactions } of this.#lanes.values()) {
      for (const [transaction, records] of transactions) {
        if (transaction > id) continue;
        this.#options.publish(id, `${this.#lineage}/${index}/${transaction}`, index, records);
        transactions.delete(transaction);
      }
    }
  }

  #snapshot(vertexId: VertexName, barrier: Barrier): void {
    if (this.#options.declines?.() === true) return this.#decline(vertexId, barrier);
    const lanes = [...this.#lanes.values()].map((lane) => lane.contentOf(vertexId));
    const content: PartContent = { id: barrier.checkpointId, epoch: this.#epoch, attempt: this.#attempt, lanes };
    const bytes = new TextEncoder().encode(JSON.stringify(content));
    void this.#upload(vertexId, barrier, bytes, lanes.length);
  }

  #decline(vertexId: VertexName, barrier: Barrier): void {
    const subtask = { vertexId, subtaskIndex: this.subtaskIndex };
    const of = { checkpointId: barrier.checkpointId, epoch: this.#epoch, attempt: this.#attempt, subtask };
    this.#owner.send({ type: "decline", decline: { ...of, reason: "async-failure", message: "simulated" } });
  }

  async #upload(vertexId: VertexName, barrier: Barrier, bytes: Uint8Array, itemCount: number): Promise<void> {
    const { env, jobDir, name } = this.#options;
    const id = barrier.checkpointId;
    const suffix = `${this.#epoch}.${this.#attempt}.${name}.${env.rng.u32().toString(16)}`; // TM2
    const location = barrier.savepoint?.location;
    const base = location === undefined ? jobDir : location.slice(`${env.store.uri}/`.length);
    const object = `${location === undefined ? `chk-${id}/` : ""}x-${vertexId}-${this.subtaskIndex}-${suffix}`;
    const subtask = { vertexId, subtaskIndex: this.subtaskIndex };
    const of = { checkpointId: id, epoch: this.#epoch, attempt: this.#attempt, subtask };
    for (let tries = 0; ; tries += 1) {
      try {
        if ((await env.store.put(`${base}/${object}`, bytes)) === "stored") break;
      } catch {
        if (tries === 8) {
          this.#owner.send({
            type: "decline",
            decline: { ...of, reason: "storage", message: "upload failed 8 times" },
          });
          return;
        }
      }
      await sleep(env, 20 + env.rng.below(100), "upload-retry");
      if (!this.#isRunning) return;
      if (this.#aborted.has(id) && env.rng.chance(0.5)) return; // the other half goes on: late acks must be harmless
    }
    const part: PartHandle = {
      uid: vertexId,
      stateName: "state",
      kind: "operator",
      mode: "split",
      itemCount,
      object,
      offset: 0,
      lengthBytes: bytes.length,
      crc32c: crc32c(bytes),
    };
    const stats = { startDelayMs: 0, alignmentMs: 0, syncMs: 0, asyncMs: 0, stateSizeBytes: bytes.length };
    // A zombie pipeline acknowledges too, over whatever connection its TaskManager has now: the coordinator must not count it.
    const ack = { ...of, parts: [part], finished: this.#hasEmittedAll(), stats };
    this.#owner.send({ type: "ack", ack });
  }

  async #read(part: PartHandle, directory: string): Promise<PartContent | undefined> {
    const { env } = this.#options;
    for (;;) {
      try {
        const bytes = await env.store.getRange(`${directory}/${part.object}`, {
          offset: part.offset,
          lengthBytes: part.lengthBytes,
        });
        if (bytes !== undefined && crc32c(bytes) === part.crc32c) {
          return JSON.parse(new TextDecoder().decode(bytes)) as PartContent;
        }
        return undefined; // overtaken by a newer epoch, or damage that a checker reports
      } catch {
        await sleep(env, 30, "restore-retry");
        if (!this.#isRunning) return undefined;
      }
    }
  }
}

/** Waits in virtual time. */
export function sleep(env: SimEnv, delayMs: number, label: string): Promise<void> {
  return new Promise((resolve) => env.timers.after(delayMs, label, resolve));
}
