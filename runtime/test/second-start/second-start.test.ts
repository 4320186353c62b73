// `sluice run --name N` typed again over what an earlier run left, on real processes: the table of docs/internals/commit-log.md.
//
// Invariants:
//   SS1. What goes on has, in the end, published every position once.
//   SS2. A new lineage writes under its own prefix; no published file of an older one changes or goes away.
//   SS3. A start that is refused changes nothing: neither output nor log.
//
// Not here: the decision for every row of the table (runtime/src/checkpoint/start.test.ts).

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { parsePublishedName } from "@sluice/runtime/internal/connectors";
import { readCommitRecord } from "@sluice/runtime/internal/checkpoint";
import type { CommitRecord } from "@sluice/runtime/internal/checkpoint";
import { afterEach, beforeEach, expect, test } from "@jest/globals";

import { killAll, processesOf, type as typeCommand, until } from "../support/command-line.ts";
import type { Typed } from "../support/command-line.ts";
import { inputText, POSITIONS_JOB, positionsBelow, positionsFrom, publishedPositions } from "../support/positions.ts";
import type { JobOptions } from "../support/positions-job.ts";
import { publishedFiles } from "../support/published.ts";

const OTHER_JOB = fileURLToPath(new URL("./other-job.ts", import.meta.url));
const TIMEOUT_MS = 120_000;
const FULL_SPEED = 1_000_000;
/** Slow enough that a run is struck in its middle, also where a checkpoint takes seconds. */
const SLOW = 150;
/** Slow enough for several commands typed one after the other. */
const SLOWEST = 60;

let folder = "";
const typed: Typed[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sluice-second-start-"));
  writeFileSync(at("input"), inputText("ndjson"));
});

afterEach(async () => {
  for (const one of typed.splice(0)) if (!one.hasExited()) killAll(folder, one);
  await until("all processes are gone", () => processesOf(folder).length === 0, { timeoutMs: 20_000 });
  rmSync(folder, { recursive: true, force: true });
});

function at(...names: readonly string[]): string {
  return join(folder, ...names);
}

interface Start {
  readonly module?: string;
  readonly name?: string;
  /** Output directory of the job; default "output". */
  readonly output?: string;
  readonly ratePerSecond?: number;
  /** Options of the command line. */
  readonly flags?: readonly string[];
}

function start(options: Start = {}): Typed {
  const { module = POSITIONS_JOB, name = "first", output = "output", ratePerSecond = FULL_SPEED, flags = [] } = options;
  const job: JobOptions = {
    format: "ndjson",
    input: at("input"),
    output: at(output),
    ratePerSecond,
    mishap: "none",
    mishapAt: 0,
    cureFile: at("cure"),
  };
  const fixed = ["--name", name, "--dir", pathToFileURL(at("checkpoints")).href, "--rest-port", "0"];
  const defines = ["-D", "execution.checkpointing.interval=100 ms", "-D", "heartbeat.timeout=10 s"];
  const args = ["run", module, ...fixed, ...defines, ...flags, "--", JSON.stringify(job)];
  const one = typeCommand(args, { directory: folder });
  typed.push(one);
  return one;
}

async function run(options: Start = {}): Promise<{ readonly exitCode: number | null; readonly text: string }> {
  const one = start(options);
  const exitCode = await one.exit;
  expect(processesOf(folder)).toEqual([]);
  return { exitCode, text: one.text() };
}

async function startAndPublish(ratePerSecond = SLOW): Promise<Typed> {
  const one = start({ ratePerSecond });
  await until("two files are published", () => publishedFiles(at("output")).length >= 2, {
    typed: one,
    timeoutMs: 60_000,
  });
  return one;
}

/** Names and contents of what is published. */
function published(output = "output"): Readonly<Record<string, string>> {
  return Object.fromEntries(publishedFiles(at(output)).map((file) => [file, readFileSync(at(output, file), "utf8")]));
}

/** Published files that were not there before (SS2: those that were are as they were). */
function newFilesSince(before: Readonly<Record<string, string>>, output = "output"): readonly string[] {
  const now = published(output);
  expect(now).toMatchObject(before);
  return Object.keys(now).filter((file) => !Object.hasOwn(before, file));
}

function lineagesOf(files: readonly string[]): readonly string[] {
  return [...new Set(files.map((file) => parsePublishedName(file)?.lineage ?? file))];
}

