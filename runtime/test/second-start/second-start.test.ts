// `sluice run --name N` over what an earlier run left: the table of docs/internals/commit-log.md as a user types it, on real
// processes. Every row ends with the published output judged by the model.
//
// Invariants:
//   SS1. A run that goes on writes under the old lineage, and old and new output together are exact.
//   SS2. A new lineage touches nothing of the old one; its own output holds exactly what its starting point had not yet seen.
//   SS3. A refused run says what to do, exits with 2, and changes nothing.

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { openObjectStore } from "@sluice/kit/env/node";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { audit, parseOutput } from "../kills/auditor.ts";
import type { OutputRecord } from "../kills/auditor.ts";
import { drawInputs, expectationOf, toNdjson } from "../kills/model.ts";
import { killAll, processesOf, type, until } from "../support/command-line.ts";
import type { Typed } from "../support/command-line.ts";
import { encodeNumbers } from "../support/numbers-options.ts";
import { NUMBERS_JOB, QUICK } from "../support/numbers-run.ts";
import { publishedFiles } from "../support/published.ts";
import { headOf } from "../support/store.ts";

const FOREIGN_JOB = fileURLToPath(new URL("./foreign-job.ts", import.meta.url));
const COUNT = 12_000;
const TIMEOUT_MS = 120_000;
const NAME = "again";
const INPUTS = drawInputs(5, { floodCount: COUNT, trickleCount: 0, keyCount: 20 });
const EXPECTED = expectationOf(INPUTS);

const base = mkdtempSync(join(tmpdir(), "sluice-second-start-"));
const input = join(base, "input.ndjson");

/** What the first run left. */
type Left = "crashed" | "cancelled" | "finished";

let copies = 0;

/** A directory with output, checkpoints and work of a job. */
class Place {
  readonly folder: string;

  constructor(name: string) {
    this.folder = join(base, name);
  }

  /** A copy to go on from: checkpoints are relocatable, and the sink's names hold no directory. */
  copy(): Place {
    const copied = new Place(`copy-${(copies += 1)}`);
    cpSync(this.folder, copied.folder, { recursive: true });
    return copied;
  }

  at(name: string): string {
    return join(this.folder, name);
  }

  get storeUri(): string {
    return pathToFileURL(this.at("checkpoints")).href;
  }

  run(options: { readonly job?: string; readonly flags?: readonly string[]; readonly perSecond?: number } = {}): Typed {
    const { job = NUMBERS_JOB, flags = [], perSecond = 0 } = options;
    const definitions = Object.entries(QUICK).flatMap(([key, value]) => ["-D", `${key}=${value}`]);
    const argument = encodeNumbers({
      inputPath: input,
      outputDirectory: this.at("output"),
      perSecond,
      drainFile: this.at("drain"),
      withFinalSink: false,
    });
    const places = ["--name", NAME, "--work-dir", this.at(".sluice/again"), "--dir", this.storeUri, "--rest-port", "0"];
    return type(["run", job, ...places, "--task-managers", "2", ...flags, ...definitions, "--", argument], {
      directory: this.folder,
    });
  }

  /** Published records by lineage. */
  output(): ReadonlyMap<string, readonly OutputRecord[]> {
    const names = publishedFiles(this.at("output"));
    const byLineage = Map.groupBy(names, (name) => name.split("-")[1] ?? "");
    return new Map(
      [...byLineage].map(([lineage, files]) => [
        lineage,
        files.flatMap((file) => parseOutput(readFileSync(join(this.at("output"), file), "utf8"), file)),
      ]),
    );
  }

  /** Every file of output and store, with its size. */
  listing(): readonly string[] {
    return ["output", "checkpoints"].flatMap((name) =>
      readdirSync(this.at(name), { recursive: true, encoding: "utf8" }).map((file) => `${name}/${file}`),
    );
  }

  async head(): ReturnType<typeof headOf> {
    return await headOf(await openObjectStore(this.storeUri), `default/${NAME}`);
  }
}

const left: Partial<Record<Left, Place>> = {};

async function prepare(state: Left): Promise<void> {
  const place = new Place(state);
  mkdirSync(place.folder);
  const typed = place.run({ perSecond: state === "finished" ? 0 : 1_500 });
  if (state !== "finished") {
    await until("some output is published", () => publishedFiles(place.at("output")).length >= 4, {
      typed,
      timeoutMs: 60_000,
    });
  }
  if (state === "crashed") killAll(place.folder, typed);
  if (state === "cancelled") {
    const cancel = type(["cancel", NAME], { directory: place.folder });
    expect({ code: await cancel.exit, text: cancel.text() }).toMatchObject({ code: 0 });
  }
  const code = await typed.exit;
  expect({ state, code, text: typed.text() }).toMatchObject({ code: state === "crashed" ? null : 0 });
  expect((await place.head()).jobState).toBe(state === "crashed" ? "active" : state);
  writeFileSync(place.at("drain"), "");
  left[state] = place;
}

