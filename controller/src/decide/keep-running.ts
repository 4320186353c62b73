// A job that ought to run: its pods are there, lost ones are replaced at once, its end and its crash loops are noticed.
//
// Invariants:
//   KR1. A pod's name is used once. Names come from a counter in the status; a pod whose uid was written down and that is gone, has
//        failed, is ending or sits on a lost node gets a successor under a fresh name. The commit log's epoch fences the old one.
//   KR2. ConfigMap, Secret and Service are made before the pods that need them.
//   KR3. A JobManager that takes over a job which has run may not begin a commit log (D3).
//   KR4. Only pods of the list of the status stay: all others are asked to go (sweep).
//   KR5. A stop that was given up may take hold later, when the JobManager answers again: such a job has not finished, it is started
//        again from its savepoint.
//
// Not here: starting and ending on purpose (fence.ts).

import { planted } from "@sluice/kit";

import {
  attemptName,
  attemptConfigMap,
  continuedName,
  podName,
  preflightName,
  runningPod,
  service,
  unpinIdOf,
} from "../objects/index.ts";
import type { LogHead, PodView } from "../observe/index.ts";
import type { Deployed, PodRef } from "../status/index.ts";
import { isGivenUp } from "./conditions.ts";
import type { Draft } from "./draft.ts";
import { REQUEUE_WAITING_MS } from "./draft.ts";
import { startOperation } from "./operation.ts";
import { findingOfFailure, findingOfPod, outOfMemory } from "./pod-findings.ts";
import { stall } from "./refuse.ts";

/** Crashes since the newest checkpoint. */
const CRASHES_MAX = 8;
/** An OOM kill is named for this long. */
const OOM_SHOWN_MS = 600_000;

export interface JobEnd {
  readonly state: "FINISHED" | "CANCELED" | "FAILED";
  readonly message: string;
  /** What the log said then, when its JobManager has left it behind. */
  readonly log?: LogHead;
}

/** How the job ended, as its JobManager answers or has left behind. */
export function endOf(draft: Draft, live: Deployed): JobEnd | undefined {
  const report = podOf(draft, live, "jobmanager", live.pods.jobManager)?.ended?.report;
  if (report?.event === "jobEnded" && report.state !== undefined) {
    const { state, message = "", log } = report;
    return { state, message, ...(log !== undefined && { log }) };
  }
  const state = draft.jobManager?.state;
  if (state === "FINISHED" || state === "CANCELED" || state === "FAILED") {
    const failure = draft.jobManager?.failure;
    return { state, message: failure === undefined ? "" : `${failure.code}: ${failure.message}` };
  }
  return undefined;
}

export function keepRunning(draft: Draft): void {
  const { live } = draft;
  if (live === undefined) return;
  const isStopping = draft.op?.step === "Stop";
  if (!isStopping) {
    const end = endOf(draft, live);
    if (end !== undefined) return wasRefusedAStop(draft) ? afterRefusedStop(draft, end) : finish(draft, end);
  }
  const fatal = fatalOf(draft, live);
  if (fatal !== undefined) return stall(draft, fatal);
  const crashes = crashesOf(draft, live);
  const counted = crashes - (live.progress?.crashes ?? 0);
  if (counted >= CRASHES_MAX) {
    const worst = podsOf(draft, live).toSorted((a, b) => b.restartCount - a.restartCount)[0];
    const words =
      worst === undefined ? "" : ` ${findingOfPod(draft, { ...worst, ended: worst.ended ?? worst.lastEnded }).message}`;
    return stall(draft, { reason: "CrashLoop", message: `${counted} crashes without a completed checkpoint.${words}` });
  }
  nameOutOfMemory(draft, live);
  // While a stop is answered the job's processes end one after the other: nobody is missing then.
  if (isStopping && draft.op?.triggerId !== undefined && endOf(draft, live) !== undefined) return;
  replaceLost(draft);
  makeMissing(draft);
  letGo(draft, live);
}

/** A stable version needs no way back: what its start kept may go. */
function letGo(draft: Draft, live: Deployed): void {
  const { jobManager, status, op } = draft;
  if (op !== undefined || jobManager?.keepsForStarts !== true || status.lastStable?.attempt !== live.attempt) return;
  const pod = podOf(draft, live, "jobmanager", live.pods.jobManager);
  if (pod?.podIp === undefined || !jobManager.isRunning) return;
  const { podIp } = pod;
  draft.act({
    type: "unpin",
    podIp,
    attempt: live.attempt,
    jobId: jobManager.jobId,
    operationId: unpinIdOf(live.attempt),
  });
}

