// Leader election on a Lease (coordination.k8s.io/v1), as client-go does it: one process acts, the others are warm.
//
// Invariants:
//   LE1. Two processes never act at the same time: a leader stops acting RENEW_DEADLINE after it *sent* its last successful
//        renewal; nobody else takes the lease before LEASE_DURATION after it *saw* the last change of it.
//   LE2. Clocks are not compared: each process measures with its own monotonic clock from its own observation. Times in the
//        Lease are for people.
//   LE3. What acts asks `mayAct` before each write (`guard` does it): a process that stood still finds out before it acts,
//        though its timers have not fired yet.
//   LE4. The lease is given back only after everything of the term has ended.
//   LE5. A failed or unanswered attempt proves nothing: the next one reads the Lease first.
//
// Not here: what a leader does.

import { assert, Failure, isFailure, sleep, toFailure } from "@sluice/kit";
import type { Clock, Log, Rng, Timers } from "@sluice/kit/env";
import { isApiError } from "./api/api-error.ts";
import type { KubeClient } from "./api/client.ts";
import type { KubeApi } from "./api/kube-api.ts";
import type { Lease, Stored } from "./api/objects.ts";
import { LEASES } from "./api/resources.ts";

export interface ElectionOptions {
  readonly client: KubeClient;
  readonly env: { readonly clock: Clock; readonly timers: Timers; readonly rng: Rng; readonly log: Log };
  readonly namespace: string;
  /** Name of the Lease. */
  readonly name: string;
  /** Unlike that of any other process, also of an earlier one of the same pod. */
  readonly identity: string;
  readonly leaseDurationMs?: number;
  readonly renewDeadlineMs?: number;
  readonly retryPeriodMs?: number;
  /** Told when this process begins and ends to lead. */
  readonly onChange?: (isLeader: boolean) => void;
}

const LEASE_DURATION_MS = 15_000;
const RENEW_DEADLINE_MS = 10_000;
const RETRY_PERIOD_MS = 2_000;
/** client-go's jitter of the retry period while waiting. */
const JITTER = 1.2;

/** One time of leading. */
export interface LeaderTerm {
  /** Fires when the term ends: stop. */
  readonly signal: AbortSignal;
  /** False from the moment on at which somebody else might soon act (LE3). */
  mayAct(): boolean;
  /** The API for this term: writes outside of it are refused with Failure FENCED. Reads are free. */
  guard(api: KubeApi): KubeApi;
}

interface Observed {
  readonly lease: Stored<Lease>;
  readonly atMs: number;
}

export class LeaseElection {
  readonly #options: ElectionOptions;
  readonly #leaseDurationMs: number;
  readonly #renewDeadlineMs: number;
  readonly #retryPeriodMs: number;
  #observed: Observed | undefined;
  #isLeader = false;

