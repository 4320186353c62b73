// Packs: the parts of many subtasks of one checkpoint in one object.
//
// An object holds the parts one after the other, without header: where a part lies is said by its handle (CK2), which travels
// with the acknowledgement into the checkpoint's metadata.
//
// Invariants (protocols 2; tests cite them):
//   PK1. A pack is full with PACK_BYTES or more, and only a full one is closed for its size: so many bytes fill so many objects and
//        no more. A part of that size has a pack of its own, so that no other pack holds as much as twice that.
//   PK2. Parts lie in the order (uid, state, key group), so that a rescaling reader reads long stretches.
//   PK3. Handles and bytes agree: crc32c is taken over exactly [offset, offset + lengthBytes).
//
// Pure: no clock, no I/O; when to close a pack for other reasons is said by uploads.ts.

import { assert, crc32c } from "@sluice/kit";
import type { PartHandle, SnapshotPart } from "../../model/index.ts";

export const PACK_BYTES = 64 * 1024 * 1024;

/** A part in a pack that is still open, with whatever its owner wants back. */
export interface PackEntry<Owner> {
  readonly owner: Owner;
  readonly part: SnapshotPart;
  readonly lengthBytes: number;
}

export interface ClosedPack<Owner> {
  readonly bytes: Uint8Array;
  readonly placed: readonly { readonly owner: Owner; readonly handle: PartHandle }[];
}

/** Bytes of a part. */
export function partBytes(part: SnapshotPart): number {
  let sum = 0;
  for (const chunk of part.chunks) sum += chunk.byteLength;
  return sum;
}

function comparePlace(a: SnapshotPart, b: SnapshotPart): number {
  if (a.uid !== b.uid) return a.uid < b.uid ? -1 : 1;
  if (a.stateName !== b.stateName) return a.stateName < b.stateName ? -1 : 1;
  return (a.keyGroups?.[0] ?? 0) - (b.keyGroups?.[0] ?? 0);
}

/** Collects entries until it is full. */
export class OpenPack<Owner> {
  readonly #packBytes: number;
  readonly #entries: PackEntry<Owner>[] = [];
  #sizeBytes = 0;

  constructor(options: { readonly packBytes: number } = { packBytes: PACK_BYTES }) {
    this.#packBytes = options.packBytes;
  }

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  /** Much of it is there: waiting for others would delay that. */
  get isHalfFull(): boolean {
    return this.#sizeBytes > this.#packBytes / 2;
  }

  /** It is to be closed now (PK1). */
  get isFull(): boolean {
    return this.#sizeBytes >= this.#packBytes;
  }

  add(entry: PackEntry<Owner>): void {
    assert(!this.isFull, "PK1: a full pack takes nothing more");
    this.#entries.push(entry);
    this.#sizeBytes += entry.lengthBytes;
  }

  close(object: string): ClosedPack<Owner> {
    assert(!this.isEmpty, "only a pack with parts is closed");
    const entries = this.#entries.toSorted((a, b) => comparePlace(a.part, b.part)); // PK2
    const bytes = new Uint8Array(this.#sizeBytes);
    const placed: { owner: Owner; handle: PartHandle }[] = [];
    let offset = 0;
    for (const { owner, part, lengthBytes } of entries) {
      let at = offset;
      for (const chunk of part.chunks) {
        bytes.set(chunk, at);
        at += chunk.byteLength;
      }
      assert(at - offset === lengthBytes, "PK3: a part has the length that was counted");
      const { uid, stateName, kind, keyGroups, mode, itemCount } = part;
      const checksum = crc32c(bytes.subarray(offset, at)); // PK3
      const range = {
        ...(keyGroups === undefined ? {} : { keyGroups }),
        ...(mode === undefined ? {} : { mode }),
        ...(itemCount === undefined ? {} : { itemCount }),
      };
      placed.push({ owner, handle: { uid, stateName, kind, ...range, object, offset, lengthBytes, crc32c: checksum } });
      offset = at;
    }
    return { bytes, placed };
  }
}
