// Local copies of this TaskManager's packs: recovery reads them first, and repairs the store from them.
//
//   localState/{path in the store}     the pack's bytes, then u32 crc32c of them, then u32 magic (both little endian)
//
// Invariants (tests cite them):
//   LC1. Nothing of a copy is used before it was verified: a part by its handle's checksum (snapshot-reader.ts), a whole copy by its
//        own; a torn or foreign file is as good as absent.
//   LC2. Copies of the last confirmed checkpoint and of pending ones are kept, all others are deleted.
//   LC3. A copy is a help, never a duty: a disk that is full, fails, or does not answer fails no checkpoint and no restore.
//   LC4. Copies never take more than `bytesMax`. For a new one the unneeded go first, then the oldest; those of its own checkpoint stay.
//   LC5. What lies here is known without asking the disk again: reads of what is not held cost nothing.
//
// Not here: the store (uploads.ts, snapshot-reader.ts), which slot goes to the copies (jobmanager/placement.ts).

import { AssertionError, assert, crc32c, formatBytes, toFailure } from "@sluice/kit";
import type { Disk, Host, Log, Timers } from "@sluice/kit/env";
import type { CheckpointId } from "../../model/index.ts";

const DIRECTORY = "localState/";
const MAGIC = 0x4c43_5031; // "1PCL"
const FOOTER_BYTES = 8;
/** Packs that are stored and wait for the local disk only: beyond that an upload waits a little, then goes without a copy. */
const WAITING_BYTES_MAX = 256 * 1024 * 1024;
/** Once per disk that stands still; until it has written something, nobody waits for it any more. */
const PATIENCE_MS = 2_000;
/** A disk that needs longer is not read again in this attempt: the store answers sooner. */
const READ_TIMEOUT_MS = 15_000;
/** A restore waits so long for copies that are being written; what is not there by then is read from the store. */
const SETTLE_TIMEOUT_MS = 2_000;
/** Longest list for the JobManager; what is not in it is only not preferred. */
const PATHS_MAX = 4_096;

export interface LocalCopiesOptions {
  /** Copies are spread over them. None: no copies are made. */
  readonly disks: readonly Disk[];
  readonly bytesMax: number;
  readonly env: { readonly timers: Timers; readonly log: Log; readonly host: Host };
}

interface Held {
  readonly disk: Disk;
  readonly sizeBytes: number;
}

/** Directory of a checkpoint below a job's: `{jobDir}/chk-{id}/`. */
function directoryOf(jobDir: string, id: CheckpointId): string {
  return `${jobDir}/chk-${id}/`;
}

function idOf(path: string): CheckpointId | undefined {
  const match = /(?:^|\/)chk-([0-9]+)\/[^/]+$/u.exec(path);
  return match === null ? undefined : (Number(match[1]) as CheckpointId);
}

export class LocalCopies {
  readonly #options: LocalCopiesOptions;
  readonly #held = new Map<string, Held>();
  readonly #suspects = new Set<Disk>();
  #heldBytes = 0;
  #waitingBytes = 0;
  #isSlow = false;
  /** All changes take turns, after the inventory. */
  #tail: Promise<void>;
  #jobDir = "";
  #confirmedId: CheckpointId | null = null;

  constructor(options: LocalCopiesOptions) {
    this.#options = options;
    this.#tail = Promise.resolve();
    void this.#enqueue("taking stock", () => this.#takeStock());
  }

