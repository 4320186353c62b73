// What may be asked for, what is chosen: tables, and a property over random jobs.

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

import type { ResourceRequirements } from "../checkpoint/index.ts";
import type { JobPlan, Partitioning, PlanVertex } from "../model/index.ts";
import { decideRescale, hasParallelism, planAt, requirementsOf } from "./rescale.ts";

function vertex(
  id: string,
  parallelism: number,
  inputs: readonly (readonly [string, Partitioning])[] = [],
): PlanVertex {
  return {
    id,
    name: id,
    parallelism,
    maxParallelism: 128,
    chain: [],
    inputs: inputs.map(([sourceVertexId, partitioning], i) => ({
      id: i,
      sourceVertexId,
      targetVertexId: id,
      inputIndex: 0,
      partitioning,
      type: { kind: "LONG" },
    })),
    splits: [],
  };
}

const planOf = (...vertices: readonly PlanVertex[]): JobPlan => ({
  formatVersion: 0,
  jobName: "j",
  digest: "d",
  arguments: [],
  configuration: {},
  vertices,
});

/** `a=1..4 b=2`. */
function requirements(text: string): ResourceRequirements {
  const entries = text.split(" ").map((part) => {
    const [id = "", bounds = ""] = part.split("=");
    const [lowerBound = 0, upperBound = lowerBound] = bounds.split("..").map(Number);
    return [id, { parallelism: { lowerBound, upperBound } }] as const;
  });
  return Object.fromEntries(entries);
}

const PLAN = planOf(vertex("a", 2), vertex("b", 2, [["a", "HASH"]]));

function decide(text: string, change: { plan?: JobPlan; slotCount?: number; takesCheckpoints?: boolean } = {}): string {
  const decision = decideRescale({
    plan: PLAN,
    slotCount: 4,
    takesCheckpoints: true,
    ...change,
    requirements: requirements(text),
  });
  if (decision.type === "refused") return `${decision.because}: ${decision.message} ${decision.remedy}`;
  return Object.entries(decision.parallelism)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map((of) => of.join("="))
    .join(" ");
}

describe("RQ1, RQ2: bounds", () => {
  test.each([
    ["a=1..3 b=2..128", "a=3 b=4"],
    ["a=2 b=2", "a=2 b=2"],
    ["a=1..2", "invalid: The request is incomplete, missing job vertex [b] resource requirements."],
    ["a=1 b=1 c=1", "invalid: Job vertex [c] was not found in the JobGraph."],
    ["a=0..2 b=1", "invalid: Parallelism lower bound of vertex [a] should be at least 1, but was [0]."],
    ["a=3..2 b=1", "invalid: Parallelism lower bound [3] of vertex [a] is greater than its upper bound [2]."],
    ["a=1..129 b=1", "greater than its maximum parallelism [128], it was [129]"],
    ["a=5..8 b=1", "conflict: Not enough slots: vertex [a] needs at least 5, the registered TaskManagers have 4."],
    ["x=1", "[x] was not found in the JobGraph. The request is incomplete, missing job vertex [a]"],
  ])("%s -> %s", (text, expected) => expect(decide(text)).toContain(expected));

  test("no slots at all is said as such", () => expect(decide("a=1 b=1", { slotCount: 0 })).toContain("have 0"));
});

describe("RQ3: FORWARD edges", () => {
  const plan = planOf(vertex("a", 2), vertex("b", 2, [["a", "FORWARD"]]), vertex("c", 1, [["b", "REBALANCE"]]));
  test.each([
    ["a=1..4 b=2..3 c=1", "a=3 b=3 c=1"],
    ["a=1 b=2..3 c=1", "invalid: The vertices [a, b] are joined by FORWARD edges"],
    ["a=1..2 b=1..4 c=4", "a=2 b=2 c=4"],
  ])("%s -> %s", (text, expected) => expect(decide(text, { plan })).toContain(expected));

  test("over two edges, whichever comes first", () => {
    const joined = planOf(
      vertex("a", 1),
      vertex("b", 1),
      vertex("c", 1, [
        ["a", "FORWARD"],
        ["b", "FORWARD"],
      ]),
    );
    expect(decide("a=1..3 b=1..2 c=1..4", { plan: joined })).toBe("a=2 b=2 c=2");
  });
});

test("RQ5: a job without checkpoints keeps its parallelism", () => {
  expect(decide("a=2 b=1..2", { takesCheckpoints: false })).toBe("a=2 b=2");
  expect(decide("a=1 b=2", { takesCheckpoints: false })).toContain("conflict: The job takes no checkpoints");
});

test("RQ2-RQ4: what is chosen is within the bounds and the slots, as much as they allow, and of the same graph", () => {
  const chosen = fc.array(
    fc.record({
      from: fc.nat(5),
      partitioning: fc.constantFrom<Partitioning>("FORWARD", "HASH", "REBALANCE", "RESCALE"),
      lower: fc.integer({ min: 1, max: 6 }),
      more: fc.nat(6),
    }),
    { minLength: 1, maxLength: 6 },
  );
  fc.assert(
    fc.property(chosen, fc.integer({ min: 0, max: 12 }), (vertices, slotCount) => {
      const plan = planOf(
        ...vertices.map(({ from, partitioning }, i) =>
          vertex(`v${i}`, 1, i === 0 ? [] : [[`v${from % i}`, partitioning]]),
        ),
      );
      const asked = Object.fromEntries(
        vertices.map(({ lower, more }, i) => [
          `v${i}`,
          { parallelism: { lowerBound: lower, upperBound: lower + more } },
        ]),
      );
      const decision = decideRescale({ plan, requirements: asked, slotCount, takesCheckpoints: true });
      const forward = plan.vertices.flatMap(({ id, inputs }) =>
        inputs.filter((edge) => edge.partitioning === "FORWARD").map((edge) => [edge.sourceVertexId, id] as const),
      );
      if (decision.type === "refused") {
        const isTooFew = Math.max(...vertices.map(({ lower }) => lower)) > slotCount;
        expect(isTooFew || forward.length > 0).toBe(true);
        return;
      }
      const { parallelism } = decision;
      for (const [i, { lower, more }] of vertices.entries()) {
        const count = parallelism[`v${i}`] ?? 0;
        expect(count).toBeGreaterThanOrEqual(lower);
        expect(count).toBeLessThanOrEqual(Math.min(lower + more, slotCount));
        const isJoined = forward.some((edge) => edge.includes(`v${i}`));
        if (!isJoined) expect(count).toBe(Math.min(lower + more, slotCount));
      }
      for (const [source, target] of forward) expect(parallelism[source]).toBe(parallelism[target]);
      const after = planAt(plan, parallelism);
      expect(after).toBeDefined();
      if (after === undefined) return;
      expect(hasParallelism(after, parallelism)).toBe(true);
      expect(after.digest).toBe(plan.digest);
      expect(planAt(after, Object.fromEntries(plan.vertices.map(({ id }) => [id, 1])))).toEqual(plan);
      const same = decideRescale({
        plan: after,
        requirements: requirementsOf(after),
        slotCount,
        takesCheckpoints: false,
      });
      expect(same).toEqual({ type: "ok", parallelism });
    }),
    { numRuns: 300 },
  );
});

test("RQ4: a plan with other vertices has no place for it", () => {
  expect(planAt(PLAN, { a: 1 })).toBeUndefined();
  expect(planAt(PLAN, { a: 1, c: 1 })).toBeUndefined();
  expect(planAt(PLAN, { a: 1, b: 1, c: 1 })).toBeUndefined();
});
