// What the packages say of themselves, and what a newcomer does with them.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, test } from "@jest/globals";

import { packageManifest, packageReadme, promisedFiles } from "./manifest.ts";
import type { WorkspaceManifest } from "./manifest.ts";
import { PUBLISHED } from "./stage.ts";

const ROOT = join(import.meta.dirname, "../..");

function workspace(overrides: Partial<WorkspaceManifest> = {}): WorkspaceManifest {
  return {
    name: "@sluice/x",
    version: "1.2.3",
    description: "x",
    license: "Apache-2.0",
    type: "module",
    exports: { ".": "./src/index.ts", "./internal/*": "./src/*/index.ts" },
    ...overrides,
  };
}

function manifestOf(folder: string): WorkspaceManifest {
  return JSON.parse(readFileSync(join(ROOT, folder, "package.json"), "utf8")) as WorkspaceManifest;
}

describe("package.json of a package", () => {
  test("PM1: every entry leads to JavaScript and its declarations, commands to JavaScript", () => {
    const manifest = packageManifest(workspace({ bin: { x: "src/main.ts" } }), "1.2.3");
    expect(manifest.exports).toEqual({
      ".": { types: "./dist/index.d.ts", default: "./dist/index.js" },
      "./internal/*": { types: "./dist/*/index.d.ts", default: "./dist/*/index.js" },
      "./package.json": "./package.json",
    });
    expect(manifest.bin).toEqual({ x: "dist/main.js" });
    expect(promisedFiles(manifest)).toEqual([
      "dist/index.d.ts",
      "dist/index.js",
      "dist/*/index.d.ts",
      "dist/*/index.js",
      "package.json",
      "dist/main.js",
    ]);
  });

  test("nothing of the repository's own use is in it: it can be published", () => {
    const own = { ...workspace(), private: true, devDependencies: { jest: "1.0.0" } };
    expect(Object.keys(packageManifest(own, "1.2.3")).toSorted()).toEqual(
      ["name", "version", "description", "license", "type", "engines", "exports", "files"].toSorted(),
    );
  });

  test("PM2: another version, of the package or of one it asks for, is refused", () => {
    expect(() => packageManifest(workspace(), "1.2.4")).toThrow("packages share one version");
    const loose = workspace({ dependencies: { "@sluice/kit": "^1.2.3" } });
    expect(() => packageManifest(loose, "1.2.3")).toThrow("must be exactly 1.2.3");
  });

  test("an entry that is no TypeScript below src is refused", () => {
    expect(() => packageManifest(workspace({ exports: { ".": "./index.js" } }), "1.2.3")).toThrow("below src");
  });

  test("what a published package asks for is published too", () => {
    const names = new Set<string>();
    const { version } = manifestOf(".");
    for (const folder of PUBLISHED) {
      const { name, dependencies } = packageManifest(manifestOf(folder), version);
      for (const other of Object.keys(dependencies ?? {})) {
        if (other.startsWith("@sluice/")) expect(names).toContain(other);
      }
      names.add(name);
    }
  });
});

test("a newcomer installs the packages, type-checks and runs a job, makes a project, and its tests pass", async () => {
  const program = join(import.meta.dirname, "test/newcomer.ts");
  const child = spawn(process.execPath, [program], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (more: string) => (output += more));
  child.stderr.setEncoding("utf8").on("data", (more: string) => (output += more));
  await new Promise((resolve) => child.once("close", resolve));
  expect(output).toContain("all is as the README says");
}, 600_000);

test("links into the repository become text, others stay", () => {
  expect(packageReadme("See [the keys](../../docs/configuration.md) and [npm](https://example.org/x).")).toBe(
    "See the keys and [npm](https://example.org/x).",
  );
});
