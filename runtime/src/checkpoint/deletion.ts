// The last record of a job and what goes with it: what was condemned anyway and, if it was cancelled and says so, all its state:
// execution.checkpointing.externalized-checkpoint-retention = DELETE_ON_CANCELLATION.
//
// Invariants: CL3, CL6, CL7 of types.ts, and
//   DE1. One record says both that the job is cancelled and that its checkpoints are condemned: there is no state between.
//   DE2. What is pinned is not condemned, and neither is a savepoint: it belongs to whoever took it.
//   DE3. A job that never had a head keeps its origin: a checkpoint of another lineage is not this job's to give up.
//
// Not here: deleting (garbage.ts), who asks for it (jobmanager/).

import type { CheckpointId } from "../model/index.ts";
import type { CommitChange } from "./commit-log.ts";
import { settledAtEnd } from "./operations.ts";
import type { CommitRecord, EndedJobState } from "./types.ts";

/** Pure: the last record of a cancelled job whose checkpoints go with it. `abandoned`: ids that never committed. */
export function cancellationChange(
  previous: CommitRecord,
  options: {
    readonly abandoned: readonly CheckpointId[];
    readonly deleted: readonly CheckpointId[];
    readonly wallMs: number;
  },
): CommitChange {
  const pins = previous.pins.filter((pin) => pin.expiresAtMs === null || pin.expiresAtMs > options.wallMs);
  const condemned = new Set<CheckpointId>([...previous.condemned, ...options.abandoned]);
  const { head } = previous;
  for (const ref of head === null ? previous.retained : [...previous.retained, head]) {
    if (ref.kind === "checkpoint") condemned.add(ref.id); // DE2
  }
  for (const id of options.deleted) condemned.delete(id);
  for (const pin of pins) condemned.delete(pin.ref.id); // DE2
  return {
    closed: false,
    jobState: "cancelled",
    head: null,
    retained: [],
    pins,
    condemned: [...condemned].sort((a, b) => a - b),
    // DE3. Without a head nothing regresses; what an earlier cancellation recorded stands by itself.
    ...(head === null
      ? {}
      : { override: { type: "state-deleted", fromId: head.id, reason: "delete-on-cancellation" } as const }),
  };
}

/** Pure: the last record of a job, however it ended; what the log still says of its operations is settled with it. */
export function endChange(
  previous: CommitRecord,
  end: {
    readonly jobState: EndedJobState;
    /** DE1; only of a cancelled job. */
    readonly deletesCheckpoints: boolean;
    readonly abandoned: readonly CheckpointId[];
    readonly deleted: readonly CheckpointId[];
    readonly wallMs: number;
  },
): CommitChange {
  const { jobState, deletesCheckpoints } = end;
  const change = deletesCheckpoints
    ? cancellationChange(previous, end)
    : { closed: jobState === "finished", jobState, condemned: lastCondemned(previous, end) };
  return { ...change, ops: settledAtEnd(previous.ops, jobState) };
}

/** Of a job that keeps its checkpoints: also what never committed is condemned, nothing that is kept. */
function lastCondemned(
  previous: CommitRecord,
  options: { readonly abandoned: readonly CheckpointId[]; readonly deleted: readonly CheckpointId[] },
): readonly CheckpointId[] {
  const condemned = new Set<CheckpointId>([...previous.condemned, ...options.abandoned]);
  for (const id of options.deleted) condemned.delete(id);
  for (const ref of [...previous.retained, ...previous.pins.map((pin) => pin.ref)]) condemned.delete(ref.id);
  if (previous.head !== null) condemned.delete(previous.head.id);
  return [...condemned].sort((a, b) => a - b);
}

/** The record after the deletion: what is left of the list is for the next JobManager. */
export function deletionChange(previous: CommitRecord, deleted: ReadonlySet<CheckpointId>): CommitChange {
  return { condemned: previous.condemned.filter((id) => !deleted.has(id)) };
}
