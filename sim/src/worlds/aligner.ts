// The aligner world: real BarrierAligners in a small topology, fed over channels whose speed the seed decides. Sources skip
// barriers, end early, checkpoints are cancelled at some tasks and not at others, newer barriers overtake.
//
// Invariants checked (A1..A5 of runtime/checkpoint/aligner.ts), by a model that keeps its own books:
//   W1. EXACTLY_ONCE: at a trigger the records read per channel are exactly those sent before that barrier (the cut is consistent).
//   W2. EXACTLY_ONCE: a channel that delivered barrier n delivers nothing until n is triggered or given up.
//   W3. Ids are triggered once, ascending, never after their cancellation; nothing waits for an id that is done or cancelled.
//   W4. AT_LEAST_ONCE: nothing is ever blocked, and a trigger comes only after all channels had the barrier or ended.
//   W5. In the end every record has been read, and the last checkpoint, which nobody skips or cancels, is triggered everywhere.

import { plantBugs, SeededRng } from "@sluice/kit";
import type { Rng } from "@sluice/kit/env";
import { BarrierAligner, type AlignerDecision } from "@sluice/runtime/internal/checkpoint";
import type { Barrier, CheckpointId, CheckpointingMode } from "@sluice/runtime/internal/model";
import { HEALTHY, World } from "../index.ts";
import { resultOf, type RunOptions, type RunResult } from "./run.ts";

type Item =
  { readonly type: "record" } | { readonly type: "barrier"; readonly barrier: Barrier } | { readonly type: "end" };

const LIMITS = { virtualMs: 60_000, events: 60_000 };

/** One seed. Never throws for what the seed finds. */
export async function runAlignerWorld(options: RunOptions): Promise<RunResult> {
  plantBugs(options.planted);
  const world = new World({ seed: options.seed, faults: HEALTHY, keepsTrace: options.keepsTrace });
  const run = new AlignerRun(world, new SeededRng(options.seed).fork("aligner"));
  return await resultOf(world, options, run);
}

/** Items in order; remembers how many records were sent before each barrier. */
class Channel {
  readonly items: Item[] = [];
  readonly sentBefore = new Map<number, number>();
  sentCount = 0;
  readCount = 0;
  isEnded = false;

  push(item: Item): void {
    if (item.type === "record") this.sentCount += 1;
    if (item.type === "barrier") this.sentBefore.set(item.barrier.checkpointId, this.sentCount);
    this.items.push(item);
  }
}

class Task {
  readonly name: string;
  readonly inputs: readonly Channel[];
  readonly outputs: Channel[] = [];
  readonly aligner: BarrierAligner;
  readonly triggered: number[] = [];
  readonly #world: World;
  readonly #mode: CheckpointingMode;
  readonly #counts: Record<string, number>;
  /** The model's own books: which barrier a channel has delivered that is neither triggered nor given up. */
  readonly #waiting: (number | undefined)[];
  readonly #delivered: Set<number>[];
  readonly #cancelled = new Set<number>();
  #endedCount = 0;

  constructor(options: {
    readonly world: World;
    readonly name: string;
    readonly inputs: readonly Channel[];
    readonly mode: CheckpointingMode;
    readonly counts: Record<string, number>;
  }) {
    this.#world = options.world;
    this.name = options.name;
    this.inputs = options.inputs;
    this.#mode = options.mode;
    this.#counts = options.counts;
    this.aligner = new BarrierAligner({ channelCount: options.inputs.length, mode: options.mode });
    this.#waiting = options.inputs.map(() => undefined);
    this.#delivered = options.inputs.map(() => new Set());
  }

  get isDone(): boolean {
    return this.#endedCount === this.inputs.length;
  }

  /** Channels that have something and may be read. */
  readable(): readonly number[] {
    return this.inputs.flatMap((channel, i) => (channel.items.length > 0 && !this.aligner.isBlocked(i) ? [i] : []));
  }

  read(index: number): void {
    const channel = this.inputs[index];
    const item = channel?.items.shift();
    if (channel === undefined || item === undefined) return;
    const waiting = this.#waiting[index];
    if (waiting !== undefined && this.#mode === "EXACTLY_ONCE") {
      this.#violate(`W2: channel ${index} delivered a ${item.type} after barrier ${waiting}`);
    }
    switch (item.type) {
      case "record":
        channel.readCount += 1;
        for (const output of this.outputs) output.push(item);
        return;
      case "barrier":
        return this.#barrier(index, item.barrier);
      case "end":
        channel.isEnded = true;
        this.#endedCount += 1;
        this.#run(this.aligner.onEndOfInput(index, this.#at()));
        if (this.isDone) for (const output of this.outputs) output.push({ type: "end" });
        return;
    }
  }

