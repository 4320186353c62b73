// The scheduler's decisions: tables for the cases people ask about, a property over random clusters, placement, restart strategies.

import { describe, expect, test } from "@jest/globals";
import { Failure, SeededRng } from "@sluice/kit";
import fc from "fast-check";

import type { RestartSettings } from "../model/configuration/index.ts";
import type { AttemptNumber, JobPlan, PlanVertex, SubtaskId, TaskState } from "../model/index.ts";
import { isExecutionTerminal, jobTransition, NEXT_EXECUTION_STATES, NEXT_JOB_STATES } from "./job-state.ts";
import { placeSlots, slotsRequired, subtasksOfSlot } from "./placement.ts";
import { isTerminal } from "./rest/source.ts";
import type { JobStatus } from "./rest/source.ts";
import { RestartStrategy } from "./restart-strategy.ts";
import type { RestartDecision } from "./restart-strategy.ts";
import { initialSchedulerState, schedule } from "./scheduler.ts";
import type { SchedulerEffect, SchedulerEvent, SchedulerState } from "./scheduler.ts";

function vertex(id: string, parallelism: number, inputs: readonly string[] = []): PlanVertex {
  return {
    id,
    name: id,
    parallelism,
    maxParallelism: 128,
    chain: [],
    inputs: inputs.map((sourceVertexId, i) => ({
      id: i,
      sourceVertexId,
      targetVertexId: id,
      inputIndex: 0,
      partitioning: "HASH",
      type: { kind: "LONG" },
    })),
    splits: [],
  };
}

const PLAN: JobPlan = {
  formatVersion: 0,
  jobName: "j",
  digest: "d",
  arguments: [],
  configuration: {},
  vertices: [vertex("src", 2), vertex("sum", 2, ["src"])],
};

/** The same job with as many subtasks of each vertex. */
const planOf = (parallelism: number): JobPlan => ({
  ...PLAN,
  vertices: PLAN.vertices.map((one) => ({ ...one, parallelism })),
});

const failure = (code: Failure["code"] = "USER_FUNCTION_FAILED", retry: Failure["retry"] = "backoff"): Failure =>
  new Failure(code, { retry, message: code });

/** Drives the scheduler by words; collects effects as words. */
class Driver {
  state: SchedulerState = initialSchedulerState(PLAN);
  localBytes: ReadonlyMap<number, ReadonlyMap<string, number>> = new Map();
  missesCopies = false;
  decision: RestartDecision = { type: "restart", delayMs: 0 };
  readonly effects: SchedulerEffect[] = [];

  send(event: SchedulerEvent): readonly SchedulerEffect[] {
    const [next, effects] = schedule(this.state, event, {
      decideRestart: () => this.decision,
      missesCopies: () => this.missesCopies,
      localBytes: (slot) => this.localBytes.get(slot) ?? new Map<string, number>(),
    });
    this.state = next;
    this.effects.push(...effects);
    return effects;
  }

  get attempt(): AttemptNumber {
    return this.state.attempt;
  }

  register(...ids: readonly string[]): void {
    for (const id of ids) this.send({ type: "registered", taskManager: { id, slotCount: 1 } });
  }

  prepared(): void {
    this.send({ type: "prepared", attempt: this.attempt });
  }

  tasks(state: TaskState, only?: (subtask: SubtaskId) => boolean): void {
    for (let slot = 0; slot < slotsRequired(PLAN); slot += 1) {
      for (const subtask of subtasksOfSlot(PLAN, slot)) {
        if (only?.(subtask) !== false) this.task(subtask, state);
      }
    }
  }

  task(subtask: SubtaskId, state: TaskState, cause?: Failure): void {
    this.send({ type: "taskState", attempt: this.attempt, subtask, state, failure: cause });
  }

  /** A job with everything RUNNING on a and b. */
  static running(): Driver {
    const driver = new Driver();
    driver.send({ type: "started" });
    driver.prepared();
    driver.register("a", "b");
    driver.tasks("INITIALIZING");
    driver.tasks("RUNNING");
    driver.effects.length = 0;
    return driver;
  }

