import { describe, expect, test } from "@jest/globals";

import { toFailure } from "@sluice/kit";
import type {
  AttemptNumber,
  Barrier,
  CheckpointId,
  Epoch,
  Operator,
  OperatorState,
  SlotEvent,
  SnapshotSubmission,
} from "../model/index.ts";
import type { KeyedSnapshot } from "../state/index.ts";
import { TaskSnapshots } from "./task-snapshots.ts";

const barrier = (n: number): Barrier => ({ checkpointId: n as CheckpointId, timestampMs: 0, isFinal: false });
const state: OperatorState = new Map([["offsets", { mode: "split", items: [{ json: 1 }] }]]);

/** The parts of a task around its snapshots: what they see goes into `seen`, in order. */
function snapshots(options: { readonly keyedSteps?: number; readonly operators?: readonly Partial<Operator>[] } = {}): {
  of: TaskSnapshots;
  seen: string[];
  counters: Record<string, number>;
  submissions: SnapshotSubmission[];
} {
  const { keyedSteps, operators = [{}] } = options;
  const seen: string[] = [];
  const counters: Record<string, number> = {};
  const submissions: SnapshotSubmission[] = [];
  let nowMs = 100;
  const keyed = (id: CheckpointId): KeyedSnapshot => {
    seen.push(`keyed ${id}`);
    nowMs += 3;
    let left = keyedSteps ?? 0;
    return {
      checkpointId: id,
      step() {
        seen.push(`step ${id}`);
        left -= 1;
        return left <= 0;
      },
      parts: () => [],
      release: () => void seen.push(`release ${id}`),
    };
  };
  const of = new TaskSnapshots({
    subtask: { vertexId: "v", subtaskIndex: 2 },
    epoch: 5 as Epoch,
    attempt: 6 as AttemptNumber,
    chain: operators.map((operator, at) => ({
      uid: `u${at}`,
      operator: operator as Operator,
      attribute: (thrown: unknown) => thrown,
    })),
    outputs: { broadcastBarrier: ({ checkpointId }) => void seen.push(`barrier ${checkpointId}`) },
    keyedState: keyedSteps === undefined ? undefined : { snapshot: keyed },
    counters: { set: (name, value) => void (counters[name] = value) },
    port: {
      send: (event: SlotEvent) =>
        void seen.push(`${event.type} ${event.type === "declineCheckpoint" ? event.failure.message : ""}`),
      submitSnapshot(submission) {
        submissions.push(submission);
        seen.push(`submit ${submission.checkpointId}`);
      },
    },
    clock: { nowMs: () => nowMs },
    wake: () => void seen.push("wake"),
  });
  return { of, seen, counters, submissions };
}

const trigger = (n: number): { barrier: Barrier; alignmentMs: number; startDelayMs: number } => ({
  barrier: barrier(n),
  alignmentMs: 7,
  startDelayMs: 8,
});
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("TK2: the barrier goes out, then operators and keyed state are captured, before `capture` returns", () => {
  const seen: string[] = [];
  const capturing = (name: string): Partial<Operator> => ({
    snapshotState: ({ checkpointId }) => (seen.push(`${name} ${checkpointId}`), state),
  });
  const task = snapshots({ keyedSteps: 1, operators: [capturing("a"), {}, capturing("b")] });
  task.of.capture(trigger(4), false);
  expect([task.seen, seen]).toEqual([
    ["barrier 4", "keyed 4"],
    ["a 4", "b 4"],
  ]);
  expect(task.counters).toEqual({ checkpointAlignmentMs: 7, checkpointStartDelayMs: 8, lastCheckpointSyncMs: 3 });
});

describe("TK4: a snapshot", () => {
  test("is submitted once, with what it was captured for", () => {
    const { of, seen, submissions } = snapshots({ operators: [{ snapshotState: () => state }] });
    of.capture(trigger(4), true);
    expect(of.isEmpty).toBe(false);
    of.step(150);
    of.step(160);
    expect([seen, of.isEmpty]).toEqual([["barrier 4", "submit 4"], true]);
    const { subtask, epoch, attempt, finished, stats, parts } = submissions[0] as SnapshotSubmission;
    expect([subtask, epoch, attempt, finished]).toEqual([{ vertexId: "v", subtaskIndex: 2 }, 5, 6, true]);
    expect(stats).toMatchObject({ startDelayMs: 8, alignmentMs: 7, syncMs: 0, asyncMs: 50 });
    expect(parts.map(({ uid, stateName, itemCount }) => [uid, stateName, itemCount])).toEqual([["u0", "offsets", 1]]);
    expect(stats.stateSizeBytes).toBeGreaterThan(0);
  });

  test("of an aborted checkpoint never is, and gives up what it protects", () => {
    const { of, seen } = snapshots({ keyedSteps: 2 });
    of.capture(trigger(4), false);
    of.capture(trigger(5), false);
    of.step(1);
    of.aborted(4 as CheckpointId);
    while (!of.isEmpty) of.step(1);
    expect(seen.slice(4)).toEqual(["step 4", "release 4", "step 5", "step 5", "release 5", "submit 5"]);
  });

  test("is dropped with its task", () => {
    const { of, seen } = snapshots({ keyedSteps: 2 });
    of.capture(trigger(4), false);
    of.dropAll();
    expect([of.step(1), of.isEmpty, seen]).toEqual([false, true, ["barrier 4", "keyed 4", "release 4"]]);
  });
});

test("TN2: a step encodes one snapshot, the oldest first", () => {
  const { of, seen } = snapshots({ keyedSteps: 2 });
  of.capture(trigger(4), false);
  of.capture(trigger(5), false);
  const steps = [0, 1, 2, 3].map(() => {
    const from = seen.length;
    return [of.step(1), seen.slice(from)];
  });
  expect(steps).toEqual([
    [true, ["step 4"]],
    [true, ["step 4", "release 4", "submit 4"]],
    [true, ["step 5"]],
    [true, ["step 5", "release 5", "submit 5"]],
  ]);
});

describe("TN1: a failure", () => {
  test("while state is captured is thrown: it fails the task", () => {
    const { of } = snapshots({
      operators: [
        {
          snapshotState() {
            throw new Error("no");
          },
        },
      ],
    });
    let code = "";
    try {
      of.capture(trigger(4), false);
    } catch (thrown) {
      code = toFailure(thrown).code;
    }
    expect([code, of.isEmpty]).toEqual(["USER_FUNCTION_FAILED", true]);
  });

  test("of state on its way to disk declines the checkpoint and nothing else", async () => {
    const late = Promise.withResolvers<OperatorState>();
    const { of, seen } = snapshots({ operators: [{ snapshotState: () => late.promise }] });
    of.capture(trigger(4), false);
    of.step(1);
    expect(of.isEmpty).toBe(false);
    late.reject(new Error("disk full"));
    await settled();
    of.step(1);
    expect([seen, of.isEmpty]).toEqual([
      ["barrier 4", "wake", expect.stringMatching(/^declineCheckpoint .*disk full/)],
      true,
    ]);
  });
});
