// `sluice snapshot` as typed, over the checkpoints of a job that has really run, in three versions of its code.

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { openObjectStore } from "@sluice/kit/env/node";
import { minio, startMinio } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";
import { type as typeCommand } from "../support/command-line.ts";
import { makeBucket, s3Environment } from "../support/store.ts";
import { DIRECTORY, writeSnapshot } from "./content.ts";
import { readIndependently } from "./independent-reader.ts";

const RUNTIME = new URL("../../src/index.ts", import.meta.url).href;
const RUN_TIMEOUT_MS = 180_000;

/** Counts numbers by their last digit. v2: another type that evolves, one state less, one more. v3: a type that cannot evolve. */
const JOB = `
import { DiscardSink, GeneratorSource, KeyedProcessFunction, ListStateDescriptor, Types, ValueStateDescriptor } from ${JSON.stringify(RUNTIME)};
const Seen = {
  v1: Types.ROW({ count: Types.INT(), name: Types.STRING() }),
  v2: Types.ROW({ count: Types.LONG(), tags: Types.LIST(Types.STRING()) }, { defaults: { tags: ["old"] } }),
  v3: Types.ROW({ count: Types.INT(), name: Types.LONG() }),
};
const NEXT = {
  v1: (seen, n) => ({ count: (seen?.count ?? 0) + 1, name: "digit " + (n % 10) }),
  v2: (seen) => ({ count: (seen?.count ?? 0) + 1, tags: seen?.tags ?? ["new"] }),
  v3: () => ({ count: 0, name: 0 }),
};
class Count extends KeyedProcessFunction {
  constructor(version) { super(); this.version = version; }
  open(context) {
    if (this.version === "closed") throw new Error("no database here");
    this.seen = context.getState(new ValueStateDescriptor("seen", Seen[this.version]));
    if (this.version === "v1") this.last = context.getListState(new ListStateDescriptor("last", Types.LONG()));
    else context.getState(new ValueStateDescriptor("fresh", Types.STRING()));
  }
  processElement(n, ctx, out) {
    this.seen.update(NEXT[this.version](this.seen.value(), n));
    this.last?.add(n);
    out.collect(n);
  }
}
export function main(env, [version]) {
  env.enableCheckpointing(100);
  env.setMaxParallelism?.(16);
  const numbers = new GeneratorSource({ count: 900, ratePerSecond: 400, type: Types.LONG(), generate: (i) => i });
  env.fromSource(numbers).uid("numbers")
    .keyBy((n) => "digit-" + (n % 10), Types.STRING())
    .process(() => new Count(version), Types.LONG()).uid(version === "gone" ? "other" : "count").setParallelism(2)
    .sinkTo(new DiscardSink());
}
`;

let folder = "";
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "sluice-snapshot-"));
  writeFileSync(join(folder, "digits.ts"), JOB);
  mkdirSync(join(folder, "empty"));
  const run = await sluice("run", "digits.ts", "--plain", "--rest-port", "0", "--", "v1");
  expect([run.code, run.text]).toEqual([0, expect.stringContaining("FINISHED")]);
}, RUN_TIMEOUT_MS);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function sluice(...args: readonly string[]): Promise<{ readonly code: number | null; readonly text: string }> {
  const typed = typeCommand(args, { directory: folder });
  const code = await typed.exit;
  return { code, text: typed.text() };
}

const PLACE = ".sluice/digits/checkpoints";
const COUNT = ["--uid", "count", "--state", "seen", "--key", "digit-7"] as const;

interface Listed {
  readonly uri: string;
  readonly checkpointId: number;
  readonly isFinal: boolean;
  readonly reasons: readonly string[];
}