  words(): string {
    return this.effects
      .map((effect) =>
        effect.type === "close"
          ? `close:${effect.as}`
          : effect.type === "jobEnded"
            ? `ended:${effect.as}`
            : effect.type === "cancelAttempt"
              ? `cancel:${effect.taskManagerIds.join("+")}`
              : effect.type === "deploy"
                ? `deploy:${effect.attempt}@${effect.owners.join("+")}`
                : effect.type === "prepare"
                  ? `prepare:${effect.attempt}`
                  : effect.type,
      )
      .join(" ");
  }
}

const S0: SubtaskId = { vertexId: "src", subtaskIndex: 0 };

describe("the life of a job", () => {
  test("PL4, SC6: slots go to copies; the first attempt waits once for who may still bring some, later ones do not", () => {
    const driver = new Driver();
    driver.localBytes = new Map([[1, new Map([["a", 9]])]]);
    driver.missesCopies = true;
    driver.send({ type: "started" });
    driver.register("a", "b");
    driver.prepared();
    driver.register("c"); // without copies: the wait goes on
    expect(driver.words()).toBe("prepare:0 armCopiesWait");
    driver.localBytes = new Map([...driver.localBytes, [0, new Map([["d", 5]])]]);
    driver.missesCopies = false;
    driver.register("d");
    expect(driver.words()).toBe("prepare:0 armCopiesWait deploy:0@d+a");
    driver.send({ type: "copiesWaitOver" });
    driver.missesCopies = true;
    driver.effects.length = 0;
    driver.send({ type: "lost", taskManagerId: "d", failure: failure("PEER_LOST") });
    driver.send({ type: "attemptEnded", attempt: 0 as AttemptNumber, taskManagerId: "a" });
    driver.prepared();
    expect(driver.words()).toMatch(/deploy:1@b\+a$/u);

    const late = new Driver();
    late.missesCopies = true;
    late.send({ type: "started" });
    late.register("a", "b");
    late.prepared();
    late.send({ type: "copiesWaitOver" });
    expect(late.words()).toBe("prepare:0 armCopiesWait deploy:0@a+b");
  });

  test("SC2: it is deployed once it is prepared and there are enough slots, in any order", () => {
    const first = new Driver();
    first.send({ type: "started" });
    first.register("a");
    first.prepared();
    expect(first.words()).toBe("prepare:0 noSlots");
    expect(first.state.missingSlotCount).toBe(1);
    first.register("b");
    expect(first.words()).toBe("prepare:0 noSlots deploy:0@a+b");

    const second = new Driver();
    second.send({ type: "started" });
    second.register("a", "b");
    expect(second.words()).toBe("prepare:0");
    second.prepared();
    expect(second.words()).toBe("prepare:0 deploy:0@a+b");
  });

  test("SC5: it is FINISHED after all tasks finished and the log was closed", () => {
    const driver = Driver.running();
    driver.tasks("DRAINED");
    expect(driver.words()).toBe("sourceEnded sourceEnded");
    driver.tasks("FINISHED");
    expect(driver.words()).toMatch(/close:FINISHED$/u);
    expect(driver.state.job).toBe("RUNNING");
    driver.send({ type: "attemptEnded", attempt: driver.attempt, taskManagerId: "a" });
    driver.send({ type: "lost", taskManagerId: "b", failure: failure("PEER_LOST") });
    driver.send({ type: "cancelRequested" });
    expect(driver.words()).toMatch(/close:FINISHED$/u);
    driver.send({ type: "closed", as: "FINISHED" });
    expect(driver.words()).toMatch(/ended:FINISHED$/u);
    expect(driver.state.job).toBe("FINISHED");
  });

  test("SC1: a failed task cancels the attempt everywhere; the next one waits for both TaskManagers", () => {
    const driver = Driver.running();
    driver.task(S0, "FAILED", failure());
    expect(driver.words()).toBe("recordException restarting cancel:a+b prepare:1");
    expect(driver.state.job).toBe("RESTARTING");
    driver.prepared();
    driver.send({ type: "attemptEnded", attempt: 0 as AttemptNumber, taskManagerId: "a" });
    expect(driver.words()).not.toMatch(/deploy/u);
    driver.send({ type: "attemptEnded", attempt: 0 as AttemptNumber, taskManagerId: "b" });
    expect(driver.words()).toMatch(/deploy:1@a\+b$/u);
    expect(driver.state.job).toBe("RUNNING");
  });

  test("SC4: failures that follow from the first are not counted", () => {
    const driver = Driver.running();
    driver.task(S0, "FAILED", failure());
    driver.task({ vertexId: "sum", subtaskIndex: 1 }, "FAILED", failure("PEER_LOST"));
    driver.send({ type: "jobFailure", failure: failure("CHECKPOINT_EXPIRED") });
    expect(driver.effects.filter(({ type }) => type === "recordException")).toHaveLength(1);
    expect(driver.attempt).toBe(1);
  });

  test("a lost TaskManager restarts the job; with a spare one at once, else when a slot is there", () => {
    const driver = Driver.running();
    driver.send({ type: "lost", taskManagerId: "b", failure: failure("PEER_LOST") });
    expect(driver.words()).toBe("recordException restarting cancel:a prepare:1");
    driver.prepared();
    driver.send({ type: "attemptEnded", attempt: 0 as AttemptNumber, taskManagerId: "a" });
    expect(driver.words()).toMatch(/noSlots$/u);
    driver.register("c");
    expect(driver.words()).toMatch(/deploy:1@a\+c$/u);
  });

  test("a TaskManager that cancels its tasks by itself is a failure of the attempt", () => {
    const driver = Driver.running();
    driver.task(S0, "CANCELED");
    expect(driver.words()).toMatch(/^recordException restarting cancel:a\+b/u);
  });

  test("a TaskManager whose threads end before their tasks finished is a failure of the attempt", () => {
    const driver = Driver.running();
    driver.send({ type: "attemptEnded", attempt: driver.attempt, taskManagerId: "a" });
    expect(driver.words()).toMatch(/^recordException restarting cancel:b/u);
  });

  test("the restart delay and the preparation both have to be over", () => {
    const driver = Driver.running();
    driver.decision = { type: "restart", delayMs: 500 };
    driver.task(S0, "FAILED", failure());
    expect(driver.words()).toMatch(/prepare:1 armDelay$/u);
    for (const id of ["a", "b"]) driver.send({ type: "attemptEnded", attempt: 0 as AttemptNumber, taskManagerId: id });
    driver.prepared();
    expect(driver.words()).not.toMatch(/deploy/u);
    driver.send({ type: "delayOver", attempt: driver.attempt });
    expect(driver.words()).toMatch(/deploy:1/u);
  });

  test("without restarts the job fails, after its tasks are gone", () => {
    const driver = Driver.running();
    driver.decision = { type: "fail", reason: "none" };
    driver.task(S0, "FAILED", failure());
    expect(driver.words()).toBe("recordException cancel:a+b");
    expect(driver.state.job).toBe("FAILING");
    for (const id of ["a", "b"]) driver.send({ type: "attemptEnded", attempt: driver.attempt, taskManagerId: id });
    driver.send({ type: "closed", as: "FAILED" });
    expect(driver.words()).toMatch(/close:FAILED ended:FAILED$/u);
  });

  test("a checkpoint that cannot be restored fails the job with that reason", () => {
    const driver = Driver.running();
    driver.task(S0, "FAILED", failure());
    driver.send({ type: "prepareFailed", attempt: driver.attempt, failure: failure("SNAPSHOT_DAMAGED", "never") });
    for (const id of ["a", "b"]) driver.send({ type: "attemptEnded", attempt: 0 as AttemptNumber, taskManagerId: id });
    driver.send({ type: "closed", as: "FAILED" });
    expect(driver.effects.at(-1)).toMatchObject({ type: "jobEnded", failure: { code: "SNAPSHOT_DAMAGED" } });
  });

  test.each([
    ["while it runs", () => Driver.running(), "cancel:a+b"],
    [
      "before it has slots",
      (): Driver => {
        const driver = new Driver();
        driver.send({ type: "started" });
        driver.effects.length = 0;
        return driver;
      },
      "close:CANCELED",
    ],
  ])("cancel %s", (_, start, first) => {
    const driver = start();
    driver.send({ type: "cancelRequested" });
    expect(driver.words()).toBe(first);
    for (const id of driver.state.deployment?.active ?? []) {
      driver.send({ type: "attemptEnded", attempt: driver.attempt, taskManagerId: id });
    }
    driver.send({ type: "closed", as: "CANCELED" });
    expect(driver.words()).toMatch(/close:CANCELED ended:CANCELED$/u);
  });

  test("SC3: what an older attempt says changes nothing", () => {
    const driver = Driver.running();
    driver.task(S0, "FAILED", failure());
    for (const id of ["a", "b"]) driver.send({ type: "attemptEnded", attempt: 0 as AttemptNumber, taskManagerId: id });
    driver.prepared();
    const before = driver.state;
    driver.send({ type: "taskState", attempt: 0 as AttemptNumber, subtask: S0, state: "FAILED", failure: failure() });
    driver.send({ type: "attemptEnded", attempt: 0 as AttemptNumber, taskManagerId: "a" });
    driver.send({ type: "prepared", attempt: 0 as AttemptNumber });
    expect(driver.state).toBe(before);
  });

  test("a deployment that a TaskManager refused is tried as the next attempt", () => {
    const driver = new Driver();
    driver.send({ type: "started" });
    driver.prepared();
    driver.register("a", "b");
    driver.send({ type: "deployFailed", attempt: driver.attempt, taskManagerId: "a", failure: failure("NO_SLOTS") });
    // Also "a": when only its answer was late, what it was told to deploy begins as soon as older threads are gone.
    expect(driver.words()).toMatch(/cancel:a recordException restarting cancel:b prepare:1$/u);
  });
});

