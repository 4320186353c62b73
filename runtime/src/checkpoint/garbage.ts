// P6: deletes what was condemned, never what is reachable.
//
// Invariants: CL3, CL7, CL8 of types.ts, and
//   G1. A retained or pinned checkpoint whose metadata cannot be read stops every deletion.
//   G2. `_metadata` goes first: what is half deleted no longer looks like a checkpoint.
//
// Not here: condemning (coordinator.ts).

import { assert, faultPoint, planted } from "@sluice/kit";
import type { ObjectStore } from "@sluice/kit/env";
import type { CheckpointId, CheckpointMetadata } from "../model/index.ts";
import {
  checkpointDirectory,
  checkpointIdOfPath,
  metadataPath,
  readCheckpointMetadata,
  referencedObjects,
} from "./metadata.ts";
import type { CheckpointConfig, CommitRecord } from "./types.ts";

const REMOVE_CONCURRENCY = 8;

export class CheckpointGarbage {
  readonly #store: ObjectStore;
  readonly #jobDir: string;
  readonly #concurrencyMax: number;
  /** Objects by path of `_metadata`, of what is retained or pinned. */
  readonly #objects = new Map<string, ReadonlySet<string>>();

  constructor(store: ObjectStore, jobDir: string, config: Pick<CheckpointConfig, "cleansInParallel">) {
    this.#concurrencyMax = config.cleansInParallel ? REMOVE_CONCURRENCY : 1;
    this.#store = store;
    this.#jobDir = jobDir;
  }

  /** Remembers a checkpoint that this process committed or restored, so that its metadata need not be read again. */
  learn(path: string, metadata: CheckpointMetadata): void {
    this.#objects.set(path, referencedObjects(this.#jobDir, metadata));
  }

  /**
   * Deletes checkpoint `id` as far as `head` (a record of the own epoch) does not reach into it. `mayDelete` is asked before
   * each removal. Rejects with storage failures; what was removed by then stays removed.
   */
  async remove(id: CheckpointId, head: () => CommitRecord, mayDelete: () => boolean): Promise<"removed" | "not-now"> {
    const reachable = await this.#reachable(head());
    if (reachable === undefined) return "not-now"; // G1
    const isKept = [...head().retained, ...head().pins.map((pin) => pin.ref)].some((ref) => ref.id === id);
    const isPlanted = planted("delete-retained-object");
    assert(!isKept || isPlanted, "CL7: nothing retained or pinned is deleted");
    assert(head().condemned.includes(id) || isPlanted, "CL7: only what the log condemned is deleted");
    const first = metadataPath(this.#jobDir, id);
    const listed = (await this.#store.list(checkpointDirectory(this.#jobDir, id))).map((object) => object.path);
    const rest = listed.filter((path) => path !== first);
    const batches = [listed.filter((path) => path === first)]; // G2
    for (let i = 0; i < rest.length; i += this.#concurrencyMax) batches.push(rest.slice(i, i + this.#concurrencyMax));
    for (const batch of batches) {
      if (!mayDelete()) return "not-now"; // CL8
      const victims = batch.filter((path) => isPlanted || !reachable.has(path));
      await Promise.all(victims.map((path) => this.#store.remove(path)));
      if (victims.length > 0 && victims.length < listed.length) faultPoint("P6-during-delete");
    }
    return "removed";
  }

  /** Ids up to `idMax` that lie in the store and that the log does not know: leftovers of earlier epochs. */
  async orphans(idMax: number, head: CommitRecord): Promise<readonly CheckpointId[]> {
    const known = new Set<number>(head.condemned);
    for (const ref of [...head.retained, ...head.pins.map((pin) => pin.ref)]) known.add(ref.id);
    if (head.head !== null) known.add(head.head.id);
    const origin = head.origin === null ? undefined : checkpointIdOfPath(this.#jobDir, head.origin);
    if (origin !== undefined) known.add(origin);
    const found = new Set<CheckpointId>();
    for (const object of await this.#store.list(`${this.#jobDir}/chk-`)) {
      const id = checkpointIdOfPath(this.#jobDir, object.path);
      if (id !== undefined && id <= idMax && !known.has(id)) found.add(id);
    }
    return [...found].sort((a, b) => a - b);
  }

  async #reachable(head: CommitRecord): Promise<ReadonlySet<string> | undefined> {
    const reachable = new Set<string>();
    // A savepoint consists of what lies in its own directory: it reaches nothing here.
    const refs = [
      ...head.retained,
      ...head.pins.map((pin) => pin.ref),
      ...(head.head === null ? [] : [head.head]),
    ].filter(({ kind }) => kind === "checkpoint");
    const wanted = new Set(refs.map((ref) => ref.path));
    for (const path of this.#objects.keys()) if (!wanted.has(path)) this.#objects.delete(path);
    for (const ref of refs) {
      let objects = this.#objects.get(ref.path);
      if (objects === undefined) {
        const bytes = await this.#store.get(ref.path);
        const content = bytes === undefined ? undefined : readCheckpointMetadata(bytes);
        if (content?.type !== "ok") return undefined;
        objects = referencedObjects(this.#jobDir, content.metadata);
        this.#objects.set(ref.path, objects);
      }
      reachable.add(ref.path);
      for (const object of objects) reachable.add(object);
    }
    return reachable;
  }
}