/** The highest record of the job's commit log. */
function head(name = "first"): CommitRecord {
  const directory = at("checkpoints", "default", name, "commits");
  const newest = readdirSync(directory).toSorted().at(-1) ?? "";
  const content = readCommitRecord(readFileSync(join(directory, newest)));
  if (content.type !== "ok") throw new Error(`record ${newest} cannot be read`);
  return content.record;
}

test(
  "SS1: after kill -9 of everything it goes on; finished it is refused, and so is a foreign module; --new-lineage begins anew",
  async () => {
    const first = await startAndPublish();
    expect(killAll(folder, first)).toBeGreaterThanOrEqual(3); // supervisor, JobManager, TaskManager
    await until("they are gone", () => processesOf(folder).length === 0, { timeoutMs: 20_000 });
    const partial = published();
    const struck = publishedPositions(at("output"));
    expect(struck).toEqual(positionsBelow(struck.length));
    expect(struck.length).toBeLessThan(positionsFrom(0).length);

    expect(await run()).toMatchObject({ exitCode: 0, text: expect.stringMatching(/is FINISHED$/m) });
    expect(lineagesOf([...newFilesSince(partial), ...Object.keys(partial)])).toHaveLength(1);
    expect(publishedPositions(at("output"))).toEqual(positionsFrom(0));

    const whole = published();
    const log = head();
    for (const [start_, message] of [
      [
        {},
        /^job first was not started: JOB_FINISHED: .*has finished with checkpoint \d+.*\n {2}What to do: .*--new-lineage or --from/m,
      ],
      [
        { module: OTHER_JOB },
        /^job first was not started: JOB_FOREIGN: .*belongs to another job.*\n {2}What to do: .*another name/m,
      ],
    ] as const) {
      expect(await run(start_)).toMatchObject({ exitCode: 2, text: expect.stringMatching(message) });
      expect([published(), head()]).toEqual([whole, log]); // SS3
    }

    expect(await run({ flags: ["--new-lineage"] })).toMatchObject({ exitCode: 0 });
    const second = newFilesSince(whole);
    expect(publishedPositions(at("output"), { files: second })).toEqual(positionsFrom(0));
    const both = published();
    expect(await run({ module: OTHER_JOB, flags: ["--new-lineage"] })).toMatchObject({ exitCode: 0 });
    expect(publishedPositions(at("output"), { files: newFilesSince(both) })).toEqual(positionsFrom(0));
    expect(lineagesOf(publishedFiles(at("output")))).toHaveLength(3); // SS2
  },
  TIMEOUT_MS,
);

test(
  "after a cancellation: --from a checkpoint starts another job or a new lineage from its state; a wrong --from costs nothing; plain goes on",
  async () => {
    const first = await startAndPublish();
    first.child.kill("SIGINT");
    expect(await first.exit).toBe(0);
    expect(first.text()).toMatch(/is CANCELED; run it again to continue$/m);
    const canceled = published();
    const log = head();
    expect(log).toMatchObject({ jobState: "cancelled" });
    const path = log.head?.path ?? "";
    const uri = pathToFileURL(at("checkpoints", path)).href;

    for (const [from, message] of [
      [
        uri.replace(/chk-\d+/, "chk-9999"),
        /SNAPSHOT_DAMAGED: .*chk-9999\/_metadata.*\n {2}What to do: name another checkpoint/,
      ],
      ["s3://elsewhere/chk-1", /CONFIG_INVALID: the storage "s3:\/\/elsewhere" needs s3.endpoint/],
    ] as const) {
      const refused = await run({ flags: ["--from", from] });
      expect(refused.text).toMatch(message);
      expect(refused.exitCode).not.toBe(0);
      expect([published(), head()]).toEqual([canceled, log]); // SS3
    }

    // The same checkpoint, named in the ways that people name it.
    const plainPath = at("checkpoints", path).replace(/\/_metadata$/, "");
    expect(await run({ name: "fork", output: "forked", flags: ["--from", uri] })).toMatchObject({ exitCode: 0 });
    expect(await run({ name: "again", output: "again", flags: ["--from", plainPath] })).toMatchObject({ exitCode: 0 });
    expect(published()).toEqual(canceled);

    expect(await run()).toMatchObject({ exitCode: 0, text: expect.stringMatching(/is FINISHED$/m) });
    newFilesSince(canceled);
    expect(publishedPositions(at("output"))).toEqual(positionsFrom(0)); // SS1

    // What the checkpoint holds: the records in files of checkpoints up to it. The forks began behind them.
    const id = log.head?.id ?? -1;
    const files = publishedFiles(at("output")).filter((file) => (parsePublishedName(file)?.checkpointId ?? 0) <= id);
    const held = publishedPositions(at("output"), { files });
    expect(held.length).toBeGreaterThan(0);
    expect(publishedPositions(at("forked"))).toEqual(positionsFrom(held.length));
    expect(publishedPositions(at("again"))).toEqual(positionsFrom(held.length));
  },
  TIMEOUT_MS,
);

