// What a newcomer does with the packages, in directories outside of the repository: install, type-check, run, `sluice init`.
//
// A program of its own (`node tools/pack/test/newcomer.ts [--keep]`), because it starts processes with worker threads. It prints a
// line per step, and ends with exit code 1 at the first that is not as the README says.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";

import { startRegistry } from "./registry.ts";

const ROOT = join(import.meta.dirname, "../../..");
const OUTPUT_CHARS_SHOWN = 4_000;

/** A job in the words of the README, and one line that must not compile. */
const JOB = `
import { Encoders, FileSink, GeneratorSource, KeyedProcessFunction, Types, ValueStateDescriptor } from "@sluice/runtime";
import { CollectSink, MiniCluster } from "@sluice/runtime/testing";
import type { Collector, KeyedContext, RuntimeContext, StreamExecutionEnvironment, ValueState } from "@sluice/runtime";

class KeyedSumFunction extends KeyedProcessFunction<string, number, string> {
  #sum!: ValueState<number>;

  override open(runtimeContext: RuntimeContext): void {
    this.#sum = runtimeContext.getState(new ValueStateDescriptor("sum", Types.LONG()));
  }

  override processElement(value: number, ctx: KeyedContext<string>, out: Collector<string>): void {
    const sum = (this.#sum.value() ?? 0) + value;
    this.#sum.update(sum);
    out.collect(\`\${ctx.getCurrentKey()} \${sum}\`);
  }
}

export function main(env: StreamExecutionEnvironment): void {
  env.enableCheckpointing(200);
  const numbers = new GeneratorSource({ count: 2_000, generate: (i) => i, type: Types.LONG() });
  env
    .fromSource(numbers)
    .uid("numbers")
    .keyBy((n) => (n % 2 === 0 ? "even" : "odd"), Types.STRING())
    .process(() => new KeyedSumFunction(), Types.STRING())
    .uid("sum")
    .sinkTo(FileSink.forRowFormat("out", Encoders.text()))
    .uid("out");
}

// @ts-expect-error -- the declarations know that a LONG is a number
export const notAnything: string = Types.LONG().valueType;
export const testing = [CollectSink<string>, MiniCluster.start];
`;

const TSCONFIG = {
  compilerOptions: {
    target: "esnext",
    lib: ["esnext"],
    module: "nodenext",
    types: ["node"],
    noEmit: true,
    strict: true,
    exactOptionalPropertyTypes: true,
    erasableSyntaxOnly: true,
    verbatimModuleSyntax: true,
    skipLibCheck: false,
  },
  include: ["*.ts"],
} as const;

const place = mkdtempSync(join(tmpdir(), "sluice-newcomer-"));
const registry = await startRegistry(join(ROOT, "node_modules"));

/** Runs a program to its end; fails with what it printed unless the exit code is the expected one. */
async function run(cwd: string, command: string, args: readonly string[], expectedCode = 0): Promise<string> {
  const startedMs = performance.now();
  const { NODE_OPTIONS: _, ...env } = process.env;
  const child = spawn(command, args, {
    cwd,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      ...env,
      PATH: [dirname(process.execPath), process.env["PATH"] ?? ""].join(delimiter),
      npm_config_registry: registry.url,
      npm_config_cache: join(place, "npm-cache"),
      npm_config_userconfig: join(place, "npmrc"),
      npm_config_prefer_offline: "true",
      npm_config_audit: "false",
      npm_config_fund: "false",
      npm_config_update_notifier: "false",
    },
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (more: string) => (output += more));
  child.stderr.setEncoding("utf8").on("data", (more: string) => (output += more));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  const what = [command, ...args].join(" ").replaceAll(place, "").replaceAll(ROOT, "");
  console.log(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(6)} s  ${what}`);
  assert.equal(code, expectedCode, `${what} ended with ${code}:\n${output.slice(-OUTPUT_CHARS_SHOWN)}`);
  return output;
}

function linesOf(folder: string): readonly string[] {
  return globSync("part-*", { cwd: folder })
    .flatMap((file) => readFileSync(join(folder, file), "utf8").trimEnd().split("\n"))
    .toSorted();
}

/** An empty project: the packages, a job, its run. */
async function emptyProject(): Promise<string> {
  const packages = join(place, "packages");
  const project = join(place, "project");
  mkdirSync(project);
  await run(place, process.execPath, [join(ROOT, "tools/pack/main.ts"), "--into", packages]);
  writeFileSync(join(project, "package.json"), '{ "private": true, "type": "module" }\n');
  writeFileSync(join(project, "first.ts"), JOB);
  const tarballs = readdirSync(packages).map((file) => join(packages, file));
  await run(project, "npm", ["install", "--save-exact", ...tarballs]);
  await run(project, "npx", ["sluice", "run", "first.ts", "--parallelism", "2", "--task-managers", "2"]);
  const sums = linesOf(join(project, "out")).map((line) => Number(line.split(" ")[1]));
  assert.equal(sums.length, 2_000);
  assert.deepEqual(sums.toSorted((a, b) => b - a).slice(0, 2), [1_000_000, 999_000]);
  return project;
}

/** A project of `sluice init`, made by the installed command; its compiler also checks the first job, as strictly as it can. */
async function starterProject(from: string): Promise<void> {
  const starter = join(place, "My Jobs");
  const shown = await run(from, "npx", ["sluice", "init", starter]);
  assert.match(shown, /created {2}src\/page-views\.ts/u);
  // As from a warm cache: what is in place already is not unpacked a second time, only checked and completed.
  renameSync(join(from, "node_modules"), join(starter, "node_modules"));
  await run(starter, "npm", ["install"]);
  assert.ok(existsSync(join(starter, "node_modules/@sluice/runtime/dist/index.js")));
  mkdirSync(join(starter, "strict"));
  writeFileSync(join(starter, "strict/tsconfig.json"), JSON.stringify(TSCONFIG));
  writeFileSync(join(starter, "strict/first.ts"), JOB);
  await run(starter, "npx", ["tsc", "-p", "strict"]);
  const tested = await run(starter, "npm", ["test"]);
  assert.match(tested, /pass [1-9]/u);
  assert.match(tested, /fail 0/u);
  await run(starter, "npm", ["start"]);
  const counts = linesOf(join(starter, "out")).map((line) => JSON.parse(line) as { views: number; page: string });
  assert.equal(counts.length, 5_000);
  const again = await run(starter, "npx", ["sluice", "init", starter], 2);
  assert.match(again, /is not empty/u);
}

try {
  await starterProject(await emptyProject());
  console.log("all is as the README says");
} catch (thrown) {
  console.log((thrown as Error).message);
  process.exitCode = 1;
} finally {
  registry.close();
  if (!process.argv.includes("--keep")) rmSync(place, { recursive: true, force: true });
  else console.log(place);
}
