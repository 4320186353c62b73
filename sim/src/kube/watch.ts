// One watch of the simulated API server (KV3).

import { ApiError, NO_STATUS } from "@sluice/controller/internal/kube";
import type { CallOptions, WatchEvent, WatchRequest } from "@sluice/controller/internal/kube";
import { canceled, deferred } from "@sluice/kit";
import type { Deferred } from "@sluice/kit";
import { resourceName } from "@sluice/controller/internal/kube";
import type { EventOwner } from "../event-loop.ts";
import { connectionLost } from "./faults.ts";
import { selects } from "./selectors.ts";
import type { SimKubeServer } from "./server.ts";
import { expired, tooLarge } from "./state.ts";
import type { AnyObject, Change } from "./state.ts";
import type { Tree } from "./trees.ts";

type Item = WatchEvent | { readonly end: true } | { readonly thrown: unknown };

export class SimWatch implements AsyncIterator<WatchEvent> {
  readonly #server: SimKubeServer;
  readonly #owner: EventOwner;
  readonly #request: WatchRequest;
  readonly #options: CallOptions;
  readonly #items: Item[] = [];
  readonly #isSilent: boolean;
  #waiting: Deferred<void> | undefined;
  #leave: (() => void) | undefined;
  #opened = false;
  #isOver = false;
  /** When the last event arrives: later ones do not overtake it. */
  #arrivesMs = 0;
  #seen = 0;
  #sentCount = 0;

  constructor(server: SimKubeServer, owner: EventOwner, request: WatchRequest, options: CallOptions) {
    this.#server = server;
    this.#owner = owner;
    this.#request = request;
    this.#options = options;
    this.#isSilent = server.rng.chance(server.faults.watchSilent);
  }

  async next(): Promise<IteratorResult<WatchEvent>> {
    if (!this.#opened) this.#open();
    for (;;) {
      const item = this.#items.shift();
      if (item === undefined) {
        if (this.#isOver) return { done: true, value: undefined };
        this.#waiting = deferred<void>();
        await this.#waiting.promise;
      } else if ("end" in item) {
        this.#close();
        return { done: true, value: undefined };
      } else if ("thrown" in item) {
        this.#close();
        throw item.thrown;
      } else {
        return { done: false, value: item };
      }
    }
  }

  return(): Promise<IteratorResult<WatchEvent>> {
    this.#close();
    return Promise.resolve({ done: true, value: undefined });
  }

  #open(): void {
    this.#opened = true;
    const { signal } = this.#options;
    if (signal?.aborted === true) {
      this.#now({ thrown: canceled("the watch") });
      return;
    }
    const onAbort = (): void => this.#now({ thrown: canceled("the watch") });
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#leave = () => signal?.removeEventListener("abort", onAbort);
    this.#server.count(this.#server.callCounts, `watch ${this.#request.type.plural}`);
    this.#server.later(this.#server.latencyMs(), "kube watch", () => this.#accept());
  }

  /** At the server. */
  #accept(): void {
    if (this.#isOver) return;
    const { state, rng, faults } = this.#server;
    if (this.#server.isDown) {
      const message = "connection refused";
      this.#send({
        thrown: new ApiError({ status: NO_STATUS, reason: "ConnectionFailed", message, outcome: "refused" }),
      });
      return;
    }
    const from = Number(this.#request.resourceVersion);
    const forgotten = rng.chance(faults.watchExpired);
    if (forgotten) this.#server.strike("watchExpired");
    const past = forgotten ? "expired" : state.changesAfter(from, this.#request.type);
    if (past === "expired") {
      // A real server answers either way, depending on who notices.
      const error = expired(`too old resource version: ${from} (${state.compactedTo})`);
      this.#send(rng.chance(0.5) ? { thrown: error } : { type: "ERROR", error });
      this.#send({ end: true });
      return;
    }
    if (from > state.version) {
      this.#send({ thrown: tooLarge(from, state.version) });
      return;
    }
    this.#seen = from;
    this.#send({ type: "OPENED" });
    const leaveServer = this.#server.addWatcher(
      (change) => this.#tell(change),
      () => this.#send({ thrown: connectionLost() }),
    );
    const leaveSignal = this.#leave;
    this.#leave = () => {
      leaveServer();
      leaveSignal?.();
    };
    for (const change of past) this.#tell(change);
    this.#server.later(this.#request.timeoutSeconds * 1000, "kube watch timeout", () => {
      this.#bookmark();
      this.#send({ end: true });
    });
    if (this.#request.allowWatchBookmarks) this.#bookmarkLater();
  }

  #bookmarkLater(): void {
    this.#server.later(this.#server.bookmarkIntervalMs, "kube bookmark", () => {
      if (this.#isOver) return;
      this.#bookmark();
      this.#bookmarkLater();
    });
  }

  #bookmark(): void {
    if (!this.#request.allowWatchBookmarks || !this.#server.sendsBookmarks) return;
    this.#seen = Math.max(this.#seen, this.#server.state.version);
    this.#send({ type: "BOOKMARK", resourceVersion: String(this.#seen) });
  }

  #tell(change: Change): void {
    if (resourceName(change.type) !== resourceName(this.#request.type)) return;
    const event = this.#eventOf(change);
    if (event === undefined) return;
    const { rng, faults } = this.#server;
    this.#seen = change.version;
    this.#send(event);
    if (rng.chance(faults.watchReset)) {
      this.#server.strike("watchReset");
      this.#send({ thrown: connectionLost() });
    } else if (rng.chance(faults.watchEnded)) {
      this.#server.strike("watchEnded");
      this.#send({ end: true });
    }
  }

  /** An object that leaves the selection is deleted for this watch, one that enters it is new. */
  #eventOf(change: Change): WatchEvent | undefined {
    const was = this.#isSelected(change.before);
    const is = this.#isSelected(change.after);
    if (!was && !is) return undefined;
    if (is) return { type: was ? "MODIFIED" : "ADDED", object: change.after! };
    const last = change.after ?? change.before!;
    const metadata = { ...last.metadata, resourceVersion: String(change.version) };
    return { type: "DELETED", object: Object.freeze({ ...last, metadata: Object.freeze(metadata) }) };
  }

  #isSelected(object: AnyObject | undefined): boolean {
    if (object === undefined) return false;
    const { namespace, labelSelector, fieldSelector } = this.#request;
    if (namespace !== undefined && object.metadata.namespace !== namespace) return false;
    return selects(object as unknown as Tree, labelSelector, fieldSelector);
  }

  /** Towards the client, in order. */
  #send(item: Item): void {
    this.#sentCount += 1;
    if (this.#isSilent && this.#sentCount > 4) {
      if (this.#sentCount === 5) this.#server.strike("watchSilent");
      return;
    }
    const { loop } = this.#server;
    this.#arrivesMs = Math.max(this.#arrivesMs, loop.nowMs + this.#server.latencyMs() + this.#server.lagMs());
    // Ties are drawn: a hair later than the one before keeps the order.
    this.#arrivesMs += 0.001;
    loop.at(this.#arrivesMs - loop.nowMs, this.#owner, "kube watch event", () => this.#now(item));
  }

  #now(item: Item): void {
    if (this.#isOver) return;
    this.#items.push(item);
    this.#waiting?.resolve();
  }

  #close(): void {
    this.#isOver = true;
    this.#leave?.();
    this.#leave = undefined;
    this.#waiting?.resolve();
  }
}
