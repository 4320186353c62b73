// The store of the cluster on a port of this machine, for the whole run: a forward that broke is renewed.

import { setTimeout as sleep } from "node:timers/promises";

import { forward } from "../../cluster/index.ts";
import type { Cluster, Forward } from "../../cluster/index.ts";

const LOOK_INTERVAL_MS = 1_000;

export interface StorePort {
  /** http://127.0.0.1:PORT, as it is now. */
  readonly endpoint: () => string;
  readonly stop: () => Promise<void>;
}

export async function openStorePort(
  cluster: Cluster,
  target: { readonly namespace: string; readonly service: string; readonly port: number },
): Promise<StorePort> {
  const { namespace, service, port } = target;
  const open = (): Promise<Forward> => forward(cluster, namespace, `service/${service}`, port);
  let current = await open();
  let stopped = false;
  const endpoint = (): string => `http://127.0.0.1:${current.port}`;
  const keep = async (): Promise<void> => {
    while (!stopped) {
      await sleep(LOOK_INTERVAL_MS);
      if (stopped || (await answers(endpoint()))) continue;
      await current.stop();
      current = await open().catch(() => current);
    }
  };
  const kept = keep();
  return {
    endpoint,
    stop: async () => {
      stopped = true;
      await kept;
      await current.stop();
    },
  };
}

async function answers(endpoint: string): Promise<boolean> {
  try {
    await fetch(`${endpoint}/minio/health/live`, { signal: AbortSignal.timeout(5_000) });
    return true;
  } catch {
    return false;
  }
}
