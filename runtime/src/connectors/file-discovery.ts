// Which files a file source reads: paths, directories and patterns; and, for one that watches, which of them are new.
//
// Invariants (tests cite them):
//   FD1. A directory means all files below it, a pattern all files that match; names that begin with "." or "_" are hidden: writers use
//        such names until a file is complete.
//   FD2. Every file that is ever discovered is read by exactly one subtask: the one that its path's hash names, decided anew at each
//        parallelism for files that nobody has begun. What was begun is known to all subtasks after a restore (union state).
//   FD3. A file is known from the moment its splits are in the state, never earlier: what was not yet cut when a checkpoint came is
//        discovered again.
//
// Not here: cutting files into splits (file-splits.ts), reading them (file-source.ts).

import { Failure, hashString, isFailure, toFailure } from "@sluice/kit";
import type { OperatorStateContent, SubtaskInfo } from "../model/index.ts";
import type { FileSplit } from "./file-splits.ts";
import { jsonState, jsonValues } from "./json-state.ts";
import type { LocalFiles } from "./local-files.ts";

/** Name of the operator state in which a watching source keeps the files that were begun. */
export const SOURCE_FILES = "source-files";

/** The files that these paths mean now, ascending. Failure INPUT_NOT_FOUND when one of them means none, unless `mayBeNone`. */
export function expandPaths(
  files: LocalFiles,
  paths: readonly string[],
  options: { readonly mayBeNone: boolean },
): readonly string[] {
  const found = new Set<string>();
  for (const path of paths) {
    const expanded = files.expand(path);
    if (expanded === undefined && !options.mayBeNone) {
      found.add(path); // reading it says what is wrong
      continue;
    }
    const visible = (expanded ?? []).filter((file) => file === path || !isHidden(file, path));
    if (visible.length === 0 && !options.mayBeNone) {
      throw new Failure("INPUT_NOT_FOUND", {
        retry: "never",
        message: `${path} holds no files to read`,
        remedy: 'check the directory or pattern; names that begin with "." or "_" are taken for unfinished files',
      });
    }
    for (const file of visible) found.add(file);
  }
  return [...found].sort();
}

/** FD1: a hidden name below the part of the path that the user wrote out. */
function isHidden(file: string, path: string): boolean {
  const fixed = path.replace(/[*?[{].*$/u, "");
  const below = file.startsWith(fixed) ? file.slice(fixed.length) : file;
  return below.split("/").some((name) => name.startsWith(".") || name.startsWith("_"));
}

export interface FileWatchOptions {
  readonly subtask: Pick<SubtaskInfo, "subtaskIndex" | "parallelism">;
  readonly intervalMs: number;
  readonly list: () => readonly string[];
  readonly plan: (path: string) => Promise<readonly FileSplit[]>;
  /** New splits, or a failure to be thrown, are there: poll. */
  readonly onChange: () => void;
}

/** Looks for new files of one subtask, now and then. */
export class FileWatch {
  readonly #options: FileWatchOptions;
  /** Begun by anybody, before the restored checkpoint or by this subtask since. */
  readonly #known = new Set<string>();
  #fresh: FileSplit[] = [];
  #failure: Failure | undefined;
  #isPlanning = false;
  #nextMs = Number.NEGATIVE_INFINITY;

  constructor(options: FileWatchOptions) {
    this.#options = options;
  }

  restore(stored: OperatorStateContent | undefined): void {
    for (const path of jsonValues<string>(stored ?? { items: [] })) this.#known.add(path);
  }

  /** When to look again; Infinity while files are being cut: `onChange` tells. */
  get nextMs(): number {
    return this.#isPlanning ? Number.POSITIVE_INFINITY : this.#nextMs;
  }

  /** Splits of new files, which count as begun from now on (FD3). Looks for more when it is time. */
  take(nowMs: number): readonly FileSplit[] {
    if (this.#failure !== undefined) throw this.#failure;
    const fresh = this.#fresh;
    this.#fresh = [];
    for (const { path } of fresh) this.#known.add(path);
    if (!this.#isPlanning && nowMs >= this.#nextMs) {
      this.#nextMs = nowMs + this.#options.intervalMs;
      this.#look();
    }
    return fresh;
  }

  /** Union state: what this subtask would have to read, were it not begun already. */
  snapshot(): OperatorStateContent {
    return jsonState(
      [...this.#known].filter((path) => this.#isOwn(path)),
      "union",
    );
  }

  #look(): void {
    const { list, plan, onChange } = this.#options;
    const paths = list().filter((path) => this.#isOwn(path) && !this.#known.has(path));
    if (paths.length === 0) return;
    this.#isPlanning = true;
    const planAll = async (): Promise<void> => {
      // One without records is not begun: its writer may have only just made it.
      for (const path of paths) this.#fresh.push(...(await planUnlessGone(plan, path)));
    };
    planAll()
      .catch((thrown: unknown) => (this.#failure = toFailure(thrown, "DISK_FAILED")))
      .finally(() => {
        this.#isPlanning = false;
        onChange();
      });
  }

  /** FD2. */
  #isOwn(path: string): boolean {
    const { subtaskIndex, parallelism } = this.#options.subtask;
    return (hashString(path) >>> 0) % parallelism === subtaskIndex;
  }
}

/** A file that was deleted between the look and the cut was never there. */
async function planUnlessGone(
  plan: (path: string) => Promise<readonly FileSplit[]>,
  path: string,
): Promise<readonly FileSplit[]> {
  try {
    return await plan(path);
  } catch (thrown) {
    if (isFailure(thrown) && thrown.code === "INPUT_NOT_FOUND") return [];
    throw thrown;
  }
}
