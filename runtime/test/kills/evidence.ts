// Did a kill count? Only if output had been committed, a checkpoint was restored, and records were replayed.
//
// Invariants:
//   EV1. Each of the three is proven by something that the struck process cannot have said: files that readers see, the REST API
//        of the surviving or new JobManager, entries that user code left on disk.
//   EV2. Replayed by kill i: positions processed after it (by functions opened later) that were processed before it too.
//
// Not here: striking (strike.ts).

import type { Testimony } from "../support/witness.ts";
import type { KillKind } from "./scenario.ts";

export interface Evidence {
  readonly kind: KillKind;
  /** Wall clock just before the strike. */
  readonly atMs: number;
  /** Published files, and records in them, just before the strike. */
  readonly committedFileCount: number;
  readonly committedRecordCount: number;
  /** Id of the checkpoint restored afterwards, from REST; null: none was. */
  readonly restoredCheckpointId: number | null;
  /** From the strike to the restore (RUNNING again), wall clock. */
  readonly recoveryMs: number;
  readonly replayedCount: number;
  readonly counted: boolean;
}

/** EV2, per kill, in their order. */
export function replayedPerKill(killTimesMs: readonly number[], testimonies: readonly Testimony[]): readonly number[] {
  return killTimesMs.map((atMs, i) => {
    const untilMs = killTimesMs[i + 1] ?? Number.POSITIVE_INFINITY;
    const before = new Set(testimonies.filter(({ openedAtMs }) => openedAtMs < atMs).flatMap((t) => t.positions));
    const replayed = new Set<number>();
    for (const { openedAtMs, positions } of testimonies) {
      if (openedAtMs < atMs || openedAtMs >= untilMs) continue;
      for (const position of positions) if (before.has(position)) replayed.add(position);
    }
    return replayed.size;
  });
}

/** EV1: all three or nothing. */
export function isCounted(evidence: Omit<Evidence, "counted">): boolean {
  const { committedFileCount, committedRecordCount, restoredCheckpointId, replayedCount } = evidence;
  return committedFileCount > 0 && committedRecordCount > 0 && restoredCheckpointId !== null && replayedCount > 0;
}
