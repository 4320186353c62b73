// Health and readiness of the controller: named checks, each with a reason when it fails.
//
// Invariants:
//   HE1. A check fails only for what a restart of the process can cure (health), or what means that it should not count as
//        available (readiness). An API server that is down is neither: every replica would restart for nothing.
//
// Not here: HTTP (main/).

import type { ReadableCache } from "./cache/object-cache.ts";
import type { Reflector } from "./cache/reflector.ts";
import type { KubeObject } from "./api/objects.ts";
import type { Controller } from "./work/controller.ts";

/** Undefined: fine. Otherwise what is wrong. */
export type Check = () => string | undefined;

export interface HealthReport {
  readonly ok: boolean;
  /** One line per check, as the API server's own /healthz?verbose writes it. */
  readonly text: string;
}

export class HealthChecks {
  readonly #checks = new Map<string, Check>();

  /** Adds a check; another one of that name replaces it. */
  set(name: string, check: Check): void {
    this.#checks.set(name, check);
  }

  remove(name: string): void {
    this.#checks.delete(name);
  }

  report(): HealthReport {
    const lines: string[] = [];
    let ok = true;
    for (const [name, check] of this.#checks) {
      const problem = check();
      ok &&= problem === undefined;
      lines.push(problem === undefined ? `[+]${name} ok` : `[-]${name} failed: ${problem}`);
    }
    return { ok, text: `${lines.join("\n")}\n${ok ? "ok" : "failed"}\n` };
  }
}

/** A watch gives itself up after 3 min of silence at the latest and lists anew; twice that plus the longest backoff is a bug. */
const STALE_MS_MAX = 480_000;
/** Reconciles are aborted after a minute; a key that waits this long waits for workers that do not come back. */
const WAITING_MS_MAX = 600_000;

/**
 * Health: the reflector tries. It fails when nothing was heard for long although the API server is reachable, which
 * `isServerReachable` tells from other calls (the lease is renewed every 2 s).
 */
export function watchIsFresh(reflector: Reflector<KubeObject>, isServerReachable: () => boolean): Check {
  return () => {
    const { stalenessMs, resource } = reflector;
    if (stalenessMs <= STALE_MS_MAX || !isServerReachable()) return undefined;
    return `no word about ${resource} for ${Math.round(stalenessMs / 1_000)} s although the API server answers`;
  };
}

/** Health: keys do not wait forever, reconciles do not hang. */
export function queueMoves(controller: Controller): Check {
  return () => {
    const { oldestWaitingMs, longestWorkingMs } = controller.queue;
    const seconds = (ms: number): number => Math.round(ms / 1_000);
    if (longestWorkingMs > WAITING_MS_MAX) return `a reconcile has been running for ${seconds(longestWorkingMs)} s`;
    if (oldestWaitingMs > WAITING_MS_MAX && controller.isRunning) {
      return `an object has been waiting for ${seconds(oldestWaitingMs)} s`;
    }
    return undefined;
  };
}

/** Readiness: everything was listed once. */
export function cacheIsSynced(resource: string, cache: Pick<ReadableCache<KubeObject>, "isSynced">): Check {
  return () => (cache.isSynced ? undefined : `${resource} not listed yet`);
}