/** A stop was asked for, and the version that it was for was refused when it took too long. */
function wasRefusedAStop(draft: Draft): boolean {
  const stalled = draft.status.conditions?.find((one) => one.type === "Stalled");
  return draft.op === undefined && isGivenUp(draft) && stalled?.reason === "SavepointFailed";
}

/** KR5. */
function afterRefusedStop(draft: Draft, end: JobEnd): void {
  if (end.state !== "FINISHED") return finish(draft, end);
  const { log } = end;
  // Its pod says how the log ended, once it has; REST does not.
  if (log === undefined)
    return draft.wait("Stopping", "the job has ended; waits for what its JobManager leaves behind");
  if (log.kind !== "exists" || log.jobState !== "stopped") return finish(draft, end);
  draft.record("Return", "a stop that was given up has stopped the job after all: its version is started again");
  startOperation(draft, { kind: "Deploy", step: "Fence", from: undefined, returns: true });
  draft.soon(REQUEUE_WAITING_MS);
}

function finish(draft: Draft, end: JobEnd): void {
  const words = end.message === "" ? "" : `: ${end.message}`;
  draft.setDeployed({ ended: end.state });
  draft.set({ jobState: end.state });
  draft.record(
    end.state === "FINISHED" ? "Finished" : end.state === "FAILED" ? "Failed" : "Canceled",
    `the job is ${end.state}${words}`,
  );
  draft.clearOp();
  if (end.state !== "FAILED") return;
  const message = `the job has failed for good (its restart strategy gave up)${words} Correct the job or its input, then change spec; it goes on from its newest checkpoint.`;
  draft.stalled = { reason: "JobFailed", message };
  draft.event("Warning", "JobFailed", message);
}

/** What a process reported that no restart changes. Who is fenced is not the job: another JobManager of it has taken over. */
function fatalOf(draft: Draft, live: Deployed): { readonly reason: string; readonly message: string } | undefined {
  for (const pod of podsOf(draft, live)) {
    for (const end of [pod.ended, pod.lastEnded]) {
      const report = end?.report;
      if (
        report !== undefined &&
        (report.event === "fatal" || report.event === "failure") &&
        report.retry === "never" &&
        report.code !== "FENCED"
      )
        return findingOfFailure(draft, report);
    }
  }
  return undefined;
}

/** Restarts of containers and replaced pods of this attempt. */
export function crashesOf(draft: Draft, live: Deployed): number {
  return podsOf(draft, live).reduce((sum, pod) => sum + pod.restartCount, live.replaced ?? 0);
}

function nameOutOfMemory(draft: Draft, live: Deployed): void {
  for (const pod of podsOf(draft, live)) {
    const killed = [pod.ended, pod.lastEnded].find((end) => end?.reason === "OOMKilled");
    if (killed !== undefined && (killed.atMs === undefined || draft.nowMs - killed.atMs < OOM_SHOWN_MS))
      draft.degraded = outOfMemory(draft, pod);
  }
}

/** The pod of a reference: by its uid once that is known. */
function podOf(draft: Draft, live: Deployed, component: PodView["component"], ref: PodRef): PodView | undefined {
  const name = podName({ job: draft.job.name, component, attempt: live.attempt, index: ref.index });
  return draft.observed.pods.find((pod) => pod.name === name && (ref.uid === undefined || ref.uid === pod.uid));
}

/** The pods of the list that are there. */
export function podsOf(draft: Draft, live: Deployed): readonly PodView[] {
  const { jobManager, taskManagers } = live.pods;
  return [
    podOf(draft, live, "jobmanager", jobManager),
    ...taskManagers.map((ref) => podOf(draft, live, "taskmanager", ref)),
  ].filter((pod) => pod !== undefined);
}

function isLost(pod: PodView | undefined, ref: PodRef): boolean {
  if (pod === undefined) return ref.uid !== undefined;
  return pod.isDeleting || pod.isNodeLost || pod.phase === "Failed" || pod.phase === "Succeeded";
}

