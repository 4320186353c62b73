// Stores that are full or fail writes, on real processes: tried until the checkpoint's timeout, then a tolerable failure, and the
// results are exact in the end.

import { afterEach, describe, expect, test } from "@jest/globals";
import { startFaultProxy } from "@sluice/kit/env/node";
import type { FaultProxy } from "@sluice/kit/env/node";
import { minio, startMinio } from "@sluice/tools/peers";
import type { MinioServer } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";
import type { LocalCluster } from "@sluice/cli";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { endOf, NumbersRun, untilCompleted } from "../support/numbers-run.ts";
import { fillUp, makeBucket, mayMountTmpfs, mountTmpfs, s3Environment } from "../support/store.ts";

const TEST_TIMEOUT_MS = 180_000;
const COUNT = 150_000;
/** Of each subtask: the input outlasts all that is done to the job, on a slow machine too; drained at full speed. */
const PER_SECOND = 1_000;
const TMPFS_BYTES = 8 * 1024 * 1024;
/** On a machine that is busy with other things a moment may be too long, but not every one of so many. */
const MOMENTS_MAX = 10;

const undo: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).toReversed()) await step();
});

function newRun(seed: number, storeUri?: string): NumbersRun {
  const run = new NumbersRun({ seed, count: COUNT, ...(storeUri === undefined ? {} : { storeUri }) });
  undo.push(() => run.dispose());
  return run;
}

function logs(cluster: LocalCluster): string {
  return cluster
    .processes()
    .map(({ logPath }) => readFileSync(logPath, "utf8"))
    .join("");
}

interface FullStore {
  fill(): void;
  free(): void;
}

/** Full until somebody has met it: whether the checkpoint that did completes within its timeout. */
async function survivesMoment(cluster: LocalCluster, store: FullStore): Promise<boolean> {
  const retries = (): number => logs(cluster).split("storing a snapshot is tried again").length - 1;
  const before = retries();
  const { failed } = (await cluster.rest.checkpoints()).counts;
  store.fill();
  await cluster.until("storing is tried again", () => retries() > before, { timeoutMs: 30_000 });
  store.free();
  const { counts } = await cluster.rest.checkpoints();
  await untilCompleted(cluster, counts.completed + 1);
  return (await cluster.rest.checkpoints()).counts.failed === failed;
}

/** Both phases on one run: full for a moment costs nothing, full past the timeout costs checkpoints, never results. */
async function surviveFullStore(run: NumbersRun, cluster: LocalCluster, store: FullStore): Promise<void> {
  await untilCompleted(cluster, 2);

  let moments = 1;
  while (!(await survivesMoment(cluster, store))) expect((moments += 1)).toBeLessThan(MOMENTS_MAX);

  const { failed: before } = (await cluster.rest.checkpoints()).counts;
  store.fill();
  const failed = await cluster.until(
    "two checkpoints fail",
    async () => {
      const { counts, latest } = await cluster.rest.checkpoints();
      return counts.failed >= before + 2 ? latest.failed : undefined;
    },
    { timeoutMs: 60_000 },
  );
  expect(failed.failure_message).toMatch(/expired|timeout|full/i);
  expect((await cluster.rest.job()).state).toBe("RUNNING"); // tolerated
  store.free();
  const { counts } = await cluster.rest.checkpoints();
  await untilCompleted(cluster, counts.completed + 1);

  cluster.kill({ kind: "taskmanager", index: 1 }); // and what was stored can be restored
  await cluster.until("a restore", async () => (await cluster.rest.checkpoints()).counts.restored > counts.restored, {
    timeoutMs: 60_000,
  });
  run.drain();
  expect(await endOf(cluster)).toMatchObject({ state: "FINISHED" });
  expect(run.audit()).toMatchObject({ passed: true, problems: [] });
}

const PATIENT = {
  "execution.checkpointing.timeout": "2 s",
  "execution.checkpointing.tolerable-failed-checkpoints": "50",
};

const full = "a file store on a full file system (ENOSPC)";
const describeFull = mayMountTmpfs()
  ? describe
  : (name: string, body: () => void) =>
      describe.skip(`${name} (skipped because this user may not mount a tmpfs)`, body);

