// Stop: the running job ends as `upgradeMode` says; with Savepoint its location is in the status before anything else happens.
//
// Invariants:
//   SP1. A stop is asked for under the operation's trigger id, written before: asked again it is the same stop.
//   SP2. The pods of the old version are not touched before its savepoint is known, or it is known that there will be none.
//   SP3. State is never given up for a savepoint that cannot be had: a job that has failed by itself goes on from its newest checkpoint.
//   SP4. With its savepoint known the job is given time to end: until it has, its last output waits there, and nobody finds it who does not go
//        on with this job.
//
// Not here: what happens to the pods then (fence.ts).

import { planted } from "@sluice/kit";

import { triggerIdOf } from "../objects/index.ts";
import type { Deployed, Operation } from "../status/index.ts";
import type { Draft } from "./draft.ts";
import { REQUEUE_BUSY_MS } from "./draft.ts";
import { endOf } from "./keep-running.ts";
import type { JobEnd } from "./keep-running.ts";
import { tryAgain } from "./operation.ts";
import { refuse } from "./refuse.ts";

const TRIES_MAX = 3;
/** A job that is not running for this long cannot be stopped with a savepoint. */
const NOT_RUNNING_MS = 60_000;
/** A JobManager that does not answer for this long does not stop its job either. */
const SILENT_MS = 600_000;
/** A savepoint that takes longer is named with its age. */
const SLOW_MS = 30_000;
/** Time for the last output; a store that takes none then must not hold up the next version, whose start publishes it. */
const PUBLISH_MS = 30_000;
/** Time for the answer of a stop after the job has ended. */
const LAST_WORDS_MS = 10_000;

export function stopStep(draft: Draft): void {
  const { op, live } = draft;
  if (op === undefined) return;
  if (live === undefined) return toFence(draft, op); // its pods are gone already
  // What never ran has written nothing: its head is where it began.
  if (op.mode !== "Savepoint" || (live.runningAt === undefined && op.triggerId === undefined))
    return toFence(draft, op);
  const { operation } = draft.observed;
  if (op.savepoint !== undefined) return publishing(draft, { ...op, savepoint: op.savepoint }, live);
  if (op.triggerId !== undefined && operation?.type === "completed")
    return publishing(draft, { ...op, savepoint: operation.location, stepAt: draft.now }, live);
  if (op.triggerId !== undefined && operation?.type === "failed") return failed(draft, op, operation.message);
  const end = endOf(draft, live);
  if (end !== undefined) return ended(draft, op, end);
  askToStop(draft, op, live);
}

/** SP4. */
function publishing(draft: Draft, op: Operation & { readonly savepoint: string }, live: Deployed): void {
  const { savepoint } = op;
  const isOver = endOf(draft, live) !== undefined;
  if (isOver || draft.since(op.stepAt) >= PUBLISH_MS) {
    const late = isOver
      ? ""
      : `; its last output was not published within ${PUBLISH_MS / 1_000} s, its next start does it`;
    draft.record("Stopped", `the job stopped with savepoint ${savepoint}${late}`);
    return toFence(draft, op);
  }
  // The JobManager may be gone before it is asked again: what it answered is all that is known of the savepoint.
  draft.set({ op });
  noteSavepoint(draft, savepoint);
  draft.wait("Stopping", `the job has savepoint ${savepoint} and publishes its last output`, REQUEUE_BUSY_MS);
}