beforeAll(async () => {
  writeFileSync(input, toNdjson(INPUTS.flood));
  for (const state of ["crashed", "cancelled", "finished"] as const) await prepare(state);
}, 180_000);

afterAll(() => rmSync(base, { recursive: true, force: true }));

function exact(records: readonly OutputRecord[]): void {
  expect(audit(EXPECTED, records, "exactly-once")).toMatchObject({ passed: true, problems: [] });
}

interface Row {
  readonly name: string;
  readonly over: Left;
  readonly job?: string;
  readonly flags?: readonly string[];
  /** --from the newest checkpoint of the run before. */
  readonly from?: true;
}

function copyOf(row: Row): Place {
  const place = left[row.over]?.copy();
  if (place === undefined) throw new Error(`there is no ${row.over} run`);
  return place;
}

describe("SS1: goes on", () => {
  test.each<Row>([
    { name: "a crashed job, from its head", over: "crashed" },
    { name: "a cancelled job, from its head", over: "cancelled" },
  ])(
    "$name",
    async (row) => {
      const place = copyOf(row);
      const before = await place.head();
      const published = publishedFiles(place.at("output"));
      const typed = place.run(row);
      expect({ code: await typed.exit, text: typed.text() }).toMatchObject({ code: 0 });
      const after = await place.head();
      expect(after).toMatchObject({ lineage: before.lineage, jobState: "finished", closed: true });
      expect(after.epoch).toBeGreaterThan(before.epoch);
      expect(publishedFiles(place.at("output"))).toEqual(expect.arrayContaining([...published]));
      const output = place.output();
      expect([...output.keys()]).toEqual([before.lineage]);
      exact([...output.values()].flat());
    },
    TIMEOUT_MS,
  );
});

describe("SS2: a new lineage", () => {
  test.each<Row>([
    { name: "over a crashed job, from nothing", over: "crashed", flags: ["--new-lineage"] },
    { name: "over a crashed job, from its newest checkpoint", over: "crashed", from: true },
    { name: "over a cancelled job, from its newest checkpoint", over: "cancelled", from: true },
    { name: "over a finished job, from nothing", over: "finished", flags: ["--new-lineage"] },
    { name: "over another module's job, from nothing", over: "cancelled", job: FOREIGN_JOB, flags: ["--new-lineage"] },
  ])(
    "$name",
    async (row) => {
      const place = copyOf(row);
      const before = await place.head();
      if (before.head === null) throw new Error("the first run has no checkpoint");
      // What a crashed run had committed but not yet published stays hidden: its own lineage publishes it, nobody else.
      const old = place.output();
      const flags = row.from === true ? ["--from", `${place.storeUri}/${before.head.path}`] : row.flags;
      const typed = place.run({ ...row, ...(flags === undefined ? {} : { flags }) });
      expect({ code: await typed.exit, text: typed.text() }).toMatchObject({ code: 0 });
      const after = await place.head();
      expect(after.lineage).not.toBe(before.lineage);
      const output = place.output();
      expect([...output.keys()].toSorted()).toEqual([before.lineage, after.lineage].toSorted());
      const oldOutput = output.get(before.lineage) ?? [];
      const newOutput = output.get(after.lineage) ?? [];
      expect(oldOutput).toEqual(old.get(before.lineage));
      if (row.from === true) {
        const positions = new Set(newOutput.map(([, , , position]) => position));
        expect(oldOutput.filter(([, , , position]) => positions.has(position))).toEqual([]);
        if (row.over === "cancelled") exact([...oldOutput, ...newOutput]);
      } else {
        exact(newOutput);
      }
    },
    TIMEOUT_MS,
  );
});

describe("SS3: refused", () => {
  test.each<Row & { readonly message: RegExp }>([
    { name: "a finished job", over: "finished", message: /was not started: JOB_FINISHED: job again has finished/ },
    {
      name: "another module's job",
      over: "crashed",
      job: FOREIGN_JOB,
      message: /was not started: JOB_FOREIGN: .*belongs to another job/,
    },
  ])(
    "$name",
    async (row) => {
      const place = copyOf(row);
      const before = place.listing();
      const typed = place.run(row);
      const code = await typed.exit;
      expect(typed.text()).toMatch(row.message);
      expect(typed.text()).toMatch(/What to do: .*--new-lineage/);
      expect({ code, left: processesOf(place.folder) }).toEqual({ code: 2, left: [] });
      expect(place.listing()).toEqual(before);
    },
    TIMEOUT_MS,
  );
});