describeFull(full, () => {
  test(
    "is retried until the checkpoint's timeout, then tolerated; results are exact",
    async () => {
      const run = newRun(1);
      const directory = run.at("small");
      const mounted = mountTmpfs(directory, TMPFS_BYTES);
      if (mounted === undefined) throw new Error("it could be mounted a moment ago");
      undo.push(() => mounted.unmount());
      const cluster = await run.start(
        { perSecond: PER_SECOND },
        {
          configuration: {
            ...PATIENT,
            "execution.checkpointing.dir": pathToFileURL(join(directory, "checkpoints")).href,
          },
        },
      );
      const ballast = join(directory, "ballast");
      await surviveFullStore(run, cluster, {
        fill: () => fillUp(ballast),
        free: () => rmSync(ballast),
      });
    },
    TEST_TIMEOUT_MS,
  );
});

describe("a file store that fails one write in five, also after having done it", () => {
  test(
    "checkpoints complete and results are exact, through the loss of both kinds of process",
    async () => {
      const run = newRun(2);
      const rates = { writeRefused: 0.07, writeLost: 0.07, writeUnanswered: 0.06 };
      const cluster = await run.start(
        { perSecond: PER_SECOND },
        { configuration: PATIENT, env: { SLUICE_STORE_FAULTS: JSON.stringify({ seed: 2, rates }) } },
      );
      await strikeBothKinds(run, cluster);
      expect(logs(cluster)).toMatch(/storing a snapshot is tried again/);
    },
    TEST_TIMEOUT_MS,
  );
});

async function strikeBothKinds(run: NumbersRun, cluster: LocalCluster): Promise<void> {
  await untilCompleted(cluster, 5);
  const { restored } = (await cluster.rest.checkpoints()).counts;
  cluster.kill({ kind: "taskmanager", index: 0 });
  await cluster.until("a restore", async () => (await cluster.rest.checkpoints()).counts.restored > restored, {
    timeoutMs: 60_000,
  });
  await untilCompleted(cluster, (await cluster.rest.checkpoints()).counts.completed + 3);
  const { pid } = cluster.process({ kind: "jobmanager", index: 0 });
  cluster.kill({ kind: "jobmanager", index: 0 });
  await cluster.until("another JobManager", () => cluster.process({ kind: "jobmanager", index: 0 }).pid !== pid, {
    timeoutMs: 60_000,
  });
  await untilCompleted(cluster, 3);
  run.drain();
  expect(await endOf(cluster)).toMatchObject({ state: "FINISHED" });
  expect(run.audit()).toMatchObject({ passed: true, problems: [] });
}

describeWithPeer(minio, "MinIO behind a proxy", () => {
  async function startStore(seed: number): Promise<{ server: MinioServer; proxy: FaultProxy; run: NumbersRun }> {
    const server = await startMinio();
    undo.push(() => server.stop());
    await makeBucket(server, "checkpoints");
    const proxy = await startFaultProxy({ target: server.endpoint, seed });
    undo.push(() => proxy.close());
    return { server, proxy, run: newRun(seed, "s3://checkpoints/test") };
  }

  test(
    "that answers storage-full is retried until the checkpoint's timeout, then tolerated; results are exact",
    async () => {
      const { server, proxy, run } = await startStore(3);
      const cluster = await run.start(
        { perSecond: PER_SECOND },
        { configuration: { ...PATIENT, "s3.endpoint": proxy.endpoint }, env: s3Environment(server) },
      );
      await surviveFullStore(run, cluster, {
        fill: () => proxy.set({ full: true }),
        free: () => proxy.set({ full: false }),
      });
      expect(proxy.struck.full).toBeGreaterThan(0);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "that fails one write in five, also after having done it: results are exact",
    async () => {
      const { server, proxy, run } = await startStore(4);
      proxy.set({ writeFailureRate: 0.2, when: "both" });
      const cluster = await run.start(
        { perSecond: PER_SECOND },
        { configuration: { ...PATIENT, "s3.endpoint": proxy.endpoint }, env: s3Environment(server) },
      );
      await strikeBothKinds(run, cluster);
      expect(proxy.struck.before).toBeGreaterThan(0);
      expect(proxy.struck.after).toBeGreaterThan(0);
    },
    TEST_TIMEOUT_MS,
  );
});
