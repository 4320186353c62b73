// Slots and what their threads do to them: ends of all kinds, cancellations that are not heard, stuck functions.

import { describe, expect, test } from "@jest/globals";
import { HEALTHY, World } from "@sluice/sim";
import type { SimEnv } from "@sluice/sim";

import type {
  AttemptNumber,
  CheckpointId,
  Epoch,
  Partitioning,
  PlanVertex,
  SlotCommand,
  SlotSpec,
} from "../model/index.ts";
import { allocateMailbox, Doorbell, MailboxReader } from "../network/index.ts";
import { slotCountersBytes } from "../task/index.ts";
import { channelRoutes } from "./channels.ts";
import { PLAN } from "./plan.fixture.ts";
import type { SlotExit, SlotHandlers } from "./seams.ts";
import { exitFailure, Slot } from "./slot.ts";
import { StuckWatch } from "./stuck-watch.ts";

const CANCELLATION_MS = 30_000;
const LIMITS = { virtualMs: 600_000, events: 100_000 };

const SUBTASKS = [
  { vertexId: "src", subtaskIndex: 1 },
  { vertexId: "sum", subtaskIndex: 1 },
] as const;

/** A slot on a simulated node, with a thread that does what the test says. */
class Bench {
  readonly world = new World({ seed: 3, faults: HEALTHY, keepsTrace: true });
  readonly states: string[] = [];
  readonly failures: string[] = [];
  readonly declines: string[] = [];
  readonly spec: SlotSpec = {
    slotIndex: 1,
    epoch: 1 as Epoch,
    attempt: 0 as AttemptNumber,
    lineage: "l",
    moduleUrl: "",
    plan: PLAN,
    tasks: SUBTASKS.map((subtask) => ({ subtask, restore: undefined })),
    channels: [],
    endsAtOnce: false,
    doorbell: Doorbell.allocate(),
    mailbox: allocateMailbox(1024),
    counters: new SharedArrayBuffer(slotCountersBytes(2)),
    plantedBugs: [],
  };
  readonly #mailbox = new MailboxReader(this.spec.mailbox);
  slot!: Slot;
  thread!: SlotHandlers;
  terminations = 0;
  endedCount = 0;

  /** `dies`: whether the thread heeds `terminate`. */
  async start(options: { readonly dies: boolean } = { dies: true }): Promise<this> {
    const node = this.world.node("tm");
    node.start((env: SimEnv) => {
      this.slot = new Slot({
        env,
        host: {
          start: (_, handlers) => {
            this.thread = handlers;
            return {
              terminate: () => {
                this.terminations += 1;
                if (options.dies) env.timers.after(1, "exit", () => handlers.onExit({ code: 1, error: undefined }));
              },
            };
          },
        },
        spec: this.spec,
        cancellationTimeoutMs: CANCELLATION_MS,
        stuckTimeoutMs: 60_000,
        sampleIntervalMs: 1_000,
        onTaskState: ({ subtask, state, failure }) => {
          this.states.push(`${subtask.vertexId}:${state}`);
          if (failure !== undefined) this.failures.push(`${failure.code}: ${failure.message}`);
        },
        onDecline: ({ checkpointId }) => void this.declines.push(String(checkpointId)),
        onEnded: () => (this.endedCount += 1),
      });
      return Promise.resolve();
    });
    await this.pass(1);
    return this;
  }

  all(state: string): void {
    for (const subtask of SUBTASKS) this.thread.onEvent({ type: "taskState", subtask, state });
  }

  commands(): readonly SlotCommand[] {
    const commands: SlotCommand[] = [];
    for (let m = this.#mailbox.poll(); m !== undefined; m = this.#mailbox.poll()) {
      commands.push(JSON.parse(new TextDecoder().decode(m)) as SlotCommand);
    }
    return commands;
  }

  async pass(durationMs: number): Promise<void> {
    const endMs = this.world.loop.nowMs + durationMs;
    let isOver = false;
    this.world.after(durationMs, "pass", () => (isOver = true));
    await this.world.runUntil(() => isOver && this.world.loop.nowMs >= endMs, LIMITS);
  }
}

