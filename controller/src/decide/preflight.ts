// Preflight: a short-lived pod of the new version says whether it could run. Nothing else is touched before it has.
//
// Invariants:
//   PF1. What only time can change (a pull, a Secret that is not there yet, a bucket that does not answer) gets a while, and is
//        named meanwhile; what only a change of the spec can change is refused at once.
//   PF2. A log that exists decides as `onExistingData` says; a log that ought to exist and does not refuses.
//   PF3. The API server has said that it takes the pods of this version (pod-trial.ts).
//
// Not here: what the pod does (packages/cli/src/pod).

import { preflightConfigMap, preflightName, preflightPod } from "../objects/index.ts";
import type { LogHead, PodReportView, PodView } from "../observe/index.ts";
import type { Operation } from "../status/index.ts";
import type { Draft, Finding } from "./draft.ts";
import { tryAgain } from "./operation.ts";
import { findingOfFailure, findingOfPod } from "./pod-findings.ts";
import { isFinalRefusal, podRefused, tryPods } from "./pod-trial.ts";
import { refuse } from "./refuse.ts";

const TRIES_MAX = 4;
/** Time for a Secret, a ConfigMap or an image to come into being, by when it was said to be missing. */
const GRACE_MS = 30_000;
/** Between two tries. */
const RETRY_DELAY_MS = 5_000;

export function preflightStep(draft: Draft): void {
  const { op, job } = draft;
  if (op === undefined) return;
  if (job.spec.state === "Suspended") return draft.clearOp();
  const attempt = draft.attempt(op);
  const { refused } = draft.observed;
  // Not one of the running version's, whose pods are looked after meanwhile.
  const isOurs = refused?.opId === op.id && refused.what.endsWith(`/${preflightName(job.name, attempt)}`);
  if (isOurs && (isFinalRefusal(refused) || isOverdue(draft, op))) return refuse(draft, podRefused(refused));
  const pod = draft.podsOf(attempt, "preflight").find((one) => !one.isDeleting);
  if (pod === undefined) {
    if (isOverdue(draft, op)) return refuse(draft, { reason: "PreflightTimeout", message: TIMEOUT });
    return startPod(draft, op, attempt);
  }
  if (pod.ended === undefined && pod.phase !== "Failed" && pod.phase !== "Succeeded") return waitFor(draft, op, pod);
  const report = pod.ended?.report;
  if (report?.event === "preflight" && report.ok === true) return accept(draft, op, report);
  const finding = report === undefined ? findingOfPod(draft, pod) : findingOfFailure(draft, report);
  const isWorthATry = report === undefined ? pod.ended?.reason !== "OOMKilled" : report.retry !== "never";
  return failed(draft, op, finding, isWorthATry);
}

const TIMEOUT =
  "the preflight pod of this version did not finish within 5 minutes. Look at it and at its events (kubectl describe pod), and change spec to try again.";

function isOverdue(draft: Draft, op: Operation): boolean {
  return op.deadline !== undefined && draft.since(op.deadline) > 0;
}

function startPod(draft: Draft, op: Operation, attempt: string): void {
  // A try after a failure waits: stepAt is when that failure was seen.
  const remainingMs = op.tries === 1 || op.message === undefined ? 0 : RETRY_DELAY_MS - draft.since(op.stepAt);
  if (remainingMs > 0) return draft.wait("Preflight", `${op.message}; tried again in a moment`, remainingMs);
  const { job, settings } = draft;
  const of = { job, settings, attempt, opId: op.id };
  draft.act({ type: "createConfigMap", object: preflightConfigMap(of) });
  draft.act({ type: "createPod", object: preflightPod(of) });
  draft.wait("Preflight", op.message ?? "a pod of this version checks whether it can run");
}

