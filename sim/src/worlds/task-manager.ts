// A TaskManager of the coordinator world: a small model of tasks that count records, snapshot, acknowledge and publish.
//
// Every subtask index is one pipeline source -> counter -> sink of three tasks, connected by queues in order. The sink publishes
// a transaction when its checkpoint is notified as complete, or when a restore of that checkpoint carries it.
//
// Invariants:
//   TM1. A message of another epoch or attempt than the running one changes nothing.
//   TM2. A snapshot object has a name nobody else uses; an unknown outcome repeats the same name and bytes.
//   TM3. An abort discards nothing: the next checkpoint carries the transaction.
//   TM4. After the barrier of a stop nothing is processed; the pipeline ends when it is notified.
//
// Not here: the real task loop (runtime/task).

import { crc32c } from "@sluice/kit";
import type { Conn } from "@sluice/kit/env";
import type { AttemptNumber, Barrier, CheckpointId, Epoch, PartHandle } from "@sluice/runtime/internal/model";
import type { SimEnv } from "../index.ts";
import { decode, encode, type ToJobManager, type ToTaskManager } from "./messages.ts";
import type { OutputRecord } from "./ledger.ts";

export const VERTICES = ["source", "counter", "sink"] as const;
export type VertexName = (typeof VERTICES)[number];

/** What one part holds; `position` is how many records the task had seen at the barrier. */
export interface PartContent {
  readonly id: number;
  readonly epoch: number;
  readonly attempt: number;
  readonly position: number;
  readonly sum: number;
  readonly transactions: readonly (readonly [id: number, records: readonly OutputRecord[]])[];
}

export interface TaskManagerOptions {
  readonly env: SimEnv;
  readonly name: string;
  readonly jobDir: string;
  readonly recordCount: number;
  readonly emitEveryMs: number;
  readonly heartbeatTimeoutMs: number;
  /** Where the newest JobManager listens; empty while there is none. */
  readonly jobManagerAddress: () => string;
  readonly publish: (id: number, name: string, subtaskIndex: number, records: readonly OutputRecord[]) => void;
  readonly notified: (id: number) => void;
  readonly retract: (
    lineage: string,
    subtaskIndex: number,
    range: { readonly aboveId: number; readonly throughId: number },
  ) => void;
}

type Item = { readonly value: number } | { readonly barrier: Barrier };
type CountedItem = { readonly record: OutputRecord } | { readonly barrier: Barrier };

const HEARTBEAT_MS = 150;

export class SimTaskManager {
  readonly #options: TaskManagerOptions;
  #conn: Conn | undefined;
  #lastHeardMs = 0;
  #epochSeen = 0;
  #pipelines: Pipeline[] = [];

