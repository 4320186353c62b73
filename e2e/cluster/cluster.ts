// The cluster itself: whether it is there and well, making it, removing it.
//
// Invariants:
//   CL1. `up` ends with a cluster that answers, whose nodes are ready and which is made of what this checkout asks for; or
//        with a Stop. What it finds otherwise (half made, stopped, of another key) it removes and makes anew.
//   CL2. The record of a cluster is written when it is complete, and removed before anything of it is.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

import { kubernetesFolder } from "@sluice/tools/peers";

import { answers, engineOf, installEngine, registryAnswers, startEngine, stopEngine } from "./engine.ts";
import type { Engine } from "./engine.ts";
import { debianRoot, makeNodeImage, nodeImageTag } from "./node-image.ts";
import type { NodeImageParts } from "./node-image.ts";
import {
  cached,
  CLUSTER_NAME,
  kubeconfigPath,
  offerProgram,
  programsFolder,
  readRecord,
  writeRecord,
} from "./places.ts";
import type { ClusterRecord } from "./places.ts";
import { helmProgram, kindProgram, kubernetesPrograms, nodePrograms, nodeProgramsFolder } from "./programs.ts";
import { attempt, run, Stop } from "./terminal.ts";
import type { Progress } from "./terminal.ts";
import { PUBLIC_NODE_IMAGE } from "./versions.ts";

const KIND_CONFIG = join(import.meta.dirname, "kind.yaml");
const NODES_WANTED = 3;
const READY_TIMEOUT = "180s";
const DOWN_AND_UP = "npm run e2e:cluster -- down, then up again";

/** A cluster that is up: how to reach it. */
export interface Cluster {
  readonly record: ClusterRecord;
  readonly engine: Engine;
  /** For every command that talks to the cluster or the engine: KUBECONFIG, PATH and DOCKER_HOST are set. */
  readonly env: NodeJS.ProcessEnv;
}

/** CL1. Ends in seconds when the cluster is there. */
export async function up(progress: Progress): Promise<Cluster> {
  const present = readRecord();
  if (present !== undefined && (await isWell(present))) {
    if (present.key === keyOf(present.mode)) {
      progress.say("the cluster is up");
      return clusterOf(present);
    }
    progress.say("the cluster is made of other versions than this checkout asks for; it is made anew");
  } else if (present !== undefined) {
    progress.say("a cluster was here and does not answer any more; it is made anew");
  }
  const mode = await chooseMode(progress);
  const nodeImage = mode === "public" ? await preparePublic(progress) : await prepareOwn(progress);
  const engine = engineOf(mode);
  await progress.part("make the cluster", async () => {
    writeRecord(undefined); // CL2
    await removeNodes(engine);
    rmSync(kubeconfigPath(), { force: true });
    const args = ["create", "cluster", "--name", CLUSTER_NAME, "--image", nodeImage, "--config", KIND_CONFIG];
    const env = { ...engine.env, KUBECONFIG: kubeconfigPath() };
    await run(["kind", ...args, "--wait", READY_TIMEOUT, "--retain"], {
      env,
      remedy: `look into a node with: docker exec ${CLUSTER_NAME}-control-plane journalctl -u kubelet; then ${DOWN_AND_UP}`,
    });
  });
  if (mode === "public") await offerPublicKubectl(engine);
  const record: ClusterRecord = { mode, key: keyOf(mode), nodeImage, loaded: {} };
  const { env } = clusterOf(record);
  await progress.part("wait until all nodes and the system's pods are ready", async () => {
    const wait = [`--timeout=${READY_TIMEOUT}`];
    await run(["kubectl", "wait", "--for=condition=Ready", "nodes", "--all", ...wait], { env });
    for (const namespace of ["kube-system", "local-path-storage"])
      await run(["kubectl", "-n", namespace, "wait", "--for=condition=Available", "deployments", "--all", ...wait], {
        env,
      });
  });
  writeRecord(record);
  return clusterOf(record);
}

/** The cluster that was made last, if it is up. */
export async function findCluster(): Promise<Cluster> {
  const record = readRecord();
  if (record !== undefined && (await isWell(record))) return clusterOf(record);
  throw new Stop("there is no cluster", "make one with: npm run e2e:cluster");
}

export function clusterOf(record: ClusterRecord): Cluster {
  const engine = engineOf(record.mode);
  return { record, engine, env: { ...engine.env, KUBECONFIG: kubeconfigPath() } };
}

/** What a shell must export to use the cluster. */
export function exportsOf(cluster: Cluster): string {
  const host = cluster.env["DOCKER_HOST"];
  return [
    `export KUBECONFIG=${kubeconfigPath()}`,
    ...(host === undefined ? [] : [`export DOCKER_HOST=${host}`]),
    `export PATH=${programsFolder()}:$PATH`,
  ].join("\n");
}

/** Removes the cluster and ends our own engine; what was built stays in the cache. */
export async function down(progress: Progress): Promise<void> {
  const record = readRecord();
  writeRecord(undefined); // CL2
  for (const mode of record === undefined ? (["own", "public"] as const) : [record.mode]) {
    const engine = engineOf(mode);
    if (await answers(engine)) await progress.part("remove the nodes", () => removeNodes(engine));
  }
  rmSync(kubeconfigPath(), { force: true });
  if (process.platform === "linux") await stopEngine();
}

async function nodesOf(engine: Engine, all: boolean): Promise<readonly string[]> {
  const filter = ["--filter", `label=io.x-k8s.kind.cluster=${CLUSTER_NAME}`, "--format", "{{.Names}}"];
  const output = await engine.docker(["ps", ...(all ? ["-a"] : []), ...filter]);
  return output.split("\n").filter((name) => name !== "");
}

