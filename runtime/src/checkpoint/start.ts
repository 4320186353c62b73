// What a start over an existing or absent commit log does: the table of docs/internals/commit-log.md as a pure function.
//
// Invariants:
//   SD1. Nothing starts empty, or over another job's log, unless somebody asked for exactly that.
//   SD2. A restart of the same submission (same `lineage`) continues what the submission began, whatever its flags: a lineage is begun
//        once. One that another lineage has replaced is refused: begun again, it would write its output a second time, under names
//        that it has used before.
//   SD3. A submission that has recorded the end of its job does not run it again: a JobManager that died between that record and its
//        own exit is started again by its supervisor, and a cancelled job, above all one without checkpoints left, would repeat output.
//
// Not here: the plan's digest. Changed code over the same log is an upgrade: whether its state fits, assign.ts says. Within one run all
// processes must agree on the digest, which every slot checks (PLAN_MISMATCH).

import { Failure, planted } from "@sluice/kit";
import type { CheckpointMetadata } from "../model/index.ts";
import type { CommitRecord, EndedJobState, RecordedJobState, StartDecision, StartRequest } from "./types.ts";

/** How this very submission has ended its job already (SD3); undefined: it has not, or the log is another submission's. */
export function endedBySubmission(
  head: CommitRecord | undefined,
  request: Pick<StartRequest, "lineage" | "uid">,
): EndedJobState | undefined {
  if (head === undefined || head.submission !== request.lineage || head.uid !== request.uid) return undefined;
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
  const ended = endedBySubmission(head, request);
  if (ended !== undefined && ended !== "finished") {
    // SD3: its last JobManager may have recorded this after the new one looked.
    return refuse("JOB_CLOSED", `this run of job ${request.jobName} has ended (${ended})`, "start it again");
  }
  // SD2: it has created the lineage, or it is who runs it now.
  const isOwn = head.lineage === request.lineage || head.submission === request.lineage;
  const isOwnSubmission = isOwn && head.uid === request.uid;
  if (isOwnSubmission && !head.closed) return { type: "continue" };
  if (!isOwnSubmission && wantsNewLineage && head.pastLineages?.includes(request.lineage) === true) {
    return refuse(
      "JOB_CLOSED",
      `lineage ${request.lineage} of job ${request.jobName} was replaced by lineage ${head.lineage}: it is not begun again`,
      "let the newer start run the job, or start anew under an identity that this job has not had",
    );
  }
  if (!isOwnSubmission && wantsNewLineage) return { type: "new-lineage", lineage: request.lineage, restoreFrom };
  if (head.uid !== request.uid) {
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

function refuse(
  code: "JOB_FOREIGN" | "JOB_FINISHED" | "JOB_CLOSED" | "SNAPSHOT_DAMAGED",
  message: string,
  remedy: string,
): StartDecision {
  return { type: "refuse", failure: new Failure(code, { retry: "never", message, remedy }) };
}
