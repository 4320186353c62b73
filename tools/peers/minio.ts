// MinIO, the S3 store that tests run against: a pinned version built from its Go module, and a helper that starts it.
//
// Invariants:
//   S1. The version is pinned; another one is another folder of the cache.
//   S2. A started MinIO listens on loopback only, on a port that was free, over a folder of its own.
//   S3. `stop` returns when the process is gone, and its folder too if it was ours; so does the end of this process.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { runToEnd } from "./command.ts";
import { cacheFolder, findOnPath, isExecutable, makeInPlace } from "./peer.ts";
import type { Peer, PeerState } from "./peer.ts";

const MODULE = "github.com/minio/minio";
const VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c";

const READY_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 5_000;
const START_ATTEMPTS_MAX = 3;

export const minio: Peer = { name: "MinIO", find: findMinio, prepare: prepareMinio };

export interface MinioServer {
  /** For example "http://127.0.0.1:41234". */
  readonly endpoint: string;
  readonly host: string;
  readonly port: number;
  readonly accessKey: string;
  readonly secretKey: string;
  /** To pause (SIGSTOP) or kill it in a test. */
  readonly pid: number;
  readonly dataFolder: string;
  readonly stop: () => Promise<void>;
}

export interface MinioOptions {
  /** Where it keeps its data; a new temporary folder (removed by `stop`) if left out. */
  readonly dataFolder?: string;
}

function placeOf(): string {
  return join(cacheFolder(), "peers", `minio-${VERSION}`);
}

function findMinio(): PeerState {
  const program = join(placeOf(), "minio");
  if (isExecutable(program)) return { available: true, program, version: VERSION };
  const go =
    findOnPath("go") === undefined
      ? "and there is no Go toolchain on PATH to build it with"
      : "npm run peers builds it";
  return { available: false, reason: `MinIO ${VERSION} is not in ${cacheFolder()}; ${go}` };
}

async function prepareMinio(say: (line: string) => void): Promise<PeerState> {
  const go = findOnPath("go");
  const state = findMinio();
  if (state.available || go === undefined) return state;
  say(`building MinIO ${VERSION} from its Go module; this takes some minutes, once`);
  const startedMs = performance.now();
  const seconds = (): number => Math.round((performance.now() - startedMs) / 1000);
  const ticker = setInterval(() => say(`still building MinIO (${seconds()} s)`), 30_000);
  let failure: string | undefined;
  try {
    await makeInPlace(placeOf(), async (folder) => {
      const env = { ...process.env, GOBIN: folder, CGO_ENABLED: "0" };
      const { code, output } = await runToEnd({
        command: go,
        args: ["install", `${MODULE}@${VERSION}`],
        cwd: tmpdir(),
        env,
      });
      if (code !== 0) throw new Error(output.trim().split("\n").slice(-5).join("\n"));
    });
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
  } finally {
    clearInterval(ticker);
  }
  if (failure !== undefined) return { available: false, reason: `building MinIO failed: ${failure}` };
  say(`built MinIO in ${seconds()} s`);
  return findMinio();
}

/**
 * Starts a MinIO of its own for the caller and waits until it answers.
 *
 * @throws Error when MinIO is not available (ask `minio.find()` first) or does not become ready.
 */
export async function startMinio(options: MinioOptions = {}): Promise<MinioServer> {
  const state = findMinio();
  if (!state.available) throw new Error(state.reason);
  for (let attempt = 1; ; attempt += 1) {
    const outcome = await startOnce(state.program, options);
    if (typeof outcome !== "string") return outcome;
    // Between our look for a free port and MinIO's bind somebody else may take the port.
    if (attempt === START_ATTEMPTS_MAX) throw new Error(`MinIO did not start: ${outcome}`);
  }
}

async function startOnce(program: string, options: MinioOptions): Promise<MinioServer | string> {
  const port = await freePort();
  const dataFolder = options.dataFolder ?? mkdtempSync(join(tmpdir(), "sluice-minio-"));
  const accessKey = "sluice-test";
  const secretKey = "sluice-test-secret";
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: dataFolder,
    MINIO_ROOT_USER: accessKey,
    MINIO_ROOT_PASSWORD: secretKey,
    MINIO_BROWSER: "off",
    MINIO_UPDATE: "off",
    MINIO_CALLHOME_ENABLE: "off",
    CI: "true",
  };
  const host = "127.0.0.1";
  const args = ["server", "--quiet", "--address", `${host}:${port}`, dataFolder];
  const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-8_192);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  child.on("error", (error) => keep(Buffer.from(error.message)));
  const killAtExit = (): void => void child.kill("SIGKILL");
  process.once("exit", killAtExit);
  const stop = async (): Promise<void> => {
    await endProcess(child);
    process.removeListener("exit", killAtExit);
    if (options.dataFolder === undefined) rmSync(dataFolder, { recursive: true, force: true });
  };
  const endpoint = `http://${host}:${port}`;
  if (!(await becomesReady(child, endpoint)) || child.pid === undefined) {
    await stop();
    return output.trim();
  }
  return { endpoint, host, port, accessKey, secretKey, pid: child.pid, dataFolder, stop };
}

async function becomesReady(child: ChildProcess, endpoint: string): Promise<boolean> {
  const deadlineMs = performance.now() + READY_TIMEOUT_MS;
  while (performance.now() < deadlineMs && isRunning(child)) {
    try {
      const response = await fetch(`${endpoint}/minio/health/ready`, { signal: AbortSignal.timeout(2_000) });
      await response.arrayBuffer();
      if (response.ok) return true;
    } catch {
      // not listening yet
    }
    await sleep(50);
  }
  return false;
}

function isRunning(child: ChildProcess): boolean {
  return child.pid !== undefined && child.exitCode === null && child.signalCode === null;
}

/** Politely, then not; also when it was paused. */
async function endProcess(child: ChildProcess): Promise<void> {
  if (!isRunning(child)) return;
  const gone = once(child, "exit");
  child.kill("SIGCONT");
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  await gone;
  clearTimeout(timer);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}
