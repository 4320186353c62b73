// The message of GET /sluice/status. Pure.

import type { SluiceStatusMessage, SnapshotSummary } from "@sluice/api";
import type { CheckpointStats } from "../../checkpoint/index.ts";
import { externalPath } from "./checkpoint-messages.ts";
import type { JobManagerView, JobView, LogView } from "./source.ts";

const TEXT_CHARS_MAX = 2_000;

export function sluiceStatus(view: JobManagerView, job: JobView): SluiceStatusMessage {
  const { counts, latestCompleted, latestSavepoint, latestRestored } = job.checkpoints;
  const taskManagers = view.taskManagers();
  const log = view.log();
  const [newest] = job.exceptions;
  return {
    jobId: job.jid,
    jobName: job.plan.jobName,
    state: job.state,
    sinceMs: job.timestamps[job.state],
    runningSinceMs: job.timestamps.RUNNING === 0 ? -1 : job.timestamps.RUNNING,
    restarts: job.restartCount,
    failure:
      newest === undefined
        ? null
        : { code: newest.name, message: newest.text.slice(0, TEXT_CHARS_MAX), atMs: newest.atMs },
    taskManagers: {
      registered: taskManagers.map(({ id }) => id),
      slots: taskManagers.reduce((sum, { slots }) => sum + slots, 0),
      slotsRequired: view.slotsRequired(),
    },
    checkpoints: {
      completed: counts.completed,
      failed: counts.failed,
      latest: summary(job, latestCompleted),
      latestSavepoint: summary(job, latestSavepoint),
      restored:
        latestRestored === null
          ? null
          : {
              id: latestRestored.id,
              path: externalPath(job, latestRestored.externalPath),
              isSavepoint: latestRestored.isSavepoint,
              atMs: latestRestored.restoreTimestampMs,
            },
    },
    submission: view.submission(),
    log: log === undefined ? null : logMessage(log),
  };
}

function summary(job: JobView, stats: CheckpointStats | null): SnapshotSummary | null {
  if (stats === null) return null;
  return {
    id: stats.id,
    path: externalPath(job, stats.externalPath),
    completedAtMs: stats.triggerTimestampMs + stats.endToEndDurationMs,
    sizeBytes: stats.stateSizeBytes,
  };
}

function logMessage(log: LogView): NonNullable<SluiceStatusMessage["log"]> {
  const { seq, epoch, uid, lineage, head, pins } = log;
  return { seq, epoch, uid, lineage, headId: head?.id ?? null, headPath: head?.path ?? null, pins };
}
