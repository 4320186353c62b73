// The loop of one slot: runs its tasks in turns on one thread, takes commands between turns, sleeps when there is nothing to do.
//
// Invariants:
//   SR1. One turn never lasts longer than TURN_MS plus one task step; then promises and timers of the thread get their chance.
//   SR2. The bell is read before the last look for work, so that no wake-up is lost.
//   SR3. The slot ends when all its tasks have ended; it says so last.
//   SR4. A cancellation that is there already when the loop begins comes before anything is opened.
//
// Not here: how tasks are built (slot-builder.ts), threads and the process (bin/slot-worker.ts).

import type { Clock, Log } from "@sluice/kit/env";
import type { SlotCommand, SlotPort } from "../model/index.ts";
import type { SlotCounters, TaskCounters } from "./counters.ts";
import type { Task } from "./task.ts";

/** Longest uninterrupted stretch of task steps. */
const TURN_MS = 4;
/** Longest sleep: the bell is the rule, this is the net below it. */
const SLEEP_MAX_MS = 200;

/** How the loop waits. */
export interface SlotWaiting {
  /** Lets promises, timers and I/O of this thread run, then returns. */
  yieldToEvents(): Promise<void>;
  /** The bell's sequence number (SR2). */
  bellSequence(): number;
  /** Sleeps until the bell is past `sequence`, at most `timeoutMs`. */
  waitPast(sequence: number, timeoutMs: number): Promise<void>;
}

interface Timed {
  readonly task: Task;
  readonly counters: TaskCounters;
  lastMs: number;
}

export class SlotRunner {
  readonly #tasks: readonly Timed[];
  readonly #port: SlotPort;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #waiting: SlotWaiting;
  readonly #counters: SlotCounters;
  #canceled = false;

  constructor(options: {
    readonly tasks: readonly { readonly task: Task; readonly counters: TaskCounters }[];
    readonly port: SlotPort;
    readonly clock: Clock;
    readonly log: Log;
    readonly waiting: SlotWaiting;
    readonly counters: SlotCounters;
  }) {
    const nowMs = options.clock.nowMs();
    this.#tasks = options.tasks.map(({ task, counters }) => ({ task, counters, lastMs: nowMs }));
    this.#port = options.port;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#waiting = options.waiting;
    this.#counters = options.counters;
  }

  /** Resolves when all tasks have ended. */
  async run(): Promise<void> {
    this.#takeCommands(); // SR4
    for (const { task } of this.#tasks) {
      // Opening may be long (restore); a cancellation must not wait for it.
      if (!task.ended) void task.initialize();
    }
    while (!this.#allEnded()) {
      const sequence = this.#waiting.bellSequence();
      const worked = this.#turn();
      if (this.#allEnded()) break;
      this.#counters.park();
      const sleepMs = worked ? 0 : this.#sleepMs();
      // A wait of no time would let only promises run: timers and messages of this thread would starve.
      if (sleepMs > 0) await this.#waiting.waitPast(sequence, sleepMs);
      else await this.#waiting.yieldToEvents();
    }
    for (const { task } of this.#tasks) task.publishCounters();
    this.#counters.park();
    await Promise.all(this.#tasks.map(({ task }) => task.closed));
    this.#port.send({ type: "slotEnded" });
  }

  /** Runs tasks until none has work or the turn is over (SR1). */
  #turn(): boolean {
    let nowMs = this.#clock.nowMs();
    const untilMs = nowMs + TURN_MS;
    let workedEver = false;
    for (;;) {
      let worked = this.#takeCommands();
      let isEncoding = false;
      for (let i = 0; i < this.#tasks.length; i += 1) isEncoding ||= (this.#tasks[i] as Timed).task.isEncoding;
      for (let i = 0; i < this.#tasks.length; i += 1) {
        const timed = this.#tasks[i] as Timed;
        const { task, counters } = timed;
        if (task.ended) continue;
        this.#counters.enter(i);
        const fromMs = nowMs;
        const stepped = task.runStep(nowMs, isEncoding);
        nowMs = this.#clock.nowMs();
        if (stepped) counters.add("busyTimeMs", nowMs - fromMs);
        const waitedMs = fromMs - timed.lastMs;
        if (waitedMs > 0) counters.add(task.backPressured ? "backPressuredTimeMs" : "idleTimeMs", waitedMs);
        timed.lastMs = nowMs;
        worked = stepped || worked;
      }
      workedEver = worked || workedEver;
      if (!worked || nowMs >= untilMs) return worked || workedEver;
    }
  }

  #takeCommands(): boolean {
    let took = false;
    for (;;) {
      const command = this.#port.poll();
      if (command === undefined) return took;
      took = true;
      this.#execute(command);
    }
  }

  #execute(command: SlotCommand): void {
    switch (command.type) {
      case "triggerCheckpoint": {
        const wallMs = this.#clock.wallMs();
        for (const { task } of this.#tasks) task.triggerCheckpoint(command.barrier, wallMs);
        return;
      }
      case "notifyCheckpointComplete":
        for (const { task } of this.#tasks) task.notifyCheckpointComplete(command.checkpointId);
        return;
      case "notifyCheckpointAborted":
        for (const { task } of this.#tasks) task.notifyCheckpointAborted(command.checkpointId);
        return;
      case "cancel":
        if (this.#canceled) return;
        this.#canceled = true;
        this.#log.debug("slot is cancelled");
        for (const { task } of this.#tasks) void task.cancel();
        return;
    }
  }

  #sleepMs(): number {
    let untilMs = Number.POSITIVE_INFINITY;
    for (const { task } of this.#tasks) untilMs = Math.min(untilMs, task.nextRunMs());
    return Math.min(SLEEP_MAX_MS, Math.max(0, untilMs - this.#clock.nowMs()));
  }

  #allEnded(): boolean {
    return this.#tasks.every(({ task }) => task.ended);
  }
}