describe("the end of a slot", () => {
  test("SV1: tasks that finished stay finished, whatever their thread does then", async () => {
    const bench = await new Bench().start();
    bench.all("RUNNING");
    bench.all("FINISHED");
    bench.thread.onEvent({ type: "slotEnded" });
    bench.thread.onExit({ code: 0, error: undefined });
    expect(bench.states).toEqual(["src:RUNNING", "sum:RUNNING", "src:FINISHED", "sum:FINISHED"]);
    expect([bench.endedCount, bench.terminations]).toEqual([1, 0]);
  });

  test("a thread that user code keeps alive after its last task is terminated", async () => {
    const bench = await new Bench().start();
    bench.all("FINISHED");
    bench.thread.onEvent({ type: "slotEnded" });
    await bench.pass(5_000);
    expect([bench.endedCount, bench.terminations, bench.failures]).toEqual([1, 1, []]);
  });

  test.each<[string, SlotExit, RegExp]>([
    ["process.exit", { code: 0, error: undefined }, /TASK_LOST.*exit code 0/u],
    [
      "an uncaught error",
      { code: 1, error: { code: "", message: "boom", stack: "at f" } },
      /TASK_LOST.*uncaught error: boom/u,
    ],
    [
      "no heap left",
      { code: 1, error: { code: "ERR_WORKER_OUT_OF_MEMORY", message: "limit", stack: "" } },
      /OUT_OF_MEMORY.*limit/u,
    ],
  ])("SV1: an exit that nobody asked for (%s) fails every unfinished task", async (_, exit, message) => {
    const bench = await new Bench().start();
    bench.all("RUNNING");
    bench.thread.onEvent({ type: "taskState", subtask: SUBTASKS[0], state: "FINISHED" });
    bench.thread.onExit(exit);
    expect(bench.states.slice(2)).toEqual(["src:FINISHED", "sum:FAILED"]);
    expect(bench.failures).toEqual([expect.stringMatching(message)]);
    expect(exitFailure(exit, 1).remedy).not.toBe("");
    expect(bench.endedCount).toBe(1);
  });

  test("what user code posts is not taken for an event", async () => {
    const bench = await new Bench().start();
    for (const nonsense of [
      null,
      1,
      "x",
      {},
      { type: "taskState" },
      { type: "taskState", subtask: SUBTASKS[0], state: "X" },
    ]) {
      bench.thread.onEvent(nonsense);
    }
    bench.thread.onEvent({ type: "taskState", subtask: { vertexId: "other", subtaskIndex: 0 }, state: "FAILED" });
    expect(bench.states).toEqual([]);
  });
});

describe("cancellation", () => {
  test("a slot that hears it ends by itself", async () => {
    const bench = await new Bench().start();
    bench.all("RUNNING");
    bench.slot.cancel();
    expect(bench.commands()).toEqual([{ type: "cancel" }]);
    bench.all("CANCELED");
    bench.thread.onExit({ code: 0, error: undefined });
    await bench.pass(60_000);
    expect([bench.endedCount, bench.terminations]).toEqual([1, 0]);
  });

  test("SV2: one that does not is terminated after the cancellation timeout, its tasks are CANCELED", async () => {
    const bench = await new Bench().start();
    bench.all("RUNNING");
    bench.slot.cancel();
    await bench.pass(CANCELLATION_MS - 2_000);
    expect(bench.terminations).toBe(0);
    await bench.pass(4_000);
    expect([bench.terminations, bench.endedCount]).toEqual([1, 1]);
    expect(bench.states.slice(2)).toEqual(["src:CANCELED", "sum:CANCELED"]);
    expect(bench.failures).toEqual([]);
  });

  test("SV2: a thread that survives its termination takes the process along", async () => {
    const bench = await new Bench().start({ dies: false });
    bench.slot.cancel();
    await expect(bench.pass(CANCELLATION_MS + 8_000)).rejects.toThrow(/survived its termination/u);
  });
});

describe("commands", () => {
  test("SV3: a full mailbox loses nothing and keeps the order", async () => {
    const bench = await new Bench().start();
    const ids = Array.from({ length: 100 }, (_, i) => i as CheckpointId);
    for (const checkpointId of ids) bench.slot.post({ type: "notifyCheckpointComplete", checkpointId });
    const seen: number[] = [];
    for (let turn = 0; turn < 50 && seen.length < ids.length; turn += 1) {
      for (const command of bench.commands())
        if (command.type === "notifyCheckpointComplete") seen.push(command.checkpointId);
      await bench.pass(20);
    }
    expect(seen).toEqual(ids);
  });

  test("SV4: two sources of one slot are one trigger", async () => {
    const bench = await new Bench().start();
    const barrier = { checkpointId: 5 as CheckpointId, timestampMs: 1, isFinal: false };
    bench.slot.trigger(barrier);
    bench.slot.trigger(barrier);
    bench.slot.trigger({ ...barrier, checkpointId: 6 as CheckpointId });
    expect(bench.commands()).toMatchObject([{ barrier: { checkpointId: 5 } }, { barrier: { checkpointId: 6 } }]);
  });
});

