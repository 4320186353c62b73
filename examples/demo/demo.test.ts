// The demo itself, over fewer flights.

import { spawnSync } from "node:child_process";
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, expect, test } from "@jest/globals";

const directory = mkdtempSync(join(tmpdir(), "sluice-demo-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** Enough for both kills on a slow machine too: the rate goes on while checkpoints wait. */
const COUNT = 260_000;

interface Flight {
  readonly origin: string;
  readonly delay: number;
}

function writeFlights(): string {
  const data = join(dirname(fileURLToPath(import.meta.resolve("vega-datasets"))), "..", "data", "flights-20k.json");
  const flights = JSON.parse(readFileSync(data, "utf8")) as readonly Flight[];
  const lines = flights.map(({ origin, delay }) => `${JSON.stringify({ origin, delay })}\n`).join("");
  const path = join(directory, "flights.ndjson");
  writeFileSync(path, lines.repeat(COUNT / flights.length));
  return path;
}

function demo(...args: readonly string[]): {
  readonly code: number | null;
  readonly text: string;
  readonly last: string;
} {
  const node = process.execPath;
  const { status, stdout, stderr } = spawnSync(node, [join(ROOT, "examples/demo/main.ts"), ...args], {
    cwd: directory,
    encoding: "utf8",
    timeout: 100_000,
  });
  const text = stdout + stderr;
  return { code: status, text, last: stdout.trimEnd().split("\n").at(-1) ?? "" };
}

test("kills a TaskManager and the JobManager, compares, and notices output that was changed afterwards", () => {
  const input = writeFlights();
  const run = demo("--input", input, "--rate", "13000", "--dir", "work");
  expect(run).toMatchObject({ code: 0, last: "PASSED: 260,000 flights, each counted exactly once through 2 kills" });
  expect(run.text).toMatch(/TaskManager 2 \(process \d+\) +\d[^\n]*checkpoint [1-9][^\n]* [1-9][\d,]*\n/u);
  expect(run.text).toMatch(/JobManager \(process \d+\) +\d[^\n]*checkpoint [1-9][^\n]* [1-9][\d,]*\n/u);
  expect(run.text).not.toContain("\u001b");

  const output = join(directory, "work", "output");
  const [file = ""] = readdirSync(output).filter((name) => name.startsWith("part-"));
  appendFileSync(join(output, file), "ORD,1,1\n");
  const again = demo("--input", input, "--dir", "work", "--verify");
  expect(again).toMatchObject({ code: 1, last: "FAILED: 260,001 rows committed, 260,000 expected, and they differ" });
}, 150_000);
