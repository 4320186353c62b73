// LF1 on real paths.

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { localFiles } from "./local-files.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "sluice-local-files-"));
  writeFileSync(join(folder, "file"), "");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test.each(["file", "file/below", "file/far/below"])(
  "LF1: a directory at %s, where a file stands, can never be made",
  (path) => {
    expect(() => localFiles.makeDirectory(join(folder, path))).toThrow(
      expect.objectContaining({
        code: "CONFIG_INVALID",
        retry: "never",
        message: expect.stringContaining(`cannot create directory ${join(folder, path)}: `),
      }),
    );
  },
);

test("a directory that is missing is made, with those above it", () => {
  localFiles.makeDirectory(join(folder, "a/b/c"));
  expect(existsSync(join(folder, "a/b/c"))).toBe(true);
});
