// A simulated API server in virtual time: KubeState behind a network that is slow, loses answers and forgets watches.
//
// Invariants:
//   KV1. Same seed, same calls: same answers, same faults.
//   KV2. A request that arrived is done even if its client died; a dead client gets no answer and no event.
//   KV3. A watch delivers the changes of its selection in the order of their versions, without gap, or it ends.
//   KV4. Hooks run before a call leaves the client and after the server did it, before the answer leaves: a client that
//        dies in them has not called, or never learns the outcome.

import { apiVersionOf } from "@sluice/controller/internal/kube";
import type { KubeObject, KubeRequest, ResourceType, Stored } from "@sluice/controller/internal/kube";
import type { Rng } from "@sluice/kit/env";
import type { EventLoop, EventOwner } from "../event-loop.ts";
import type { World } from "../node.ts";
import { collectGarbage } from "./collector.ts";
import { callFaultOf, HEALTHY_KUBE } from "./faults.ts";
import type { CallFault, KubeFaults } from "./faults.ts";
import { KubeState } from "./state.ts";
import type { AnyObject, Change } from "./state.ts";

/** A call as hooks and scripted faults see it. */
export interface KubeCall {
  /** Counts all calls of all clients, from 1. */
  readonly number: number;
  /** Name of the client. */
  readonly client: string;
  readonly request: KubeRequest;
}

/** "before": nothing was sent. "after": done (or refused) by the server, not answered. */
export type CallHook = (call: KubeCall, phase: "before" | "after") => void;

export interface SimKubeOptions {
  readonly faults?: KubeFaults;
  /** Throws ApiError for objects that a schema or an admission rule refuses. */
  readonly admit?: (type: ResourceType, object: KubeObject, before: AnyObject | undefined) => void;
  /** Changes kept for watches; older ones answer 410. Default 1000. */
  readonly logCountMax?: number;
}

const BOOKMARK_INTERVAL_MS = 60_000;
const COLLECTOR_DELAY_MS = 50;

export class SimKubeServer {
  readonly state: KubeState;
  readonly loop: EventLoop;
  readonly rng: Rng;
  readonly bookmarkIntervalMs = BOOKMARK_INTERVAL_MS;
  /** Real servers send none about a resource that nobody changes. */
  sendsBookmarks = true;
  /** Faults that struck, and calls by verb and resource. */
  readonly struck: Record<string, number> = {};
  readonly callCounts: Record<string, number> = {};
  faults: KubeFaults;
  #hooks: readonly CallHook[] = [];
  #scripted: { readonly matches: (call: KubeCall) => boolean; readonly fault: CallFault; count: number }[] = [];
  readonly #world: World;
  readonly #logCountMax: number;
  readonly #watchers = new Set<(change: Change) => void>();
  readonly #breakers = new Set<() => void>();
  #callCount = 0;
  #collecting = false;
  #isDown = false;

  constructor(world: World, options: SimKubeOptions = {}) {
    this.#world = world;
    this.loop = world.loop;
    this.rng = world.rng.fork("kube");
    this.faults = options.faults ?? HEALTHY_KUBE;
    this.#logCountMax = options.logCountMax ?? 1_000;
    this.state = new KubeState({
      rng: this.rng.fork("state"),
      wallMs: () => 1_700_000_000_000 + world.loop.nowMs,
      onChange: (change) => this.#changed(change),
      ...(options.admit && { admit: options.admit }),
    });
  }

  /** Runs for every call of every client; the returned function takes it back. */
  onCall(hook: CallHook): () => void {
    this.#hooks = [...this.#hooks, hook];
    return () => {
      this.#hooks = this.#hooks.filter((other) => other !== hook);
    };
  }

  /** The next `count` calls that match fail in this way. */
  failNext(fault: CallFault, matches: (call: KubeCall) => boolean = () => true, count = 1): void {
    this.#scripted.push({ fault, matches, count });
  }

  /** No faults from now on; scripted ones are forgotten. */
  heal(): void {
    this.faults = HEALTHY_KUBE;
    this.#scripted = [];
    this.#isDown = false;
  }

  /** Down: connections are refused, and running watches break. */
  setDown(isDown: boolean): void {
    this.#isDown = isDown;
    if (isDown) this.breakWatches();
  }

