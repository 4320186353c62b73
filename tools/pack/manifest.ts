// From a workspace's package.json to that of its package: JavaScript and declarations instead of TypeScript. Pure.
//
// Invariants (tests cite them):
//   PM1. Every entry that the workspace exports is exported by the package, under the same name: nobody keeps a second list.
//   PM2. All packages have one version and ask for each other in exactly that one: they share formats and internals.
//   PM3. An entry that leads nowhere in `dist` is an error of the packing, not of the user who imports it.
//
// Not here: the files (stage.ts).

/** What this reads of a workspace's package.json. */
export interface WorkspaceManifest {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly license: string;
  readonly type: "module";
  readonly exports: Readonly<Record<string, string>>;
  readonly bin?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  /** Folders that ship beside src. */
  readonly files?: readonly string[];
}

/** How TypeScript and Node find one entry. */
export interface Entry {
  readonly types: string;
  readonly default: string;
}

export interface PackageManifest extends Omit<WorkspaceManifest, "exports"> {
  readonly engines: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, Entry | string>>;
  readonly files: readonly string[];
}

/** Jobs are TypeScript that Node strips itself, without a warning since this version. */
const ENGINES = { node: ">=24.12" } as const;

const SOURCE = /^(?:\.\/)?src\/(.+)\.ts$/u;

/** The package.json of the package. Throws when an entry is not TypeScript below src, or versions differ (PM2). */
export function packageManifest(workspace: WorkspaceManifest, version: string): PackageManifest {
  const { name, dependencies, bin } = workspace;
  if (workspace.version !== version) {
    throw new Error(`${name} has version ${workspace.version}, the repository ${version}: packages share one version`);
  }
  for (const [other, wanted] of Object.entries(dependencies ?? {})) {
    if (other.startsWith("@sluice/") && wanted !== version) {
      throw new Error(`${name} asks for ${other} ${wanted}; it must be exactly ${version}`);
    }
  }
  const exports = Object.entries(workspace.exports).map(([key, file]) => {
    const stem = stemOf(name, file);
    return [key, { types: `./dist/${stem}.d.ts`, default: `./dist/${stem}.js` }] as const;
  });
  const commands = Object.entries(bin ?? {}).map(([key, file]) => [key, `dist/${stemOf(name, file)}.js`] as const);
  return {
    name,
    version,
    description: workspace.description,
    license: workspace.license,
    type: workspace.type,
    engines: ENGINES,
    exports: { ...Object.fromEntries(exports), "./package.json": "./package.json" },
    ...(bin === undefined ? {} : { bin: Object.fromEntries(commands) }),
    ...(dependencies === undefined ? {} : { dependencies }),
    files: ["dist", "src", ...(workspace.files ?? [])],
  };
}

/** Files that the manifest promises, relative to the package; a `*` stands for itself (PM3). */
export function promisedFiles(manifest: PackageManifest): readonly string[] {
  const entries = Object.values(manifest.exports).flatMap((entry) =>
    typeof entry === "string" ? [entry] : [entry.types, entry.default],
  );
  return [...entries, ...Object.values(manifest.bin ?? {})].map((file) => file.replace(/^\.\//u, ""));
}

function stemOf(name: string, file: string): string {
  const stem = SOURCE.exec(file)?.[1];
  if (stem === undefined) throw new Error(`${name}: entry ${file} is not TypeScript below src`);
  return stem;
}

/** A README for readers outside the repository: links into the repository become plain text. */
export function packageReadme(text: string): string {
  return text.replaceAll(/\[([^\]]+)\]\((?![a-z]+:|#)[^)]*\)/gu, "$1");
}
