// What a run found: printed, and kept in e2e/results when the run was a whole one.
//
// Invariants:
//   RS1. Numbers are medians with their extremes over all repetitions; a goal that was missed is shown as missed, never left out.
//   RS2. Only a whole run is kept: results of a part would hide what was not tried.

import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";

import type { Findings, Measurement } from "./scenario.ts";

const FOLDER = join(import.meta.dirname, "../results");

export interface ScenarioResult {
  readonly name: string;
  readonly about: string;
  readonly passed: boolean;
  readonly seconds: number;
  readonly problem?: string;
  readonly findings: Findings;
}

export interface RunResult {
  readonly commit: string;
  readonly at: string;
  readonly machine: string;
  readonly seconds: number;
  readonly setup: readonly { readonly name: string; readonly seconds: number }[];
  readonly scenarios: readonly ScenarioResult[];
}

export interface Row {
  readonly name: string;
  readonly medianMs: number;
  readonly leastMs: number;
  readonly mostMs: number;
  readonly count: number;
  readonly goalMs: number | undefined;
}

/** RS1. Equal names are repetitions, in the order of their first one. */
export function rowsOf(measurements: readonly Measurement[]): readonly Row[] {
  return [...Map.groupBy(measurements, ({ name }) => name)].map(([name, ones]) => {
    const sorted = ones.map(({ ms }) => ms).toSorted((a, b) => a - b);
    const middle = Math.floor(sorted.length / 2);
    const upper = sorted[middle] ?? NaN;
    const medianMs = sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? NaN)) / 2;
    const goalMs = ones[0]?.goalMs;
    return { name, medianMs, leastMs: sorted[0] ?? NaN, mostMs: sorted.at(-1) ?? NaN, count: sorted.length, goalMs };
  });
}

/** The whole report as Markdown. */
export function report(result: RunResult): string {
  const { scenarios } = result;
  const measurements = scenarios.flatMap(({ findings }) => findings.measurements);
  const passed = scenarios.filter((one) => one.passed).length;
  return [
    "# End-to-end tests: the last whole run",
    `Commit ${result.commit}, ${result.at}, ${result.machine}. ${passed} of ${scenarios.length} scenarios passed in ${seconds(result.seconds * 1_000)}.`,
    "## Numbers",
    "Times come from the records that were published: the wall clock of the fault, and of the first record that a later attempt has written.",
    table(
      ["what", "median", "least", "most", "times", "goal", ""],
      rowsOf(measurements).map(({ name, medianMs, leastMs, mostMs, count, goalMs }) => [
        name,
        seconds(medianMs),
        seconds(leastMs),
        seconds(mostMs),
        String(count),
        goalMs === undefined ? "" : `< ${goalMs / 1_000} s`,
        goalMs === undefined ? "" : medianMs < goalMs ? "met" : "missed",
      ]),
    ),
    "## Scenarios",
    table(
      ["scenario", "what", "result", "took", "records audited", "lost", "doubled"],
      scenarios.map(({ name, about, passed: isPassed, seconds: took, findings }) => {
        const sum = (of: "records" | "lost" | "duplicates"): string =>
          String(findings.audits.reduce((total, { audit }) => total + audit[of], 0));
        const counts = findings.audits.length === 0 ? ["", "", ""] : [sum("records"), sum("lost"), sum("duplicates")];
        return [name, about, isPassed ? "passed" : "FAILED", seconds(took * 1_000), ...counts];
      }),
    ),
    "## What was proven",
    ...scenarios
      .filter(({ findings, problem }) => findings.proofs.length > 0 || problem !== undefined)
      .map(({ name, findings, problem }) =>
        [
          `**${name}**`,
          "",
          ...findings.proofs.map((proof) => `- ${proof}`),
          ...(problem === undefined ? [] : [`- FAILED: ${problem.split("\n", 1)[0]}`]),
        ].join("\n"),
      ),
    "## Setup",
    table(
      ["part", "took"],
      result.setup.map(({ name, seconds: took }) => [name, seconds(took * 1_000)]),
    ),
  ].join("\n\n");
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(ms < 100_000 ? 1 : 0)} s`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** RS2. `latest.md` for people, the commit's JSON for programs; those of earlier commits are in the history. */
export function keep(result: RunResult): void {
  mkdirSync(FOLDER, { recursive: true });
  for (const name of readdirSync(FOLDER)) if (name.endsWith(".json")) rmSync(join(FOLDER, name));
  writeFileSync(join(FOLDER, `${result.commit}.json`), `${JSON.stringify(result, undefined, 1)}\n`);
  writeFileSync(join(FOLDER, "latest.md"), `${report(result)}\n`);
}

/** Twelve digits of the commit, with -dirty when the tree differs from it. */
export function commitOf(): string {
  const git = (args: readonly string[]): string =>
    execFileSync("git", [...args], {
      cwd: import.meta.dirname,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  try {
    const changed = git(["status", "--porcelain", "--", "../..", ":!../results"]);
    return `${git(["rev-parse", "--short=12", "HEAD"])}${changed === "" ? "" : "-dirty"}`;
  } catch {
    return "unknown";
  }
}

export function machineOf(): string {
  const [cpu] = cpus();
  return `${cpus().length} processors (${cpu?.model.trim() ?? "unknown"}), Linux ${release()}`;
}
