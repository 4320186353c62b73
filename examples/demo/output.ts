// The directory that the job's sink writes to, seen from outside.
//
// Invariants:
//   OU1. Committed is what carries a final name; names that begin with a dot belong to the sink.
//   OU2. A committed file never changes, so its rows are counted once.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

import { parsePublishedName } from "@sluice/runtime/internal/connectors";

export interface CommittedFile {
  readonly path: string;
  readonly checkpointId: number;
  readonly subtaskIndex: number;
}

export class Output {
  readonly directory: string;
  readonly #rows = new Map<string, number>();

  constructor(directory: string) {
    this.directory = directory;
  }

  /** In the order in which each subtask wrote them (OU1). */
  files(): readonly CommittedFile[] {
    return this.#names()
      .flatMap((name) => {
        const parsed = parsePublishedName(name);
        return parsed === undefined ? [] : [{ path: join(this.directory, name), ...parsed }];
      })
      .toSorted((a, b) => a.checkpointId - b.checkpointId || a.subtaskIndex - b.subtaskIndex);
  }

  /** Rows of committed files of checkpoints up to `idMax`, without their headers, and the newest checkpoint of them. */
  committed(idMax = Number.POSITIVE_INFINITY): { readonly rows: number; readonly checkpointId: number } {
    let rows = 0;
    let checkpointId = 0;
    for (const file of this.files()) {
      if (file.checkpointId > idMax) break;
      let count = this.#rows.get(file.path);
      if (count === undefined) {
        count = countLines(readFileSync(file.path)) - 1;
        this.#rows.set(file.path, count);
      }
      rows += count;
      checkpointId = Math.max(checkpointId, file.checkpointId);
    }
    return { rows, checkpointId };
  }

  /** Names of the files that are being written now. A new attempt writes new ones. */
  open(): ReadonlySet<string> {
    return new Set(this.#names().filter((name) => name.startsWith(".pending-open-")));
  }

  /** When (wall clock) the first file appeared that was not in `before`; undefined: none has. */
  firstWrittenSince(sinceMs: number, before: ReadonlySet<string>): number | undefined {
    const names = [...this.open()].filter((name) => !before.has(name));
    if (names.length === 0) return undefined;
    const times = names.flatMap((name) => birthMs(join(this.directory, name))).filter((time) => time >= sinceMs);
    return Math.min(Date.now(), ...times); // not every file system knows when a file was born
  }

  #names(): readonly string[] {
    try {
      return readdirSync(this.directory);
    } catch {
      return []; // the sink has not opened it yet
    }
  }
}

function birthMs(path: string): readonly number[] {
  try {
    return [statSync(path).birthtimeMs];
  } catch {
    return []; // sealed meanwhile
  }
}

function countLines(bytes: Uint8Array): number {
  let count = 0;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) count += 1;
  return count;
}
