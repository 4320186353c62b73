// What goes wrong between a client and the simulated API server.
//
// Invariants:
//   KF1. One draw per call, whatever the rates are: changing a rate moves no other fault.
//   KF2. Every fault that struck is counted, so that a test can prove that its fault happened.

import { ApiError, outcomeOfStatus } from "@sluice/controller/internal/kube";

/** Rates within [0, 1]: of calls for those of a call (together at most 1), of deliveries or streams for those of watches. */
export interface KubeFaults {
  /** The connection breaks before the server saw the request; the client cannot know. */
  readonly lostBefore: number;
  /** The server did it; the connection breaks before the answer. */
  readonly lostAfter: number;
  /** 500 or 503, not done. */
  readonly errorBefore: number;
  /** 500 or 504 although it is done. */
  readonly errorAfter: number;
  /** 429 with Retry-After 1 s, not done. */
  readonly tooManyRequests: number;
  /** A write is answered 409 Conflict, not done. */
  readonly conflict: number;
  /** Never answered: not done, or done. The client's own timeout ends it. */
  readonly hang: number;
  /** Per delivery: the watch's connection is reset. */
  readonly watchReset: number;
  /** Per delivery: the server ends the watch early. */
  readonly watchEnded: number;
  /** Per stream: after a while nothing comes any more, and nothing says so. */
  readonly watchSilent: number;
  /** Per stream: the server has forgotten the version (410). */
  readonly watchExpired: number;
  /** Time of one way, uniform. */
  readonly latencyMs: { readonly min: number; readonly max: number };
  /** How long after a change a watch tells of it, beyond the latency. */
  readonly watchLagMs: { readonly min: number; readonly max: number };
}

export const HEALTHY_KUBE: KubeFaults = {
  lostBefore: 0,
  lostAfter: 0,
  errorBefore: 0,
  errorAfter: 0,
  tooManyRequests: 0,
  conflict: 0,
  hang: 0,
  watchReset: 0,
  watchEnded: 0,
  watchSilent: 0,
  watchExpired: 0,
  latencyMs: { min: 1, max: 5 },
  watchLagMs: { min: 0, max: 5 },
};

/** Faults that strike calls. */
export type CallFault =
  "lostBefore" | "lostAfter" | "errorBefore" | "errorAfter" | "tooManyRequests" | "conflict" | "hang";

const CALL_FAULTS: readonly CallFault[] = [
  "lostBefore",
  "lostAfter",
  "errorBefore",
  "errorAfter",
  "tooManyRequests",
  "conflict",
  "hang",
];

/** The fault that `draw`, within [0, 1), stands for (KF1). */
export function callFaultOf(faults: KubeFaults, draw: number): CallFault | undefined {
  let below = 0;
  for (const fault of CALL_FAULTS) {
    below += faults[fault];
    if (draw < below) return fault;
  }
  return undefined;
}

/** All rates of calls at `rate / 7` each, those of watches at `rate / 4`, and a lag of up to `lagMs`. */
export function unreliable(rate: number, lagMs = 2_000): KubeFaults {
  const call = rate / CALL_FAULTS.length;
  return {
    lostBefore: call,
    lostAfter: call,
    errorBefore: call,
    errorAfter: call,
    tooManyRequests: call,
    conflict: call,
    hang: call,
    watchReset: rate / 4,
    watchEnded: rate / 4,
    watchSilent: rate / 4,
    watchExpired: rate / 4,
    latencyMs: { min: 1, max: 200 },
    watchLagMs: { min: 0, max: lagMs },
  };
}

export function connectionLost(): ApiError {
  return new ApiError({
    status: 0,
    reason: "ConnectionLost",
    message: "injected: connection reset",
    outcome: "unknown",
  });
}

/** An injected answer with an error status. */
export function injected(status: number, retryAfterMs?: number): ApiError {
  const reasons: Readonly<Record<number, string>> = {
    409: "Conflict",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
  };
  return new ApiError({
    status,
    reason: reasons[status] ?? "Unknown",
    message: `injected: ${status}`,
    outcome: outcomeOfStatus(status),
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  });
}
