// The state of a simulated API server: objects, versions, the log of changes. Synchronous: a request is done or refused.
//
// Invariants:
//   KS1. Every change takes the next resourceVersion of one counter; the log holds all changes since the last compaction.
//   KS2. A write with an old resourceVersion, or a delete with another uid, changes nothing and is a Conflict.
//   KS3. generation counts changes of anything but metadata and status, of kinds that have one.
//   KS4. The main resource never writes status, the status subresource nothing else.
//   KS5. An object with finalizers, or a pod on a node, is marked by a delete and goes when the last of them goes.
//   KS6. A write that changes nothing takes no version and makes no event.
//
// Not here: time, faults, watches (server.ts); garbage collection (collector.ts).

import { ApiError, apiVersionOf, objectKey, resourceName } from "@sluice/controller/internal/kube";
import type {
  CreateRequest,
  DeleteRequest,
  KubeObject,
  KubeRequest,
  ListRequest,
  ObjectList,
  PatchRequest,
  ResourceType,
  StatusAnswer,
  Stored,
  UpdateRequest,
} from "@sluice/controller/internal/kube";
import type { Rng } from "@sluice/kit/env";
import { apply, ownedAfterWrite } from "./field-managers.ts";
import type { Ownership } from "./field-managers.ts";
import { selects } from "./selectors.ts";
import { frozenCopy, isTree, mergePatch, sameTree, subtree, without } from "./trees.ts";
import type { Tree } from "./trees.ts";

export type AnyObject = Stored<KubeObject>;

/** One change, as watches see it. */
export interface Change {
  readonly version: number;
  readonly type: ResourceType;
  readonly key: string;
  readonly before: AnyObject | undefined;
  /** Undefined: deleted. */
  readonly after: AnyObject | undefined;
}

interface Entry {
  readonly type: ResourceType;
  readonly key: string;
  object: AnyObject;
  owners: Ownership;
}

export interface StateOptions {
  readonly rng: Rng;
  /** Milliseconds since the epoch, for timestamps. */
  readonly wallMs: () => number;
  /** Called after each change. */
  readonly onChange: (change: Change) => void;
  /** Throws ApiError for objects that a schema or an admission rule refuses. */
  readonly admit?: (type: ResourceType, object: KubeObject, before: AnyObject | undefined) => void;
}

const DEFAULT_GRACE_SECONDS = 30;
/** Kinds of the core whose objects have a generation; custom resources all have one. */
const KINDS_WITH_GENERATION = new Set(["Pod"]);

export class KubeState {
  readonly #options: StateOptions;
  readonly #entries = new Map<string, Map<string, Entry>>();
  readonly #pages = new Map<string, { readonly version: number; readonly rest: readonly AnyObject[] }>();
  #log: Change[] = [];
  #version = 1;
  #compactedTo = 1;
  #uidCount = 0;
  #pageCount = 0;

  constructor(options: StateOptions) {
    this.#options = options;
  }

  /** The newest resourceVersion. */
  get version(): number {
    return this.#version;
  }

  /** Watches from before this version are refused. */
  get compactedTo(): number {
    return this.#compactedTo;
  }

  /** Does what the request says, or throws ApiError. */
  execute(request: KubeRequest): AnyObject | ObjectList | StatusAnswer {
    switch (request.verb) {
      case "get":
        return this.#entry(request.type, request.namespace, request.name).object;
      case "list":
        return this.#list(request);
      case "create":
        return this.#create(request);
      case "update":
        return this.#update(request);
      case "patch":
        return this.#patch(request);
      case "delete":
        return this.#delete(request);
      default:
        throw refused(405, "MethodNotAllowed", "no such verb");
    }
  }

  /** The object, as the world sees it. */
  find<T extends KubeObject>(type: ResourceType<T>, at: { readonly namespace?: string; readonly name: string }) {
    return this.#of(type).get(objectKey(at.namespace, at.name))?.object as Stored<T> | undefined;
  }

