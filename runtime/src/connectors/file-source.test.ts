// File and generator sources: every record once, from any position, at any parallelism; malformed records named or kept.

import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import fc from "fast-check";

import { isFailure } from "@sluice/kit";
import {
  type CheckpointId,
  type OperatorState,
  type RestoredOperatorState,
  type SourceOperator,
  type TypeInformation,
  Types,
} from "../model/index.ts";
import { OperatorHarness, restoredStates, testSubtask, type Source } from "../operators/index.ts";
import { FileSource, type FileSourceOptions, GeneratorSource } from "./index.ts";
import { LineReader } from "./line-reader.ts";
import { localFiles } from "./local-files.ts";
import { rescaled } from "./rescaled.fixture.ts";
import { instantOf, Malformed } from "./record-shape.ts";

const FLIGHTS = join(import.meta.dirname, "../../../node_modules/vega-datasets/data/flights-3m.parquet");

let directory = "";
beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), "sluice-source-"))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

interface Place {
  readonly subtaskIndex?: number;
  readonly parallelism?: number;
  readonly state?: OperatorState;
  /** What another parallelism left to this subtask. */
  readonly dealt?: RestoredOperatorState["states"];
  readonly splits?: readonly unknown[];
}

type Harness = OperatorHarness<SourceOperator>;

async function openSource(source: Source<unknown>, place: Place = {}): Promise<Harness> {
  const { subtaskIndex = 0, parallelism = 1, state } = place;
  const states = place.dealt ?? (state === undefined ? undefined : restoredStates(state));
  const subtask = testSubtask({ subtaskIndex, parallelism });
  const splits = place.splits ?? (await source.enumerateSplits({ parallelism }));
  return new OperatorHarness(source.createOperator({ splits, subtask }), {
    subtask,
    ...(states === undefined
      ? {}
      : { restored: { checkpointId: 1 as CheckpointId, retractThrough: undefined, states } }),
  }).open();
}

/** Reads to the end. */
async function drain(harness: Harness): Promise<unknown[]> {
  while ((await harness.poll(1_000)) !== "finished") harness.nowMs += 50;
  await harness.operator.close(true);
  return harness.output;
}

async function readAll(source: Source<unknown>): Promise<unknown[]> {
  return drain(await openSource(source));
}

/** Reads `counts[0]` records, takes a snapshot, goes on in a new operator with `counts[1]`, ... and then to the end. */
async function readInPieces(source: Source<unknown>, place: Place, counts: readonly number[]): Promise<unknown[]> {
  const records: unknown[] = [];
  let state: OperatorState | undefined;
  for (const count of counts) {
    const harness: Harness = await openSource(source, { ...place, ...(state === undefined ? {} : { state }) });
    if (count > 0) await harness.poll(count);
    state = await harness.snapshot(1);
    await harness.poll(3); // read after the barrier: lost with the failure, read again
    await harness.operator.close(false);
    records.push(...harness.output.slice(0, count));
  }
  const last = await openSource(source, { ...place, ...(state === undefined ? {} : { state }) });
  return [...records, ...(await drain(last))];
}

async function failure(reading: Promise<unknown> | (() => unknown)): Promise<string> {
  try {
    await (typeof reading === "function" ? reading() : reading);
  } catch (thrown) {
    if (!isFailure(thrown)) throw thrown;
    expect(thrown.remedy).not.toBe("");
    return `${thrown.code}: ${thrown.message.replaceAll(`${directory}/`, "")}`;
  }
  return "read";
}

const ROW = Types.ROW({ id: Types.LONG(), text: Types.STRING() });
type Row = { id: number; text: string };
const rows = (count: number): Row[] =>
  Array.from({ length: count }, (_, id) => ({ id, text: `text ${"ä".repeat(id % 5)}` }));
const asNdjson = (records: readonly unknown[], eol = "\n"): string =>
  records.map((record) => JSON.stringify(record) + eol).join("");
const csvCell = (text: string): string => `"${text.replaceAll('"', '""')}"`;
const asCsv = (records: readonly Row[], eol = "\n"): string =>
  `extra,text,id${eol}${records.map(({ id, text }) => `x,${csvCell(text)},${id}${eol}`).join("")}`;

