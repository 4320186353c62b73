// From a bare machine to an installed operator: cluster, image, store, chart. Whatever is there already is used.
//
// Invariants:
//   SU1. The chart that is installed is the packaged one, as a user gets it.
//   SU2. The controllers run the image of this working tree: their pods are replaced when it has changed.

import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { parse } from "yaml";

import {
  attempt,
  clusterOf,
  load,
  readRecord,
  run,
  startStore,
  STORE,
  STORE_NAMESPACE,
  Stop,
  up,
  withLock,
} from "../cluster/index.ts";
import type { Cluster, Progress } from "../cluster/index.ts";

const ROOT = join(import.meta.dirname, "../..");
const CHART = join(ROOT, "charts/sluice");

const LOCK_WAIT_MS = 20 * 60_000;
const LOCK_LOOK_MS = 1_000;

export const IMAGE = "sluice:dev";
export const OTHER_IMAGE = "sluice:dev-2";
/** As README has it. */
export const RELEASE = { namespace: "sluice", name: "sluice" } as const;

export interface Installed {
  readonly cluster: Cluster;
  readonly parts: readonly { readonly name: string; readonly seconds: number }[];
}

export async function setUp(progress: Progress, options: { readonly skipImage: boolean }): Promise<Installed> {
  const parts: { name: string; seconds: number }[] = [];
  const part = async <T>(name: string, body: () => Promise<T>): Promise<T> => {
    const startMs = performance.now();
    const result = await progress.part(name, body);
    parts.push({ name, seconds: (performance.now() - startMs) / 1_000 });
    return result;
  };
  const cluster = await part("cluster", () => locked(progress, () => up(progress)));
  if (!options.skipImage) await part("image", () => buildImage(cluster, progress));
  await part("store", () => locked(progress, () => startStore(cluster, progress)));
  await part("operator", () => installChart(cluster, progress));
  return { cluster, parts };
}

/** The image of the working tree, in the nodes under two tags: an upgrade can change from one to the other. */
async function buildImage(cluster: Cluster, progress: Progress): Promise<void> {
  await runNode(["e2e/image/main.ts", "--tag", IMAGE], cluster.env);
  await cluster.engine.docker(["tag", IMAGE, OTHER_IMAGE]);
  await locked(progress, () => load(cluster, [IMAGE, OTHER_IMAGE], progress));
}

/** SU1, SU2. */
async function installChart(cluster: Cluster, progress: Progress): Promise<void> {
  const { env } = cluster;
  await offerChartMinio(cluster, progress);
  const folder = mkdtempSync(join(tmpdir(), "sluice-chart-"));
  try {
    await run(["helm", "package", CHART, "--destination", folder], { env });
    const [archive] = readdirSync(folder);
    if (archive === undefined) throw new Stop("helm package has made nothing", `look at ${CHART}`);
    await installPackage(cluster, join(folder, archive));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function installPackage({ env }: Cluster, archive: string): Promise<void> {
  const imageId = readRecord()?.loaded[IMAGE] ?? "";
  const [repository = "", tag = ""] = IMAGE.split(":");
  const values = {
    "image.repository": repository,
    "image.tag": tag,
    "controller.podAnnotations.sluice-e2e/image": imageId.replace("sha256:", "").slice(0, 12),
  };
  const set = Object.entries(values).flatMap(([key, value]) => ["--set-string", `${key}=${value}`]);
  const { namespace, name } = RELEASE;
  const where = ["--namespace", namespace, "--create-namespace"];
  const how = ["--set", "minio.enabled=true", "--wait", "--timeout", "180s"];
  const result = await attempt(["helm", "upgrade", "--install", name, archive, ...where, ...set, ...how], { env });
  if (result.code === 0) return;
  const pods = await attempt(["kubectl", "-n", namespace, "describe", "pods"], { env });
  const logs = await attempt(
    ["kubectl", "-n", namespace, "logs", "deployment/sluice-controller", "--all-pods", "--tail=30"],
    { env },
  );
  throw new Stop(
    `helm could not install the operator: ${result.output}\n${pods.output}\n${logs.output}`,
    "read the lines above",
  );
}

/** The chart's own MinIO, under the name that its values have, out of the one that was built here: nodes need no registry. */
async function offerChartMinio(cluster: Cluster, progress: Progress): Promise<void> {
  const values = parse(readFileSync(join(CHART, "values.yaml"), "utf8")) as {
    readonly minio: { readonly image: { readonly repository: string; readonly tag: string } };
  };
  const { repository, tag } = values.minio.image;
  const wanted = `${repository}:${tag}`;
  const built = Object.keys(readRecord()?.loaded ?? {}).find((image) => image.startsWith("localhost/sluice-minio:"));
  if (built === undefined) return; // SLUICE_MINIO_IMAGE: there is a registry
  await cluster.engine.docker(["tag", built, wanted]);
  await locked(progress, () => load(cluster, [wanted], progress));
}

/** Another driver at work on the cluster is waited for: it does the same, or loads an image. */
async function locked<T>(progress: Progress, body: () => Promise<T>): Promise<T> {
  const endMs = performance.now() + LOCK_WAIT_MS;
  let told = false;
  for (;;) {
    try {
      return await withLock(body);
    } catch (error) {
      const isBusy = error instanceof Stop && error.message.endsWith("is working on the cluster");
      if (!isBusy || performance.now() > endMs) throw error;
      if (!told) progress.say(`${error.message}; waiting for it`);
      told = true;
      await sleep(LOCK_LOOK_MS);
    }
  }
}

async function runNode(args: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  const child = spawn(process.execPath, [...args], { cwd: ROOT, env: { ...process.env, ...env }, stdio: "inherit" });
  const code = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (exitCode) => resolve(exitCode ?? 1));
  });
  if (code !== 0) throw new Stop(`node ${args.join(" ")} ended with exit code ${code}`, "read the lines above");
}

/** The cluster as it is, nothing made or installed: for whoever runs scenarios again and again. */
export function asItIs(): Cluster {
  const record = readRecord();
  if (record === undefined) throw new Stop("there is no cluster", "run it without --no-setup");
  return clusterOf(record);
}

/** How pods and this machine reach the store. */
export const STORE_ACCESS = {
  ...STORE,
  service: { namespace: STORE_NAMESPACE, service: "minio", port: 9000 },
} as const;
