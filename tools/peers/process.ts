// What peers that are servers share: a free port, a child process with its last output, its end.
//
// Invariants:
//   PP1. A child does not outlive this process, whatever ends it short of SIGKILL.
//   PP2. `stop` returns when the process is gone, also when it was paused.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const OUTPUT_KEPT_CHARACTERS = 8_192;
const STOP_TIMEOUT_MS = 5_000;
const POLL_INTERVAL_MS = 50;

/** A server that somebody started, and what it said last. */
export interface ServerProcess {
  readonly pid: number | undefined;
  readonly isRunning: () => boolean;
  /** The last 8 KiB of standard output and standard error. */
  readonly output: () => string;
  /** SIGTERM, and SIGKILL when it has not ended after five seconds; `at once` sends SIGKILL right away. */
  readonly stop: (how?: "politely" | "at once") => Promise<void>;
}

/** Starts a program without a shell. A program that cannot be started is one that does not run and has said why. */
export function startServer(command: string, args: readonly string[], env: NodeJS.ProcessEnv): ServerProcess {
  const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-OUTPUT_KEPT_CHARACTERS);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  child.on("error", (error) => keep(Buffer.from(error.message)));
  const killAtExit = (): void => void child.kill("SIGKILL");
  process.once("exit", killAtExit);
  const isRunning = (): boolean => child.pid !== undefined && child.exitCode === null && child.signalCode === null;
  const stop = async (how: "politely" | "at once" = "politely"): Promise<void> => {
    if (isRunning()) {
      const gone = once(child, "exit");
      child.kill("SIGCONT");
      child.kill(how === "politely" ? "SIGTERM" : "SIGKILL");
      const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
      await gone;
      clearTimeout(timer);
    }
    process.removeListener("exit", killAtExit);
  };
  return { pid: child.pid, isRunning, output: () => output, stop };
}

/** Asks until `isReady` says so; false when the process ends before or the time is over. A refused question is a no. */
export async function becomesReady(
  server: ServerProcess,
  isReady: () => Promise<boolean>,
  timeoutMs: number,
): Promise<boolean> {
  const deadlineMs = performance.now() + timeoutMs;
  while (performance.now() < deadlineMs && server.isRunning()) {
    try {
      if (await isReady()) return true;
    } catch {
      // not listening yet
    }
    await sleep(POLL_INTERVAL_MS);
  }
  return false;
}

/** A TCP port of the loopback address that was free a moment ago; whoever binds it must be ready to lose the race. */
export function freePort(): Promise<number> {
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
