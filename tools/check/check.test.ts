// The checks check: each rule is broken once in a small copy of the repository's shape, and the stage in charge must
// fail and name file and line. The intact copy passes, so that a stage that always fails would be noticed too.

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";

const REPOSITORY = join(import.meta.dirname, "../..");

/** The intact tree: a bit of every place that has rules of its own. */
const TREE: Readonly<Record<string, string>> = {
  ".gitignore": "node_modules\n",
  "packages/kit/package.json": '{ "name": "@sluice/kit", "type": "module" }\n',
  "packages/kit/src/index.ts": 'export { one } from "./one.ts";\n',
  "packages/kit/src/one.ts": "export const one = 1;\n",
  "packages/kit/src/env/node/index.ts":
    'import { readFileSync } from "node:fs";\n\nexport const now = (): number => Date.now() + readFileSync("x").length;\n',
  "runtime/package.json":
    '{ "name": "@sluice/runtime", "type": "module", "dependencies": { "@sluice/kit": "0.1.0" } }\n',
  "runtime/src/index.ts": 'export { two } from "./model/index.ts";\n',
  "runtime/src/model/index.ts": 'export { two } from "./two.ts";\n',
  "runtime/src/model/two.ts":
    'import { assert } from "@sluice/kit";\n\nexport const two = 2;\n\nassert(two > 1, "x");\n',
  "runtime/src/task/index.ts": 'import { two } from "../model/index.ts";\n\nexport const three = two + 1;\n',
  "runtime/src/rpc/index.ts": "export const four = 4;\n",
  "runtime/src/jobmanager/index.ts": 'import { three } from "../task/index.ts";\n\nexport const five = three + 2;\n',
  "runtime/src/task/task.test.ts": 'import { two } from "../model/two.ts";\n\nexport const late = Date.now() + two;\n',
};

let root = "";

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "sluice-check-")));
  spawnSync("git", ["init", "-q"], { cwd: root });
  for (const [file, text] of Object.entries(TREE)) put(file, text);
  for (const file of ["tsconfig.json", ".oxlintrc.json"]) copyFileSync(join(REPOSITORY, file), join(root, file));
  symlinkSync(join(REPOSITORY, "node_modules"), join(root, "node_modules"));
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

function put(file: string, text: string): void {
  mkdirSync(dirname(join(root, file)), { recursive: true });
  writeFileSync(join(root, file), text);
}

function runCheck(stage: string): { readonly code: number | null; readonly output: string } {
  const program = join(REPOSITORY, "tools/check/main.ts");
  const env = { ...process.env, NODE_OPTIONS: "" };
  const child = spawnSync(process.execPath, [program, stage, "--root", root], { encoding: "utf8", env });
  return { code: child.status, output: child.stdout + child.stderr };
}

interface Case {
  readonly name: string;
  readonly stage: string;
  readonly file: string;
  readonly text: string;
  /** Where the stage must point, as "file:line". */
  readonly at: string;
  readonly says: RegExp;
}

/** A case whose offending line is the third of a file of its own in core code. */
function inCore(stage: string, name: string, line: string, says: RegExp): Case {
  const text = `export const before = 0;\n\n${line}\n`;
  return { name, stage, file: "runtime/src/task/broken.ts", text, at: "runtime/src/task/broken.ts:3", says };
}

