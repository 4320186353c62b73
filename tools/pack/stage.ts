// From TypeScript to the folders that npm packs: one compilation for all packages, then one folder each.
//
//   package.json  README.md  LICENSE  NOTICE
//   dist/         JavaScript, declarations, and maps of both
//   src/          the TypeScript that the maps lead to: for debuggers, stacks and "go to definition"; nothing loads it
//   ...           what the workspace lists under "files"
//
// Invariants:
//   SG1. Everything below a workspace's src ships but tests and what only they use; there is no list of files.
//   SG2. Workers, the plan process and their like start the module beside them, whatever its extension: dist mirrors src, with
//        what is no TypeScript as it is.
//
// Not here: package.json (manifest.ts), the tarballs (main.ts).

import { copyFileSync, cpSync, existsSync, globSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, matchesGlob, relative } from "node:path";

import { runCommand, TEST_CODE, toolScript } from "../check/index.ts";
import { packageManifest, packageReadme, promisedFiles } from "./manifest.ts";
import type { WorkspaceManifest } from "./manifest.ts";

/** The workspaces that are published, lowest first; each asks for those before it. */
export const PUBLISHED: readonly string[] = ["packages/kit", "packages/api", "runtime", "packages/cli"];

const NOT_SHIPPED: readonly string[] = [...TEST_CODE, "**/*.fixture.ts"];

/** Emits packages into `into`, which mirrors the repository. Throws with the compiler's words. */
export async function compile(root: string, into: string, folders: readonly string[] = PUBLISHED): Promise<void> {
  const config = join(into, "tsconfig.json");
  mkdirSync(into, { recursive: true });
  writeFileSync(
    config,
    JSON.stringify({
      extends: join(root, "tsconfig.json"),
      compilerOptions: {
        noEmit: false,
        noEmitOnError: true,
        rootDir: root,
        outDir: into,
        declaration: true,
        declarationMap: true,
        sourceMap: true,
        rewriteRelativeImportExtensions: true,
      },
      include: folders.map((folder) => join(root, folder, "src")),
      exclude: NOT_SHIPPED.map((glob) => join(root, glob)),
    }),
  );
  const args = [toolScript("typescript", "tsc"), "--pretty", "false", "-p", config];
  const { code, stdout, stderr } = await runCommand({ command: process.execPath, args, cwd: root });
  if (code !== 0) throw new Error(`the packages do not compile:\n${(stdout + stderr).trim()}`);
}

/** Makes the folder of one package at `into` out of what `compile` emitted. */
export function stagePackage(options: {
  readonly root: string;
  readonly folder: string;
  readonly compiled: string;
  readonly version: string;
  readonly into: string;
}): void {
  const { root, folder, compiled, version, into } = options;
  const workspace = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8")) as WorkspaceManifest;
  const manifest = packageManifest(workspace, version);
  const emitted = join(compiled, folder, "src");
  const files = globSync("**/*.{js,d.ts,map}", { cwd: emitted });
  if (files.length === 0) throw new Error(`${folder}: nothing was compiled`);
  for (const file of files) {
    if (NOT_SHIPPED.some((glob) => matchesGlob(file.replace(/\.(js|d\.ts)(\.map)?$/u, ".ts"), glob))) {
      throw new Error(`${folder}/src/${file} is test code, and something that ships imports it`); // SG1
    }
    const text = readFileSync(join(emitted, file), "utf8");
    write(join(into, "dist", file), file.endsWith(".map") ? mapOf(file, text) : text);
    if (!file.endsWith(".js")) continue;
    const typed = file.replace(/\.js$/u, ".ts");
    cpSync(join(root, folder, "src", typed), join(into, "src", typed));
  }
  const source = join(root, folder, "src");
  const others = globSync("**/*.*", { cwd: source }).filter((file) => !/\.(?:ts|md)$/u.test(file));
  for (const file of others) cpSync(join(source, file), join(into, "dist", file), { recursive: true }); // SG2
  for (const file of promisedFiles(manifest)) {
    if (file === "package.json") continue;
    if (globSync(file, { cwd: into }).length === 0)
      throw new Error(`${manifest.name} promises ${file}, which is absent`); // PM3
  }
  for (const extra of workspace.files ?? []) cpSync(join(root, folder, extra), join(into, extra), { recursive: true });
  write(join(into, "package.json"), `${JSON.stringify(manifest, undefined, 2)}\n`);
  const readme = join(root, folder, "README.md");
  if (!existsSync(readme)) throw new Error(`${folder} has no README.md`);
  write(join(into, "README.md"), packageReadme(readFileSync(readme, "utf8")));
  for (const file of ["LICENSE", "NOTICE"]) copyFileSync(join(root, file), join(into, file));
}

/** A map that leads from dist to src of the same package. */
function mapOf(file: string, text: string): string {
  const map = JSON.parse(text) as { readonly sources: readonly string[] };
  const source = join("src", file.replace(/\.(js|d\.ts)\.map$/u, ".ts"));
  return JSON.stringify({ ...map, sourceRoot: "", sources: [relative(dirname(join("dist", file)), source)] });
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
