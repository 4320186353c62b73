// What a start over an existing or absent commit log does: the table of docs/internals/commit-log.md as a pure function.
//
// Invariants:
//   SD1. Nothing starts empty, or over another job's log, unless somebody asked for exactly that.
//   SD2. A restart of the same submission (same `lineage`) continues what the submission began, whatever its flags: a lineage is begun
//        once. One that another lineage has replaced is refused: begun again, it would write its output a second time, under names
//        that it has used before.
//   SD3. A submission that has recorded the end of its job does not run it again: a JobManager that died between that record and its
//        own exit is started again by its supervisor, and a cancelled job, above all one without checkpoints left, would repeat output.
//   SD4. Starts that are numbered do not overtake one another: a JobManager that comes back where nobody could stop it is refused.
//   SD5. A log changes its owner (uid) only when the new one says so, and never back.
//   SD6. Nobody starts from what the log has condemned: whoever wrote that record may delete it at any time, also when it has been
//        fenced since and does not know.
//
// Not here: the plan's digest. Changed code over the same log is an upgrade: whether its state fits, assign.ts says. Within one run all
// processes must agree on the digest, which every slot checks (PLAN_MISMATCH).

import { Failure, planted } from "@sluice/kit";
import type { CheckpointMetadata } from "../model/index.ts";
import type {
  CommitRecord,
  EndedJobState,
  ExpectedHead,
  RecordedClaim,
  RecordedJobState,
  StartDecision,
  StartRequest,
} from "./types.ts";

/** How this very submission has ended its job already (SD3); undefined: it has not, or the log is another submission's. */
export function endedBySubmission(
  head: CommitRecord | undefined,
  request: Pick<StartRequest, "lineage" | "uid">,
): EndedJobState | undefined {
  if (head === undefined || head.submission !== request.lineage || head.uid !== request.uid) return undefined;
  if (planted("ended-run-begun-again")) return undefined;
  return isEnded(head.jobState) ? head.jobState : undefined;
}

/** Nobody runs the job any more. */
export function isEnded(state: RecordedJobState): state is EndedJobState {
  return state !== "active" && state !== "stopping" && state !== "draining";
}

/**
 * What a claim makes of the state before it. A stop goes on in the submission that it was asked of: its output is published, nothing more
 * is processed. A drain goes on whoever starts the job: its input has been ended for good.
 */
export function claimedJobState(
  previous: CommitRecord | undefined,
  decision: StartDecision,
  request: Pick<StartRequest, "lineage">,
): RecordedJobState {
  if (previous === undefined || decision.type !== "continue" || planted("stop-forgotten-by-failover")) return "active";
  const { jobState, submission } = previous;
  return jobState === "draining" || (jobState === "stopping" && submission === request.lineage) ? jobState : "active";
}

/**
 * Whether what is restored is only published, nothing processed: the job was stopped with it. A drain is an end also when the run that
 * published it failed or was cancelled: its input has ended, and what comes after would be wrong (docs/design/0010-savepoints.md).
 */
export function onlyPublishes(
  record: Pick<CommitRecord, "jobState" | "head">,
  restored: Pick<CheckpointMetadata, "checkpointId" | "kind" | "isFinal"> | null,
): boolean {
  const { jobState, head } = record;
  if (jobState === "stopping" || jobState === "draining") return true;
  return restored?.kind === "savepoint" && restored.isFinal && head?.id === restored.checkpointId;
}

/** How a job whose tasks have all finished ends. */
export function endStateOf(head: Pick<CommitRecord, "jobState"> | undefined): "stopped" | "finished" {
  return head?.jobState === "stopping" ? "stopped" : "finished";
}

/** Claimed savepoints that a record has condemned and that may still be there. */
export function condemnedClaims(record: Pick<CommitRecord, "claim" | "condemnedClaims">): readonly RecordedClaim[] {
  const { claim, condemnedClaims: earlier = [] } = record;
  return claim?.isCondemned === true ? [...earlier, claim] : earlier;
}

/** The record after the deletion of a condemned claim. */
export function withoutClaim(
  record: Pick<CommitRecord, "claim" | "condemnedClaims">,
  { path }: Pick<RecordedClaim, "path">,
): Pick<CommitRecord, "claim" | "condemnedClaims"> {
  const { claim = null, condemnedClaims: earlier = [] } = record;
  return {
    claim: claim?.isCondemned === true && claim.path === path ? null : claim,
    condemnedClaims: earlier.filter((other) => other.path !== path),
  };
}

