// The loop of a slot: what it does before its first turn.

import { expect, test } from "@jest/globals";

import { NOTHING_READ } from "../model/index.ts";
import type { SlotCommand, SlotEvent, SlotPort } from "../model/index.ts";
import { SlotCounters, slotCountersBytes } from "./counters.ts";
import { SlotRunner } from "./slot-runner.ts";
import type { Task } from "./task.ts";

test("SR4: a slot that was cancelled while its thread started opens nothing: its sinks might meet those of the next attempt", async () => {
  const calls: string[] = [];
  const task = {
    ended: false,
    closed: Promise.resolve(),
    initialize() {
      calls.push("initialize");
      return Promise.resolve();
    },
    cancel() {
      calls.push("cancel");
      this.ended = true;
      return Promise.resolve();
    },
    publishCounters() {},
    runStep: () => false,
    nextRunMs: () => 0,
    backPressured: false,
  };
  const commands: SlotCommand[] = [{ type: "cancel" }];
  const sent: SlotEvent[] = [];
  const port: SlotPort = {
    poll: () => commands.shift(),
    send: (event) => void sent.push(event),
    submitSnapshot() {},
    fetchParts: () => Promise.resolve({ contents: [], read: NOTHING_READ }),
  };
  const log = { debug() {}, info() {}, warn() {}, error() {}, with: () => log };
  const counters = new SlotCounters(new SharedArrayBuffer(slotCountersBytes(1)));
  await new SlotRunner({
    tasks: [{ task: task as unknown as Task, counters: counters.task(0) }],
    port,
    clock: { nowMs: () => 0, wallMs: () => 0 },
    log,
    waiting: {
      yieldToEvents: () => Promise.resolve(),
      bellSequence: () => 0,
      waitPast: () => Promise.resolve(),
    },
    counters,
  }).run();
  expect([calls, sent]).toEqual([["cancel"], [{ type: "slotEnded" }]]);
});
