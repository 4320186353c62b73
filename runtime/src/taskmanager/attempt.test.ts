// What an attempt does when it ends or loses a peer: what the last tasks published leaves, and somebody hears of the loss.

import { expect, test } from "@jest/globals";
import { Failure } from "@sluice/kit";
import { HEALTHY, World } from "@sluice/sim";
import type { SimEnv } from "@sluice/sim";

import type { AttemptNumber, Epoch } from "../model/index.ts";
import type { AttemptBridge } from "../network/index.ts";
import type { DeployRequest, TaskManagerMessage } from "../rpc/index.ts";
import { Attempt } from "./attempt.ts";
import type { DataPlane } from "./data-plane.ts";
import { PLAN } from "./plan.fixture.ts";
import type { SlotHandlers } from "./seams.ts";

const LIMITS = { virtualMs: 7_200_000, events: 2_000_000 };
const SUBTASKS = [
  { vertexId: "src", subtaskIndex: 0 },
  { vertexId: "sum", subtaskIndex: 0 },
] as const;

const REQUEST: DeployRequest = {
  type: "deploy",
  epoch: 1 as Epoch,
  attempt: 0 as AttemptNumber,
  jobId: "id",
  lineage: "l",
  moduleUrl: "",
  plan: PLAN,
  slots: [{ slotIndex: 0, tasks: SUBTASKS.map((subtask) => ({ subtask, restore: undefined })) }],
  slotOwners: [
    { taskManagerId: "tm-a", dataAddress: "a:1" },
    { taskManagerId: "tm-b", dataAddress: "b:1" },
  ],
  jobDir: "",
  restoreDir: "",
  restoreStore: null,
  endsAtOnce: false,
  restoredCheckpointId: null,
  checkpointing: false,
};

class Bridge {
  isDrained = false;
  stopCount = 0;

  stop(): void {
    this.stopCount += 1;
  }
}

/** Slot 0 of two, alone on its TaskManager: every second channel crosses the network. */
class Bench {
  readonly world = new World({ seed: 5, faults: HEALTHY, keepsTrace: false });
  readonly sent: TaskManagerMessage[] = [];
  thread!: SlotHandlers;
  breaks!: (failure: Failure) => void;
  readonly bridge = new Bridge();
  endedCount = 0;
  attempt!: Attempt;

  async start(): Promise<this> {
    const dataPlane = {
      open: ({ onFailure }: { readonly onFailure: (failure: Failure) => void }) => {
        this.breaks = onFailure;
        return this.bridge as unknown as AttemptBridge;
      },
    } as unknown as DataPlane;
    this.world.node("tm-a").start((env: SimEnv) => {
      this.attempt = new Attempt({
        env,
        request: REQUEST,
        taskManagerId: "tm-a",
        slotHost: {
          start: (_, handlers) => {
            this.thread = handlers;
            return { terminate() {} };
          },
        },
        dataPlane,
        settings: { cancellationTimeoutMs: 1_000, stuckTimeoutMs: 60_000, heartbeatIntervalMs: 1_000 },
        plantedBugs: [],
        send: (message) => void this.sent.push(message),
        onEnded: () => (this.endedCount += 1),
      });
      return Promise.resolve();
    });
    await this.pass(1);
    return this;
  }

  report(subtask: (typeof SUBTASKS)[number], state: string): void {
    this.thread.onEvent({ type: "taskState", subtask, state });
  }

  async pass(durationMs: number): Promise<void> {
    let isOver = false;
    this.world.after(durationMs, "pass", () => (isOver = true));
    await this.world.runUntil(() => isOver, LIMITS);
  }
}

test("AT4: however slow the receiver is, what finished tasks published is not dropped", async () => {
  const bench = await new Bench().start();
  for (const subtask of SUBTASKS) bench.report(subtask, "RUNNING");
  for (const subtask of SUBTASKS) bench.report(subtask, "FINISHED");
  bench.thread.onExit({ code: 0, error: undefined });
  await bench.pass(10 * 60_000);
  expect([bench.bridge.stopCount, bench.endedCount]).toEqual([0, 0]);
  bench.bridge.isDrained = true;
  await bench.pass(100);
  expect([bench.bridge.stopCount, bench.endedCount]).toEqual([1, 1]);
});

test("a cancelled attempt waits for no receiver", async () => {
  const bench = await new Bench().start();
  for (const subtask of SUBTASKS) bench.report(subtask, "FINISHED");
  bench.thread.onExit({ code: 0, error: undefined });
  await bench.pass(1_000);
  bench.attempt.cancel();
  await bench.pass(100);
  expect([bench.bridge.stopCount, bench.endedCount]).toEqual([1, 1]);
});

test("AT5: a lost data connection is reported for a task that has not finished", async () => {
  const bench = await new Bench().start();
  for (const subtask of SUBTASKS) bench.report(subtask, "RUNNING");
  bench.report(SUBTASKS[0], "FINISHED");
  bench.sent.length = 0;
  bench.breaks(new Failure("PEER_LOST", { retry: "backoff", message: "reset" }));
  // The JobManager ignores a failure of what has finished already (job-state.ts).
  expect(bench.sent).toContainEqual(
    expect.objectContaining({ type: "taskState", subtask: SUBTASKS[1], state: "FAILED" }),
  );
});
