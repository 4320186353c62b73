// Which libraries ship in the image.

import { describe, expect, test } from "@jest/globals";

import { productionFolders } from "./production.ts";
import type { LockedPackages } from "./production.ts";

const LOCKED: LockedPackages = {
  "": {},
  runtime: { dependencies: { "@sluice/kit": "1", express: "5" } },
  "packages/kit": { dependencies: { minio: "8" } },
  "packages/other": { dependencies: { unrelated: "1" } },
  "node_modules/@sluice/kit": { resolved: "packages/kit", link: true },
  "node_modules/express": { dependencies: { debug: "4" }, optionalDependencies: { "only-elsewhere": "1" } },
  "node_modules/express/node_modules/debug": { dependencies: { ms: "2" } },
  "node_modules/debug": { dependencies: { "not-this-one": "1" } },
  "node_modules/minio": {
    dependencies: { debug: "4" },
    peerDependencies: { peer: "1", maybe: "1" },
    peerDependenciesMeta: { maybe: { optional: true } },
  },
  "node_modules/ms": {},
  "node_modules/not-this-one": {},
  "node_modules/peer": {},
  "node_modules/only-elsewhere": {},
  "node_modules/unrelated": {},
};
const EVERYTHING = (): boolean => true;

describe("production libraries", () => {
  test("PR1: what a workspace and its libraries need, from where Node finds it", () => {
    const folders = productionFolders(LOCKED, ["runtime"], (folder) => !folder.endsWith("only-elsewhere"));
    expect(folders).toEqual([
      "node_modules/debug", // by way of the workspace kit and minio
      "node_modules/express",
      "node_modules/express/node_modules/debug",
      "node_modules/minio",
      "node_modules/ms",
      "node_modules/not-this-one",
      "node_modules/peer",
    ]);
  });

  test("PR2: nothing of workspaces that do not ship", () => {
    expect(productionFolders(LOCKED, ["packages/kit"], EVERYTHING)).not.toContain("node_modules/unrelated");
    expect(productionFolders(LOCKED, ["packages/other"], EVERYTHING)).toEqual(["node_modules/unrelated"]);
  });

  test("PR3: one that is absent is an error, unless it is optional", () => {
    const without = (name: string) => (folder: string) => !folder.endsWith(`/${name}`);
    expect(() => productionFolders(LOCKED, ["runtime"], without("ms"))).toThrow(
      "debug needs ms, which is not installed",
    );
    expect(productionFolders(LOCKED, ["runtime"], without("only-elsewhere"))).not.toContain(
      "node_modules/only-elsewhere",
    );
    expect(productionFolders(LOCKED, ["runtime"], EVERYTHING)).toContain("node_modules/only-elsewhere");
  });
});