function askToStop(draft: Draft, op: Operation, live: Deployed): void {
  const { jobManager, observed } = draft;
  const waitedMs = draft.since(op.stepAt);
  const pod = draft.podsOf(live.attempt, "jobmanager").find((one) => one.uid === live.pods.jobManager.uid);
  if (jobManager === undefined || pod?.podIp === undefined) {
    if (waitedMs > SILENT_MS) return failed(draft, { ...op, tries: TRIES_MAX }, "its JobManager does not answer");
    return draft.wait("Stopping", "waits for the JobManager to answer, to stop the job with a savepoint");
  }
  const isOn = op.triggerId !== undefined && observed.operation?.type === "running" && !planted("operator-stops-twice");
  if (!jobManager.isRunning && !isOn) {
    const state = jobManager.state === "RUNNING" ? "waiting for slots" : jobManager.state;
    if (waitedMs > NOT_RUNNING_MS)
      return failed(draft, { ...op, tries: TRIES_MAX }, `the job is ${state}, and only a running one can`);
    return draft.wait("Stopping", `waits for the job, which is ${state}, to run: then it is stopped with a savepoint`);
  }
  // Planted: an id that is not the operation's stops twice.
  const triggerId = planted("operator-stops-twice")
    ? triggerIdOf(`${op.id}@${draft.nowMs}`)
    : (op.triggerId ?? triggerIdOf(op.id));
  if (op.triggerId === undefined) draft.setOp({ triggerId });
  if (!isOn) {
    const { jobId } = jobManager;
    draft.act({ type: "stopWithSavepoint", podIp: pod.podIp, attempt: live.attempt, jobId, triggerId });
  }
  if (waitedMs < SLOW_MS) return draft.wait("Stopping", "the job stops with a savepoint", REQUEUE_BUSY_MS);
  // CD3: when it began, and a coarse age: no write at every look.
  const giveUp = draft.status.deployedSpec?.checkpointing?.timeout ?? "10m";
  draft.wait(
    "SavepointPending",
    `the job stops with a savepoint, asked for at ${op.stepAt} and not complete for more than ${ageOf(waitedMs)} (try ${op.tries} of ${Math.max(op.tries, TRIES_MAX)}); the job runs on. The JobManager gives a savepoint up after ${giveUp} (checkpointing.timeout); then it is tried again, or the new version is refused.`,
    REQUEUE_BUSY_MS,
  );
}

/** The longest of a few ages that has passed. */
function ageOf(waitedMs: number): string {
  const minutes = Math.floor(waitedMs / 60_000);
  if (minutes < 1) return `${SLOW_MS / 1_000} s`;
  const shown = minutes < 5 ? 1 : minutes - (minutes % 5);
  return `${shown} min`;
}

/** The job has ended while it was to be stopped. */
function ended(draft: Draft, op: Operation, end: JobEnd): void {
  const { state, log } = end;
  const hasFinished = state === "FINISHED" && !(log?.kind === "exists" && log.jobState === "stopped");
  // Its input may have ended before the stop took hold: then the log says so.
  const isComplete = log?.kind === "exists" && log.jobState === "finished";
  if (state === "FINISHED" && op.triggerId !== undefined && !isComplete) {
    // The stop that was asked for, whose answer is still to come; or lost: the log's head is its savepoint then.
    const isAnswered = draft.jobManager !== undefined && draft.since(op.stepAt) < LAST_WORDS_MS;
    if (isAnswered) return draft.wait("Stopping", "the job has stopped; waits for its savepoint", REQUEUE_BUSY_MS);
    const savepoint = log?.kind === "exists" && log.jobState === "stopped" ? log.headPath : undefined;
    draft.record("Stopped", `the job has stopped with ${savepoint ?? "a savepoint, the head of its commit log"}`);
    return toFence(draft, savepoint === undefined ? op : { ...op, savepoint });
  }
  if (hasFinished) {
    // By itself: there is nothing to upgrade or suspend. The next decision says what the newest spec means now.
    draft.setDeployed({ ended: "FINISHED" });
    draft.record("Finished", "the job finished before it was stopped");
    return draft.clearOp();
  }
  draft.record("Stopped", `the job is ${state}: it goes on from its newest state`); // SP3
  toFence(draft, op);
}

function failed(draft: Draft, op: Operation, message: string): void {
  if (op.tries < TRIES_MAX) {
    draft.record("StopFailed", `${message}; tried again`);
    return tryAgain(draft, "Stop");
  }
  refuse(draft, {
    reason: "SavepointFailed",
    message: `the job could not be stopped with a savepoint: ${message}. It was left as it is. Change spec to try again, or set upgradeMode: LastState to go on from its newest checkpoint.`,
  });
}

function toFence(draft: Draft, op: Operation): void {
  const podUids = draft.observed.pods.filter((pod) => pod.component !== "preflight").map((pod) => pod.uid);
  draft.set({ op: { ...op, step: "Fence", stepAt: draft.now, isStopped: true, podUids } });
  if (op.savepoint !== undefined) noteSavepoint(draft, op.savepoint);
}

function noteSavepoint(draft: Draft, path: string): void {
  if (draft.status.lastSavepoint?.path !== path) draft.set({ lastSavepoint: { path, completedAt: draft.now } });
}