describe("LR1: lines", () => {
  async function lines(
    path: string,
    options: { position: number; endByte: number; chunkBytes: number; quoted?: boolean },
  ): Promise<string[]> {
    const seen: string[] = [];
    let loaded = Promise.withResolvers<void>();
    const { position, endByte, chunkBytes, quoted = false } = options;
    const onLoaded = (): void => {
      loaded.resolve();
      loaded = Promise.withResolvers();
    };
    const reader = new LineReader({
      files: localFiles,
      path,
      position,
      endByte,
      chunkBytes,
      quotedNewlines: quoted,
      onLoaded,
    });
    for (;;) {
      const next = loaded.promise;
      const advanced = reader.advance();
      if (advanced === "record") seen.push(`${reader.takenPosition}:${reader.text()}`);
      else if (advanced === "ended") break;
      else await next;
    }
    reader.close();
    return seen;
  }

  test("any chunk size gives the same lines at the same positions, from any of them, quoted line ends or not", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom("", "a", "bb", 'q"x\ny"', "ä€", "c".repeat(40)), { maxLength: 20 }),
        fc.constantFrom("\n", "\r\n"),
        fc.boolean(),
        fc.boolean(),
        fc.integer({ min: 1, max: 30 }),
        async (content, eol, lastHasEnd, quoted, chunkBytes) => {
          const pieces = quoted ? content : content.filter((line) => !line.includes("\n"));
          const text = pieces.map((line, i) => (i + 1 === pieces.length && !lastHasEnd ? line : line + eol)).join("");
          const path = file("lines", text);
          const expected: string[] = [];
          let at = 0;
          for (const line of pieces) {
            if (line !== "") expected.push(`${at}:${line}`);
            at += Buffer.byteLength(line + eol);
          }
          const endByte = Buffer.byteLength(text);
          const all = await lines(path, { position: 0, endByte, chunkBytes, quoted });
          expect(all).toEqual(expected);
          const from = expected[Math.floor(expected.length / 2)];
          if (from === undefined) return;
          const position = Number.parseInt(from, 10);
          expect(await lines(path, { position, endByte, chunkBytes, quoted })).toEqual(
            expected.slice(expected.indexOf(from)),
          );
        },
      ),
      { numRuns: 150 },
    ));
});

const FORMATS: readonly (readonly [
  name: string,
  make: (records: readonly Row[], splitBytes: number) => Source<unknown>,
])[] = [
  ["NDJSON", (records, splitBytes) => FileSource.ndjson(file("in.ndjson", asNdjson(records)), ROW, { splitBytes })],
  [
    "NDJSON with CRLF",
    (records, splitBytes) => FileSource.ndjson(file("in.ndjson", asNdjson(records, "\r\n")), ROW, { splitBytes }),
  ],
  ["CSV", (records, splitBytes) => FileSource.csv(file("in.csv", asCsv(records)), ROW, { splitBytes })],
  [
    "CSV with quoted line ends",
    (records) => FileSource.csv(file("in.csv", asCsv(records)), ROW, { quotedNewlines: true }),
  ],
  [
    "two files",
    (records, splitBytes) => {
      const cut = Math.floor(records.length / 3);
      const paths = [
        file("a", asNdjson(records.slice(0, cut))),
        pathToFileURL(file("b", asNdjson(records.slice(cut)))).href,
      ];
      return FileSource.ndjson(paths, ROW, { splitBytes });
    },
  ],
  [
    "generator",
    (records) =>
      new GeneratorSource({
        count: records.length,
        generate: (i) => records[i],
        type: ROW as TypeInformation<Row | undefined>,
      }),
  ],
];

const byId = (a: unknown, b: unknown): number => (a as Row).id - (b as Row).id;