  cancel(id: CheckpointId): void {
    if (this.triggered.includes(id)) return;
    this.#world.loop.note(this.name, `cancel ${id}`);
    this.#cancelled.add(id);
    this.#run(this.aligner.onCancel(id));
  }

  #barrier(index: number, barrier: Barrier): void {
    const id = barrier.checkpointId;
    this.#world.loop.note(this.name, `barrier ${id} on ${index}`);
    this.#delivered[index]?.add(id);
    const isDone = id <= (this.triggered.at(-1) ?? 0) || this.#cancelled.has(id);
    if (!isDone) this.#waiting[index] = id;
    this.#run(this.aligner.onBarrier(index, barrier, this.#at()));
    const isAligning = this.aligner.aligningId === id;
    if (isDone && isAligning) this.#violate(`W3: an alignment of checkpoint ${id} began, which is done or cancelled`);
    if (this.#mode === "EXACTLY_ONCE" && !isAligning && this.triggered.at(-1) !== id) this.#waiting[index] = undefined; // superseded
  }

  #run(decisions: readonly AlignerDecision[]): void {
    for (const decision of decisions) {
      switch (decision.type) {
        case "blocked":
          this.#count("blocked");
          if (this.#mode === "AT_LEAST_ONCE") this.#violate("W4: a channel was blocked");
          break;
        case "aborted":
          this.#count(`aborted-${decision.reason}`);
          this.#release(decision.checkpointId);
          break;
        case "trigger":
          this.#trigger(decision.barrier);
          break;
      }
    }
  }

  #trigger(barrier: Barrier): void {
    const id = barrier.checkpointId;
    this.#count("triggered");
    this.#world.loop.note(this.name, `trigger ${id}`);
    if (id <= (this.triggered.at(-1) ?? 0))
      this.#violate(`W3: checkpoint ${id} is triggered after ${this.triggered.at(-1)}`);
    if (this.#cancelled.has(id)) this.#violate(`W3: checkpoint ${id} is triggered although it was cancelled`);
    this.inputs.forEach((channel, i) => {
      const isAligned = this.#delivered[i]?.has(id) === true || channel.isEnded;
      if (!isAligned) this.#violate(`W4: checkpoint ${id} is triggered without the barrier of channel ${i}`);
      const expected = channel.sentBefore.get(id) ?? channel.sentCount;
      if (this.#mode === "EXACTLY_ONCE" && channel.readCount !== expected) {
        this.#violate(
          `W1: checkpoint ${id}: ${channel.readCount} records of channel ${i} are in the snapshot, ${expected} before the barrier`,
        );
      }
    });
    this.triggered.push(id);
    for (let i = 0; i < this.inputs.length; i += 1)
      if ((this.#waiting[i] ?? Infinity) <= id) this.#waiting[i] = undefined;
    for (const output of this.outputs) output.push({ type: "barrier", barrier });
  }

  #release(id: number): void {
    for (let i = 0; i < this.inputs.length; i += 1) if (this.#waiting[i] === id) this.#waiting[i] = undefined;
  }

  #count(name: string): void {
    this.#counts[name] = (this.#counts[name] ?? 0) + 1;
  }

  #at(): { readonly nowMs: number; readonly wallMs: number } {
    return { nowMs: this.#world.loop.nowMs, wallMs: this.#world.loop.nowMs };
  }

  #violate(reason: string): void {
    this.#world.violate(`${this.name}: ${reason}`);
  }
}

class AlignerRun {
  readonly counts: Record<string, number> = {};
  readonly #world: World;
  readonly #rng: Rng;
  readonly #mode: CheckpointingMode;
  readonly #tasks: Task[] = [];
  readonly #sources: Channel[][] = [];
  readonly #finalId: CheckpointId;
  #isFinalSent = false;

  constructor(world: World, rng: Rng) {
    this.#world = world;
    this.#rng = rng;
    this.#mode = rng.chance(0.8) ? "EXACTLY_ONCE" : "AT_LEAST_ONCE";
    const sourceCount = 1 + rng.below(4);
    const first = this.#layer("a", 1 + rng.below(2), () => Array.from({ length: sourceCount }, () => new Channel()));
    for (let s = 0; s < sourceCount; s += 1) this.#sources.push(first.map((task) => task.inputs[s] as Channel));
    this.#layer("b", 1 + rng.below(2), () => first.map((task) => this.#output(task)));
    this.#finalId = (3 + rng.below(6)) as CheckpointId;
  }

