// The bootstrap, in an empty repository with an npm of ours: when it installs, what it hands through.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";

let root = "";

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "sluice-bootstrap-"));
  mkdirSync(join(root, "tools/check"), { recursive: true });
  copyFileSync(join(import.meta.dirname, "bootstrap.mjs"), join(root, "tools/bootstrap.mjs"));
  put("package-lock.json", "{}");
  put(
    "tools/check/main.ts",
    "console.log(JSON.stringify([process.argv.slice(2), process.env])); process.exitCode = 7;",
  );
  fakeNpm("mkdir -p node_modules/.bin && ln -sf $FAKE_NODE node_modules/.bin/node");
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

function put(file: string, text: string): void {
  mkdirSync(dirname(join(root, file)), { recursive: true });
  writeFileSync(join(root, file), text);
}

/** An npm that notes its arguments and then does `work`. */
function fakeNpm(work: string): void {
  put("bin/npm", `#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "$1" >> npm-calls\n${work}\n`);
  chmodSync(join(root, "bin/npm"), 0o755);
}

function npmCalls(): readonly string[] {
  const file = join(root, "npm-calls");
  return existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : [];
}

function start(...args: readonly string[]): ChildProcess {
  const env = {
    PATH: [join(root, "bin"), process.env["PATH"] ?? ""].join(delimiter),
    FAKE_NODE: process.execPath,
    NODE_OPTIONS: "--experimental-vm-modules --no-deprecation",
  };
  return spawn(process.execPath, [join(root, "tools/bootstrap.mjs"), ...args], { cwd: root, env });
}

interface Outcome {
  readonly code: number;
  readonly output: string;
}

async function finish(child: ChildProcess): Promise<Outcome> {
  let output = "";
  child.stdout?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const [code] = (await once(child, "close")) as [number];
  return { code, output };
}

const run = (...args: readonly string[]): Promise<Outcome> => finish(start(...args));

describe("installing", () => {
  test("happens once, again when the lock file changed, and again when node_modules is gone", async () => {
    await run("check");
    await run("check");
    expect(npmCalls()).toEqual(["ci"]);
    put("package-lock.json", '{ "changed": true }');
    await run("check");
    expect(npmCalls()).toEqual(["ci", "ci"]);
    rmSync(join(root, "node_modules"), { recursive: true });
    await run("check");
    expect(npmCalls()).toEqual(["ci", "ci", "ci"]);
  });

  test("that fails runs nothing, says why and what to do, and starts over next time", async () => {
    fakeNpm("echo no such host >&2; exit 5");
    const failed = await run("check");
    expect(failed.code).toBe(1);
    expect(failed.output).toContain("no such host");
    expect(failed.output).toContain("What to do:");
    fakeNpm("mkdir -p node_modules/.bin && ln -sf $FAKE_NODE node_modules/.bin/node");
    expect((await run("check")).code).toBe(7);
  });

  test("B4: of two at once one installs and both run", async () => {
    fakeNpm("sleep 0.5; mkdir -p node_modules/.bin && ln -sf $FAKE_NODE node_modules/.bin/node");
    const both = await Promise.all([run("check"), run("check")]);
    expect(both.map(({ code }) => code)).toEqual([7, 7]);
    expect(npmCalls()).toEqual(["ci"]);
  });

  test("B4: a lock left by a dead process holds nobody up", async () => {
    const dead = spawn(process.execPath, ["--version"]);
    await once(dead, "exit");
    put(".bootstrap-lock", `${dead.pid}\n`);
    expect((await run("check")).code).toBe(7);
    expect(existsSync(join(root, ".bootstrap-lock"))).toBe(false);
  });
});

describe("running", () => {
  test("hands through arguments and exit code; node is the packaged one; Jest's flag stays behind", async () => {
    const { code, output } = await run("check", "a b", "$HOME", "--x=1");
    expect(code).toBe(7);
    const [args, env] = JSON.parse(output.split("\n").find((line) => line.startsWith("[")) ?? "") as [
      string[],
      NodeJS.ProcessEnv,
    ];
    expect(args).toEqual(["a b", "$HOME", "--x=1"]);
    expect(env["PATH"]?.split(delimiter)[0]).toBe(join(root, "node_modules/.bin"));
    expect(env["NODE_OPTIONS"]).toBe("--no-deprecation");
  });

  test("passes signals on and waits for the program to end", async () => {
    put(
      "tools/check/main.ts",
      'process.on("SIGTERM", () => process.exit(9)); setInterval(() => 0, 1000); console.log("up");',
    );
    const child = start("check");
    child.stdout?.once("data", () => child.kill("SIGTERM"));
    expect((await finish(child)).code).toBe(9);
  });

  test.each([
    [["nope"], 'unknown task "nope"'],
    [["demo"], "examples/demo/main.ts does not exist"],
  ])("%j is refused", async (args, message) => {
    const { code, output } = await run(...args);
    expect(code).toBe(1);
    expect(output).toContain(message);
    expect(output).not.toContain("    at "); // no stack trace
  });
});
