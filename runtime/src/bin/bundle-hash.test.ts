// The identity of a job's code, over folders of small modules.

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

import { afterEach, describe, expect, test } from "@jest/globals";

import { bundleHash, relativeSpecifiers } from "./bundle-hash.ts";

const directories: string[] = [];

afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

const BASE: Readonly<Record<string, string>> = {
  "job/main.ts":
    'import { a } from "./a.ts";\nexport * from "../shared/b.ts";\nimport { Types } from "@sluice/runtime";\n',
  "job/a.ts":
    'import data from "./data.json" with { type: "json" };\nimport "./main.ts"; // a cycle\nexport const a = data;\n',
  "job/data.json": '{"threshold": 5}',
  "shared/b.ts": 'import type { C } from "./c.ts";\nexport const load = () => import("./late.ts");\n',
  "shared/c.ts": "export type C = number;\n",
  "shared/late.ts": "export const late = 1;\n",
  "job/unrelated.ts": "export const other = 1;\n",
};

/** Writes the files into a folder of its own; undefined leaves one out. */
function hashOf(changes: Readonly<Record<string, string | undefined>> = {}): string {
  const directory = mkdtempSync(join(tmpdir(), "sluice-bundle-"));
  directories.push(directory);
  for (const [name, text] of Object.entries({ ...BASE, ...changes })) {
    if (text === undefined) continue;
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), text);
  }
  return bundleHash(pathToFileURL(join(directory, "job/main.ts")).href);
}

describe("BH1, BH2: the hash", () => {
  test.each<readonly [same: boolean, what: string, changes: Readonly<Record<string, string | undefined>>]>([
    [true, "the same files in another folder", {}],
    [true, "a file that nobody imports", { "job/unrelated.ts": "changed" }],
    [false, "the module", { "job/main.ts": `${BASE["job/main.ts"] ?? ""}// changed\n` }],
    [false, "an imported file", { "job/a.ts": `${BASE["job/a.ts"] ?? ""}// changed\n` }],
    [false, "data that an imported file imports", { "job/data.json": '{"threshold": 6}' }],
    [false, "a file above the module's folder, re-exported", { "shared/b.ts": "export const b = 2;\n" }],
    [false, "a file imported at run time by a literal", { "shared/late.ts": "export const late = 2;\n" }],
    [false, "an imported file that is missing", { "shared/c.ts": undefined }],
  ])("is the same (%s): %s", (same, _what, changes) => {
    expect(hashOf(changes) === hashOf()).toBe(same);
  });

  test("follows links, as the loader does", () => {
    const directory = mkdtempSync(join(tmpdir(), "sluice-bundle-"));
    directories.push(directory);
    mkdirSync(join(directory, "real"));
    writeFileSync(join(directory, "real/main.ts"), 'import "./a.ts";\n');
    writeFileSync(join(directory, "real/a.ts"), "export {};\n");
    symlinkSync(join(directory, "real/main.ts"), join(directory, "link.ts"));
    const [direct, linked] = ["real/main.ts", "link.ts"].map((name) =>
      bundleHash(pathToFileURL(join(directory, name)).href),
    );
    expect(linked).toBe(direct);
  });

  test("BH3: is empty for a module that is not there or is no file", () => {
    expect([bundleHash("file:///does/not/exist.ts"), bundleHash("data:text/javascript,0")]).toEqual(["", ""]);
  });
});

test.each<readonly [source: string, specifiers: readonly string[]]>([
  ['import "./a.ts"', ["./a.ts"]],
  ["import a, { b } from './a.ts';export{c}from'../b.ts'", ["./a.ts", "../b.ts"]],
  ['import {\n  a,\n  type B,\n} from\n  "./a.ts";', ["./a.ts"]],
  ['await import( "./a.ts" )', ["./a.ts"]],
  ['import x from "pkg"; import y from "node:fs"; import z from "#own"', []],
  ['const text = "./a.ts"; transform("./b.ts"); reimport "./c.ts"', []],
  ["import(`./${name}.ts`)", []],
])("relative specifiers of %s", (source, specifiers) => {
  expect(relativeSpecifiers(source)).toEqual(specifiers);
});
