// Operations over a commit log in memory: done once per id, also by the JobManagers that come after.

import { describe, expect, test } from "@jest/globals";
import { Failure, SeededRng } from "@sluice/kit";
import type { Timers } from "@sluice/kit/env";
import { CommitLog, OPERATIONS_RUNNING_MAX, OPERATIONS_SETTLED_MAX } from "../checkpoint/index.ts";
import type { OperationOutcome } from "../checkpoint/index.ts";
import { MemoryStore } from "../checkpoint/memory-store.fixture.ts";
import { Operations } from "./operations.ts";
import type { OperationRunners } from "./operations.ts";

const CHECKPOINT = { kind: "checkpoint", checkpointType: "FULL" } as const;
const CANCEL = { kind: "cancel" } as const;
const NEVER = new AbortController().signal;
const id = (n: number): string => n.toString(16).padStart(32, "0");

/** Timers that fire when the test says so. */
class HandTimers implements Timers {
  readonly #waiting = new Map<object, () => void>();
  after(_delayMs: number, _label: string, run: () => void): () => void {
    const key = {};
    this.#waiting.set(key, run);
    return () => this.#waiting.delete(key);
  }
  fireAll(): void {
    for (const [key, run] of [...this.#waiting]) {
      this.#waiting.delete(key);
      run();
    }
  }
}

/** Refuses commit records while `isDown`. */
class MoodyStore extends MemoryStore {
  isDown = false;
  override putIfAbsent(path: string, bytes: Uint8Array): ReturnType<MemoryStore["putIfAbsent"]> {
    if (!this.isDown) return super.putIfAbsent(path, bytes);
    return Promise.reject(new Failure("STORAGE_UNAVAILABLE", { retry: "backoff", message: "down" }));
  }
}

let seed = 0;
class JobManager {
  readonly timers = new HandTimers();
  readonly calls: string[] = [];
  readonly fenced: Failure[] = [];
  /** Outcomes that the test decides. */
  readonly checkpoint = Promise.withResolvers<OperationOutcome>();
  readonly operations: Operations;
  log!: CommitLog;

  constructor() {
    const runners: OperationRunners = {
      cancel: (_request, { isResumed }) => {
        this.calls.push(`cancel${isResumed ? " again" : ""}`);
        return Promise.resolve(undefined);
      },
      checkpoint: (_request, { isResumed }) => {
        this.calls.push(`checkpoint${isResumed ? " again" : ""}`);
        return this.checkpoint.promise;
      },
      savepoint: ({ cancelsJob }, { followedBy }) => {
        this.calls.push("savepoint");
        if (cancelsJob) followedBy(CANCEL);
        return this.checkpoint.promise;
      },
    };
    const host = {
      name: "jm",
      crash: (reason: string): never => {
        throw new Error(reason);
      },
    };
    const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => log };
    this.operations = new Operations({
      env: { timers: this.timers, log: log as never, host: host as never },
      runners,
      onFenced: (failure) => this.fenced.push(failure),
    });
  }

  static async claim(store: MemoryStore, submission = "lin"): Promise<JobManager> {
    const manager = new JobManager();
    seed += 1;
    const request = { jobName: "j", uid: "u", lineage: submission, newLineage: false, mayCreate: true };
    const env = { timers: manager.timers, rng: new SeededRng(seed), clock: { nowMs: () => 0, wallMs: () => 5 } };
    manager.log = (await CommitLog.claim({ store, jobDir: "j", env, request, planDigest: "p", signal: NEVER })).log;
    return manager;
  }

  static async start(store: MemoryStore, submission?: string): Promise<JobManager> {
    const manager = await JobManager.claim(store, submission);
    manager.operations.start(manager.log);
    return manager;
  }

  /** Lets everything go on that waits for nothing but promises. */
  async settle(): Promise<void> {
    for (let i = 0; i < 50; i += 1) await Promise.resolve();
  }

  async outcome(n: number): Promise<OperationOutcome | null | undefined> {
    await this.settle();
    return this.operations.find(id(n))?.outcome;
  }
}

