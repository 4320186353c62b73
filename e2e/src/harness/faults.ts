// Faults, and the proof that each has struck.
//
// Invariants:
//   FA1. A fault is ordered at a moment that is taken before anything is done, so that an outage is never measured too short.
//   FA2. It counts only when its victim was seen to be another one: a new uid, or a restart more of the same container.

import { containerOf } from "./objects.ts";
import type { Component, PodObject } from "./objects.ts";
import type { JobHandle } from "./job.ts";
import { kubectl } from "./world.ts";
import type { World } from "./world.ts";

/** "pod": deleted without grace, as when a node is lost. "process": SIGKILL of the container's first process. */
export type KillKind = "pod" | "process";

export interface Strike {
  /** FA1. */
  readonly atMs: number;
  readonly victim: string;
  /** FA2; resolves when it is proven. */
  readonly proof: () => Promise<string>;
}

/** Kills the first living pod of a component. */
export async function killPod(world: World, job: JobHandle, component: Component, kind: KillKind): Promise<Strike> {
  const [pod] = job.pods(component);
  if (pod === undefined) throw new Error(`there is no ${component} to kill: ${job.describe()}`);
  const before = containerOf(pod)?.restartCount ?? 0;
  const atMs = await strike(world, pod, kind);
  const { name, uid } = pod.metadata;
  const proof = async (): Promise<string> =>
    await job.until(`${component} ${name} was replaced or started again`, ({ pods }) => {
      const same = pods.find((one) => one.metadata.uid === uid);
      const restarts = same === undefined ? 0 : (containerOf(same)?.restartCount ?? 0);
      if (restarts > before) return `${name}: SIGKILL of its process, restarts ${before} -> ${restarts}`;
      const others = job.pods(component).filter((one) => one.metadata.uid !== uid && wasMadeAfter(one, atMs));
      const [next] = others;
      if (next === undefined) return undefined;
      return `${name} (${uid.slice(0, 8)}) was killed, ${next.metadata.name} (${next.metadata.uid.slice(0, 8)}) took its place`;
    });
  return { atMs, victim: name, proof };
}

function wasMadeAfter(pod: PodObject, atMs: number): boolean {
  const { creationTimestamp } = pod.metadata as { readonly creationTimestamp?: string };
  return creationTimestamp !== undefined && Date.parse(creationTimestamp) + 999 >= atMs; // of whole seconds
}

/** Returns the moment before. */
export async function strike(world: World, pod: PodObject, kind: KillKind): Promise<number> {
  const { name, namespace } = pod.metadata;
  if (kind === "pod") {
    const atMs = Date.now();
    await kubectl(world, ["delete", "pod", name, "-n", namespace, "--grace-period=0", "--force", "--wait=false"]);
    return atMs;
  }
  const id = containerOf(pod)?.containerID?.replace("containerd://", "");
  const { nodeName } = pod.spec;
  if (id === undefined || nodeName === undefined) throw new Error(`${namespace}/${name} has no running container`);
  const atMs = Date.now();
  await world.cluster.engine.docker(["exec", nodeName, "ctr", "-n", "k8s.io", "task", "kill", "-s", "SIGKILL", id]);
  return atMs;
}

/** Kills the controller that leads; the proof is another holder of its Lease, or a restart of the same pod. */
export async function killLeader(world: World, kind: KillKind): Promise<Strike> {
  const before = await leaderOf(world);
  const { namespace } = world.release;
  const pod = JSON.parse(await kubectl(world, ["-n", namespace, "get", "pod", before.pod, "-o", "json"])) as PodObject;
  const atMs = await strike(world, pod, kind);
  const proof = async (): Promise<string> => {
    const endMs = performance.now() + 60_000;
    for (;;) {
      const after = await leaderOf(world).catch(() => before);
      if (after.holder !== before.holder || after.transitions !== before.transitions)
        return `the leading controller ${before.pod} was killed, ${after.pod} leads (transition ${after.transitions})`;
      if (performance.now() > endMs) throw new Error(`the Lease is still held by ${before.holder}`);
    }
  };
  return { atMs, victim: before.pod, proof };
}

interface Leader {
  readonly holder: string;
  readonly pod: string;
  readonly transitions: number;
}

/** The holder's identity begins with the name of its pod. */
export async function leaderOf(world: World): Promise<Leader> {
  const { namespace } = world.release;
  const leases = JSON.parse(await kubectl(world, ["-n", namespace, "get", "leases", "-o", "json"])) as {
    readonly items: readonly {
      readonly spec: { readonly holderIdentity?: string; readonly leaseTransitions?: number };
    }[];
  };
  const pods = (await kubectl(world, ["-n", namespace, "get", "pods", "-o", "name"]))
    .split("\n")
    .map((line) => line.replace("pod/", ""))
    .filter((name) => name !== "");
  for (const { spec } of leases.items) {
    const holder = spec.holderIdentity ?? "";
    const pod = pods.find((name) => holder.startsWith(name));
    if (pod !== undefined) return { holder, pod, transitions: spec.leaseTransitions ?? 0 };
  }
  throw new Error(`no pod of ${namespace} holds a Lease`);
}