test(
  "ls, show, get, verify and diff find what the job has stored",
  async () => {
    const listed = JSON.parse((await sluice("snapshot", "ls", PLACE, "--json")).text) as readonly Listed[];
    const [oldest, newest] = [listed[0], listed.at(-1)] as [Listed, Listed];
    expect(newest).toMatchObject({ isFinal: true, reasons: ["head", "retained"] });
    expect(oldest.checkpointId).toBeLessThan(newest.checkpointId);

    const shown = (await sluice("snapshot", "show", PLACE)).text;
    expect(shown).toContain('count "seen": value ROW(count INT, name STRING) keyed by STRING; 10 entries');
    expect(shown).toContain('count "last": list LIST(LONG) keyed by STRING; ');
    expect(shown).toContain("operators numbers: parallelism 1");

    expect(await sluice("snapshot", "get", PLACE, ...COUNT)).toEqual({
      code: 0,
      text: '{"count":90,"name":"digit 7"}\n',
    });
    const list = await sluice(
      "snapshot",
      "get",
      newest.uri,
      "--uid",
      "count",
      "--state",
      "last",
      "--key",
      "digit-0",
      "--json",
    );
    const values = (JSON.parse(list.text) as { readonly value: readonly number[] }).value;
    expect(values).toEqual(Array.from({ length: 90 }, (_, i) => i * 10));
    const absent = await sluice("snapshot", "get", PLACE, ...COUNT.slice(0, -1), "digit-x");
    expect(absent).toMatchObject({ code: 1, text: expect.stringContaining('key "digit-x" has no entry') });

    expect(await sluice("snapshot", "verify", PLACE)).toMatchObject({
      code: 0,
      text: expect.stringContaining("whole: "),
    });
    const diff = await sluice("snapshot", "diff", oldest.uri, PLACE, "--keys", "2");
    expect(diff.text).toMatch(/keys: 0 added, 0 removed, 10 changed, 0 the same/u);
    expect(diff.text).toMatch(/~ "digit-\d": \{"count":\d+,"name":"digit \d"\} -> \{"count":90,/u);
    expect(diff.text).toContain("... and 8 more keys");
  },
  RUN_TIMEOUT_MS,
);

test("a reader that knows nothing but the page reads what the job has stored", () => {
  const jobFolder = join(folder, PLACE, "default/digits");
  const ids = readdirSync(jobFolder).flatMap((name) => (name.startsWith("chk-") ? [Number(name.slice(4))] : []));
  const { states } = readIndependently(`${jobFolder}/chk-${Math.max(...ids)}`, (path) => readFileSync(path));
  const seen = states.find(({ stateName }) => stateName === "seen")?.entries ?? [];
  expect(Object.fromEntries(seen.map(({ key, value }) => [key, value]))).toEqual(
    Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`digit-${i}`, { count: 90, name: `digit ${i}` }])),
  );
  expect(states.find(({ stateName }) => stateName === "last")?.entries).toHaveLength(900);
  expect(states.find(({ uid }) => uid === "numbers")?.entries).not.toHaveLength(0);
});

test(
  "check tells before, and a start does, what becomes of each state",
  async () => {
    const check = async (...args: readonly string[]) => await sluice("snapshot", "check", "digits.ts", PLACE, ...args);
    const evolves = await check("v2");
    expect([evolves.code, evolves.text]).toEqual([0, expect.stringContaining("digits.ts can go on from it")]);
    expect(evolves.text).toContain('field "tags": added with default ["old"]');
    expect(evolves.text).toContain('field "count": INT becomes LONG');
    expect(evolves.text).toContain('field "name": removed');
    expect(evolves.text).toContain('state "last": unchanged\n      not declared in open()');
    expect(evolves.text).toContain('state "fresh": new');

    const broken = await check("v3");
    expect([broken.code, broken.text]).toEqual([1, expect.stringContaining("digits.ts CANNOT go on from it")]);
    expect(broken.text).toContain('field "name": the snapshot holds STRING, the job declares LONG');
    expect(await check("gone")).toMatchObject({
      code: 1,
      text: expect.stringContaining('no operator with uid("count")'),
    });
    expect(await check("gone", "--allow-non-restored-state")).toMatchObject({ code: 0 });
    const closed = await check("closed", "--json");
    expect([closed.code, JSON.parse(closed.text)]).toEqual([1, expect.objectContaining({ compatible: false })]);
    expect(closed.text).toContain("no database here");

    const listed = JSON.parse((await sluice("snapshot", "ls", PLACE, "--json")).text) as readonly Listed[];
    const [from] = listed as [Listed];
    const start = async (version: string) =>
      await sluice(
        "run",
        "digits.ts",
        "--plain",
        "--rest-port",
        "0",
        "--name",
        version,
        "--from",
        from.uri,
        "--",
        version,
      );
    const refused = await start("v3");
    expect([refused.code, refused.text]).toEqual([1, expect.stringContaining("STATE_INCOMPATIBLE")]);
    expect(refused.text).toContain(
      'operator uid count, state "seen": field "name": the snapshot holds STRING, the job declares LONG',
    );
    expect((await start("v2")).text).toContain("FINISHED");
    const after = await sluice("snapshot", "get", ".sluice/v2/checkpoints", ...COUNT);
    expect(after.text).toBe('{"count":90,"tags":["old"]}\n');
  },
  RUN_TIMEOUT_MS,
);

