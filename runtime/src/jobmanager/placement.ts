// Which TaskManager hosts which slot of the job. Pure.
//
// Invariants (tests cite them):
//   PL1. No TaskManager gets more slots than it offers.
//   PL2. Slots are spread evenly: as long as it can be, no TaskManager has two more than another.
//   PL3. The same TaskManagers give the same placement.

import type { JobPlan, SubtaskId } from "../model/index.ts";

/** Slots that a plan needs: subtask i of every vertex shares slot i, so as many as its largest parallelism. */
export function slotsRequired(plan: Pick<JobPlan, "vertices">): number {
  return Math.max(0, ...plan.vertices.map((vertex) => vertex.parallelism));
}

/** Subtasks of a slot, in the plan's order. */
export function subtasksOfSlot(plan: Pick<JobPlan, "vertices">, slotIndex: number): readonly SubtaskId[] {
  return plan.vertices
    .filter((vertex) => slotIndex < vertex.parallelism)
    .map((vertex) => ({ vertexId: vertex.id, subtaskIndex: slotIndex }));
}

/** TaskManager ids by slot, or undefined while there are not enough slots. */
export function placeSlots(
  slotCount: number,
  taskManagers: readonly { readonly id: string; readonly slotCount: number }[],
): readonly string[] | undefined {
  const offers = taskManagers
    .map(({ id, slotCount: free }) => ({ id, free, used: 0 }))
    .sort((a, b) => (a.id < b.id ? -1 : 1));
  const owners: string[] = [];
  for (let slot = 0; slot < slotCount; slot += 1) {
    let best: (typeof offers)[number] | undefined;
    for (const offer of offers) {
      if (offer.used < offer.free && (best === undefined || offer.used < best.used)) best = offer; // PL1, PL2
    }
    if (best === undefined) return undefined;
    best.used += 1;
    owners.push(best.id);
  }
  return owners;
}
