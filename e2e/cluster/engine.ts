// The container engine: the one that runs on this machine, or one of our own.
//
// Our own is a dockerd from the distribution's packages that we start by hand, with data, sockets and containerd of its
// own, so that it shares nothing with a Docker that the machine may run for other purposes. Its runtime leaves out
// capabilities that the machine does not have (programs/capabilities).
//
// Invariants:
//   EN1. Whether our engine runs is asked of the process table, never of a file: files outlive processes.
//   EN2. Only processes of our own data folder are ended.
//   EN3. An engine that was killed is started over the same data: images stay, containers of before are dead.

import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { findOnPath } from "@sluice/tools/peers";

import { cached, cacheId, programsFolder, state } from "./places.ts";
import { attempt, run, Stop } from "./terminal.ts";
import type { Progress } from "./terminal.ts";
import { ENGINE_PACKAGES } from "./versions.ts";

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;
const POLL_INTERVAL_MS = 100;
const LOG_LINES_SHOWN = 8;

export interface Engine {
  /** For every command that talks to it: DOCKER_HOST where it is not the default, and our programs on PATH. */
  readonly env: NodeJS.ProcessEnv;
  /** `docker ARGS`; see `run`. */
  readonly docker: (args: readonly string[], input?: string) => Promise<string>;
}

function runtimeFolder(): string {
  return `/run/sluice-${cacheId()}`;
}

/** DOCKER_HOST of our own engine, whether it runs or not. */
export function ownDockerHost(): string {
  return `unix://${join(runtimeFolder(), "docker.sock")}`;
}

function dataFolder(): string {
  return cached("engine");
}

export function engineOf(mode: "public" | "own"): Engine {
  const { DOCKER_HOST: given, ...rest } = process.env;
  const host = mode === "own" ? ownDockerHost() : given === ownDockerHost() ? undefined : given;
  const env: NodeJS.ProcessEnv = {
    ...rest,
    PATH: `${programsFolder()}:${process.env["PATH"] ?? ""}`,
    // The classic builder: it is part of every engine, BuildKit needs a plugin that packages leave out.
    DOCKER_BUILDKIT: "0",
    ...(host === undefined ? {} : { DOCKER_HOST: host }),
  };
  // The client of the same package as our daemon: another one on PATH may be too new for it.
  const program = mode === "own" && existsSync("/usr/bin/docker") ? "/usr/bin/docker" : "docker";
  return {
    env,
    docker: (args, input) => run([program, ...args], { env, ...(input === undefined ? {} : { input }) }),
  };
}

/** Whether it answers. */
export async function answers(engine: Engine): Promise<boolean> {
  try {
    await engine.docker(["version", "--format", "{{.Server.Version}}"]);
    return true;
  } catch {
    return false;
  }
}

/** Process ids of programs of that name that have one of our folders among their arguments (EN1, EN2). */
function ownProcesses(program: string, folder: string): readonly number[] {
  const ids = readdirSync("/proc").filter((name) => /^\d+$/u.test(name));
  return ids.map(Number).filter((pid) => {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      return (args[0] ?? "").endsWith(program) && args.some((arg) => arg === folder || arg.startsWith(`${folder}/`));
    } catch {
      return false; // it has ended
    }
  });
}

/** Installs the packages of the engine where they are missing. */
export async function installEngine(progress: Progress): Promise<void> {
  const present = ["dockerd", "docker", "containerd", "debootstrap"].every((name) => findProgram(name) !== undefined);
  if (present) return;
  if (process.platform !== "linux" || process.getuid?.() !== 0 || findOnPath("apt-get") === undefined)
    throw new Stop(
      "no container engine runs here, and none can be installed: that takes root on a Debian machine",
      "start Docker (`docker info` must work) where images can be pulled, or run this as root on Debian",
    );
  await progress.part("install the container engine's packages", async () => {
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    const remedy = "check the network and the machine's package sources (apt-get update), then run the command again";
    await run(["apt-get", "update", "-q"], { env, remedy });
    await run(["apt-get", "install", "-y", "-q", "--no-install-recommends", ...ENGINE_PACKAGES], { env, remedy });
    // Newer distributions have the client in a package of its own.
    if (findProgram("docker") === undefined)
      await run(["apt-get", "install", "-y", "-q", "docker-cli"], { env, remedy });
  });
}

