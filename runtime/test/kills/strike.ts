// Strikes a running cluster as planned, and proves what came of it.
//
// Invariants:
//   SK1. A strike happens only when the attempt that runs has committed output of its own, so that its kill can count.
//   SK2. After a strike the run goes on only when every task runs again and a new checkpoint was committed.
//   SK3. A paused TaskManager is woken only after the JobManager has given it up, and with a spare one after its successors run.
//
// Not here: which kills (scenario.ts), what proves them (evidence.ts).

import { setTimeout as sleep } from "node:timers/promises";

import type { TaskManagerMessage, TaskManagersMessage } from "@sluice/api";
import type { LocalCluster, ProcessRef } from "@sluice/cli";

import { publishedFiles, publishedText } from "../support/published.ts";
import { PARALLELISM } from "./scenario.ts";
import type { KillKind, PlannedKill } from "./scenario.ts";

const STEP_TIMEOUT_MS = 60_000;
const JOB_MANAGER: ProcessRef = { kind: "jobmanager", index: 0 };

/** What is known of a strike before the run is over. */
export interface Strike {
  readonly kind: KillKind;
  readonly atMs: number;
  readonly committedFileCount: number;
  readonly committedRecordCount: number;
  readonly restoredCheckpointId: number | null;
  readonly recoveryMs: number;
}

/** Strikes once and waits until the job runs again and commits (SK2). */
export async function strike(cluster: LocalCluster, kill: PlannedKill, outputDirectory: string): Promise<Strike> {
  await untilCommitting(cluster, outputDirectory, publishedFiles(outputDirectory).length);
  await sleep(kill.delayMs); // the point in time is the random part
  const committedFileCount = publishedFiles(outputDirectory).length;
  const committedRecordCount = publishedText(outputDirectory).split("\n").length - 1;
  const taskManager = await taskManagerWithTasks(cluster, kill.taskManagerIndex);
  const atMs = Date.now();
  await hit(cluster, kill.kind, taskManager, atMs);
  const restored = await untilRestored(cluster, atMs);
  const recoveryMs = Date.now() - atMs;
  await untilCheckpointAbove(cluster, restored ?? 0);
  return {
    kind: kill.kind,
    atMs,
    committedFileCount,
    committedRecordCount,
    restoredCheckpointId: restored,
    recoveryMs,
  };
}

async function hit(cluster: LocalCluster, kind: KillKind, taskManager: ProcessRef, atMs: number): Promise<void> {
  switch (kind) {
    case "taskmanager":
      cluster.kill(taskManager);
      return;
    case "jobmanager":
      cluster.kill(JOB_MANAGER);
      return;
    case "both":
      cluster.kill(taskManager);
      cluster.kill(JOB_MANAGER);
      return;
    case "pause": {
      cluster.pause(taskManager);
      const { id } = cluster.process(taskManager);
      await cluster.until(
        `the JobManager gives ${id} up`,
        async () => (await registered(cluster)).every((other) => other.id !== id),
        { timeoutMs: STEP_TIMEOUT_MS },
      );
      const taskManagers = cluster.processes().filter((process) => process.kind === "taskmanager");
      if (taskManagers.length > PARALLELISM) await untilRestored(cluster, atMs);
      cluster.resume(taskManager); // SK3
      return;
    }
  }
}

async function registered(cluster: LocalCluster): Promise<readonly TaskManagerMessage[]> {
  return (await cluster.rest.get<TaskManagersMessage>("/taskmanagers")).taskmanagers;
}

/**
 * The process of the nth TaskManager that runs tasks: nothing follows from the death of a spare one. Waits for it: on a slow machine
 * a heartbeat comes late, and the job restarts by itself.
 */
async function taskManagerWithTasks(cluster: LocalCluster, nth: number): Promise<ProcessRef> {
  return await cluster.until(
    `TaskManager ${nth} has tasks`,
    async () => {
      const ids = (await registered(cluster)).filter(({ assignedTasks }) => assignedTasks > 0).map(({ id }) => id);
      const id = ids.toSorted()[nth];
      const found = cluster.processes().find((process) => process.id === id);
      return found === undefined ? undefined : ({ kind: "taskmanager", index: found.index } as const);
    },
    { timeoutMs: STEP_TIMEOUT_MS },
  );
}

/** SK1: the running attempt has committed output, and a further checkpoint is on its way. */
async function untilCommitting(cluster: LocalCluster, outputDirectory: string, committedBefore: number): Promise<void> {
  await cluster.until(
    "output is committed and the next checkpoint begins",
    async () => {
      if (publishedFiles(outputDirectory).length <= committedBefore) return undefined;
      const { latest, counts } = await cluster.rest.checkpoints();
      const isOwn = latest.completed !== null && latest.completed.id > (latest.restored?.id ?? 0);
      return isOwn && counts.in_progress > 0;
    },
    { timeoutMs: STEP_TIMEOUT_MS },
  );
}

/** Resolves with the id of the checkpoint that was restored after `atMs`; null when the job began anew without one. */
async function untilRestored(cluster: LocalCluster, atMs: number): Promise<number | null> {
  return await cluster
    .until(
      "the job runs again from a checkpoint",
      async () => {
        const { latest } = await cluster.rest.checkpoints();
        const { restored } = latest;
        const job = await cluster.rest.job();
        const isRunning = job.vertices.every((vertex) => vertex.tasks.RUNNING === vertex.parallelism);
        if (job.state !== "RUNNING" || !isRunning || job.timestamps.RUNNING < atMs) return undefined;
        if (restored === null) return { id: null };
        return restored.restore_timestamp >= atMs ? { id: restored.id } : undefined;
      },
      { timeoutMs: STEP_TIMEOUT_MS },
    )
    .then(({ id }) => id);
}

async function untilCheckpointAbove(cluster: LocalCluster, id: number): Promise<void> {
  await cluster.until(
    `a checkpoint above ${id} is committed`,
    async () => ((await cluster.rest.checkpoints()).latest.completed?.id ?? 0) > id,
    { timeoutMs: STEP_TIMEOUT_MS },
  );
}