function waitFor(draft: Draft, op: Operation, pod: PodView): void {
  const obstacle = findingOfPod(draft, pod);
  const ageMs = pod.createdAtMs === undefined ? 0 : draft.nowMs - pod.createdAtMs;
  const isStuck = pod.waiting !== undefined && ageMs > GRACE_MS && IS_MISSING.has(obstacle.reason);
  if (isStuck || NEVER.has(pod.waiting?.reason ?? "")) return refuse(draft, obstacle);
  if (pod.isNodeLost) return failed(draft, op, obstacle, true);
  if (isOverdue(draft, op)) {
    const reason = pod.unschedulable === undefined ? "PreflightTimeout" : "Unschedulable";
    return refuse(draft, { reason, message: `${TIMEOUT} ${obstacle.message}` });
  }
  draft.wait(obstacle.reason, obstacle.message);
}

/** What is not there, and may come. */
const IS_MISSING: ReadonlySet<string> = new Set(["ImagePullFailed", "SecretMissing", "ContainerRefused"]);
/** Waiting reasons of the kubelet that waiting does not change. */
const NEVER: ReadonlySet<string> = new Set(["InvalidImageName", "ErrImageNeverPull"]);

function failed(draft: Draft, op: Operation, finding: Finding, isWorthATry: boolean): void {
  if (!isWorthATry || op.tries >= TRIES_MAX || isOverdue(draft, op)) return refuse(draft, finding);
  tryAgain(draft, "Preflight");
  draft.setOp({ message: `${finding.reason}: ${finding.message}` });
  draft.wait(finding.reason, `${finding.message} (tried again, ${op.tries} of ${TRIES_MAX})`, RETRY_DELAY_MS);
}

function accept(draft: Draft, op: Operation, report: PodReportView): void {
  const objection = objectionOfLog(draft, report.log);
  if (objection !== undefined) return refuse(draft, objection);
  const pods = tryPods(draft, op);
  if (pods === "waiting") return;
  if (pods !== "taken") return refuse(draft, pods);
  const isRunning = draft.live !== undefined && op.isStopped !== true;
  const { message: _, deadline: __, ...kept } = op;
  draft.set({
    op: {
      ...kept,
      step: isRunning ? "Stop" : "Fence",
      stepAt: draft.now,
      ...(report.slots !== undefined && { slots: report.slots }),
      ...(report.log?.kind === "absent" && { foundNoLog: true }),
    },
  });
}

/** What the commit log says against this start (PF2). */
function objectionOfLog(draft: Draft, log: LogHead | undefined): Finding | undefined {
  const { job, status } = draft;
  if (log === undefined || log.kind === "none") return undefined;
  const isStateless = job.spec.upgradeMode === "Stateless";
  if (log.kind === "absent") {
    const movesAway = status.deployedSpec?.checkpointing?.dir !== job.spec.checkpointing?.dir;
    // Nobody of this job has ever answered: its first start failed before there was a log.
    if (status.everStateful !== true || status.jobId === undefined || (isStateless && movesAway)) return undefined;
    return {
      reason: "StateMissing",
      message: `there is no commit log in ${job.spec.checkpointing?.dir ?? "checkpointing.dir"}, but this job has had one: its state is gone, or the place is another one. Put it back; or delete the StreamJob and apply it again to begin without state.`,
    };
  }
  if (log.uid !== job.uid && job.spec.onExistingData === "Refuse" && status.everStateful !== true) {
    return {
      reason: "ExistingData",
      message: `another StreamJob of this name has left data in ${job.spec.checkpointing?.dir ?? "checkpointing.dir"} (newest checkpoint: ${log.headPath ?? "none"}). Set onExistingData: Resume to go on from it, or NewLineage to begin without state beside it. Nothing is deleted in any case.`,
    };
  }
  if (log.uid === job.uid && log.jobState === "finished" && !isStateless) {
    return {
      reason: "JobFinished",
      message:
        "the job has finished: its input has ended and its output is complete. To run it again from the beginning set upgradeMode: Stateless.",
    };
  }
  return undefined;
}