/** Root's PATH need not hold /usr/sbin when a program is started by something other than a login. */
function findProgram(name: string): string | undefined {
  return findOnPath(name) ?? ["/usr/sbin", "/usr/bin", "/sbin"].map((folder) => join(folder, name)).find(existsSync);
}

/** Starts our own engine unless it runs and answers. `runtime` is the program that stands in for runc. */
export async function startEngine(runtime: string, progress: Progress): Promise<Engine> {
  const engine = engineOf("own");
  if (ownProcesses("dockerd", dataFolder()).length > 0) {
    if (await answers(engine)) return engine;
    progress.say("our container engine runs but does not answer; it is started again");
    await stopEngine();
  }
  return progress.part("start the container engine", async () => {
    forgetDead();
    mkdirSync(dataFolder(), { recursive: true });
    mkdirSync(runtimeFolder(), { recursive: true, mode: 0o711 });
    const logPath = state("dockerd.log");
    const log = openSync(logPath, "w");
    const dockerd = findProgram("dockerd") ?? "dockerd";
    const args = [
      ...["--data-root", dataFolder(), "--exec-root", join(runtimeFolder(), "exec"), "--pidfile", ""],
      ...["-H", ownDockerHost(), "--add-runtime", `available=${runtime}`, "--default-runtime", "available"],
    ];
    const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/usr/bin:/sbin:/bin` };
    const child = spawn(dockerd, args, { detached: true, stdio: ["ignore", log, log], env });
    child.unref();
    closeSync(log);
    const deadlineMs = performance.now() + START_TIMEOUT_MS;
    while (performance.now() < deadlineMs && child.exitCode === null) {
      if (await answers(engine)) return engine;
      await sleep(POLL_INTERVAL_MS);
    }
    const last = readFileSync(logPath, "utf8").trim().split("\n").slice(-LOG_LINES_SHOWN).join("\n  ");
    throw new Stop(
      `the container engine did not start:\n  ${last}`,
      `see ${logPath}; the machine must allow root to mount, to make network devices and to set iptables rules`,
    );
  });
}

/**
 * Files in which an engine of before named its processes. Docker believes them, also when the number belongs to another
 * process by now, and would then wait for it for ever.
 */
function forgetDead(): void {
  const execRoot = join(runtimeFolder(), "exec");
  if (ownProcesses("containerd", execRoot).length > 0) return; // it outlived its dockerd, which will find it by this file
  rmSync(join(execRoot, "containerd/containerd.pid"), { force: true });
  rmSync(join(runtimeFolder(), "docker.sock"), { force: true });
}

/** Ends our own engine and its containers. */
export async function stopEngine(): Promise<void> {
  for (const [program, folder] of [
    ["dockerd", dataFolder()],
    ["containerd", join(runtimeFolder(), "exec")],
  ] as const) {
    const signals = ["SIGTERM", "SIGKILL"] as const;
    for (const signal of signals) {
      for (const pid of ownProcesses(program, folder)) process.kill(pid, signal);
      const deadlineMs = performance.now() + STOP_TIMEOUT_MS;
      while (performance.now() < deadlineMs && ownProcesses(program, folder).length > 0) await sleep(POLL_INTERVAL_MS);
    }
  }
}

/** Whether images can be pulled from the public registry: it answers at all, whatever it says. */
export async function registryAnswers(): Promise<boolean> {
  const { code } = await attempt(["docker", "manifest", "inspect", "--help"]);
  if (code !== 0) return false;
  try {
    const response = await fetch("https://registry-1.docker.io/v2/", { signal: AbortSignal.timeout(5_000) });
    return response.status === 401 || response.ok;
  } catch {
    return false;
  }
}