describe("SC7: another parallelism", () => {
  const tasksOf = (driver: Driver): string => [...driver.state.executions.keys()].toSorted().join(" ");

  test("of a running job: what is deployed ends, then the next attempt has the new tasks", () => {
    const driver = Driver.running();
    driver.register("c");
    driver.send({ type: "rescaled", plan: planOf(3) });
    expect(driver.words()).toBe("rescaling cancel:a+b prepare:1");
    expect([driver.state.job, tasksOf(driver)]).toEqual(["RESTARTING", "src/0 src/1 sum/0 sum/1"]);
    driver.prepared();
    driver.task(S0, "CANCELED");
    for (const id of ["a", "b"]) driver.send({ type: "attemptEnded", attempt: 0 as AttemptNumber, taskManagerId: id });
    expect(driver.words()).toBe("rescaling cancel:a+b prepare:1 deploy:1@a+b+c");
    expect([driver.state.job, tasksOf(driver)]).toEqual(["RUNNING", "src/0 src/1 src/2 sum/0 sum/1 sum/2"]);
  });

  test("of a job that waits for slots it does not get: prepared again, and deployed on what is there", () => {
    const driver = Driver.running();
    driver.decision = { type: "restart", delayMs: 60_000 };
    driver.send({ type: "lost", taskManagerId: "b", failure: failure("PEER_LOST") });
    driver.send({ type: "attemptEnded", attempt: 0 as AttemptNumber, taskManagerId: "a" });
    driver.prepared();
    driver.effects.length = 0;
    driver.send({ type: "rescaled", plan: planOf(1) });
    driver.send({ type: "delayOver", attempt: 1 as AttemptNumber }); // SC3
    driver.send({ type: "prepared", attempt: 1 as AttemptNumber });
    expect(driver.words()).toBe("rescaling prepare:2");
    driver.prepared();
    expect(driver.words()).toBe("rescaling prepare:2 deploy:2@a");
  });

  test("asked for twice before the old attempt is gone: the newest counts", () => {
    const driver = Driver.running();
    driver.send({ type: "rescaled", plan: planOf(3) });
    driver.send({ type: "rescaled", plan: planOf(1) });
    for (const id of ["a", "b"]) driver.send({ type: "attemptEnded", attempt: 0 as AttemptNumber, taskManagerId: id });
    driver.prepared();
    expect(driver.words()).toBe("rescaling cancel:a+b prepare:1 rescaling prepare:2 deploy:2@a");
  });

  test.each(["cancelRequested", "suspendRequested"] as const)("after %s it changes nothing", (type) => {
    const driver = Driver.running();
    driver.send({ type });
    const before = driver.state;
    driver.send({ type: "rescaled", plan: planOf(1) });
    expect(driver.state).toBe(before);
  });

  test("of a job that has finished it changes nothing", () => {
    const driver = Driver.running();
    driver.tasks("FINISHED");
    const before = driver.state;
    driver.send({ type: "rescaled", plan: planOf(1) });
    expect(driver.state).toBe(before);
  });

  test("that the log asks for already is the first attempt's", () => {
    const driver = new Driver();
    driver.send({ type: "started", plan: planOf(1) });
    driver.register("a");
    driver.prepared();
    expect(driver.words()).toBe("prepare:0 deploy:0@a");
    expect(tasksOf(driver)).toBe("src/0 sum/0");
  });
});

