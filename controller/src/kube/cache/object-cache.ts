// What the controller knows of one resource: the newest seen state of each object, indexed, with a word for each change.
//
// Invariants:
//   OC1. An object is its uid: a name that comes back with another uid is one object deleted and another added.
//   OC2. State never goes back: an older version of an object that is held is ignored.
//   OC3. A handler that throws disturbs neither the cache nor other handlers; the error is reported.
//   OC4. Objects handed out are shared and never changed, neither by the cache nor by receivers (they are readonly types).
//   OC5. Every index names exactly the objects held.
//
// Not here: where changes come from (reflector.ts).

import { assert, deferred } from "@sluice/kit";
import { keyOf } from "../api/objects.ts";
import type { KubeObject, Stored } from "../api/objects.ts";
import { compareVersions } from "./versions.ts";

export type CacheChange<T extends KubeObject> =
  | { readonly type: "added"; readonly object: Stored<T>; readonly isInitial: boolean }
  | { readonly type: "updated"; readonly object: Stored<T>; readonly before: Stored<T> }
  | { readonly type: "deleted"; readonly object: Stored<T> };

export interface ObjectCacheOptions<T extends KubeObject> {
  /** Values that an object is found by, per index. */
  readonly indexes?: Readonly<Record<string, (object: Stored<T>) => readonly string[]>>;
  /** Told of a handler that threw (OC3). */
  readonly onHandlerError: (thrown: unknown) => void;
}

/** The index by uid of owners, which every cache has. */
const OWNER_INDEX = "owner";

/** What readers of a cache need. */
export interface ReadableCache<T extends KubeObject> {
  get(key: string): Stored<T> | undefined;
  byUid(uid: string): Stored<T> | undefined;
  byOwner(ownerUid: string): readonly Stored<T>[];
  byIndex(index: string, value: string): readonly Stored<T>[];
  all(): readonly Stored<T>[];
  readonly size: number;
  readonly isSynced: boolean;
  readonly resourceVersion: string;
}

export class ObjectCache<T extends KubeObject> implements ReadableCache<T> {
  readonly #options: ObjectCacheOptions<T>;
  readonly #byKey = new Map<string, Stored<T>>();
  readonly #byUid = new Map<string, Stored<T>>();
  readonly #indexes = new Map<string, Map<string, Set<string>>>();
  readonly #indexers: ReadonlyMap<string, (object: Stored<T>) => readonly string[]>;
  readonly #handlers = new Set<(change: CacheChange<T>) => void>();
  readonly #synced = deferred<void>();
  #isSynced = false;
  #resourceVersion = "";