  /** All objects of a type, in the order of their keys. */
  all<T extends KubeObject>(type: ResourceType<T>): readonly Stored<T>[] {
    return this.#sorted(type).map((entry) => entry.object as Stored<T>);
  }

  /** All objects of all types. */
  everything(): readonly { readonly type: ResourceType; readonly object: AnyObject }[] {
    return [...this.#entries.values()].flatMap((of) => [...of.values()]);
  }

  /** The world's own hand (kubelet, scheduler, users with superpowers): any change, by none of the rules but KS1 and KS6. */
  edit<T extends KubeObject>(
    type: ResourceType<T>,
    at: { readonly namespace?: string; readonly name: string },
    change: (object: Stored<T>) => unknown,
  ): Stored<T> {
    const entry = this.#entry(type, at.namespace, at.name);
    return this.#put(entry, change(entry.object as Stored<T>) as Tree, entry.owners) as Stored<T>;
  }

  /** Removes it at once, whatever its finalizers say. */
  remove(type: ResourceType, at: { readonly namespace?: string; readonly name: string }): void {
    this.#gone(this.#entry(type, at.namespace, at.name));
  }

  /** Changes after `version`, of one type; "expired" when the log no longer reaches back. */
  changesAfter(version: number, type: ResourceType): readonly Change[] | "expired" {
    if (version < this.#compactedTo) return "expired";
    const name = resourceName(type);
    const changes: Change[] = [];
    for (let i = this.#log.length - 1; i >= 0 && this.#log[i]!.version > version; i -= 1) {
      if (resourceName(this.#log[i]!.type) === name) changes.push(this.#log[i]!);
    }
    return changes.reverse();
  }

  /** Forgets the log up to `version` and the pages of older lists. */
  compact(version = this.#version): void {
    this.#compactedTo = Math.max(this.#compactedTo, Math.min(version, this.#version));
    this.#log = this.#log.filter((change) => change.version > this.#compactedTo);
    for (const [token, page] of this.#pages) if (page.version < this.#compactedTo) this.#pages.delete(token);
  }

  #list(request: ListRequest): ObjectList {
    const limit = request.limit ?? Number.MAX_SAFE_INTEGER;
    if (request.continue !== undefined) {
      const page = this.#pages.get(request.continue);
      this.#pages.delete(request.continue);
      if (page === undefined) throw expired("the provided continue parameter is too old");
      return this.#page(page.rest, page.version, limit);
    }
    const atLeast = Number(request.resourceVersion ?? "0");
    if (atLeast > this.#version) throw tooLarge(atLeast, this.#version);
    const items = this.#sorted(request.type)
      .map((entry) => entry.object)
      .filter((object) => request.namespace === undefined || object.metadata.namespace === request.namespace)
      .filter((object) => selects(object as unknown as Tree, request.labelSelector, request.fieldSelector));
    return this.#page(items, this.#version, limit);
  }

  #page(items: readonly AnyObject[], version: number, limit: number): ObjectList {
    const resourceVersion = String(version);
    if (items.length <= limit) return { metadata: { resourceVersion }, items };
    this.#pageCount += 1;
    const token = `page-${this.#pageCount}`;
    this.#pages.set(token, { version, rest: items.slice(limit) });
    const remainingItemCount = items.length - limit;
    return { metadata: { resourceVersion, continue: token, remainingItemCount }, items: items.slice(0, limit) };
  }

  #create(request: CreateRequest): AnyObject {
    const { type, namespace, body } = request;
    const prefix = body.metadata.generateName;
    const name = body.metadata.name ?? (prefix === undefined ? "" : prefix + this.#suffix());
    if (name === "") throw refused(422, "Invalid", `${type.kind} "" is invalid: metadata.name: Required value`);
    this.#checkNamespace(type, namespace);
    const key = objectKey(namespace, name);
    if (this.#of(type).has(key)) throw refused(409, "AlreadyExists", `${resourceName(type)} "${name}" already exists`);
    return this.#insert(type, key, {
      body: without({ ...body, metadata: { ...body.metadata, name } }, "status"),
      owners: new Map(),
      manager: request.fieldManager,
      isTrial: request.dryRun === true,
    });
  }

  #insert(
    type: ResourceType,
    key: string,
    from: {
      readonly body: Tree;
      readonly owners: Ownership;
      readonly manager: string | undefined;
      /** Checked and answered, not stored. */
      readonly isTrial?: boolean;
    },
  ): AnyObject {
    this.#uidCount += 1;
    const { rng, wallMs } = this.#options;
    const given = without(subtree(from.body, "metadata"), "resourceVersion", "uid", "deletionTimestamp");
    const metadata = {
      ...given,
      uid: `uid-${this.#uidCount}-${rng.u32().toString(16)}`,
      creationTimestamp: timestamp(wallMs()),
      ...(hasGeneration(type) && { generation: 1 }),
    };
    const object = { ...from.body, metadata } as unknown as AnyObject;
    this.#options.admit?.(type, object, undefined);
    const owners = from.manager === undefined ? from.owners : ownedAfterWrite({}, from.body, from.owners, from.manager);
    if (from.isTrial === true) return object;
    const entry: Entry = { type, key, object, owners };
    this.#version += 1;
    entry.object = stamped(object, this.#version);
    this.#of(type).set(key, entry);
    this.#record({ version: this.#version, type, key, before: undefined, after: entry.object });
    return entry.object;
  }

  #update(request: UpdateRequest): AnyObject {
    const entry = this.#entry(request.type, request.namespace, request.name);
    this.#checkPreconditions(entry, { resourceVersion: request.body.metadata.resourceVersion });
    const uid = request.body.metadata.uid;
    if (uid !== undefined) this.#checkPreconditions(entry, { uid });
    return this.#write(entry, frozenCopy(request.body), request);
  }

  #patch(request: PatchRequest): AnyObject {
    const { type, namespace, name } = request;
    const key = objectKey(namespace, name);
    const entry = this.#of(type).get(key);
    const body = isTree(request.body) ? frozenCopy(request.body) : {};
    const manager = request.fieldManager ?? "";
    if (request.patchType === "merge") {
      const found = this.#entry(type, namespace, name);
      const { resourceVersion, uid } = subtree(body, "metadata") as { resourceVersion?: string; uid?: string };
      this.#checkPreconditions(found, { resourceVersion, uid });
      return this.#write(found, mergePatch(found.object, body) as Tree, request);
    }
    if (manager === "") throw refused(400, "BadRequest", "fieldManager is required for apply patch");
    const live = entry?.object ?? {};
    const { resourceVersion, uid } = subtree(body, "metadata") as { resourceVersion?: string; uid?: string };
    if (entry !== undefined) this.#checkPreconditions(entry, { resourceVersion, uid });
    else if (uid !== undefined) {
      throw refused(409, "Conflict", `${resourceName(type)} "${name}": uid mismatch: ${uid} is not there`);
    }
    const applied = apply(live as Tree, entry?.owners ?? new Map(), { manager, body, force: request.force === true });
    if ("conflicts" in applied) throw refused(409, "Conflict", `Apply failed: ${applied.conflicts.join("; ")}`);
    if (entry !== undefined) return this.#write(entry, applied.object, request, applied.owners);
    if (request.subresource !== undefined) throw notFound(type, name);
    this.#checkNamespace(type, namespace);
    const metadata = { ...subtree(applied.object, "metadata"), name, ...(namespace !== undefined && { namespace }) };
    const created = { ...applied.object, apiVersion: apiVersionOf(type), kind: type.kind, metadata };
    return this.#insert(type, key, { body: without(created, "status"), owners: applied.owners, manager: undefined });
  }

  /** Writes what the (sub)resource may write (KS4), bumps the generation (KS3), ends deletions (KS5). */
  #write(
    entry: Entry,
    wanted: Tree,
    request: { readonly subresource?: "status"; readonly fieldManager?: string },
    owners?: Ownership,
  ): AnyObject {
    const live = entry.object as unknown as Tree;
    let next: Tree;
    if (request.subresource === "status") {
      next = { ...live, status: wanted["status"] };
    } else {
      const fixed = ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "generation"];
      fixed.push("deletionGracePeriodSeconds", "generateName", "resourceVersion");
      const liveMetadata = subtree(live, "metadata");
      const kept = Object.fromEntries(Object.entries(liveMetadata).filter(([name]) => fixed.includes(name)));
      const metadata = { ...without(subtree(wanted, "metadata"), ...fixed), ...kept };
      next = { ...wanted, apiVersion: live["apiVersion"], kind: live["kind"], metadata, status: live["status"] };
      if (live["status"] === undefined) next = without(next, "status");
      const changed = !sameTree(without(frozenCopy(next), "metadata", "status"), without(live, "metadata", "status"));
      if (changed && hasGeneration(entry.type)) {
        next = { ...next, metadata: { ...metadata, generation: Number(liveMetadata["generation"] ?? 0) + 1 } };
      }
    }
    next = frozenCopy(next);
    this.#options.admit?.(entry.type, next as unknown as AnyObject, entry.object);
    const manager = request.fieldManager;
    const owned = owners ?? (manager === undefined ? entry.owners : ownedAfterWrite(live, next, entry.owners, manager));
    const stored = this.#put(entry, next, owned);
    const { deletionTimestamp, finalizers = [], deletionGracePeriodSeconds = 0 } = stored.metadata;
    // KS5: the last finalizer of a marked object is gone; a pod still waits for its node.
    const waits = finalizers.length > 0 || (isOnNode(stored) && deletionGracePeriodSeconds > 0);
    if (deletionTimestamp !== undefined && !waits) this.#gone(entry);
    return stored;
  }

  #delete(request: DeleteRequest): AnyObject | StatusAnswer {
    const entry = this.#entry(request.type, request.namespace, request.name);
    this.#checkPreconditions(entry, { uid: request.uid, resourceVersion: request.resourceVersion });
    const { metadata } = entry.object;
    const finalizers = [...(metadata.finalizers ?? [])];
    if (request.propagationPolicy === "Foreground" && !finalizers.includes("foregroundDeletion")) {
      finalizers.push("foregroundDeletion");
    }
    if (request.propagationPolicy === "Orphan" && !finalizers.includes("orphan")) finalizers.push("orphan");
    const graceSeconds = isOnNode(entry.object) ? (request.gracePeriodSeconds ?? DEFAULT_GRACE_SECONDS) : 0;
    if (finalizers.length === 0 && graceSeconds === 0) {
      this.#gone(entry);
      return { kind: "Status", status: "Success" };
    }
    const isMarked = metadata.deletionTimestamp !== undefined;
    const shorter = isMarked && graceSeconds < (metadata.deletionGracePeriodSeconds ?? 0);
    if (isMarked && !shorter) return entry.object;
    const marked = {
      ...entry.object,
      metadata: {
        ...metadata,
        ...(finalizers.length > 0 && { finalizers }),
        deletionTimestamp: timestamp(this.#options.wallMs() + graceSeconds * 1000),
        deletionGracePeriodSeconds: graceSeconds,
        ...(metadata.generation !== undefined && { generation: metadata.generation + 1 }),
      },
    };
    return this.#put(entry, marked as unknown as Tree, entry.owners);
  }

  #put(entry: Entry, next: Tree, owners: Ownership): AnyObject {
    entry.owners = owners;
    const before = entry.object;
    if (sameTree(frozenCopy(next), before)) return before; // KS6
    this.#version += 1;
    entry.object = stamped(next as unknown as AnyObject, this.#version);
    this.#record({ version: this.#version, type: entry.type, key: entry.key, before, after: entry.object });
    return entry.object;
  }

  #gone(entry: Entry): void {
    this.#of(entry.type).delete(entry.key);
    this.#version += 1;
    this.#record({
      version: this.#version,
      type: entry.type,
      key: entry.key,
      before: entry.object,
      after: undefined,
    });
  }

  #record(change: Change): void {
    this.#log.push(change);
    this.#options.onChange(change);
  }

  #checkPreconditions(
    entry: Entry,
    wanted: { readonly uid?: string | undefined; readonly resourceVersion?: string | undefined },
  ): void {
    const { uid, resourceVersion, name } = entry.object.metadata;
    const what = `Operation cannot be fulfilled on ${resourceName(entry.type)} "${name}"`;
    if (wanted.uid !== undefined && wanted.uid !== uid) {
      throw refused(409, "Conflict", `${what}: the UID in the precondition (${wanted.uid}) is not ${uid}`);
    }
    if (wanted.resourceVersion !== undefined && wanted.resourceVersion !== resourceVersion) {
      throw refused(409, "Conflict", `${what}: the object has been modified`);
    }
  }

  /** A namespace that is being deleted takes no new objects; one that nobody made is taken for granted. */
  #checkNamespace(type: ResourceType, namespace: string | undefined): void {
    if (!type.namespaced) return;
    if (namespace === undefined) throw refused(400, "BadRequest", "the namespace is missing");
    const found = this.#entries.get("namespaces")?.get(namespace);
    if (found?.object.metadata.deletionTimestamp === undefined) return;
    const because = `because it is being terminated`;
    throw refused(403, "Forbidden", `unable to create new content in namespace ${namespace} ${because}`);
  }

  #entry(type: ResourceType, namespace: string | undefined, name: string): Entry {
    const entry = this.#of(type).get(objectKey(namespace, name));
    if (entry === undefined) throw notFound(type, name);
    return entry;
  }

  #of(type: ResourceType): Map<string, Entry> {
    const name = resourceName(type);
    let of = this.#entries.get(name);
    if (of === undefined) this.#entries.set(name, (of = new Map<string, Entry>()));
    return of;
  }

  #sorted(type: ResourceType): readonly Entry[] {
    return [...this.#of(type).values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  #suffix(): string {
    const letters = "bcdfghjklmnpqrstvwxz2456789";
    return Array.from({ length: 5 }, () => letters[this.#options.rng.below(letters.length)]).join("");
  }
}

function isOnNode(object: AnyObject): boolean {
  const spec = subtree(object as unknown as Tree, "spec");
  return object.kind === "Pod" && typeof spec["nodeName"] === "string" && spec["nodeName"] !== "";
}

function hasGeneration(type: ResourceType): boolean {
  return KINDS_WITH_GENERATION.has(type.kind) || (type.group.includes(".") && !type.group.endsWith(".k8s.io"));
}

function stamped(object: AnyObject, version: number): AnyObject {
  const metadata = { ...object.metadata, resourceVersion: String(version) };
  return frozenCopy({ ...object, metadata }) as unknown as AnyObject;
}

function timestamp(wallMs: number): string {
  return `${new Date(wallMs).toISOString().slice(0, 19)}Z`;
}

/** A request that was not done. */
export function refused(status: number, reason: string, message: string): ApiError {
  return new ApiError({ status, reason, message, outcome: "refused" });
}

export function notFound(type: ResourceType, name: string): ApiError {
  return refused(404, "NotFound", `${resourceName(type)} "${name}" not found`);
}

export function expired(message: string): ApiError {
  return refused(410, "Expired", message);
}

export function tooLarge(wanted: number, current: number): ApiError {
  const message = `Too large resource version: ${wanted}, current: ${current}`;
  return new ApiError({ status: 504, reason: "Timeout", message, retryAfterMs: 1000, outcome: "unknown" });
}
