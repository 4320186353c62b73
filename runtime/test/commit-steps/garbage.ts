// Garbage in the store of a job that runs, as `sluice store gc` sees it.
//
// Invariants:
//   GB1. Whatever counts as on its way is a pack of an epoch before the current one, of a checkpoint that no record of the log ever named.
//   GB2. Collecting removes exactly what was said to be garbage, and nothing of what the log keeps.

import { SeededRng } from "@sluice/kit";
import type { ObjectStore } from "@sluice/kit/env";
import { NodeClock, NodeTimers } from "@sluice/kit/env/node";
import { collectGarbage, inspectJob, readCommit } from "@sluice/runtime/internal/checkpoint";

export interface Place {
  readonly store: ObjectStore;
  readonly jobDir: string;
}

function admin(place: Place): Parameters<typeof inspectJob>[0] {
  const env = { clock: new NodeClock(), timers: new NodeTimers(), rng: new SeededRng(1) };
  return { ...place, env, signal: new AbortController().signal };
}

/** Paths of garbage, however young. Rejects when a checkpoint that is kept cannot be read, as it may be while the job moves on. */
export async function garbageOf(place: Place): Promise<readonly string[]> {
  const { victims, inspection } = await collectGarbage(admin(place), { quarantineMs: 0, deletes: false });
  if (inspection.survey.blockedBy !== undefined) throw new Error(inspection.survey.blockedBy);
  return victims.map(({ path }) => path);
}

/** Deletes it; what went. Rejects when that is not what was expected (GB1, GB2). */
export async function collectAll(place: Place, expected: readonly string[]): Promise<readonly string[]> {
  const { record } = await inspectJob(admin(place), { quarantineMs: 0 });
  const named = await idsOfRecords(place, record.seq);
  for (const path of expected) {
    const match = /\/chk-(\d+)\/x-(\d+)\./.exec(path);
    const [, id, epoch] = match ?? [];
    if (match === null || named.has(Number(id)) || Number(epoch) >= record.epoch)
      throw new Error(`${path} is garbage and was no upload of an earlier epoch (head ${record.head?.id ?? "none"})`);
  }
  const { victims, deletedCount } = await collectGarbage(admin(place), { quarantineMs: 0, deletes: true });
  const gone = victims.map(({ path }) => path);
  if (deletedCount !== gone.length || gone.toSorted().join() !== expected.toSorted().join())
    throw new Error(`collected ${gone.join(", ")} where ${expected.join(", ")} was garbage`);
  const { survey } = await inspectJob(admin(place), { quarantineMs: 0 });
  const still = survey.objects.filter(({ path }) => expected.includes(path));
  if (still.length > 0) throw new Error(`${still.length} collected objects are still there`);
  if (survey.blockedBy !== undefined) throw new Error(survey.blockedBy);
  const paths = new Set(survey.objects.map(({ path }) => path));
  for (const { ref } of survey.kept) if (!paths.has(ref.path)) throw new Error(`${ref.path} is kept and gone`);
  return gone;
}

/** Ids of all checkpoints that ever were. */
async function idsOfRecords({ store, jobDir }: Place, seqMax: number): Promise<ReadonlySet<number>> {
  const ids = new Set<number>();
  for (let seq = 1; seq <= seqMax; seq += 1) {
    const record = await readCommit(store, jobDir, seq);
    for (const ref of record === undefined ? [] : [...record.retained, ...(record.head === null ? [] : [record.head])])
      ids.add(ref.id);
  }
  return ids;
}
