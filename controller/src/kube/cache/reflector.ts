// Keeps an ObjectCache equal to the API server: list, then watch, for as long as it is wanted.
//
// Invariants:
//   RF1. No error ends it; only its signal does. Between attempts it waits 1 s to 60 s, with jitter, and at least the
//        server's Retry-After.
//   RF2. A watch goes on from the newest version seen, bookmarks included. A version that the server no longer has (410)
//        leads to a list that is not older than what is known, and if that is refused to one of the newest state.
//   RF3. A watch that says nothing is given up: after its own timeout plus 5 s at the latest, and after SILENCE_MS when not
//        even bookmarks come. A broken connection without a word is thereby found.
//   RF4. Every now and then a list checks the cache. What is still missing or stale a while later, though the watch went on,
//        was missed: it is counted, logged, and everything is listed anew. A watch that did not go on is opened anew.
//   RF5. The first list reads the newest state, never a server's possibly old cache.
//
// Not here: the cache (object-cache.ts), what to do about changes (work/).

import { Backoff, sleep, toFailure } from "@sluice/kit";
import type { Clock, Log, Rng, Timers } from "@sluice/kit/env";
import { isApiError, isExpired } from "../api/api-error.ts";
import type { KubeApi, Selection, WatchEvent } from "../api/kube-api.ts";
import type { KubeObject, Stored } from "../api/objects.ts";
import { resourceName } from "../api/resources.ts";
import type { ResourceType } from "../api/resources.ts";
import type { ObjectCache } from "./object-cache.ts";
import { compareVersions, hasReached } from "./versions.ts";

export interface ReflectorOptions<T extends KubeObject> extends Selection {
  readonly api: KubeApi;
  readonly type: ResourceType<T>;
  /** Absent: all namespaces. */
  readonly namespace?: string;
  readonly cache: ObjectCache<T>;
  readonly env: { readonly clock: Clock; readonly timers: Timers; readonly rng: Rng; readonly log: Log };
  /** Objects asked for per page; default 500. */
  readonly pageCount?: number;
  /** Time between audits (RF4); default 10 min; Infinity for none. */
  readonly auditIntervalMs?: number;
  /** Reduces an object before it is kept, to save memory. Must not change what it gets. */
  readonly trim?: (object: Stored<T>) => Stored<T>;
}

/** What it did so far, for metrics and tests. */
export interface ReflectorCounts {
  readonly lists: number;
  readonly watches: number;
  readonly errors: number;
  readonly expired: number;
  readonly silent: number;
  readonly audits: number;
  /** Changes that no watch had told of (RF4). */
  readonly missed: number;
}

const PAGE_COUNT = 500;
const WATCH_SECONDS_MIN = 300;
const WATCH_SECONDS_MAX = 600;
const KILL_AFTER_MS = 5_000;
/** Servers send a bookmark about once a minute, but none while a resource is quiet: then the watch is opened anew for nothing. */
const SILENCE_MS = 180_000;
const AUDIT_INTERVAL_MS = 600_000;
/** How late a watch may be before an audit calls it a miss. */
const AUDIT_GRACE_MS = 30_000;
/** A watch that ends sooner than this without a word is treated as an error, so that nothing spins. */
const SHORT_WATCH_MS = 1_000;
/** A watch that was open for longer starts the delays anew. */
const GOOD_WATCH_MS = 10_000;
const BACKOFF = { initialMs: 1_000, maxMs: 60_000, multiplier: 2, jitter: 0.3, resetAfterMs: 120_000 };

type WatchEnd = "ended" | "relist";

