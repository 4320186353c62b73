// One slot of an attempt: its thread, its commands, its end.
//
// Invariants (tests cite them):
//   SV1. Every task of the slot ends once: by its own event, or by what its thread's end means.
//   SV2. A cancelled slot is gone after the cancellation timeout; a thread that survives `terminate()` takes the process along.
//   SV3. Commands reach the slot in order; a full mailbox is tried again, never dropped.
//   SV4. A checkpoint is triggered once per slot, though several of its tasks are sources.
//
// Not here: channels between slots (attempt.ts), the loop in the thread (task/).

import { Failure, failureToJson } from "@sluice/kit";
import type { Cancel, Clock, Host, Log, Timers } from "@sluice/kit/env";
import type {
  Barrier,
  OperatorMetrics,
  SlotCommand,
  SlotEvent,
  SlotSpec,
  SubtaskId,
  TaskState,
} from "../model/index.ts";
import { isTaskOver, subtaskKey } from "../model/index.ts";
import { Doorbell, MailboxWriter } from "../network/index.ts";
import { readSlotCounters } from "../task/index.ts";
import { readOperatorMetrics } from "./operator-metrics.ts";
import type { SlotExit, SlotHost, SlotThread } from "./seams.ts";
import { STUCK_REPORT_MS, StuckWatch } from "./stuck-watch.ts";
import type { StuckStep } from "./stuck-watch.ts";

const TERMINATE_TIMEOUT_MS = 5_000;
/** Time for the last output of a slot whose tasks have all ended. */
const LEFTOVERS_MS = 1_000;
const MAILBOX_RETRY_MS = 10;
/** A slot that does not even take cancellations is terminated; more than this never waits. */
const QUEUED_COMMANDS_MAX = 10_000;

export type TaskStateEvent = Extract<SlotEvent, { readonly type: "taskState" }>;
export type DeclineEvent = Extract<SlotEvent, { readonly type: "declineCheckpoint" }>;

export interface SlotOptions {
  readonly env: { readonly clock: Clock; readonly timers: Timers; readonly log: Log; readonly host: Host };
  readonly host: SlotHost;
  readonly spec: SlotSpec;
  readonly cancellationTimeoutMs: number;
  readonly stuckTimeoutMs: number;
  readonly sampleIntervalMs: number;
  readonly onTaskState: (event: TaskStateEvent) => void;
  readonly onDecline: (event: DeclineEvent) => void;
  /** The thread is gone. */
  readonly onEnded: () => void;
}

const TASK_STATES: readonly TaskState[] = ["INITIALIZING", "RUNNING", "DRAINED", "FINISHED", "CANCELED", "FAILED"];

export class Slot {
  readonly spec: SlotSpec;
  readonly #options: SlotOptions;
  readonly #thread: SlotThread;
  readonly #mailbox: MailboxWriter;
  readonly #encoder = new TextEncoder();
  readonly #states = new Map<string, TaskState>();
  readonly #metrics = new Map<string, readonly OperatorMetrics[]>();
  readonly #stuckWatch: StuckWatch;
  readonly #queued: Uint8Array[] = [];
  #phase: "running" | "cancelling" | "terminating" | "gone" = "running";
  #cancelRetry: Cancel | undefined;
  #cancelEscalation: Cancel | undefined;
  #triggeredId = -1;
  /** Set when a user function was found stuck: there is no use in waiting for its thread. */
  #isHopeless = false;

