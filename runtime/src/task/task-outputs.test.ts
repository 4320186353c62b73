import { expect, test } from "@jest/globals";

import type { Barrier, CheckpointId, Operator } from "../model/index.ts";
import type { RecordWriter } from "../network/index.ts";
import { TaskOutputs } from "./task-outputs.ts";

/** An output edge that becomes free after so many attempts to drain it; 0: it is. */
function edge(drainsLeft: number, seen: string[] = [], name = "edge"): RecordWriter {
  let left = drainsLeft;
  const writer = {
    get available(): boolean {
      return left === 0;
    },
    drain() {
      seen.push(`${name} drained`);
      left -= 1;
      return left === 0;
    },
    flush: () => seen.push(`${name} flushed`),
    broadcastBarrier: ({ checkpointId }: Barrier) => seen.push(`${name} barrier ${checkpointId}`),
    broadcastEndOfData: () => seen.push(`${name} end`),
    bytesWritten: 10,
  };
  return writer as unknown as RecordWriter;
}

const operator = (isAvailable?: boolean): Operator =>
  (isAvailable === undefined ? {} : { isAvailable }) as unknown as Operator;

test.each<[what: string, edges: readonly number[], operators: readonly Operator[], hasRoom: boolean]>([
  ["a sink, which has no output edge", [], [operator()], true],
  ["free edges", [0, 0], [operator(), operator(true)], true],
  ["one full edge among free ones", [0, 1, 0], [operator()], false],
  ["TO1: one full operator", [0], [operator(), operator(false)], false],
])("TK3: room with %s", (_what, edges, operators, hasRoom) => {
  const outputs = new TaskOutputs(
    edges.map((drains) => edge(drains)),
    operators,
  );
  expect(outputs.hasRoom).toBe(hasRoom);
});

test("TK3: every full edge is drained as far as it can be, also behind one that stays full; free ones are left alone", () => {
  const seen: string[] = [];
  const outputs = new TaskOutputs([edge(2, seen, "a"), edge(1, seen, "b"), edge(0, seen, "c")], []);
  expect([outputs.drain(), outputs.hasRoom]).toEqual([false, false]);
  expect([outputs.drain(), outputs.hasRoom]).toEqual([true, true]);
  expect(seen).toEqual(["a drained", "b drained", "a drained"]);
});

test("TO1: an operator may become full and free again", () => {
  const gated = { isAvailable: true };
  const outputs = new TaskOutputs([edge(0)], [gated as unknown as Operator]);
  expect([outputs.hasRoom, outputs.drain()]).toEqual([true, true]);
  gated.isAvailable = false;
  expect([outputs.hasRoom, outputs.drain()]).toEqual([false, false]);
});

test("TO2: barriers and the end go to every edge", () => {
  const seen: string[] = [];
  const outputs = new TaskOutputs([edge(0, seen, "a"), edge(1, seen, "b")], []);
  outputs.broadcastBarrier({ checkpointId: 7 as CheckpointId, timestampMs: 0, isFinal: false });
  outputs.flush();
  outputs.broadcastEndOfData();
  expect(seen).toEqual(["a barrier 7", "b barrier 7", "a flushed", "b flushed", "a end", "b end"]);
  expect(outputs.bytesWritten).toBe(20);
});