describe("every record once", () => {
  test.each(FORMATS)("FS2: %s resumes from every position", async (_name, make) => {
    const records = rows(25);
    const source = make(records, 90);
    for (let at = 0; at <= records.length; at += 1) expect(await readInPieces(source, {}, [at])).toEqual(records);
  });

  test.each(FORMATS)("FS1: %s at any parallelism, through any failures", async (_name, make) => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 40 }),
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 4 }),
        fc.array(fc.integer({ min: 0, max: 12 }), { maxLength: 4 }),
        async (count, splitBytes, parallelism, counts) => {
          const records = rows(count);
          const source = make(records, splitBytes);
          const seen: unknown[] = [];
          for (let subtaskIndex = 0; subtaskIndex < parallelism; subtaskIndex += 1) {
            seen.push(...(await readInPieces(source, { subtaskIndex, parallelism }, counts)));
          }
          expect(seen.toSorted(byId)).toEqual(records);
        },
      ),
      { numRuns: 25 },
    );
  });

  test.each(FORMATS)(
    "FS2: %s at another parallelism after every failure: no record twice, none missing",
    async (_name, make) => {
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 0, max: 40 }),
          fc.integer({ min: 1, max: 300 }),
          fc.array(
            fc.tuple(fc.integer({ min: 1, max: 5 }), fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 5 })),
            {
              minLength: 2,
              maxLength: 5,
            },
          ),
          async (count, splitBytes, attempts) => {
            const records = rows(count);
            const source = make(records, splitBytes);
            const splits = await source.enumerateSplits({ parallelism: attempts[0]?.[0] ?? 1 });
            const seen: unknown[] = [];
            let states: readonly OperatorState[] | undefined;
            for (const [at, [parallelism, counts]] of attempts.entries()) {
              const dealt = states === undefined ? [] : rescaled(states, parallelism);
              const isLast = at === attempts.length - 1;
              states = await Promise.all(
                Array.from({ length: parallelism }, async (_, subtaskIndex) => {
                  const own = dealt[subtaskIndex];
                  const place = { subtaskIndex, parallelism, splits, ...(own === undefined ? {} : { dealt: own }) };
                  const harness = await openSource(source, place);
                  const wanted = isLast ? Number.MAX_SAFE_INTEGER : (counts[subtaskIndex] ?? 0);
                  if (wanted > 0) await harness.poll(wanted);
                  const state = await harness.snapshot(1);
                  await harness.operator.close(false);
                  seen.push(...harness.output);
                  return state;
                }),
              );
            }
            expect(seen.toSorted(byId)).toEqual(records);
          },
        ),
        { numRuns: 25 },
      );
    },
  );

  test("GS3: an endless generator with several splits reads all of them, at the rate of them all", async () => {
    const endless = new GeneratorSource({
      count: Infinity,
      ratePerSecond: 1_000,
      generate: (i) => i,
      type: Types.LONG(),
    });
    const states = await Promise.all(
      [0, 1, 2].map(async (subtaskIndex) => (await openSource(endless, { subtaskIndex, parallelism: 3 })).snapshot(1)),
    );
    const dealt = rescaled(states, 2).map((own, subtaskIndex) =>
      openSource(endless, { subtaskIndex, parallelism: 2, dealt: own }),
    );
    const counts = await Promise.all(
      dealt.map(async (opening) => {
        const source = await opening;
        for (let ms = 0; ms <= 3_000; ms += 10) {
          source.nowMs = ms;
          while (source.operator.poll(10) === "more");
        }
        return [...Map.groupBy(source.output, (i) => Number(i) % 3)].map(([split, all]) => [split, all.length]);
      }),
    );
    const about1000 = expect.closeTo(1_000, -2) as unknown as number;
    expect(counts).toEqual([
      [
        [0, about1000],
        [1, about1000],
      ],
      [[2, about1000]],
    ]);
  });

  test("a byte order mark, a header alone, an empty file", async () => {
    expect(await readAll(FileSource.ndjson(file("bom", `\ufeff${asNdjson(rows(2))}`), ROW))).toEqual(rows(2));
    expect(await readAll(FileSource.csv(file("bom.csv", `\ufeff${asCsv(rows(2))}`), ROW))).toEqual(rows(2));
    expect(await readAll(FileSource.csv(file("header.csv", "id,text\n"), ROW))).toEqual([]);
    expect(await readAll(FileSource.ndjson(file("empty", ""), ROW))).toEqual([]);
  });

  test("quoted line ends, doubled quotes and other delimiters", async () => {
    const records = [
      { id: 1, text: 'two\nlines, "quoted"' },
      { id: 2, text: ";" },
    ];
    const content = asCsv(records).replace("extra,text,id", "extra,text,id");
    expect(await readAll(FileSource.csv(file("q.csv", content), ROW, { quotedNewlines: true }))).toEqual(records);
    expect(await readAll(FileSource.csv(file("s.csv", 'text;id\n"a;b";7\n'), ROW, { delimiter: ";" }))).toEqual([
      { id: 7, text: "a;b" },
    ]);
  });

  test("the rate is kept, and shared by the subtasks", async () => {
    const source = FileSource.ndjson(file("in", asNdjson(rows(100))), ROW, { ratePerSecond: 20 });
    const harness = await openSource(source, { parallelism: 1 });
    while ((await harness.poll(50)) !== "finished") harness.nowMs = harness.operator.wakeAtMs;
    expect(harness.nowMs).toBeGreaterThanOrEqual(4_900);
    expect(harness.nowMs).toBeLessThan(6_000);
    const half = await openSource(
      new GeneratorSource({ count: 10, ratePerSecond: 20, generate: (i) => i, type: Types.INT() }),
      { parallelism: 2 },
    );
    while ((await half.poll(50)) !== "finished") half.nowMs = half.operator.wakeAtMs;
    expect(half.output).toEqual([0, 2, 4, 6, 8]);
    expect(half.nowMs).toBeGreaterThanOrEqual(400);
  });
});