test(
  "verify names the damaged part of a damaged snapshot, and ends with 1",
  async () => {
    const jobFolder = join(folder, PLACE, "default/digits");
    const newest = Math.max(
      ...readdirSync(jobFolder).flatMap((name) => (name.startsWith("chk-") ? [Number(name.slice(4))] : [])),
    );
    const pack = readdirSync(join(jobFolder, `chk-${newest}`)).find((name) => name.startsWith("x-")) ?? "";
    const path = join(jobFolder, `chk-${newest}`, pack);
    const bytes = readFileSync(path);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    writeFileSync(path, bytes);
    const verified = await sluice("snapshot", "verify", PLACE);
    expect([verified.code, verified.text]).toEqual([1, expect.stringContaining("DAMAGED: 1 problem in ")]);
    expect(verified.text).toMatch(/chk-\d+\/x-.*: state ".*" of operator uid /u);
  },
  RUN_TIMEOUT_MS,
);

test.each<readonly [args: readonly string[], code: number, text: string]>([
  [["show", "empty"], 1, "is no checkpoint or savepoint"],
  [["get", PLACE, "--uid", "count", "--state", "seen"], 2, "Say which key: --key K"],
])(
  "snapshot %j ends with %i and says what to do",
  async (args, code, text) => {
    expect(await sluice("snapshot", ...args)).toMatchObject({ code, text: expect.stringContaining(text) });
  },
  RUN_TIMEOUT_MS,
);

describeWithPeer(minio, "snapshots in MinIO", () => {
  test(
    "are listed, read and verified by their URI",
    async () => {
      const server = await startMinio();
      try {
        await makeBucket(server, "snapshots");
        const { endpoint, accessKey, secretKey } = server;
        const store = await openObjectStore("s3://snapshots/deep", { s3: { endpoint, accessKey, secretKey } });
        for (const [path, bytes] of writeSnapshot()) await store.put(path, bytes);
        const onS3 = async (...args: readonly string[]): Promise<string> => {
          const options = { directory: folder, env: s3Environment(server) };
          const typed = typeCommand(["snapshot", ...args, "-D", `s3.endpoint=${endpoint}`], options);
          expect([await typed.exit, typed.text()]).toEqual([0, expect.any(String)]);
          return typed.text();
        };
        const place = `s3://snapshots/deep/${DIRECTORY}`;
        expect(await onS3("ls", "s3://snapshots/deep")).toContain(`  ${DIRECTORY}`);
        expect(await onS3("get", place, "--uid", "by row", "--state", "sum", "--key", '{"street":"a","zip":1}')).toBe(
          "1\n",
        );
        expect(await onS3("verify", `${place}/_metadata`)).toContain("whole: ");
      } finally {
        await server.stop();
      }
    },
    RUN_TIMEOUT_MS,
  );
});
