// P4 as a change of the record before: the new head, what is retained, what is condemned, what a claim and its pins become. Pure.
//
// Invariants: CL5, CL7 of types.ts, OR1, OR2 of origin.ts.
//
// Not here: when a checkpoint commits (coordinator.ts), appending (commit-log.ts).

import type { CheckpointId } from "../model/index.ts";
import { type CommitChange, lineageHolder } from "./commit-log.ts";
import type { CoordinatorEffect } from "./coordinator-state.ts";
import { withOutcome } from "./operations.ts";
import type { CheckpointPin, CommitRecord, RecordedClaim } from "./types.ts";

/** P4 as a change of the record before: the new head, what is retained and what is condemned. */
export function commitChange(
  previous: CommitRecord,
  commit: Extract<CoordinatorEffect, { readonly type: "commit" }>,
  options: { readonly retainedMax: number; readonly wallMs: number },
): CommitChange {
  const { ref, stop } = commit;
  // A savepoint is its owner's: it is not retained by count and never condemned (CL7).
  const own = ref.kind === "checkpoint" ? [ref] : [];
  const all = [...previous.retained.filter(({ id }) => id !== ref.id), ...own].sort((a, b) => a.id - b.id);
  const retained = all.slice(-options.retainedMax);
  const dropped = all.slice(0, -options.retainedMax).map((ref) => ref.id);
  const claim = nextClaim(previous.claim ?? null, retained.length === options.retainedMax);
  const freed = claim === null ? (previous.claim ?? null) : null;
  // Only what kept it for the lineage that took it: somebody else's pin is not ours to take back (OR1).
  const isFreed = (pin: CheckpointPin): boolean =>
    freed !== null && pin.ref.path === freed.path && pin.holder === lineageHolder(freed.lineage);
  const pins = previous.pins.filter(
    (pin) => (pin.expiresAtMs === null || pin.expiresAtMs > options.wallMs) && !isFreed(pin),
  );
  const kept = new Set<CheckpointId>([...retained.map((ref) => ref.id), ...pins.map((pin) => pin.ref.id)]);
  const condemned = new Set<CheckpointId>([...previous.condemned, ...dropped, ...commit.abandoned]);
  for (const pin of previous.pins) if (isFreed(pin)) condemned.add(pin.ref.id);
  for (const id of commit.deleted) condemned.delete(id);
  for (const id of kept) condemned.delete(id);
  const change = { head: ref, origin: null, claim, retained, pins, condemned: [...condemned].sort((a, b) => a - b) };
  if (stop === null || stop.stops === "no") return change;
  const { operationId, location } = stop;
  const outcome = { type: "done", location, checkpointId: ref.id } as const;
  return {
    ...change,
    jobState: stop.stops === "drain" ? "draining" : "stopping",
    ops: operationId === null ? previous.ops : withOutcome(previous.ops, operationId, outcome),
  };
}

/** OR2: a claimed savepoint is condemned, a claimed checkpoint left to the log that keeps it (its own: freed), once replaced. */
function nextClaim(claim: RecordedClaim | null, isReplaced: boolean): RecordedClaim | null {
  if (claim === null || !isReplaced) return claim;
  return claim.kind === "checkpoint" ? null : { ...claim, isCondemned: true };
}