const CASES: readonly Case[] = [
  inCore("layers", "L1: upward between packages", 'export { Sim } from "@sluice/sim";', /sim/),
  inCore("layers", "L1: across packages by path", 'export { one } from "../../../packages/kit/src/index.ts";', /name/),
  inCore("layers", "L1: a dependency that is not declared", 'import "yaml";', /not among the dependencies/),
  inCore("layers", "L2: upward", 'export { five } from "../jobmanager/index.ts";', /lies above/),
  inCore("layers", "L2: upward, type only", 'export type { X } from "../jobmanager/index.ts";', /lies above/),
  inCore("layers", "L2: upward, dynamic", 'export const x = import("../jobmanager/index.ts");', /lies above/),
  inCore("layers", "L2: same level", 'export { four } from "../rpc/index.ts";', /same level/),
  inCore("layers", "L3: past the index", 'export { two } from "../model/two.ts";', /private to its folder/),
  inCore("layers", "L5: I/O in core code", 'import { readFileSync } from "node:fs";', /does I\/O/),
  inCore("layers", "L5: the real seams in core code", 'import "@sluice/kit/env/node";', /does I\/O/),
  inCore("layers", "L5: a library nobody classified", 'import "node:sqlite";', /not classified/),
  inCore("layers", "L6: test code from shipped code", 'import "./task.test.ts";', /test code/),
  inCore("layers", "a file that is not there", 'import "./nowhere.ts";', /does not exist/),
  {
    name: "L4: a cycle of types",
    stage: "layers",
    file: "packages/kit/src/one.ts",
    text: 'import type { one as self } from "./index.ts";\n\nexport const one: typeof self = 1;\n',
    at: "packages/kit/src/index.ts:1",
    says: /import cycle: packages\/kit\/src\/index.ts -> packages\/kit\/src\/one.ts -> packages\/kit\/src\/index.ts/,
  },
  {
    name: "L2: a folder without a level",
    stage: "layers",
    file: "runtime/src/newfolder/index.ts",
    text: 'import "../model/index.ts";\n',
    at: "runtime/src/newfolder/index.ts:1",
    says: /has no level/,
  },
  {
    name: "L2: the public entry exports what is not for users",
    stage: "layers",
    file: "runtime/src/index.ts",
    text: 'export { five } from "./jobmanager/index.ts";\n',
    at: "runtime/src/index.ts:1",
    says: /public entry/,
  },
  inCore("lint", "a floating promise", "void 0; Promise.resolve(before);", /no-floating-promises/),
  inCore("lint", "a promise as a condition", "if (Promise.resolve(before)) { }", /no-misused-promises/),
  inCore("lint", "any", "export const x: any = before;", /no-explicit-any/),
  inCore("lint", "a default export", "export default before;", /no-default-export/),
  inCore("types", "a wrong type", 'export const x: number = "1";', /TS2322/),
  inCore("types", "syntax that Node cannot strip", "export enum E { A }", /TS1294/),
  inCore("tripwires", "Date.now", "export const x = Date.now();", /Date\.now in core code; use Clock/),
  inCore("tripwires", "new Date()", "export const x = new Date();", /new Date\(\)/),
  inCore("tripwires", "Date through a cast", "export const x = (Date as typeof Date).now();", /Date\.now/),
  inCore("tripwires", "an alias of Math", "export const { random } = Math;", /Math as a value/),
  inCore("tripwires", "a computed member", 'export const x = Math["random"]();', /Math\.random/),
  inCore("tripwires", "a timer", "setTimeout(() => undefined, before);", /setTimeout/),
  inCore("tripwires", "a timer by globalThis", "globalThis.setTimeout(() => undefined, before);", /setTimeout/),
  inCore("tripwires", "the environment", "export const x = process.env;", /process/),
  inCore("tripwires", "fetch handed on", "export const x = { fetch };", /fetch/),
  inCore("tripwires", "chance by a library", 'import { randomUUID } from "node:crypto";', /randomUUID/),
];

describe("npm run check", () => {
  test.each(["layers", "lint", "types", "tripwires"])("%s passes on the intact tree", (stage) => {
    const { code, output } = runCheck(stage);
    expect(output).toContain("1 passed, 0 failed");
    expect(code).toBe(0);
  });

  test.each(CASES)("$stage fails: $name", ({ stage, file, text, at, says }) => {
    put(file, text);
    const { code, output } = runCheck(stage);
    expect(output).toContain(`${at}  `);
    expect(output).toMatch(says);
    expect(output).toContain("0 passed, 1 failed");
    expect(code).toBe(1);
  });

  test("what looks like a global and is none does not trip", () => {
    const lines = [
      "export interface Jobs { process(value: number): void; readonly fetch: number }",
      "export class Clockwork { now = 1; setTimeout(): number { return this.now; } }",
      "export const late = (date: unknown): boolean => date instanceof Date && new Date(5) < date && Math.max(1, 2) > 1;",
    ];
    put("runtime/src/task/fine.ts", lines.join("\n"));
    expect(runCheck("tripwires").output).toContain("1 passed, 0 failed");
  });

  test.each(["layers", "lint", "tripwires", "format", "traces"])(
    "K1: %s fails when there is nothing to check",
    (stage) => {
      put(".gitignore", "*\n");
      for (const folder of ["packages", "runtime"]) rmSync(join(root, folder), { recursive: true });
      const { code, output } = runCheck(stage);
      expect(output).toContain("0 passed, 1 failed");
      expect(code).toBe(1);
    },
  );

  test("traces fails on a path of somebody's machine", () => {
    put("docs/x.md", ["one", `see ${["", "root", "notes.txt"].join("/")}`].join("\n"));
    expect(runCheck("traces").output).toContain("docs/x.md:2  ");
  });

  test("lockfile fails on a download address and on a missing checksum", () => {
    const packages = { "node_modules/x": { version: "1.0.0", resolved: "https://example.org/x.tgz" } };
    put("package-lock.json", JSON.stringify({ packages }, null, 2));
    const { output } = runCheck("lockfile");
    expect(output).toContain("package-lock.json:3  node_modules/x has a download address");
    expect(output).toContain("package-lock.json:3  node_modules/x has no checksum");
  });

  test("an unknown stage is refused with the list of stages", () => {
    const { code, output } = runCheck("layerz");
    expect(output).toContain('unknown stage "layerz"');
    expect(output).toContain("tripwires");
    expect(code).toBe(2);
  });
});
