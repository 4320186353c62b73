// `npm run soak -- <what> [options]`: the runs that take too long for `npm test`. Options go to the program as typed.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

interface Soak {
  readonly program: string;
  /** Given before those that were typed. */
  readonly args?: readonly string[];
  readonly seedCount: number;
  readonly about: string;
}

const SOAKS: Readonly<Record<string, Soak>> = {
  sim: {
    program: "sim/src/main.ts",
    seedCount: 10_000,
    about: "simulated worlds, 10,000 seeds unless --seeds N says otherwise",
  },
  operations: {
    program: "sim/src/main.ts",
    args: ["--world", "operations"],
    seedCount: 5_000,
    about: "operations of users in a simulated world, 5,000 seeds unless --seeds N says otherwise",
  },
  operator: {
    program: "sim/src/main.ts",
    args: ["--world", "operator"],
    seedCount: 5_000,
    about: "the operator in simulated worlds, 5,000 seeds unless --seeds N says otherwise",
  },
  "keyed-state": {
    program: "runtime/test/keyed-state/main.ts",
    seedCount: 500,
    about: "every kind of keyed state against plain data, 500 seeds unless --seeds N says otherwise",
  },
  kills: {
    program: "runtime/test/kills/main.ts",
    seedCount: 20,
    about: "real processes killed at random points, 20 seeds unless --seeds N says otherwise",
  },
  publication: {
    program: "runtime/test/s3-sink/main.ts",
    seedCount: 1_000,
    about: "the file sink's publication on MinIO, its client cut off at random moments, 1,000 rounds of each way",
  },
  "commit-steps": {
    program: "runtime/test/commit-steps/main.ts",
    seedCount: 1,
    about:
      "the JobManager killed at every numbered step of the commit protocol, one job per step, on file:// and MinIO",
  },
};

const ROOT = join(import.meta.dirname, "../..");

function main(argv: readonly string[]): Promise<number> {
  const [name = "", ...rest] = argv;
  const soak = Object.hasOwn(SOAKS, name) ? SOAKS[name] : undefined;
  if (soak === undefined) {
    const lines = Object.entries(SOAKS).map(([key, { about }]) => `  ${key.padEnd(12)} ${about}`);
    console.error(`usage: npm run soak -- <what> [--seeds N]\n${lines.join("\n")}`);
    return Promise.resolve(2);
  }
  if (!existsSync(join(ROOT, soak.program))) {
    console.error(`npm run soak -- ${name}: its program ${soak.program} does not exist in this checkout`);
    return Promise.resolve(1);
  }
  const seedsGiven = rest.some((arg) => /^--seeds?(=|$)/.test(arg));
  const given = [...(soak.args ?? []), ...rest];
  const args = seedsGiven ? given : ["--seeds", String(soak.seedCount), ...given];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(ROOT, soak.program), ...args], { stdio: "inherit" });
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 1));
  });
}

process.exitCode = await main(process.argv.slice(2));
