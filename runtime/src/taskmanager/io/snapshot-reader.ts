// Reads parts of a restored checkpoint: from this TaskManager's own copies, else from the store; nothing unverified is handed out.
//
// Invariants (tests cite them):
//   SR1. Every part handed out has the length and the checksum of its handle.
//   SR2. "Damaged" is what a complete read showed; a store that does not answer is a failure of the store.
//   SR3. Gaps under 1 MiB are read along; at most READS_MAX ranges are read at the same time, whoever asked for them.
//   SR4. Local first, part by part: the store is asked for what no copy has whole, and for nothing else.
//
// Not here: who needs which part (checkpoint/assign).

import { assert, crc32c, Failure, retry, toFailure } from "@sluice/kit";
import type { Clock, Log, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import { joinPath, uriOf } from "../../checkpoint/index.ts";
import type { FetchedParts, PartHandle, PartsRead } from "../../model/index.ts";
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

/** Pure: which ranges to read for these parts, or for the `wanted` indexes of them (SR3). */
export function planReads(
  parts: readonly PartHandle[],
  wanted: readonly number[] = parts.map((_, i) => i),
): readonly ReadRange[] {
  const order = wanted.toSorted((a, b) => {
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
      part.offset - (last.offset + last.lengthBytes) < GAP_BYTES_MAX &&
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
  /** `execution.state-recovery.from-local`; false: copies only stand in for damaged objects. */
  readonly readsLocal: boolean;
  /** In `store`; "" is its root. */
  readonly restoreDir: string;
  readonly onDamaged: (object: string, reason: string) => void;
}

/** A request on its way: what is still missing has no content. */
interface Reading {
  readonly parts: readonly PartHandle[];
  readonly contents: (Uint8Array | undefined)[];
  readonly isLocal: boolean[];
  readonly signal: AbortSignal;
}

export class SnapshotReader {
  readonly #options: SnapshotReaderOptions;
  readonly #waiting: (() => void)[] = [];
  #readCount = 0;

  constructor(options: SnapshotReaderOptions) {
    this.#options = options;
  }

  /** Contents in the order of `parts`. Rejects with SNAPSHOT_DAMAGED naming the object, or STORAGE_*. */
  async read(parts: readonly PartHandle[], signal: AbortSignal): Promise<FetchedParts> {
    const { env, local, readsLocal } = this.#options;
    const startedMs = env.clock.nowMs();
    const reading: Reading = {
      parts,
      contents: parts.map(() => undefined),
      isLocal: parts.map(() => false),
      signal,
    };
    if (readsLocal) {
      await local.settled();
      const held = parts.map((part, i) => (local.holds(this.#pathOf(part.object)) ? i : -1)).filter((i) => i >= 0);
      await this.#each(planReads(parts, held), (range) => this.#readLocal(range, reading));
    }
    const missing = parts.map((_, i) => (reading.contents[i] === undefined ? i : -1)).filter((i) => i >= 0);
    await this.#each(planReads(parts, missing), (range) => this.#readStore(range, reading)); // SR4
    const contents = reading.contents.map((content) => {
      assert(content !== undefined, "SR1: every part was read and verified");
      return content;
    });
    return { contents, read: sumOf(reading, env.clock.nowMs() - startedMs) };
  }

  /** SR3. The first failure is told at once; what has begun by then ends unheard. */
  async #each(ranges: readonly ReadRange[], read: (range: ReadRange) => Promise<void>): Promise<void> {
    await Promise.all(
      ranges.map(async (range) => {
        while (this.#readCount >= READS_MAX) await new Promise<void>((resolve) => this.#waiting.push(resolve));
        this.#readCount += 1;
        try {
          await read(range);
        } finally {
          this.#readCount -= 1;
          this.#waiting.shift()?.();
        }
      }),
    );
  }

  #pathOf(object: string): string {
    return joinPath(this.#options.restoreDir, object);
  }

  async #readLocal(range: ReadRange, reading: Reading): Promise<void> {
    const path = this.#pathOf(range.object);
    const bytes = await this.#options.local.readRange(path, range);
    if (bytes === undefined) return;
    const problem = take(range, bytes, reading, { isLocal: true });
    if (problem !== undefined)
      this.#options.env.log.warn("a local copy is damaged; the store has the rest", { path, reason: problem });
  }

  async #readStore(range: ReadRange, reading: Reading): Promise<void> {
    const bytes = await this.#fromStore(range, reading.signal);
    const reason = bytes === undefined ? "it is missing" : take(range, bytes, reading, { isLocal: false });
    if (reason !== undefined) await this.#insteadOfStore(range, reading, reason);
  }

  #fromStore(range: ReadRange, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const { store, env } = this.#options;
    const path = this.#pathOf(range.object);
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

  /** The object in the store is damaged: the copy heals it, where there is one. */
  async #insteadOfStore(range: ReadRange, reading: Reading, reason: string): Promise<void> {
    const { store, local, restoreDir, env, onDamaged } = this.#options;
    const { object } = range;
    await local.settled();
    const bytes = await local.readRange(this.#pathOf(object), range);
    if (bytes !== undefined && take(range, bytes, reading, { isLocal: true }) === undefined) {
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

/** Takes the whole parts out of what was read (SR1); returns what is wrong with the first that is not. */
function take(
  range: ReadRange,
  bytes: Uint8Array,
  reading: Reading,
  from: { readonly isLocal: boolean },
): string | undefined {
  let problem: string | undefined;
  for (const i of range.parts) {
    const part = reading.parts[i] as PartHandle;
    const at = part.offset - range.offset;
    const content = bytes.subarray(at, at + part.lengthBytes);
    const wrong = partProblem(part, content);
    if (wrong === undefined) {
      // Of its own (slice() of a Buffer would not be): it is transferred to the slot.
      const isOwn = bytes.byteLength === bytes.buffer.byteLength && content.byteLength === bytes.byteLength;
      reading.contents[i] = isOwn ? bytes : new Uint8Array(content);
      reading.isLocal[i] = from.isLocal;
    } else problem ??= wrong;
  }
  return problem;
}

function sumOf({ parts, isLocal }: Reading, readMs: number): PartsRead {
  const sum = { localParts: 0, localBytes: 0, storeParts: 0, storeBytes: 0, readMs };
  parts.forEach(({ lengthBytes }, i) => {
    if (isLocal[i] === true) {
      sum.localParts += 1;
      sum.localBytes += lengthBytes;
    } else {
      sum.storeParts += 1;
      sum.storeBytes += lengthBytes;
    }
  });
  return sum;
}

/** SR1. */
function partProblem(part: PartHandle, content: Uint8Array): string | undefined {
  if (content.byteLength !== part.lengthBytes) {
    return `it ends after ${part.offset + content.byteLength} bytes where ${part.offset + part.lengthBytes} were written`;
  }
  return crc32c(content) === part.crc32c ? undefined : `the checksum of ${part.uid}/${part.stateName} does not match`;
}
