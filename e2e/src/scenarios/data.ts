// What a StreamJob does with data that is there already: another one's savepoint, or what one of its name has left.
//
// The cases are those of the table "Deleting and applying again" in docs/operator/streamjob.md. That of a running job which is deleted
// is in lifecycle.ts.

import { CROSSING_MIN, ENDLESS, FINISH_RATE, LedgerJob } from "../scenario.ts";
import type { Context, Scenario } from "../scenario.ts";

const BEFORE = 40_000;
/** Of a version that has them for itself. */
const OWN_COUNT = 120_000;
const SHORT_COUNT = 30_000;

async function initialSnapshot(context: Context): Promise<void> {
  const first = context.ledger("first", { count: ENDLESS });
  await first.start(BEFORE);
  await first.job.apply({ state: "Suspended" });
  const suspended = await first.job.untilLifecycle("Suspended");
  const path = suspended.status?.lastSavepoint?.path;
  if (path === undefined) throw new Error("the suspended job has no savepoint in its status");
  await first.job.delete();
  const before = await context.world.bucket.list(keyOf(context, path));

  const second = context.ledger("second", { count: ENDLESS, output: "first", spec: { initialSnapshot: { path } } });
  const { job } = second;
  const faultMs = await job.apply(second.args("v2"));
  await job.untilStable();
  await second.untilVisible(CROSSING_MIN);
  const restartedMs = await job.apply({ restartNonce: 1 });
  await job.untilStable();
  const files = await second.stopAndAudit(CROSSING_MIN * 1.3);
  second.crossed(files, faultMs, "a new StreamJob that goes on from the savepoint of a deleted one");
  second.crossed(files, restartedMs, "its restart, which goes on from its own state");
  context.check(LedgerJob.lineages(files).size === 2, "both StreamJobs have written under the same names");
  const after = await context.world.bucket.list(keyOf(context, path));
  context.check(before.length > 0 && after.join() === before.join(), `the savepoint changed: ${after.join()}`);
  context.proof(`${path} was started from with NO_CLAIM, and is as it was (${after.length} objects)`);
}

/** A place in the bucket as its names have it, with a slash at the end. */
function keyOf(context: Context, uri: string): string {
  return `${uri.replace(`s3://${context.world.store.bucket}/`, "").replace(/\/$/u, "")}/`;
}

/** A suspended job's savepoint, resumed; then a finished job: not resumed, begun anew. */
async function suspendedAndFinished(context: Context): Promise<void> {
  const ledger = context.ledger("sum", { count: ENDLESS });
  const { job } = ledger;
  await ledger.start(BEFORE);
  const faultMs = await job.apply({ state: "Suspended" });
  const suspended = await job.untilLifecycle("Suspended");
  const savepoint = suspended.status?.lastSavepoint?.path ?? "no savepoint";
  const stopped = await ledger.audit(undefined, undefined, " while suspended");
  await job.delete();

  await job.apply({ state: "Running" });
  const refused = await job.untilStalled("ExistingData");
  context.check(refused.includes(savepoint), `the message does not name ${savepoint}: ${refused}`);
  const count = LedgerJob.records(stopped) + OWN_COUNT;
  await job.apply({ ...ledger.args("v2", { count, rate: FINISH_RATE / 2 }), onExistingData: "Resume" });
  const files = await ledger.finishAndAudit(count);
  ledger.crossed(files, faultMs, "suspended, deleted, applied again, resumed from the savepoint");
  await job.delete();

  await job.apply();
  const finished = await job.untilStalled("JobFinished");
  context.proof(`a finished job, applied again with Resume: JobFinished: ${firstLine(finished)}`);
  const own = { count: SHORT_COUNT, rate: FINISH_RATE / 2 };
  await job.apply({ ...ledger.args("v3", own), onExistingData: "NewLineage" });
  await job.untilLifecycle("Finished");
  await ledger.auditParts("lineage", { "v1+v2": count, v3: SHORT_COUNT });
}

/** Checkpoints that went with the job that was deleted: nothing to resume, but its log is known. */
async function deletedCheckpoints(context: Context): Promise<void> {
  const checkpointing = {
    dir: context.uri("checkpoints"),
    interval: "1s",
    cleanup: "DELETE_ON_CANCELLATION",
  };
  const ledger = context.ledger("sum", { count: ENDLESS, spec: { checkpointing } });
  const { job } = ledger;
  await ledger.start(BEFORE);
  const faultMs = Date.now();
  await job.delete();
  const names = await context.world.bucket.list(`${context.place("checkpoints")}/`);
  const left = names.filter((name) => name.includes("/chk-"));
  context.check(left.length === 0, `DELETE_ON_CANCELLATION has left ${left.join()}`);
  await job.apply();
  const refused = await job.untilStalled("ExistingData");
  context.proof(`its checkpoints were deleted with it; applied again: ExistingData: ${firstLine(refused)}`);
  const own = { count: OWN_COUNT, rate: FINISH_RATE / 2 };
  await job.apply({ ...ledger.args("v2", own), onExistingData: "Resume" });
  await job.untilLifecycle("Finished");
  const files = await ledger.auditParts("version", { v1: undefined, v2: OWN_COUNT });
  ledger.crossed(files, faultMs, "deleted with its checkpoints, applied again, resumed from nothing");
}

function firstLine(text: string): string {
  return text.split("\n")[0] ?? "";
}

export const DATA: readonly Scenario[] = [
  {
    name: "initial-snapshot",
    about: "a new StreamJob from the savepoint of another one, then restarted",
    lane: "parallel",
    run: initialSnapshot,
  },
  {
    name: "existing-data",
    about: "suspended, deleted, resumed from its savepoint; finished, deleted, begun anew",
    lane: "parallel",
    run: suspendedAndFinished,
  },
  {
    name: "existing-log",
    about: "deleted with its checkpoints (DELETE_ON_CANCELLATION), applied again",
    lane: "parallel",
    run: deletedCheckpoints,
  },
];
