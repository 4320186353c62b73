// The object store of the end-to-end tests, inside the cluster: MinIO as a Deployment, and its bucket.

import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Client } from "minio";

import { minio } from "@sluice/tools/peers";

import { isPresent } from "./cluster.ts";
import type { Cluster } from "./cluster.ts";
import { forward } from "./forward.ts";
import { load } from "./load.ts";
import { run, Stop } from "./terminal.ts";
import type { Progress } from "./terminal.ts";

const MANIFEST = join(import.meta.dirname, "manifests/store.yaml");

export const STORE_NAMESPACE = "sluice-e2e";

/** How pods of any namespace reach the store, and with what. The secret "minio" of its namespace holds the keys too. */
export const STORE = {
  endpoint: `http://minio.${STORE_NAMESPACE}:9000`,
  bucket: "sluice",
  region: "us-east-1",
  accessKey: "sluice-e2e",
  secretKey: "sluice-e2e-secret",
} as const;

/** Starts the store, or finds that it runs, and makes its bucket. */
export async function startStore(cluster: Cluster, progress: Progress): Promise<void> {
  const { env } = cluster;
  const image = await storeImage(cluster, progress);
  await progress.part("start MinIO in the cluster", async () => {
    const manifest = readFileSync(MANIFEST, "utf8").replaceAll("MINIO_IMAGE", image);
    await run(["kubectl", "apply", "-f", "-"], { env, input: manifest });
    await run(["kubectl", "-n", STORE_NAMESPACE, "rollout", "status", "deployment/minio", "--timeout=120s"], {
      env,
      remedy: `look at: kubectl -n ${STORE_NAMESPACE} describe pods`,
    });
    await withStore(cluster, async (client) => {
      if (!(await client.bucketExists(STORE.bucket))) await client.makeBucket(STORE.bucket, STORE.region);
    });
  });
}

/** Gives `body` a client of the store that works on this machine. */
export async function withStore<T>(cluster: Cluster, body: (client: Client) => Promise<T>): Promise<T> {
  const { port, stop } = await forward(cluster, STORE_NAMESPACE, "service/minio", 9000);
  try {
    const { accessKey, secretKey, region } = STORE;
    return await body(new Client({ endPoint: "127.0.0.1", port, useSSL: false, accessKey, secretKey, region }));
  } finally {
    await stop();
  }
}

/** The image of SLUICE_MINIO_IMAGE, which nodes or engine can pull; or one out of the MinIO that tests use without a cluster. */
async function storeImage(cluster: Cluster, progress: Progress): Promise<string> {
  const chosen = process.env["SLUICE_MINIO_IMAGE"];
  if (chosen !== undefined && chosen !== "") {
    if (await isPresent(cluster.engine, chosen)) await load(cluster, [chosen], progress);
    return chosen;
  }
  const state = await minio.prepare(progress.say);
  if (!state.available) throw new Stop(state.reason, "install Go, or set SLUICE_MINIO_IMAGE to an image of MinIO");
  const image = `localhost/sluice-minio:${state.version}`;
  if (!(await isPresent(cluster.engine, image))) {
    await progress.part("make the image of MinIO", async () => {
      const context = mkdtempSync(join(tmpdir(), "sluice-minio-image-"));
      try {
        copyFileSync(state.program, join(context, "minio"));
        writeFileSync(
          join(context, "Dockerfile"),
          'FROM scratch\nCOPY minio /minio\nUSER 1000:1000\nENTRYPOINT ["/minio"]\n',
        );
        await cluster.engine.docker(["build", "-q", "-t", image, context]);
      } finally {
        rmSync(context, { recursive: true, force: true });
      }
    });
  }
  await load(cluster, [image], progress);
  return image;
}
