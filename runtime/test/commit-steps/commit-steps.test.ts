// The JobManager killed at every numbered step of the commit protocol, on real processes, each run in a program of its own.

import { describe, expect, test } from "@jest/globals";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

import { FAULT_POINTS } from "@sluice/kit";
import { minio } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));
const TEST_TIMEOUT_MS = 400_000;

/** Runs the program; its summary and everything printed. Rejects with that when it did not succeed. */
async function steps(...args: readonly string[]): Promise<{ readonly summary: object; readonly text: string }> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (more: string) => (text += more));
  child.stderr.setEncoding("utf8").on("data", (more: string) => (text += more));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  if (code !== 0) throw new Error(text);
  const last = text.trimEnd().split("\n").at(-1) ?? "";
  if (!last.startsWith("{")) throw new Error(`no summary: ${text}`);
  return { summary: JSON.parse(last) as object, text };
}

describe("a JobManager killed on a file store", () => {
  test(
    "ST1, ST2: at every step: the output is exact, and no garbage stays",
    async () => {
      const { summary } = await steps("--stores", "file", "--per-run", "8");
      expect(summary).toMatchObject({ strikes: FAULT_POINTS.length, points: FAULT_POINTS.length, runs: 2, exact: 2 });
    },
    TEST_TIMEOUT_MS,
  );
});

describeWithPeer(minio, "a JobManager killed on MinIO", () => {
  test(
    "ST1, ST2: at every other step, and with uploads on their way: these are collected, and nothing else is",
    async () => {
      const { summary, text } = await steps("--stores", "minio", "--points", "half", "--per-run", "7", "--in-flight");
      expect(summary).toMatchObject({ runs: 2, exact: 2, strikes: 8 });
      expect(text).toMatch(/uploads in flight P2-triggered: struck, restored \d+, collected \S+\/chk-\d+\/x-/);
    },
    TEST_TIMEOUT_MS,
  );
});