  /**
   * Keeps a copy soon (LC3); `bytes` must not change any more. The caller says by calling the result that it needs them no longer:
   * from then on only the copy holds their memory. What it returns resolves at once unless there is too much of that.
   */
  keep(path: string, bytes: Uint8Array): () => Promise<void> {
    if (this.#options.disks.length === 0) return () => Promise.resolve();
    const copy: { bytes: Uint8Array | undefined; isHeldHere: boolean } = { bytes, isHeldHere: false };
    const letGo = (): void => {
      copy.bytes = undefined;
      if (copy.isHeldHere) this.#waitingBytes -= bytes.byteLength;
      copy.isHeldHere = false;
    };
    const written = this.#enqueue("keeping a copy", async () => {
      if (copy.bytes === undefined) return;
      try {
        if (this.#isNeeded(path)) await this.#keep(path, copy.bytes);
        this.#isSlow = false;
      } finally {
        letGo();
      }
    });
    return async () => {
      if (copy.bytes === undefined || copy.isHeldHere) return;
      copy.isHeldHere = true;
      this.#waitingBytes += bytes.byteLength;
      if (this.#waitingBytes <= Math.max(WAITING_BYTES_MAX, bytes.byteLength)) return;
      if (!this.#isSlow) await this.#within(written, PATIENCE_MS);
      if (copy.bytes === undefined) return; // written meanwhile
      this.#isSlow = true;
      letGo();
      this.#notKept(path, "the local disk does not keep up");
    };
  }

  /** Paths in the store of what lies here; an empty list when the disk does not say (LC3). */
  async paths(): Promise<readonly string[]> {
    await this.settled();
    return [...this.#held.keys()].slice(-PATHS_MAX);
  }

  /** Waits for the inventory and all changes before, though not for ever; then it is known what is held (LC5). */
  async settled(): Promise<void> {
    await this.#within(this.#tail, SETTLE_TIMEOUT_MS);
  }

  holds(path: string): boolean {
    const held = this.#held.get(path);
    return held !== undefined && !this.#suspects.has(held.disk);
  }

  /** Bytes [offset, offset + lengthBytes) of the pack, for who can verify them (LC1); undefined when they cannot be had. */
  async readRange(
    path: string,
    range: { readonly offset: number; readonly lengthBytes: number },
  ): Promise<Uint8Array | undefined> {
    return this.#read(path, (disk) => disk.readRange(DIRECTORY + path, range));
  }

  /** The whole pack, verified, or undefined (LC1). */
  async read(path: string): Promise<Uint8Array | undefined> {
    await this.settled();
    const framed = await this.#read(path, (disk) => disk.read(DIRECTORY + path));
    if (framed === undefined || framed.byteLength < FOOTER_BYTES) return undefined;
    const bytes = framed.subarray(0, framed.byteLength - FOOTER_BYTES);
    const footer = new DataView(framed.buffer, framed.byteOffset + bytes.byteLength);
    if (footer.getUint32(4, true) === MAGIC && footer.getUint32(0, true) === crc32c(bytes)) return bytes;
    this.#options.env.log.warn("a local copy is torn", { path });
    return undefined;
  }

  /** A new attempt restores this checkpoint: nothing else will ever be asked for. */
  attemptStarted(job: {
    readonly jobDir: string;
    readonly restoreDir: string;
    readonly restoredId: CheckpointId | null;
  }): void {
    const { jobDir, restoreDir, restoredId } = job;
    const restored = restoredId === null ? undefined : directoryOf(restoreDir, restoredId);
    void this.#enqueue("cleaning", async () => {
      this.#jobDir = jobDir;
      this.#confirmedId = restoreDir === jobDir ? restoredId : null;
      this.#suspects.clear();
      await this.#dropExcept((path) => restored !== undefined && path.startsWith(restored));
    });
  }

  completed(id: CheckpointId): void {
    void this.#enqueue("cleaning", async () => {
      if (this.#confirmedId !== null && id <= this.#confirmedId) return;
      this.#confirmedId = id;
      await this.#dropExcept((path) => this.#isNeeded(path)); // LC2
    });
  }

  aborted(id: CheckpointId): void {
    void this.#enqueue("cleaning", async () => {
      if (id === this.#confirmedId) return;
      const directory = directoryOf(this.#jobDir, id);
      await this.#dropExcept((path) => !path.startsWith(directory));
    });
  }

  /** LC2, once an attempt runs. */
  #isNeeded(path: string): boolean {
    const id = idOf(path);
    return id !== undefined && path.startsWith(`${this.#jobDir}/`) && id >= (this.#confirmedId ?? 0);
  }

