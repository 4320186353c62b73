// Before all tests: what was compiled for them a week ago goes. Its entries are named by path, and every clone and every test's
// temporary folder adds some that nobody asks for again; what is still wanted is compiled once more.

import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";

const KEPT_MS = 7 * 24 * 60 * 60 * 1000;

export default function trimCompiled() {
  const directory = process.env.NODE_COMPILE_CACHE;
  if (directory === undefined || !existsSync(directory)) return;
  for (const name of readdirSync(directory)) {
    if (!/^v\d+\.\d+\.\d+-/u.test(name)) continue; // not one of Node's
    const path = join(directory, name);
    if (Date.now() - statSync(path).birthtimeMs > KEPT_MS) rmSync(path, { recursive: true, force: true });
  }
}
