import { expect, test } from "@jest/globals";

import { report, rowsOf } from "./results.ts";
import type { RunResult } from "./results.ts";

test("RS1: repetitions become a median with its extremes, and a goal that was missed says so", () => {
  const measurements = [
    { name: "upgrade", ms: 9_000, goalMs: 15_000 },
    { name: "start", ms: 20_000, goalMs: 15_000 },
    { name: "upgrade", ms: 7_000, goalMs: 15_000 },
    { name: "upgrade", ms: 30_000, goalMs: 15_000 },
    { name: "start", ms: 14_000, goalMs: 15_000 },
  ];
  expect(rowsOf(measurements)).toEqual([
    { name: "upgrade", medianMs: 9_000, leastMs: 7_000, mostMs: 30_000, count: 3, goalMs: 15_000 },
    { name: "start", medianMs: 17_000, leastMs: 14_000, mostMs: 20_000, count: 2, goalMs: 15_000 },
  ]);
  const audit = {
    passed: false,
    files: 2,
    records: 10,
    lost: 1,
    duplicates: 0,
    foreign: 0,
    outOfOrder: 0,
    wrongState: 0,
    problems: ["one is missing"],
  };
  const findings = { proofs: ["it was killed"], audits: [{ what: "sum", audit }], measurements };
  const result: RunResult = {
    commit: "0123456789ab",
    at: "2026-01-01T00:00:00Z",
    machine: "a machine",
    seconds: 61,
    setup: [{ name: "cluster", seconds: 3 }],
    scenarios: [{ name: "kill", about: "a kill", passed: false, seconds: 60, problem: "one is missing", findings }],
  };
  const text = report(result);
  expect(text).toContain("| upgrade | 9.0 s | 7.0 s | 30.0 s | 3 | < 15 s | met |");
  expect(text).toContain("| start | 17.0 s | 14.0 s | 20.0 s | 2 | < 15 s | missed |");
  expect(text).toContain("| kill | a kill | FAILED | 60.0 s | 10 | 1 | 0 |");
  expect(text).toContain("0 of 1 scenarios passed in 61.0 s");
  expect(text).toContain("- FAILED: one is missing");
});
