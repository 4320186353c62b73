// The job's metrics as plain numbers under Flink's names: the one source for Prometheus and for REST's /metrics.
//
// Invariants:
//   JV1. What has not happened yet is -1, as in Flink (an id, a time, a duration of the last checkpoint).

import { externalPath } from "../rest/checkpoint-messages.ts";
import { isTerminal } from "../rest/source.ts";
import type { JobStatus, JobView } from "../rest/source.ts";

/** Flink's gauges of a job by name, with their help texts. */
export const JOB_GAUGES = {
  lastCheckpointDuration: "Duration of the last completed checkpoint, milliseconds; -1 before the first.",
  lastCheckpointSize: "Bytes that the last completed checkpoint stored.",
  lastCheckpointFullSize: "Bytes of all state in the last completed checkpoint.",
  lastCheckpointCompletedTimestamp:
    "When the last completed checkpoint got its last acknowledgement, milliseconds since the epoch.",
  lastCheckpointRestoreTimestamp: "When a checkpoint was last restored, milliseconds since the epoch; -1 if never.",
  lastCheckpointProcessedData: "Bytes processed while the last checkpoint aligned; not measured, 0.",
  lastCheckpointPersistedData: "Bytes in flight that the last checkpoint stored; 0, checkpoints are aligned.",
  lastCompletedCheckpointId: "Id of the last completed checkpoint; -1 before the first.",
  numberOfInProgressCheckpoints: "Checkpoints in progress.",
  numberOfCompletedCheckpoints: "Checkpoints that completed.",
  numberOfFailedCheckpoints: "Checkpoints that failed or were aborted.",
  totalNumberOfCheckpoints: "Checkpoints that were started.",
  numRestarts: "Restarts of the job.",
  numRescales: "Changes of parallelism of the running job.",
  uptime: "Milliseconds since the job was last RUNNING without interruption; 0 while it is not.",
  downtime: "Milliseconds since the job stopped being RUNNING; 0 while it runs, -1 when it has ended.",
} as const;

/** Our own gauges: how the tasks came by their state. */
export const RESTORE_GAUGES = {
  lastRestoreCheckpointId: "Id of the checkpoint that the tasks were last restored from; -1 if never.",
  lastRestoreFinishedTimestamp: "When the last task of that restore ran, milliseconds since the epoch; -1 if never.",
  lastRestoreDuration: "Milliseconds from the order to deploy until the last restored task ran; -1 if never.",
  lastRestoreLocalSubtasks: "Tasks of the last restore that needed nothing from the store; -1 if there was none.",
  lastRestoreLocalBytes: "Bytes of state of the last restore that came from local copies; -1 if there was none.",
  lastRestoreStoreSubtasks: "Tasks of the last restore that needed the store; -1 if there was none.",
  lastRestoreStoreBytes: "Bytes of state of the last restore that came from the store; -1 if there was none.",
} as const;

/** Flink's per-state times: `<name>Time` since the state was entered (0 in others), `<name>TimeTotal` overall. */
const STATE_NAMES: readonly (readonly [name: string, state: JobStatus])[] = [
  ["initializing", "INITIALIZING"],
  ["created", "CREATED"],
  ["running", "RUNNING"],
  ["failing", "FAILING"],
  ["restarting", "RESTARTING"],
  ["cancelling", "CANCELLING"],
];

export type MetricValues = ReadonlyMap<string, { readonly value: number; readonly help: string }>;

/** Every numeric metric of the job. */
export function jobMetricValues(job: JobView, nowMs: number): MetricValues {
  const { counts, latestCompleted, latestRestored } = job.checkpoints;
  const inState = Math.max(0, nowMs - job.timestamps[job.state]);
  const gauges: Readonly<Record<keyof typeof JOB_GAUGES, number>> = {
    lastCheckpointDuration: latestCompleted?.endToEndDurationMs ?? -1,
    lastCheckpointSize: latestCompleted?.stateSizeBytes ?? -1,
    lastCheckpointFullSize: latestCompleted?.stateSizeBytes ?? -1,
    lastCheckpointCompletedTimestamp: latestCompleted?.latestAckTimestampMs ?? -1,
    lastCheckpointRestoreTimestamp: latestRestored?.restoreTimestampMs ?? -1,
    lastCheckpointProcessedData: 0,
    lastCheckpointPersistedData: 0,
    lastCompletedCheckpointId: latestCompleted?.id ?? -1,
    numberOfInProgressCheckpoints: counts.inProgress,
    numberOfCompletedCheckpoints: counts.completed,
    numberOfFailedCheckpoints: counts.failed,
    totalNumberOfCheckpoints: counts.total,
    numRestarts: job.restartCount,
    numRescales: job.rescaleCount,
    uptime: job.state === "RUNNING" ? inState : 0,
    downtime: job.state === "RUNNING" ? 0 : isTerminal(job.state) ? -1 : inState,
  };
  const values = new Map<string, { readonly value: number; readonly help: string }>();
  for (const [name, value] of Object.entries(gauges)) {
    values.set(name, { value, help: JOB_GAUGES[name as keyof typeof JOB_GAUGES] });
  }
  const { restored } = job;
  const ours: Readonly<Record<keyof typeof RESTORE_GAUGES, number>> = {
    lastRestoreCheckpointId: restored?.checkpointId ?? -1,
    lastRestoreFinishedTimestamp: restored?.finishedAtMs ?? -1,
    lastRestoreDuration: Math.round(restored?.durationMs ?? -1),
    lastRestoreLocalSubtasks: restored?.localSubtasks ?? -1,
    lastRestoreLocalBytes: restored?.localBytes ?? -1,
    lastRestoreStoreSubtasks: restored?.storeSubtasks ?? -1,
    lastRestoreStoreBytes: restored?.storeBytes ?? -1,
  };
  for (const [name, value] of Object.entries(ours)) {
    values.set(name, { value, help: RESTORE_GAUGES[name as keyof typeof RESTORE_GAUGES] });
  }
  for (const [name, state] of STATE_NAMES) {
    const isCurrent = job.state === state;
    values.set(`${name}State`, { value: isCurrent ? 1 : 0, help: `1 while the job is ${state}, else 0.` });
    values.set(`${name}Time`, {
      value: isCurrent ? inState : 0,
      help: `Milliseconds since the job became ${state}; 0 in other states.`,
    });
    values.set(`${name}TimeTotal`, {
      value: job.stateTotalsMs[state],
      help: `Milliseconds that the job was ${state}, all times together.`,
    });
  }
  return values;
}

/** All metrics as REST gives them: texts, with the one that is not a number. */
export function jobMetricTexts(job: JobView, nowMs: number): ReadonlyMap<string, string> {
  const texts = new Map([...jobMetricValues(job, nowMs)].map(([name, { value }]) => [name, String(value)]));
  const latest = job.checkpoints.latestCompleted;
  texts.set("lastCheckpointExternalPath", latest === null ? "n/a" : externalPath(job, latest.externalPath));
  return texts;
}
