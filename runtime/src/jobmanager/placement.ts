// Which TaskManager hosts which slot of the job. Pure.
//
// Invariants (tests cite them):
//   PL1. No TaskManager gets more slots than it offers.
//   PL2. Slots are spread evenly: as long as it can be, no TaskManager has two more than another.
//   PL3. The same TaskManagers with the same copies give the same placement.
//   PL4. Within that a slot goes where most of what it restores lies on the local disk; the slot with most to gain chooses first.

import { assert } from "@sluice/kit";
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

/**
 * TaskManager ids by slot, or undefined while there are not enough slots. `localBytes`: of what a slot restores, the bytes that
 * lie on a TaskManager's own disk.
 */
export function placeSlots(
  slotCount: number,
  taskManagers: readonly { readonly id: string; readonly slotCount: number }[],
  localBytes: (slotIndex: number) => ReadonlyMap<string, number> = () => new Map(),
): readonly string[] | undefined {
  const offers = taskManagers
    .map(({ id, slotCount: free }) => ({ id, free, used: 0 }))
    .sort((a, b) => (a.id < b.id ? -1 : 1));
  const { level, extraCount } = evenly(
    slotCount,
    offers.map(({ free }) => free),
  );
  if (level === undefined) return undefined;
  let extras = extraCount;
  const owners: (string | undefined)[] = Array.from({ length: slotCount }, () => undefined);
  const give = (slot: number, offer: (typeof offers)[number]): void => {
    if (offer.used === level) extras -= 1;
    offer.used += 1;
    owners[slot] = offer.id;
  };
  const mayTake = ({ used, free }: (typeof offers)[number]): boolean =>
    used < free && (used < level || (used === level && extras > 0)); // PL1, PL2

  const byId = new Map(offers.map((offer) => [offer.id, offer]));
  const wishes = owners
    .flatMap((_, slot) => [...localBytes(slot)].map(([id, bytes]) => ({ slot, id, bytes })))
    .filter(({ bytes }) => bytes > 0)
    .sort((a, b) => b.bytes - a.bytes || a.slot - b.slot || (a.id < b.id ? -1 : 1));
  for (const { slot, id } of wishes) {
    const offer = byId.get(id);
    if (owners[slot] === undefined && offer !== undefined && mayTake(offer)) give(slot, offer); // PL4
  }
  owners.forEach((owner, slot) => {
    if (owner !== undefined) return;
    let best: (typeof offers)[number] | undefined;
    for (const offer of offers) if (mayTake(offer) && (best === undefined || offer.used < best.used)) best = offer;
    assert(best !== undefined, "PL1: there are as many slots as were counted");
    give(slot, best);
  });
  return owners as string[];
}

/** PL2: everybody gets `level` slots, or all that it has, and `extraCount` of those with more one besides; undefined: too few. */
function evenly(
  slotCount: number,
  offers: readonly number[],
): { readonly level: number | undefined; readonly extraCount: number } {
  let given = 0;
  for (let level = 0; ; level += 1) {
    const wider = offers.filter((free) => free > level).length;
    if (given + wider > slotCount || given === slotCount) return { level, extraCount: slotCount - given };
    if (wider === 0) return { level: undefined, extraCount: 0 };
    given += wider;
  }
}
