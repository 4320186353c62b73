// Everything that explains a scenario that failed, in one file, before its namespace is removed.

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { tryKubectl } from "./world.ts";
import type { World } from "./world.ts";

const LOG_LINES = "400";
const ROOT = join(import.meta.dirname, "../../..");

/** Writes `dist/e2e/NAME.log` and returns its path, relative to the repository. */
export async function dumpDiagnostics(world: World, name: string, namespace: string, error: unknown): Promise<string> {
  const inside = ["-n", namespace];
  const { release } = world;
  const parts: string[] = [`${error instanceof Error ? (error.stack ?? error.message) : String(error)}`];
  const add = async (title: string, args: readonly string[]): Promise<void> => {
    const { output } = await tryKubectl(world, args);
    parts.push(`== ${title}\n${output.trim()}`);
  };
  await add("streamjobs", [...inside, "get", "streamjobs", "-o", "wide"]);
  await add("pods", [...inside, "get", "pods", "-o", "wide"]);
  await add("events", [...inside, "get", "events", "--sort-by=.lastTimestamp"]);
  await add("streamjobs in full", [...inside, "get", "streamjobs", "-o", "yaml"]);
  for (const pod of await podsOf(world, namespace)) {
    await add(`log of ${pod}`, [...inside, "logs", pod, `--tail=${LOG_LINES}`]);
    await add(`log of ${pod} before its restart`, [...inside, "logs", pod, "--previous", `--tail=${LOG_LINES}`]);
  }
  await add("pods in full", [...inside, "get", "pods", "-o", "yaml"]);
  await add("controllers", ["-n", release.namespace, "get", "pods", "-o", "wide"]);
  for (const pod of await podsOf(world, release.namespace)) {
    const { output } = await tryKubectl(world, ["-n", release.namespace, "logs", pod, "--tail=3000"]);
    const lines = output.split("\n").filter((line) => line.includes(namespace) || !line.includes('"namespace"'));
    parts.push(`== log of ${pod}, what concerns ${namespace}\n${lines.slice(-Number(LOG_LINES)).join("\n")}`);
  }
  const path = join("dist/e2e", `${name}.log`);
  mkdirSync(dirname(join(ROOT, path)), { recursive: true });
  writeFileSync(join(ROOT, path), `${parts.join("\n\n")}\n`);
  return path;
}

async function podsOf(world: World, namespace: string): Promise<readonly string[]> {
  const { output } = await tryKubectl(world, ["-n", namespace, "get", "pods", "-o", "name"]);
  return output
    .split("\n")
    .filter((line) => line.startsWith("pod/"))
    .map((line) => line.replace("pod/", ""));
}
