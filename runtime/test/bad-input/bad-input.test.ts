// Bad input as its user meets it: `sluice run` typed over a wrong job, file, place or setting ends with one clear message.
//
// Invariants (checked for every row of the tables):
//   BI1. The message holds a code, what, where and what to do; the exit code is not 0; no stack of ours is shown.
//   BI2. No process is left.
//   BI3. Nothing is lost: what is published is a prefix of the right output, each record once, and nothing beyond the mishap;
//        once the cause is gone, the same command goes on to the exact output.
//
// Not here: wrong command lines and modules without a usable main (packages/cli/src/command-line.test.ts), heap and stray
// promises (runtime/src/bin/processes.test.ts).

import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { freePort } from "@sluice/tools/peers";

import { killAll, processesOf, type as typeCommand, until } from "../support/command-line.ts";
import type { Typed } from "../support/command-line.ts";
import type { JobOptions } from "../support/positions-job.ts";
import {
  byteOf,
  inputLine,
  inputText,
  POSITIONS_COUNT,
  POSITIONS_JOB,
  positionsBelow,
  positionsFrom,
  publishedPositions,
} from "../support/positions.ts";
import { publishedFiles, publishedText } from "../support/published.ts";

const FLIGHTS = fileURLToPath(new URL("../../../node_modules/vega-datasets/data/flights-3m.parquet", import.meta.url));
/** Runs at one time: two cores. */
const RUNS_MAX = 2;
const TIMEOUT_MS = 120_000;

/** What makes a row: how it differs from a job that works. */
interface Row {
  readonly name: string;
  readonly options?: Partial<JobOptions>;
  /** Input lines that are broken, by record. */
  readonly broken?: readonly number[];
  readonly define?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  /** Makes the world as bad as the row says, in its directory; returns further configuration. */
  readonly prepare?: (folder: string) => Readonly<Record<string, string>>;
  readonly message: RegExp;
  readonly exitCode?: number;
  /** The run must have published something before it ends. */
  readonly publishes?: boolean;
  /** Takes the cause away; then the same command must end well. */
  readonly cure?: (bench: Bench) => void;
}

const base = mkdtempSync(join(tmpdir(), "sluice-bad-input-"));
let benches = 0;
let running = 0;
const waiting: (() => void)[] = [];

/** One directory with inputs, output, checkpoints, and the commands typed there. */
class Bench {
  readonly folder = join(base, String((benches += 1)));
  readonly options: JobOptions;
  readonly #typed: Typed[] = [];

  constructor(row: Pick<Row, "options" | "broken">) {
    mkdirSync(this.folder);
    this.options = {
      format: "ndjson",
      input: this.at("input"),
      output: this.at("output"),
      mishap: "none",
      mishapAt: 500,
      cureFile: this.at("cure"),
      ...row.options,
    };
    writeFileSync(this.at("input"), inputText(this.options.format, row.broken));
  }

  at(name: string): string {
    return join(this.folder, name);
  }

  type(row: Pick<Row, "define" | "env">, options: Partial<JobOptions> = {}): Typed {
    const define = {
      "parallelism.default": "1",
      "execution.checkpointing.interval": "100 ms",
      "execution.checkpointing.dir": pathToFileURL(this.at("checkpoints")).href,
      "heartbeat.interval": "200 ms",
      "heartbeat.timeout": "10 s",
      ...row.define,
    };
    const defines = Object.entries(define).flatMap(([key, value]) => ["-D", `${key}=${value}`]);
    const argument = JSON.stringify({ ...this.options, ...options });
    const args = ["run", POSITIONS_JOB, "--name", "bad", "--work-dir", this.at("work"), "--rest-port", "0"];
    const typed = typeCommand([...args, ...defines, "--", argument], {
      directory: this.folder,
      ...(row.env === undefined ? {} : { env: row.env }),
    });
    this.#typed.push(typed);
    return typed;
  }

