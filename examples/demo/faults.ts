// Kills a process of the running job and measures how the job comes back.
//
// Invariants:
//   FA1. A process is killed only when a checkpoint is complete, its output is committed, and rows were read after it:
//        so the fault costs work, and the restore has something to bring back.
//   FA2. `replayedAtLeast` is a lower bound: rows counted before the kill and not in the checkpoint that was restored.
//        The counters come with heartbeats, so the true number is a little higher.

import { formatDuration } from "@sluice/kit";
import type { LocalCluster, ProcessRef } from "@sluice/cli";

import type { Output } from "./output.ts";
import { grouped } from "./screen.ts";
import type { Screen } from "./screen.ts";
import type { Picture, Watch } from "./watch.ts";

export interface Fault {
  readonly name: string;
  readonly pid: number;
  readonly detectedMs: number;
  readonly restoredCheckpointId: number;
  readonly restoredMs: number;
  /** From the kill to the first row that the new attempt has written. */
  readonly firstRowMs: number;
  readonly replayedAtLeast: number;
}

export interface Stage {
  readonly cluster: LocalCluster;
  readonly watch: Watch;
  readonly output: Output;
  readonly screen: Screen;
  /** The newest checkpoint that the screen has told of. */
  toldCheckpointId: number;
}

/** Completed checkpoints of an attempt before it is struck. */
const CHECKPOINTS_MIN = 2;
/** Rows read beyond the last commit before a process is killed, as a share of a second of input (FA1). */
const WORK_AT_RISK_SHARE = 0.5;

/** Strikes once FA1 holds in the present attempt, and waits until the job runs again. */
export async function strike(stage: Stage, ref: ProcessRef, rowsPerSecond: number): Promise<Fault> {
  const { cluster, watch, output, screen } = stage;
  const name = ref.kind === "jobmanager" ? "JobManager" : `TaskManager ${ref.index + 1}`;
  const known = ref.kind === "jobmanager" ? "the JobManager" : name;
  const restoredBefore = await watch.until("a restored or first attempt", (picture) => picture && restoreTime(picture));
  const readBefore = await watch.until(`work that a kill of the ${name} would lose`, (picture) => {
    if (picture === undefined || !picture.areAllTasksRunning) return undefined;
    const completed = picture.checkpoints.history.filter(
      (entry) => entry.className === "completed" && entry.latest_ack_timestamp > restoredBefore,
    );
    const newest = completed[0];
    if (newest === undefined || completed.length < CHECKPOINTS_MIN) return undefined;
    const committed = output.committed();
    const read = rowsReadInAll(picture, output);
    const isAtRisk = read > committed.rows + rowsPerSecond * WORK_AT_RISK_SHARE;
    return stage.toldCheckpointId >= newest.id && isAtRisk ? read : undefined;
  });

  const openBefore = output.open();
  const killedAt = performance.now();
  const killedAtMs = Date.now();
  const pid = cluster.kill(ref);
  const committedAtKill = output.committed();
  const atRisk = readBefore - committedAtKill.rows;
  screen.say(
    `kill -9 ${pid}: that was ${known}\n` +
      `${grouped(atRisk)} rows or more were read after checkpoint ${committedAtKill.checkpointId}; their effects are lost now`,
  );

  const detectedMs =
    ref.kind === "jobmanager"
      ? await watch.until("the supervisor notices", () => exitDelay(cluster, ref, killedAt))
      : await watch.until("the JobManager notices", (picture) => exceptionDelay(picture, killedAtMs));
  screen.say(`detected after ${formatDuration(detectedMs)}; another one is being started, and the job restarts`);

  const restored = await watch.until("the restore", (picture) => {
    const latest = picture?.checkpoints.latest.restored;
    return latest && latest.restore_timestamp > killedAtMs ? latest : undefined;
  });
  const restoredMs = restored.restore_timestamp - killedAtMs;
  const firstRowAtMs = await watch.until("the first new row", () => output.firstWrittenSince(killedAtMs, openBefore));
  const firstRowMs = Math.max(restoredMs, firstRowAtMs - killedAtMs);
  const replayedAtLeast = Math.max(0, readBefore - output.committed(restored.id).rows);
  screen.say(
    `restored checkpoint ${restored.id} after ${formatDuration(restoredMs)}; first new row after ${formatDuration(firstRowMs)}\n` +
      `${grouped(replayedAtLeast)} rows or more are replayed`,
  );
  return { name, pid, detectedMs, restoredCheckpointId: restored.id, restoredMs, firstRowMs, replayedAtLeast };
}

/** Each row of the input is one of the output, so the committed rows tell where the attempt began. */
export function rowsReadInAll(picture: Picture, output: Output): number {
  return output.committed(picture.checkpoints.latest.restored?.id ?? 0).rows + picture.rowsRead;
}

/** When the present attempt was restored; 0 for one that began empty. */
function restoreTime(picture: Picture): number {
  return picture.checkpoints.latest.restored?.restore_timestamp ?? 0;
}

function exceptionDelay(picture: Picture | undefined, sinceMs: number): number | undefined {
  const [newest] = picture?.exceptions.exceptionHistory.entries ?? [];
  return newest !== undefined && newest.timestamp >= sinceMs ? newest.timestamp - sinceMs : undefined;
}

/** The supervisor is the parent: it learns of the death from the system. */
function exitDelay(cluster: LocalCluster, ref: ProcessRef, sinceMs: number): number | undefined {
  const exited = cluster.events.findLast((event) => event.process.kind === ref.kind && event.type === "exited");
  return exited !== undefined && exited.atMs >= sinceMs ? exited.atMs - sinceMs : undefined;
}
