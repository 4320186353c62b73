// Reads parts of a restored checkpoint: from the store, else from this TaskManager's own copy; nothing unverified is handed out.
//
// Invariants (tests cite them):
//   SR1. Every part handed out has the length and the checksum of its handle.
//   SR2. "Damaged" is what a complete read showed; a store that does not answer is a failure of the store.
//   SR3. Gaps under 1 MiB are read along; at most READS_MAX ranges are read at the same time.
//
// Not here: who needs which part (checkpoint/assign).

import { crc32c, Failure, retry, toFailure } from "@sluice/kit";
import type { Clock, Log, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import { joinPath, uriOf } from "../../checkpoint/index.ts";
import type { PartHandle } from "../../model/index.ts";
import type { LocalCopies } from "./local-copies.ts";
import { STORE_BACKOFF } from "./uploads.ts";

const GAP_BYTES_MAX = 1024 * 1024;
const RANGE_BYTES_MAX = 64 * 1024 * 1024;
const READS_MAX = 16;
/** A store that fails for so long fails the restore; the restart strategy decides what then. */
const READ_DEADLINE_MS = 60_000;

/** A stretch of one object and the parts inside. */
export interface ReadRange {
  readonly object: string;
  readonly offset: number;
  readonly lengthBytes: number;
  /** Indexes into the request. */
  readonly parts: readonly number[];
}

/** Pure: which ranges to read for these parts (SR3). */
export function planReads(parts: readonly PartHandle[]): readonly ReadRange[] {
  const order = parts
    .map((_, i) => i)
    .sort((a, b) => {
      const left = parts[a] as PartHandle;
      const right = parts[b] as PartHandle;
      return left.object < right.object ? -1 : left.object > right.object ? 1 : left.offset - right.offset;
    });
  const ranges: { object: string; offset: number; lengthBytes: number; parts: number[] }[] = [];
  for (const i of order) {
    const part = parts[i] as PartHandle;
    const last = ranges.at(-1);
    const endBytes = part.offset + part.lengthBytes;
    const isNear =
      last !== undefined &&
      last.object === part.object &&
      part.offset - (last.offset + last.lengthBytes) <= GAP_BYTES_MAX &&
      endBytes - last.offset <= RANGE_BYTES_MAX;
    if (isNear) {
      last.lengthBytes = Math.max(last.lengthBytes, endBytes - last.offset);
      last.parts.push(i);
    } else ranges.push({ object: part.object, offset: part.offset, lengthBytes: part.lengthBytes, parts: [i] });
  }
  return ranges;
}

export interface SnapshotReaderOptions {
  readonly env: { readonly clock: Clock; readonly timers: Timers; readonly rng: Rng; readonly log: Log };
  readonly store: ObjectStore;
  readonly local: LocalCopies;
  /** In `store`; "" is its root. */
  readonly restoreDir: string;
  readonly onDamaged: (object: string, reason: string) => void;
}

export class SnapshotReader {
  readonly #options: SnapshotReaderOptions;

  constructor(options: SnapshotReaderOptions) {
    this.#options = options;
  }

  /** Contents in the order of `parts`. Rejects with SNAPSHOT_DAMAGED naming the object, or STORAGE_*. */
  async read(parts: readonly PartHandle[], signal: AbortSignal): Promise<readonly Uint8Array[]> {
    const contents: Uint8Array[] = Array.from({ length: parts.length });
    const ranges = planReads(parts);
    let next = 0;
    const work = async (): Promise<void> => {
      for (let range = ranges[next]; range !== undefined; range = ranges[next]) {
        next += 1;
        const bytes = await this.#readRange(range, signal);
        let reason: string | undefined = bytes === undefined ? "it is missing" : undefined;
        for (const i of range.parts) {
          if (bytes === undefined || reason !== undefined) break;
          const part = parts[i] as PartHandle;
          const content = bytes.subarray(part.offset - range.offset, part.offset - range.offset + part.lengthBytes);
          reason = partProblem(part, content);
          contents[i] = new Uint8Array(content); // of its own (slice() of a Buffer would not be): it is transferred to the slot
        }
        if (reason !== undefined) await this.#fromLocal(range, parts, contents, reason);
      }
    };
    await Promise.all(Array.from({ length: Math.min(READS_MAX, ranges.length) }, work));
    return contents;
  }

  #readRange(range: ReadRange, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const { store, restoreDir, env } = this.#options;
    const path = joinPath(restoreDir, range.object);
    return retry(() => store.getRange(path, { offset: range.offset, lengthBytes: range.lengthBytes }, signal), {
      backoff: STORE_BACKOFF,
      ...env,
      signal,
      deadlineMs: READ_DEADLINE_MS,
      onRetry: (failure) => env.log.warn("reading a snapshot is tried again", { path, failure: failure.message }),
    }).catch((thrown: unknown) => {
      throw toFailure(thrown, "STORAGE_UNAVAILABLE", `${store.uri}/${path}`); // SR2
    });
  }

  async #fromLocal(
    range: ReadRange,
    parts: readonly PartHandle[],
    contents: Uint8Array[],
    reason: string,
  ): Promise<void> {
    const { store, local, restoreDir, env, onDamaged } = this.#options;
    const { object } = range;
    const copy = await local.read(object);
    const isWhole =
      copy !== undefined &&
      range.parts.every((i) => {
        const part = parts[i] as PartHandle;
        const content = new Uint8Array(copy.subarray(part.offset, part.offset + part.lengthBytes));
        contents[i] = content;
        return partProblem(part, content) === undefined;
      });
    if (isWhole) {
      env.log.warn("restored from the local copy: the object in the store is damaged", { object, reason });
      return;
    }
    onDamaged(object, reason);
    throw new Failure("SNAPSHOT_DAMAGED", {
      retry: "backoff",
      message: `${uriOf(store, joinPath(restoreDir, object))} is damaged (${reason}), and this TaskManager has no copy of it`,
      remedy: "the JobManager looks for a copy on the other TaskManagers; if there is none, it says what can be done",
    });
  }
}

/** SR1. */
function partProblem(part: PartHandle, content: Uint8Array): string | undefined {
  if (content.byteLength !== part.lengthBytes) {
    return `it ends after ${part.offset + content.byteLength} bytes where ${part.offset + part.lengthBytes} were written`;
  }
  return crc32c(content) === part.crc32c ? undefined : `the checksum of ${part.uid}/${part.stateName} does not match`;
}