describe("an operation", () => {
  test("is in the log before it begins, and its outcome after it ended", async () => {
    const manager = await JobManager.start(new MemoryStore());
    await manager.operations.request(id(1), CHECKPOINT);
    expect(manager.log.head.ops).toEqual([{ id: id(1), request: CHECKPOINT, outcome: null }]);
    manager.checkpoint.resolve({ type: "done", checkpointId: 7 });
    expect(await manager.outcome(1)).toEqual({ type: "done", checkpointId: 7 });
    expect(manager.log.head.ops).toMatchObject([{ id: id(1), outcome: { checkpointId: 7 } }]);
  });

  test("OP1: is done once however often it is asked for, also at the same time", async () => {
    const manager = await JobManager.start(new MemoryStore());
    await Promise.all([manager.operations.request(id(1), CHECKPOINT), manager.operations.request(id(1), CHECKPOINT)]);
    manager.checkpoint.resolve({ type: "done", checkpointId: 7 });
    await manager.settle();
    await manager.operations.request(id(1), CHECKPOINT);
    expect(manager.calls).toEqual(["checkpoint"]);
  });

  test("OP1: its id stands for nothing else", async () => {
    const manager = await JobManager.start(new MemoryStore());
    const first = manager.operations.request(id(1), CHECKPOINT);
    await expect(manager.operations.request(id(1), CANCEL)).rejects.toMatchObject({ code: "OPERATION_CONFLICT" });
    await first;
    await expect(
      manager.operations.request(id(1), { ...CHECKPOINT, checkpointType: "INCREMENTAL" }),
    ).rejects.toMatchObject({ code: "OPERATION_CONFLICT" });
    expect(manager.calls).toEqual(["checkpoint"]);
  });

  test("that fails says why, for ever", async () => {
    const store = new MemoryStore();
    const manager = await JobManager.start(store);
    await manager.operations.request(id(1), CHECKPOINT);
    manager.checkpoint.reject(new Failure("CHECKPOINT_DECLINED", { retry: "backoff", message: "too slow" }));
    const failed = { type: "failed", failure: { code: "CHECKPOINT_DECLINED", message: "too slow" } };
    expect(await manager.outcome(1)).toMatchObject(failed);
    expect(await (await JobManager.start(store)).outcome(1)).toMatchObject(failed);
  });

  test("the next JobManager knows its outcome and does not repeat it", async () => {
    const store = new MemoryStore();
    const manager = await JobManager.start(store);
    await manager.operations.request(id(1), CHECKPOINT);
    manager.checkpoint.resolve({ type: "done", checkpointId: 7 });
    await manager.settle();
    const next = await JobManager.start(store);
    await next.operations.request(id(1), CHECKPOINT);
    expect(await next.outcome(1)).toEqual({ type: "done", checkpointId: 7 });
    expect(next.calls).toEqual([]);
  });

  test("that was begun only is gone on with by the next JobManager, which the first one learns", async () => {
    const store = new MemoryStore();
    const manager = await JobManager.start(store);
    await manager.operations.request(id(1), CHECKPOINT);
    const next = await JobManager.start(store);
    expect(next.calls).toEqual(["checkpoint again"]);
    manager.checkpoint.resolve({ type: "done", checkpointId: 7 });
    await manager.settle();
    expect(manager.fenced).toMatchObject([{ code: "FENCED" }]);
    expect(await next.outcome(1)).toBeNull();
  });

  test("OP4: is not gone on with when the job is started by somebody again", async () => {
    const store = new MemoryStore();
    const manager = await JobManager.start(store, "first run");
    await manager.operations.request(id(1), CANCEL);
    expect(manager.calls).toEqual(["cancel"]);
    const next = await JobManager.start(store, "second run");
    expect(next.calls).toEqual([]);
    expect(await next.outcome(1)).toMatchObject({ type: "failed", failure: { code: "CANCELED" } });
  });

  test("OJ3: a cancellation after a savepoint is begun by the record of the savepoint, and gone on with by the next JobManager", async () => {
    const store = new MemoryStore();
    const manager = await JobManager.start(store);
    const request = { kind: "savepoint", targetDirectory: null, formatType: "NATIVE", cancelsJob: true } as const;
    await manager.operations.request(id(1), request);
    manager.checkpoint.resolve({ type: "done", location: "mem://s" });
    expect(await manager.outcome(1)).toEqual({ type: "done", location: "mem://s" });
    expect(manager.calls).toEqual(["savepoint", "cancel"]);
    expect(manager.log.head.ops).toMatchObject([{ outcome: { type: "done" } }, { request: CANCEL, outcome: null }]);
    const next = await JobManager.start(store); // the first one died while it was cancelling
    expect(next.calls).toEqual(["cancel again"]);
  });

  test("OJ3: a savepoint that failed cancels nothing", async () => {
    const manager = await JobManager.start(new MemoryStore());
    const request = { kind: "savepoint", targetDirectory: null, formatType: "NATIVE", cancelsJob: true } as const;
    await manager.operations.request(id(1), request);
    manager.checkpoint.reject(new Failure("CHECKPOINT_DECLINED", { retry: "backoff", message: "too slow" }));
    expect(await manager.outcome(1)).toMatchObject({ type: "failed" });
    expect(manager.calls).toEqual(["savepoint"]);
  });

  test("asked for before the log is claimed waits for it, not for ever", async () => {
    const store = new MemoryStore();
    const manager = await JobManager.claim(store);
    const early = manager.operations.request(id(1), CANCEL);
    manager.operations.start(manager.log);
    await early;
    expect(manager.calls).toEqual(["cancel"]);
    const waiting = new JobManager();
    const refused = expect(waiting.operations.request(id(1), CANCEL)).rejects.toMatchObject({ retry: "backoff" });
    waiting.timers.fireAll();
    await refused;
  });
});