  constructor(options: SlotOptions) {
    this.#options = options;
    this.spec = options.spec;
    this.#mailbox = new MailboxWriter(options.spec.mailbox, new Doorbell(options.spec.doorbell));
    this.#stuckWatch = new StuckWatch({ intervalMs: options.sampleIntervalMs });
    for (const { subtask } of options.spec.tasks) this.#states.set(subtaskKey(subtask), "INITIALIZING");
    this.#thread = options.host.start(options.spec, {
      onEvent: (event) => this.#onEvent(event),
      onExit: (exit) => this.#onExit(exit),
    });
  }

  get isGone(): boolean {
    return this.#phase === "gone";
  }

  /** What operators of this subtask registered, as last heard. */
  metricsOf(subtask: SubtaskId): readonly OperatorMetrics[] {
    return this.#metrics.get(subtaskKey(subtask)) ?? [];
  }

  /** Figures of one task, as its thread has published them last. */
  countersOf(subtask: SubtaskId): Readonly<Record<string, number>> | undefined {
    const key = subtaskKey(subtask);
    const at = this.spec.tasks.findIndex((task) => subtaskKey(task.subtask) === key);
    return readSlotCounters(this.spec.counters, this.spec.tasks.length).tasks[at];
  }

  hosts(subtask: SubtaskId): boolean {
    return this.#states.has(subtaskKey(subtask));
  }

  trigger(barrier: Barrier): void {
    if (barrier.checkpointId <= this.#triggeredId) return; // SV4: ids grow
    this.#triggeredId = barrier.checkpointId;
    this.post({ type: "triggerCheckpoint", barrier });
  }

  post(command: SlotCommand): void {
    if (this.#phase === "gone") return;
    if (this.#queued.length >= QUEUED_COMMANDS_MAX) {
      this.#terminate();
      return;
    }
    this.#queued.push(this.#encoder.encode(JSON.stringify(command)));
    this.#deliver();
  }

  /** Asks the tasks to stop, then makes them (SV2). */
  cancel(): void {
    if (this.#phase !== "running") return;
    this.#phase = "cancelling";
    if (this.#isHopeless) {
      this.#terminate();
      return;
    }
    this.post({ type: "cancel" });
    const { cancellationTimeoutMs, env } = this.#options;
    this.#cancelEscalation?.();
    this.#cancelEscalation = env.timers.after(cancellationTimeoutMs, "slot-cancellation", () => {
      env.log.warn("a slot does not stop and is terminated", {
        slot: this.spec.slotIndex,
        afterMs: cancellationTimeoutMs,
      });
      this.#terminate();
    });
  }

  /** What the slot's counters say now; reports and fails stuck tasks. */
  sample(): {
    readonly counters: ReturnType<typeof readSlotCounters>;
    readonly stuck: { readonly subtask: SubtaskId; readonly sinceMs: number } | undefined;
  } {
    const counters = readSlotCounters(this.spec.counters, this.spec.tasks.length);
    const step =
      this.#phase === "gone" ? undefined : this.#stuckWatch.sample(counters, this.#options.env.clock.nowMs());
    // The module is every task's: the first one speaks for all.
    const task = step === undefined ? undefined : this.spec.tasks[step.holder === "module" ? 0 : step.holder];
    if (step === undefined || task === undefined) return { counters, stuck: undefined };
    const { subtask } = task;
    this.#failIfStuck(subtask, step);
    return { counters, stuck: step.sinceMs < STUCK_REPORT_MS ? undefined : { subtask, sinceMs: step.sinceMs } };
  }

  #failIfStuck(subtask: SubtaskId, step: StuckStep): void {
    const { holder, sinceMs } = step;
    if (sinceMs < this.#options.stuckTimeoutMs || this.#isHopeless || this.#phase !== "running") return;
    this.#isHopeless = true;
    const vertex = this.spec.plan.vertices.find(({ id }) => id === subtask.vertexId);
    const failure = new Failure("USER_FUNCTION_STUCK", {
      retry: "backoff",
      message:
        holder === "module"
          ? `the job's module or its main has not returned in slot ${this.spec.slotIndex} for ${Math.round(sinceMs / 1000)} s`
          : `a function of "${vertex?.name ?? subtask.vertexId}" (subtask ${subtask.subtaskIndex + 1}/${vertex?.parallelism ?? "?"}) ` +
            `has not returned for ${Math.round(sinceMs / 1000)} s`,
      remedy: "look for an endless loop or a blocking call in it; sluice.task.stuck-timeout sets the limit",
    });
    this.#setState({ type: "taskState", subtask, state: "FAILED", failure: failureToJson(failure) });
  }

  #deliver(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    for (let next = this.#queued[0]; next !== undefined; next = this.#queued[0]) {
      if (!this.#mailbox.post(next)) {
        this.#cancelRetry = this.#options.env.timers.after(MAILBOX_RETRY_MS, "mailbox", () => this.#deliver()); // SV3
        return;
      }
      this.#queued.shift();
    }
  }

  #terminate(): void {
    if (this.#phase === "terminating" || this.#phase === "gone") return;
    this.#phase = "terminating";
    this.#cancelEscalation?.();
    const { env } = this.#options;
    this.#thread.terminate();
    this.#cancelEscalation = env.timers.after(TERMINATE_TIMEOUT_MS, "slot-termination", () => {
      env.host.crash(`slot ${this.spec.slotIndex} survived its termination: it hangs in native code`);
    });
  }

  #onEvent(event: unknown): void {
    if (this.#phase === "gone") return;
    const known = readSlotEvent(event);
    if (known === undefined) return; // posted by user code: not ours
    switch (known.type) {
      case "taskState":
        this.#setState(known);
        return;
      case "declineCheckpoint":
        if (this.hosts(known.subtask)) this.#options.onDecline(known);
        return;
      case "metrics":
        if (this.hosts(known.subtask)) this.#metrics.set(subtaskKey(known.subtask), known.operators);
        return;
      case "slotEnded":
        // The thread ends by itself, unless timers or handles of user code keep it.
        if ([...this.#states.values()].every(isTaskOver) && this.#phase === "running") {
          this.#cancelEscalation?.();
          this.#cancelEscalation = this.#options.env.timers.after(LEFTOVERS_MS, "slot-leftovers", () =>
            this.#terminate(),
          );
        }
        return;
    }
  }

  #setState(event: TaskStateEvent): void {
    const key = subtaskKey(event.subtask);
    const state = this.#states.get(key);
    if (state === undefined || isTaskOver(state)) return; // SV1
    this.#states.set(key, event.state);
    this.#options.onTaskState(event);
  }

  #onExit(exit: SlotExit): void {
    if (this.#phase === "gone") return;
    const wasAsked = this.#phase !== "running";
    this.#phase = "gone";
    this.#cancelEscalation?.();
    this.#cancelRetry?.();
    this.#queued.length = 0;
    for (const { subtask } of this.spec.tasks) {
      this.#setState(
        wasAsked
          ? { type: "taskState", subtask, state: "CANCELED" }
          : {
              type: "taskState",
              subtask,
              state: "FAILED",
              failure: failureToJson(exitFailure(exit, this.spec.slotIndex)),
            },
      );
    }
    this.#options.onEnded();
  }
}