  /** Owner of what happens in the world itself. */
  get worldOwner(): EventOwner {
    return this.#world.owner;
  }

  get isDown(): boolean {
    return this.#isDown;
  }

  /** Resets every open watch. */
  breakWatches(): void {
    for (const stop of this.#breakers) stop();
  }

  /** Objects made by the world, complete with status: for tests' beginnings. */
  seed<T extends KubeObject>(type: ResourceType<T>, object: Omit<T, "apiVersion" | "kind">): Stored<T> {
    const body = { apiVersion: apiVersionOf(type), kind: type.kind, ...object } as unknown as T;
    const { namespace, name = "" } = body.metadata;
    const created = this.state.execute({ verb: "create", type, body, ...(namespace !== undefined && { namespace }) });
    const { status } = object as { readonly status?: unknown };
    if (status === undefined) return created as Stored<T>;
    return this.state.edit(type, { name, ...(namespace !== undefined && { namespace }) }, (it) => ({ ...it, status }));
  }

  // ---- for SimKubeClient

  /** Counts the call and runs the hooks. */
  begin(client: string, request: KubeRequest): KubeCall {
    this.#callCount += 1;
    const call: KubeCall = { number: this.#callCount, client, request };
    this.count(this.callCounts, `${request.verb} ${request.type.plural}`);
    this.loop.note(client, `kube ${describe(request)}`);
    for (const hook of this.#hooks) hook(call, "before");
    return call;
  }

  ended(call: KubeCall): void {
    for (const hook of this.#hooks) hook(call, "after");
  }

  faultFor(call: KubeCall): CallFault | undefined {
    const draw = this.rng.u32() / 0x100000000;
    const scripted = this.#scripted.find((one) => one.count > 0 && one.matches(call));
    if (scripted !== undefined) scripted.count -= 1;
    const fault = scripted?.fault ?? callFaultOf(this.faults, draw);
    if (fault === "conflict" && scripted === undefined && ["get", "list"].includes(call.request.verb)) return undefined;
    return fault;
  }

  strike(fault: string): void {
    this.count(this.struck, fault);
  }

  latencyMs(): number {
    return between(this.rng, this.faults.latencyMs);
  }

  lagMs(): number {
    return between(this.rng, this.faults.watchLagMs);
  }

  /** In the server's own time: happens whoever has died. */
  later(delayMs: number, label: string, run: () => void): void {
    this.#world.after(delayMs, label, run);
  }

  addWatcher(tell: (change: Change) => void, breakIt: () => void): () => void {
    this.#watchers.add(tell);
    this.#breakers.add(breakIt);
    return () => {
      this.#watchers.delete(tell);
      this.#breakers.delete(breakIt);
    };
  }

  get watcherCount(): number {
    return this.#watchers.size;
  }

  #changed(change: Change): void {
    const object = change.after ?? change.before;
    const kind = change.after === undefined ? "deleted" : change.before === undefined ? "added" : "modified";
    this.loop.note("kube", `${change.version} ${kind} ${change.type.plural} ${change.key} ${object?.metadata.uid}`);
    for (const tell of this.#watchers) tell(change);
    const oldest = change.version - this.#logCountMax;
    if (oldest > this.state.compactedTo + this.#logCountMax / 10) this.state.compact(oldest);
    this.#collect();
  }

  #collect(): void {
    if (this.#collecting) return;
    this.#collecting = true;
    this.later(COLLECTOR_DELAY_MS, "garbage collector", () => {
      this.#collecting = false;
      collectGarbage(this.state);
    });
  }

  count(counts: Record<string, number>, name: string): void {
    counts[name] = (counts[name] ?? 0) + 1;
  }
}

function between(rng: Rng, range: { readonly min: number; readonly max: number }): number {
  return range.min + (range.max - range.min) * (rng.u32() / 0x100000000);
}

/** "create pods ns/name": for traces. */
export function describe(request: KubeRequest): string {
  const name = "name" in request ? request.name : "body" in request ? (request.body.metadata.name ?? "") : "";
  const sub = "subresource" in request && request.subresource !== undefined ? "/status" : "";
  const trial = request.verb === "create" && request.dryRun === true ? " (dry run)" : "";
  return `${request.verb}${trial} ${request.type.plural}${sub} ${request.namespace ?? "*"}/${name}`;
}
