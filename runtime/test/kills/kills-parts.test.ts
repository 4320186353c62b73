import { describe, expect, test } from "@jest/globals";
import { SeededRng } from "@sluice/kit";

import { audit, auditTheAuditor, parseOutput } from "./auditor.ts";
import type { OutputRecord } from "./auditor.ts";
import { isCounted, replayedPerKill } from "./evidence.ts";
import { drawInputs, expectationOf } from "./model.ts";
import { KILL_KINDS, planKills, taskManagerCount } from "./scenario.ts";

const SIZES = { floodCount: 400, trickleCount: 100, keyCount: 7 };

/** What a correct job could write for this seed: any interleaving of the inputs. */
function correctOutput(seed: number): OutputRecord[] {
  const { flood, trickle } = drawInputs(seed, SIZES);
  const rng = new SeededRng(seed).fork("interleave");
  const queues = [[...flood], [...trickle]];
  const sums = new Map<number, number>();
  const output: OutputRecord[] = [];
  while (queues.some((queue) => queue.length > 0)) {
    const record = queues[rng.below(2)]?.shift();
    if (record === undefined) continue;
    const sum = (sums.get(record.key) ?? 0) + record.increment;
    sums.set(record.key, sum);
    output.splice(rng.below(output.length + 1), 0, [record.key, record.increment, sum, record.position]);
  }
  return output;
}

describe("the auditor", () => {
  const expected = expectationOf(drawInputs(3, SIZES));
  const good = correctOutput(3);
  const [first] = good as [OutputRecord];
  const [key, increment, sum, position] = first;

  test("AU1, AU2: a correct output passes, in any order", () => {
    for (const guarantee of ["exactly-once", "at-least-once"] as const) {
      const result = audit(expected, good.toReversed(), guarantee);
      expect(result).toMatchObject({ passed: true, expectedCount: 500, outputCount: 500, problems: [] });
    }
  });

  const cases: readonly (readonly [
    name: string,
    output: readonly OutputRecord[],
    expected: Partial<ReturnType<typeof audit>>,
    passesAtLeastOnce: boolean,
  ])[] = [
    ["one removed", good.slice(1), { lostCount: 1 }, false],
    ["one doubled", [...good, first], { duplicateCount: 1 }, true],
    ["one swapped for another", [...good.slice(2), first, first], { lostCount: 1, duplicateCount: 1 }, false],
    ["another key", [[key + 1, increment, sum, position], ...good.slice(1)], { foreignCount: 1, lostCount: 1 }, false],
    ["another increment", [[key, increment + 1, sum, position], ...good.slice(1)], { foreignCount: 1 }, false],
    ["a position of no input", [...good, [key, increment, sum, 500]], { foreignCount: 1 }, false],
    ["a sum too high", [[key, increment, sum + 1, position], ...good.slice(1)], { wrongSumKeyCount: 1 }, true],
    ["nothing at all", [], { lostCount: 500, wrongSumKeyCount: expected.sumByKey.size }, false],
  ];
  test.each(cases)("AU1: %s fails", (_name, output, counts, passesAtLeastOnce) => {
    const result = audit(expected, output, "exactly-once");
    expect(result).toMatchObject({ passed: false, ...counts });
    expect(result.problems.length).toBeGreaterThan(0);
    expect(audit(expected, output, "at-least-once").passed).toBe(passesAtLeastOnce);
  });

  test("a state that counted a replayed record twice fails even if each position is there once", () => {
    const shifted = good.map((record): OutputRecord => {
      const counts = record[0] === key && record[2] >= sum;
      return counts ? [record[0], record[1], record[2] + increment, record[3]] : record;
    });
    expect(audit(expected, shifted, "exactly-once")).toMatchObject({
      passed: false,
      lostCount: 0,
      wrongSumKeyCount: 1,
    });
  });

  test("its own control notices a removed and a doubled record wherever they are", () => {
    for (const pick of [0, 1, 250, 499, 1_003]) expect(auditTheAuditor(expected, good, pick)).toEqual([]);
  });

  test("output that is none is refused", () => {
    expect(parseOutput("[1,2,3,4]\n[5,6,7,8]\n", "part")).toHaveLength(2);
    expect(() => parseOutput("[1,2,3]\n", "part-x")).toThrow("part-x");
  });
});

describe("what is drawn from a seed", () => {
  test("KM1, KM2: inputs repeat, positions are unique, increments positive", () => {
    const inputs = drawInputs(9, SIZES);
    expect(drawInputs(9, SIZES)).toEqual(inputs);
    expect(drawInputs(10, SIZES)).not.toEqual(inputs);
    const { byPosition, sumByKey } = expectationOf(inputs);
    expect(byPosition.size).toBe(500);
    expect([...byPosition.values()].every(({ increment }) => increment > 0)).toBe(true);
    const total = [...byPosition.values()].reduce((sum, { increment }) => sum + increment, 0);
    expect([...sumByKey.values()].reduce((sum, value) => sum + value, 0)).toBe(total);
  });

  test("KS3: every fourth seed has a spare TaskManager", () => {
    expect([0, 1, 2, 3, 4, 5, 6, 7].map(taskManagerCount)).toEqual([2, 2, 2, 3, 2, 2, 2, 3]);
  });

  test("KS1, KS2: kills repeat; 20 seeds hold ten of each kind, two seeds one of each", () => {
    const options = { delayMaxMs: 500 };
    const all = Array.from({ length: 20 }, (_, seed) => planKills(seed, options));
    expect(planKills(7, options)).toEqual(all[7]);
    for (const kind of KILL_KINDS) expect(all.flat().filter((kill) => kill.kind === kind)).toHaveLength(10);
    for (let seed = 0; seed < 20; seed += 2) {
      const kinds = [...(all[seed] ?? []), ...(all[seed + 1] ?? [])].map(({ kind }) => kind);
      expect(new Set(kinds).size).toBe(4);
    }
    expect(new Set(all.flat().map(({ taskManagerIndex }) => taskManagerIndex))).toEqual(new Set([0, 1]));
  });
});

describe("evidence", () => {
  test("EV2: replayed is what later openings saw again, per kill", () => {
    const testimonies = [
      { openedAtMs: 10, positions: [1, 2, 3, 4] },
      { openedAtMs: 110, positions: [3, 4, 5] },
      { openedAtMs: 210, positions: [5, 6] },
    ];
    expect(replayedPerKill([100, 200], testimonies)).toEqual([2, 1]);
    expect(replayedPerKill([5], testimonies)).toEqual([0]);
  });

  test("EV1: all three or the kill does not count", () => {
    const proven = {
      kind: "both",
      atMs: 0,
      committedFileCount: 2,
      committedRecordCount: 9,
      restoredCheckpointId: 3,
      recoveryMs: 900,
      replayedCount: 12,
    } as const;
    expect(isCounted(proven)).toBe(true);
    expect(isCounted({ ...proven, committedRecordCount: 0 })).toBe(false);
    expect(isCounted({ ...proven, restoredCheckpointId: null })).toBe(false);
    expect(isCounted({ ...proven, replayedCount: 0 })).toBe(false);
  });
});