export class Reflector<T extends KubeObject> {
  readonly #options: ReflectorOptions<T>;
  readonly #what: string;
  readonly #counts = { lists: 0, watches: 0, errors: 0, expired: 0, silent: 0, audits: 0, missed: 0 };
  #lastContactMs: number;
  /** "": list the newest; else not older than this. */
  #listFrom = "";
  #mustList = true;
  #replaceCount = 0;
  #giveUpWatch: (() => void) | undefined;
  #onGoodWatch: () => void = () => {};

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#what = resourceName(options.type);
    this.#lastContactMs = options.env.clock.nowMs();
  }

  get counts(): ReflectorCounts {
    return this.#counts;
  }

  /** Name of the resource, for metrics. */
  get resource(): string {
    return this.#what;
  }

  /** Time since the server last said anything about this resource: events, bookmarks, lists, accepted watches. */
  get stalenessMs(): number {
    return this.#options.env.clock.nowMs() - this.#lastContactMs;
  }

  /** Runs until `signal` fires; never rejects (RF1). */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, timers, rng, log } = this.#options.env;
    const backoff = new Backoff(BACKOFF, rng);
    this.#onGoodWatch = () => backoff.reset();
    const audits = this.#audit(signal);
    while (!signal.aborted) {
      try {
        if (this.#mustList) await this.#list(signal);
        else if ((await this.#watch(signal)) === "relist") this.#mustList = true;
        if (!this.#mustList) backoff.reset();
      } catch (thrown) {
        if (signal.aborted) break;
        this.#counts.errors += 1;
        const failed = this.#mustList ? "list failed" : "watch failed";
        this.#noteExpired(thrown);
        const retryAfterMs = isApiError(thrown) ? (thrown.retryAfterMs ?? 0) : 0;
        const delayMs = Math.max(backoff.nextDelayMs(clock.nowMs()), retryAfterMs);
        const fields = { resource: this.#what, delayMs: Math.round(delayMs), error: describe(thrown) };
        log.warn(failed, fields);
        await sleep(timers, delayMs, signal).catch(() => {});
      }
    }
    await audits;
  }

  /** RF2. */
  #noteExpired(thrown: unknown): void {
    if (!isApiError(thrown)) return;
    const isAhead = thrown.status === 504 && /resource version/i.test(thrown.message);
    if (!isExpired(thrown) && !isAhead) return;
    this.#counts.expired += 1;
    // A list that was refused itself, or a page of it: the newest state then.
    this.#listFrom = this.#mustList || isAhead ? "" : this.#options.cache.resourceVersion;
    this.#mustList = true;
  }

  async #list(signal: AbortSignal): Promise<void> {
    this.#counts.lists += 1;
    const { items, resourceVersion } = await this.#pages(this.#listFrom, signal);
    this.#options.cache.replace(items, resourceVersion);
    this.#replaceCount += 1;
    this.#mustList = false;
    this.#listFrom = resourceVersion;
  }

  async #pages(
    resourceVersion: string,
    signal: AbortSignal,
  ): Promise<{ readonly items: Stored<T>[]; readonly resourceVersion: string }> {
    const { api, type, pageCount = PAGE_COUNT } = this.#options;
    const items: Stored<T>[] = [];
    let token: string | undefined;
    for (;;) {
      const from = token === undefined ? (resourceVersion === "" ? {} : { resourceVersion }) : { continue: token };
      const page = await api.request(
        { verb: "list", type, ...this.#selection(), limit: pageCount, ...from },
        { signal },
      );
      this.#contact();
      for (const item of page.items) items.push(this.#trimmed(item as Stored<T>));
      token = page.metadata.continue;
      if (token === undefined || token === "") return { items, resourceVersion: page.metadata.resourceVersion };
    }
  }

  async #watch(signal: AbortSignal): Promise<WatchEnd> {
    const { api, type, cache } = this.#options;
    const { clock, timers, rng } = this.#options.env;
    this.#counts.watches += 1;
    const timeoutSeconds = WATCH_SECONDS_MIN + rng.below(WATCH_SECONDS_MAX - WATCH_SECONDS_MIN);
    const stop = new AbortController();
    let isSilent = false;
    const kill = (): void => {
      isSilent = true;
      stop.abort();
    };
    const cancelKill = timers.after(timeoutSeconds * 1_000 + KILL_AFTER_MS, "watch overdue", kill);
    let cancelSilence = timers.after(SILENCE_MS, "watch silent", kill);
    const startedMs = clock.nowMs();
    let seenCount = 0;
    let isOpened = false;
    this.#giveUpWatch = () => stop.abort();
    try {
      const stream = api.watch(
        {
          verb: "watch",
          type,
          ...this.#selection(),
          resourceVersion: cache.resourceVersion,
          allowWatchBookmarks: true,
          timeoutSeconds,
        },
        { signal: AbortSignal.any([signal, stop.signal]) },
      );
      for await (const event of stream) {
        if (event.type === "OPENED") isOpened = true;
        else seenCount += 1;
        this.#contact();
        cancelSilence();
        cancelSilence = timers.after(SILENCE_MS, "watch silent", kill);
        this.#take(event as WatchEvent<T>);
      }
    } catch (thrown) {
      if (signal.aborted || !stop.signal.aborted) throw thrown;
    } finally {
      if (isOpened && clock.nowMs() - startedMs > GOOD_WATCH_MS) this.#onGoodWatch();
      this.#giveUpWatch = undefined;
      cancelKill();
      cancelSilence();
    }
    if (isSilent) {
      this.#counts.silent += 1; // RF3
      this.#options.env.log.debug("watch said nothing and is opened anew", { resource: this.#what });
      return "ended";
    }
    if (stop.signal.aborted) return this.#mustList ? "relist" : "ended"; // an audit found it wanting
    if (seenCount === 0 && clock.nowMs() - startedMs < SHORT_WATCH_MS) throw new Error("the watch ended at once");
    return "ended";
  }

  #take(event: WatchEvent<T>): void {
    const { cache } = this.#options;
    switch (event.type) {
      case "ADDED":
      case "MODIFIED":
        cache.upsert(this.#trimmed(event.object));
        break;
      case "DELETED":
        cache.remove(this.#trimmed(event.object));
        break;
      case "BOOKMARK":
        cache.advance(event.resourceVersion);
        break;
      case "ERROR":
        throw event.error;
      case "OPENED":
      default:
        break; // or a kind of event that a newer server has
    }
  }

  /** RF4. */
  async #audit(signal: AbortSignal): Promise<void> {
    const { cache, auditIntervalMs = AUDIT_INTERVAL_MS } = this.#options;
    const { timers, rng, log } = this.#options.env;
    if (auditIntervalMs === Number.POSITIVE_INFINITY) return;
    while (!signal.aborted) {
      try {
        await sleep(timers, auditIntervalMs * (0.9 + rng.below(200) / 1_000), signal);
        if (!cache.isSynced) continue;
        const { missed, late } = await this.#misses(signal);
        this.#counts.audits += 1;
        if (missed > 0) {
          this.#counts.missed += missed;
          log.error("changes were missed", { resource: this.#what, missed });
          this.#mustList = true;
          this.#listFrom = "";
        } else if (late > 0) log.warn("the watch is late and is opened anew", { resource: this.#what, late });
        if (missed + late > 0) this.#giveUpWatch?.();
      } catch (thrown) {
        if (!signal.aborted) log.warn("audit failed", { resource: this.#what, error: describe(thrown) });
      }
    }
  }

  /**
   * What a list shows and the cache, a while later, still does not: missed where the watch has told of something newer, late
   * where it is behind.
   */
  async #misses(signal: AbortSignal): Promise<{ readonly missed: number; readonly late: number }> {
    const { cache } = this.#options;
    const told = new Set<string>(); // uids that a watch told of meanwhile: not held any more is no miss then
    const replaceCount = this.#replaceCount;
    const leave = cache.onChange((change) => void told.add(change.object.metadata.uid));
    try {
      const listed = await this.#pages(cache.resourceVersion, signal);
      const uids = new Set(listed.items.map((item) => item.metadata.uid));
      const isStale = ({ metadata: { uid, resourceVersion } }: Stored<T>): boolean => {
        const held = cache.byUid(uid);
        return held === undefined ? !told.has(uid) : isOlder(held.metadata.resourceVersion, resourceVersion);
      };
      const stale = listed.items.filter(isStale);
      const surplus = cache
        .all()
        .filter(
          ({ metadata }) => !uids.has(metadata.uid) && !isOlder(listed.resourceVersion, metadata.resourceVersion),
        );
      if (stale.length + surplus.length === 0) return { missed: 0, late: 0 };
      await sleep(this.#options.env.timers, AUDIT_GRACE_MS, signal);
      // A list may have skipped an object's whole life, and has put everything right anyway.
      if (this.#replaceCount !== replaceCount) return { missed: 0, late: 0 };
      const wrong = [
        ...stale.filter(isStale).map(({ metadata }) => metadata.resourceVersion),
        ...surplus.filter(({ metadata }) => cache.byUid(metadata.uid)).map(() => listed.resourceVersion),
      ];
      const missed = wrong.filter((version) => hasReached(cache.resourceVersion, version)).length;
      return { missed, late: wrong.length - missed };
    } finally {
      leave();
    }
  }

  #selection(): Selection & { readonly namespace?: string } {
    const { namespace, labelSelector, fieldSelector } = this.#options;
    return {
      ...(namespace !== undefined && { namespace }),
      ...(labelSelector !== undefined && { labelSelector }),
      ...(fieldSelector !== undefined && { fieldSelector }),
    };
  }

  #trimmed(object: Stored<T>): Stored<T> {
    return this.#options.trim?.(object) ?? object;
  }

  #contact(): void {
    this.#lastContactMs = this.#options.env.clock.nowMs();
  }
}

/** Without managedFields, which nobody reads and which are often half of an object. */
export function withoutManagedFields<T extends KubeObject>(object: Stored<T>): Stored<T> {
  if (!Object.hasOwn(object.metadata, "managedFields")) return object;
  const { managedFields: _unread, ...metadata } = object.metadata as Stored<T>["metadata"] & {
    readonly managedFields?: unknown;
  };
  return { ...object, metadata };
}

function isOlder(version: string, than: string): boolean {
  return (compareVersions(version, than) ?? 0) < 0;
}

function describe(thrown: unknown): string {
  return isApiError(thrown) ? `${thrown.status} ${thrown.reason}: ${thrown.message}` : toFailure(thrown).message;
}
