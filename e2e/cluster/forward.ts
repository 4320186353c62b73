// A port of a pod or service on this machine, for as long as somebody needs it.

import { spawn } from "node:child_process";
import { once } from "node:events";

import type { Cluster } from "./cluster.ts";
import { Stop } from "./terminal.ts";

const START_TIMEOUT_MS = 30_000;

export interface Forward {
  readonly port: number;
  readonly stop: () => Promise<void>;
}

/**
 * `kubectl port-forward` to a free port of 127.0.0.1. It ends with this process, and when the pod behind it is gone.
 *
 * @param target for example "service/minio" or "pod/sum-jm-1".
 * @throws Stop when there is no such target or it does not listen.
 */
export async function forward(cluster: Cluster, namespace: string, target: string, port: number): Promise<Forward> {
  const args = ["port-forward", "--namespace", namespace, "--address", "127.0.0.1", target, `:${port}`];
  const child = spawn("kubectl", args, { env: cluster.env, stdio: ["ignore", "pipe", "pipe"] });
  const killAtExit = (): void => void child.kill("SIGKILL");
  process.once("exit", killAtExit);
  const stop = async (): Promise<void> => {
    process.removeListener("exit", killAtExit);
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGTERM");
    await gone;
  };
  let output = "";
  const local = await new Promise<number | undefined>((resolve) => {
    const timer = setTimeout(() => resolve(undefined), START_TIMEOUT_MS);
    const hear = (chunk: Buffer): void => {
      output += chunk.toString();
      const found = /Forwarding from 127\.0\.0\.1:(\d+)/u.exec(output);
      if (found === null) return;
      clearTimeout(timer);
      resolve(Number(found[1]));
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.on("error", () => resolve(undefined));
    child.on("exit", () => {
      clearTimeout(timer);
      resolve(undefined);
    });
  });
  if (local !== undefined) return { port: local, stop };
  await stop();
  throw new Stop(
    `cannot reach port ${port} of ${target} in ${namespace}: ${output.trim()}`,
    `look at: kubectl -n ${namespace} get ${target}`,
  );
}
