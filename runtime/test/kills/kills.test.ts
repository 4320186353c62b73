// Kills on real processes, each in a program of its own: nothing with threads is loaded inside Jest.

import { describe, expect, test } from "@jest/globals";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));

interface Summary {
  readonly runs: number;
  readonly passed: number;
  readonly countedKills: Readonly<Record<string, number>>;
  readonly checkpointsRestored: number;
  readonly recordsReplayed: number;
  readonly lost: number;
  readonly duplicates: Readonly<Record<string, number>>;
  readonly found?: boolean;
  readonly problems: readonly string[];
}

/** Runs the program; its summary, exit code and everything printed. */
async function kills(...args: readonly string[]): Promise<{ code: number | null; summary: Summary; text: string }> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (more: string) => (text += more));
  child.stderr.setEncoding("utf8").on("data", (more: string) => (text += more));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  const last = text.trimEnd().split("\n").at(-1) ?? "";
  if (!last.startsWith("{")) throw new Error(`no summary: ${text}`);
  return { code, summary: JSON.parse(last) as Summary, text };
}

/** The first three seeds in this mode, without problems. */
async function threeSeeds(mode: string): Promise<Summary> {
  const { code, summary, text } = await kills(
    ...["--seeds", "3", "--from", "1"],
    ...["--mode", mode, "--side-by-side", "2"],
  );
  expect({ code, problems: summary.problems, text }).toMatchObject({ code: 0, problems: [] });
  return summary;
}

describe("KeyedSum with two skewed inputs, killed at random points", () => {
  test("AU1: exactly-once output is exact, in three seeds with every kind of kill", async () => {
    const summary = await threeSeeds("exactly-once");
    expect(summary).toMatchObject({ runs: 3, passed: 3, lost: 0, duplicates: { "exactly-once": 0 } });
    for (const [kind, count] of Object.entries(summary.countedKills)) expect([kind, count >= 1]).toEqual([kind, true]);
    expect(summary.checkpointsRestored).toBe(6);
    expect(summary.recordsReplayed).toBeGreaterThan(0);
  }, 240_000);

  test("AU2: at-least-once output of the same seeds loses nothing and holds duplicates", async () => {
    const summary = await threeSeeds("at-least-once");
    expect(summary).toMatchObject({ runs: 3, passed: 3, lost: 0 });
    expect(summary.duplicates["at-least-once"]).toBeGreaterThan(0);
  }, 240_000);

  test.each(["alignment-off", "sink-commits-before-record"])(
    "the exactly-once audit fails with the planted bug %s",
    async (bug) => {
      const { code, summary, text } = await kills("--seeds", "6", "--from", "1", "--planted", bug);
      expect({ code, text }).toMatchObject({ code: 0 });
      expect(summary.found).toBe(true);
    },
    300_000,
  );
});
