import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

import { auditLedger, lineageOf } from "./audit.ts";
import type { LedgerAudit, LedgerFile } from "./audit.ts";
import { auditTheAuditor, DAMAGES, damageLedger } from "./control.ts";
import { outageAt, recordsPerVersion } from "./timing.ts";

const KEYS = 6;
const SPLITS = 2;

interface Run {
  /** Per split, how many records it has emitted. */
  readonly emitted: readonly number[];
  /** Positions at which all subtasks of the sink begin a new file; the last attempt begins at `restartAt`. */
  readonly filesPerSubtask?: number;
  readonly restartAtSequence?: number;
}

/** What a correct job publishes: two subtasks of the sink, keys spread over them, each with some files. */
function correct({ emitted, filesPerSubtask = 3, restartAtSequence = 10 }: Run): LedgerFile[] {
  const perSubtask: string[][] = [[], []];
  const state = new Map<number, { count: number; sum: number }>();
  const indexes = emitted.flatMap((n, split) => Array.from({ length: n }, (_, i) => split + i * SPLITS));
  for (const index of indexes.toSorted((a, b) => a - b)) {
    const key = index % KEYS;
    const sequence = Math.floor(index / KEYS);
    const before = state.get(key) ?? { count: 0, sum: 0 };
    const after = { count: before.count + 1, sum: before.sum + index };
    state.set(key, after);
    const isAfter = sequence >= restartAtSequence;
    const times = isAfter ? [50_000 + index, 50_000, "v2"] : [index, 0, "v1"];
    perSubtask[key % 3 === 0 ? 0 : 1]?.push([key, sequence, after.count, after.sum, ...times].join(" "));
  }
  return perSubtask.flatMap((lines, subtask) => {
    const size = Math.max(1, Math.ceil(lines.length / filesPerSubtask));
    return Array.from({ length: filesPerSubtask }, (_, n) => ({
      name: `out/part-0123456789ab-output-${subtask}-1.1-${n}.txt`,
      text: lines.slice(n * size, (n + 1) * size).join("\n"),
    }));
  });
}

const WHOLE = { keys: KEYS, splits: SPLITS, count: 200 };
const CUT = { ...WHOLE, count: undefined };
const files = correct({ emitted: [100, 100] });

function edit(change: (lines: string[]) => string[], fileIndex = 0): LedgerFile[] {
  return files.map((file, i) => (i === fileIndex ? { ...file, text: change(file.text.split("\n")).join("\n") } : file));
}

describe("the auditor", () => {
  test("AL1-AL4: a correct ledger passes, whatever the order of its files", () => {
    expect(auditLedger(files.toReversed(), WHOLE)).toMatchObject({ passed: true, records: 200, problems: [] });
  });

  test("AL1: a ledger of a stopped job passes at any cut of its splits", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 120 }), fc.integer({ min: 1, max: 120 }), (a, b) => {
        expect(auditLedger(correct({ emitted: [a, b] }), CUT)).toMatchObject({ passed: true, records: a + b });
      }),
    );
  });

  const cases: readonly (readonly [name: string, files: readonly LedgerFile[], counts: Partial<LedgerAudit>])[] = [
    ["a removed record", edit((lines) => lines.slice(1)), { lost: 1 }],
    ["a removed file", files.slice(1), { lost: 23 }],
    ["a doubled record", edit((lines) => [...lines, lines.at(-1) ?? ""]), { duplicates: 1 }],
    ["a doubled file", [...files, ...files.slice(0, 1)], { duplicates: 23 }],
    [
      "two records swapped",
      edit((lines) => [lines[2] ?? "", lines[1] ?? "", lines[0] ?? "", ...lines.slice(3)]),
      { lost: 0 },
    ],
    ["a key that was never sent", edit((lines) => ["6 0 1 6 0 0 v1", ...lines]), { foreign: 1 }],
    ["a number beyond the end", edit((lines) => [...lines, "3 33 34 3468 0 0 v1"]), { foreign: 1 }],
    ["state that began anew", edit((lines) => [...lines.slice(0, -1), "3 7 1 45 0 0 v1"]), { wrongState: 1 }],
    ["nothing", [], { lost: 200 }],
  ];
  test.each(cases)("%s fails", (_name, damaged, counts) => {
    const audit = auditLedger(damaged, WHOLE);
    expect(audit).toMatchObject({ passed: false, ...counts });
    expect(audit.problems.length).toBeGreaterThan(0);
  });

  test("AL1: the last file of one subtask missing is a hole also when the end is not known", () => {
    const last = files.find(({ name }) => name.includes("-0-1.1-2"));
    expect(
      auditLedger(
        files.filter((file) => file !== last),
        CUT,
      ).lost,
    ).toBeGreaterThan(0);
  });

  test("a line of something else is an error that names it", () => {
    expect(() =>
      auditLedger(
        edit((lines) => [...lines, "hello"]),
        WHOLE,
      ),
    ).toThrow(/part-.* line \d+ is no line of a ledger: hello/);
  });

  test("the control: every damage of every record is found", () => {
    fc.assert(fc.property(fc.nat(), (pick) => expect(auditTheAuditor(files, WHOLE, pick)).toEqual([])));
    for (const damage of DAMAGES) expect(auditLedger(damageLedger(files, damage, 3), WHOLE).passed).toBe(false);
  });
});

describe("times", () => {
  test("an outage lies between the last line before and the first line of an attempt opened after the fault", () => {
    expect(outageAt(files, 40_000)).toEqual({
      lastBeforeMs: 59,
      firstAfterMs: 50_060,
      openedMs: 50_000,
      recordsBefore: 60,
      recordsAfter: 140,
    });
    expect(outageAt(files, 90_000)).toMatchObject({ firstAfterMs: undefined, recordsAfter: 0 });
  });

  test("versions are listed as they came", () => {
    expect([...recordsPerVersion(files.toReversed())]).toEqual([
      ["v1", 60],
      ["v2", 140],
    ]);
  });

  test("a file tells its lineage", () => {
    expect(lineageOf({ name: "a/part-0123456789ab-output-0-1.1-0.txt", text: "" })).toBe("0123456789ab");
    expect(() => lineageOf({ name: "a/other.txt", text: "" })).toThrow("not a name of the file sink");
  });
});
