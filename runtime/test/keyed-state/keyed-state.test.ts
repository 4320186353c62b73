// Every kind of keyed state, timers and times to live against plain data: 50 seeds, and proof that the world notices what is broken.
//
// A program of its own, because planted bugs are a process's. More seeds: `npm run soak -- keyed-state`.

import { spawnSync } from "node:child_process";
import { join } from "node:path";

import { expect, test } from "@jest/globals";

interface Summary {
  readonly ok: boolean;
  readonly planted: readonly string[];
  readonly missed: readonly string[];
  readonly totals: Readonly<Record<string, number>>;
}

function run(...args: readonly string[]): Summary {
  const child = spawnSync(process.execPath, [join(import.meta.dirname, "main.ts"), "--operations", "600", ...args], {
    encoding: "utf8",
  });
  const last = child.stdout.trimEnd().split("\n").at(-1) ?? "";
  const summary = last.startsWith("{") ? (JSON.parse(last) as Summary) : undefined;
  if (summary?.ok !== true) throw new Error(`${child.stdout}\n${child.stderr}`);
  return summary;
}

test("WO1-WO6: 50 seeds of operations, snapshots, aborts, crashes, restarts at other parallelisms and damaged parts", () => {
  const { totals } = run("--seeds", "50");
  const atLeast = {
    operations: 30_000,
    snapshots: 800,
    aborts: 100,
    crashes: 150,
    rescales: 100,
    fired: 1_000,
    damaged: 80,
  };
  const tooFew = Object.entries(atLeast).filter(([name, min]) => (totals[name] ?? 0) < min);
  expect([tooFew, totals]).toEqual([[], totals]);
}, 120_000);

test("each planted bug is found", () => {
  const { planted, missed } = run("--seeds", "80", "--each-planted");
  expect([planted.length, missed]).toEqual([11, []]);
}, 120_000);
