// Savepoints on real processes: a JobManager killed at every step of a stop, and savepoints that lie in MinIO while the checkpoints
// lie in files. The audit compares what was published with the model.

import { afterEach, expect, test } from "@jest/globals";
import { existsSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

import type { LocalCluster } from "@sluice/cli";
import { openObjectStore } from "@sluice/kit/env/node";
import { readCommitRecord } from "@sluice/runtime/internal/checkpoint";
import type { CommitRecord } from "@sluice/runtime/internal/checkpoint";
import { minio, startMinio } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";

import { type } from "../support/command-line.ts";
import { endOf, NumbersRun, untilCompleted } from "../support/numbers-run.ts";
import { makeBucket, s3Environment } from "../support/store.ts";

const TEST_TIMEOUT_MS = 240_000;
const COUNT = 120_000;
/** Of each subtask of the source: the input outlasts all that is done to the job, on a slow machine too; drained at full speed. */
const PER_SECOND = 200;
/** Of each subtask of the sum: barriers wait behind full channels for most of a second, in which a stop can be struck. */
const SUMS_PER_SECOND = 500;
const WAIT = { timeoutMs: 60_000 };

const undo: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).toReversed()) await step();
});

function newRun(seed: number): NumbersRun {
  const run = new NumbersRun({ seed, count: COUNT });
  undo.push(() => run.dispose());
  return run;
}

/** All records of the log, oldest first. */
function records(run: NumbersRun): readonly CommitRecord[] {
  const directory = run.at("checkpoints/default", run.name, "commits");
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .toSorted()
    .flatMap((file) => {
      const content = readCommitRecord(readFileSync(join(directory, file)));
      return content.type === "ok" ? [content.record] : [];
    });
}

/** Asks for a stop; does not wait for it. Resolves with where its answer will be. */
async function askToStop(cluster: LocalCluster, id: string, targetDirectory: string): Promise<string> {
  const jobId = await cluster.rest.jobId();
  await cluster.rest.post(`/jobs/${jobId}/stop`, { targetDirectory, triggerId: id }, id);
  return `/jobs/${jobId}/savepoints/${id}`;
}

/** The end of a job that was stopped. Reads the answer, as whoever asked does: the JobManager waits for that for some seconds. */
async function endOfStop(cluster: LocalCluster, answer: string): Promise<LocalCluster["outcome"]> {
  await cluster.until("the job ends", () => cluster.outcome !== undefined, WAIT);
  await cluster.rest.get(answer).catch(() => undefined); // on a slow machine it has gone
  return await endOf(cluster);
}

test(
  "a JobManager that is killed at any step of a stop: the next one stops the job, nothing is lost or doubled, the answer stays",
  async () => {
    const run = newRun(71);
    const steps: readonly ((all: readonly CommitRecord[]) => boolean)[] = [
      (all) => all.some(({ ops }) => ops.some(({ request }) => request.kind === "stop")), // recorded, not begun
      (all) => all.some(({ jobState }) => jobState === "stopping"), // committed
      (all) => all.some(({ jobState }) => jobState === "stopped"), // over
    ];
    for (const [i, isReached] of steps.entries()) {
      const cluster = await run.start({ perSecond: SUMS_PER_SECOND });
      await untilCompleted(cluster, 1);
      const seen = records(run).length;
      const id = String(i).repeat(32);
      const answer = `/jobs/${await cluster.rest.jobId()}/savepoints/${id}`;
      const stopped = askToStop(cluster, id, run.at("savepoints"));
      await cluster.until("the step", () => isReached(records(run).slice(seen)), WAIT);
      cluster.kill({ kind: "jobmanager", index: 0 });
      await stopped.catch(() => undefined); // the answer may have died with it
      expect(await endOfStop(cluster, answer)).toMatchObject({ state: "FINISHED" });
      const last = records(run).at(-1);
      expect(last).toMatchObject({ jobState: "stopped", head: { kind: "savepoint" } });
      expect(last?.ops.find((op) => op.id === id)?.outcome).toMatchObject({ type: "done" });
      await cluster.stop(0);
    }
    run.drain();
    expect(await endOf(await run.start())).toMatchObject({ state: "FINISHED" });
    expect(run.audit()).toMatchObject({ passed: true, problems: [] });
  },
  TEST_TIMEOUT_MS,
);

