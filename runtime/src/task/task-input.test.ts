// What a task reads in one step: frames of a gate (gate-input.ts), or records of a source (source-input.ts).

import { describe, expect, test } from "@jest/globals";

import type { Barrier, CheckpointId, SourceStatus } from "../model/index.ts";
import type { ChannelHead, InputGate } from "../network/index.ts";
import type { ChainedOperator } from "./chained-operator.ts";
import type { DeferredResults } from "./deferred.ts";
import type { FinishProtocol } from "./finish-protocol.ts";
import { GateInput } from "./gate-input.ts";
import { SourceInput } from "./source-input.ts";
import { StepBudget } from "./step-budget.ts";
import type { TaskOutputs } from "./task-outputs.ts";

/** Channels as words: `r3` three rows, `b7` a barrier, `f7` a final one, `end`. */
function gateOf(script: readonly string[]): { gate: InputGate; left: () => string[] } {
  const queues = script.map((words) => words.split(" ").filter((word) => word !== ""));
  const heads = queues.map((): { word?: string; head?: ChannelHead } => ({}));
  let turn = 0;
  const headOf = (channel: number): ChannelHead => {
    const word = queues[channel]?.[0] ?? "";
    const cached = heads[channel];
    if (cached?.word === word && cached.head !== undefined) return cached.head;
    const n = Number(word.slice(1));
    const isRows = word.startsWith("r");
    const head = {
      kind: isRows ? "RECORDS" : word === "end" ? "END_OF_DATA" : "BARRIER",
      rowCount: isRows ? n : 0,
      cursor: 0,
      barrier: { checkpointId: n as CheckpointId, timestampMs: 0, isFinal: word.startsWith("f") },
    } as unknown as ChannelHead;
    heads[channel] = { word, head };
    return head;
  };
  const gate = {
    channelCount: queues.length,
    nextReady(blocked: Uint8Array) {
      for (let i = 1; i <= queues.length; i += 1) {
        const channel = (turn + i) % queues.length;
        if (blocked[channel] === 1 || queues[channel]?.length === 0) continue;
        turn = channel;
        return channel;
      }
      return -1;
    },
    head: headOf,
    consume(channel: number) {
      queues[channel]?.shift();
      heads[channel] = {};
    },
  };
  return { gate: gate as unknown as InputGate, left: () => queues.map((words) => words.join(" ")) };
}

/** The rest of the task. `room`: of operators that wait for answers, none if undefined. */
function surroundings(room: number | undefined, drained = false) {
  const seen: string[] = [];
  const clock = { nowMs: () => 0, wallMs: () => 0 };
  const task = { inputEnded: false, drained, rows: room ?? Number.POSITIVE_INFINITY, isEmpty: room === undefined };
  return {
    seen,
    task,
    parts: {
      clock,
      budget: new StepBudget(clock),
      outputs: { hasRoom: true } as unknown as TaskOutputs,
      deferred: task as unknown as DeferredResults,
      finish: Object.assign(task, {
        finishChain() {
          task.inputEnded = true;
          seen.push("ended");
        },
      }) as unknown as FinishProtocol,
    },
  };
}

/** A step over these channels: what happened, and what is left in them. */
function step(
  script: readonly string[],
  options: { readonly room?: number; readonly drained?: boolean; readonly cancels?: number } = {},
): { seen: string[]; left: string[]; worked: boolean } {
  const { gate, left } = gateOf(script);
  const { seen, parts } = surroundings(options.room, options.drained);
  const input = new GateInput({
    ...parts,
    gate,
    headLoops: script.map((_words, channel) => ({
      process: (_rows: unknown, from: number, to: number) => void seen.push(`${channel}: ${to - from} rows`),
    })),
    mode: "EXACTLY_ONCE",
    onAligned: ({ barrier }: { barrier: Barrier }) => void seen.push(`trigger ${barrier.checkpointId}`),
    onGivenUp: (id, failure) => void seen.push(`given up ${id} ${failure.code}`),
  });
  let worked = input.step();
  if (options.cancels !== undefined) {
    input.aborted(options.cancels as CheckpointId);
    worked = input.step();
  }
  return { seen, left: left(), worked };
}

