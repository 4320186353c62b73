// Reading one's own writes (KEP-5647): nothing is decided about an owner before the caches show what was last written for it.
//
// Invariants:
//   WG1. After a write is recorded for an owner, `settle` answers "ready" only when the cache of that resource has reached
//        the version written, or holds the deleted object no more (or marked).
//   WG2. A write whose outcome is unknown, one that was refused because the cache is behind (404, 409), and one that the
//        cache does not reach within `timeoutMs`, is settled by reading the object itself.
//   WG3. It fails open: versions that cannot be compared, resources without a cache, are not waited for.
//   WG4. It remembers at most one entry per owner and object; a settled owner is forgotten.

import type { Clock } from "@sluice/kit/env";
import { isApiError, isNotFound, isUnknownOutcome } from "../api/api-error.ts";
import type { Answers, CallOptions, KubeApi, KubeRequest } from "../api/kube-api.ts";
import { objectKey } from "../api/objects.ts";
import type { KubeObject, Stored } from "../api/objects.ts";
import { resourceName } from "../api/resources.ts";
import type { ResourceType } from "../api/resources.ts";
import type { ObjectCache } from "./object-cache.ts";
import { hasReached } from "./versions.ts";

interface Expectation {
  readonly type: ResourceType;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly sinceMs: number;
  /** What the cache must show; undefined: nobody knows, look (WG2). */
  readonly wanted:
    | { readonly kind: "version"; readonly resourceVersion: string }
    | { readonly kind: "deleted"; readonly uid: string }
    | undefined;
}

export interface WriteGateOptions {
  readonly api: KubeApi;
  readonly clock: Clock;
  /** How long a cache is waited for before the object itself is read. Default 10 s. */
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 10_000;
/** How soon to ask again: the change itself usually brings the owner back earlier. */
const RETRY_AFTER_MS = 100;

export type Settled = { readonly ready: true } | { readonly ready: false; readonly retryAfterMs: number };

export class WriteGate {
  readonly #options: WriteGateOptions;
  readonly #caches = new Map<string, ObjectCache<KubeObject>>();
  /** By owner, then by resource and key. */
  readonly #expected = new Map<string, Map<string, Expectation>>();
  #liveReadCount = 0;

  constructor(options: WriteGateOptions) {
    this.#options = options;
  }

  /** Objects that had to be read because a cache did not show them in time, or the outcome was unknown. */
  get liveReadCount(): number {
    return this.#liveReadCount;
  }

  /** Owners that still wait for their writes. */
  get waitingCount(): number {
    return this.#expected.size;
  }

  /** Writes to this resource are looked for in `cache`; it must select everything that is written. */
  register<T extends KubeObject>(type: ResourceType<T>, cache: ObjectCache<T>): void {
    this.#caches.set(resourceName(type), cache as unknown as ObjectCache<KubeObject>);
  }

  /** The API as the reconciler of `owner` uses it: every write is recorded. */
  api(owner: string): KubeApi {
    const { api } = this.#options;
    return {
      request: <R extends KubeRequest>(request: R, options?: CallOptions) => this.#recorded(owner, request, options),
      watch: (request, options) => api.watch(request, options),
    };
  }

  /** Whether `owner` may be reconciled on what the caches show. Rejects with ApiError when an object cannot be read. */
  async settle(owner: string, signal?: AbortSignal): Promise<Settled> {
    const expected = this.#expected.get(owner);
    if (expected === undefined) return { ready: true };
    const nowMs = this.#options.clock.nowMs();
    const { timeoutMs = TIMEOUT_MS } = this.#options;
    let isWaiting = false;
    for (const [id, one] of expected) {
      if (this.#isShown(one)) expected.delete(id);
      else if (one.wanted === undefined || nowMs - one.sinceMs >= timeoutMs) {
        await this.#look(one, signal);
        if (expected.get(id) === one) expected.delete(id);
      } else isWaiting = true;
    }
    if (isWaiting) return { ready: false, retryAfterMs: RETRY_AFTER_MS };
    if (expected.size === 0) this.#expected.delete(owner);
    return { ready: true };
  }

  /** Nothing more will be decided about this owner. */
  forget(owner: string): void {
    this.#expected.delete(owner);
  }

  async #recorded<R extends KubeRequest>(
    owner: string,
    request: R,
    options: CallOptions | undefined,
  ): Promise<Answers[R["verb"]]> {
    const { api, clock } = this.#options;
    const { type, namespace, verb } = request;
    const isTrial = request.verb === "create" && request.dryRun === true; // nothing is written
    if (verb === "get" || verb === "list" || isTrial) return await api.request(request, options);
    const record = (name: string, wanted: Expectation["wanted"]): void => {
      if (!this.#caches.has(resourceName(type))) return; // WG3
      const expected = this.#expected.get(owner) ?? new Map<string, Expectation>();
      this.#expected.set(owner, expected);
      const id = `${resourceName(type)} ${objectKey(namespace, name)}`;
      expected.set(id, { type, namespace, name, sinceMs: clock.nowMs(), wanted });
    };
    const named = nameOf(request);
    try {
      const held = this.#caches.get(resourceName(type))?.get(objectKey(namespace, named));
      const answer = await api.request(request, options);
      const object = isStored(answer) ? answer : undefined;
      if (verb === "delete") {
        const uid = request.uid ?? object?.metadata.uid ?? held?.metadata.uid;
        if (uid !== undefined) record(named, { kind: "deleted", uid });
      } else if (object !== undefined) {
        const { name, resourceVersion } = object.metadata;
        record(name, { kind: "version", resourceVersion });
      }
      return answer;
    } catch (thrown) {
      // Also when the caller gave up: the request may have been sent. A generated name cannot be looked up.
      const isOpen = isUnknownOutcome(thrown) || options?.signal?.aborted === true;
      const isBehind = isApiError(thrown) && (thrown.status === 404 || thrown.status === 409);
      if ((isOpen || isBehind) && named !== "") record(named, undefined);
      throw thrown;
    }
  }

  #isShown({ type, wanted }: Expectation): boolean {
    const cache = this.#caches.get(resourceName(type));
    if (cache === undefined) return true;
    if (wanted === undefined) return false;
    if (wanted.kind === "version") return hasReached(cache.resourceVersion, wanted.resourceVersion);
    const held = cache.byUid(wanted.uid);
    return held === undefined || held.metadata.deletionTimestamp !== undefined;
  }

  /** Reads the object and shows the cache what was found (WG2). */
  async #look({ type, namespace, name }: Expectation, signal: AbortSignal | undefined): Promise<void> {
    this.#liveReadCount += 1;
    const cache = this.#caches.get(resourceName(type));
    const held = cache?.get(objectKey(namespace, name));
    const at = { name, ...(namespace !== undefined && { namespace }) };
    try {
      cache?.learn(await this.#options.api.request({ verb: "get", type, ...at }, signal && { signal }));
    } catch (thrown) {
      if (!isNotFound(thrown)) throw thrown;
      if (held !== undefined) cache?.learnGone(held);
    }
  }
}

function nameOf(request: KubeRequest): string {
  if ("name" in request) return request.name;
  return request.verb === "create" ? (request.body.metadata.name ?? "") : "";
}

function isStored(answer: unknown): answer is Stored<KubeObject> {
  const metadata = (answer as { readonly metadata?: { readonly uid?: unknown } }).metadata;
  return typeof metadata?.uid === "string";
}