/** Gives lost pods a successor in the list, and writes down the uids of those that are there (KR1). */
function replaceLost(draft: Draft): void {
  const { live } = draft;
  if (live === undefined) return;
  let { next } = live.pods;
  let replaced = live.replaced ?? 0;
  const renew = (component: PodView["component"], ref: PodRef): PodRef => {
    const pod = podOf(draft, live, component, ref);
    if (!isLost(pod, ref)) return pod === undefined || ref.uid === pod.uid ? ref : { ...ref, uid: pod.uid };
    const why = pod === undefined ? "is gone" : lossOf(pod);
    const name = podName({ job: draft.job.name, component, attempt: live.attempt, index: ref.index });
    draft.record("Replace", `pod ${name} ${why}`);
    if (pod?.phase === "Failed") replaced += 1;
    if (pod !== undefined) draft.deletePod(pod);
    const index = planted("operator-name-reused") ? ref.index : next;
    next += 1;
    return { index };
  };
  const jobManager = renew("jobmanager", live.pods.jobManager);
  const taskManagers = live.pods.taskManagers.map((ref) => renew("taskmanager", ref));
  const isSame =
    jobManager === live.pods.jobManager && taskManagers.every((ref, index) => ref === live.pods.taskManagers[index]);
  if (isSame) return;
  draft.setDeployed({ pods: { next, jobManager, taskManagers }, ...(replaced > 0 && { replaced }) });
}

function lossOf(pod: PodView): string {
  if (pod.isNodeLost) return `is on node ${pod.node ?? "?"}, which does not answer`;
  if (pod.isDeleting) return "is being deleted";
  if (pod.ended?.reason === "OOMKilled") return "was killed: out of memory";
  return pod.phase === "Failed" ? `has failed (${pod.reason || pod.ended?.reason || "no reason"})` : "has ended";
}

function makeMissing(draft: Draft): void {
  const { live, job, settings, status } = draft;
  const spec = status.deployedSpec;
  if (live === undefined || spec === undefined) return;
  const { jobManager, taskManagers } = live.pods;
  const missing = [
    { component: "jobmanager" as const, ref: jobManager },
    ...taskManagers.map((ref) => ({ component: "taskmanager" as const, ref })),
  ].filter(({ component, ref }) => podOf(draft, live, component, ref) === undefined);
  const lacksConfig = podsOf(draft, live).some((pod) => pod.waiting?.reason === "CreateContainerConfigError");
  if (missing.length === 0 && !lacksConfig) return;
  // KR3: an index above the first ones means that another JobManager was there before.
  const isTakeover = live.restore.mayCreate && live.runningAt !== undefined;
  // One attempt, one image: a controller of another version may have another default by now.
  const of = { job: { ...job, spec }, settings: { ...settings, defaultImage: live.image }, deployed: live };
  draft.act({ type: "applyService", object: service(of) });
  draft.act({ type: "createConfigMap", object: attemptConfigMap(of, { isTakeover: false }) });
  if (isTakeover) draft.act({ type: "createConfigMap", object: attemptConfigMap(of, { isTakeover: true }) });
  draft.act({ type: "createSecret", name: attemptName(job.name, live.attempt), attempt: live.attempt });
  for (const { component, ref } of missing) {
    const configMap =
      component === "jobmanager" && isTakeover
        ? continuedName(job.name, live.attempt)
        : attemptName(job.name, live.attempt);
    draft.act({ type: "createPod", object: runningPod(of, { component, index: ref.index, configMap }) });
  }
  draft.soon(REQUEUE_WAITING_MS);
}

/** Asks everything to go that has no place in the status (KR4). */
export function sweep(draft: Draft): void {
  const { op, live } = draft;
  if (op?.step === "Fence") return; // it deletes all by itself
  const current = op?.step === "Preflight" ? draft.attempt(op) : undefined;
  const kept = new Set(live === undefined ? [] : podsOf(draft, live).map((pod) => pod.uid));
  for (const pod of draft.observed.pods) {
    if (pod.component === "preflight" ? pod.attempt === current : kept.has(pod.uid)) continue;
    if (pod.component === "preflight" && !pod.isDeleting)
      draft.act({ type: "deleteConfigMap", name: preflightName(draft.job.name, pod.attempt) });
    draft.deletePod(pod);
  }
}
