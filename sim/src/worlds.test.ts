// The simulated worlds, as a child process: seeds pass, planted bugs are found, seeds replay, and the simulated seams keep the
// contracts of their seams.

import { describe, expect, test } from "@jest/globals";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { CRASH_SEEDS } from "./worlds/index.ts";

interface Report {
  readonly ok: boolean;
  readonly runs: number;
  readonly findings: readonly { readonly world: string; readonly seed: number; readonly reason: string }[];
  readonly totals: Readonly<Record<string, number>>;
}

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));
/** Tests run beside each other, five at a time: each is a process of its own, and a quiet machine has more than one core. */
const TIMEOUT_MS = 300_000;

function sim(
  ...args: readonly string[]
): Promise<{ readonly code: number | null; readonly output: string; readonly report: Report }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NODE_OPTIONS: "" },
    });
    let output = "";
    let errors = "";
    child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    child.on("error", reject);
    child.on("close", (code) => {
      const last = output.trimEnd().split("\n").at(-1) ?? "";
      if (!last.startsWith("{")) reject(new Error(`no report, exit code ${code}: ${output}${errors}`));
      else resolve({ code, output, report: JSON.parse(last) as Report });
    });
  });
}

describe("200 seeds pass", () => {
  test.concurrent.each([
    ["coordinator", ["commits", "kills", "transactions", "savepoints", "stops", "rescales"]],
    ["aligner", ["triggered", "blocked", "aborted-superseded", "aborted-cancelled"]],
  ])(
    "%s",
    async (world, counts) => {
      const { code, output, report } = await sim("--world", world, "--seeds", "200");
      expect({ code, output: code === 0 ? "" : output }).toEqual({ code: 0, output: "" });
      expect(report.runs).toBe(200);
      for (const count of counts) expect(report.totals[`${world}.${count}`]).toBeGreaterThan(20);
    },
    TIMEOUT_MS,
  );
});

test.concurrent(
  "operations asked of a JobManager end in a recorded outcome whatever fails",
  async () => {
    // Thousands: npm run soak -- operations.
    const { code, output, report } = await sim("--world", "operations", "--seeds", "60");
    expect({ code, output: code === 0 ? "" : output }).toEqual({ code: 0, output: "" });
    for (const count of ["savepoint", "checkpoint", "stop", "cancel", "rescale"])
      expect(report.totals[`operations.done ${count}`]).toBeGreaterThan(4);
    for (const count of ["survived a JobManager", "repeated", "lost", "kills"])
      expect(report.totals[`operations.${count}`]).toBeGreaterThan(20);
  },
  TIMEOUT_MS,
);

describe("the operator", () => {
  test.concurrent(
    "converges after a crash before and after every API call of an upgrade in each mode",
    async () => {
      const { code, output, report } = await sim("--world", "operator-crashes", "--seeds", String(CRASH_SEEDS));
      expect({ code, output: code === 0 ? "" : output }).toEqual({ code: 0, output: "" });
      expect(report.runs).toBe(CRASH_SEEDS);
      // Every call of every mode was hit on both sides, and an upgrade makes more than a handful of them.
      expect(report.totals["operator-crashes.crashed at a call"]).toBeGreaterThan(150);
      expect(report.totals["operator-crashes.ran past the last call"]).toBeGreaterThan(5);
      // A third of them stops with a savepoint: once each, whatever crashed.
      expect(report.totals["operator-crashes.savepoints"]).toBe(CRASH_SEEDS / 3);
    },
    TIMEOUT_MS,
  );

  test.concurrent(
    "scripts of users under faults end where the spec says",
    async () => {
      // Thousands: npm run soak -- operator.
      const { code, output, report } = await sim("--world", "operator", "--seeds", "60");
      expect({ code, output: code === 0 ? "" : output }).toEqual({ code: 0, output: "" });
      for (const count of ["savepoints", "fenced", "lost node", "vanished jobmanager", "lostAfter", "conflict"])
        expect(report.totals[`operator.${count}`]).toBeGreaterThan(4);
    },
    TIMEOUT_MS,
  );
});

