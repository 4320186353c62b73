// Namespaces of scenarios: made new for each run, whatever an earlier one left in them.
//
// Invariants:
//   NS1. Only namespaces with our label are removed.
//   NS2. A namespace whose StreamJobs nobody finishes (no controller runs) loses their finalizers: the next run must not hang.

import { stringify } from "yaml";

import { kubectl, tryKubectl } from "./world.ts";
import type { World } from "./world.ts";

export const SCENARIO_LABEL = "sluice-e2e";
const GONE_TIMEOUT = "60s";

/** Removes the namespaces of earlier runs (NS1, NS2). */
export async function removeLeftovers(world: World): Promise<void> {
  const listed = await kubectl(world, ["get", "namespaces", "-l", SCENARIO_LABEL, "-o", "name"]);
  const names = listed.split("\n").filter((name) => name !== "");
  if (names.length === 0) return;
  world.say(`removing ${names.length} namespaces of an earlier run`);
  await kubectl(world, ["delete", "--wait=false", "--ignore-not-found", ...names]);
  const wait = ["wait", "--for=delete", `--timeout=${GONE_TIMEOUT}`, ...names];
  if ((await tryKubectl(world, wait)).code === 0) return;
  for (const name of names) await dropFinalizers(world, name.replace("namespace/", ""));
  await kubectl(world, wait);
}

async function dropFinalizers(world: World, namespace: string): Promise<void> {
  const { output } = await tryKubectl(world, ["-n", namespace, "get", "streamjobs", "-o", "name"]);
  const patch = JSON.stringify({ metadata: { finalizers: null } });
  for (const job of output.split("\n").filter((line) => line.startsWith("streamjob")))
    await tryKubectl(world, ["-n", namespace, "patch", job, "--type=merge", "-p", patch]);
}

/** A namespace with the store's secret; pods in it must meet the restricted standard. */
export async function createNamespace(world: World, namespace: string): Promise<void> {
  const { accessKey, secretKey } = world.store;
  const objects = [
    {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: {
        name: namespace,
        labels: { [SCENARIO_LABEL]: "scenario", "pod-security.kubernetes.io/enforce": "restricted" },
      },
    },
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "minio", namespace },
      stringData: { AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey },
    },
  ];
  await kubectl(world, ["apply", "-f", "-"], objects.map((object) => stringify(object)).join("---\n"));
}

export async function removeNamespace(world: World, namespace: string): Promise<void> {
  await tryKubectl(world, ["delete", "namespace", namespace, "--wait=false", "--ignore-not-found"]);
}
