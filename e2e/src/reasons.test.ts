// Every reason that the controller writes into a condition is explained in docs/operator/troubleshooting.md.

import { expect, test } from "@jest/globals";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");
const DECIDE = join(ROOT, "controller/src/decide");
const WRITTEN = [
  /\breason: "([A-Z][a-z]\w+)"/gu,
  /\breason: [\w.]+ \? "([A-Z][a-z]\w+)" : "([A-Z][a-z]\w+)"/gu,
  /\bready\("\w+", "([A-Z][a-z]\w+)"/gu,
  /\b(?:is|wait)\("([A-Z][a-z]\w+)"/gu,
];

test("no reason is missing in the troubleshooting page", () => {
  const page = readFileSync(join(ROOT, "docs/operator/troubleshooting.md"), "utf8");
  const files = readdirSync(DECIDE).filter((name) => name.endsWith(".ts") && !/\.(?:test|fixture)\.ts$/u.test(name));
  const reasons = new Set(
    files.flatMap((name) => {
      const source = readFileSync(join(DECIDE, name), "utf8");
      return WRITTEN.flatMap((pattern) => [...source.matchAll(pattern)].flatMap(([, ...found]) => found));
    }),
  );
  expect(reasons.size).toBeGreaterThan(20);
  expect([...reasons].filter((reason) => reason !== undefined && !page.includes(`\`${reason}\``))).toEqual([]);
});
