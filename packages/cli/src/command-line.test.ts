// `sluice` as typed: exit codes and messages of wrong command lines and configurations. Nothing is started.

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));
const RUNTIME = new URL("../../../runtime/src/index.ts", import.meta.url).href;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "sluice-cli-"));
  writeFileSync(join(folder, "empty.ts"), "export const nothing = 1;\n");
  writeFileSync(
    join(folder, "throws.ts"),
    'export function main(): void {\n  throw new RangeError("no flights today");\n}\n',
  );
  writeFileSync(join(folder, "hangs.ts"), "export function main(): void {\n  for (;;);\n}\n");
  writeFileSync(join(folder, "exits.ts"), "export function main(): void {\n  process.exit(0);\n}\n");
  writeFileSync(join(folder, "data.csv"), "a,b\n");
  writeFileSync(join(folder, "syntax.ts"), "export const a = 1;\nexport function main( {\n");
  writeFileSync(join(folder, "imports.ts"), 'import { x } from "no-such-library";\nexport const main = x;\n');
  writeFileSync(join(folder, "throws-at-once.ts"), 'export {};\nthrow new RangeError("not even loaded");\n');
  writeFileSync(
    join(folder, "good.ts"),
    `import { DiscardSink, GeneratorSource, Types } from ${JSON.stringify(RUNTIME)};
     export function main(env) {
       env.fromSource(new GeneratorSource({ count: 1, type: Types.LONG(), generate: (i) => i })).uid("one").sinkTo(new DiscardSink());
     }`,
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Answer {
  readonly code: number | null;
  /** Everything printed. */
  readonly text: string;
}

function sluice(...args: readonly string[]): Promise<Answer> {
  return sluiceIn(process.env, ...args);
}

async function sluiceIn(env: NodeJS.ProcessEnv, ...args: readonly string[]): Promise<Answer> {
  const child = spawn(process.execPath, [MAIN, ...args], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (more: string) => (text += more));
  child.stderr.setEncoding("utf8").on("data", (more: string) => (text += more));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, text };
}

describe("PG1: a wrong command line is one message and exit code 2", () => {
  test.each<[args: readonly string[], message: string]>([
    [["rum"], "unknown command 'rum'"],
    [["run"], "missing required argument 'job'"],
    [["run", "x.ts", "--paralelism", "2"], "Did you mean --parallelism?"],
    [["run", "x.ts", "--parallelism", "0"], "Give a whole number of at least 1."],
    [["run", "x.ts", "--slots", "many"], "Give a whole number of at least 1."],
    [["run", "x.ts", "--rest-port", "70000"], "Give a port from 0 to 65535."],
    [["run", "x.ts", "-D", "novalue"], "Write key=value."],
    [["run", "absent.ts"], "JOB_MODULE_NOT_FOUND: there is no file"],
    [
      ["run", "empty.ts", "-D", "execution.checkpointing.intervall=1 s"],
      'did you mean "execution.checkpointing.interval"',
    ],
    [["run", "empty.ts", "-D", "state.backend.type=rocksdb"], "CONFIG_NOT_IMPLEMENTED"],
    [["run", "empty.ts", "-Dheartbeat.interval=9 s"], "is not longer than heartbeat.interval"],
    [["run", "empty.ts", "--dir", "/tmp/x"], "Write file:///tmp/x"],
    [["run", "empty.ts", "-p", "2", "-D", "parallelism.default=3"], "say different things"],
    [["run", "empty.ts", "--name", "../up"], "cannot be the name of a job"],
    [["run", "good.ts", "--work-dir", "data.csv/below"], "data.csv/below cannot be the directory of this run: ENOTDIR"],
    [["cancel", "nothing"], 'no job "nothing" runs in this directory'],
    [["run", "empty.ts", "--claim-mode", "CLAIM"], "nothing is named to start from"],
    [["snapshot", "get", "."], "(sluice snapshot get --help shows what there is)"],
    [["store", "pin", "."], "(sluice store pin --help shows what there is)"],
  ])("%j -> %s", async (args, message) => {
    const { code, text } = await sluice(...args);
    expect(text).toContain(message);
    expect(text).not.toMatch(/^\s+at /m);
    expect(code).toBe(2);
  });

  test("a port that another program has", async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const { code, text } = await sluice("run", "empty.ts", "--rest-port", String(port));
    server.close();
    expect(text).toContain(`port ${port} for REST is taken`);
    expect(code).toBe(2);
  });
});

describe("a job that cannot be planned fails with what, where and what to do", () => {
  test.each<[args: readonly string[], message: RegExp]>([
    [["run", "empty.ts"], /JOB_MODULE_INVALID: .*empty\.ts exports no function main\n {2}What to do: /],
    [["run", "data.csv"], /JOB_MODULE_INVALID: .*data\.csv is not a TypeScript or JavaScript module/],
    [["run", "throws.ts"], /JOB_MAIN_FAILED: .*RangeError: no flights today[^]*at main \(.*throws\.ts:2/],
    [["run", "syntax.ts"], /JOB_MODULE_INVALID: .*SyntaxError: .*\/syntax\.ts:2\)\n {2}What to do: /],
    [["run", "imports.ts"], /JOB_MODULE_INVALID: .*Cannot find package 'no-such-library'.*\n {2}What to do: /],
    [["run", "throws-at-once.ts"], /JOB_MODULE_INVALID: .*RangeError: not even loaded \(.*\/throws-at-once\.ts:2\)/],
    [["run", "exits.ts"], /JOB_MAIN_FAILED: .*ended its process/],
    [["run", "hangs.ts", "-D", "sluice.plan.timeout=1 s"], /JOB_MAIN_TIMEOUT: .*within 1 s/],
    [["status", "127.0.0.1:1"], /PEER_LOST: no JobManager answers at http:\/\/127\.0\.0\.1:1/],
  ])("%j", async (args, message) => {
    const { code, text } = await sluice(...args);
    expect(text).toMatch(message);
    expect(code).toBe(1);
  });

  test("and leaves nothing behind", () => expect(existsSync(join(folder, ".sluice"))).toBe(false));
});

describe("help", () => {
  test.each<[args: readonly string[], contents: readonly string[]]>([
    [["--help"], ["run", "list", "status", "cancel"]],
    [
      ["run", "--help"],
      ["Examples:", "--task-managers", "Exit codes: 0 finished", "-D, --define <key=value>"],
    ],
    [["--version"], ["0.1.0"]],
    [["list"], ["no job runs in this directory"]],
    [["list", "--json"], ['{"jobs":[]}\n']],
    [
      ["store", "gc", "--help"],
      ["--older-than <time>", "1 h)", "--output <uri>"],
    ],
  ])("%j", async (args, contents) => {
    const { code, text } = await sluice(...args);
    for (const content of contents) expect(text).toContain(content);
    expect(text).not.toMatch(/default: [[{]/u);
    expect(code).toBe(0);
  });
});

test("MN1: what was compiled, also by the processes that were started, is kept at home for the next start", async () => {
  const { NODE_COMPILE_CACHE: _, XDG_CACHE_HOME: __, ...env } = process.env;
  const before = await sluiceIn({ ...env, HOME: join(folder, "home") }, "run", "throws.ts");
  expect(before.text).toContain("no flights today");
  const kept = readdirSync(join(folder, "home/.cache/sluice/compiled"), { recursive: true });
  expect(kept.length).toBeGreaterThan(100); // one per module
  const nowhere = await sluiceIn({ ...env, HOME: join(folder, "data.csv") }, "run", "throws.ts"); // no place is no harm
  expect(nowhere).toEqual(before);
}, 60_000);