test("SC1, SC2, SC5, SC7: whatever a cluster does, and once it stops doing it, the job finishes", () => {
  const ids = ["a", "b", "c"];
  const action = fc.oneof(
    { weight: 3, arbitrary: fc.record({ do: fc.constant("register" as const), id: fc.constantFrom(...ids) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("lose" as const), id: fc.constantFrom(...ids) }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant("prepared" as const) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("delay" as const) }) },
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constant("task" as const),
        slot: fc.nat(2),
        vertex: fc.constantFrom("src", "sum"),
        state: fc.constantFrom<TaskState>("INITIALIZING", "RUNNING", "DRAINED", "FAILED", "FINISHED"),
      }),
    },
    { weight: 6, arbitrary: fc.record({ do: fc.constant("ended" as const), id: fc.constantFrom(...ids) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("jobFailure" as const) }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant("rescale" as const), parallelism: fc.integer({ min: 1, max: 3 }) }),
    },
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), fc.boolean(), (actions, delays) => {
      const driver = new Driver();
      driver.decision = { type: "restart", delayMs: delays ? 100 : 0 };
      /** Attempts whose threads live, by TaskManager. */
      const alive = new Map<string, AttemptNumber>();
      const registered = new Set<string>();
      const cancelled = new Set<string>();
      const prepares = new Set<number>();
      let wanted = 2;
      const send = (event: SchedulerEvent): void => {
        for (const effect of driver.send(event)) {
          if (effect.type === "prepare") prepares.add(effect.attempt);
          if (effect.type === "cancelAttempt") for (const id of effect.taskManagerIds) cancelled.add(id);
          if (effect.type !== "deploy") continue;
          expect(prepares.has(effect.attempt)).toBe(true);
          expect(effect.owners).toHaveLength(wanted);
          expect(driver.state.executions.size).toBe(2 * wanted);
          for (const id of effect.owners) {
            expect(registered.has(id)).toBe(true);
            expect(alive.has(id)).toBe(false); // SC1
            alive.set(id, effect.attempt);
            cancelled.delete(id);
          }
        }
      };
      const endOf = (id: string): void => {
        const attempt = alive.get(id);
        if (attempt === undefined || !cancelled.has(id)) return;
        alive.delete(id);
        send({ type: "attemptEnded", attempt, taskManagerId: id });
      };
      send({ type: "started" });
      for (const a of actions) {
        if (driver.state.job === "FAILING") break;
        switch (a.do) {
          case "register":
            if (!registered.has(a.id)) {
              registered.add(a.id);
              send({ type: "registered", taskManager: { id: a.id, slotCount: 1 } });
            }
            break;
          case "lose":
            if (registered.delete(a.id)) {
              alive.delete(a.id);
              send({ type: "lost", taskManagerId: a.id, failure: failure("PEER_LOST") });
            }
            break;
          case "prepared":
            send({ type: "prepared", attempt: driver.attempt });
            break;
          case "delay":
            send({ type: "delayOver", attempt: driver.attempt });
            break;
          case "task": {
            const owner = driver.state.deployment?.owners[a.slot];
            if (owner === undefined || !alive.has(owner) || a.state === "FINISHED") break;
            const subtask = { vertexId: a.vertex, subtaskIndex: a.slot };
            send({
              type: "taskState",
              attempt: alive.get(owner) as AttemptNumber,
              subtask,
              state: a.state,
              failure: failure(),
            });
            break;
          }
          case "ended":
            endOf(a.id);
            break;
          case "rescale":
            wanted = a.parallelism;
            send({ type: "rescaled", plan: planOf(wanted) });
            break;
          case "jobFailure":
            send({ type: "jobFailure", failure: failure("CHECKPOINT_EXPIRED") });
            break;
        }
        expect(isTerminal(driver.state.job)).toBe(false);
      }
      // The cluster becomes healthy.
      for (let round = 0; round < 4; round += 1) {
        for (const id of alive.keys()) endOf(id);
        for (const id of ids) {
          if (registered.has(id)) continue;
          registered.add(id);
          send({ type: "registered", taskManager: { id, slotCount: 1 } });
        }
        send({ type: "prepared", attempt: driver.attempt });
        send({ type: "delayOver", attempt: driver.attempt });
      }
      for (const state of ["INITIALIZING", "RUNNING", "DRAINED", "FINISHED"] as const) {
        for (let slot = 0; slot < wanted; slot += 1) {
          for (const subtask of subtasksOfSlot(planOf(wanted), slot))
            send({ type: "taskState", attempt: driver.attempt, subtask, state, failure: undefined });
        }
      }
      expect(driver.words()).toMatch(/close:FINISHED/u);
      send({ type: "closed", as: "FINISHED" });
      expect(driver.state.job).toBe("FINISHED");
      expect([...driver.state.executions.values()].every((state) => state === "FINISHED")).toBe(true);
    }),
    { numRuns: 400 },
  );
});