describe("stuck functions", () => {
  test("a step that never ends is reported after 5 s, fails its task after the limit, and is not waited for", async () => {
    const bench = await new Bench().start();
    bench.all("RUNNING");
    new Float64Array(bench.spec.counters).set([17, 2]); // in the 17th step, of the second task
    const reported: number[] = [];
    for (let second = 0; second < 70; second += 1) {
      const { stuck } = bench.slot.sample();
      if (stuck !== undefined) reported.push(second);
      await bench.pass(1_000);
    }
    expect(reported[0]).toBeGreaterThanOrEqual(5);
    expect(reported[0]).toBeLessThan(8);
    expect(bench.failures).toEqual([
      expect.stringMatching(/USER_FUNCTION_STUCK: a function of "keyed sum" \(subtask 2\/2\)/u),
    ]);
    bench.slot.cancel();
    await bench.pass(100);
    expect([bench.terminations, bench.endedCount]).toEqual([1, 1]);
  });

  test("a module that is never loaded fails the slot's first task, and names the module", async () => {
    const bench = await new Bench().start();
    new Float64Array(bench.spec.counters).set([1, -1]);
    for (let second = 0; second < 70; second += 1) {
      bench.slot.sample();
      await bench.pass(1_000);
    }
    expect(bench.states).toEqual(["src:FAILED"]);
    expect(bench.failures).toEqual([
      expect.stringMatching(/USER_FUNCTION_STUCK: the job's module or its main has not returned in slot 1 for 6\d s/u),
    ]);
  });

  /** Samples `sequence/task` (task `-`: parked), one second apart unless `+n`; the held seconds after each. */
  test.each([
    ["1/0 1/0 1/0 1/0", "- 1 2 3"],
    ["1/0 2/0 3/0", "- - -"],
    ["1/0 1/- 1/0 1/0", "- - - 1"],
    ["1/0 1/0+60 1/0", "- 2 3"], // SW2: this process stood still as well
    ["1/0 1/1 1/1", "- - 1"],
  ])("SW1, SW2: %s: %s", (samples, expected) => {
    const watch = new StuckWatch({ intervalMs: 1_000 });
    let nowMs = 0;
    const held = samples.split(" ").map((sample) => {
      const [counters = "", more = "1"] = sample.split("+");
      const [sequence = "", task = ""] = counters.split("/");
      nowMs += Number(more) * 1_000;
      const stuck = watch.sample(
        { stepSequence: Number(sequence), currentTask: task === "-" ? undefined : Number(task) },
        nowMs,
      );
      return stuck === undefined ? "-" : String(stuck.sinceMs / 1_000);
    });
    expect(held.join(" ")).toBe(expected);
  });
});

/** `4:0>1` for every channel of the plan's only edge. */
function channelsOf(partitioning: Partitioning, sources = 2, targets = 2): readonly string[] {
  const [source, sum] = PLAN.vertices as [PlanVertex, PlanVertex];
  const inputs = sum.inputs.map((edge) => ({ ...edge, partitioning }));
  const vertices = [
    { ...source, parallelism: sources },
    { ...sum, parallelism: targets, inputs },
  ];
  return channelRoutes({ ...PLAN, vertices }).map(
    (route) => `${route.edgeId}:${route.source.subtaskIndex}>${route.target.subtaskIndex}`,
  );
}

test.each<readonly [Partitioning, number, number, string]>([
  ["HASH", 2, 2, "4:0>0 4:0>1 4:1>0 4:1>1"],
  ["FORWARD", 2, 2, "4:0>0 4:1>1"],
  // Barriers and the end reach subtasks that no record goes to.
  ["GLOBAL", 1, 2, "4:0>0 4:0>1"],
  ["BROADCAST", 1, 3, "4:0>0 4:0>1 4:0>2"],
  // Flink's POINTWISE.
  ["RESCALE", 2, 2, "4:0>0 4:1>1"],
  ["RESCALE", 2, 4, "4:0>0 4:0>1 4:1>2 4:1>3"],
  ["RESCALE", 4, 2, "4:0>0 4:1>0 4:2>1 4:3>1"],
  ["RESCALE", 3, 5, "4:0>0 4:0>1 4:1>2 4:1>3 4:2>4"],
  ["RESCALE", 5, 3, "4:0>0 4:1>1 4:2>1 4:3>2 4:4>2"],
])("CH1: the channels of a %s edge from %i to %i subtasks", (partitioning, sources, targets, expected) => {
  expect(channelsOf(partitioning, sources, targets).join(" ")).toBe(expected);
});

test("every subtask has a channel on both sides of a RESCALE edge: one without input would be taken for a source", () => {
  for (let sources = 1; sources <= 12; sources += 1) {
    for (let targets = 1; targets <= 12; targets += 1) {
      const ends = channelsOf("RESCALE", sources, targets).map((key) => key.slice(2).split(">"));
      expect(new Set(ends.map(([source]) => source)).size).toBe(sources);
      expect(new Set(ends.map(([, target]) => target)).size).toBe(targets);
      expect(ends).toHaveLength(Math.max(sources, targets));
    }
  }
});
