// Flags of the controller's process.

import { parseArgs } from "node:util";

import type { LogLevel } from "@sluice/kit/env";

export interface Flags {
  /** Empty: all namespaces. */
  readonly namespaces: readonly string[];
  readonly defaultImage: string;
  /** Undefined: the pod's own. */
  readonly leaderElectionNamespace: string | undefined;
  readonly metricsPort: number;
  readonly healthPort: number;
  readonly logLevel: LogLevel;
  readonly kubeconfig: string | undefined;
}

export const USAGE = `Usage: sluice-controller --default-image IMAGE [flags]

  --default-image IMAGE              of jobs whose spec names none; or SLUICE_DEFAULT_IMAGE
  --namespaces A,B                   namespaces to look after; default: all
  --leader-election-namespace NAME   where the Lease and the controller's key are; default: the pod's own
  --metrics-port 8080                /metrics
  --health-port 8081                 /healthz and /readyz
  --log-level info                   debug, info, warn or error
  --kubeconfig FILE                  default: KUBECONFIG, else the pod's service account, else ~/.kube/config`;

const LEVELS: readonly string[] = ["debug", "info", "warn", "error"];

/** The flags, or what to print instead. */
export function parseFlags(argv: readonly string[]): Flags | string {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        namespaces: { type: "string", default: "" },
        "default-image": { type: "string", default: process.env["SLUICE_DEFAULT_IMAGE"] ?? "" },
        "leader-election-namespace": { type: "string" },
        "metrics-port": { type: "string", default: "8080" },
        "health-port": { type: "string", default: "8081" },
        "log-level": { type: "string", default: "info" },
        kubeconfig: { type: "string" },
        help: { type: "boolean", default: false },
      },
    });
    if (values.help) return USAGE;
    if (values["default-image"] === "") return "--default-image is needed: the image of jobs whose spec names none";
    if (!LEVELS.includes(values["log-level"])) return `--log-level is one of ${LEVELS.join(", ")}`;
    return {
      namespaces: values.namespaces
        .split(",")
        .map((one) => one.trim())
        .filter((one) => one !== ""),
      defaultImage: values["default-image"],
      leaderElectionNamespace: values["leader-election-namespace"],
      metricsPort: port(values["metrics-port"], "--metrics-port"),
      healthPort: port(values["health-port"], "--health-port"),
      logLevel: values["log-level"] as LogLevel,
      kubeconfig: values.kubeconfig,
    };
  } catch (thrown) {
    return `${thrown instanceof Error ? thrown.message : String(thrown)}\n\n${USAGE}`;
  }
}

function port(text: string, flag: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > 65_535) throw new Error(`${flag} is a port, not ${text}`);
  return value;
}
