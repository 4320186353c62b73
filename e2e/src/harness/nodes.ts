// A worker that is lost, and comes back: frozen as it stands, so that its processes wake up later and believe that nothing has happened.
//
// Invariants:
//   NL1. What is frozen is thawed and serves again, whatever happens in between: everything after this scenario needs it.
//   NL2. The kubelet is stopped before and started last, so that nobody ends the processes that wake up: they must be kept from writing
//        by the commit log, not by a signal.
//   NL3. A node that runs the store is never chosen.

import { kubectl } from "./world.ts";
import type { World } from "./world.ts";
import type { PodObject } from "./objects.ts";
import type { KubeObject } from "./watch.ts";

const READY_TIMEOUT = "120s";

export interface LostNode {
  readonly name: string;
  /** The moment before. */
  readonly atMs: number;
  /** Its processes go on; nobody looks after them. Returns the moment before. */
  readonly wake: () => Promise<number>;
  /** What a pod's containers have written to their logs, read on the node itself; only of a node that is awake. */
  readonly logOf: (pod: PodObject) => Promise<string>;
  /** NL1. It is awake, its kubelet runs and it is ready; repeating it does nothing. */
  readonly giveBack: () => Promise<void>;
}

/** A worker that does not run the store (NL3). */
export async function workerToLose(world: World): Promise<string> {
  const list = async <T>(args: readonly string[]): Promise<readonly T[]> =>
    (JSON.parse(await kubectl(world, ["get", ...args, "-o", "json"])) as { readonly items: readonly T[] }).items;
  const nodes = await list<KubeObject>(["nodes", "-l", "!node-role.kubernetes.io/control-plane"]);
  const workers = nodes.map(({ metadata }) => metadata.name);
  const [, namespace = ""] = new URL(world.store.endpoint).hostname.split(".");
  const taken = new Set((await list<PodObject>(["pods", "-n", namespace])).map(({ spec }) => spec.nodeName));
  const free = workers.find((name) => !taken.has(name));
  if (free === undefined) throw new Error(`each of the workers ${workers.join(", ")} runs a part of the store`);
  return free;
}

/** Stops the node, as when its machine hangs: nothing of it answers, no connection is closed. */
export async function loseNode(world: World, name: string): Promise<LostNode> {
  const { docker } = world.cluster.engine;
  let isFrozen = false;
  const inside = (...command: readonly string[]): Promise<string> => docker(["exec", name, ...command]);
  const wake = async (): Promise<number> => {
    const atMs = Date.now();
    if (isFrozen) await docker(["unpause", name]);
    isFrozen = false;
    return atMs;
  };
  await inside("systemctl", "stop", "kubelet"); // NL2
  const atMs = Date.now();
  await docker(["pause", name]);
  isFrozen = true;
  return {
    name,
    atMs,
    wake,
    logOf: ({ metadata }) =>
      inside("sh", "-c", `cat /var/log/pods/${metadata.namespace}_${metadata.name}_${metadata.uid}/sluice/*.log`),
    giveBack: async () => {
      await wake();
      await inside("systemctl", "start", "kubelet");
      await kubectl(world, ["wait", "--for=condition=Ready", `node/${name}`, `--timeout=${READY_TIMEOUT}`]);
      const { namespace } = world.release;
      const wait = ["wait", "--for=condition=Available", "deployments", "--all", `--timeout=${READY_TIMEOUT}`];
      await kubectl(world, ["-n", namespace, ...wait]);
    },
  };
}