describe("Parquet", () => {
  const FLIGHT = Types.ROW({
    origin: Types.STRING(),
    delay: Types.LONG(),
    date: Types.INSTANT(),
    distance: Types.INT(),
  });

  test("real flights: splits are row groups, a slice resumes at any row", async () => {
    const source = FileSource.parquet(FLIGHTS, FLIGHT);
    const splits = await source.enumerateSplits();
    expect(splits.length).toBe(11);
    expect([splits[0]?.start, splits.at(-1)?.end]).toEqual([0, 3_000_000]);
    for (let i = 1; i < splits.length; i += 1) expect(splits[i]?.start).toBe(splits[i - 1]?.end);
    const part = [{ ...splits[1], end: (splits[1]?.start ?? 0) + 20_000 }];
    const whole = await drain(await openSource(source, { splits: part }));
    expect(whole.length).toBe(20_000);
    expect(whole[0]).toEqual({
      origin: expect.stringMatching(/^[A-Z0-9]{3}$/),
      delay: expect.any(Number),
      date: expect.any(Number),
      distance: expect.any(Number),
    });
    const first = whole[0] as { readonly date: number };
    expect(new Date(first.date).getUTCFullYear()).toBe(2001);
    expect(await readInPieces(source, { splits: part }, [5, 16_379, 2, 100])).toEqual(whole);
  });

  test("what is no Parquet, or lacks a column, is refused at planning", async () => {
    expect(await failure(FileSource.parquet(file("no.parquet", "x".repeat(100)), FLIGHT).enumerateSplits())).toMatch(
      /^RECORD_MALFORMED: no.parquet cannot be read as Parquet: /,
    );
    const wrong = FileSource.parquet(FLIGHTS, Types.ROW({ pilot: Types.STRING() }));
    expect(await failure(wrong.enumerateSplits())).toMatch(
      /no column "pilot"; it has date, delay, distance, origin, destination$/,
    );
  });
});

