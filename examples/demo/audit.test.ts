// The comparison of the demo notices what it is there for: it is tried on output that was tampered with.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, describe, expect, test } from "@jest/globals";

import { compare, computeModel } from "./audit.ts";
import { Output } from "./output.ts";

const directory = mkdtempSync(join(tmpdir(), "sluice-audit-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const INPUT = ["ORD 5", "LAX -3", "ORD 7", "ORD 5", "LAX 10"].map((row) => row.split(" "));
const FIRST = "origin,delay,sum\nORD,5,5\nORD,7,12\n";
const SECOND = "origin,delay,sum\nORD,5,17\n";
const OTHER = "origin,delay,sum\nLAX,-3,-3\nLAX,10,7\n";

async function differencesOf(first: string, second: string, other: string): Promise<string> {
  const input = join(directory, "flights.ndjson");
  writeFileSync(
    input,
    INPUT.map(([origin, delay]) => `${JSON.stringify({ origin, delay: Number(delay) })}\n`).join(""),
  );
  // checkpoint 10 comes after 2, also where names are sorted as text
  writeFileSync(join(directory, "part-abc-2-output-0-0.csv"), first);
  writeFileSync(join(directory, "part-abc-10-output-0-0.csv"), second);
  writeFileSync(join(directory, "part-abc-2-output-1-0.csv"), other);
  writeFileSync(join(directory, ".pending-part-abc-11-output-1-0.csv"), "origin,delay,sum\nORD,99,99\n");
  const output = new Output(directory);
  const verdict = compare(await computeModel(input), output.files());
  expect(verdict.rowsExpected).toBe(INPUT.length);
  expect(output.committed()).toEqual({ rows: verdict.rowsCommitted, checkpointId: 10 });
  return verdict.differences.map((text) => text.replaceAll(directory, "")).join("; ");
}

describe("the comparison of the demo", () => {
  test.each([
    ["exact output passes", FIRST, SECOND, OTHER, ""],
    [
      "AU1: a lost row",
      FIRST,
      "origin,delay,sum\n",
      OTHER,
      "ORD: 1 flights are missing (AU1), the last sum is 12, and 17 was expected (AU3)",
    ],
    [
      "AU1: a row twice",
      FIRST,
      `${SECOND}ORD,5,22\n`,
      OTHER,
      "ORD: 1 rows are too many (AU1), the last sum is 22, and 17 was expected (AU3)",
    ],
    [
      "AU1: one delay instead of another with the same total",
      "origin,delay,sum\nORD,6,6\nORD,6,12\n",
      SECOND,
      OTHER,
      "ORD: 2 flights are missing (AU1), 2 rows are too many (AU1)",
    ],
    [
      "AU2: a sum that forgot",
      FIRST,
      "origin,delay,sum\nORD,5,5\n",
      OTHER,
      "/part-abc-10-output-0-0.csv:2: ORD has sum 5, and 17 was expected (AU2); ORD: the last sum is 5, and 17 was expected (AU3)",
    ],
    ["an airport that is missing", FIRST, SECOND, "origin,delay,sum\n", "LAX: 2 flights are missing (AU1)"],
    ["an airport that is not in the input", FIRST, SECOND, `${OTHER}XXX,1,1\n`, "XXX: is not in the input"],
    [
      "a torn line",
      FIRST,
      SECOND,
      OTHER.slice(0, -1),
      "/part-abc-2-output-1-0.csv: the last line has no end; LAX: 1 flights are missing (AU1), the last sum is -3, and 7 was expected (AU3)",
    ],
  ])("%s", async (_title, first, second, other, expected) => {
    expect(await differencesOf(first, second, other)).toBe(expected);
    expect(readFileSync(join(directory, "part-abc-2-output-0-0.csv"), "utf8")).toBe(first);
  });
});
