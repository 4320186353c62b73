// `sluice store` as typed, over the store of a job that has really run.

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));
const RUNTIME = new URL("../../../runtime/src/index.ts", import.meta.url).href;
const RUN_TIMEOUT_MS = 120_000;

let folder = "";
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "sluice-store-"));
  writeFileSync(
    join(folder, "small.ts"),
    `import { DiscardSink, GeneratorSource, Types } from ${JSON.stringify(RUNTIME)};
     export function main(env) {
       env.enableCheckpointing(100);
       const numbers = new GeneratorSource({ count: 600, ratePerSecond: 1000, type: Types.LONG(), generate: (i) => i });
       env.fromSource(numbers).uid("numbers").sinkTo(new DiscardSink());
     }`,
  );
  expect((await sluice("run", "small.ts", "--plain", "--rest-port", "0")).code).toBe(0);
}, RUN_TIMEOUT_MS);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function sluice(...args: readonly string[]): Promise<{ readonly code: number | null; readonly text: string }> {
  const child = spawn(process.execPath, [MAIN, ...args], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (more: string) => (text += more));
  child.stderr.setEncoding("utf8").on("data", (more: string) => (text += more));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, text };
}

const PLACE = ".sluice/small/checkpoints";
const jobFolder = (): string => join(folder, PLACE, "default/small");
const checkpoints = (): readonly string[] => readdirSync(jobFolder()).filter((name) => name.startsWith("chk-"));

test(
  "inspect, gc, pin, close and purge, as the help text types them",
  async () => {
    const inspected = await sluice("store", "inspect", PLACE);
    expect(inspected).toMatchObject({ code: 0, text: expect.stringContaining("closed, finished") });
    expect(inspected.text).toMatch(/checkpoint \d+: head, retained/u);

    // A job that ended leaves nothing; what an upload left that nobody acknowledged is found, and exactly that goes.
    expect((await sluice("store", "gc", PLACE, "--older-than", "0")).text).toContain("no garbage");
    const kept = checkpoints();
    const leftover = join(jobFolder(), kept[0] ?? "", "x-1.0.tm-1.deadbeef-0");
    writeFileSync(leftover, "12345");
    writeFileSync(join(jobFolder(), "notes.txt"), "mine");
    expect((await sluice("store", "gc", PLACE)).text).toContain("1 more are younger than 1 h");
    utimesSync(leftover, new Date(0), new Date(0));
    expect((await sluice("store", "gc", PLACE, "--dry-run")).text).toContain("1 objects, 5 bytes would be deleted");
    const deleted = await sluice("store", "gc", `${PLACE}/default/small`, "--delete", "--json");
    expect(JSON.parse(deleted.text)).toMatchObject([{ deletedCount: 1, deletedBytes: 5 }]);
    expect(checkpoints()).toEqual(kept);

    expect((await sluice("store", "pin", PLACE, "--holder", "audit", "--for", "7 d")).text).toContain(
      'kept for "audit"',
    );
    expect(await sluice("store", "purge", PLACE)).toMatchObject({ code: 1, text: expect.stringContaining("audit") });
    expect((await sluice("store", "unpin", PLACE, "--holder", "audit")).text).toContain("1 pins");
    expect((await sluice("store", "close", PLACE, "--job", "small")).text).toContain("default/small is closed");
    expect((await sluice("store", "purge", PLACE, "--job", "small")).text).toContain("is purged");
    expect(checkpoints()).toEqual([]);
    expect(readdirSync(jobFolder()).sort()).toEqual(["commits", "notes.txt"]);
    expect(readdirSync(join(jobFolder(), "commits"))).toHaveLength(1);
  },
  RUN_TIMEOUT_MS,
);

test.each<readonly [args: readonly string[], code: number, text: string]>([
  [["gc", "nowhere"], 1, "there is no directory"],
  [["gc", PLACE, "--job", "absent"], 1, "There are: default/small."],
  [["gc", "s3://bucket/x"], 2, "AWS_ACCESS_KEY_ID"],
  [["gc", PLACE, "--older-than", "soon"], 2, "--older-than"],
  [["pin", PLACE], 2, "--holder"],
])(
  "store %j ends with %i and says what to do",
  async (args, code, text) => {
    expect(await sluice("store", ...args)).toMatchObject({ code, text: expect.stringContaining(text) });
  },
  RUN_TIMEOUT_MS,
);