  constructor(options: TaskManagerOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { env } = this.#options;
    for (;;) {
      const address = this.#options.jobManagerAddress();
      if (address !== "" && this.#conn === undefined) await this.#connect(address);
      await sleep(env, HEARTBEAT_MS, "tm-heartbeat");
      const conn = this.#conn;
      if (conn === undefined) continue;
      conn.send(encode({ type: "heartbeat" }));
      const isSilent = env.clock.nowMs() - this.#lastHeardMs > this.#options.heartbeatTimeoutMs;
      const isSuperseded = this.#options.jobManagerAddress() !== conn.peer && env.rng.chance(0.2);
      if (isSilent || isSuperseded) conn.close();
    }
  }

  send(message: ToJobManager): void {
    this.#conn?.send(encode(message));
  }

  async #connect(address: string): Promise<void> {
    const { env } = this.#options;
    try {
      const conn = await env.net.connect(address, new AbortController().signal);
      this.#conn = conn;
      this.#lastHeardMs = env.clock.nowMs();
      conn.onClose = () => {
        if (this.#conn === conn) this.#conn = undefined; // tasks run on until a JobManager says otherwise, as zombies do
      };
      conn.onFrame = (frame) => {
        if (this.#conn === conn) this.#receive(decode<ToTaskManager>(frame));
      };
      this.send({ type: "register", taskManager: this.#options.name });
    } catch {
      // PEER_LOST: the loop tries again
    }
  }

  #receive(message: ToTaskManager): void {
    this.#lastHeardMs = this.#options.env.clock.nowMs();
    switch (message.type) {
      case "heartbeat":
        return;
      case "deploy": {
        if (message.epoch < this.#epochSeen) return;
        this.#epochSeen = message.epoch;
        for (const pipeline of this.#pipelines) pipeline.stop();
        const indexes = new Set(message.subtasks.map((s) => s.subtaskIndex));
        this.#pipelines = [...indexes].map(
          (subtaskIndex) => new Pipeline(this.#options, this, { ...message, subtaskIndex }),
        );
        for (const { subtaskIndex } of this.#pipelines) {
          if (message.retract !== null) this.#options.retract(message.lineage, subtaskIndex, message.retract);
        }
        for (const pipeline of this.#pipelines) void pipeline.start(message);
        return;
      }
      case "trigger":
        for (const p of this.#pipelines)
          if (p.subtaskIndex === message.subtask.subtaskIndex) p.trigger(message.trigger);
        return;
      case "complete":
        this.#options.notified(message.id);
        for (const pipeline of this.#pipelines) pipeline.complete(message);
        return;
      case "aborted":
        for (const pipeline of this.#pipelines) pipeline.aborted(message);
        return;
    }
  }
}

class Pipeline {
  readonly subtaskIndex: number;
  readonly #options: TaskManagerOptions;
  readonly #owner: SimTaskManager;
  readonly #epoch: Epoch;
  readonly #attempt: AttemptNumber;
  readonly #lineage: string;
  readonly #aborted = new Set<number>();
  readonly #toCounter: Item[] = [];
  readonly #toSink: CountedItem[] = [];
  readonly #transactions = new Map<number, readonly OutputRecord[]>();
  #isRunning = true;
  #isRestored = false;
  /** TM4. */
  #isStopped = false;
  #emitted = 0;
  #counted = 0;
  #sum = 0;
  #sunk = 0;
  #buffer: OutputRecord[] = [];
  #finalId: number | undefined;

  constructor(
    options: TaskManagerOptions,
    owner: SimTaskManager,
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
    const { subtasks, restoredId, restoreDir, endsAtOnce } = message;
    for (const vertex of VERTICES) {
      const restore = subtasks.find((r) => r.vertexId === vertex && r.subtaskIndex === this.subtaskIndex);
      for (const part of restore?.parts ?? []) {
        const content = await this.#read(part, restoreDir);
        if (content === undefined || !this.#isRunning) return;
        if (vertex === "source") this.#emitted = content.position;
        if (vertex === "counter") {
          this.#counted = content.position;
          this.#sum = content.sum;
        }
        if (vertex === "sink") {
          this.#sunk = content.position;
          // The restored checkpoint is the head: what it carries is committed, and published before the first record.
          for (const [id, records] of content.transactions) this.#transactions.set(id, records);
        }
      }
    }
    if (restoredId !== null) this.#publish(restoredId);
    this.#isRestored = true;
    for (const vertexId of VERTICES) this.#say("running", vertexId);
    if (endsAtOnce) return this.#end();
    if (this.#emitted >= this.#options.recordCount) this.#say("ended", "source");
    else this.#emitLater();
  }

  trigger(trigger: { readonly epoch: Epoch; readonly attempt: AttemptNumber; readonly barrier: Barrier }): void {
    if (!this.#isRunning || !this.#isRestored || !this.#isMine(trigger) || this.#isStopped) return; // TM1, TM4
    this.#isStopped = trigger.barrier.savepoint?.stops === true;
    this.#snapshot("source", trigger.barrier, { position: this.#emitted, sum: 0, transactions: [] });
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
      for (let n = 1 + env.rng.below(4); n > 0 && this.#emitted < recordCount; n -= 1) {
        this.#toCounter.push({ value: this.#emitted });
        this.#emitted += 1;
      }
      this.#drainLater();
      if (this.#emitted < recordCount) this.#emitLater();
      else this.#say("ended", "source");
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
      this.#snapshot("counter", item.barrier, { position: this.#counted, sum: this.#sum, transactions: [] });
      this.#toSink.push(item);
      return;
    }
    this.#counted += 1;
    this.#sum += item.value;
    this.#toSink.push({ record: [item.value, this.#counted, this.#sum] });
  }

  #sink(item: CountedItem): void {
    if ("record" in item) {
      this.#sunk += 1;
      this.#buffer.push(item.record);
      return;
    }
    const id = item.barrier.checkpointId;
    this.#transactions.set(id, this.#buffer);
    this.#buffer = [];
    if (item.barrier.isFinal || item.barrier.savepoint?.stops === true) this.#finalId = id;
    this.#snapshot("sink", item.barrier, { position: this.#sunk, sum: 0, transactions: [...this.#transactions] });
  }

  #publish(id: number): void {
    for (const [transaction, records] of this.#transactions) {
      if (transaction > id) continue;
      this.#options.publish(id, `${this.#lineage}/${this.subtaskIndex}/${transaction}`, this.subtaskIndex, records);
      this.#transactions.delete(transaction);
    }
  }

  #snapshot(
    vertexId: VertexName,
    barrier: Barrier,
    state: Pick<PartContent, "position" | "sum" | "transactions">,
  ): void {
    const content: PartContent = { id: barrier.checkpointId, epoch: this.#epoch, attempt: this.#attempt, ...state };
    const bytes = new TextEncoder().encode(JSON.stringify(content));
    void this.#upload(vertexId, barrier, bytes);
  }

  async #upload(vertexId: VertexName, barrier: Barrier, bytes: Uint8Array): Promise<void> {
    const { env, jobDir, name, recordCount } = this.#options;
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
      itemCount: 1,
      object,
      offset: 0,
      lengthBytes: bytes.length,
      crc32c: crc32c(bytes),
    };
    const stats = { startDelayMs: 0, alignmentMs: 0, syncMs: 0, asyncMs: 0, stateSizeBytes: bytes.length };
    // A zombie pipeline acknowledges too, over whatever connection its TaskManager has now: the coordinator must not count it.
    const ack = { ...of, parts: [part], finished: this.#emitted >= recordCount, stats };
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
