// What can go wrong with a request to the API server, as one type.
//
// Invariants:
//   AE1. `outcome` is "refused" only when the server said that it did not do it, or nothing was sent. Everything else
//        about a write is "unknown": it may have been done, once, and the caller must look.
//   AE2. Callers decide by `status`, `reason` and `outcome`, never by parsing `message`.

import { Failure, isFailure, toFailure } from "@sluice/kit";

/** No HTTP status: the connection failed, broke, or the time was up. */
export const NO_STATUS = 0;

export interface ApiErrorOptions {
  /** HTTP status, or {@link NO_STATUS}. */
  readonly status: number;
  /** Kubernetes' StatusReason ("NotFound", "Conflict", ...), or ours: "ConnectionFailed", "ConnectionLost", "ClientTimeout". */
  readonly reason: string;
  readonly message: string;
  /** The server's Retry-After. */
  readonly retryAfterMs?: number;
  readonly outcome: "refused" | "unknown";
  readonly cause?: unknown;
}

export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly reason: string;
  readonly retryAfterMs: number | undefined;
  readonly outcome: "refused" | "unknown";

  constructor(options: ApiErrorOptions) {
    super(options.message, options.cause === undefined ? undefined : { cause: options.cause });
    this.status = options.status;
    this.reason = options.reason;
    this.retryAfterMs = options.retryAfterMs;
    this.outcome = options.outcome;
  }
}

/** By shape, so that it also holds for another copy of this module. */
export function isApiError(value: unknown): value is ApiError {
  return (
    typeof value === "object" &&
    value !== null &&
    (value as { name?: unknown }).name === "ApiError" &&
    typeof (value as { status?: unknown }).status === "number"
  );
}

export function isNotFound(thrown: unknown): boolean {
  return isApiError(thrown) && thrown.status === 404;
}

/** The object was changed since it was read, or a uid or resourceVersion precondition does not hold. */
export function isConflict(thrown: unknown): boolean {
  return isApiError(thrown) && thrown.status === 409 && thrown.reason !== "AlreadyExists";
}

export function isAlreadyExists(thrown: unknown): boolean {
  return isApiError(thrown) && thrown.status === 409 && thrown.reason === "AlreadyExists";
}

/** The resourceVersion asked for is no longer (or never was) served: list anew. */
export function isExpired(thrown: unknown): boolean {
  return isApiError(thrown) && (thrown.status === 410 || thrown.reason === "Expired");
}

/** True when a write may have been done although it failed. */
export function isUnknownOutcome(thrown: unknown): boolean {
  return isApiError(thrown) && thrown.outcome === "unknown";
}

/** True when the object itself is refused (400, 403, 422): the same request fails again. */
export function isRejected(thrown: unknown): boolean {
  return isApiError(thrown) && (thrown.status === 400 || thrown.status === 403 || thrown.status === 422);
}

/** What an answer with an error status means for the request (AE1). */
export function outcomeOfStatus(status: number): "refused" | "unknown" {
  return status >= 400 && status < 500 && status !== 408 ? "refused" : "unknown";
}

/** An ApiError as the kit's Failure, for logs and statuses that know nothing of Kubernetes. */
export function failureOfApiError(thrown: unknown): Failure {
  if (!isApiError(thrown) || isFailure(thrown)) return toFailure(thrown);
  const common = { message: `Kubernetes API: ${thrown.message}`, cause: thrown };
  if (thrown.status === 401 || thrown.status === 403) {
    const remedy =
      "Grant the controller's service account the missing permission (the chart's ClusterRole has them all).";
    return new Failure("PEER_REJECTED", { retry: "backoff", remedy, ...common });
  }
  if (isConflict(thrown)) return new Failure("OPERATION_CONFLICT", { retry: "now", ...common });
  if (isRejected(thrown)) return new Failure("PEER_REJECTED", { retry: "never", ...common });
  return new Failure("PEER_LOST", { retry: "backoff", ...common });
}
