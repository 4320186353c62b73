// The steps of a rescale, over a commit log in memory and a coordinator that answers as told.

import { describe, expect, test } from "@jest/globals";
import { Failure } from "@sluice/kit";
import type { Log } from "@sluice/kit/env";

import { CommitLog, settledAtEnd } from "../checkpoint/index.ts";
import type { CheckpointCoordinator, ResourceRequirements } from "../checkpoint/index.ts";
import { memoryEnv, MemoryStore } from "../checkpoint/memory-store.fixture.ts";
import type {
  AttemptNumber,
  CheckpointId,
  CheckpointMetadata,
  Epoch,
  JobPlan,
  PartHandle,
  PlanVertex,
} from "../model/index.ts";
import type { OperationContext } from "./operations.ts";
import { planAt } from "./rescale.ts";
import { rescaleRunner } from "./rescale-operation.ts";

const ID = "7".repeat(32);
const NEVER = new AbortController().signal;

const vertex: PlanVertex = {
  id: "v",
  name: "v",
  parallelism: 2,
  maxParallelism: 128,
  chain: [{ transformationId: 0, name: "v", uid: "u", kind: "source", stateful: true }],
  inputs: [],
  splits: [],
};
const PLAN: JobPlan = {
  formatVersion: 0,
  jobName: "j",
  digest: "d",
  arguments: [],
  configuration: {},
  vertices: [vertex],
};

const bounds = (lowerBound: number, upperBound = lowerBound): ResourceRequirements => ({
  v: { parallelism: { lowerBound, upperBound } },
});

/** Of two subtasks with union state, the first of which had finished. */
function halfFinished(): CheckpointMetadata {
  const part = {
    uid: "u",
    stateName: "files",
    kind: "operator",
    mode: "union",
    itemCount: 1,
    object: "chk-1/x-1",
    offset: 0,
    lengthBytes: 1,
    crc32c: 0,
  } as PartHandle;
  return {
    checkpointId: 1 as CheckpointId,
    kind: "checkpoint",
    base: "job",
    lineage: "l",
    epoch: 1 as Epoch,
    attempt: 0 as AttemptNumber,
    planDigest: "d",
    timestampMs: 0,
    isFinal: false,
    vertices: [
      {
        vertexId: "v",
        parallelism: 2,
        maxParallelism: 128,
        uids: ["u"],
        subtasks: [0, 1].map((subtaskIndex) => ({ subtaskIndex, finished: subtaskIndex === 0, parts: [part] })),
      },
    ],
  };
}

interface World {
  readonly log: CommitLog;
  /** What happened, in order: `checkpoint`, `restart:N` with the parallelism that the log had then. */
  readonly story: string[];
  readonly run: (requirements: ResourceRequirements, change?: Partial<OperationContext>) => Promise<unknown>;
}

async function world(
  options: {
    readonly checkpoint?: () => Promise<CheckpointId>;
    readonly newest?: () => CheckpointMetadata | null | undefined;
    readonly isDeployed?: () => boolean;
    readonly mayRescale?: () => boolean;
    readonly slots?: () => number;
  } = {},
): Promise<World> {
  const env = memoryEnv(1);
  const { log } = await CommitLog.claim({
    store: new MemoryStore(),
    jobDir: "j",
    env,
    request: { jobName: "j", uid: "u", lineage: "l", newLineage: false, mayCreate: true },
    planDigest: "d",
    signal: NEVER,
  });
  const story: string[] = [];
  let wanted = PLAN;
  const checkpoint = options.checkpoint ?? (() => Promise.resolve(1 as CheckpointId));
  const quiet = { debug() {}, info() {}, warn() {}, error() {} } as unknown as Log;
  const runner = rescaleRunner({
    env: { timers: env.timers, log: quiet },
    deployedPlan: () => PLAN,
    wantedPlan: () => wanted,
    slotCount: options.slots ?? (() => 4),
    isDeployed: () => options.isDeployed?.() ?? true,
    mayRescale: () => options.mayRescale?.() ?? true,
    coordinator: () =>
      ({
        triggerCheckpoint: () => {
          story.push("checkpoint");
          return checkpoint();
        },
      }) as unknown as CheckpointCoordinator,
    log: () => log,
    newest: options.newest ?? (() => null),
    unclaimedState: "fail",
    onRescaled: (plan) => {
      wanted = plan;
      story.push(`restart:${plan.vertices[0]?.parallelism}`);
      expect(log.head.rescale?.parallelism).toEqual({ v: plan.vertices[0]?.parallelism }); // RO1
    },
    signal: NEVER,
  });
  const context: OperationContext = { id: ID, isResumed: false, followedBy: () => {} };
  return {
    log,
    story,
    async run(requirements, change = {}) {
      const request = { kind: "rescale", requirements } as const;
      await log.append(({ ops }) => ({ ops: ops.length > 0 ? ops : [{ id: ID, request, outcome: null }] }), NEVER);
      return await runner(request, { ...context, ...change });
    },
  };
}

