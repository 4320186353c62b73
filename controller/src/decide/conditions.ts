// The conditions and the lifecycle state that follow from a decision.
//
// Invariants:
//   CD1. Ready is True only while a JobManager of this job answers that it is RUNNING, or the job is where it ought to be without
//        running (suspended, finished).
//   CD2. Stalled is True exactly while a generation is given up; it names who must do what.
//   CD3. A message changes only with its cause: no counters or times in it that would make every look a write.
//
// Not here: reasons and words (the steps).

import { withCondition, withoutCondition } from "../status/index.ts";
import type { Condition, EndedState, LifecycleState } from "../status/index.ts";
import type { ConditionDraft } from "../status/index.ts";
import type { Draft } from "./draft.ts";

/** Whether this generation was refused or has failed (D6). */
export function isGivenUp(draft: Draft): boolean {
  if (draft.stalled !== undefined) return draft.stalled !== null;
  const stalled = find(draft, "Stalled");
  return stalled?.status === "True" && stalled.observedGeneration === draft.job.generation;
}

function find(draft: Draft, type: string): Condition | undefined {
  return (draft.status.conditions ?? []).find((one) => one.type === type);
}

export function concludeConditions(draft: Draft): void {
  const { refused } = draft.observed;
  if (refused !== undefined && draft.degraded === undefined)
    draft.degraded = {
      reason: "RequestRefused",
      message: `${refused.what} was refused by the API server (${refused.status}): ${refused.message}`,
    };
  let conditions = draft.status.conditions ?? [];
  const put = (wanted: ConditionDraft): void => {
    const old = conditions.find((one) => one.type === wanted.type);
    const generation =
      wanted.type === "Stalled" && draft.stalled === undefined
        ? (old?.observedGeneration ?? draft.job.generation)
        : draft.job.generation;
    const isSame =
      old?.status === wanted.status &&
      old.reason === wanted.reason &&
      old.message === wanted.message &&
      old.observedGeneration === generation;
    if (!isSame) conditions = withCondition(conditions, wanted, { now: draft.now, generation });
  };
  put(stalledCondition(draft));
  put(readyCondition(draft));
  put(progressingCondition(draft));
  put(degradedCondition(draft));
  if (draft.op === undefined)
    conditions = conditions.some((one) => one.type === "Reconciling")
      ? withoutCondition(conditions, "Reconciling")
      : conditions;
  else put({ ...progressingCondition(draft), type: "Reconciling" });
  if (conditions !== draft.status.conditions) draft.set({ conditions });
  const lifecycleState = lifecycleOf(draft);
  if (lifecycleState !== draft.status.lifecycleState) draft.set({ lifecycleState });
}

function stalledCondition(draft: Draft): ConditionDraft {
  const old = find(draft, "Stalled");
  if (draft.stalled === undefined && old !== undefined) {
    const { status, reason, message } = old;
    return { type: "Stalled", status, reason, message };
  }
  if (draft.stalled === undefined || draft.stalled === null)
    return { type: "Stalled", status: "False", reason: "Accepted", message: "" };
  return { type: "Stalled", status: "True", ...draft.stalled };
}

function readyCondition(draft: Draft): ConditionDraft {
  const { live, jobManager, status, job } = draft;
  const ready = (value: "True" | "False" | "Unknown", reason: string, message: string): ConditionDraft => ({
    type: "Ready",
    status: value,
    reason,
    message,
  });
  if (job.isDeleting) return ready("False", "Deleting", "the StreamJob is being deleted");
  if (live !== undefined) {
    if (jobManager === undefined)
      return ready("False", "JobManagerSilent", draft.waitingFor?.message ?? "the JobManager does not answer");
    if (jobManager.isRunning) return ready("True", "Running", "the job is RUNNING");
    if (jobManager.state === "RUNNING") return ready("False", "WaitingForSlots", "the job waits for TaskManagers");
    return ready("False", "JobNotRunning", `the job is ${jobManager.state}`);
  }
  const ended = status.deployed?.ended;
  if (draft.op === undefined && (ended === "FINISHED" || ended === "CANCELED") && !isGivenUp(draft))
    return ready("True", ended === "FINISHED" ? "Finished" : "Canceled", `the job is ${ended}`);
  if (draft.op === undefined && job.spec.state === "Suspended" && !isGivenUp(draft))
    return ready("True", "Suspended", "the job is suspended, as spec.state asks");
  if (draft.op === undefined)
    return ready("False", ended === "FAILED" ? "JobFailed" : "NotRunning", "nothing of the job runs");
  return ready(
    "False",
    draft.waitingFor?.reason ?? draft.op.step,
    draft.waitingFor?.message ?? "the job is being started",
  );
}

function progressingCondition(draft: Draft): ConditionDraft {
  const { op, waitingFor } = draft;
  if (op === undefined) return { type: "Progressing", status: "False", reason: "Settled", message: "" };
  return {
    type: "Progressing",
    status: "True",
    reason: waitingFor?.reason ?? op.step,
    message: waitingFor?.message ?? `${op.kind}: ${op.step}`,
  };
}

function degradedCondition(draft: Draft): ConditionDraft {
  const { degraded, live, jobManager, status, op } = draft;
  const is = (reason: string, message: string): ConditionDraft => {
    if (find(draft, "Degraded")?.reason !== reason) draft.event("Warning", reason, message);
    return { type: "Degraded", status: "True", reason, message };
  };
  if (degraded !== undefined) return is(degraded.reason, degraded.message);
  if (live !== undefined && op === undefined) {
    if (jobManager === undefined)
      return is("JobManagerSilent", "the JobManager does not answer: it starts, or cannot be reached");
    if (jobManager.state !== "RUNNING") {
      const { failure } = jobManager;
      const words = failure === undefined ? "" : `: ${failure.code}: ${failure.message}`;
      return is("JobNotRunning", `the job is ${jobManager.state}${words}`);
    }
    const counts = status.taskManagers;
    if (counts !== undefined && counts.ready < counts.wanted)
      return is("TaskManagersMissing", `${counts.ready} of ${counts.wanted} TaskManagers are ready`);
  }
  return { type: "Degraded", status: "False", reason: "AsExpected", message: "" };
}

const OF_END: Readonly<Record<EndedState, LifecycleState>> = {
  FINISHED: "Finished",
  CANCELED: "Finished",
  FAILED: "Failed",
  STALLED: "Stalled",
  SUSPENDED: "Suspended",
};

function lifecycleOf(draft: Draft): LifecycleState {
  const { op, live, status, job } = draft;
  if (job.isDeleting) return "Deleting";
  if (op !== undefined) {
    if (op.step === "Verify") return "Deployed";
    if (op.kind !== "Deploy") return "Upgrading";
    return op.step === "Preflight" ? "Preflight" : "Deploying";
  }
  if (live !== undefined) return status.lastStable?.attempt === live.attempt ? "Stable" : "Deployed";
  const ended = status.deployed?.ended;
  if (ended !== undefined && !(isGivenUp(draft) && ended === "SUSPENDED")) return OF_END[ended];
  if (isGivenUp(draft)) return "Stalled";
  return job.spec.state === "Suspended" ? "Suspended" : "Created";
}