describe("state tables", () => {
  test("JS2: nothing leaves a globally terminal state; every other state leads somewhere", () => {
    for (const [state, next] of Object.entries(NEXT_JOB_STATES)) {
      const isEnd = isTerminal(state as JobStatus) || state === "SUSPENDED" || state === "RECONCILING";
      expect([state, next.length === 0]).toEqual([state, isEnd]);
    }
    for (const [state, next] of Object.entries(NEXT_EXECUTION_STATES)) {
      const isEnd = isExecutionTerminal(state as keyof typeof NEXT_EXECUTION_STATES) || state === "RECONCILING";
      expect([state, next.length === 0]).toEqual([state, isEnd]);
    }
  });

  test("JS1: a transition that is not listed stops the process", () => {
    expect(jobTransition("RUNNING", "RESTARTING")).toBe("RESTARTING");
    // @ts-expect-error the compiler knows it as well
    expect(() => jobTransition("FINISHED", "RUNNING")).toThrow(/JS1/u);
  });
});

describe("placement", () => {
  test.each([
    [2, "a:1 b:1", "a b"],
    [2, "a:4 b:4", "a b"],
    [4, "a:4 b:1", "a b a a"],
    [3, "b:2 a:2", "a b a"],
    [3, "a:1 b:1", ""],
    [0, "", ""],
  ])("%i slots over %s", (slots, offers, expected) => {
    const taskManagers =
      offers === ""
        ? []
        : offers.split(" ").map((offer) => ({ id: offer.slice(0, 1), slotCount: Number(offer.slice(2)) }));
    expect((placeSlots(slots, taskManagers) ?? []).join(" ")).toBe(expected);
  });

  test.each([
    // slots, offers, local bytes as slot:taskManager:bytes
    [2, "a:1 b:1", "0:b:10 1:a:10", "b a"],
    [2, "a:1 b:1", "0:b:10", "b a"],
    [2, "a:1 b:1", "1:a:1", "b a"],
    [2, "a:1 b:1 c:1", "0:c:5 1:b:5", "c b"], // spare ones stay spare
    [2, "a:2 b:2", "0:b:5 1:b:9", "a b"], // PL2 before PL4: b is full after the slot that gains most
    [3, "a:2 b:2", "0:b:1 1:b:1 2:b:1", "b b a"], // the one slot more goes to the copies
    [2, "a:1 b:1", "0:a:1 0:b:9 1:b:5", "b a"],
    [2, "a:1 b:1", "0:gone:9", "a b"],
    [4, "a:4 b:1", "3:b:7", "a a a b"],
  ])("PL4: %i slots over %s with copies %s", (slots, offers, copies, expected) => {
    const taskManagers = offers
      .split(" ")
      .map((offer) => ({ id: offer.slice(0, 1), slotCount: Number(offer.slice(2)) }));
    const local = copies.split(" ").map((copy) => copy.split(":"));
    const bytes = (slot: number): ReadonlyMap<string, number> =>
      new Map(local.filter(([at]) => Number(at) === slot).map(([, id = "", size]) => [id, Number(size)]));
    expect((placeSlots(slots, taskManagers, bytes) ?? []).join(" ")).toBe(expected);
  });

  test("PL1, PL2, PL3: never too many, as even as can be, always the same", () => {
    fc.assert(
      fc.property(
        fc.nat(12),
        fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 6 }),
        fc.nat(),
        (slots, sizes, salt) => {
          const taskManagers = sizes.map((slotCount, i) => ({ id: `tm-${i}`, slotCount }));
          // Some copies of some slots, the same ones at every call.
          const local = (slot: number): ReadonlyMap<string, number> =>
            new Map(taskManagers.map(({ id }, i) => [id, (salt >>> ((slot + i) % 20)) & 3]));
          const owners = placeSlots(slots, taskManagers, local);
          expect(placeSlots(slots, taskManagers.toReversed(), local)).toEqual(owners);
          const total = sizes.reduce((sum, size) => sum + size, 0);
          expect(owners === undefined).toBe(total < slots);
          if (owners === undefined) return;
          const used = taskManagers.map(({ id, slotCount }) => ({
            count: owners.filter((owner) => owner === id).length,
            slotCount,
          }));
          for (const { count, slotCount } of used) expect(count).toBeLessThanOrEqual(slotCount);
          const most = Math.max(0, ...used.map(({ count }) => count));
          for (const { count, slotCount } of used)
            if (count < slotCount) expect(count).toBeGreaterThanOrEqual(most - 1);
        },
      ),
    );
  });
});

