// Images of the engine into the nodes' own stores, from where pods start without a registry.
//
// Not by `kind load docker-image`: that needs crictl in the nodes, which our own node image does not have.

import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

import { runningNodes } from "./cluster.ts";
import type { Cluster } from "./cluster.ts";
import type { Engine } from "./engine.ts";
import { readRecord, writeRecord } from "./places.ts";
import { Stop } from "./terminal.ts";
import type { Progress } from "./terminal.ts";

/**
 * Puts images into all nodes. One that the nodes have already, by the image's id, costs nothing.
 *
 * @throws Stop when the engine has no such image.
 */
export async function load(cluster: Cluster, images: readonly string[], progress: Progress): Promise<void> {
  const { engine } = cluster;
  const ids = new Map<string, string>();
  for (const image of images) ids.set(image, await idOf(engine, image));
  const loaded = readRecord()?.loaded ?? {};
  const missing = images.filter((image) => loaded[image] !== ids.get(image));
  if (missing.length === 0) return progress.say(`the nodes have ${images.join(", ")}`);
  await progress.part(`load ${missing.join(", ")} into the nodes`, async () => {
    const folder = mkdtempSync(join(tmpdir(), "sluice-load-"));
    try {
      const archive = join(folder, "images.tar");
      await engine.docker(["save", "-o", archive, ...missing]);
      const nodes = await runningNodes(engine);
      await Promise.all(nodes.map((node) => importInto(engine, node, archive)));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
  const record = readRecord();
  if (record !== undefined) writeRecord({ ...record, loaded: { ...record.loaded, ...Object.fromEntries(ids) } });
}

async function idOf(engine: Engine, image: string): Promise<string> {
  try {
    return (await engine.docker(["image", "inspect", "--format", "{{.Id}}", image])).trim();
  } catch {
    const remedy =
      image === "sluice:dev"
        ? "build it with: npm run image"
        : `build or pull it with the engine that \`npm run e2e:cluster -- env\` names`;
    throw new Stop(`the container engine has no image ${image}`, remedy);
  }
}

async function importInto(engine: Engine, node: string, archive: string): Promise<void> {
  const args = ["exec", "-i", node, "ctr", "-n", "k8s.io", "images", "import", "--all-platforms", "-"];
  const child = spawn("docker", args, { env: engine.env, stdio: ["pipe", "ignore", "pipe"] });
  let complaint = "";
  child.stderr.on("data", (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(-2_000);
  });
  const ended = new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
  // A node that refuses closes the pipe; its own words say more than the broken pipe.
  const fed = pipeline(createReadStream(archive), child.stdin).catch(() => undefined);
  const code = await ended;
  await fed;
  if (code !== 0)
    throw new Stop(
      `node ${node} did not take the image: ${complaint.trim()}`,
      "npm run e2e:cluster makes a broken cluster anew",
    );
}
