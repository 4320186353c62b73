// MinIO, the S3 store that tests run against: a pinned version built from its Go module, and a helper that starts it.
//
// Invariants:
//   S1. The version is pinned; another one is another folder of the cache.
//   S2. A started MinIO listens on loopback only, on a port that was free, over a folder of its own.
//   S3. `stop` returns when the process is gone, and its folder too if it was ours; so does the end of this process.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { buildInPlace, buildWithGo, whyNoGo } from "./go.ts";
import { cacheFolder, isExecutable } from "./peer.ts";
import type { Peer, PeerState } from "./peer.ts";
import { becomesReady, freePort, startServer } from "./process.ts";

const MODULE = "github.com/minio/minio";
const VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c";

const READY_TIMEOUT_MS = 30_000;
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
  const remedy = whyNoGo() ?? "npm run peers builds it";
  return { available: false, reason: `MinIO ${VERSION} is not in ${cacheFolder()}; ${remedy}` };
}

async function prepareMinio(say: (line: string) => void): Promise<PeerState> {
  const state = findMinio();
  if (state.available || whyNoGo() !== undefined) return state;
  const reason = await buildInPlace({
    what: `MinIO ${VERSION} from its Go module`,
    place: placeOf(),
    say,
    fill: (folder) => buildWithGo({ programs: { minio: `${MODULE}@${VERSION}` } }, folder),
  });
  return reason === undefined ? findMinio() : { available: false, reason };
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
  const server = startServer(program, ["server", "--quiet", "--address", `${host}:${port}`, dataFolder], env);
  const stop = async (): Promise<void> => {
    await server.stop();
    if (options.dataFolder === undefined) rmSync(dataFolder, { recursive: true, force: true });
  };
  const endpoint = `http://${host}:${port}`;
  const isReady = async (): Promise<boolean> => {
    const response = await fetch(`${endpoint}/minio/health/ready`, { signal: AbortSignal.timeout(2_000) });
    await response.arrayBuffer();
    return response.ok;
  };
  if (!(await becomesReady(server, isReady, READY_TIMEOUT_MS)) || server.pid === undefined) {
    await stop();
    return server.output().trim();
  }
  return { endpoint, host, port, accessKey, secretKey, pid: server.pid, dataFolder, stop };
}