describe("a store that is away", () => {
  test("begins nothing but a cancellation", async () => {
    const store = new MoodyStore();
    const manager = await JobManager.start(store);
    store.isDown = true;
    const refused = expect(manager.operations.request(id(1), CHECKPOINT)).rejects.toMatchObject({
      code: "STORAGE_UNAVAILABLE",
    });
    await manager.settle();
    manager.timers.fireAll();
    await refused;
    expect(manager.calls).toEqual([]);
    const cancelling = manager.operations.request(id(2), CANCEL);
    await manager.settle();
    manager.timers.fireAll();
    await cancelling;
    expect(manager.calls).toEqual(["cancel"]);
  });

  test("OJ2: an outcome is told when it is recorded", async () => {
    const store = new MoodyStore();
    const manager = await JobManager.start(store);
    await manager.operations.request(id(1), CHECKPOINT);
    store.isDown = true;
    manager.checkpoint.resolve({ type: "done", checkpointId: 7 });
    expect(await manager.outcome(1)).toBeNull();
    store.isDown = false;
    for (let i = 0; i < 4; i += 1) {
      manager.timers.fireAll();
      await manager.settle();
    }
    expect(await manager.outcome(1)).toMatchObject({ type: "done" });
  });
});

test("OP3: the list is bounded, and what runs stays in it", async () => {
  const manager = new JobManager();
  manager.operations.start(undefined); // OJ4
  for (let n = 1; n <= OPERATIONS_RUNNING_MAX; n += 1) await manager.operations.request(id(n), CANCEL);
  await expect(manager.operations.request(id(99), CANCEL)).rejects.toMatchObject({ code: "OPERATION_CONFLICT" });

  const store = new MemoryStore();
  const other = await JobManager.start(store);
  await other.operations.request(id(1), CANCEL);
  other.checkpoint.resolve({ type: "done", checkpointId: 7 });
  for (let n = 2; n <= OPERATIONS_SETTLED_MAX + 11; n += 1) {
    await other.operations.request(id(n), CHECKPOINT);
    await other.settle();
  }
  expect(other.log.head.ops).toHaveLength(OPERATIONS_SETTLED_MAX + 1);
  expect(await other.outcome(1)).toBeNull();
  expect(await other.outcome(2)).toBeUndefined();
});

test("OP4: the end of the job settles what runs", () => {
  const manager = new JobManager();
  manager.operations.start(undefined);
  return manager.operations.request(id(1), CANCEL).then(async () => {
    await manager.operations.request(id(2), CHECKPOINT);
    manager.operations.end("cancelled");
    expect(await manager.outcome(1)).toEqual({ type: "done" });
    expect(await manager.outcome(2)).toMatchObject({ type: "failed" });
  });
});

describe("OJ5: behind the record of the job's end", () => {
  test("nothing is begun: nobody would settle it", async () => {
    const manager = await JobManager.start(new MemoryStore());
    await manager.log.append(() => ({ jobState: "stopped" }), NEVER);
    for (const request of [CHECKPOINT, CANCEL])
      await expect(manager.operations.request(id(1), request)).rejects.toMatchObject({
        code: "OPERATION_CONFLICT",
        retry: "never",
      });
    expect([manager.calls, manager.log.head.ops]).toEqual([[], []]);
  });

  test("the cancellation of a cancelled job is done at once", async () => {
    const manager = await JobManager.start(new MemoryStore());
    await manager.log.append(() => ({ jobState: "cancelled" }), NEVER);
    await manager.operations.request(id(1), CANCEL);
    expect(manager.log.head.ops).toMatchObject([{ id: id(1), outcome: { type: "done" } }]);
    expect(manager.calls).toEqual([]);
  });

  test("what was asked for before the JobManager knew of the end is refused", async () => {
    const manager = new JobManager();
    const early = manager.operations.request(id(1), CHECKPOINT);
    manager.operations.endedBefore({ ops: [], jobState: "finished" });
    await expect(early).rejects.toMatchObject({ code: "OPERATION_CONFLICT", message: "the job has ended (finished)" });
    expect([manager.calls, await manager.outcome(1)]).toEqual([[], undefined]);
  });
});
