// What every scenario works with: the cluster, what is watched in it, the store, the images.

import type { Cluster } from "../../cluster/index.ts";
import { attempt, run } from "../../cluster/index.ts";
import type { Bucket } from "../ledger/index.ts";
import type { PodObject, StreamJobObject } from "./objects.ts";
import type { Timelines } from "./timeline.ts";
import type { Watch } from "./watch.ts";

export interface StoreAccess {
  /** As pods reach it. */
  readonly endpoint: string;
  readonly region: string;
  readonly bucket: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

export interface World {
  readonly cluster: Cluster;
  /** Namespace and name of the controller's release. */
  readonly release: { readonly namespace: string; readonly name: string };
  /** Image of the jobs, and a second tag of the same for upgrades of the image. */
  readonly image: string;
  readonly otherImage: string;
  readonly store: StoreAccess;
  readonly bucket: Bucket;
  readonly jobs: Watch<StreamJobObject>;
  readonly pods: Watch<PodObject>;
  readonly timelines: Timelines;
  /** Tells the places of this run in the bucket from those of runs before. */
  readonly runId: string;
  readonly say: (line: string) => void;
}

/** kubectl; what it prints. @throws Stop with its last lines when it fails. */
export async function kubectl(world: World, args: readonly string[], input?: string): Promise<string> {
  const { env } = world.cluster;
  const remedy = "read the lines above";
  return await run(["kubectl", ...args], input === undefined ? { env, remedy } : { env, remedy, input });
}

/** kubectl that may fail. */
export async function tryKubectl(
  world: World,
  args: readonly string[],
  input?: string,
): Promise<{ readonly code: number; readonly output: string }> {
  const { env } = world.cluster;
  return await attempt(["kubectl", ...args], input === undefined ? { env } : { env, input });
}
