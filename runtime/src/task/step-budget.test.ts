import { describe, expect, test } from "@jest/globals";

import { ROWS_PER_CHUNK, ROWS_PER_CHUNK_MIN, STEP_MS, STEP_WHILE_ENCODING_MS, StepBudget } from "./step-budget.ts";

const QUICK = [0, 0, 0, 0, 0];

/** Chunks that take these times: the rows of the next chunk after each, and whether the step goes on. */
function chunks(tookMs: readonly number[], sharesWithEncoding = false): [rows: number, goesOn: boolean][] {
  let nowMs = 1_000;
  const budget = new StepBudget({ nowMs: () => nowMs });
  budget.enterStep(sharesWithEncoding);
  budget.begin();
  return tookMs.map((ms) => {
    nowMs += ms;
    const goesOn = budget.endChunk();
    return [budget.chunkRows, goesOn];
  });
}

/** After quick chunks, which made it as large as may be. */
const rowsAfter = (tookMs: readonly number[]): number[] =>
  chunks([...QUICK, ...tookMs])
    .slice(QUICK.length)
    .map(([rows]) => rows);
const chunksUntilTheEnd = (tookMs: number, sharesWithEncoding: boolean): number =>
  chunks(
    Array.from({ length: 100 }, () => tookMs),
    sharesWithEncoding,
  ).findIndex(([, goesOn]) => !goesOn) + 1;

describe("BU2: a chunk", () => {
  test("is small before anything is known, and doubled while it is quick", () =>
    expect(chunks(QUICK).map(([rows]) => rows)).toEqual([16, 32, 64, 128, ROWS_PER_CHUNK]));
  test("that takes long is halved, down to the smallest", () =>
    expect(rowsAfter([2, 2, 2, 2, 2, 2, 2])).toEqual([128, 64, 32, 16, 8, ROWS_PER_CHUNK_MIN, ROWS_PER_CHUNK_MIN]));
  test("that is quick is doubled, up to the largest", () =>
    expect(rowsAfter([2, 2, 0.2, 0.2, 0.2])).toEqual([128, 64, 128, 256, ROWS_PER_CHUNK]));
  test("in between stays as it is", () => expect(rowsAfter([2, 0.25, 1, 0.6])).toEqual([128, 128, 128, 128]));
});

describe("BU1: a step ends when its time is over", () => {
  test("alone on its thread", () => expect(chunksUntilTheEnd(0.5, false)).toBe(STEP_MS / 0.5));
  test("BU3: and sooner while a snapshot is encoded", () =>
    expect(chunksUntilTheEnd(0.5, true)).toBe(STEP_WHILE_ENCODING_MS / 0.5));
});

test("BU1: timers and input have the time of a step each", () => {
  let nowMs = 0;
  const budget = new StepBudget({ nowMs: () => nowMs });
  budget.enterStep(false);
  budget.begin();
  nowMs += STEP_MS;
  expect(budget.endChunk()).toBe(false);
  budget.begin();
  nowMs += STEP_MS / 2;
  expect(budget.endChunk()).toBe(true);
});
