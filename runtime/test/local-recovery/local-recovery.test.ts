// Recovery from the TaskManagers' own disks, on real processes: used when whole, replaced by the store part by part when not, and
// exact in every case. What was used is read from the JobManager's metrics, the TaskManagers' /metrics and the log.
//
// Invariants: LC1, LC3 of taskmanager/io/local-copies.ts, SR4 of snapshot-reader.ts, PL4 of jobmanager/placement.ts.

import { afterEach, describe, expect, test } from "@jest/globals";
import type { LocalCluster } from "@sluice/cli";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { endOf, NumbersRun, untilCompleted } from "../support/numbers-run.ts";
import { fillUp, mayMountTmpfs, mountTmpfs } from "../support/store.ts";

const TEST_TIMEOUT_MS = 180_000;
const COUNT = 150_000;
/** Of each subtask: the input outlasts all that is done to the job, on a slow machine too; drained at full speed. */
const PER_SECOND = 1_000;
/** Subtasks with state: two of the source, two of the sum with its sink. */
const SUBTASKS = 4;

const undo: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).toReversed()) await step();
});

function newRun(seed: number): NumbersRun {
  const run = new NumbersRun({ seed, count: COUNT });
  undo.push(() => run.dispose());
  return run;
}

interface Restored {
  readonly localSubtasks: number;
  readonly localBytes: number;
  readonly storeSubtasks: number;
  readonly storeBytes: number;
}

/** A checkpoint of the running attempt is committed, and its copies are written. */
async function untilCopied(cluster: LocalCluster): Promise<void> {
  await untilCompleted(cluster, (await cluster.rest.checkpoints()).counts.completed + 2);
}

/** Strikes, waits until every task runs again, and says where the state came from. */
async function restoredAfter(cluster: LocalCluster, strike: () => void): Promise<Restored> {
  const beforeMs = Date.now();
  strike();
  return await cluster.until(
    "every task is restored",
    async () => {
      const m = await cluster.rest.metrics([
        "lastRestoreFinishedTimestamp",
        "lastRestoreLocalSubtasks",
        "lastRestoreLocalBytes",
        "lastRestoreStoreSubtasks",
        "lastRestoreStoreBytes",
      ]);
      if ((m.lastRestoreFinishedTimestamp ?? -1) < beforeMs) return undefined;
      return {
        localSubtasks: m.lastRestoreLocalSubtasks ?? -1,
        localBytes: m.lastRestoreLocalBytes ?? -1,
        storeSubtasks: m.lastRestoreStoreSubtasks ?? -1,
        storeBytes: m.lastRestoreStoreBytes ?? -1,
      };
    },
    { timeoutMs: 60_000 },
  );
}

/** Sums of a TaskManager metric over all its pages, by source. */
async function restoredParts(cluster: LocalCluster): Promise<{ readonly local: number; readonly store: number }> {
  const addresses = new Map<number, string>();
  for (const event of cluster.events) {
    if (event.type === "said" && event.process.kind === "taskmanager" && event.said.event === "listening")
      addresses.set(event.process.index, event.said.metricsAddress ?? "");
  }
  const sums = { local: 0, store: 0 };
  for (const address of addresses.values()) {
    const page = await (await fetch(`http://${address}/metrics`)).text();
    for (const [, source, value] of page.matchAll(
      /^flink_taskmanager_job_task_restoredParts\{.*source="(\w+)".*\} (\S+)$/gm,
    ))
      sums[source as "local" | "store"] += Number(value);
  }
  return sums;
}

function filesBelow(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

function copiesOf(run: NumbersRun, index: number): readonly string[] {
  return filesBelow(run.at("work", `tm-${index + 1}`, "localState"));
}

/** Stands still, so that no new checkpoint completes; then its disk changes; then it dies and starts again in its place. */
function killAfter(cluster: LocalCluster, index: number, change: () => void): void {
  cluster.pause({ kind: "taskmanager", index });
  change();
  cluster.kill({ kind: "taskmanager", index });
}

function flipByte(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] ?? 0) ^ 0x10;
  writeFileSync(path, bytes);
}

function logs(cluster: LocalCluster): string {
  return cluster
    .processes()
    .map(({ logPath }) => readFileSync(logPath, "utf8"))
    .join("");
}

async function expectExact(run: NumbersRun, cluster: LocalCluster): Promise<void> {
  run.drain();
  expect(await endOf(cluster)).toMatchObject({ state: "FINISHED" });
  expect(run.audit()).toMatchObject({ passed: true, problems: [] });
}

const ALL_LOCAL = { localSubtasks: SUBTASKS, storeSubtasks: 0, storeBytes: 0 };

