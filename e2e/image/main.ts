// `npm run image [-- --tag sluice:dev] [--base IMAGE] [--load]`: the container image of this working tree.
//
// Invariants:
//   IM1. Libraries are those that the lock file names for production, copied from node_modules; the build itself downloads
//        nothing and runs nothing.
//   IM2. The image is tried before its name is printed: it starts as an unprivileged user on a read-only root.
//
// Not here: the base (base.ts), putting it into a cluster (../cluster/load.ts).

import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";

import { compile, PUBLISHED, stagePackage } from "@sluice/tools/pack";

import { answers, engineOf, findCluster, load, Progress, readRecord, Stop } from "../cluster/index.ts";
import type { Engine } from "../cluster/index.ts";
import { javascriptBase } from "./base.ts";
import { productionFolders } from "./production.ts";
import type { LockedPackages } from "./production.ts";

const ROOT = join(import.meta.dirname, "../..");

/** What the image holds: what users install, and the controller. */
const WORKSPACES = [...PUBLISHED, "controller"];

/** Files that no process opens; licences stay. */
const TYPES_AND_MAPS = /\.(?:d\.[cm]?ts|map)$/u;
const LIBRARY_PROSE = /\.(?:md|markdown)$/u;
const STARTS_MEASURED = 3;

const FOLDERS: readonly (readonly [folder: string, mode: number])[] = [
  ["etc/sluice", 0o755],
  ["etc/sluice-job", 0o755],
  ["opt/sluice/job", 0o777],
  ["var/lib/sluice", 0o777],
];

interface Options {
  readonly tag: string;
  readonly base: string | undefined;
  readonly load: boolean;
}

async function main(options: Options): Promise<void> {
  const progress = new Progress();
  const { engine, mode } = await findEngine();
  const base = options.base ?? (await javascriptBase(engine, mode, progress));
  mkdirSync(join(ROOT, "dist"), { recursive: true });
  const work = mkdtempSync(join(ROOT, "dist/image-")); // below the root, where the compiler finds types
  try {
    const context = join(work, "context");
    await progress.part("compile the packages", () => stage(work, context));
    const before = await idOf(engine, options.tag);
    await progress.part("build the image", () =>
      engine.docker(["build", "-q", "--build-arg", `BASE=${base}`, "-t", options.tag, context]),
    );
    // The one that had the tag before has no name now, and nobody would ever remove it. One in use stays.
    if (before !== undefined && before !== (await idOf(engine, options.tag)))
      await engine.docker(["rmi", before]).catch(() => undefined);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  await progress.part("try it", () => tryImage(engine, options.tag));
  if (options.load) await load(await findCluster(), [options.tag], progress);
  console.error(progress.table());
}

/** The engine of the cluster, so that the image can be loaded into it; without a cluster, one that runs. */
async function findEngine(): Promise<{ readonly engine: Engine; readonly mode: "public" | "own" }> {
  const record = readRecord();
  for (const mode of record === undefined ? (["own", "public"] as const) : [record.mode]) {
    const engine = engineOf(mode);
    if (await answers(engine)) return { engine, mode };
  }
  throw new Stop("no container engine answers", "npm run e2e:cluster starts one (or finds yours) and makes a cluster");
}

async function idOf(engine: Engine, tag: string): Promise<string | undefined> {
  try {
    return (await engine.docker(["image", "inspect", "--format", "{{.Id}}", tag])).trim();
  } catch {
    return undefined;
  }
}

/** Everything that the Dockerfile copies. */
async function stage(work: string, context: string): Promise<void> {
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { readonly version: string };
  const compiled = join(work, "compiled");
  await compile(ROOT, compiled, WORKSPACES);
  for (const folder of WORKSPACES) {
    const { name } = JSON.parse(readFileSync(join(ROOT, folder, "package.json"), "utf8")) as { readonly name: string };
    const staged = join(work, "staged", folder);
    stagePackage({ root: ROOT, folder, compiled, version, into: staged });
    copyPart(staged, join(context, "packages", name), (path) => path !== "src" && !TYPES_AND_MAPS.test(path));
  }
  const lock = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as {
    readonly packages: LockedPackages;
  };
  const folders = productionFolders(lock.packages, WORKSPACES, (folder) => existsSync(join(ROOT, folder)));
  for (const folder of folders) {
    // One that a workspace has for itself, because others need another version, goes below its package.
    const owner = WORKSPACES.find((workspace) => folder.startsWith(`${workspace}/node_modules/`));
    const to =
      owner === undefined
        ? join("libraries", folder.slice("node_modules/".length))
        : join("packages", packageName(owner), folder.slice(owner.length + 1));
    copyPart(join(ROOT, folder), join(context, to), isLibraryCode);
  }
  const command = join(context, "root/usr/local/bin/sluice");
  mkdirSync(dirname(command), { recursive: true });
  copyFileSync(join(import.meta.dirname, "sluice.js"), command);
  chmodSync(command, 0o755);
  // Pods mount over these; on a read-only root they must exist. Without Kubernetes they may be volumes of any user.
  for (const [folder, mode] of FOLDERS) {
    mkdirSync(join(context, "root", folder), { recursive: true });
    chmodSync(join(context, "root", folder), mode);
  }
  copyFileSync(join(import.meta.dirname, "Dockerfile"), join(context, "Dockerfile"));
}

function packageName(folder: string): string {
  return (JSON.parse(readFileSync(join(ROOT, folder, "package.json"), "utf8")) as { readonly name: string }).name;
}

function isLibraryCode(path: string): boolean {
  return path !== "node_modules" && !TYPES_AND_MAPS.test(path) && !LIBRARY_PROSE.test(path);
}

/** Copies a folder. `wanted` sees paths relative to it; a folder that it does not want is left out with all below. */
function copyPart(from: string, to: string, wanted: (path: string) => boolean): void {
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to, { recursive: true, filter: (source) => source === from || wanted(source.slice(from.length + 1)) });
}

/** IM2. */
async function tryImage(engine: Engine, tag: string): Promise<void> {
  const startsMs: number[] = [];
  let version = "";
  for (let n = 0; n < STARTS_MEASURED; n += 1) {
    const startMs = performance.now();
    version = await engine.docker(["run", "--rm", "--read-only", "--network", "none", tag, "--version"]);
    startsMs.push(performance.now() - startMs);
  }
  const user = await engine.docker([
    "run",
    "--rm",
    "--read-only",
    "--network",
    "none",
    "--entrypoint",
    "node",
    tag,
    "-p",
    "process.getuid()",
  ]);
  if (user.trim() === "0") throw new Stop(`${tag} runs as root`, "its Dockerfile must name another user");
  const size = Number(await engine.docker(["image", "inspect", "--format", "{{.Size}}", tag]));
  const starts = startsMs.map((ms) => `${(ms / 1000).toFixed(2)} s`).join(", ");
  console.log(
    `${tag}: sluice ${version.trim()}, ${(size / 1e6).toFixed(0)} MB, user ${user.trim()}, docker run --version in ${starts}`,
  );
}

const { values } = parseArgs({
  options: {
    tag: { type: "string", default: "sluice:dev" },
    base: { type: "string" },
    load: { type: "boolean", default: false },
  },
});
try {
  await main({ tag: values.tag, base: values.base, load: values.load });
} catch (error) {
  if (!(error instanceof Stop)) throw error;
  console.error(`${error.message}\nWhat to do: ${error.remedy}`);
  process.exitCode = 1;
}