test(
  "SD2: processes started again with the same --from and lineage go on with their log, though the savepoint is gone; a lineage that was replaced is refused",
  async () => {
    const run = newRun(73);
    const first = await run.start({ sourcePerSecond: PER_SECOND });
    await untilCompleted(first, 1);
    const answer = await askToStop(first, "7".repeat(32), run.at("savepoints"));
    expect(await endOfStop(first, answer)).toMatchObject({ state: "FINISHED" });
    await first.stop(0);
    const location = records(run).at(-1)?.head?.path.replace("/_metadata", "") ?? "";
    expect(location).toContain("/savepoint-");
    // Its output was published by the stop: what waits in the savepoint is nothing, and the fork's records follow it.
    const fork = { from: location, lineage: "op-1" };
    const begun = await run.start({ sourcePerSecond: PER_SECOND }, fork);
    await untilCompleted(begun, 2);
    await begun.stop(0); // as when its pods are deleted
    rmSync(run.at("savepoints"), { recursive: true });
    const epochs = (): readonly number[] => [...new Set(records(run).map(({ epoch }) => epoch))];
    const before = { epochs: epochs().length, head: records(run).at(-1)?.head?.id ?? 0 };
    const again = await run.start({ sourcePerSecond: PER_SECOND }, fork);
    await untilCompleted(again, 1);
    again.kill({ kind: "jobmanager", index: 0 });
    await again.until("the next JobManager", () => epochs().length >= before.epochs + 2, WAIT);
    run.drain();
    expect(await endOf(again)).toMatchObject({ state: "FINISHED" });
    const all = records(run);
    expect(all.filter(({ override }) => override?.type === "new-lineage")).toHaveLength(1);
    expect(all.at(-1)).toMatchObject({ lineage: "op-1", submission: "op-1", jobState: "finished", closed: true });
    expect(all.at(-1)?.head?.id).toBeGreaterThan(before.head);
    expect(run.audit()).toMatchObject({ passed: true, problems: [] });

    const next = await run.start({ perSecond: 0 }, { newLineage: true, lineage: "op-2" });
    await untilCompleted(next, 1);
    await next.stop(0);
    const zombie = await run.start({ perSecond: 0 }, { newLineage: true, lineage: "op-1" });
    expect(await endOf(zombie)).toMatchObject({ state: "FAILED", failure: { code: "JOB_CLOSED" } });
    expect(records(run).at(-1)).toMatchObject({ lineage: "op-2", pastLineages: [expect.any(String), "op-1"] });
  },
  TEST_TIMEOUT_MS,
);

describeWithPeer(minio, "savepoints in MinIO, checkpoints in files", () => {
  test(
    "stopped, claimed by another job, deleted in the end: exact",
    async () => {
      const server = await startMinio();
      undo.push(() => server.stop());
      await makeBucket(server, "savepoints");
      const env = s3Environment(server);
      const configuration = { "s3.endpoint": server.endpoint };
      const run = newRun(72);
      const cluster = await run.start({ sourcePerSecond: PER_SECOND }, { env, configuration });
      await untilCompleted(cluster, 1);
      const rest = cluster.restUrl() ?? "";
      const stop = type(["stop", rest, "--savepoint", "s3://savepoints/numbers"], { directory: run.directory });
      expect([await stop.exit, stop.text()]).toEqual([0, expect.stringContaining("stops with the savepoint")]);
      expect(await endOf(cluster)).toMatchObject({ state: "FINISHED" });
      const location = records(run).at(-1)?.head?.path.replace("/_metadata", "") ?? "";
      expect(location).toMatch(/^s3:\/\/savepoints\/numbers\/savepoint-[0-9a-f]{6}-[0-9a-f]{12}$/u);
      await cluster.stop(0);
      // Its owner gives it up: as long as it could be continued, nobody deletes what it continues from.
      const close = type(["store", "close", "checkpoints", "--job", run.name], { directory: run.directory });
      expect([await close.exit, close.text()]).toEqual([0, expect.any(String)]);

      const store = await openObjectStore("s3://savepoints", {
        s3: { endpoint: server.endpoint, accessKey: server.accessKey, secretKey: server.secretKey },
      });
      expect((await store.list("numbers/")).length).toBeGreaterThan(1);
      const next = await run.start(
        { sourcePerSecond: PER_SECOND },
        {
          env,
          name: "claimer",
          workDir: run.at("claimer"),
          from: location,
          configuration: { ...configuration, "execution.state-recovery.claim-mode": "CLAIM" },
        },
      );
      await next.until("the savepoint is deleted", async () => (await store.list("numbers/")).length === 0, WAIT);
      run.drain();
      expect(await endOf(next)).toMatchObject({ state: "FINISHED" });
      expect(run.audit()).toMatchObject({ passed: true, problems: [] });
    },
    TEST_TIMEOUT_MS,
  );
});
