// The end of a task: operators that finish (finish-protocol.ts), and what is published before it (commits.ts).

import { describe, expect, test } from "@jest/globals";

import type { Barrier, CheckpointId, Operator } from "../model/index.ts";
import { Commits } from "./commits.ts";
import { FinishProtocol } from "./finish-protocol.ts";

const id = (n: number): CheckpointId => n as CheckpointId;

function barrier(checkpointId: number, kind: "checkpoint" | "final" | "stop" | "drain" = "checkpoint"): Barrier {
  const location = "file:///savepoint";
  return {
    checkpointId: id(checkpointId),
    timestampMs: 0,
    isFinal: kind === "final" || kind === "drain",
    ...(kind === "stop" || kind === "drain" ? { savepoint: { location, stops: true } } : {}),
  } as Barrier;
}

const link = (operator: Partial<Operator>): { operator: Operator; attribute: (thrown: unknown) => unknown } => ({
  operator: operator as Operator,
  attribute: (thrown) => new Error(`attributed: ${String(thrown)}`),
});

/** A chain of operators with these names; those in `waiting` wait for answers. */
function chain(names: string, waiting = new Set<string>()): { finish: FinishProtocol; seen: string[] } {
  const seen: string[] = [];
  const operators = names.split(" ").map((name) => ({ name, finish: () => void seen.push(name) }));
  const finish = new FinishProtocol({
    chain: operators.map((operator) => link(operator as unknown as Operator)),
    deferred: { holds: (operator) => waiting.has((operator as unknown as { name: string }).name) },
    outputs: { broadcastEndOfData: () => void seen.push("end") },
    onDrained: () => void seen.push("DRAINED"),
  });
  return { finish, seen };
}

describe("FN1: the chain finishes", () => {
  test("head to tail, then the end goes out", () => {
    const { finish, seen } = chain("a b");
    expect([finish.inputEnded, finish.drained]).toEqual([false, false]);
    finish.finishChain();
    expect(seen).toEqual(["a", "b", "end", "DRAINED"]);
    expect([finish.inputEnded, finish.drained]).toEqual([true, true]);
  });

  test("as far as answers are there, and goes on where it stood", () => {
    const waiting = new Set(["b"]);
    const { finish, seen } = chain("a b c", waiting);
    finish.finishChain();
    expect(finish.resume()).toBeUndefined();
    expect([seen, finish.inputEnded, finish.drained]).toEqual([["a"], true, false]);
    waiting.clear();
    expect(finish.resume()).toBeUndefined(); // nobody waits with a barrier
    finish.resume();
    expect([seen, finish.drained]).toEqual([["a", "b", "c", "end", "DRAINED"], true]);
  });

  test("not before the input has ended", () => {
    const { finish, seen } = chain("a");
    finish.resume();
    expect(seen).toEqual([]);
  });

  test("or fails with the operator's name", () => {
    const failing = new FinishProtocol({
      chain: [
        link({
          finish() {
            throw new Error("no");
          },
        }),
      ],
      deferred: { holds: () => false },
      outputs: { broadcastEndOfData: () => expect("the end").toBe("not sent") },
      onDrained: () => expect("DRAINED").toBe("not reached"),
    });
    expect(() => failing.finishChain()).toThrow("attributed: Error: no");
  });
});

describe("FN2: the barrier of a drain", () => {
  test("goes out at once when nothing is missing", () => {
    const { finish, seen } = chain("a");
    expect(finish.passes(barrier(1, "drain"))).toBe(true);
    expect(seen).toEqual(["a", "end", "DRAINED"]);
  });

  test("is held until the last answer was emitted, and given out once", () => {
    const waiting = new Set(["a"]);
    const { finish } = chain("a", waiting);
    expect(finish.passes(barrier(1, "drain"))).toBe(false);
    expect(finish.resume()).toBeUndefined();
    waiting.clear();
    expect(finish.resume()).toEqual(barrier(1, "drain"));
    expect(finish.resume()).toBeUndefined();
  });

  test("is forgotten with its checkpoint", () => {
    const waiting = new Set(["a"]);
    const { finish } = chain("a", waiting);
    finish.passes(barrier(1, "drain"));
    finish.aborted(id(2));
    finish.aborted(id(1));
    waiting.clear();
    expect([finish.resume(), finish.drained]).toEqual([undefined, true]);
  });

  test.each(["checkpoint", "final", "stop"] as const)("is not one of a %s, which ends no input", (kind) => {
    const { finish, seen } = chain("a");
    expect(finish.passes(barrier(1, kind))).toBe(true);
    expect(seen).toEqual([]);
  });
});

