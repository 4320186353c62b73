// `sluice pod jobmanager|taskmanager|preflight [--config FILE]`: what runs inside of a StreamJob's pods.
//
// Nobody types it, so it is not among the commands of program.ts: what a pod does not need is not loaded, and it starts faster.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { readPodConfig } from "@sluice/api";
import type { PodConfig } from "@sluice/api";
import { Failure } from "@sluice/kit";
import { runProcess, superviseBy } from "@sluice/runtime/internal/bin";

import { EXIT } from "../exit-codes.ts";
import { podEnvironment } from "./environment.ts";
import type { PodEnvironment } from "./environment.ts";
import { podSupervision } from "./report.ts";

const ROLES: Readonly<Record<string, (config: () => PodConfig, at: PodEnvironment) => Promise<void>>> = {
  jobmanager: async (config, at) => (await import("./jobmanager.ts")).podJobManager(config(), at),
  taskmanager: async (config, at) => (await import("./taskmanager.ts")).podTaskManager(config(), at),
  preflight: async (config, at) => (await import("./preflight.ts")).podPreflight(config, at),
};

const USAGE = `Usage: sluice pod jobmanager|taskmanager|preflight [--config FILE]

What runs inside of the pods of a StreamJob. FILE (default /etc/sluice/pod.json) is written by the operator;
docs/design/0020-operator.md tells what it does.
`;

/** `argv` as the process has it, with "pod" in the third place. Returns when the process is on its way; it exits by itself. */
export function runPod(argv: readonly string[]): void {
  const parsed = parse(argv.slice(3));
  const role = parsed === undefined ? undefined : ROLES[parsed.role];
  if (parsed === undefined || role === undefined) {
    process.stderr.write(USAGE);
    process.exit(argv.includes("--help") ? EXIT.ok : EXIT.usage);
  }
  const at = podEnvironment(process.env, parsed.config);
  superviseBy(podSupervision(at.reportPath));
  runProcess(() => role(() => readPodConfig(readConfigFile(at.configPath)), at));
}

function parse(args: readonly string[]): { readonly role: string; readonly config: string | undefined } | undefined {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      options: { config: { type: "string" } },
      allowPositionals: true,
    });
    const [role, ...more] = positionals;
    return role === undefined || more.length > 0 ? undefined : { role, config: values.config };
  } catch {
    return undefined;
  }
}

function readConfigFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `${path} cannot be read: ${(cause as Error).message}`,
      remedy: "it is mounted by the operator: look at the pod's volumes, or give --config FILE",
      cause,
    });
  }
}
