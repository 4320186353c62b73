// `npm run pack [-- --into DIRECTORY]`: the packages for users as tarballs, in dist/packages unless said otherwise.
//
// Invariants:
//   PK1. The tarballs of one call belong together: those of an earlier call are replaced, never mixed with.
//
// Not here: publishing. What is in a package is said in stage.ts and manifest.ts.

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";

import { runCommand } from "../check/index.ts";
import { compile, PUBLISHED, stagePackage } from "./stage.ts";

const ROOT = join(import.meta.dirname, "../..");
const NPM_NEWS = ["--ignore-scripts", "--loglevel=error", "--no-update-notifier"];

const { values } = parseArgs({ options: { into: { type: "string", default: join(ROOT, "dist/packages") } } });
const into = resolve(values.into);
const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { readonly version: string };
mkdirSync(join(ROOT, "dist"), { recursive: true });
// Below the root, because the compiler looks for the types of libraries from there.
const work = mkdtempSync(join(ROOT, "dist/pack-"));
try {
  const compiled = join(work, "compiled");
  await compile(ROOT, compiled);
  const folders = PUBLISHED.map((folder) => {
    const stage = join(work, folder.replaceAll("/", "-"));
    stagePackage({ root: ROOT, folder, compiled, version, into: stage });
    return stage;
  });
  mkdirSync(into, { recursive: true });
  for (const file of readdirSync(into)) if (/^sluice-.*\.tgz$/u.test(file)) rmSync(join(into, file)); // PK1
  const args = ["pack", "--json", "--pack-destination", into, ...NPM_NEWS, ...folders];
  const { code, stdout, stderr } = await runCommand({ command: "npm", args, cwd: work });
  if (code !== 0) throw new Error(`npm pack failed:\n${(stderr + stdout).trim()}`);
  for (const { filename, size, entryCount } of packed(stdout)) {
    const where = relative(process.cwd(), join(into, filename));
    console.log(`${where}  ${Math.ceil(size / 1024)} kB, ${entryCount} files`);
  }
} catch (thrown) {
  console.error((thrown as Error).message);
  process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly entryCount: number;
}

/** A list, or since npm 12 an object by package. */
function packed(text: string): readonly Packed[] {
  const parsed = JSON.parse(text) as readonly Packed[] | Readonly<Record<string, Packed>>;
  return Array.isArray(parsed) ? (parsed as readonly Packed[]) : Object.values(parsed);
}