/** The nodes that run, for those who put something into each of them. */
export function runningNodes(engine: Engine): Promise<readonly string[]> {
  return nodesOf(engine, false);
}

/** Not by kind, which may not be there yet, and which fails over nodes that an engine lost half of. */
async function removeNodes(engine: Engine): Promise<void> {
  const nodes = await nodesOf(engine, true);
  if (nodes.length > 0) await engine.docker(["rm", "--force", "--volumes", ...nodes]);
}

async function isWell(record: ClusterRecord): Promise<boolean> {
  if (!existsSync(kubeconfigPath())) return false;
  const { engine, env } = clusterOf(record);
  if (!(await answers(engine)) || (await nodesOf(engine, false)).length !== NODES_WANTED) return false;
  const ready = '{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{" "}{end}';
  const { code, output } = await attempt(
    ["kubectl", "get", "nodes", "--request-timeout=5s", "-o", `jsonpath=${ready}`],
    { env },
  );
  return (
    code === 0 &&
    output
      .trim()
      .split(" ")
      .filter((status) => status === "True").length === NODES_WANTED
  );
}

/** What a cluster of this checkout is made of, as a short text to compare. */
function keyOf(mode: "public" | "own"): string {
  const hash = createHash("sha256").update(readFileSync(KIND_CONFIG));
  hash.update(mode === "public" ? publicNodeImage() : nodeImageTag(ownParts()));
  return hash.digest("hex").slice(0, 10);
}

function ownParts(): NodeImageParts {
  return { kubernetes: kubernetesFolder(), programs: nodeProgramsFolder() };
}

function publicNodeImage(): string {
  const chosen = process.env["SLUICE_NODE_IMAGE"];
  return chosen === undefined || chosen === "" ? PUBLIC_NODE_IMAGE : chosen;
}

async function chooseMode(progress: Progress): Promise<"public" | "own"> {
  const chosen = process.env["SLUICE_CLUSTER_MODE"];
  if (chosen === "public" || chosen === "own") return chosen;
  if (chosen !== undefined && chosen !== "")
    throw new Stop(
      `SLUICE_CLUSTER_MODE is "${chosen}"`,
      'it can be "public" or "own"; leave it out to let the machine decide',
    );
  const engine = engineOf("public");
  const own = "an engine and a node image of our own";
  if (!(await answers(engine))) {
    progress.say(`no container engine answers here: ${own}`);
    return "own";
  }
  if ((await isPresent(engine, publicNodeImage())) || (await registryAnswers())) {
    progress.say("a container engine runs here and the public node image can be had: they are used");
    return "public";
  }
  progress.say(`a container engine runs here, but no image registry can be reached: ${own}`);
  return "own";
}

export async function isPresent(engine: Engine, image: string): Promise<boolean> {
  try {
    await engine.docker(["image", "inspect", "--format", "{{.Id}}", image]);
    return true;
  } catch {
    return false;
  }
}

async function preparePublic(progress: Progress): Promise<string> {
  const engine = engineOf("public");
  const image = publicNodeImage();
  offerProgram("kind", await kindProgram(progress, true));
  offerProgram("helm", await helmProgram(progress));
  if (!(await isPresent(engine, image)))
    await progress.part("pull the node image", () => engine.docker(["pull", "-q", image]));
  return image;
}

/** kubectl of the nodes' own version, out of a node. */
async function offerPublicKubectl(engine: Engine): Promise<void> {
  const target = join(programsFolder(), "kubectl");
  rmSync(target, { force: true });
  await engine.docker(["cp", "--follow-link", `${CLUSTER_NAME}-control-plane:/usr/bin/kubectl`, target]);
}

async function prepareOwn(progress: Progress): Promise<string> {
  await removeLeftovers();
  await installEngine(progress);
  // The compiler has the processors, the Debian root the network and the disk: together they take as long as the slower.
  const [debian, { kind, helm, kubernetes, programs }] = await Promise.all([debianRoot(progress), buildAll(progress)]);
  offerProgram("kind", kind);
  offerProgram("helm", helm);
  offerProgram("kubectl", join(kubernetes, "kubectl"));
  if (existsSync("/usr/bin/docker")) offerProgram("docker", "/usr/bin/docker");
  const engine = await startEngine(join(programs, "capabilities"), progress);
  const tag = nodeImageTag({ kubernetes, programs });
  if (!(await isPresent(engine, tag))) await makeNodeImage({ kubernetes, programs, debian, engine, progress });
  return tag;
}

/** What drivers that were killed left half made; the lock says that none is at work. debootstrap may have left mounts in it. */
async function removeLeftovers(): Promise<void> {
  mkdirSync(cached(), { recursive: true });
  for (const name of readdirSync(cached()).filter((entry) => /^(?:debian|node-image).*\.partial-/u.test(entry))) {
    const folder = cached(name);
    const mounts = readFileSync("/proc/self/mounts", "utf8")
      .split("\n")
      .map((line) => line.split(" ")[1] ?? "");
    for (const mount of mounts.filter((path) => path.startsWith(`${folder}/`)).toReversed())
      await run(["umount", mount]);
    rmSync(folder, { recursive: true, force: true });
  }
}

interface OwnPrograms {
  readonly kind: string;
  readonly helm: string;
  readonly kubernetes: string;
  readonly programs: string;
}

/** One after the other: each build uses all processors by itself. */
async function buildAll(progress: Progress): Promise<OwnPrograms> {
  const kubernetes = dirname(await kubernetesPrograms(progress));
  const programs = await nodePrograms(progress);
  const kind = await kindProgram(progress, false);
  const helm = await helmProgram(progress);
  return { kind, helm, kubernetes, programs };
}
