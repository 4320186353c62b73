// Slots in this thread: the code of the job runs where the test runs, so that its breakpoints and spies work.
//
// Slots take turns by giving the event loop a chance, as a slot thread does between its batches.
//
// Invariants (tests cite them):
//   IN1. What crosses a thread's border in production is copied or given away here too: nothing is shared that would not be.
//   IN2. A slot that was terminated, or whose TaskManager was killed, runs no more code of the job once the event loop turns.
//
// Not here: what a slot does (task/), its graph (bin/run-slot.ts).

import { setImmediate as immediate } from "node:timers/promises";

import type { Clock, Log } from "@sluice/kit/env";
import { noUploads } from "../operators/index.ts";
import { runSlot } from "../bin/index.ts";
import type { JobMain } from "../datastream/index.ts";
import type {
  FetchedParts,
  PartHandle,
  SlotCommand,
  SlotEvent,
  SlotPort,
  SlotSpec,
  SnapshotSubmission,
} from "../model/index.ts";
import { ThreadSlotPort } from "../task/index.ts";
import type { IoReply, IoRequest, PostingPort } from "../task/index.ts";
import type { IoService, SlotHandlers, SlotHost, SlotThread } from "../taskmanager/index.ts";
import type { Life } from "./life.ts";

export interface InlineSlotsOptions {
  /** Of the TaskManager. */
  readonly life: Life;
  readonly job: string | JobMain;
  readonly clock: Clock;
  readonly log: Log;
  readonly io: Pick<IoService, "onSlotRequest">;
  /** Of declared variables. */
  readonly environment: Readonly<Record<string, string>>;
}

export class InlineSlots implements SlotHost {
  readonly #options: InlineSlotsOptions;

  constructor(options: InlineSlotsOptions) {
    this.#options = options;
  }

  start(spec: SlotSpec, handlers: SlotHandlers): SlotThread {
    const { life, job, clock, log, io, environment } = this.#options;
    const { slotIndex, epoch, attempt } = spec;
    let isOver = false;
    const isRunning = (): boolean => !isOver && life.isAlive;
    const exit = (code: number): void => {
      if (isOver) return;
      isOver = true;
      life.soon(() => handlers.onExit({ code, error: undefined }));
    };
    /** A port whose messages arrive as copies, in order, in a later turn (IN1). */
    const portTo = (receive: (message: unknown) => void): PostingPort => ({
      postMessage: (message, transfer = []) => {
        if (!isRunning()) return;
        const copy: unknown = structuredClone(message, { transfer: [...transfer] });
        life.soon(() => receive(copy));
      },
    });
    const toSlot = portTo((reply) => isRunning() && threadPort.onIoReply(reply as IoReply));
    const toIo = portTo((request) => {
      io.onSlotRequest({ epoch, attempt }, request as IoRequest, (reply, transfer) =>
        toSlot.postMessage(reply, transfer),
      );
    });
    const threadPort = new ThreadSlotPort({
      mailbox: spec.mailbox,
      io: toIo,
      main: portTo((event) => handlers.onEvent(event)),
    });
    life.begin(async () => {
      await yieldToEvents(); // a thread begins after its maker has gone on
      await runSlot({
        spec,
        job,
        bundleHash: "",
        env: {
          clock,
          log: log.with({ slot: slotIndex, attempt }),
          port: new EndingPort(threadPort, isRunning),
          yieldToEvents,
          openUploads: noUploads,
          readEnvironment: (name) => environment[name],
        },
      });
      life.soon(() => exit(0)); // behind its last event
    });
    return { terminate: () => exit(1) };
  }
}

/** Idle slots do not keep the process alive. */
async function yieldToEvents(): Promise<void> {
  await immediate(undefined, { ref: false });
}

/** IN2: the loop of a slot asks its port in every turn. */
class EndingPort implements SlotPort {
  readonly #port: SlotPort;
  readonly #isRunning: () => boolean;

  constructor(port: SlotPort, isRunning: () => boolean) {
    this.#port = port;
    this.#isRunning = isRunning;
  }

  poll(): SlotCommand | undefined {
    if (!this.#isRunning()) throw new Error("the slot is over"); // what it says of this goes nowhere
    return this.#port.poll();
  }

  send(event: SlotEvent): void {
    this.#port.send(event);
  }

  submitSnapshot(submission: SnapshotSubmission): void {
    this.#port.submitSnapshot(submission);
  }

  fetchParts(parts: readonly PartHandle[]): Promise<FetchedParts> {
    return this.#port.fetchParts(parts);
  }
}
