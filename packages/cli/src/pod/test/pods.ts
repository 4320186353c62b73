// Pods without a cluster: each is a process with directories of its own, and finds the others on loopback.
//
// Invariants:
//   TP1. Whatever a test does, `stop` ends every process it started.
//   TP2. Waiting is for conditions, never for time; the test's own limit ends a wait that never comes true.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { readPodReport, writePodConfig } from "@sluice/api";
import type { PodConfig, PodReport, SluiceStatusMessage } from "@sluice/api";
import { freePort } from "@sluice/tools/peers";

const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));
const NODE_MODULES = fileURLToPath(new URL("../../../../../node_modules", import.meta.url));
const POLL_MS = 25;
export const TOKEN = "the token of one test's REST";
const MIB = 2 ** 20;

export type PodRole = "jobmanager" | "taskmanager" | "preflight";

/** One container of a pod. */
export interface Container {
  readonly name: string;
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  output(): string;
  errors(): string;
  /** What it left in its termination message. */
  report(): PodReport | undefined;
}

export class Pods {
  readonly folder = mkdtempSync(join(tmpdir(), "sluice-pods-"));
  readonly #environment: Readonly<Record<string, string>>;
  readonly #containers: ChildProcess[] = [];
  readonly #ports = new Map<string, number>();
  #starts = 0;

  /** `environment`: of all containers, for example credentials. */
  constructor(environment: Readonly<Record<string, string>> = {}) {
    this.#environment = environment;
    mkdirSync(join(this.folder, "opt/job"), { recursive: true });
    symlinkSync(NODE_MODULES, join(this.folder, "opt/node_modules")); // as in the image: beside the directory of jobs
  }

  /** Starts a container; the same name again is the same pod, with what it had on its disk. */
  async start(role: PodRole, name: string, config: PodConfig): Promise<Container> {
    this.#starts += 1;
    const place = join(this.folder, name);
    const report = join(place, `report-${this.#starts}`);
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, "pod.json"), writePodConfig(config));
    const child = spawn(process.execPath, [MAIN, "pod", role, "--config", join(place, "pod.json")], {
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        PATH: process.env["PATH"],
        SLUICE_SECRET: "a secret for the pods of one test",
        SLUICE_REST_TOKEN: TOKEN.replaceAll(" ", "-"),
        SLUICE_POD_NAME: name,
        SLUICE_POD_IP: "127.0.0.1",
        SLUICE_POD_JOB_DIR: join(this.folder, "opt/job"),
        SLUICE_POD_WORK_DIR: join(place, "work"),
        SLUICE_POD_REPORT: report,
        SLUICE_POD_RPC_ADDRESS: `127.0.0.1:${await this.#port("rpc")}`,
        SLUICE_POD_REST_ADDRESS: `127.0.0.1:${await this.#port("rest")}`,
        SLUICE_POD_JOBMANAGER: `localhost:${await this.#port("rpc")}`,
        SLUICE_POD_DATA_ADDRESS: "127.0.0.1:0",
        SLUICE_POD_METRICS_ADDRESS: `127.0.0.1:${await this.#port(`metrics-${name}`)}`,
        ...this.#environment,
      },
    });
    this.#containers.push(child);
    let output = "";
    let errors = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => (output += text));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (errors += text));
    return {
      name,
      child,
      exited: new Promise((resolve) => child.once("exit", resolve)),
      output: () => output,
      errors: () => errors,
      report: () => {
        const read = readPodReport(existsSync(report) ? readFileSync(report, "utf8") : undefined);
        return read.type === "report" ? read.report : undefined;
      },
    };
  }

  /** Writes a file that pods mount; gives its path. */
  mount(name: string, text: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, text);
    return path;
  }

  /** GET of the JobManager's REST; undefined while nobody answers. */
  async ask<T>(path: string): Promise<T | undefined> {
    return (await this.#call("GET", path)) as T | undefined;
  }

  async post(path: string, body: unknown): Promise<unknown> {
    return await this.#call("POST", path, JSON.stringify(body));
  }

  status(): Promise<SluiceStatusMessage | undefined> {
    return this.ask("/sluice/status");
  }

  async #call(method: string, path: string, body?: string): Promise<unknown> {
    try {
      const response = await fetch(`http://127.0.0.1:${await this.#port("rest")}${path}`, {
        method,
        headers: { authorization: `Bearer ${TOKEN.replaceAll(" ", "-")}` },
        ...(body === undefined ? {} : { body }),
        signal: AbortSignal.timeout(5_000),
      });
      return response.ok ? await response.json() : undefined;
    } catch {
      return undefined;
    }
  }

  /** Status of a TaskManager's readiness probe; 0 while nobody answers. */
  async health(name: string): Promise<{ readonly status: number; readonly text: string }> {
    try {
      const response = await fetch(`http://127.0.0.1:${await this.#port(`metrics-${name}`)}/health`);
      return { status: response.status, text: await response.text() };
    } catch {
      return { status: 0, text: "" };
    }
  }

  async #port(of: string): Promise<number> {
    const port = this.#ports.get(of) ?? (await freePort());
    this.#ports.set(of, port);
    return port;
  }

  /** TP1. */
  async stop(): Promise<void> {
    for (const child of this.#containers) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await gone;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** TP2. */
export async function until<T>(condition: () => Promise<T | false | undefined> | T | false | undefined): Promise<T> {
  for (;;) {
    const met = await condition();
    if (met !== false && met !== undefined) return met;
    await pause(POLL_MS);
  }
}

/** A PodConfig that needs only what a test is about. */
export function podConfig(changes: Partial<PodConfig> & Pick<PodConfig, "source">): PodConfig {
  return {
    formatVersion: 1,
    job: { name: "sum", namespace: "ns", uid: "uid-1" },
    attempt: "0123456789",
    submission: "0123456789ab",
    image: "sluice:test",
    arguments: [],
    configuration: {},
    store: {},
    start: { newLineage: false, mayCreate: true, onForeignLog: "refuse", pinRestored: false },
    taskManagers: 1,
    slots: 1,
    memory: {
      jobManagerHeapBytes: 256 * MIB,
      planHeapBytes: 128 * MIB,
      taskManagerHeapBytes: 128 * MIB,
      ioHeapBytes: 64 * MIB,
      slotHeapBytes: 128 * MIB,
    },
    ...changes,
  };
}
