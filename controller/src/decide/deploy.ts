// Deploy and Verify: the new version's pods until its job runs, then until it is stable.
//
// Invariants:
//   DE1. A version is stable when `stability.checkpoints` checkpoints were completed without a restart of the job in between.
//   DE2. One that does not become so in time is Stalled; what it started from is kept.
//
// Not here: making and replacing pods, crash loops (keep-running.ts).

import { parseDurationMs } from "@sluice/kit";
import type { StreamJobSpec } from "@sluice/api";

import type { JobManagerView } from "../observe/index.ts";
import type { Deployed, Operation } from "../status/index.ts";
import type { Draft, Finding } from "./draft.ts";
import { REQUEUE_BUSY_MS } from "./draft.ts";
import { findingOfPod } from "./pod-findings.ts";
import { stall } from "./refuse.ts";

const DEADLINE_DEFAULT_MS = 300_000;

export function deployStep(draft: Draft): void {
  const { op, live, jobManager } = draft;
  if (op === undefined) return;
  if (live === undefined) return draft.clearOp();
  if (jobManager?.isRunning === true) {
    draft.set({ op: { ...op, step: "Verify", stepAt: draft.now, baseline: baselineOf(jobManager) } });
    draft.record("Running", `the job runs with parallelism ${live.parallelism}`);
    return;
  }
  const obstacle = obstacleOf(draft, live.attempt);
  if (isOverdue(draft, op)) {
    const state = jobManager === undefined ? "its JobManager does not answer" : stateOf(jobManager);
    const because = obstacle === undefined ? "" : ` ${obstacle.message}`;
    return stall(draft, {
      reason: obstacle?.reason ?? "NotRunning",
      message: `the job did not run within ${draft.status.deployedSpec?.stability.deadline ?? "5m"} (stability.deadline): ${state}.${because}`,
    });
  }
  const waits = jobManager === undefined ? "waits for the JobManager" : stateOf(jobManager);
  draft.wait(obstacle?.reason ?? "Deploying", obstacle?.message ?? waits, REQUEUE_BUSY_MS);
}

function stateOf(jobManager: JobManagerView): string {
  return jobManager.state === "RUNNING" ? "the job waits for slots" : `the job is ${jobManager.state}`;
}

/** The first pod of the attempt that says why it does not run. */
function obstacleOf(draft: Draft, attempt: string): Finding | undefined {
  const pods = draft.observed.pods.filter((pod) => pod.attempt === attempt && !pod.isDeleting);
  const stuck = pods.find(
    (pod) => pod.unschedulable !== undefined || pod.waiting !== undefined || pod.phase === "Failed",
  );
  if (stuck === undefined || /^(ContainerCreating|PodInitializing)$/u.test(stuck.waiting?.reason ?? ""))
    return undefined;
  return findingOfPod(draft, stuck);
}

/** A version whose verification was cut short (by a spec that was then refused) becomes stable as well. */
export function settle(draft: Draft): void {
  const { op, live, jobManager, status } = draft;
  if (op !== undefined || live === undefined || jobManager?.isRunning !== true) return;
  if (status.lastStable?.attempt === live.attempt) return;
  if (jobManager.completedCheckpoints >= wantedCheckpoints(status.deployedSpec)) becomeStable(draft, live);
}

function becomeStable(draft: Draft, live: Deployed): void {
  const { generation, hash, attempt } = live;
  const { deployedSpec } = draft.status;
  draft.set({
    lastStable: { generation, hash, attempt, at: draft.now },
    ...(deployedSpec !== undefined && { lastStableSpec: deployedSpec }),
  });
  const wanted = wantedCheckpoints(deployedSpec);
  draft.record("Stable", wanted === 0 ? "the job runs" : `${wanted} checkpoint(s) completed without a restart`);
}

export function verifyStep(draft: Draft): void {
  const { op, live, jobManager, status } = draft;
  if (op === undefined) return;
  if (live === undefined) return draft.clearOp();
  const wanted = wantedCheckpoints(status.deployedSpec);
  if (jobManager !== undefined) {
    const { baseline } = op;
    if (
      baseline === undefined ||
      baseline.process !== jobManager.run ||
      baseline.restarts !== jobManager.restarts ||
      baseline.completed > jobManager.completedCheckpoints
    ) {
      draft.setOp({ baseline: baselineOf(jobManager) });
    } else if (jobManager.isRunning && jobManager.completedCheckpoints - baseline.completed >= wanted) {
      becomeStable(draft, live);
      return draft.clearOp();
    }
  }
  if (isOverdue(draft, op)) {
    const obstacle = jobManager?.isRunning === true ? undefined : obstacleOf(draft, live.attempt);
    return stall(draft, {
      reason: obstacle?.reason ?? "NotStable",
      message: `the version did not complete ${wanted} checkpoint(s) without a restart within ${status.deployedSpec?.stability.deadline ?? "5m"} (stability).${obstacle === undefined ? lastFailure(jobManager) : ` ${obstacle.message}`}`,
    });
  }
  // A JobManager is RUNNING while it waits for TaskManagers: the pod that is missing says why.
  const obstacle = obstacleOf(draft, live.attempt);
  draft.wait(
    obstacle?.reason ?? "Verifying",
    obstacle?.message ?? `the job runs; stable after ${wanted} checkpoint(s) without a restart`,
  );
}

function lastFailure(jobManager: JobManagerView | undefined): string {
  if (jobManager === undefined) return " Its JobManager does not answer.";
  const { failure } = jobManager;
  return failure === undefined
    ? ` The job is ${jobManager.state}.`
    : ` The newest failure: ${failure.code}: ${failure.message}`;
}

function baselineOf(jobManager: JobManagerView): NonNullable<Operation["baseline"]> {
  const { run, restarts, completedCheckpoints } = jobManager;
  return { process: run, restarts, completed: completedCheckpoints };
}

/** Without periodic checkpoints there are none to wait for. */
function wantedCheckpoints(spec: StreamJobSpec | undefined): number {
  if (spec === undefined || intervalMsOf(spec) === undefined) return 0;
  return spec.stability.checkpoints;
}

function intervalMsOf(spec: StreamJobSpec): number | undefined {
  const written = spec.checkpointing?.interval;
  return spec.checkpointing === undefined || written === undefined ? undefined : durationMs(written);
}

/** From the start of the pods; never so short that the checkpoints asked for could not come in time. */
function isOverdue(draft: Draft, op: Operation): boolean {
  const spec = draft.status.deployedSpec;
  const deadlineMs = durationMs(spec?.stability.deadline) ?? DEADLINE_DEFAULT_MS;
  const intervalMs = spec === undefined ? 0 : (intervalMsOf(spec) ?? 0) * (spec.stability.checkpoints + 1);
  const startedAt = op.step === "Deploy" ? op.stepAt : draft.live?.startedAt;
  return draft.since(startedAt) > Math.max(deadlineMs, intervalMs);
}

/** A duration of the spec; undefined for what cannot be read (the schema lets none through). */
function durationMs(written: string | undefined): number | undefined {
  if (written === undefined) return undefined;
  try {
    return parseDurationMs(written, "duration");
  } catch {
    return undefined;
  }
}
