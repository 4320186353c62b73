// Plain local copies of this TaskManager's packs: the second chance when an object of the store is damaged or gone.
//
//   localState/{object}     the pack's bytes, then u32 crc32c of them, then u32 magic (both little endian)
//
// Invariants:
//   LC1. A copy is used only after its checksum was verified; a torn or foreign file is as good as absent.
//   LC2. Copies of the last confirmed checkpoint and of pending ones are kept, all others are deleted.
//   LC3. A copy is a help, never a duty: a full local disk fails no checkpoint.
//
// Not here: the store (uploads.ts, snapshot-reader.ts).

import { crc32c, toFailure } from "@sluice/kit";
import type { Disk, Log } from "@sluice/kit/env";
import type { CheckpointId } from "../../model/index.ts";

const DIRECTORY = "localState";
const MAGIC = 0x4c43_5031; // "1PCL"
const FOOTER_BYTES = 8;

function pathOf(object: string): string {
  return `${DIRECTORY}/${object}`;
}

function idOf(object: string): CheckpointId | undefined {
  const match = /^chk-([0-9]+)\//u.exec(object);
  return match === null ? undefined : (Number(match[1]) as CheckpointId);
}

export class LocalCopies {
  readonly #disk: Disk;
  readonly #log: Log;
  #confirmedId: CheckpointId | null = null;
  /** The clean-up at the start of an attempt: it would not tell copies of the new attempt from old ones. */
  #starting: Promise<void> = Promise.resolve();

  constructor(options: { readonly disk: Disk; readonly log: Log }) {
    this.#disk = options.disk;
    this.#log = options.log;
  }

  /** LC3. */
  async keep(object: string, bytes: Uint8Array): Promise<void> {
    const framed = new Uint8Array(bytes.byteLength + FOOTER_BYTES);
    framed.set(bytes);
    const footer = new DataView(framed.buffer, bytes.byteLength);
    footer.setUint32(0, crc32c(bytes), true);
    footer.setUint32(4, MAGIC, true);
    await this.#starting;
    try {
      await this.#disk.write(pathOf(object), framed);
    } catch (thrown) {
      this.#log.warn("no local copy of a snapshot is kept", {
        object,
        failure: toFailure(thrown, "DISK_FAILED").message,
      });
    }
  }

  /** The verified bytes, or undefined (LC1). */
  async read(object: string): Promise<Uint8Array | undefined> {
    let framed: Uint8Array | undefined;
    try {
      framed = await this.#disk.read(pathOf(object));
    } catch (thrown) {
      this.#log.warn("a local copy cannot be read", { object, failure: toFailure(thrown, "DISK_FAILED").message });
      return undefined;
    }
    if (framed === undefined || framed.byteLength < FOOTER_BYTES) return undefined;
    const bytes = framed.subarray(0, framed.byteLength - FOOTER_BYTES);
    const footer = new DataView(framed.buffer, framed.byteOffset + bytes.byteLength);
    if (footer.getUint32(4, true) === MAGIC && footer.getUint32(0, true) === crc32c(bytes)) return bytes;
    this.#log.warn("a local copy is torn", { object });
    return undefined;
  }

  /** A new attempt restores this checkpoint: nothing else will ever be asked for. */
  attemptStarted(restoredId: CheckpointId | null): Promise<void> {
    this.#confirmedId = restoredId;
    this.#starting = this.#dropExcept((id) => id === restoredId);
    return this.#starting;
  }

  async completed(id: CheckpointId): Promise<void> {
    if (this.#confirmedId !== null && id <= this.#confirmedId) return;
    this.#confirmedId = id;
    await this.#dropExcept((other) => other >= id); // LC2
  }

  async aborted(id: CheckpointId): Promise<void> {
    if (id === this.#confirmedId) return;
    await this.#dropExcept((other) => other !== id);
  }

  async #dropExcept(keeps: (id: CheckpointId) => boolean): Promise<void> {
    try {
      for (const { path } of await this.#disk.list(`${DIRECTORY}/`)) {
        const id = idOf(path.slice(DIRECTORY.length + 1));
        if (id !== undefined && !keeps(id)) await this.#disk.remove(path);
      }
    } catch (thrown) {
      this.#log.warn("old local copies stay", { failure: toFailure(thrown, "DISK_FAILED").message });
    }
  }
}
