// Another parallelism for a job that runs: what is asked for is checked, and chosen within the slots that there are. Pure.
//
// Invariants (tests cite them):
//   RQ1. Flink's rules (JobResourceRequirements.validate): every vertex is named and no other, 1 <= lower <= upper <= max parallelism.
//   RQ2. A vertex gets as many subtasks as its upper bound and the registered slots allow; fewer than its lower bound is refused.
//   RQ3. Vertices joined by FORWARD edges have one parallelism, within the bounds of all of them, or the request is refused.
//   RQ4. A plan at another parallelism is the same graph: only the numbers of subtasks change, the digest stays.
//   RQ5. A job without checkpoints keeps its parallelism: it could only begin again.
//
// Not here: doing it (rescale-operation.ts), what each subtask restores then (checkpoint/assign.ts).

import { assert, Failure } from "@sluice/kit";
import type { ResourceRequirements } from "../checkpoint/index.ts";
import type { JobPlan, PlanVertex } from "../model/index.ts";

export type Parallelism = Readonly<Record<string, number>>;

export type RescaleDecision =
  | { readonly type: "ok"; /** By vertex id. */ readonly parallelism: Parallelism }
  | {
      readonly type: "refused";
      /** "invalid": never right for this job; "conflict": not now. */
      readonly because: "invalid" | "conflict";
      readonly message: string;
      readonly remedy: string;
    };

export interface RescaleQuestion {
  /** As deployed: with the key groups of the state that was restored. */
  readonly plan: Pick<JobPlan, "vertices">;
  readonly requirements: ResourceRequirements;
  /** Of all registered TaskManagers. */
  readonly slotCount: number;
  readonly takesCheckpoints: boolean;
}

/** RQ1-RQ3, RQ5. */
export function decideRescale(question: RescaleQuestion): RescaleDecision {
  const { plan, requirements, slotCount, takesCheckpoints } = question;
  const problems = requirementProblems(plan, requirements);
  if (problems.length > 0) {
    const remedy = "name every vertex of the job, with 1 <= lowerBound <= upperBound <= its max parallelism";
    return { type: "refused", because: "invalid", message: problems.join(" "), remedy };
  }
  const parallelism: Record<string, number> = {};
  for (const group of forwardGroups(plan.vertices)) {
    const bounds = group.map(({ id }) => (requirements[id] as ResourceRequirements[string]).parallelism);
    const lower = Math.max(...bounds.map(({ lowerBound }) => lowerBound));
    const upper = Math.min(...bounds.map(({ upperBound }) => upperBound));
    if (lower > upper) {
      return {
        type: "refused",
        because: "invalid",
        message: `The vertices [${group.map(({ id }) => id).join(", ")}] are joined by FORWARD edges and have one parallelism, but no number is within the bounds of all of them.`,
        remedy: "give them the same bounds",
      };
    }
    if (lower > slotCount) {
      return {
        type: "refused",
        because: "conflict",
        message: `Not enough slots: vertex [${group[0]?.id ?? ""}] needs at least ${lower}, the registered TaskManagers have ${slotCount}.`,
        remedy: `start more TaskManagers first, or give a lower bound of at most ${slotCount}`,
      };
    }
    for (const { id } of group) parallelism[id] = Math.min(upper, slotCount); // RQ2
  }
  if (!takesCheckpoints && !hasParallelism(plan, parallelism)) {
    return {
      type: "refused",
      because: "conflict",
      message: "The job takes no checkpoints: at another parallelism it would begin from the beginning.",
      remedy: "set execution.checkpointing.interval, or cancel the job and start it anew with --parallelism",
    };
  }
  return { type: "ok", parallelism };
}

/** RQ1, in Flink's words. */
function requirementProblems(
  { vertices }: Pick<JobPlan, "vertices">,
  requirements: ResourceRequirements,
): readonly string[] {
  const byId = new Map(vertices.map((vertex) => [vertex.id, vertex]));
  const wrong = Object.entries(requirements).flatMap(([id, { parallelism }]) => {
    const vertex = byId.get(id);
    if (vertex === undefined) return [`Job vertex [${id}] was not found in the JobGraph.`];
    const { lowerBound, upperBound } = parallelism;
    return [
      ...(lowerBound < 1
        ? [`Parallelism lower bound of vertex [${id}] should be at least 1, but was [${lowerBound}].`]
        : []),
      ...(upperBound > vertex.maxParallelism
        ? [
            `Parallelism upper bound of vertex [${id}] is greater than its maximum parallelism [${vertex.maxParallelism}], it was [${upperBound}].`,
          ]
        : []),
      ...(lowerBound > upperBound
        ? [`Parallelism lower bound [${lowerBound}] of vertex [${id}] is greater than its upper bound [${upperBound}].`]
        : []),
    ];
  });
  const missing = vertices
    .filter(({ id }) => !Object.hasOwn(requirements, id))
    .map(({ id }) => `The request is incomplete, missing job vertex [${id}] resource requirements.`);
  return [...wrong, ...missing];
}

/** RQ3: every vertex in one group, with those that it exchanges records with subtask by subtask. */
function forwardGroups(vertices: readonly PlanVertex[]): readonly (readonly PlanVertex[])[] {
  const groupOf = new Map<string, PlanVertex[]>();
  for (const vertex of vertices) {
    const group = [vertex];
    groupOf.set(vertex.id, group);
    for (const { partitioning, sourceVertexId } of vertex.inputs) {
      const other = groupOf.get(sourceVertexId); // vertices are in topological order
      if (partitioning !== "FORWARD" || other === undefined || other === groupOf.get(vertex.id)) continue;
      const own = groupOf.get(vertex.id) ?? group;
      other.push(...own);
      for (const { id } of own) groupOf.set(id, other);
    }
  }
  return [...new Set(groupOf.values())];
}

/** Whether every vertex of the plan has this parallelism. */
export function hasParallelism({ vertices }: Pick<JobPlan, "vertices">, parallelism: Parallelism): boolean {
  return vertices.every((vertex) => vertex.parallelism === parallelism[vertex.id]);
}

/** RQ4. Undefined when the plan has other vertices than those. */
export function planAt(plan: JobPlan, parallelism: Parallelism): JobPlan | undefined {
  if (Object.keys(parallelism).length !== plan.vertices.length) return undefined;
  if (plan.vertices.some(({ id }) => parallelism[id] === undefined)) return undefined;
  return {
    ...plan,
    vertices: plan.vertices.map((vertex) => {
      const wanted = parallelism[vertex.id];
      assert(wanted !== undefined && wanted >= 1, "RQ1: every vertex has at least one subtask");
      return { ...vertex, parallelism: wanted };
    }),
  };
}

/** What a job asks for that nobody has asked to be rescaled: what it has. */
export function requirementsOf({ vertices }: Pick<JobPlan, "vertices">): ResourceRequirements {
  return Object.fromEntries(
    vertices.map(({ id, parallelism }) => [id, { parallelism: { lowerBound: parallelism, upperBound: parallelism } }]),
  );
}

/** A refusal as the failure of an operation. */
export function rescaleRefused({ message, remedy }: Extract<RescaleDecision, { readonly type: "refused" }>): Failure {
  return new Failure("OPERATION_CONFLICT", { retry: "never", message, remedy });
}
