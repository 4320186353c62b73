// From a bare machine to an installed operator: cluster, image, store, chart. Whatever is there already is used.
//
// Invariants:
//   SU1. The chart that is installed is the packaged one, as a user gets it.
//   SU2. The controllers run the image of this working tree: their pods are replaced when it has changed.

import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

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
const PACKAGES = join(ROOT, "dist/charts");

export const IMAGE = "sluice:dev";
export const OTHER_IMAGE = "sluice:dev-2";
export const RELEASE = { namespace: "sluice-system", name: "sluice" } as const;

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
  const cluster = await part("cluster", () => withLock(() => up(progress)));
  if (!options.skipImage) await part("image", () => buildImage(cluster, progress));
  await part("store", () => withLock(() => startStore(cluster, progress)));
  await part("operator", () => installChart(cluster));
  return { cluster, parts };
}

/** The image of the working tree, in the nodes under two tags: an upgrade can change from one to the other. */
async function buildImage(cluster: Cluster, progress: Progress): Promise<void> {
  await runNode(["e2e/image/main.ts", "--tag", IMAGE], cluster.env);
  await cluster.engine.docker(["tag", IMAGE, OTHER_IMAGE]);
  await withLock(() => load(cluster, [IMAGE, OTHER_IMAGE], progress));
}

/** SU1, SU2. */
async function installChart(cluster: Cluster): Promise<void> {
  const { env } = cluster;
  mkdirSync(PACKAGES, { recursive: true });
  for (const name of readdirSync(PACKAGES)) rmSync(join(PACKAGES, name));
  await run(["helm", "package", CHART, "--destination", PACKAGES], { env });
  const [archive] = readdirSync(PACKAGES);
  if (archive === undefined) throw new Stop("helm package has made nothing", `look at ${CHART}`);
  const imageId = readRecord()?.loaded[IMAGE] ?? "";
  const [repository = "", tag = ""] = IMAGE.split(":");
  const values = {
    "image.repository": repository,
    "image.tag": tag,
    "podAnnotations.sluice-e2e/image": imageId.replace("sha256:", "").slice(0, 12),
  };
  const set = Object.entries(values).flatMap(([key, value]) => ["--set-string", `${key}=${value}`]);
  const { namespace, name } = RELEASE;
  const where = ["--namespace", namespace, "--create-namespace"];
  const result = await attempt(
    ["helm", "upgrade", "--install", name, join(PACKAGES, archive), ...where, ...set, "--wait", "--timeout", "180s"],
    { env },
  );
  if (result.code === 0) return;
  const pods = await attempt(["kubectl", "-n", namespace, "describe", "pods"], { env });
  throw new Stop(`helm could not install the operator: ${result.output}\n${pods.output}`, "read the lines above");
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