/** Pure and total: `head` is the highest record of the log, undefined when the store said that there is none. */
export function decideStart(head: CommitRecord | undefined, request: StartRequest): StartDecision {
  const restoreFrom = request.from ?? null;
  const wantsNewLineage = request.newLineage || restoreFrom !== null;
  if (head === undefined) {
    if (request.mayCreate) return { type: "create", lineage: request.lineage, restoreFrom };
    return refuse(
      "SNAPSHOT_DAMAGED",
      `the commit log of job ${request.jobName} is missing although the job has run before`,
      "restore the checkpoint directory, or start with --new-lineage to begin without the old state",
    );
  }
  const isForeign = head.uid !== request.uid;
  if (!isForeign && isBefore(request.order, head.order)) {
    return refuse(
      "FENCED",
      `a newer start of job ${request.jobName} (${head.order?.join(".") ?? ""}, this one is ${request.order?.join(".") ?? ""}) has claimed its commit log`,
      "the newer one runs the job; this one ends by itself",
    ); // SD4
  }
  const ended = endedBySubmission(head, request);
  if (ended !== undefined && ended !== "finished") {
    // SD3: its last JobManager may have recorded this after the new one looked.
    return refuse("JOB_CLOSED", `this run of job ${request.jobName} has ended (${ended})`, "start it again");
  }
  const moved = headMoved(head, request);
  if (moved !== undefined) {
    return refuse(
      "HEAD_MOVED",
      `the commit log of job ${request.jobName} is not as it was when this start was decided: ${moved}`,
      "look again at what the job has written, and start it anew",
    );
  }
  // SD2: it has created the lineage, or it is who runs it now.
  const isOwn = head.lineage === request.lineage || head.submission === request.lineage;
  const isOwnSubmission = isOwn && !isForeign;
  if (isOwnSubmission && !head.closed) return { type: "continue" };
  const replaces = wantsNewLineage || (isForeign && request.onForeignLog === "newLineage");
  if (!isOwnSubmission && replaces && head.pastLineages?.includes(request.lineage) === true) {
    return refuse(
      "JOB_CLOSED",
      `lineage ${request.lineage} of job ${request.jobName} was replaced by lineage ${head.lineage}: it is not begun again`,
      "let the newer start run the job, or start anew under an identity that this job has not had",
    );
  }
  if (!isOwnSubmission && restoreFrom !== null && condemnedClaims(head).some(({ path }) => path === restoreFrom)) {
    return refuse(
      "OPERATION_CONFLICT",
      `${restoreFrom} is about to be deleted: job ${request.jobName} had claimed it, and its own checkpoints have replaced it`, // SD6
      "start from one of the job's own checkpoints, or from another savepoint",
    );
  }
  if (!isOwnSubmission && replaces) return { type: "new-lineage", lineage: request.lineage, restoreFrom };
  const mayResume = request.onForeignLog === "resume" && head.pastUids?.includes(request.uid) !== true; // SD5
  if (isForeign && !mayResume) {
    return refuse(
      "JOB_FOREIGN",
      `the commit log of job ${request.jobName} belongs to another job (uid ${head.uid}, this one is ${request.uid})`,
      "choose another name, or start with --new-lineage (no state) or --from CHECKPOINT (its state); both write output under a new prefix",
    );
  }
  if (head.jobState === "finished") {
    return refuse(
      "JOB_FINISHED",
      `job ${request.jobName} has finished${head.head === null ? "" : ` with checkpoint ${head.head.id}`}; all its output is published`,
      "choose another name to run it again beside the old output, or start with --new-lineage or --from CHECKPOINT",
    );
  }
  if (head.closed) {
    return refuse(
      "JOB_CLOSED",
      `job ${request.jobName} is closed (deleted)`,
      "start with --new-lineage or --from CHECKPOINT, or choose another name",
    );
  }
  return { type: "continue" }; // crashed, cancelled or failed: from its head
}

/** Compared from the left; who is not numbered is before nobody. */
function isBefore(a: readonly number[] | undefined, b: readonly number[] | undefined): boolean {
  if (a === undefined || b === undefined) return false;
  for (let i = 0; i < Math.max(a.length, b.length); i += 1) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

/** How the head differs from what this submission was told to find; undefined: it does not, or it has claimed the log already. */
function headMoved({ head, submission, uid }: CommitRecord, request: StartRequest): string | undefined {
  const expected: ExpectedHead | undefined = request.expectHead;
  if (expected === undefined || (submission === request.lineage && uid === request.uid)) return undefined;
  const name = (id: number | null): string => (id === null ? "no checkpoint" : `checkpoint ${id}`);
  if (expected.id !== undefined && expected.id !== (head?.id ?? null))
    return `its head is ${name(head?.id ?? null)}, not ${name(expected.id)}`;
  if (expected.path !== undefined && expected.path !== head?.path)
    return `its head is ${head?.path ?? "no checkpoint"}, not ${expected.path}`;
  return undefined;
}

function refuse(
  code:
    "OPERATION_CONFLICT" | "JOB_FOREIGN" | "JOB_FINISHED" | "JOB_CLOSED" | "SNAPSHOT_DAMAGED" | "HEAD_MOVED" | "FENCED",
  message: string,
  remedy: string,
): StartDecision {
  return { type: "refuse", failure: new Failure(code, { retry: "never", message, remedy }) };
}