describe("restart strategies", () => {
  const exponential: RestartSettings = {
    type: "exponential-delay",
    initialMs: 1_000,
    maxMs: 60_000,
    multiplier: 1.5,
    jitter: 0,
    resetAfterMs: 3_600_000,
    attemptsMax: Number.POSITIVE_INFINITY,
    firstAtOnce: true,
  };

  /** Failures one second apart unless `atMs` says otherwise; the delays, or "fail". */
  function check(settings: RestartSettings, atMs: readonly number[], expected: string): void {
    const strategy = new RestartStrategy(settings, new SeededRng(1));
    const seen = atMs.map((nowMs) => {
      const decision = strategy.onFailure(failure(), nowMs);
      return decision.type === "restart" ? String(decision.delayMs) : "fail";
    });
    expect(seen.join(" ")).toBe(expected);
  }

  test("RS2: exponential delay, the first restart at once", () =>
    check(exponential, [0, 10, 2_000, 9_000], "0 1000 1500 2250"));
  test("exponential delay as Flink has it", () =>
    check({ ...exponential, firstAtOnce: false }, [0, 1_000, 9_000], "1000 1500 2250"));
  test("exponential delay ends at its maximum", () =>
    check({ ...exponential, maxMs: 1_600 }, [0, 1, 2, 3, 4], "0 1000 1500 1600 1600"));
  test("RS2: a quiet time resets it", () => check(exponential, [0, 10, 4_000_000, 4_000_010], "0 1000 0 1000"));
  test("RS3: attempts are counted", () => check({ ...exponential, attemptsMax: 2 }, [0, 10, 20], "0 1000 fail"));
  test("fixed delay", () => check({ type: "fixed-delay", attemptsMax: 2, delayMs: 700 }, [0, 1, 2], "700 700 fail"));
  test("RS4: failure rate: more failures within the interval than it allows", () => {
    const rate = { type: "failure-rate", failuresMax: 2, intervalMs: 1_000, delayMs: 50 } as const;
    check(rate, [0, 400, 1_000], "50 50 fail");
    check(rate, [0, 400, 1_001, 1_401, 2_402], "50 50 50 50 50"); // never three within a second
    check(rate, [0, 900, 1_100, 1_500], "50 50 50 fail"); // the interval ends with the newest failure
    check({ ...rate, failuresMax: 1 }, [0, 1_001, 2_001], "50 50 fail");
  });
  test("none", () => check({ type: "none" }, [0], "fail"));

  test.each([
    ["RECORD_MALFORMED", "never", "fail"],
    ["PLAN_MISMATCH", "never", "fail"],
    ["USER_FUNCTION_FAILED", "backoff", "restart"],
    ["USER_FUNCTION_FAILED", "never", "restart"],
    ["SNAPSHOT_DAMAGED", "backoff", "restart"],
    ["PEER_LOST", "backoff", "restart"],
    ["INTERNAL", "never", "restart"],
  ] as const)("RS1: %s with retry %s: %s", (code, retry, expected) => {
    expect(new RestartStrategy(exponential, new SeededRng(1)).onFailure(failure(code, retry), 0).type).toBe(expected);
  });
});
