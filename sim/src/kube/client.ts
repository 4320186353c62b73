// The KubeApi seam as one client of the simulated API server sees it.

import { ApiError, NO_STATUS } from "@sluice/controller/internal/kube";
import type {
  Answers,
  CallOptions,
  KubeApi,
  KubeRequest,
  WatchEvent,
  WatchRequest,
} from "@sluice/controller/internal/kube";
import { CALL_TIMEOUT_MS } from "@sluice/controller/internal/kube";
import { canceled } from "@sluice/kit";
import type { EventOwner } from "../event-loop.ts";
import { connectionLost, injected } from "./faults.ts";
import type { CallFault } from "./faults.ts";
import type { KubeCall, SimKubeServer } from "./server.ts";
import { SimWatch } from "./watch.ts";

const RETRY_AFTER_MS = 1_000;

/** A client whose calls and events end with its owner; without an owner it is the world's. */
export function simKubeClient(server: SimKubeServer, name: string, owner: EventOwner = server.worldOwner): KubeApi {
  return new SimKubeClient(server, name, owner);
}

class SimKubeClient implements KubeApi {
  readonly #server: SimKubeServer;
  readonly #name: string;
  readonly #owner: EventOwner;

  constructor(server: SimKubeServer, name: string, owner: EventOwner) {
    this.#server = server;
    this.#name = name;
    this.#owner = owner;
  }

  request<R extends KubeRequest>(request: R, options: CallOptions = {}): Promise<Answers[R["verb"]]> {
    return new Promise((resolve, reject) => {
      const { signal, timeoutMs = CALL_TIMEOUT_MS } = options;
      if (signal?.aborted === true) {
        reject(canceled("the request"));
        return;
      }
      const loop = this.#server.loop;
      const call = this.#server.begin(this.#name, request);
      if (!this.#owner.isAlive) return; // KV4: it died before it called
      const onAbort = (): void => finish(() => reject(canceled("the request")));
      const finish = (settle: () => void): void => {
        cancelTimer();
        signal?.removeEventListener("abort", onAbort);
        settle();
      };
      const cancelTimer = loop.at(timeoutMs, this.#owner, "kube timeout", () => finish(() => reject(timedOut())));
      signal?.addEventListener("abort", onAbort, { once: true });
      const answer = (settle: () => void): void => {
        this.#server.ended(call);
        loop.at(this.#server.latencyMs(), this.#owner, "kube answer", () => finish(settle));
      };
      const fault = this.#server.isDown ? undefined : this.#server.faultFor(call);
      this.#server.later(this.#server.latencyMs(), "kube request", () => {
        if (this.#server.isDown) {
          answer(() => reject(notConnected()));
          return;
        }
        const outcome = this.#serve(call, fault);
        if (outcome !== undefined) answer(() => outcome(resolve as (value: unknown) => void, reject));
      });
    });
  }

  watch(request: WatchRequest, options: CallOptions = {}): AsyncIterable<WatchEvent> {
    return { [Symbol.asyncIterator]: () => new SimWatch(this.#server, this.#owner, request, options) };
  }

  /** What the client will be told; undefined: nothing, ever. */
  #serve(
    call: KubeCall,
    fault: CallFault | undefined,
  ): ((resolve: (value: unknown) => void, reject: (reason: ApiError) => void) => void) | undefined {
    if (fault !== undefined) this.#server.strike(fault);
    switch (fault) {
      case "lostBefore":
        return (_resolve, reject) => reject(connectionLost());
      case "errorBefore":
        return (_resolve, reject) => reject(injected(this.#server.rng.chance(0.5) ? 500 : 503));
      case "tooManyRequests":
        return (_resolve, reject) => reject(injected(429, RETRY_AFTER_MS));
      case "conflict":
        return (_resolve, reject) => reject(injected(409));
      case "hang":
        if (this.#server.rng.chance(0.5)) this.#execute(call);
        this.#server.ended(call);
        return undefined;
      case "lostAfter":
        this.#execute(call);
        return (_resolve, reject) => reject(connectionLost());
      case "errorAfter":
        this.#execute(call);
        return (_resolve, reject) => reject(injected(this.#server.rng.chance(0.5) ? 500 : 504));
      case undefined:
      default: {
        const done = this.#execute(call);
        return (resolve, reject) => ("value" in done ? resolve(done.value) : reject(done.error));
      }
    }
  }

  #execute(call: KubeCall): { readonly value: unknown } | { readonly error: ApiError } {
    try {
      return { value: this.#server.state.execute(call.request) };
    } catch (thrown) {
      if (thrown instanceof ApiError) return { error: thrown };
      throw thrown;
    }
  }
}

function timedOut(): ApiError {
  return new ApiError({ status: NO_STATUS, reason: "ClientTimeout", message: "no answer in time", outcome: "unknown" });
}

function notConnected(): ApiError {
  const message = "connection refused";
  return new ApiError({ status: NO_STATUS, reason: "ConnectionFailed", message, outcome: "refused" });
}