  constructor(options: ObjectCacheOptions<T>) {
    this.#options = options;
    assert(options.indexes?.[OWNER_INDEX] === undefined, "the index by owner is the cache's own");
    this.#indexers = new Map([
      ...Object.entries(options.indexes ?? {}),
      [OWNER_INDEX, (object) => (object.metadata.ownerReferences ?? []).map((owner) => owner.uid)],
    ]);
    for (const name of this.#indexers.keys()) this.#indexes.set(name, new Map());
  }

  /** The object of that `namespace/name`. */
  get(key: string): Stored<T> | undefined {
    return this.#byKey.get(key);
  }

  byUid(uid: string): Stored<T> | undefined {
    return this.#byUid.get(uid);
  }

  /** Objects with an owner reference to that uid. */
  byOwner(ownerUid: string): readonly Stored<T>[] {
    return this.byIndex(OWNER_INDEX, ownerUid);
  }

  /** Objects with that value in the index, ordered by key. */
  byIndex(index: string, value: string): readonly Stored<T>[] {
    const keys = this.#indexes.get(index);
    assert(keys !== undefined, "the index was named when the cache was made");
    return [...(keys.get(value) ?? [])].sort().map((key) => this.#byKey.get(key)!);
  }

  all(): readonly Stored<T>[] {
    return [...this.#byKey.values()];
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** True once the first list is in. */
  get isSynced(): boolean {
    return this.#isSynced;
  }

  /** Resolves once the first list is in. */
  whenSynced(): Promise<void> {
    return this.#synced.promise;
  }

  /** All changes up to this version are in; "" before the first list. */
  get resourceVersion(): string {
    return this.#resourceVersion;
  }

  /** Calls `handler` for each change from now on. The returned function ends that. */
  onChange(handler: (change: CacheChange<T>) => void): () => void {
    this.#handlers.add(handler);
    return () => void this.#handlers.delete(handler);
  }

  /** A newer state of one object (OC2). */
  upsert(object: Stored<T>): void {
    const held = this.#byKey.get(keyOf(object));
    if (held !== undefined && held.metadata.uid !== object.metadata.uid) {
      // OC1. An event of the one that is gone already comes late: nothing to learn from it.
      if (isOlder(object, held)) return;
      this.#delete(held);
    }
    this.#put(object);
    this.advance(object.metadata.resourceVersion);
  }

  /** The object is gone; nothing happens when another one has its name. */
  remove(object: Stored<T>): void {
    const held = this.#byUid.get(object.metadata.uid);
    if (held !== undefined) this.#delete(held, object);
    this.advance(object.metadata.resourceVersion);
  }

  /** Of one object a state that was read past the watch. The version that all objects have reached stays. */
  learn(object: Stored<T>): void {
    const reached = this.#resourceVersion;
    this.upsert(object);
    this.#resourceVersion = reached;
  }

  /** It was found gone past the watch. */
  learnGone(object: Stored<T>): void {
    const held = this.#byUid.get(object.metadata.uid);
    if (held !== undefined) this.#delete(held);
  }

  /** A complete list: what is not in it is gone. Returns how many objects were added, changed or deleted. */
  replace(objects: readonly Stored<T>[], resourceVersion: string): number {
    const isInitial = !this.#isSynced;
    const uids = new Set(objects.map((object) => object.metadata.uid));
    let changedCount = 0;
    for (const held of this.#byKey.values()) {
      if (uids.has(held.metadata.uid)) continue;
      this.#delete(held);
      changedCount += 1;
    }
    for (const object of objects) if (this.#put(object, isInitial)) changedCount += 1;
    this.#resourceVersion = resourceVersion; // a list from elsewhere may even be older: what it says is what we know
    this.#isSynced = true;
    this.#synced.resolve();
    assert(this.#byKey.size === this.#byUid.size, "OC1: one object per uid");
    return changedCount;
  }

  /** Nothing else happened up to this version. */
  advance(resourceVersion: string): void {
    const order = compareVersions(resourceVersion, this.#resourceVersion);
    if (order === undefined || order > 0) this.#resourceVersion = resourceVersion;
  }

  #put(object: Stored<T>, isInitial = false): boolean {
    const before = this.#byUid.get(object.metadata.uid);
    if (before !== undefined && (isOlder(object, before) || sameVersion(object, before))) return false; // OC2
    if (before !== undefined) this.#unindex(before);
    this.#byKey.set(keyOf(object), object);
    this.#byUid.set(object.metadata.uid, object);
    this.#index(object);
    this.#tell(before === undefined ? { type: "added", object, isInitial } : { type: "updated", object, before });
    return true;
  }

  #delete(held: Stored<T>, last: Stored<T> = held): void {
    this.#unindex(held);
    this.#byUid.delete(held.metadata.uid);
    if (this.#byKey.get(keyOf(held)) === held) this.#byKey.delete(keyOf(held));
    this.#tell({ type: "deleted", object: last });
  }

  #index(object: Stored<T>): void {
    const key = keyOf(object);
    for (const [name, indexer] of this.#indexers) {
      const index = this.#indexes.get(name)!;
      for (const value of indexer(object)) {
        const keys = index.get(value);
        if (keys === undefined) index.set(value, new Set([key]));
        else keys.add(key);
      }
    }
  }

  #unindex(object: Stored<T>): void {
    const key = keyOf(object);
    for (const [name, indexer] of this.#indexers) {
      const index = this.#indexes.get(name)!;
      for (const value of indexer(object)) {
        const keys = index.get(value);
        keys?.delete(key);
        if (keys?.size === 0) index.delete(value);
      }
    }
  }

  #tell(change: CacheChange<T>): void {
    for (const handler of this.#handlers) {
      try {
        handler(change);
      } catch (thrown) {
        this.#options.onHandlerError(thrown);
      }
    }
  }
}

function isOlder(object: Stored<KubeObject>, than: Stored<KubeObject>): boolean {
  return (compareVersions(object.metadata.resourceVersion, than.metadata.resourceVersion) ?? 0) < 0;
}

function sameVersion(a: Stored<KubeObject>, b: Stored<KubeObject>): boolean {
  return a.metadata.resourceVersion === b.metadata.resourceVersion;
}