describe("each planted bug is found within 200 seeds", () => {
  test.concurrent.each([
    ["ack-of-another-checkpoint", "coordinator", "CL9|C9"],
    ["metadata-before-last-ack", "coordinator", "CK1"],
    ["notify-before-commit-record", "coordinator", "CL5"],
    ["epoch-not-checked", "coordinator", "CL1"],
    ["ids-reused-after-failover", "coordinator", "CL4"],
    ["delete-retained-object", "coordinator", "CL3"],
    ["savepoint-becomes-head", "coordinator", "C9"],
    ["stop-notifies-before-record", "coordinator", "CL5"],
    ["stop-forgotten-by-failover", "coordinator", "C10"],
    ["channel-not-blocked", "aligner", "W2"],
    ["late-barrier-starts-alignment", "aligner", "W3"],
    ["alignment-off", "aligner", "W2"],
    ["operation-begun-before-record", "operations", "OS1"],
    ["operation-behind-the-end", "operations", "OS1|OS2"],
    ["end-settles-again", "operations", "OS2"],
    ["rescale-given-up-by-restart", "operations", "OS3"],
    ["operation-begun-again", "operations", "OS4"],
    ["follower-begun-apart", "operations", "OS4"],
    ["savepoint-answered-before-metadata", "operations", "C9"],
    ["savepoint-swept-when-done", "operations", "OS5"],
    ["stop-takes-intermediate", "operations", "OS6"],
    ["stop-forgotten-by-failover", "operations", "C10"],
    ["rescale-recorded-before-checked", "operations", "OS7"],
    ["rescale-forgotten-by-failover", "operations", "OS7"],
    ["rescale-not-deployed", "operations", "OS7"],
    ["cancel-not-resumed", "operations", "OS8"],
    ["ended-run-begun-again", "operations", "C10|OS8"],
    ["operation-not-resumed", "operations", "OS3|OS8|OS9"],
    ["failed-stop-not-restarted", "operations", "OS9"],
    ["operator-acts-before-status", "operator", "OW5"],
    ["operator-attempt-not-derived", "operator", "OW9"],
    ["operator-may-always-create", "operator", "OW1"],
    ["operator-skips-fence", "operator", "OW3"],
    ["operator-stops-twice", "operator", "OW2"],
    ["operator-stateful-late", "operator", "OW4"],
    ["operator-name-reused", "operator", "OW10"],
  ])(
    "%s",
    async (bug, world, invariant) => {
      const { code, output, report } = await sim("--world", world, "--seeds", "200", "--planted", bug);
      expect(code).toBe(0);
      expect(report.findings[0]?.reason).toMatch(new RegExp(invariant, "u"));
      expect(output).toContain(`--seed ${report.findings[0]?.seed} --planted ${bug} --trace`);
    },
    TIMEOUT_MS,
  );
});

test.concurrent(
  "a seed replays: the same failure, the same trace",
  async () => {
    const args = ["--world", "coordinator", "--seed", "2", "--planted", "delete-retained-object", "--trace"];
    const [a, b] = await Promise.all([sim(...args), sim(...args)]);
    const trace = (output: string): string =>
      output
        .split("\n")
        .filter((line) => !line.includes("seeds/s") && !line.startsWith("{"))
        .join("\n");
    expect(trace(a.output).length).toBeGreaterThan(1_000);
    expect(trace(a.output)).toBe(trace(b.output));
  },
  TIMEOUT_MS,
);

test.concurrent(
  "the simulated store and network keep the contracts of their seams",
  async () => {
    const { code, output, report } = await sim("--contracts");
    expect({ code, output: code === 0 ? "" : output }).toEqual({ code: 0, output: "" });
    expect(report.runs).toBeGreaterThan(10);
  },
  TIMEOUT_MS,
);

test.concurrent(
  "unknown worlds and bugs are errors",
  async () => {
    await expect(sim("--world", "nowhere")).rejects.toThrow("no such world: nowhere");
    await expect(sim("--planted", "nothing")).rejects.toThrow("no such planted bug: nothing");
  },
  TIMEOUT_MS,
);
