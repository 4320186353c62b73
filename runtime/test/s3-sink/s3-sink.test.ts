// The exactly-once file sink on a real MinIO, with processes killed: every record once, in order per key, nothing visible too early.
//
// Invariants: OF1-OF3, OF7 of connectors/object-files.ts. The publication alone, cut off at many moments: publication.test.ts.

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { startLocalCluster } from "@sluice/cli";
import type { LocalCluster, ProcessRef } from "@sluice/cli";
import type { ObjectStore } from "@sluice/kit/env";
import { openObjectStore, openStagedUploads } from "@sluice/kit/env/node";
import { minio, startMinio } from "@sluice/tools/peers";
import type { MinioServer } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { type } from "../support/command-line.ts";
import { endOf, QUICK, untilCompleted } from "../support/numbers-run.ts";
import { makeBucket, s3Environment } from "../support/store.ts";

const JOB = fileURLToPath(new URL("./job.ts", import.meta.url));
const COUNT = 100_000;
const TEST_TIMEOUT_MS = 180_000;

type Row = readonly [key: number, n: number, sum: number];

describeWithPeer(minio, "the file sink on S3", () => {
  let server: MinioServer;
  let folder = "";
  let cluster: LocalCluster | undefined;
  let output: ObjectStore;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "sluice-s3-sink-"));
    server = await startMinio();
    await makeBucket(server, "jobs");
    const { endpoint, accessKey, secretKey } = server;
    output = await openObjectStore("s3://jobs/out", { s3: { endpoint, accessKey, secretKey } });
  }, TEST_TIMEOUT_MS);
  afterAll(async () => {
    await cluster?.stop(0);
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  async function rows(): Promise<readonly Row[]> {
    const texts = await Promise.all(
      (await output.list("part-")).map(async ({ path }) => new TextDecoder().decode(await output.get(path))),
    );
    return texts.flatMap((text) =>
      text
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line) as Row),
    );
  }

  test(
    "a TaskManager and the JobManager killed: every record once",
    async () => {
      const started = await startLocalCluster({
        job: JOB,
        arguments: ["s3://jobs/out", String(COUNT), join(folder, "drain")],
        name: "s3-sink",
        workDir: join(folder, "work"),
        taskManagers: 2,
        slots: 1,
        env: { NODE_OPTIONS: "", ...s3Environment(server) },
        configuration: {
          ...QUICK,
          "execution.checkpointing.dir": "s3://jobs/checkpoints",
          "s3.endpoint": server.endpoint,
        },
      });
      cluster = started;
      const victims: readonly ProcessRef[] = [
        { kind: "taskmanager", index: 0 },
        { kind: "jobmanager", index: 0 },
      ];
      for (const victim of victims) {
        await untilCompleted(started, 2);
        await started.until("output is visible", async () => (await rows()).length > 0, { timeoutMs: 60_000 });
        expect((await rows()).length).toBeLessThan(COUNT); // the fault strikes in the middle
        started.kill(victim);
        const isBack = async (): Promise<boolean> => (await started.rest.checkpoints()).counts.restored > 0;
        await started.until("the job was restored", isBack, { timeoutMs: 60_000 });
      }
      writeFileSync(join(folder, "drain"), "");
      expect(await endOf(started)).toMatchObject({ state: "FINISHED" });
      expect((await output.list(".staged-")).map(({ path }) => path)).toEqual([]); // nothing stays staged
      expect(started.events.filter(({ type }) => type === "exited").length).toBeGreaterThanOrEqual(2);
      const found = await rows();
      expect(found.length).toBe(COUNT);
      expect(new Set(found.map(([, n]) => n)).size).toBe(COUNT); // none lost, none doubled
      const wrong = found.filter(([key, n, sum]) => {
        const i = Math.floor(n / 10);
        return key !== n % 10 || sum !== 5 * i * (i + 1) + key * (i + 1);
      });
      expect(wrong).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "IU1, IU2: uploads and staged objects that a dead attempt left are listed and aborted by purge, of the checkpoint writer and of the sink; others stay",
    async () => {
      const { endpoint, accessKey, secretKey } = server;
      const uploads = await openStagedUploads("s3://jobs", { s3: { endpoint, accessKey, secretKey } });
      const names = async (): Promise<readonly string[]> => (await uploads.list("")).map(({ path }) => path);
      const lineage = cluster?.lineage ?? "";
      const left = [
        `out/part-${lineage}-out-0-1.0-999.ndjson`,
        "checkpoints/default/s3-sink/chk-3/x-1.0.tm-1.0badcafe-0",
      ];
      const others = [
        "out/part-ffffffffffff-out-0-1.0-0.ndjson",
        "checkpoints/default/s3-sink/chk-3/notes",
        "checkpoints/default/other/chk-3/x-1.0.tm-1.0badcafe-0",
      ];
      for (const path of [...left, ...others]) {
        const upload = await uploads.begin(path);
        expect(await uploads.putPart(upload, { number: 1, bytes: new Uint8Array(1_000) })).not.toBe("absent");
      }
      const staged = [`.staged-part-${lineage}-out-0-1.0-999.ndjson`, ".staged-part-ffffffffffff-out-0-1.0-0.ndjson"];
      for (const path of staged) await output.put(path, new Uint8Array(10));
      const stagedNames = async (): Promise<readonly string[]> =>
        (await output.list(".staged-")).map(({ path }) => path);
      const before = await names(); // also what the killed processes have left
      expect(before).toEqual(expect.arrayContaining([...left, ...others]));
      const store = async (...args: readonly string[]): Promise<string> => {
        const place = ["s3://jobs/checkpoints", "--job", "s3-sink", "--output", "s3://jobs/out"];
        const typed = type(
          ["store", ...args.slice(0, 1), ...place, "-D", `s3.endpoint=${endpoint}`, ...args.slice(1)],
          {
            directory: folder,
            env: s3Environment(server),
          },
        );
        expect([args, await typed.exit, typed.text()]).toEqual([args, 0, typed.text()]);
        return typed.text();
      };
      expect(await store("gc")).toContain("are younger than 1 h");
      const garbage = await store("gc", "--older-than", "0");
      const purge = await store("purge", "--dry-run");
      for (const path of left)
        for (const said of [garbage, purge]) expect(said).toContain(`s3://jobs/${path} (unfinished`);
      for (const said of [garbage, purge]) {
        expect(said).toContain(`s3://jobs/out/${staged[0]} (staged and not published`);
        expect(said).not.toContain(staged[1]);
      }
      for (const path of others) for (const said of [garbage, purge]) expect(said).not.toContain(path);
      expect(await names()).toEqual(before);
      expect(await store("purge")).toMatch(/is purged: \d+ objects, .* deleted, \d+ unfinished uploads aborted/u);
      expect([await names(), await stagedNames()]).toEqual([others.toSorted(), [staged[1]]]);
      expect((await rows()).length).toBe(COUNT); // what was published stays
    },
    TEST_TIMEOUT_MS,
  );
});
