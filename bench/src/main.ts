// `npm run bench -- NAME [options]`: benchmarks on real processes, and micro benchmarks of single parts.

import { spawn } from "node:child_process";
import { join } from "node:path";

interface Benchmark {
  readonly program: string;
  readonly about: string;
}

const BENCHMARKS: Readonly<Record<string, Benchmark>> = {
  "keyed-sum": {
    program: "keyed-sum/main.ts",
    about: "the guide's KeyedSum on real processes: records per CPU-second, gaps, checkpoints, memory",
  },
  takeover: {
    program: "takeover/main.ts",
    about: "a JobManager takes over a job of 1,000 tasks: from its start to the last deployment",
  },
  "operator-fleet": {
    program: "operator-fleet/main.ts",
    about:
      "the controller with 50 StreamJobs on a real API server: memory, CPU, API calls; a burst of lost JobManagers",
  },
  savepoint: {
    program: "savepoint/main.ts",
    about: "a savepoint of 100 MB in MinIO, beside writing the same bytes with the minio client",
  },
  slot: { program: "slot-micro.ts", about: "KeyedSum from source to sink in one thread, without processes" },
  packs: {
    program: "packs-micro.ts",
    about: "snapshots of many subtasks to packs and back: objects per checkpoint, local copies against the store",
  },
  network: { program: "network-micro.ts", about: "rows through a channel in one thread" },
  state: {
    program: "state-micro.ts",
    about: "keyed state alone: updates per CPU-second, pauses while a snapshot is taken",
  },
  "snapshot-get": {
    program: "snapshot-get.ts",
    about: "one key out of a snapshot of 1 GB: bytes and requests at the store",
  },
};

const [name = "", ...rest] = process.argv.slice(2);
const benchmark = Object.hasOwn(BENCHMARKS, name) ? BENCHMARKS[name] : undefined;
if (benchmark === undefined) {
  const lines = Object.entries(BENCHMARKS).map(([key, { about }]) => `  ${key.padEnd(12)} ${about}`);
  console.error(`usage: npm run bench -- NAME [options]\n${lines.join("\n")}`);
  process.exitCode = 2;
} else {
  const child = spawn(process.execPath, ["--expose-gc", join(import.meta.dirname, benchmark.program), ...rest], {
    stdio: "inherit",
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
  process.exitCode = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 1));
  });
}