  #enqueue(what: string, run: () => Promise<void>): Promise<void> {
    const { log, host } = this.#options.env;
    this.#tail = this.#tail.then(run).catch((thrown: unknown) => {
      if (thrown instanceof AssertionError) host.crash(thrown.message);
      log.warn(`local copies: ${what} failed`, { failure: toFailure(thrown, "DISK_FAILED").message });
    });
    return this.#tail;
  }

  async #takeStock(): Promise<void> {
    for (const disk of this.#options.disks) {
      try {
        for (const { path, sizeBytes } of await disk.list(DIRECTORY))
          this.#add(path.slice(DIRECTORY.length), { disk, sizeBytes });
      } catch (thrown) {
        const { message } = toFailure(thrown, "DISK_FAILED");
        this.#options.env.log.warn("a directory of local copies cannot be read", { failure: message });
      }
    }
    await this.#makeRoom(0, undefined); // the limit may be a lower one than that of the process before
  }

  #add(path: string, held: Held): void {
    this.#heldBytes += held.sizeBytes - (this.#held.get(path)?.sizeBytes ?? 0);
    this.#held.set(path, held);
  }

  async #keep(path: string, bytes: Uint8Array): Promise<void> {
    const { disks, bytesMax } = this.#options;
    const sizeBytes = bytes.byteLength + FOOTER_BYTES;
    if (!(await this.#makeRoom(sizeBytes, path))) {
      this.#notKept(path, `${formatBytes(sizeBytes)} do not fit into the limit of ${formatBytes(bytesMax)}`);
      return;
    }
    const footer = new DataView(new ArrayBuffer(FOOTER_BYTES));
    footer.setUint32(0, crc32c(bytes), true);
    footer.setUint32(4, MAGIC, true);
    const pieces = [bytes, new Uint8Array(footer.buffer)];
    const first = crc32c(new TextEncoder().encode(path)) % disks.length;
    let reason = "";
    for (let i = 0; i < disks.length; i += 1) {
      const disk = disks[(first + i) % disks.length] as Disk;
      for (let tries = 0; tries < 2; tries += 1) {
        try {
          await disk.write(DIRECTORY + path, pieces);
          this.#add(path, { disk, sizeBytes });
          assert(this.#heldBytes <= bytesMax, "LC4: local copies stay within their limit");
          return;
        } catch (thrown) {
          if (thrown instanceof AssertionError) throw thrown;
          const failure = toFailure(thrown, "DISK_FAILED");
          reason = failure.message;
          // A disk that others fill: older copies give way, once.
          if (failure.code !== "DISK_FULL" || !(await this.#giveWay(disk, path))) break;
        }
      }
    }
    this.#notKept(path, reason);
  }

  #notKept(path: string, reason: string): void {
    this.#options.env.log.warn("no local copy of a snapshot is kept", { path, reason });
  }

  /** Copies in the order in which they go (LC4); those beside `path` are not among them. */
  #victims(path: string | undefined): readonly string[] {
    const beside = path === undefined ? undefined : path.slice(0, path.lastIndexOf("/") + 1);
    const rank = (other: string): number => (this.#isNeeded(other) ? 1 : 0);
    return [...this.#held.keys()]
      .filter((other) => beside === undefined || !other.startsWith(beside))
      .sort((a, b) => rank(a) - rank(b) || (idOf(a) ?? 0) - (idOf(b) ?? 0));
  }

  /** False: even so there is no room for `sizeBytes` more. */
  async #makeRoom(sizeBytes: number, path: string | undefined): Promise<boolean> {
    const { bytesMax } = this.#options;
    for (const victim of this.#heldBytes + sizeBytes > bytesMax ? this.#victims(path) : []) {
      if (this.#heldBytes + sizeBytes <= bytesMax) break;
      await this.#drop(victim);
    }
    return this.#heldBytes + sizeBytes <= bytesMax;
  }

  /** Removes what is older than `path` on this disk; true when something went. */
  async #giveWay(disk: Disk, path: string): Promise<boolean> {
    let hasGone = false;
    for (const victim of this.#victims(path)) {
      if (this.#held.get(victim)?.disk === disk && (await this.#drop(victim))) hasGone = true;
    }
    return hasGone;
  }

  async #dropExcept(keeps: (path: string) => boolean): Promise<void> {
    for (const path of [...this.#held.keys()]) if (!keeps(path)) await this.#drop(path);
  }

  /** What cannot be removed still takes its room, and is tried again with the next cleaning. */
  async #drop(path: string): Promise<boolean> {
    const held = this.#held.get(path);
    if (held === undefined) return false;
    try {
      await held.disk.remove(DIRECTORY + path);
    } catch (thrown) {
      const { message } = toFailure(thrown, "DISK_FAILED");
      this.#options.env.log.warn("an old local copy stays", { path, failure: message });
      return false;
    }
    this.#held.delete(path);
    this.#heldBytes -= held.sizeBytes;
    return true;
  }

  async #read(path: string, read: (disk: Disk) => Promise<Uint8Array | undefined>): Promise<Uint8Array | undefined> {
    const held = this.#held.get(path);
    if (held === undefined || this.#suspects.has(held.disk)) return undefined;
    const { log } = this.#options.env;
    try {
      const bytes = await this.#within(read(held.disk), READ_TIMEOUT_MS);
      if (bytes !== "late") return bytes;
      this.#suspects.add(held.disk);
      log.warn("the local disk does not answer; it is not read any more in this attempt", { path });
    } catch (thrown) {
      log.warn("a local copy cannot be read", { path, failure: toFailure(thrown, "DISK_FAILED").message });
    }
    return undefined;
  }

  /** LC3: nobody waits for a disk that hangs. */
  async #within<T>(answer: Promise<T>, timeoutMs: number): Promise<T | "late"> {
    const late = Promise.withResolvers<"late">();
    const cancel = this.#options.env.timers.after(timeoutMs, "local-disk-timeout", () => late.resolve("late"));
    try {
      return await Promise.race([answer, late.promise]);
    } finally {
      cancel();
    }
  }
}
