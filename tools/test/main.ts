// `npm test [jest arguments]`: the checks, then every test, then a summary whose last line is `N passed, N failed`.
//
// Invariants:
//   T1. The last line counts stages of the check and tests together; the exit code is 0 only if nothing failed.
//   T2. No test at all is a failure: a wrong pattern must not look like success.
//   T3. A skipped test is listed with its reason; with SLUICE_REQUIRE_PEERS=1 a missing peer fails instead.
//
// Not here: long runs (tools/soak).

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";

import { PEERS } from "../peers/index.ts";

const ROOT = join(import.meta.dirname, "../..");
const SKIPPED = /\(skipped because (.*?)\)(?: |$)/;

interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

async function main(jestArguments: readonly string[]): Promise<number> {
  console.log("== peers");
  for (const peer of PEERS) {
    const state = await peer.prepare((line) => console.log(line));
    console.log(state.available ? `${peer.name}: ${state.program}` : `${peer.name}: none (${state.reason})`);
  }
  console.log("== check");
  const check = await runChecks();
  console.log("== tests");
  const tests = await runJest(jestArguments);
  const passed = check.passed + tests.passed;
  const failed = check.failed + tests.failed;
  const skipped = tests.skipped > 0 ? `, ${tests.skipped} skipped` : "";
  console.log(`${passed} passed, ${failed} failed${skipped}`);
  return failed === 0 ? 0 : 1;
}

async function runChecks(): Promise<Counts> {
  const { code, output } = await runShown([join(ROOT, "tools/check/main.ts")], {});
  const found = /(\d+) passed, (\d+) failed\s*$/.exec(output);
  const passed = Number(found?.[1] ?? 0);
  const failed = Number(found?.[2] ?? 0);
  return { passed, failed: failed === 0 && (code !== 0 || found === null) ? 1 : failed, skipped: 0 };
}

interface JestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly numRuntimeErrorTestSuites: number;
  readonly success: boolean;
  readonly testResults: readonly {
    readonly name: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

async function runJest(jestArguments: readonly string[]): Promise<Counts> {
  const folder = mkdtempSync(join(tmpdir(), "sluice-jest-"));
  try {
    const outputFile = join(folder, "result.json");
    const flags = ["--experimental-vm-modules", "--disable-warning=ExperimentalWarning"];
    const jest = join(ROOT, "node_modules/jest/bin/jest.js");
    const args = [
      ...flags,
      jest,
      "--rootDir",
      ROOT,
      "--config",
      join(ROOT, "jest.config.mjs"),
      "--json",
      `--outputFile=${outputFile}`,
    ];
    // With --json Jest prints the report to standard output as well; people read its standard error.
    const { code } = await runShown([...args, ...jestArguments], { hideStdout: true });
    let report: JestReport;
    try {
      report = JSON.parse(readFileSync(outputFile, "utf8")) as JestReport;
    } catch {
      console.log(`Jest ended with code ${code} and left no report`);
      return { passed: 0, failed: 1, skipped: 0 };
    }
    printSkipped(report);
    printFailed(report);
    const nothingRan = report.numPassedTests + report.numFailedTests === 0 ? 1 : 0; // T2
    if (nothingRan === 1) console.log("no test ran");
    const failed = report.numFailedTests + report.numRuntimeErrorTestSuites + nothingRan;
    return {
      passed: report.numPassedTests,
      failed: failed === 0 && (code !== 0 || !report.success) ? 1 : failed,
      skipped: report.numPendingTests + report.numTodoTests,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** T3. Grouped by reason: one missing toolchain skips many tests. */
function printSkipped(report: JestReport): void {
  const byReason = new Map<string, string[]>();
  for (const { name, assertionResults } of report.testResults) {
    for (const { fullName, status } of assertionResults) {
      if (status !== "pending" && status !== "todo") continue;
      const reason = SKIPPED.exec(fullName)?.[1] ?? "no reason given";
      const title = `${relative(ROOT, name)}: ${fullName.replace(SKIPPED, "")}`;
      byReason.set(reason, [...(byReason.get(reason) ?? []), title]);
    }
  }
  if (byReason.size > 0) console.log("== skipped");
  for (const [reason, titles] of byReason) {
    console.log(reason);
    for (const title of titles) console.log(`    ${title}`);
  }
}

function printFailed(report: JestReport): void {
  const titles = report.testResults.flatMap(({ name, assertionResults }) =>
    assertionResults
      .filter(({ status }) => status === "failed")
      .map(({ fullName }) => `${relative(ROOT, name)}: ${fullName}`),
  );
  if (titles.length > 0) console.log(["== failed", ...titles].join("\n"));
}

/** Runs Node with its output shown as it comes and kept for the caller. */
function runShown(
  args: readonly string[],
  options: { readonly hideStdout?: boolean },
): Promise<{ readonly code: number; readonly output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => child.kill(signal));
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-65_536);
      if (options.hideStdout !== true) process.stdout.write(chunk);
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? 1, output }));
  });
}

process.exitCode = await main(process.argv.slice(2));