test(
  "stopped with a savepoint it goes on from there, without its TaskManagers' disks too; a drained one is finished",
  async () => {
    const first = await startAndPublish(SLOWEST);
    const stop = typeCommand(["stop", "first", "--savepoint", "savepoints"], { directory: folder });
    expect(await stop.exit).toBe(0);
    expect(stop.text()).toMatch(
      /^job first stops with the savepoint, taken in [\d.]+ s:\nfile:.*\/savepoints\/savepoint-[0-9a-f]{6}-[0-9a-f]{12}\nTo go on, run it again/,
    );
    expect(await first.exit).toBe(0);
    expect(first.text()).toMatch(/^job first was stopped with savepoint file:.*; its next run goes on from there$/m);
    const savepoint = /savepoint-[0-9a-f-]+/.exec(stop.text())?.[0] ?? "";
    expect(head()).toMatchObject({ jobState: "stopped", closed: false, head: { kind: "savepoint" } });
    const stopped = published();
    const below = publishedPositions(at("output"));
    expect(below).toEqual(positionsBelow(below.length));

    const dispose = (): Typed =>
      typeCommand(["savepoint", "dispose", `savepoints/${savepoint}`, "--dir", "checkpoints"], { directory: folder });
    const refused = dispose();
    expect(await refused.exit).toBe(1);
    expect(refused.text()).toMatch(/OPERATION_CONFLICT: .* is needed: it is the newest state of job default\/first/);

    rmSync(at(".sluice"), { recursive: true });
    const again = start({ ratePerSecond: SLOWEST });
    await until("more is published", () => publishedFiles(at("output")).length > Object.keys(stopped).length, {
      typed: again,
      timeoutMs: 60_000,
    });
    const disposed = dispose();
    expect([await disposed.exit, disposed.text()]).toEqual([0, expect.stringContaining("is deleted")]);
    expect(existsSync(at("savepoints", savepoint))).toBe(false);
    const drain = typeCommand(["stop", "first", "--savepoint", "savepoints", "--drain"], { directory: folder });
    expect([await drain.exit, drain.text()]).toEqual([0, expect.stringContaining("job first was drained")]);
    expect(await again.exit).toBe(0);
    newFilesSince(stopped);
    expect(lineagesOf(publishedFiles(at("output")))).toHaveLength(1);
    const drained = publishedPositions(at("output"));
    expect(drained).toEqual(positionsBelow(drained.length)); // SS1, as far as it came
    expect(await run()).toMatchObject({ exitCode: 2, text: expect.stringContaining("JOB_FINISHED") });
  },
  TIMEOUT_MS,
);

test(
  "--from over its own crashed log: a new lineage behind the checkpoint, the old output untouched; run again it is that lineage",
  async () => {
    const first = await startAndPublish();
    killAll(folder, first);
    await until("they are gone", () => processesOf(folder).length === 0, { timeoutMs: 20_000 });
    const old = published();
    const log = head();
    const from = log.head?.path ?? "";
    expect(await run({ flags: ["--from", from] })).toMatchObject({ exitCode: 0 });
    const files = newFilesSince(old);
    expect(lineagesOf(files)).toHaveLength(1);
    expect(lineagesOf(files)).not.toEqual(lineagesOf(Object.keys(old)));
    const positions = publishedPositions(at("output"), { files });
    expect(positions).toEqual(positionsFrom(positions[0] ?? -1));
    expect(positions[0]).toBeGreaterThanOrEqual(publishedPositions(at("output"), { files: Object.keys(old) }).length);
    // The old lineage's checkpoints are kept: pinned.
    expect(head().pins.map(({ holder }) => holder)).toContain(`lineage:${log.lineage}`);
    const whole = published();
    expect(await run()).toMatchObject({ exitCode: 2, text: expect.stringMatching(/JOB_FINISHED/) });
    expect(published()).toEqual(whole);
  },
  TIMEOUT_MS,
);
