// Compares the committed output of a run with the model: counts what was lost, doubled, or summed wrongly.
//
// Invariants (tests cite them):
//   AU1. Exactly-once: every input position is in the output once, with its key and increment, nothing else is, and the sums of
//        a key, in ascending order, grow by exactly the increments beside them and end at the model's sum.
//   AU2. At-least-once: every input position is in the output at least once, nothing foreign is.
//   AU3. The verdict comes from the output's data alone, never from what the runtime says about itself.
//
// Not here: reading files (run-seed.ts), whether a kill counted (evidence.ts).

import { assert } from "@sluice/kit";

import type { Expectation } from "./model.ts";

/** One line of the output: [key, increment, sum after it, input position]. */
export type OutputRecord = readonly [key: number, increment: number, sum: number, position: number];

export type Guarantee = "exactly-once" | "at-least-once";

export interface Audit {
  readonly guarantee: Guarantee;
  readonly passed: boolean;
  readonly expectedCount: number;
  readonly outputCount: number;
  /** Input positions without output. */
  readonly lostCount: number;
  /** Outputs beyond the first of their position. */
  readonly duplicateCount: number;
  /** Outputs that no input explains: unknown position, other key, other increment. */
  readonly foreignCount: number;
  /** Keys whose sums do not follow from their increments, or end elsewhere than the model's. */
  readonly wrongSumKeyCount: number;
  /** The first few problems in words. */
  readonly problems: readonly string[];
}

const PROBLEMS_MAX = 8;

/** AU1, AU2. */
export function audit(expected: Expectation, output: readonly OutputRecord[], guarantee: Guarantee): Audit {
  const problems: string[] = [];
  const note = (problem: string): void => {
    if (problems.length < PROBLEMS_MAX) problems.push(problem);
  };
  const seen = new Map<number, number>();
  const byKey = new Map<number, OutputRecord[]>();
  let foreignCount = 0;
  let duplicateCount = 0;
  for (const record of output) {
    const [key, increment, , position] = record;
    const input = expected.byPosition.get(position);
    if (input === undefined || input.key !== key || input.increment !== increment) {
      foreignCount += 1;
      note(`foreign output ${JSON.stringify(record)}: the input there is ${JSON.stringify(input ?? null)}`);
      continue;
    }
    const times = (seen.get(position) ?? 0) + 1;
    seen.set(position, times);
    if (times > 1) {
      duplicateCount += 1;
      if (guarantee === "exactly-once") note(`position ${position} (key ${key}) is in the output ${times} times`);
    }
    const records = byKey.get(key);
    if (records === undefined) byKey.set(key, [record]);
    else records.push(record);
  }
  const lost = [...expected.byPosition.keys()].filter((position) => !seen.has(position));
  for (const position of lost.slice(0, PROBLEMS_MAX)) note(`position ${position} is missing in the output`);
  const wrongSumKeyCount = guarantee === "exactly-once" ? wrongSums(expected, byKey, note) : 0;
  const exact = duplicateCount === 0 && wrongSumKeyCount === 0;
  return {
    guarantee,
    passed: lost.length === 0 && foreignCount === 0 && (guarantee === "at-least-once" || exact),
    expectedCount: expected.byPosition.size,
    outputCount: output.length,
    lostCount: lost.length,
    duplicateCount,
    foreignCount,
    wrongSumKeyCount,
    problems,
  };
}

function wrongSums(
  expected: Expectation,
  byKey: ReadonlyMap<number, readonly OutputRecord[]>,
  note: (problem: string) => void,
): number {
  let wrongCount = 0;
  for (const [key, total] of expected.sumByKey) {
    let sum = 0;
    let chained = true;
    for (const record of (byKey.get(key) ?? []).toSorted((a, b) => a[2] - b[2])) {
      if (record[2] !== sum + record[1] && chained) {
        chained = false;
        note(`key ${key}: after the sum ${sum} comes ${JSON.stringify(record)}`);
      }
      sum = record[2];
    }
    if (sum !== total) note(`key ${key}: the last sum is ${sum}, the model's is ${total}`);
    if (!chained || sum !== total) wrongCount += 1;
  }
  return wrongCount;
}

/** Lines of output as records; a line that is none throws, naming it. */
export function parseOutput(text: string, where: string): OutputRecord[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const value: unknown = JSON.parse(line);
      const isRecord =
        Array.isArray(value) && value.length === 4 && value.every((field) => Number.isSafeInteger(field));
      assert(isRecord, `${where} holds [key, increment, sum, position] per line, not ${line.slice(0, 100)}`);
      return value as unknown as OutputRecord;
    });
}

/**
 * The control of the auditor itself: the same output with one record removed, and with one doubled, must fail. `pick` chooses
 * the record. Returns what the auditor missed; empty is good.
 */
export function auditTheAuditor(
  expected: Expectation,
  output: readonly OutputRecord[],
  pick: number,
): readonly string[] {
  const index = pick % output.length;
  const without = output.toSpliced(index, 1);
  const doubled = output.toSpliced(index, 0, output[index] as OutputRecord);
  const missed: string[] = [];
  if (audit(expected, without, "exactly-once").passed) missed.push("a removed record passed the exactly-once audit");
  if (audit(expected, doubled, "exactly-once").passed) missed.push("a doubled record passed the exactly-once audit");
  if (audit(expected, without, "at-least-once").passed) missed.push("a removed record passed the at-least-once audit");
  if (audit(expected, doubled, "at-least-once").duplicateCount !== 1) missed.push("a doubled record was not counted");
  return missed;
}