  async go(): Promise<void> {
    const cancelProbability = this.#rng.chance(0.6) ? this.#rng.below(60) / 100 : 0;
    const skipProbability = this.#rng.chance(0.5) ? this.#rng.below(40) / 100 : 0;
    const endEarlyProbability = this.#rng.chance(0.4) ? this.#rng.below(40) / 100 : 0;
    for (const channels of this.#sources) this.#source(channels, { skipProbability, endEarlyProbability });
    for (const task of this.#tasks) this.#reader(task);
    for (let id = 1; id < this.#finalId; id += 1) {
      for (const task of this.#tasks) {
        if (!this.#rng.chance(cancelProbability)) continue;
        this.#world.after(id * 40 + this.#rng.below(80), `cancel ${id}`, () => task.cancel(id as CheckpointId));
      }
    }
    const isDone = (): boolean => this.#tasks.every((task) => task.isDone);
    if ((await this.#world.runUntil(isDone, LIMITS)) === "limit") {
      const blocked = this.#tasks
        .filter((t) => !t.isDone)
        .map((t) => `${t.name} aligns ${t.aligner.aligningId ?? "nothing"}`);
      this.#world.violate(`W5: not everything was read: ${blocked.join(", ")}`);
    }
    for (const task of this.#tasks) {
      if (this.#isFinalSent && !task.triggered.includes(this.#finalId))
        this.#world.violate(`W5: ${task.name} never triggered checkpoint ${this.#finalId}`);
    }
    await this.#world.runUntil(() => true, LIMITS); // throws what was found last
  }

  #layer(prefix: string, count: number, inputs: () => readonly Channel[]): Task[] {
    const tasks = Array.from({ length: count }, (_, i) => {
      const name = `${prefix}${i}`;
      return new Task({ world: this.#world, name, inputs: inputs(), mode: this.#mode, counts: this.counts });
    });
    this.#tasks.push(...tasks);
    return tasks;
  }

  #output(task: Task): Channel {
    const channel = new Channel();
    task.outputs.push(channel);
    return channel;
  }

  /** Emits records and barriers 1, 2, ... of one source; may skip barriers, may end before the last one. */
  #source(
    channels: readonly Channel[],
    rates: { readonly skipProbability: number; readonly endEarlyProbability: number },
  ): void {
    const push = (item: Item): void => {
      for (const channel of channels) channel.push(item);
    };
    const endsBefore = this.#rng.chance(rates.endEarlyProbability) ? 1 + this.#rng.below(this.#finalId) : Infinity;
    let next = 1;
    const go = (): void => {
      this.#world.after(1 + this.#rng.below(12), "source", () => {
        for (let n = this.#rng.below(5); n > 0; n -= 1) push({ type: "record" });
        const isDue = this.#world.loop.nowMs >= next * 40 + this.#rng.below(40);
        if (isDue) {
          const id = next as CheckpointId;
          next += 1;
          const isFinal = id === this.#finalId;
          if (id >= endsBefore) return push({ type: "end" });
          if (isFinal || !this.#rng.chance(rates.skipProbability)) {
            push({ type: "barrier", barrier: { checkpointId: id, timestampMs: this.#world.loop.nowMs, isFinal } });
          }
          this.#isFinalSent ||= isFinal;
          if (isFinal) return push({ type: "end" });
        }
        go();
      });
    };
    go();
  }

  /** One task's loop: a random readable channel, a few items, at a speed of its own that changes. */
  #reader(task: Task): void {
    const speedMs = 1 + this.#rng.below(20);
    const go = (): void => {
      this.#world.after(1 + this.#rng.below(speedMs), task.name, () => {
        let favourite = this.#rng.below(task.inputs.length);
        for (let n = 1 + this.#rng.below(8); n > 0; n -= 1) {
          const readable = task.readable();
          if (readable.length === 0) break;
          if (!readable.includes(favourite)) favourite = readable[this.#rng.below(readable.length)] as number;
          task.read(favourite);
          if (this.#rng.chance(0.3)) favourite = this.#rng.below(task.inputs.length);
        }
        if (!task.isDone) go();
      });
    };
    go();
  }
}