  constructor(options: ElectionOptions) {
    this.#options = options;
    this.#leaseDurationMs = options.leaseDurationMs ?? LEASE_DURATION_MS;
    this.#renewDeadlineMs = options.renewDeadlineMs ?? RENEW_DEADLINE_MS;
    this.#retryPeriodMs = options.retryPeriodMs ?? RETRY_PERIOD_MS;
    assert(this.#renewDeadlineMs < this.#leaseDurationMs, "LE1: a leader gives up before others may take over");
    assert(this.#retryPeriodMs * JITTER < this.#renewDeadlineMs, "a leader has time for more than one try");
    assert(options.identity !== "", "an identity is not empty: that is how a free lease looks");
  }

  get isLeader(): boolean {
    return this.#isLeader;
  }

  /** Who holds the lease, as last seen; undefined: nobody. */
  get holder(): string | undefined {
    return this.#observed?.lease.spec?.holderIdentity || undefined;
  }

  /**
   * Runs until `signal` fires: waits for the lease, runs `lead` while it is held, and begins anew. `lead` has to end when its
   * signal fires. Rejects only when `lead` does.
   */
  async run(signal: AbortSignal, lead: (term: LeaderTerm) => Promise<void>): Promise<void> {
    const { clock, timers, rng, log, identity } = { ...this.#options, ...this.#options.env };
    while (!signal.aborted) {
      const sentMs = clock.nowMs();
      if (await this.#tryAcquire(signal)) {
        log.info("leading", { identity, lease: this.#options.name });
        await this.#term(signal, sentMs, lead);
        log.info("no longer leading", { identity, lease: this.#options.name });
      }
      const delayMs = this.#retryPeriodMs * (1 + ((JITTER - 1) * rng.u32()) / 0x100000000);
      await sleep(timers, delayMs, signal).catch(() => {});
    }
  }

  async #term(signal: AbortSignal, sentMs: number, lead: (term: LeaderTerm) => Promise<void>): Promise<void> {
    const { clock, timers } = this.#options.env;
    const stop = new AbortController();
    let renewedMs = sentMs;
    const mayAct = (): boolean => !stop.signal.aborted && clock.nowMs() - renewedMs < this.#renewDeadlineMs;
    const term: LeaderTerm = { signal: stop.signal, mayAct, guard: (api) => guarded(api, mayAct, stop.signal) };
    this.#isLeader = true;
    this.#options.onChange?.(true);
    const leading = lead(term).finally(() => stop.abort());
    leading.catch(() => {});
    const end = AbortSignal.any([signal, stop.signal]);
    while (!end.aborted) {
      // The wait is cut short at the deadline, and a renewal may not outlast it either (LE1).
      await sleep(timers, this.#retryPeriodMs, end).catch(() => {});
      if (end.aborted || !mayAct()) break;
      const startedMs = clock.nowMs();
      const untilDeadlineMs = renewedMs + this.#renewDeadlineMs - startedMs;
      const timeoutMs = Math.min(untilDeadlineMs, Math.max(1_000, this.#renewDeadlineMs / 2));
      const outcome = await this.#attempt(end, timeoutMs);
      if (outcome === "held") renewedMs = startedMs;
      else if (outcome === "lost") break;
    }
    stop.abort();
    try {
      await leading; // LE4
    } finally {
      this.#isLeader = false;
      this.#options.onChange?.(false);
    }
    if (clock.nowMs() - renewedMs < this.#renewDeadlineMs) await this.#release();
  }

  async #tryAcquire(signal: AbortSignal): Promise<boolean> {
    return (await this.#attempt(signal, Math.max(1_000, this.#renewDeadlineMs / 2))) === "held";
  }

  /** One read and, if the lease may be ours, one write (LE5). "unknown": nothing was learned. */
  async #attempt(signal: AbortSignal, timeoutMs: number): Promise<"held" | "lost" | "unknown"> {
    const { client, namespace, name, identity, env } = this.#options;
    const endMs = env.clock.nowMs() + timeoutMs;
    const call = (): { readonly signal: AbortSignal; readonly timeoutMs: number } => ({
      signal,
      timeoutMs: Math.max(1, endMs - env.clock.nowMs()),
    });
    try {
      const found = await client.find(LEASES, { namespace, name }, call());
      if (found === undefined) {
        const made = await client.create(LEASES, this.#lease(undefined), call());
        this.#observe(made);
        return "held";
      }
      this.#observe(found);
      if (!this.#mayTake(found)) return "lost";
      const taken = await client.update(LEASES, this.#lease(found), call());
      this.#observe(taken);
      return "held";
    } catch (thrown) {
      if (!isApiError(thrown) && !isFailure(thrown)) throw thrown;
      if (!signal.aborted) {
        const error = isApiError(thrown) ? `${thrown.status} ${thrown.reason}: ${thrown.message}` : thrown.message;
        env.log.warn("lease attempt failed", { identity, lease: name, error });
      }
      return "unknown";
    }
  }

  /** LE2: what counts is when we saw it change. */
  #observe(lease: Stored<Lease>): void {
    const known = this.#observed?.lease.metadata;
    if (known?.resourceVersion === lease.metadata.resourceVersion && known.uid === lease.metadata.uid) return;
    this.#observed = { lease, atMs: this.#options.env.clock.nowMs() };
  }

  #mayTake(lease: Stored<Lease>): boolean {
    const holder = lease.spec?.holderIdentity ?? "";
    if (holder === "" || holder === this.#options.identity) return true;
    assert(this.#observed !== undefined, "a lease that is judged was observed");
    const theirsMs = (lease.spec?.leaseDurationSeconds ?? 0) * 1_000;
    const validMs = Math.max(theirsMs, this.#leaseDurationMs);
    return this.#options.env.clock.nowMs() - this.#observed.atMs >= validMs;
  }

  /** The Lease as it is when we hold it; with the version of `found` as precondition. */
  #lease(found: Stored<Lease> | undefined): Lease {
    const { namespace, name, identity, env } = this.#options;
    const now = microTime(env.clock.wallMs());
    const isOurs = found?.spec?.holderIdentity === identity;
    const transitions = found?.spec?.leaseTransitions ?? 0;
    return {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: found?.metadata ?? { namespace, name },
      spec: {
        holderIdentity: identity,
        leaseDurationSeconds: Math.ceil(this.#leaseDurationMs / 1_000),
        acquireTime: isOurs ? (found?.spec?.acquireTime ?? now) : now,
        renewTime: now,
        leaseTransitions: found === undefined || isOurs ? transitions : transitions + 1,
      },
    };
  }

  /** Best effort: if it fails, the lease runs out. */
  async #release(): Promise<void> {
    const { client, env, namespace, name, identity } = this.#options;
    try {
      const lease = await client.find(LEASES, { namespace, name }, { timeoutMs: this.#retryPeriodMs });
      if (lease?.spec?.holderIdentity !== identity) return;
      const now = microTime(env.clock.wallMs());
      const spec = { ...lease.spec, holderIdentity: "", leaseDurationSeconds: 1, renewTime: now, acquireTime: now };
      this.#observe(await client.update(LEASES, { ...lease, spec }, { timeoutMs: this.#retryPeriodMs }));
    } catch (thrown) {
      env.log.warn("the lease could not be given back and will run out", { error: toFailure(thrown).message });
    }
  }
}

/** RFC 3339 with microseconds, as MicroTime wants it. */
export function microTime(wallMs: number): string {
  return new Date(wallMs).toISOString().replace("Z", "000Z");
}

function guarded(api: KubeApi, mayAct: () => boolean, signal: AbortSignal): KubeApi {
  return {
    request: async (request, options = {}) => {
      if (request.verb === "get" || request.verb === "list") return await api.request(request, options);
      if (!mayAct()) {
        const message = `this process no longer leads and may not ${request.verb} ${request.type.plural}`;
        throw new Failure("FENCED", { retry: "never", message });
      }
      const both = options.signal === undefined ? signal : AbortSignal.any([options.signal, signal]);
      return await api.request(request, { ...options, signal: both });
    },
    watch: (request, options) => api.watch(request, options),
  };
}