describe("a gate's step", () => {
  test("takes channels in turns, large frames in chunks, which grow while they are quick", () =>
    expect(step(["r300", "r2"])).toEqual({
      seen: ["1: 2 rows", "0: 16 rows", "0: 32 rows", "0: 64 rows", "0: 128 rows", "0: 60 rows"],
      left: ["", ""],
      worked: true,
    }));
  test("GI1: leaves what comes after a barrier until all channels have theirs", () =>
    expect(step(["b7 r1", "r2 r2 b7 r3"]).seen).toEqual([
      ...["1: 2 rows", "1: 2 rows", "trigger 7"],
      ...["0: 1 rows", "1: 3 rows"],
    ]));
  test("GI1: leaves it for good while one is missing", () =>
    expect(step(["b7 r1", "r2"])).toEqual({ seen: ["1: 2 rows"], left: ["r1", ""], worked: true }));
  test("GI1: goes on when the checkpoint is given up elsewhere", () => {
    const { seen, left } = step(["b7 r1", "r2"], { cancels: 7 });
    expect([seen.filter((what) => what.endsWith("rows")), left]).toEqual([
      ["1: 2 rows", "0: 1 rows"],
      ["", ""],
    ]);
  });
  test("declines a checkpoint that a newer barrier supersedes", () =>
    expect(step(["b8", "b7"]).seen).toEqual(["given up 7 CHECKPOINT_SUPERSEDED"]));
  test("GI3: ends the input with the last channel's end; barriers still travel", () =>
    expect(step(["end b7", "r1 end b7"]).seen).toEqual(["1: 1 rows", "ended", "trigger 7"]));
});

describe("GI2: while an operator waits for answers", () => {
  test("rows that it has no room for stay, and nothing was done", () =>
    expect(step(["r3", "r4"], { room: 0 })).toEqual({ seen: [], left: ["r3", "r4"], worked: false }));
  test("a barrier on another channel passes", () =>
    expect(step(["r3", "b7"], { room: 0 })).toMatchObject({ left: ["r3", ""], worked: true }));
  test("no more rows are read than it has room for", () =>
    expect(step(["r300"], { room: 5 }).seen.slice(0, 2)).toEqual(["0: 5 rows", "0: 5 rows"]));
  test("the final barrier stays until everything was emitted", () => {
    expect(step(["f7"], { room: 5 })).toEqual({ seen: [], left: ["f7"], worked: false });
    expect(step(["f7"], { room: 5, drained: true }).seen).toEqual(["trigger 7"]);
  });
});

describe("a source", () => {
  function source(answers: readonly SourceStatus[], wakeAtMs = Number.POSITIVE_INFINITY) {
    const { seen, parts, task } = surroundings(undefined);
    const output = { numRecords: 0, collect() {} };
    const left = [...answers];
    const head = {
      output,
      operator: {
        wakeAtMs,
        poll(rows: number) {
          seen.push(`poll ${rows}`);
          const status = left.shift() ?? "idle";
          if (status === "more") output.numRecords += rows;
          return status;
        },
      },
      attribute: (thrown: unknown) => thrown,
    } as unknown as ChainedOperator;
    return { input: new SourceInput({ ...parts, head }), seen, task };
  }

  test("is polled until it is idle, and worked if it emitted", () => {
    const { input, seen } = source(["more", "more", "idle"]);
    expect([input.step(0), seen.length]).toEqual([true, 3]);
    expect(input.step(1_000)).toBe(false);
  });
  test("SY1: that is idle is not asked before its time", () => {
    const { input, seen } = source(["idle", "more"], 500);
    expect([input.step(100), input.wakeAtMs, input.step(499), seen.length]).toEqual([false, 500, false, 1]);
    expect([input.step(500), seen.length]).toEqual([true, 3]);
  });
  test("SY1: that is idle is asked at once when somebody says that it is ready", () => {
    const { input } = source(["idle", "more"]);
    input.step(100);
    expect(input.step(200)).toBe(false);
    input.ready();
    expect([input.wakeAtMs, input.step(300)]).toEqual([Number.POSITIVE_INFINITY, true]);
  });
  test("SY2: that has finished ends the input and is not asked again", () => {
    const { input, seen } = source(["finished"]);
    expect([input.step(1), input.step(2), seen]).toEqual([true, false, ["poll 8", "ended"]]);
  });
  test("is not asked while an operator behind it has no room", () => {
    const { input, task, seen } = source(["more"]);
    task.rows = 0;
    expect([input.step(1), seen]).toEqual([false, []]);
  });
});
