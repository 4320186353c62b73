// Who asks for a checkpoint of a job that does not run, over a store in memory and timers that fire when the test says so.
//
// Invariants: C11 of coordinator.ts.
//
// Not here: the decisions (coordinator.test.ts), the end of a job (deletion.test.ts).

import { expect, test } from "@jest/globals";
import type { Host, Log } from "@sluice/kit/env";

import type { AttemptNumber } from "../model/index.ts";
import { ONE_TASK, ONE_VERTEX } from "./checkpoint.fixture.ts";
import { CommitLog } from "./commit-log.ts";
import { CheckpointCoordinator } from "./coordinator-shell.ts";
import { memoryEnv, MemoryStore, noOtherStore } from "./memory-store.fixture.ts";
import { DEFAULT_CHECKPOINT_CONFIG } from "./types.ts";

/** With one task, which acknowledges at once, or all but the first checkpoint (`mutesFirst`); `fire` runs the timers of a label. */
async function coordinatorOf(
  mutesFirst = false,
): Promise<{ coordinator: CheckpointCoordinator; fire: (label: string) => void }> {
  const store = new MemoryStore();
  const request = { jobName: "j", uid: "u", lineage: "l", newLineage: false, mayCreate: true };
  const signal = new AbortController().signal;
  const claim = { store, jobDir: "j", env: memoryEnv(1), request, planDigest: "p", signal };
  const { log: commitLog } = await CommitLog.claim(claim);
  const waiting = new Map<object, { readonly label: string; readonly run: () => void }>();
  const timers = {
    after: (_delayMs: number, label: string, run: () => void) => {
      const key = {};
      waiting.set(key, { label, run });
      return () => void waiting.delete(key);
    },
  };
  const quiet = { debug() {}, info() {}, warn() {}, error() {} } as unknown as Log;
  const coordinator: CheckpointCoordinator = new CheckpointCoordinator({
    env: { ...memoryEnv(1), timers, log: quiet, host: { name: "jm" } as Host },
    store,
    openStore: noOtherStore,
    commitLog,
    vertices: [ONE_VERTEX],
    config: { ...DEFAULT_CHECKPOINT_CONFIG, concurrentMax: 2 },
    gateway: {
      triggerCheckpoint: (subtask, { epoch, attempt, barrier: { checkpointId } }) => {
        const stats = { startDelayMs: 0, alignmentMs: 0, syncMs: 0, asyncMs: 0, stateSizeBytes: 0 };
        const ack = { checkpointId, epoch, attempt, subtask, parts: [], finished: false, stats };
        if (!mutesFirst || checkpointId > 1) queueMicrotask(() => coordinator.ack(ack));
      },
      notifyComplete: () => {},
      notifyAborted: () => {},
    },
    listener: { failJob() {}, fenced() {}, completed() {}, finalCompleted() {}, stopFailed() {} },
  });
  const fire = (label: string): void => {
    for (const [key, timer] of [...waiting]) {
      if (timer.label !== label) continue;
      waiting.delete(key);
      timer.run();
    }
  };
  return { coordinator, fire };
}

test("C11: before the first attempt it waits for it, also while that is prepared", async () => {
  const { coordinator } = await coordinatorOf();
  const asked = coordinator.triggerCheckpoint();
  await coordinator.suspend();
  coordinator.attemptStarted(0 as AttemptNumber, null);
  coordinator.taskRunning(ONE_TASK);
  expect(await asked).toBe(1);
});

test("C11: an attempt that ends cuts off what was asked of it and had not begun", async () => {
  const { coordinator } = await coordinatorOf();
  coordinator.attemptStarted(0 as AttemptNumber, null);
  const asked = expect(coordinator.triggerCheckpoint()).rejects.toMatchObject({ code: "CANCELED" });
  await coordinator.suspend();
  await asked;
});

test("of a job that does not come up it is refused after the checkpoint's timeout; one that has begun is not", async () => {
  const { coordinator, fire } = await coordinatorOf();
  const message = expect.stringContaining("it could not begin within");
  const asked = expect(coordinator.triggerCheckpoint()).rejects.toMatchObject({ code: "CHECKPOINT_DECLINED", message });
  fire("checkpoint-queue");
  await asked;
  const again = coordinator.triggerCheckpoint();
  coordinator.attemptStarted(0 as AttemptNumber, null);
  coordinator.taskRunning(ONE_TASK);
  fire("checkpoint-queue");
  expect(await again).toBe(1);
});

test("C2: who asked for a checkpoint that a newer one subsumes gets the newer one", async () => {
  const { coordinator } = await coordinatorOf(true);
  coordinator.attemptStarted(0 as AttemptNumber, null);
  coordinator.taskRunning(ONE_TASK);
  const both = [coordinator.triggerCheckpoint(), coordinator.triggerCheckpoint()];
  expect(await Promise.all(both)).toEqual([2, 2]);
});
