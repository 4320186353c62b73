// Which installed libraries a set of workspaces needs when it runs, by the lock file. Pure but for `isInstalled`.
//
// Invariants (tests cite them):
//   PR1. Every dependency of a workspace and of what it needs is in the answer, from the folder where Node would find it.
//   PR2. Nothing that only development needs is in it.
//   PR3. What the lock file names and is not installed is an error, unless it is optional (another platform's).

export interface LockedPackage {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
  /** Of a link: the workspace's folder. */
  readonly resolved?: string;
  readonly link?: boolean;
}

/** `packages` of package-lock.json, by folder relative to the root. */
export type LockedPackages = Readonly<Record<string, LockedPackage>>;

/** The folders of libraries, relative to the root and sorted; workspaces among the dependencies are followed, not listed. */
export function productionFolders(
  locked: LockedPackages,
  workspaces: readonly string[],
  isInstalled: (folder: string) => boolean,
): readonly string[] {
  const found = new Set<string>();
  const visited = new Set<string>();
  const visit = (folder: string): void => {
    if (visited.has(folder)) return;
    visited.add(folder);
    const entry = locked[folder];
    if (entry === undefined) throw new Error(`package-lock.json does not know ${folder}; run npm install`);
    const optional = { ...entry.optionalDependencies, ...optionalPeers(entry) };
    for (const name of Object.keys({ ...entry.dependencies, ...entry.peerDependencies, ...optional })) {
      const place = placeOf(locked, folder, name);
      if (place !== undefined && locked[place]?.link === true) {
        visit(locked[place].resolved ?? place);
      } else if (place !== undefined && isInstalled(place)) {
        found.add(place);
        visit(place);
      } else if (!(name in optional)) {
        throw new Error(`${folder} needs ${name}, which is not installed; run npm ci`); // PR3
      }
    }
  };
  for (const workspace of workspaces) visit(workspace);
  return [...found].toSorted();
}

function optionalPeers(entry: LockedPackage): Readonly<Record<string, string>> {
  const meta = entry.peerDependenciesMeta ?? {};
  const names = Object.keys(entry.peerDependencies ?? {}).filter((name) => meta[name]?.optional === true);
  return Object.fromEntries(names.map((name) => [name, "*"]));
}

/** As Node resolves: the nearest node_modules upwards that has it. */
function placeOf(locked: LockedPackages, folder: string, name: string): string | undefined {
  for (let at = folder; ; at = at.slice(0, Math.max(0, at.lastIndexOf("/")))) {
    const place = at === "" ? `node_modules/${name}` : `${at}/node_modules/${name}`;
    if (!at.endsWith("/node_modules") && at !== "node_modules" && place in locked) return place;
    if (at === "") return undefined;
  }
}
