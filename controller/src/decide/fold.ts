// What the JobManager and the pods say, written into the status.
//
// Invariants:
//   FO1. Restarts add up over processes and attempts: a JobManager's counter that begins anew takes nothing away.
//   FO2. A checkpoint alone is written at most twice a minute; what changes with it goes along at once.
//
// Not here: what follows from it (the steps).

import type { SnapshotView } from "../observe/index.ts";
import type { Deployed, JobStatus, SnapshotStatus } from "../status/index.ts";
import type { Draft } from "./draft.ts";
import { crashesOf, podsOf } from "./keep-running.ts";

const SNAPSHOT_WRITE_MS = 30_000;

export function foldObserved(draft: Draft): void {
  const { live } = draft;
  if (live === undefined) {
    dropTaskManagers(draft);
    return;
  }
  const before = draft.status;
  foldJob(draft, live);
  foldTaskManagers(draft, live);
  foldSnapshots(draft, before);
  foldProgress(draft);
}

function foldJob(draft: Draft, live: Deployed): void {
  const { jobManager } = draft;
  if (jobManager === undefined) {
    const { jobState: _, ...rest } = draft.status;
    if (draft.status.jobState !== undefined) draft.status = rest;
    return;
  }
  const { run, restarts, state, jobId, isRunning } = jobManager;
  if (draft.status.jobState !== state || draft.status.jobId !== jobId) draft.set({ jobState: state, jobId });
  if (isRunning && live.runningAt === undefined) draft.setDeployed({ runningAt: draft.now });
  const seen = live.process;
  const added = seen === undefined ? restarts : seen.id === run ? Math.max(0, restarts - seen.restarts) : restarts + 1; // FO1: its JobManager was restarted, and with it the job
  if (seen?.id !== run || seen.restarts !== restarts) draft.setDeployed({ process: { id: run, restarts } });
  if (added > 0 || draft.status.restarts === undefined) draft.set({ restarts: (draft.status.restarts ?? 0) + added });
}

function foldTaskManagers(draft: Draft, live: Deployed): void {
  const ready = podsOf(draft, live).filter((pod) => pod.component === "taskmanager" && pod.isReady).length;
  writeTaskManagers(draft, live.pods.taskManagers.length, ready);
}

function dropTaskManagers(draft: Draft): void {
  if (draft.status.taskManagers !== undefined) writeTaskManagers(draft, 0, 0);
}

function writeTaskManagers(draft: Draft, wanted: number, ready: number): void {
  const old = draft.status.taskManagers;
  if (old?.wanted === wanted && old.ready === ready) return;
  draft.set({ taskManagers: { wanted, ready, summary: `${ready}/${wanted}` } });
}

/** `before`: the status without this observation. */
function foldSnapshots(draft: Draft, before: JobStatus): void {
  const { jobManager, status } = draft;
  if (jobManager === undefined) return;
  const checkpoint = newer(status.lastCheckpoint, jobManager.lastCheckpoint);
  const savepoint = newer(status.lastSavepoint, jobManager.lastSavepoint);
  if (checkpoint === undefined && savepoint === undefined) return;
  const isDue =
    savepoint !== undefined ||
    draft.status !== before ||
    draft.op !== undefined ||
    draft.since(status.lastCheckpoint?.completedAt) >= SNAPSHOT_WRITE_MS; // FO2
  if (!isDue) return;
  draft.set({
    ...(checkpoint !== undefined && { lastCheckpoint: checkpoint }),
    ...(savepoint !== undefined && { lastSavepoint: savepoint }),
  });
}

function newer(old: SnapshotStatus | undefined, seen: SnapshotView | undefined): SnapshotStatus | undefined {
  if (seen === undefined || (old !== undefined && old.id === seen.id && old.path === seen.path)) return undefined;
  const { id, path, completedAtMs, sizeBytes } = seen;
  return { id, path, completedAt: new Date(completedAtMs).toISOString(), sizeBytes };
}

/** Crashes before the newest checkpoint do not count against the job. */
function foldProgress(draft: Draft): void {
  const { live, jobManager } = draft;
  if (live === undefined || jobManager?.lastCheckpoint === undefined) return;
  const crashes = crashesOf(draft, live);
  const checkpointId = jobManager.lastCheckpoint.id;
  const { progress } = live;
  if (crashes === (progress?.crashes ?? 0) || checkpointId === progress?.checkpointId) return;
  // The first sight of a checkpoint after crashes: which of both came first is not known, so the next one decides.
  draft.setDeployed({ progress: { checkpointId, crashes: progress === undefined ? 0 : crashes } });
}