/** Words: `end` of the input, `barrier kind:id`, `told id`. What the task is after each. */
function life(script: string): string[] {
  const { finish } = chain("a");
  const commits = new Commits({ chain: [], onFailed: () => Promise.resolve(), onAnswered() {} });
  return script.split(", ").map((words) => {
    const [word, what = ""] = words.split(" ");
    const [kind, n = kind] = what.split(":");
    if (word === "end") finish.finishChain();
    else if (word === "barrier") finish.captured(barrier(Number(n), kind as "final"));
    else commits.tell(id(Number(n)));
    return `${finish.stopped ? "stopped" : "runs"}${finish.isConfirmed(commits) ? ", over" : ""}`;
  });
}

describe("TK6, TK7: a task", () => {
  test("whose input has ended is over with the final checkpoint", () =>
    expect(life("end, barrier checkpoint:1, told 1, barrier final:2, told 2")).toEqual([
      ...["runs", "runs", "runs", "runs"],
      "runs, over",
    ]));
  test("is over with a later checkpoint too: the final one's confirmation was lost", () =>
    expect(life("end, barrier final:2, told 3").at(-1)).toBe("runs, over"));
  test("that is stopped is over with its savepoint, though its input has not ended", () =>
    expect(life("barrier stop:4, told 3, told 4")).toEqual(["stopped", "stopped", "stopped, over"]));
  test("goes on after a final barrier that others' input asked for", () =>
    expect(life("barrier final:1, told 1, end")).toEqual(["runs", "runs", "runs, over"]));
});

describe("commits", () => {
  const make = (
    operators: readonly Partial<Operator>[],
  ): { commits: Commits; log: string[]; told: (n: number) => boolean } => {
    const log: string[] = [];
    const commits = new Commits({
      chain: operators.map(link),
      onFailed: (thrown) => Promise.resolve(void log.push(String(thrown))),
      onAnswered: () => void log.push("answered"),
    });
    return { commits, log, told: (n) => (commits.tell(id(n)), commits.isSettled(id(n))) };
  };

  test("CJ1: operators are told in order; one without side effects is passed over", () => {
    const seen: string[] = [];
    const { told } = make([
      { notifyCheckpointComplete: (n) => void seen.push(`a ${n}`) },
      {},
      { notifyCheckpointComplete: (n) => void seen.push(`b ${n}`) },
    ]);
    expect([told(3), seen]).toEqual([true, ["a 3", "b 3"]]);
  });

  test("CJ2: an answer to an older confirmation that is missing keeps the newest one unsettled", async () => {
    const answers: PromiseWithResolvers<void>[] = [];
    const slow = {
      notifyCheckpointComplete() {
        answers.push(Promise.withResolvers<void>());
        return answers.at(-1)?.promise;
      },
    };
    const { commits, told, log } = make([slow]);
    expect([told(1), told(2)]).toEqual([false, false]);
    answers[1]?.resolve();
    await new Promise((resolve) => setImmediate(resolve));
    expect([log, commits.isSettled(id(2))]).toEqual([["answered"], false]);
    answers[0]?.resolve();
    await new Promise((resolve) => setImmediate(resolve));
    expect([log, commits.isSettled(id(2)), commits.isSettled(id(3))]).toEqual([["answered", "answered"], true, false]);
  });

  test("an answer that is a failure is told before it counts as an answer", async () => {
    const { told, log } = make([{ notifyCheckpointComplete: () => Promise.reject(new Error("disk full")) }]);
    told(1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(log).toEqual(["Error: disk full", "answered"]);
  });

  test("an operator that throws is named, and those behind it are not told", () => {
    const told: string[] = [];
    const { commits } = make([
      {
        notifyCheckpointComplete() {
          throw new Error("no");
        },
      },
      { notifyCheckpointComplete: (n) => void told.push(String(n)) },
    ]);
    expect(() => commits.tell(id(1))).toThrow("attributed: Error: no");
    expect([told, commits.isSettled(id(1))]).toEqual([[], false]);
  });
});
