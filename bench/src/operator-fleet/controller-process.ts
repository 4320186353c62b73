// The controller's real process, as in its pod: token and certificate from files of a service account, no kubeconfig.
//
// Invariants:
//   CP1. By default it runs the JavaScript that ships (compiled here); `source` runs the TypeScript.
//   CP2. It is asked as Kubernetes and Prometheus would: /readyz each 2 s, /healthz each 10 s, /metrics each 30 s.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createWriteStream, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { compile, stagePackage } from "@sluice/tools/pack";
import { freePort } from "@sluice/tools/peers";

import type { ApiServerAddress } from "./connect.ts";

const ROOT = join(import.meta.dirname, "../../..");
const PACKAGES = ["packages/kit", "packages/api", "controller"] as const;
/** The chart's probes, and its scrape interval. */
const READY_PROBE_MS = 2_000;
const HEALTH_PROBE_MS = 10_000;
const SCRAPE_MS = 30_000;

export interface Program {
  readonly path: string;
  readonly remove: () => void;
}

/** CP1. */
export async function controllerProgram(source: boolean): Promise<Program> {
  if (source) return { path: join(ROOT, "controller/src/main/main.ts"), remove: () => undefined };
  mkdirSync(join(ROOT, "dist"), { recursive: true });
  const work = mkdtempSync(join(ROOT, "dist/operator-fleet-")); // below the root: libraries are found from there
  const compiled = join(work, "compiled");
  await compile(ROOT, compiled, PACKAGES);
  for (const folder of PACKAGES) {
    const manifest = JSON.parse(readFileSync(join(ROOT, folder, "package.json"), "utf8")) as {
      readonly name: string;
      readonly version: string;
    };
    const into = join(work, "node_modules", manifest.name);
    stagePackage({ root: ROOT, folder, compiled, version: manifest.version, into });
  }
  return {
    path: join(work, "node_modules/@sluice/controller/dist/main/main.js"),
    remove: () => rmSync(work, { recursive: true, force: true }),
  };
}

export class ControllerProcess {
  readonly #child: ChildProcess;
  readonly #metricsPort: number;
  readonly #probes: readonly NodeJS.Timeout[];
  #isStopping = false;

  private constructor(child: ChildProcess, metricsPort: number, healthPort: number) {
    this.#child = child;
    this.#metricsPort = metricsPort;
    child.once("exit", (code, signal) => {
      if (this.#isStopping) return;
      console.error(`the controller ended (${code ?? signal}): see its log`);
      process.exit(1);
    });
    const probe = (path: string, port: number, everyMs: number): NodeJS.Timeout =>
      setInterval(() => void get(port, path).catch(() => undefined), everyMs);
    this.#probes = [
      probe("/readyz", healthPort, READY_PROBE_MS),
      probe("/healthz", healthPort, HEALTH_PROBE_MS),
      probe("/metrics", metricsPort, SCRAPE_MS),
    ]; // CP2
  }

  static async start(program: string, server: ApiServerAddress, folder: string): Promise<ControllerProcess> {
    const account = join(folder, "service-account");
    mkdirSync(account, { mode: 0o700 });
    writeFileSync(join(account, "token"), server.token, { mode: 0o600 });
    writeFileSync(join(account, "ca.crt"), server.ca);
    writeFileSync(join(account, "namespace"), "default");
    const { hostname, port } = new URL(server.url);
    const [metricsPort, healthPort] = [await freePort(), await freePort()];
    const args = ["--default-image=sluice:1", `--metrics-port=${metricsPort}`, `--health-port=${healthPort}`];
    const child = spawn(process.execPath, [...profiling(folder), program, ...args], {
      env: {
        PATH: process.env["PATH"] ?? "",
        KUBERNETES_SERVICE_HOST: hostname,
        KUBERNETES_SERVICE_PORT: port,
        SLUICE_SERVICE_ACCOUNT_DIRECTORY: account,
      },
      stdio: ["ignore", "ignore", "pipe"],
    });
    child.stderr?.pipe(createWriteStream(join(folder, "controller.log")));
    process.once("exit", () => void child.kill("SIGKILL"));
    return new ControllerProcess(child, metricsPort, healthPort);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async metrics(): Promise<string> {
    return await get(this.#metricsPort, "/metrics");
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const probe of this.#probes) clearInterval(probe);
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGTERM");
    await ended;
  }
}

/** OPERATOR_FLEET_PROFILE=1: a CPU profile beside the log. */
function profiling(folder: string): readonly string[] {
  return process.env["OPERATOR_FLEET_PROFILE"] === "1" ? ["--cpu-prof", `--cpu-prof-dir=${folder}`] : [];
}

async function get(port: number, path: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(5_000) });
  return await response.text();
}