describe("FS3: malformed records", () => {
  const table: readonly (readonly [format: "ndjson" | "csv", line: string, reason: string])[] = [
    ["ndjson", "{oops", "it is not JSON: "],
    ["ndjson", "7", "the record is the number 7, not a ROW (an object)"],
    ["ndjson", '{"id":1}', 'field "text" is missing, not a STRING'],
    ["ndjson", '{"id":"1","text":"x"}', 'field "id" is the text "1", not a LONG (a safe integer)'],
    ["ndjson", '{"id":9007199254740993,"text":"x"}', "not a LONG (a safe integer)"],
    ["ndjson", '{"id":1.5,"text":"x"}', 'field "id" is the number 1.5, not a LONG'],
    ["ndjson", '{"id":1,"text":null}', 'field "text" is null, not a STRING'],
    ["csv", "x,y", "it has 2 cells, the header has 3"],
    ["csv", 'x,"y,1', "cell 2 has a quote that is never closed (for line ends inside quotes set quotedNewlines: true)"],
    ["csv", 'x,"y"z,1', "cell 2 goes on after its closing quote"],
    ["csv", 'x,y"z,1', "cell 2 has a quote in its middle"],
    ["csv", "x,y,one", 'field "id" is the text "one", not of type LONG'],
    ["csv", "x,y,", 'field "id" is the text "", not of type LONG'],
  ];
  const around = (format: "ndjson" | "csv", bad: string): string => {
    const good = format === "csv" ? asCsv(rows(2)) : asNdjson(rows(2));
    return `${good}${bad}\n${format === "csv" ? "x,z,2" : '{"id":2,"text":"z","more":[]}'}\n`;
  };

  const make = (format: "ndjson" | "csv", path: string, options: FileSourceOptions = {}): FileSource<Row> =>
    format === "csv" ? FileSource.csv(path, ROW, options) : FileSource.ndjson(path, ROW, options);

  test("a message shows control characters as text: binary input must not reach a terminal", async () => {
    const message = await failure(readAll(make("csv", file("in", "text,more,id\nx\u001b[2J\u0000,y,one\n"))));
    expect(message).toContain("it begins: x\\u001b[2J\\u0000,y,one");
    expect(message).not.toMatch(/\p{Cc}/u);
  });

  test.each(table)("%s %s", async (format, line, reason) => {
    const content = around(format, line);
    const path = file("in", content);
    const message = await failure(readAll(make(format, path)));
    expect(message).toContain(
      `RECORD_MALFORMED: in, byte ${Buffer.byteLength(content.slice(0, content.indexOf(line)))}: `,
    );
    expect(message).toContain(reason);
    expect(message).toContain(`; it begins: ${line.slice(0, 120)}`);
    // The same record, skipped: counted, kept, and the rest is read.
    const letters = join(directory, "letters");
    const harness = await openSource(make(format, path, { onError: "skip", deadLetterDirectory: letters }));
    while ((await harness.poll(10)) !== "finished");
    expect(harness.output).toEqual([...rows(2), { id: 2, text: "z" }]);
    expect(harness.metrics.countOf("numRecordsSkipped")).toBe(1);
    await harness.snapshot(1, true);
    await harness.operator.notifyCheckpointComplete?.(1 as CheckpointId);
    await harness.operator.close(true);
    expect(readdirSync(letters)).toEqual(["part-lineage1-1-operator-uid.dead-letter-0-0.ndjson"]);
    const letter = JSON.parse(readFileSync(join(letters, readdirSync(letters)[0] as string), "utf8")) as {
      text: string;
      reason: string;
    };
    expect(letter).toMatchObject({ file: path, text: line, reason: expect.stringContaining(reason) });
  });

  test("text that is not UTF-8", async () => {
    const path = file("in", Buffer.concat([Buffer.from(asNdjson(rows(1))), Buffer.from([0x22, 0xff, 0x22, 0x0a])]));
    expect(await failure(readAll(FileSource.ndjson(path, Types.GENERIC())))).toContain("it is not UTF-8 text");
  });

  test("dead letters are exactly-once: those after the barrier are written again", async () => {
    const path = file("in", "bad 0\nbad 1\nbad 2\n");
    const letters = join(directory, "letters");
    const source = FileSource.ndjson(path, ROW, { onError: "skip", deadLetterDirectory: letters });
    const first = await openSource(source);
    const poll = async (harness: Harness, times: number): Promise<void> => {
      for (let i = 0; i < times; i += 1) while (harness.operator.poll(1) === "idle") await new Promise(setImmediate);
    };
    await poll(first, 1);
    const state = await first.snapshot(1);
    await poll(first, 1);
    await first.operator.close(false);
    const second = await openSource(source, { state });
    while ((await second.poll(5)) !== "finished");
    await second.snapshot(2);
    await second.operator.notifyCheckpointComplete?.(2 as CheckpointId);
    const texts = readdirSync(letters).flatMap((name) => readFileSync(join(letters, name), "utf8").trim().split("\n"));
    expect(texts.map((text) => (JSON.parse(text) as { text: string }).text).toSorted()).toEqual([
      "bad 0",
      "bad 1",
      "bad 2",
    ]);
  });
});

