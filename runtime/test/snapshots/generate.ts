// Writes the golden snapshot of the present version: node runtime/test/snapshots/generate.ts
//
// Never over one that a release was made with: a changed format has a new version, a folder of its own, and content of its own.

import { mkdirSync, writeFileSync } from "node:fs";

import { DIRECTORY, writeSnapshot } from "./content.ts";

const FOLDER = new URL("./golden/v1/", import.meta.url);

mkdirSync(FOLDER, { recursive: true });
for (const [path, bytes] of writeSnapshot()) {
  writeFileSync(new URL(`${path.slice(DIRECTORY.length + 1)}.golden`, FOLDER), bytes);
  process.stdout.write(`${path.slice(DIRECTORY.length + 1)} ${bytes.length} bytes\n`);
}
