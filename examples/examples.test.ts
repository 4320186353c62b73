// The small examples, run as their comments say.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { afterAll, expect, test } from "@jest/globals";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "sluice-examples-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function sluiceRun(...args: readonly string[]): { readonly code: number | null; readonly lines: readonly string[] } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(ROOT, "packages/cli/src/main.ts"), "run", ...args],
    {
      cwd: directory,
      encoding: "utf8",
      timeout: 60_000,
    },
  );
  return { code: status, lines: (stdout + stderr).trimEnd().split("\n") };
}

test("word-count prints every word with its count, through the terminal of sluice run", () => {
  const { code, lines } = sluiceRun(join(ROOT, "examples/word-count.ts"), "--rest-port", "0");
  expect(lines.at(-1)).toBe("job word-count is FINISHED");
  expect(code).toBe(0);
  expect(lines).toContain("[TaskManager 1] the 6");
  expect(lines.filter((line) => line.startsWith("[TaskManager 1] "))).toHaveLength(35);
}, 60_000);

test("sessions prints who clicked on what, when nothing came for a while", () => {
  const { code, lines } = sluiceRun(join(ROOT, "examples/sessions.ts"), "--rest-port", "0");
  expect([code, lines.at(-1)]).toEqual([0, "job sessions is FINISHED"]);
  const clicks = new Map<string, number>();
  for (const line of lines) {
    const [, visitor, pages = ""] = /^\[TaskManager 1\] (visitor-\d+): (.*)$/u.exec(line) ?? [];
    if (visitor === undefined) continue;
    // A machine that stands still for too long ends a visit early, and the rest is another one.
    const count = [...pages.matchAll(/ (\d+)/gu)].reduce((sum, [, clicked]) => sum + Number(clicked), 0);
    clicks.set(visitor, (clicks.get(visitor) ?? 0) + count);
  }
  // Three seconds of clicks; the last visits have not ended when the input does.
  expect(clicks.size).toBeGreaterThanOrEqual(5);
  for (let i = 0; i < 5; i += 1) expect([i, clicks.get(`visitor-${i}`)]).toEqual([i, 40]);
}, 60_000);

test("buffering-sink sends full batches, and the rest at the end", () => {
  const { code, lines } = sluiceRun(
    join(ROOT, "examples/buffering-sink.ts"),
    ...["--rest-port", "0", "--", "--count", "2500"],
  );
  expect([code, lines.at(-1)]).toEqual([0, "job buffering-sink is FINISHED"]);
  expect(lines.filter((line) => line.startsWith("[TaskManager 1] "))).toEqual([
    "[TaskManager 1] 1000 from 0 on",
    "[TaskManager 1] 1000 from 1000 on",
    "[TaskManager 1] 500 from 2000 on",
  ]);
}, 60_000);

test("a malformed record ends the job with file, position and what to do", () => {
  const input = join(directory, "broken.ndjson");
  writeFileSync(input, '{"line": "fine"}\n{"line": 7}\n');
  const { code, lines } = sluiceRun(join(ROOT, "examples/word-count.ts"), "--rest-port", "0", "--", input);
  expect(code).toBe(1);
  expect(lines.join("\n")).toMatch(
    /job word-count FAILED: RECORD_MALFORMED: .*broken\.ndjson, byte 17: [^]*What to do: /u,
  );
}, 60_000);

test("checkpointing-guide: every setting of the guide, a short input, and a checkpoint that stays", () => {
  const checkpoints = join(directory, "guide-checkpoints");
  const { code, lines } = sluiceRun(
    join(ROOT, "examples/checkpointing-guide.ts"),
    ...["--rest-port", "0", "--", "--records", "100", "--checkpoints", pathToFileURL(checkpoints).href],
  );
  expect(lines.at(-1)).toBe("job checkpointing-guide is FINISHED");
  expect(code).toBe(0);
  const printed = lines.filter((line) => line.startsWith("[TaskManager 1] ")).map((line) => Number(line.slice(16)));
  expect(printed).toHaveLength(100);
  // 0 + 2 + 4 + 6 + 8 and 1 + 3 + 5 + 7 + 9, ten times each.
  expect(printed.toSorted((a, b) => a - b).slice(-1)).toEqual([250]);
  expect(printed).toContain(200);
  expect(readdirSync(checkpoints, { recursive: true }).map(String)).toContainEqual(expect.stringMatching(/_metadata$/));
}, 60_000);

test("checkpointing-guide tells how it is called, and a mistyped parameter what it may mean", () => {
  const { code, lines } = sluiceRun(join(ROOT, "examples/checkpointing-guide.ts"), "--", "--record", "1");
  expect(code).not.toBe(0);
  expect(lines.join("\n")).toMatch(
    /CONFIG_INVALID: the job has no parameter --record; did you mean "records"\?[^]*--ratePerSecond \(int, default 1000\)/u,
  );
}, 60_000);

test("enrichment: answers in order, and what is not known by the side output", () => {
  const { code, lines } = sluiceRun(join(ROOT, "examples/enrichment.ts"), "--rest-port", "0", "--", "--orders", "6");
  expect(lines.at(-1)).toBe("job enrichment is FINISHED");
  expect(code).toBe(0);
  const printed = lines.filter((line) => line.startsWith("[TaskManager 1] ")).map((line) => line.slice(16));
  expect(printed.filter((line) => line.startsWith("order"))).toEqual([
    "order 1: pear for 0.4",
    "order 3: apple for 0.3",
    "order 4: pear for 0.4",
    "order 6: apple for 0.3",
  ]);
  expect(printed.filter((line) => line.startsWith("nobody"))).toEqual(["nobody sells unicorn", "nobody sells unicorn"]);
}, 60_000);