describe("a rescale", () => {
  test("RO1: a checkpoint, a record that settles the operation too, a restart", async () => {
    const { log, story, run } = await world();
    expect(await run(bounds(1, 3))).toBeUndefined();
    expect(story).toEqual(["checkpoint", "restart:3"]);
    expect(log.head.rescale).toEqual({ requirements: bounds(1, 3), parallelism: { v: 3 } });
    expect(log.head.ops).toMatchObject([{ id: ID, outcome: { type: "done" } }]);
  });

  test("to what the job has only remembers the bounds", async () => {
    const { log, story, run } = await world();
    await run(bounds(1, 2));
    expect(story).toEqual([]);
    expect(log.head).toMatchObject({ rescale: { requirements: bounds(1, 2) }, ops: [{ outcome: { type: "done" } }] });
  });

  test("of a job that waits for slots takes no checkpoint: there is nothing that could", async () => {
    const { story, run } = await world({ isDeployed: () => false, slots: () => 1 });
    await run(bounds(1));
    expect(story).toEqual(["restart:1"]);
  });

  test("begun by the JobManager before waits for the job, and takes the slots that there are then", async () => {
    let looks = 0;
    const isDeployed = (): boolean => (looks += 1) > 5;
    const { story, run } = await world({ isDeployed, slots: () => (looks > 5 ? 3 : 0) });
    await run(bounds(1, 4), { isResumed: true });
    expect(story).toEqual(["checkpoint", "restart:3"]);
  });

  test("begun by the JobManager before waits for TaskManagers that register after the job is deployed again", async () => {
    let looks = 0;
    const { story, run } = await world({ slots: () => ((looks += 1) > 5 ? 4 : 2) });
    await run(bounds(4), { isResumed: true });
    expect(story).toEqual(["checkpoint", "restart:4"]);
  });

  test("begun by the JobManager before, of a job that does not come back, gives it what is there", async () => {
    const { story, run } = await world({ isDeployed: () => false, slots: () => 1 });
    await run(bounds(1), { isResumed: true });
    expect(story).toEqual(["restart:1"]);
  });

  test("RO3: a checkpoint that fails leaves the job as it was, one that a restart cuts off does not", async () => {
    const failing = (code: Failure["code"]) => () =>
      Promise.reject<CheckpointId>(new Failure(code, { retry: "backoff", message: "no" }));
    const expired = await world({ checkpoint: failing("CHECKPOINT_EXPIRED") });
    await expect(expired.run(bounds(3))).rejects.toMatchObject({ code: "CHECKPOINT_EXPIRED" });
    expect([expired.story, expired.log.head.rescale]).toEqual([["checkpoint"], undefined]);
    const restarted = await world({ checkpoint: failing("CANCELED") });
    await restarted.run(bounds(3));
    expect(restarted.story).toEqual(["checkpoint", "restart:3"]);
  });

  test.each(["is cut off by it", "completes without it"])(
    "RO3: a TaskManager that is lost during the checkpoint comes back before its slots are given up: %s",
    async (what) => {
      let looks = 0;
      let isLost = false;
      const checkpoint = (): Promise<CheckpointId> => {
        isLost = true;
        if (what === "completes without it") return Promise.resolve(1 as CheckpointId);
        return Promise.reject<CheckpointId>(new Failure("CANCELED", { retry: "backoff", message: "it restarts" }));
      };
      const slots = (): number => (isLost && (looks += 1) < 5 ? 2 : 4);
      const back = await world({ checkpoint, slots });
      await back.run(bounds(3));
      expect(back.story).toEqual(["checkpoint", "restart:3"]);
      looks = -1_000;
      isLost = false;
      const gone = await world({ checkpoint, slots });
      await gone.run(bounds(1, 3));
      expect(gone.log.head.rescale).toEqual({ requirements: bounds(1, 3), parallelism: { v: 2 } });
    },
  );

  test("RO2: what the newest checkpoint cannot be restored at is refused before anything is recorded", async () => {
    const { log, story, run } = await world({ newest: halfFinished });
    await expect(run(bounds(3))).rejects.toMatchObject({ code: "STATE_INCOMPATIBLE" });
    expect([story, log.head.rescale]).toEqual([["checkpoint"], undefined]);
  });

  test("RO2: what is restored is found out first when nobody knows it yet", async () => {
    let looks = 0;
    const newest = (): CheckpointMetadata | undefined => ((looks += 1) < 3 ? undefined : halfFinished());
    const { log, story, run } = await world({ newest, isDeployed: () => false });
    await expect(run(bounds(3))).rejects.toMatchObject({ code: "STATE_INCOMPATIBLE" });
    expect([story, log.head.rescale]).toEqual([[], undefined]);
  });

  test("RO4: of a job that has just ended, and whose log does not say it yet, is refused", async () => {
    const { log, run } = await world({ mayRescale: () => false });
    await expect(run(bounds(3))).rejects.toMatchObject({ message: expect.stringContaining("about to end") });
    expect(log.head.rescale).toBeUndefined();
  });

  test("slots that go away during the checkpoint are not counted on", async () => {
    let slots = 4;
    const { log, run } = await world({
      slots: () => slots,
      checkpoint: () => {
        slots = 2;
        return Promise.resolve(1 as CheckpointId);
      },
    });
    await expect(run(bounds(3))).rejects.toMatchObject({ code: "OPERATION_CONFLICT" });
    expect(log.head.rescale).toBeUndefined();
  });

  test("of a job that stops is refused", async () => {
    const { log, story, run } = await world();
    await log.append(() => ({ jobState: "stopping" }), NEVER);
    await expect(run(bounds(3))).rejects.toMatchObject({ message: expect.stringContaining("about to end") });
    expect(story).not.toContain("restart:3");
  });

  test("RO4: of a job whose end is being recorded meanwhile records nothing behind it", async () => {
    const one = await world({
      checkpoint: () => {
        void one.log.append(({ ops }) => ({ jobState: "cancelled", ops: settledAtEnd(ops, "cancelled") }), NEVER);
        return Promise.resolve(1 as CheckpointId);
      },
    });
    await expect(one.run(bounds(3))).rejects.toMatchObject({ message: expect.stringContaining("about to end") });
    expect(one.log.head).toMatchObject({ jobState: "cancelled", ops: [{ outcome: { type: "failed" } }] });
    expect([one.story, one.log.head.rescale]).toEqual([["checkpoint"], undefined]);
  });
});

test("another start of the job does not take it over, the next JobManager of the same one does", async () => {
  const store = new MemoryStore();
  const claim = (lineage: string, seed: number): Promise<CommitLog> =>
    CommitLog.claim({
      store,
      jobDir: "j",
      env: memoryEnv(seed),
      request: { jobName: "j", uid: "u", lineage, newLineage: false, mayCreate: true },
      planDigest: "d",
      signal: NEVER,
    }).then(({ log }) => log);
  const first = await claim("one", 1);
  const rescale = { requirements: bounds(3), parallelism: { v: 3 } };
  await first.append(() => ({ rescale }), NEVER);
  expect((await claim("one", 2)).head.rescale).toEqual(rescale);
  expect((await claim("two", 3)).head.rescale).toBeNull();
  expect(planAt(PLAN, rescale.parallelism)?.vertices[0]?.parallelism).toBe(3);
});