/** What the end of a thread that nobody asked for means. */
export function exitFailure(exit: SlotExit, slotIndex: number): Failure {
  const { error } = exit;
  if (error?.code === "ERR_WORKER_OUT_OF_MEMORY") {
    return new Failure("OUT_OF_MEMORY", {
      retry: "backoff",
      message: `slot ${slotIndex} ran out of JavaScript heap: ${error.message}`,
      remedy: "raise sluice.taskmanager.slot-heap-size, raise the parallelism, or keep less in user objects",
    });
  }
  const failure =
    error === undefined
      ? new Failure("TASK_LOST", {
          retry: "backoff",
          message: `the thread of slot ${slotIndex} ended with exit code ${exit.code} while its tasks were running`,
          remedy: "look for process.exit in the job's code or its libraries: a function must never end its process",
        })
      : new Failure("TASK_LOST", {
          retry: "backoff",
          message: `the thread of slot ${slotIndex} died of an uncaught error: ${error.message}`,
          remedy: "look for a callback or promise in the job's code whose error nobody catches",
        });
  if (error !== undefined && error.stack !== "") failure.stack = error.stack;
  return failure;
}

/** A slot event out of whatever a thread posted. */
function readSlotEvent(value: unknown): SlotEvent | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const event = value as Readonly<Record<string, unknown>>;
  if (event["type"] === "slotEnded") return { type: "slotEnded" };
  const subtask = event["subtask"] as Partial<SubtaskId> | undefined;
  if (typeof subtask?.vertexId !== "string" || !Number.isSafeInteger(subtask.subtaskIndex)) return undefined;
  if (event["type"] === "taskState" && (TASK_STATES as readonly unknown[]).includes(event["state"]))
    return value as TaskStateEvent;
  if (event["type"] === "metrics") {
    const operators = readOperatorMetrics(event["operators"]);
    return operators === undefined ? undefined : { type: "metrics", subtask: subtask as SubtaskId, operators };
  }
  if (event["type"] === "declineCheckpoint" && Number.isSafeInteger(event["checkpointId"]))
    return value as DeclineEvent;
  return undefined;
}
