// Directories and patterns as input, lines as they are, and sources that watch for new files: every record once, at any parallelism.

import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { isFailure } from "@sluice/kit";
import fc from "fast-check";

import type { CheckpointId, OperatorState, RestoredOperatorState, SourceOperator } from "../model/index.ts";
import { OperatorHarness, testSubtask } from "../operators/index.ts";
import { FileSource, type FileSourceOptions } from "./index.ts";
import { rescaled } from "./rescaled.fixture.ts";

let directory = "";
beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), "sluice-watch-"))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Appears whole, as its readers need it. */
function file(name: string, content: string): void {
  const path = join(directory, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(join(directory, ".being-written"), content);
  renameSync(join(directory, ".being-written"), path);
}

type Harness = OperatorHarness<SourceOperator>;

interface Place {
  readonly subtaskIndex?: number;
  readonly parallelism?: number;
  readonly dealt?: RestoredOperatorState["states"] | undefined;
}

async function openSource(source: FileSource<string>, place: Place = {}): Promise<Harness> {
  const { subtaskIndex = 0, parallelism = 1, dealt } = place;
  const subtask = testSubtask({ subtaskIndex, parallelism });
  const splits = await source.enumerateSplits();
  return await new OperatorHarness(source.createOperator({ splits, subtask }), {
    subtask,
    ...(dealt === undefined
      ? {}
      : { restored: { checkpointId: 1 as CheckpointId, retractThrough: undefined, states: dealt } }),
  }).open();
}

async function readAll(source: FileSource<string>): Promise<readonly unknown[]> {
  const harness = await openSource(source);
  while ((await harness.poll(1_000)) !== "finished");
  await harness.operator.close(true);
  return harness.output;
}

const watching = (options: FileSourceOptions = {}): FileSource<string> =>
  FileSource.text(directory, { monitorContinuouslyMs: 100, ...options });

/** Lets a watching source look again and read until it waits for the next look, at most `recordsMax` records. */
async function settle(harness: Harness, recordsMax = Number.MAX_SAFE_INTEGER): Promise<void> {
  harness.nowMs += 100;
  if (recordsMax > 0) await harness.poll(recordsMax);
}

describe("what is read once", () => {
  test("FD1: directories and patterns mean all their files but hidden ones; every line is a record, empty ones too", async () => {
    file("b.txt", "b1\n\nb2");
    file("a.txt", "a1\r\n");
    file("sub/c.txt", "c1\n");
    file("sub/d.csv", "d1\n");
    file("_unfinished.txt", "x\n");
    file("sub/.hidden.txt", "x\n");
    file("_old/e.txt", "x\n");
    expect(await readAll(FileSource.text(directory))).toEqual(["a1", "b1", "", "b2", "c1", "d1"]);
    expect(await readAll(FileSource.text(join(directory, "*.txt")))).toEqual(["a1", "b1", "", "b2"]);
    expect(await readAll(FileSource.text(join(directory, "**/*.txt")))).toEqual(["a1", "b1", "", "b2", "c1"]);
    expect(await readAll(FileSource.text([join(directory, "sub"), join(directory, "sub/c.txt")]))).toEqual([
      "c1",
      "d1",
    ]);
    expect(await readAll(FileSource.text(join(directory, "_unfinished.txt")))).toEqual(["x"]); // named is named
  });
});

describe("what is watched", () => {
  test("FD2, FD3: files are read when they appear, once; an empty one counts when it has records", async () => {
    file("a", "a1\na2\n");
    const harness = await openSource(watching());
    await settle(harness);
    expect(harness.output).toEqual(["a1", "a2"]);
    file("b", "b1\n");
    file("c", "");
    await settle(harness);
    expect(harness.output).toEqual(["a1", "a2", "b1"]);
    file("c", "c1\n");
    await settle(harness);
    await settle(harness);
    expect(harness.output).toEqual(["a1", "a2", "b1", "c1"]);
    expect(harness.operator.poll(1)).toBe("idle"); // it never ends by itself
    await harness.operator.close(false);
  });

  test("a source that did not watch cannot begin to: what it had read is not known", async () => {
    file("a", "a1\n");
    const bounded = await openSource(FileSource.text(directory));
    const [dealt] = rescaled([await bounded.snapshot(1)], 1);
    await bounded.operator.close(false);
    const opened = openSource(watching(), { dealt });
    await expect(opened).rejects.toMatchObject({ code: "STATE_INCOMPATIBLE" });
    expect(isFailure(await opened.catch((thrown: unknown) => thrown))).toBe(true);
  });

  test("a source that watched and is bounded now reads the rest, what nobody had begun too, and ends", async () => {
    for (const [name, lines] of [
      ["a", "a1\na2\na3\n"],
      ["b", "b1\n"],
      ["c", "c1\nc2\n"],
    ] as const)
      file(name, lines);
    const watched = await Promise.all([0, 1].map((i) => openSource(watching(), { subtaskIndex: i, parallelism: 2 })));
    for (const harness of watched) await settle(harness, 2); // in the middle of a file, or before its next one
    const seen = watched.flatMap(({ output }) => [...output]);
    let states = await Promise.all(watched.map((harness) => harness.snapshot(1)));
    for (const { operator } of watched) await operator.close(false);
    file("d", "d1\nd2\n");
    file("e", "e1\n");
    for (const [parallelism, recordsMax] of [
      [3, 1],
      [2, 1],
      [1, 1_000],
    ] as const) {
      const dealt = rescaled(states, parallelism);
      states = [];
      for (let subtaskIndex = 0; subtaskIndex < parallelism; subtaskIndex += 1) {
        const place = { subtaskIndex, parallelism, dealt: dealt[subtaskIndex] };
        const harness = await openSource(FileSource.text(directory), place);
        if (parallelism > 1) await harness.poll(recordsMax);
        else while ((await harness.poll(recordsMax)) !== "finished");
        seen.push(...harness.output);
        states.push(await harness.snapshot(1));
        await harness.operator.close(false);
      }
    }
    expect(seen.map(String).toSorted(byText)).toEqual(["a1", "a2", "a3", "b1", "c1", "c2", "d1", "d2", "e1"]);
  });

  test("files appear between failures and other parallelisms: no record twice, none missing", async () => {
    const round = fc.record({
      parallelism: fc.integer({ min: 1, max: 4 }),
      fileCount: fc.integer({ min: 0, max: 4 }),
      /** Per subtask, before and after the snapshot: what comes after is lost with the failure. */
      reads: fc.array(fc.tuple(fc.nat(6), fc.nat(6)), { minLength: 4, maxLength: 4 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(round, { minLength: 1, maxLength: 5 }), async (rounds) => {
        rmSync(directory, { recursive: true, force: true });
        mkdirSync(directory);
        const seen: unknown[] = [];
        const written: string[] = [];
        let states: readonly OperatorState[] | undefined;
        for (const [at, of] of [...rounds, undefined].entries()) {
          const isLast = of === undefined;
          const { parallelism, fileCount, reads } = of ?? { parallelism: 2, fileCount: 0, reads: [] };
          for (let i = 0; i < fileCount; i += 1) {
            const lines = Array.from({ length: (at + i) % 5 }, (_, n) => `${at}.${i}.${n}`);
            file(`f-${at}-${i}`, lines.map((line) => `${line}\n`).join(""));
            written.push(...lines);
          }
          const dealt = states === undefined ? [] : rescaled(states, parallelism);
          states = await Promise.all(
            Array.from({ length: parallelism }, async (_, subtaskIndex) => {
              const own = dealt[subtaskIndex];
              const harness = await openSource(watching({ splitBytes: 12 }), { subtaskIndex, parallelism, dealt: own });
              const [before, after] = isLast ? [undefined, 0] : (reads[subtaskIndex] ?? [0, 0]);
              await settle(harness, before);
              seen.push(...harness.output);
              const state = await harness.snapshot(1);
              if (after > 0) await settle(harness, after);
              await harness.operator.close(false);
              return state;
            }),
          );
        }
        expect(seen.map(String).toSorted(byText)).toEqual(written.toSorted(byText));
      }),
      { numRuns: 60 },
    );
  });
});