describe("local recovery", () => {
  test(
    "whole copies are used after the loss of a TaskManager and of the JobManager; deleted and damaged ones are replaced by the store",
    async () => {
      const run = newRun(1);
      const cluster = await run.start({ perSecond: PER_SECOND });
      await untilCopied(cluster);

      const afterKill = await restoredAfter(cluster, () => cluster.kill({ kind: "taskmanager", index: 0 }));
      expect(afterKill).toMatchObject(ALL_LOCAL);
      expect(afterKill.localBytes).toBeGreaterThan(0);
      const parts = await restoredParts(cluster);
      expect(parts.store).toBe(0);
      expect(parts.local).toBeGreaterThanOrEqual(SUBTASKS);
      await untilCopied(cluster);

      // A new JobManager knows nothing: the TaskManagers tell it what they hold when they register.
      expect(await restoredAfter(cluster, () => cluster.kill({ kind: "jobmanager", index: 0 }))).toMatchObject(
        ALL_LOCAL,
      );
      await untilCopied(cluster);

      const afterLoss = await restoredAfter(cluster, () =>
        killAfter(cluster, 1, () => rmSync(run.at("work", "tm-2", "localState"), { recursive: true })),
      );
      expect(afterLoss).toMatchObject({ localSubtasks: SUBTASKS / 2, storeSubtasks: SUBTASKS / 2 });
      expect(afterLoss.storeBytes).toBeGreaterThan(0);
      await untilCopied(cluster);

      const afterFlip = await restoredAfter(cluster, () =>
        killAfter(cluster, 0, () => copiesOf(run, 0).forEach((path) => flipByte(path, 40))),
      );
      expect(afterFlip).toMatchObject({ localSubtasks: SUBTASKS - 1, storeSubtasks: 1 }); // one part, in one subtask
      expect(afterFlip.localBytes).toBeGreaterThan(0);
      expect(logs(cluster)).toMatch(/a local copy is damaged; the store has the rest/);
      expect(logs(cluster)).toMatch(/restored.*localSubtasks/);
      await expectExact(run, cluster);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "a task that moves to a TaskManager without copies reads the store, the others stay with their copies",
    async () => {
      const run = newRun(2);
      const cluster = await run.start({ perSecond: PER_SECOND }, { taskManagers: 3 });
      await untilCopied(cluster);
      const busy = cluster.processes().findIndex(({ kind, index }) => kind === "taskmanager" && hasCopies(run, index));
      const { index } = cluster.processes()[busy] ?? { index: -1 };
      const restored = await restoredAfter(cluster, () => cluster.kill({ kind: "taskmanager", index }));
      expect(restored).toMatchObject({ localSubtasks: SUBTASKS / 2, storeSubtasks: SUBTASKS / 2 });
      expect(restored.localBytes).toBeGreaterThan(0);
      expect(restored.storeBytes).toBeGreaterThan(0);
      await untilCopied(cluster);
      // The first one is back and holds old copies only: the slots stay where the newest ones are.
      expect(await restoredAfter(cluster, () => cluster.kill({ kind: "jobmanager", index: 0 }))).toMatchObject(
        ALL_LOCAL,
      );
      await expectExact(run, cluster);
    },
    TEST_TIMEOUT_MS,
  );

  const describeFull = mayMountTmpfs() ? test : test.skip;
  describeFull(
    mayMountTmpfs()
      ? "a full local disk fails no checkpoint: the store has it all, and copies come back with the room"
      : "a full local disk (skipped because this user may not mount a tmpfs)",
    async () => {
      const run = newRun(3);
      const disk = run.at("disk");
      const mounted = mountTmpfs(disk, 4 * 1024 * 1024);
      if (mounted === undefined) throw new Error("it could be mounted a moment ago");
      undo.push(() => mounted.unmount());
      fillUp(join(disk, "ballast"));
      const cluster = await run.start(
        { perSecond: PER_SECOND },
        { configuration: { "taskmanager.state.local.root-dirs": disk } },
      );
      await untilCompleted(cluster, 3);
      expect((await cluster.rest.checkpoints()).counts.failed).toBe(0);
      const full = await restoredAfter(cluster, () => cluster.kill({ kind: "taskmanager", index: 0 }));
      expect(full).toMatchObject({ localSubtasks: 0, localBytes: 0, storeSubtasks: SUBTASKS });
      expect(logs(cluster)).toMatch(/no local copy of a snapshot is kept.*ENOSPC/);
      rmSync(join(disk, "ballast"));
      await untilCopied(cluster);
      await untilCopied(cluster);
      expect(await restoredAfter(cluster, () => cluster.kill({ kind: "taskmanager", index: 0 }))).toMatchObject(
        ALL_LOCAL,
      );
      await expectExact(run, cluster);
    },
    TEST_TIMEOUT_MS,
  );
});

function hasCopies(run: NumbersRun, index: number): boolean {
  const directory = run.at("work", `tm-${index + 1}`, "localState");
  mkdirSync(directory, { recursive: true });
  return filesBelow(directory).length > 0;
}