describe("refused before anything runs", () => {
  test.each<readonly [expected: string, make: () => unknown]>([
    [
      "INPUT_NOT_FOUND: cannot read none.ndjson: ENOENT",
      () => FileSource.ndjson(join(directory, "none.ndjson"), ROW).enumerateSplits(),
    ],
    ["holds no files to read", () => FileSource.ndjson(directory, ROW).enumerateSplits()],
    ["holds no files to read", () => FileSource.text(`${directory}/*.txt`).enumerateSplits()],
    ["monitorContinuouslyMs is 0", () => FileSource.text("x", { monitorContinuouslyMs: 0 })],
    ["RECORD_MALFORMED: e.csv: there is no header", () => FileSource.csv(file("e.csv", ""), ROW).enumerateSplits()],
    [
      'there is no column "text"; the header has id',
      () => FileSource.csv(file("h.csv", "id\n1\n"), ROW).enumerateSplits(),
    ],
    ['column "id" is there twice', () => FileSource.csv(file("d.csv", "id,text,id\n"), ROW).enumerateSplits()],
    ["CONFIG_INVALID: FileSource: no paths", () => FileSource.ndjson([], ROW)],
    ['"s3://bucket/x" is not on a local file system', () => FileSource.ndjson("s3://bucket/x", ROW)],
    ["FileSource: ratePerSecond is 0", () => FileSource.ndjson("x", ROW, { ratePerSecond: 0 })],
    ["without a deadLetterDirectory", () => FileSource.ndjson("x", ROW, { onError: "skip" })],
    ['without onError: "skip"', () => FileSource.ndjson("x", ROW, { deadLetterDirectory: "y" })],
    ['column "a" is declared as LIST', () => FileSource.csv("x", Types.ROW({ a: Types.LIST(Types.INT()) }))],
    ["needs a ROW type", () => FileSource.parquet("x", Types.GENERIC<object>())],
    ["delimiter is", () => FileSource.csv("x", ROW, { delimiter: "||" })],
    ["GeneratorSource: count is 1.5", () => new GeneratorSource({ count: 1.5, generate: (i) => i, type: Types.INT() })],
  ])("%s", async (expected, make) => {
    expect(await failure(async () => make())).toContain(expected);
  });

  test("FS4: a file that became shorter is noticed", async () => {
    const path = file("in", asNdjson(rows(50)));
    const source = FileSource.ndjson(path, ROW);
    const splits = await source.enumerateSplits();
    truncateSync(path, 100);
    expect(await failure(openSource(source, { splits }).then(drain))).toMatch(
      /^INPUT_NOT_FOUND: in ends at byte 100; it had at least \d+/,
    );
  });
});

test("RS1: nested types are checked to the leaves, and instants do not depend on the time zone", async () => {
  const type = Types.ROW({
    at: Types.INSTANT(),
    pair: Types.TUPLE(Types.INT(), Types.DOUBLE()),
    list: Types.LIST(Types.ROW({ ok: Types.BOOLEAN() })),
    map: Types.MAP(Types.STRING(), Types.LONG()),
    bytes: Types.BYTES(),
  });
  const value = { at: "2024-02-29T12:00", pair: [1, 2.5], list: [{ ok: true, more: 1 }], map: { a: 1 }, bytes: "AQI=" };
  expect(await readAll(FileSource.ndjson(file("in", asNdjson([value])), type))).toEqual([
    {
      at: Date.UTC(2024, 1, 29, 12),
      pair: [1, 2.5],
      list: [{ ok: true }],
      map: new Map([["a", 1]]),
      bytes: new Uint8Array([1, 2]),
    },
  ]);
  const bad = { ...value, list: [{ ok: "yes" }] };
  expect(await failure(readAll(FileSource.ndjson(file("bad", asNdjson([bad])), type)))).toContain(
    'field "list[].ok" is the text "yes"',
  );
  expect([
    instantOf("2024-01-01"),
    instantOf("2024-01-01T00:00:00.5+01:00"),
    instantOf("yesterday"),
    instantOf("2024-13-01"),
  ]).toEqual([Date.UTC(2024, 0, 1), Date.UTC(2023, 11, 31, 23, 0, 0, 500), undefined, undefined]);
  expect(new Malformed("x")).toBeInstanceOf(Error);
});
