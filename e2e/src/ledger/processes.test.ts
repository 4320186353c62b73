// The ledger job and its auditor on processes of this machine and a real MinIO: what the cluster's scenarios use is right before
// anything of Kubernetes is involved.

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { startLocalCluster } from "@sluice/cli";
import type { LocalCluster } from "@sluice/cli";
import { minio, startMinio } from "@sluice/tools/peers";
import type { MinioServer } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { auditLedger, lineageOf } from "./audit.ts";
import { Bucket } from "./bucket.ts";
import { auditTheAuditor } from "./control.ts";
import { outageAt } from "./timing.ts";

const JOB = join(import.meta.dirname, "../../jobs/ledger.ts");
const COUNT = 60_000;
const TEST_TIMEOUT_MS = 180_000;

describeWithPeer(minio, "the ledger on processes and MinIO", () => {
  let server: MinioServer;
  let folder = "";
  let cluster: LocalCluster | undefined;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "sluice-ledger-"));
    server = await startMinio();
  }, TEST_TIMEOUT_MS);
  afterAll(async () => {
    await cluster?.stop(0);
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test(
    "a TaskManager killed: the ledger is complete, the outage is in it, and a damaged copy fails",
    async () => {
      const { endpoint, accessKey, secretKey } = server;
      const bucket = new Bucket({ endpoint: () => endpoint, accessKey, secretKey }, "jobs");
      await bucket.create();
      const started = await startLocalCluster({
        job: JOB,
        arguments: ["--output", "s3://jobs/out", "--count", String(COUNT), "--rate", "4000"],
        name: "ledger",
        workDir: join(folder, "work"),
        taskManagers: 2,
        slots: 1,
        env: { NODE_OPTIONS: "", AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey },
        configuration: {
          "parallelism.default": "2",
          "execution.checkpointing.interval": "300 ms",
          "execution.checkpointing.dir": "s3://jobs/checkpoints",
          "s3.endpoint": endpoint,
        },
      });
      cluster = started;
      const isVisible = async (): Promise<boolean> => (await bucket.list("out/")).length >= 4;
      await started.until("output is visible", isVisible, { timeoutMs: 90_000 });
      const killedMs = Date.now();
      started.kill({ kind: "taskmanager", index: 0 });
      await started.until("the job ends", () => started.outcome !== undefined, { timeoutMs: 90_000 });
      expect(started.outcome?.state).toBe("FINISHED");

      const files = await bucket.read("out/");
      const expected = { keys: 60, count: COUNT, splits: 2 };
      expect(auditLedger(files, expected)).toMatchObject({ passed: true, records: COUNT, problems: [] });
      expect(auditTheAuditor(files, expected, 12_345)).toEqual([]);
      expect(new Set(files.map(lineageOf)).size).toBe(1);
      const outage = outageAt(files, killedMs);
      expect(outage.recordsBefore).toBeGreaterThan(0);
      expect(outage.recordsAfter).toBeGreaterThan(0);
      expect(outage.firstAfterMs).toBeGreaterThan(killedMs);
    },
    TEST_TIMEOUT_MS,
  );
});
