// The commands of README, typed as they stand there, in their order, by a newcomer with an empty directory.
//
// Invariants:
//   RM1. Every line of README that runs `sluice` is typed here, or stands in ELSEWHERE with the place where it is.
//   RM2. The job is the one of README, but for its length.

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { processesOf } from "../support/command-line.ts";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const README = readFileSync(join(ROOT, "README.md"), "utf8");
const TEST_TIMEOUT_MS = 300_000;
const WAIT_MS = 120_000;

/** Lines that are run by other tests, by a part of them. */
const ELSEWHERE: readonly (readonly [part: string, where: string])[] = [
  ["execution.checkpointing.min-pause", "packages/cli/src/run.test.ts types -D and --dir"],
  ["-- init ", "tools/pack: what a newcomer does with the packages"],
  ["s3://", "needs a bucket: runtime/test/s3-sink and runtime/test/faults"],
];

/** Shell lines of README that run `sluice`: continued lines joined, comments cut off. */
function readmeCommands(): readonly string[] {
  const blocks = [...README.matchAll(/^```sh\n([\s\S]*?)^```/gmu)].map(([, block = ""]) => block);
  return blocks
    .flatMap((block) => block.replaceAll(/\\\n\s*/gu, "").split("\n"))
    .filter((line) => line.includes("npm run sluice -- "))
    .map((line) => line.replace(/\s+#.*$/u, "").trim());
}

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "sluice-readme-"));
  // A directory in which `npm run sluice` and imports mean what they mean in the repository.
  const bootstrap = JSON.stringify(join(ROOT, "tools/bootstrap.mjs"));
  const scripts = { sluice: `node ${bootstrap} sluice` };
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module", private: true, scripts }));
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  const job = /Save this as `first\.ts`[\s\S]*?^```ts\n([\s\S]*?)^```/mu.exec(README)?.[1];
  expect(job).toContain("count: 30_000");
  writeFileSync(join(folder, "first.ts"), (job ?? "").replace("count: 30_000", "count: 3_000_000")); // RM2
});
afterAll(async () => {
  for (const typed of background) await typed.end();
  for (const pid of processesOf(folder)) process.kill(pid, "SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

interface Typed {
  text(): string;
  readonly exit: Promise<number | null>;
  hasExited(): boolean;
  /** Kills it and what it started. */
  end(): Promise<void>;
}

const background: Typed[] = [];

function type(command: string): Typed {
  const child = spawn("sh", ["-c", command], { cwd: folder, stdio: ["ignore", "pipe", "pipe"], detached: true });
  let text = "";
  let hasExited = false;
  child.stdout.setEncoding("utf8").on("data", (more: string) => (text += more));
  child.stderr.setEncoding("utf8").on("data", (more: string) => (text += more));
  const exit = new Promise<number | null>((resolve) => {
    child.once("close", (code) => {
      hasExited = true;
      resolve(code);
    });
  });
  const end = async (): Promise<void> => {
    if (!hasExited && child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    await exit;
  };
  return { text: () => text, exit, hasExited: () => hasExited, end };
}

/** Waits until a run in the background shows this. */
async function shows(run: Typed, pattern: RegExp): Promise<void> {
  const endMs = performance.now() + WAIT_MS;
  while (!pattern.test(run.text())) {
    if (run.hasExited() || performance.now() > endMs) throw new Error(`waited in vain for ${pattern}:\n${run.text()}`);
    await sleep(50);
  }
}

/** What each command is expected to print; the run before it is in the background when `run` says so. */
const EXPECTED: readonly (readonly [command: RegExp, prints: RegExp])[] = [
  [/-- list/u, /first {2}RUNNING/u],
  [/-- status/u, /RUNNING[\s\S]*read/u],
  [/-- checkpoint/u, /checkpoint \d+/u],
  [/-- savepoint first/u, /savepoint-/u],
  [/-- stop/u, /savepoint-/u],
  [/-- cancel/u, /cancel/u],
  [/snapshot ls/u, /checkpoint \d+ .*head, retained/u],
  [/snapshot show/u, /sum/u],
  [/snapshot get/u, /\d+/u],
  [/snapshot verify/u, /whole|ok|good|bytes/iu],
  [/snapshot check/u, /sum/u],
  [/snapshot diff/u, /sum/u],
  [/savepoint dispose/u, /savepoint-/u],
  [/store inspect/u, /head, retained/u],
  [/store gc/u, /garbage|would be deleted/u],
  [/store pin/u, /is kept for/u],
  [/store unpin/u, /taken back/u],
  [/store close/u, /is closed/u],
  [/store purge/u, /is purged/u],
];

test(
  "every command of README does what README says",
  async () => {
    const commands = readmeCommands();
    expect(commands.length).toBeGreaterThan(10);
    const runs = new Map<string, Typed>();
    for (const command of commands) {
      if (ELSEWHERE.some(([part]) => command.includes(part))) continue;
      if (command.includes("-- run ")) {
        const run = type(command);
        background.push(run);
        runs.set(/--name (\S+)/u.exec(command)?.[1] ?? "first", run);
        await shows(run, /RUNNING, .*checkpoint \d+ \(/u);
        continue;
      }
      const [, prints] = EXPECTED.find(([pattern]) => pattern.test(command)) ?? [];
      if (prints === undefined) throw new Error(`README types a command that this test knows nothing of: ${command}`);
      const typed = type(command);
      const code = await typed.exit;
      expect([command, code, typed.text()]).toEqual([command, 0, expect.stringMatching(prints)]);
      // Whoever types the next command sees first that the run has ended.
      const ended = /-- (?:stop|cancel) (\S+)/u.exec(command)?.[1];
      if (ended !== undefined) expect([ended, await runs.get(ended)?.exit]).toEqual([ended, 0]);
    }
    checkOutput();
  },
  TEST_TIMEOUT_MS,
);

/** Of each job, the sums of each key without a gap or a repetition, from where it began to wherever it was ended. */
function checkOutput(): void {
  const sums = new Map<string, number[]>();
  for (const name of readdirSync(join(folder, "out")).filter((file) => file.startsWith("part-"))) {
    const lineage = name.split("-")[1] ?? "";
    for (const line of readFileSync(join(folder, "out", name), "utf8")
      .split("\n")
      .filter((text) => text !== "")) {
      const [key = "", sum = ""] = line.split(" ");
      const all = sums.get(`${lineage} ${key}`) ?? [];
      all.push(Number(sum));
      sums.set(`${lineage} ${key}`, all);
    }
  }
  expect(sums.size).toBe(4); // two jobs, two keys
  for (const all of sums.values()) {
    const inOrder = all.toSorted((a, b) => a - b);
    const increments = inOrder.slice(1).map((sum, i) => sum - (inOrder[i] ?? 0));
    expect(increments.length).toBeGreaterThan(300);
    expect(increments.filter((increment, i) => i > 0 && increment !== (increments[i - 1] ?? 0) + 2)).toEqual([]);
  }
}
