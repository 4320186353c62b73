// `npm run bench -- savepoint`: a savepoint of 100 MB of heap state in MinIO, beside writing the same bytes with the minio client
// (issue: within 2x). Prints a table with medians and spread; the last line is JSON.
//
// Invariants:
//   BS1. The bytes that the plain client writes are those of the savepoint: as many objects, as large.
//   BS2. Both are measured in turns, so that a busy machine is busy for both.
//   BS3. A savepoint's time is the JobManager's own: from the trigger to the completed savepoint.

import { mkdtempSync, rmSync } from "node:fs";
import { randomFillSync } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { startLocalCluster } from "@sluice/cli";
import type { LocalCluster } from "@sluice/cli";
import { startMinio } from "@sluice/tools/peers";
import { Client } from "minio";

const { values } = parseArgs({
  options: {
    megabytes: { type: "string", default: "100" },
    "entry-bytes": { type: "string", default: "200" },
    parallelism: { type: "string", default: "2" },
    rounds: { type: "string", default: "7" },
  },
});
const [megabytes, entryBytes, parallelism, rounds] = [
  Number(values.megabytes),
  Number(values["entry-bytes"]),
  Number(values.parallelism),
  Number(values.rounds),
];
const entries = Math.round((megabytes * 1e6) / entryBytes);
const BUCKET = "bench";
const WAIT_MS = 300_000;

const server = await startMinio();
const directory = mkdtempSync(join(tmpdir(), "sluice-savepoint-bench-"));
const { host: endPoint, port, accessKey, secretKey } = server;
const client = new Client({ endPoint, port, useSSL: false, accessKey, secretKey });
await client.makeBucket(BUCKET);
const cluster = await startLocalCluster({
  job: fileURLToPath(new URL("./job.ts", import.meta.url)),
  arguments: [String(entries), String(entryBytes)],
  workDir: directory,
  taskManagers: 1,
  slots: parallelism,
  configuration: {
    "parallelism.default": String(parallelism),
    "execution.checkpointing.interval": "10 min",
    "execution.checkpointing.dir": pathToFileURL(join(directory, "checkpoints")).href,
    "s3.endpoint": server.endpoint,
  },
  env: { AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey, NODE_OPTIONS: "" },
});
try {
  await untilFilled(cluster);
  const savepoints: number[] = [];
  const plain: number[] = [];
  let sizes: readonly number[] = [];
  for (let round = 0; round <= rounds; round += 1) {
    const taken = await takeSavepoint(cluster);
    sizes = await objectSizes(taken.prefix);
    const plainMs = await writePlainly(sizes, `plain-${round}/`); // BS1
    if (round === 0) continue; // warm-up of both
    savepoints.push(taken.durationMs);
    plain.push(plainMs);
    console.log(
      `round ${round}: savepoint ${Math.round(taken.durationMs)} ms, the same bytes plainly ${Math.round(plainMs)} ms`,
    );
  }
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  const ratio = median(savepoints) / median(plain);
  console.log(
    [
      "",
      `${(bytes / 1e6).toFixed(1)} MB in ${sizes.length} objects, ${entries} entries, parallelism ${parallelism}, ${rounds} rounds`,
      "| what | median | from | to |",
      "| --- | --- | --- | --- |",
      row("savepoint, from trigger to completion", savepoints),
      row("the same bytes with the minio client", plain),
      `ratio of the medians: ${ratio.toFixed(2)} (at most 2 is wanted)`,
    ].join("\n"),
  );
  console.log(JSON.stringify({ bytes, objects: sizes.length, savepointMs: savepoints, plainMs: plain, ratio }));
} finally {
  await cluster.stop(0);
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
}
process.exit(0);

/** Until every key has been seen. */
async function untilFilled({ rest }: LocalCluster): Promise<void> {
  const deadlineMs = performance.now() + WAIT_MS;
  while (performance.now() < deadlineMs) {
    const job = await rest.job().catch(() => undefined);
    const fill = job?.vertices.find(({ name }) => !name.toLowerCase().includes("generator"));
    if ((fill?.metrics["read-records"] ?? 0) >= entries) return;
    await sleep(500);
  }
  throw new Error("the state was not filled in time");
}

/** BS3. */
async function takeSavepoint({
  rest,
}: LocalCluster): Promise<{ readonly durationMs: number; readonly prefix: string }> {
  const jobId = await rest.jobId();
  const id = Array.from({ length: 32 }, () => Math.floor(Math.random() * 16).toString(16)).join("");
  await rest.post(`/jobs/${jobId}/savepoints`, { "target-directory": `s3://${BUCKET}/savepoints`, triggerId: id }, id);
  for (;;) {
    const { status, operation } = await rest.get<{
      readonly status: { readonly id: string };
      readonly operation: {
        readonly location?: string;
        readonly "failure-cause"?: { readonly "stack-trace": string };
      } | null;
    }>(`/jobs/${jobId}/savepoints/${id}`);
    if (status.id === "COMPLETED") {
      const location = operation?.location;
      if (location === undefined) throw new Error(operation?.["failure-cause"]?.["stack-trace"] ?? "no savepoint");
      const { latest } = await rest.checkpoints();
      return {
        durationMs: latest.savepoint?.end_to_end_duration ?? Number.NaN,
        prefix: location.slice(`s3://${BUCKET}/`.length),
      };
    }
    await sleep(20);
  }
}

async function objectSizes(prefix: string): Promise<readonly number[]> {
  const sizes: number[] = [];
  for await (const item of client.listObjectsV2(BUCKET, `${prefix}/`, true))
    sizes.push((item as { readonly size: number }).size);
  return sizes;
}

/** The same objects, one call each, side by side. */
async function writePlainly(sizes: readonly number[], prefix: string): Promise<number> {
  const contents = sizes.map((size) => randomFillSync(Buffer.alloc(size)));
  const startedMs = performance.now();
  await Promise.all(contents.map((bytes, i) => client.putObject(BUCKET, `${prefix}${i}`, bytes, bytes.length)));
  return performance.now() - startedMs;
}

function median(values_: readonly number[]): number {
  return values_.toSorted((a, b) => a - b)[values_.length >> 1] ?? Number.NaN;
}

function row(what: string, values_: readonly number[]): string {
  return `| ${what} | ${Math.round(median(values_))} ms | ${Math.round(Math.min(...values_))} ms | ${Math.round(Math.max(...values_))} ms |`;
}
