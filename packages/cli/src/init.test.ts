// `sluice init`: what it writes, and what it leaves alone. The project itself is installed and run by tools/pack.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";

import { initProject, TOOLS } from "./init.ts";
import type { InitResult } from "./init.ts";

const ROOT = join(import.meta.dirname, "../../..");
const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { readonly version: string };
const FILES = [
  ".gitignore",
  "README.md",
  "package.json",
  "src/page-views.test.ts",
  "src/page-views.ts",
  "tsconfig.json",
];

let folder = "";
let packages = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sluice-init-"));
  packages = join(folder, "packages");
  mkdirSync(packages);
  for (const name of ["api", "cli", "kit", "runtime"])
    writeFileSync(join(packages, `sluice-${name}-${version}.tgz`), "");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function init(name: string, options: { readonly force?: boolean } = {}): InitResult {
  return initProject({ directory: join(folder, name), packages, force: options.force ?? false });
}

function manifestOf(name: string): Readonly<Record<string, unknown>> {
  return JSON.parse(readFileSync(join(folder, name, "package.json"), "utf8")) as Readonly<Record<string, unknown>>;
}

describe("a new project", () => {
  test("has a job, a test and all that they need; its name is one that npm takes", () => {
    const made = init("deep/My Jobs!");
    expect(made).toMatchObject({ created: FILES, kept: [], notes: [] });
    const written = readdirSync(join(folder, "deep/My Jobs!"), { recursive: true, encoding: "utf8" });
    expect(written.toSorted()).toEqual([...FILES, "src"].toSorted());
    expect(manifestOf("deep/My Jobs!")).toMatchObject({
      name: "my-jobs",
      dependencies: {
        "@sluice/cli": `file:../../packages/sluice-cli-${version}.tgz`,
        "@sluice/runtime": `file:../../packages/sluice-runtime-${version}.tgz`,
      },
    });
    init("???");
    expect(manifestOf("???")).toMatchObject({ name: "sluice-jobs" });
  });

  test("IT2: its tools are those of the repository", () => {
    const { devDependencies, optionalDependencies } = JSON.parse(
      readFileSync(join(ROOT, "package.json"), "utf8"),
    ) as Readonly<Record<string, object>>;
    expect(devDependencies).toMatchObject(TOOLS.devDependencies);
    expect(optionalDependencies).toEqual(TOOLS.optionalDependencies);
  });

  test("may begin in a fresh clone", () => {
    mkdirSync(join(folder, "clone/.git"), { recursive: true });
    expect(init("clone").created).toEqual(FILES);
  });
});

describe("IT1, IT3: what is there stays", () => {
  test("a directory with files is refused, and so is a file; nothing is written", () => {
    mkdirSync(join(folder, "mine"));
    writeFileSync(join(folder, "mine/notes.txt"), "mine");
    expect(() => init("mine")).toThrow(/is not empty \(notes\.txt\)/u);
    expect(readdirSync(join(folder, "mine"))).toEqual(["notes.txt"]);
    expect(() => init("mine/notes.txt")).toThrow("is not a directory");
  });

  test("--force adds what is missing, and says what the user's own package.json still needs", () => {
    mkdirSync(join(folder, "mine"));
    writeFileSync(join(folder, "mine/package.json"), '{ "name": "mine" }');
    writeFileSync(join(folder, "mine/README.md"), "mine");
    const made = init("mine", { force: true });
    expect(made.kept).toEqual(["README.md", "package.json"]);
    expect(made.created).toEqual(FILES.filter((file) => !made.kept.includes(file)));
    expect(manifestOf("mine")).toEqual({ name: "mine" });
    expect(readFileSync(join(folder, "mine/README.md"), "utf8")).toBe("mine");
    expect(made.notes.join()).toContain('"@sluice/runtime": "file:');
  });

  test("packages that are not there are refused before anything is written", () => {
    rmSync(join(packages, `sluice-kit-${version}.tgz`));
    expect(() => init("new")).toThrow(/there is no .*sluice-kit/u);
    expect(existsSync(join(folder, "new"))).toBe(false);
  });
});
