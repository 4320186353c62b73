// One job on real processes that is rescaled over REST while it runs, its JobManager and TaskManagers killed in the middle: file source,
// keyed sums, exactly-once file sink.
//
// Invariants:
//   IP1. However often the parallelism changes, the published output is that of a run without interruptions.
//   IP2. A rescale that was recorded happens, whoever dies: once its id is answered, or its operation stands in the log.
//   IP3. A refused one changes nothing.
//
// Not here: another start with another parallelism (rescale.test.ts), the decisions (jobmanager/rescale.test.ts, scheduler.test.ts).

import { afterEach, expect, test } from "@jest/globals";
import type { JobDetailsMessage, ResourceRequirementsMessage } from "@sluice/api";
import type { LocalCluster } from "@sluice/cli";
import type { ObjectStore } from "@sluice/kit/env";
import { openObjectStore } from "@sluice/kit/env/node";
import type { CommitRecord } from "@sluice/runtime/internal/checkpoint";
import { readdirSync } from "node:fs";

import { endOf, NumbersRun, untilCompleted } from "../support/numbers-run.ts";
import { headOf, newestMetadata } from "../support/store.ts";

const TEST_TIMEOUT_MS = 240_000;
const WAIT = { timeoutMs: 60_000 };
const COUNT = 200_000;
/** Of each slot's source: the input outlasts all that is done to the job, on a slow machine too; drained at full speed. */
const PER_SECOND = 200;

let run: NumbersRun;
afterEach(async () => await run.dispose());

function bounds(job: JobDetailsMessage, lowerBound: number, upperBound = lowerBound): ResourceRequirementsMessage {
  return Object.fromEntries(job.vertices.map(({ id }) => [id, { parallelism: { lowerBound, upperBound } }]));
}

async function put(cluster: LocalCluster, id: string, requirements: ResourceRequirementsMessage): Promise<void> {
  await cluster.rest.put(`/jobs/${await cluster.rest.jobId()}/resource-requirements`, requirements, id);
}

/** Every task runs at this parallelism, and a checkpoint of it is committed. */
async function untilAt(cluster: LocalCluster, store: ObjectStore, parallelism: number): Promise<void> {
  const look = async (): Promise<boolean> => {
    const { state, vertices } = await cluster.rest.job();
    const isUp = vertices.every((vertex) => vertex.parallelism === parallelism && vertex.status === "RUNNING");
    if (state !== "RUNNING" || !isUp) return false;
    const metadata = await newestMetadata(store, `default/${run.name}`);
    return metadata.vertices.every((vertex) => vertex.parallelism === parallelism);
  };
  await cluster.until(`parallelism ${parallelism}`, look, WAIT);
}

test(
  "IP1-IP3: 2 -> 3 -> 1 -> 4 -> 2 -> 4 in one run, JobManager killed before and after the record, a TaskManager meanwhile",
  async () => {
    run = new NumbersRun({ seed: 31, count: COUNT });
    const store = await openObjectStore(run.storeUri);
    const head = (): Promise<CommitRecord> => headOf(store, `default/${run.name}`);
    const cluster = await run.start({ sourcePerSecond: PER_SECOND }, { taskManagers: 2, slots: 2 });
    await untilCompleted(cluster, 1);
    const job = await cluster.rest.job();
    expect(await cluster.rest.get(`/jobs/${job.jid}/resource-requirements`)).toEqual(bounds(job, 2));

    // Undisturbed, and asked for twice under one id.
    const first = "1".repeat(32);
    await put(cluster, first, bounds(job, 1, 3));
    await put(cluster, first, bounds(job, 1, 3));
    await untilAt(cluster, store, 3);
    expect(await cluster.rest.get(`/jobs/${job.jid}/resource-requirements`)).toEqual(bounds(job, 1, 3));
    expect(await cluster.rest.metrics(["numRescales", "numRestarts"])).toEqual({ numRescales: 1, numRestarts: 0 });

    // Too many: nothing changes.
    const refused = put(cluster, "2".repeat(32), bounds(job, 5));
    await expect(refused).rejects.toThrow(/needs at least 5, the registered TaskManagers have 4/u);
    expect((await head()).rescale?.requirements).toEqual(bounds(job, 1, 3));

    // The JobManager dies with the operation begun, and then right after the record that holds what was chosen.
    for (const [id, parallelism, isReached] of [
      ["3", 1, ({ ops }: CommitRecord, of: string) => ops.some((op) => op.id === of)],
      ["4", 4, ({ ops }: CommitRecord, of: string) => ops.some((op) => op.id === of && op.outcome !== null)],
    ] as const) {
      const operation = id.repeat(32);
      const asked = put(cluster, operation, bounds(job, parallelism)).catch(() => undefined); // the answer may die with it
      await cluster.until("the record", async () => isReached(await head(), operation), WAIT);
      cluster.kill({ kind: "jobmanager", index: 0 });
      await asked;
      await untilAt(cluster, store, parallelism);
      const { ops, rescale } = await head();
      expect(ops.find((op) => op.id === operation)?.outcome).toEqual({ type: "done" });
      expect(Object.values(rescale?.parallelism ?? {})).toEqual(job.vertices.map(() => parallelism));
    }

    // A TaskManager dies while the job goes from one parallelism to the other, also to one that needs its slots.
    for (const [id, parallelism] of [
      ["5", 2],
      ["6", 4],
    ] as const) {
      const registered = async (): Promise<number> =>
        (await cluster.rest.get<{ readonly taskmanagers: readonly unknown[] }>("/taskmanagers")).taskmanagers.length;
      await cluster.until("both TaskManagers", async () => (await registered()) === 2, WAIT);
      await put(cluster, id.repeat(32), bounds(job, parallelism));
      cluster.kill({ kind: "taskmanager", index: 1 });
      await untilAt(cluster, store, parallelism);
    }

    const before = run.audit().outputCount;
    expect(before).toBeLessThan(COUNT); // struck in its middle
    run.drain();
    expect(await endOf(cluster)).toMatchObject({ state: "FINISHED" });
    expect(run.audit()).toMatchObject({ passed: true, problems: [], outputCount: COUNT }); // IP1
    expect(readdirSync(run.outputDirectory).filter((name) => !name.startsWith("part-"))).toEqual([]);
  },
  TEST_TIMEOUT_MS,
);