  end(): void {
    for (const typed of this.#typed) if (!typed.hasExited()) killAll(this.folder, typed);
  }
}

/** Two at a time, in the order of the tests: each waits for the runs of those before it, and for no others. */
async function inTurn<T>(run: () => Promise<T>, isNext = false): Promise<T> {
  if (running >= RUNS_MAX) {
    await new Promise<void>((resolve) => {
      if (isNext) waiting.unshift(resolve);
      else waiting.push(resolve);
    });
  } else running += 1;
  try {
    return await run();
  } finally {
    const next = waiting.shift();
    if (next === undefined) running -= 1;
    else next();
  }
}

interface Outcome {
  readonly bench: Bench;
  readonly exitCode: number | null;
  readonly text: string;
  readonly leftovers: readonly number[];
}

async function outcomeOf(row: Row): Promise<Outcome> {
  const bench = new Bench(row);
  const more = row.prepare?.(bench.folder) ?? {};
  const typed = bench.type({ ...row, define: { ...row.define, ...more } });
  const exitCode = await typed.exit;
  return { bench, exitCode, text: typed.text(), leftovers: processesOf(bench.folder) };
}

const NO_RESTART = { "restart-strategy.type": "none" };
const QUICKLY_STUCK = { ...NO_RESTART, "sluice.task.stuck-timeout": "1500 ms" };
const UNHURRIED = { ratePerSecond: 1_500 };
/** Its mishap comes with the first published output: there is input until then, also where a checkpoint takes seconds. */
const PUBLISHES_FIRST = { ratePerSecond: 300, mishapAt: 100 };
const cureFunction = (bench: Bench): void => writeFileSync(bench.options.cureFile, "");
const repairInput = (bench: Bench): void => writeFileSync(bench.options.input, inputText(bench.options.format));

/** A directory that cannot be made: its parent is a file. */
function belowFile(folder: string): string {
  writeFileSync(join(folder, "file"), "not a directory");
  return join(folder, "file", "below");
}

/** Found before any process of the job runs: nothing is left behind but the message. */
const REFUSED: readonly Row[] = [
  {
    name: "a value that its key does not take",
    define: { "execution.checkpointing.interval": "soon" },
    message: /CONFIG_INVALID: .*execution\.checkpointing\.interval.*"soon"/,
    exitCode: 2,
  },
  {
    name: "an input file that is not there",
    options: { input: "/nonexistent/numbers.ndjson" },
    message: /INPUT_NOT_FOUND: .*\/nonexistent\/numbers\.ndjson/,
  },
  {
    name: "one uid for two operators",
    options: { mishap: "duplicate-uids" },
    message: /JOB_GRAPH_INVALID: operators "numbers" and "sum" both have the uid "numbers"/,
  },
  {
    name: "a stateful operator without a uid",
    options: { mishap: "missing-uid" },
    message: /JOB_GRAPH_INVALID: operator "sum" keeps state but has no uid/,
  },
  {
    name: "a module that loops while it is loaded",
    env: { LC_POSITIONS_AT_IMPORT: "loops" },
    define: { "sluice.plan.timeout": "1500 ms" },
    message: /JOB_MAIN_TIMEOUT: .*within 1\.5 s/,
  },
];

/** Found by the running job. Unless a row says that it does not restart, it must end by itself under the default strategy. */
const FAILED: readonly Row[] = [
  {
    name: "a malformed line of NDJSON",
    options: UNHURRIED,
    broken: [1_500],
    message: new RegExp(`RECORD_MALFORMED: .*input, byte ${byteOf("ndjson", [1_500], 1_500)}: it is not JSON`),
    cure: repairInput,
  },
  {
    name: "a malformed line of CSV",
    options: { format: "csv", ...UNHURRIED },
    broken: [1_500],
    message: new RegExp(`RECORD_MALFORMED: .*input, byte ${byteOf("csv", [1_500], 1_500)}: .*"key".*"x"`),
  },
  {
    name: "a Parquet column of another type",
    options: { format: "parquet", input: FLIGHTS },
    message: /RECORD_MALFORMED: .*flights-3m\.parquet, row 0: .*"origin"/,
  },
  {
    name: "a record that is not of the declared type",
    options: { mishap: "wrong-type", ...PUBLISHES_FIRST },
    message: /TYPE_MISMATCH: operator "sum" \(uid sum\): field f1 must be LONG.*0\.5/,
    publishes: true,
  },
  {
    name: "a graph that depends on where main runs",
    options: { mishap: "graph-by-chance" },
    message: /PLAN_MISMATCH: /,
  },
  {
    name: "a function that returns a promise",
    options: { mishap: "promise", ...PUBLISHES_FIRST },
    define: NO_RESTART,
    message: /USER_FUNCTION_FAILED: .*"sum".*promise/,
    publishes: true,
  },
  {
    name: "a function that ends its process",
    options: { mishap: "exits", ...PUBLISHES_FIRST },
    define: NO_RESTART,
    message: /TASK_LOST: .*exit code 0[^]*process\.exit/,
    publishes: true,
    cure: cureFunction,
  },
  {
    name: "a function that never returns",
    options: { mishap: "loops", ...PUBLISHES_FIRST },
    define: QUICKLY_STUCK,
    message: /USER_FUNCTION_STUCK: .*"sum[^]*endless loop/,
    publishes: true,
    cure: cureFunction,
  },
  {
    name: "an open that throws",
    options: { mishap: "open-throws" },
    define: NO_RESTART,
    message: /USER_FUNCTION_FAILED: .*"sum".*no table for this subtask/,
  },
  {
    name: "an open that never returns",
    options: { mishap: "open-loops" },
    define: QUICKLY_STUCK,
    message: /USER_FUNCTION_STUCK: .*"sum[^]*endless loop/,
  },
  {
    name: "a module that loops in the slot only",
    env: { LC_POSITIONS_AT_IMPORT: "loops-in-slot" },
    define: QUICKLY_STUCK,
    message: /USER_FUNCTION_STUCK: .*module[^]*endless loop/,
  },
  {
    name: "a main that waits for ever in the slot only",
    options: { mishap: "main-waits-in-slot" },
    define: QUICKLY_STUCK,
    message: /USER_FUNCTION_STUCK: .*module or its main/,
  },
  {
    name: "a checkpoint directory that cannot be made",
    prepare: (folder) => ({ "execution.checkpointing.dir": pathToFileURL(belowFile(folder)).href }),
    message: /STORAGE_CONFLICT: .*file\/below/,
  },
  {
    name: "an output directory that cannot be made",
    options: { output: "file/below" },
    prepare: (folder) => {
      belowFile(folder);
      return {};
    },
    message: /CONFIG_INVALID: cannot create directory file\/below/,
  },
];

const SKIPPING = ["ndjson", "csv"] as const;
/** The first two come long before the end, so that /metrics can be asked; the last is seen there only if it is asked in time. */
const BROKEN = [10, 50, 2_999];

interface SkipOutcome extends Outcome {
  /** Skipped records in /metrics of the TaskManager when there were two or more. */
  readonly counted: number;
}

async function skipOutcomeOf(format: JobOptions["format"]): Promise<SkipOutcome> {
  const bench = new Bench({ options: { format }, broken: BROKEN });
  const port = await freePort();
  const typed = bench.type(
    { define: { "metrics.reporter.prom.port": String(port) } },
    { deadLetters: bench.at("letters"), ratePerSecond: 800 },
  );
  let counted = 0;
  await until("two skipped records in /metrics", async () => (counted = await skippedIn(port)) >= 2, {
    typed,
    timeoutMs: 60_000,
  });
  const exitCode = await typed.exit;
  return { bench, exitCode, counted, text: typed.text(), leftovers: processesOf(bench.folder) };
}

const outcomes = new Map<string, Promise<Outcome>>();
const skipOutcomes = new Map<string, Promise<SkipOutcome>>();

beforeAll(() => {
  for (const row of [...REFUSED, ...FAILED]) {
    const outcome = inTurn(() => outcomeOf(row));
    outcome.catch(() => {}); // the row's own test says it
    outcomes.set(row.name, outcome);
  }
  for (const format of SKIPPING) {
    const outcome = inTurn(() => skipOutcomeOf(format));
    outcome.catch(() => {}); // its own test says it
    skipOutcomes.set(format, outcome);
  }
});

afterAll(async () => {
  for (const outcome of [...outcomes.values(), ...skipOutcomes.values()])
    (await outcome.catch(() => undefined))?.bench.end();
  rmSync(base, { recursive: true, force: true });
});

async function expectClear(row: Row): Promise<Bench> {
  const { bench, exitCode, text, leftovers } = (await outcomes.get(row.name)) as Outcome;
  const last = text.slice(Math.max(0, text.search(/^(sluice: |job bad (FAILED|was not started): )/m)));
  expect(last).toMatch(row.message);
  expect(last.match(/What to do: ./g)).toHaveLength(1); // BI1
  expect(last).not.toMatch(/^\s+at .*runtime\/src\/|^Failure: /m);
  expect({ exitCode, leftovers }).toEqual({ exitCode: row.exitCode ?? 1, leftovers: [] }); // BI2
  return bench;
}

describe("BI1, BI2: refused before anything runs", () => {
  test.each(REFUSED)(
    "$name",
    async (row) => {
      const bench = await expectClear(row);
      expect(
        [bench.at("work"), bench.at("output"), bench.at("checkpoints")].filter((path) => existsSync(path)),
      ).toEqual([]);
    },
    TIMEOUT_MS,
  );
});

describe("BI1, BI2, BI3: the job fails", () => {
  test.each(FAILED)(
    "$name",
    async (row) => {
      const bench = await expectClear(row);
      const published = publishedPositions(bench.options.output);
      expect(published).toEqual(positionsBelow(published.length)); // BI3
      expect(published.length).toBeLessThan(POSITIONS_COUNT);
      if (row.publishes === true) expect(published.length).toBeGreaterThan(0);
      if (row.cure === undefined) return;
      const filesBefore = publishedFiles(bench.options.output);
      row.cure(bench);
      const again = await inTurn(async () => {
        const typed = bench.type(row, { ratePerSecond: 100_000 });
        return { exitCode: await typed.exit, text: typed.text() };
      }, true);
      expect(again).toMatchObject({ exitCode: 0, text: expect.stringMatching(/FINISHED/) });
      expect(publishedPositions(bench.options.output)).toEqual(positionsFrom(0));
      expect(publishedFiles(bench.options.output)).toEqual(expect.arrayContaining([...filesBefore]));
    },
    TIMEOUT_MS,
  );
});

describe('onError: "skip"', () => {
  test.each(SKIPPING)(
    "%s: malformed records go to the dead letters and are counted; all others are in the output",
    async (format) => {
      const { bench, exitCode, leftovers, counted } = (await skipOutcomes.get(format)) as SkipOutcome;
      expect({ exitCode, leftovers }).toEqual({ exitCode: 0, leftovers: [] });
      expect([2, 3]).toContain(counted);
      expect(publishedPositions(bench.options.output, { skipped: BROKEN })).toEqual(positionsFrom(0, BROKEN));
      const letters = publishedText(bench.at("letters")).trimEnd().split("\n");
      const written = letters
        .map((line) => JSON.parse(line) as { readonly position: number; readonly reason: string })
        .toSorted((a, b) => a.position - b.position);
      expect(written).toEqual(
        BROKEN.map((position) => ({
          file: bench.options.input,
          position: byteOf(format, BROKEN, position),
          reason: expect.stringMatching(format === "csv" ? /"key".*"x"/ : /it is not JSON/),
          text: inputLine(format, position, true),
        })),
      );
    },
    TIMEOUT_MS,
  );
});

/** Of the first TaskManager; 0 while it does not answer. */
async function skippedIn(port: number): Promise<number> {
  try {
    const page = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    const values = [...page.matchAll(/^flink_taskmanager_job_task_numRecordsSkipped\{[^}]*\} (\d+)/gm)];
    return values.reduce((sum, [, value]) => sum + Number(value), 0);
  } catch {
    return 0;
  }
}
