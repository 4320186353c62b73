// Requests of the seam as HTTP, and HTTP answers as what the seam promises. Pure.
//
// Grammar (API conventions of Kubernetes):
//   path      = "/api/" version | "/apis/" group "/" version, ["/namespaces/" namespace], "/" plural, ["/" name], ["/status"]
//   get, list, watch = GET; create = POST; update = PUT; patch = PATCH with the kind of patch as content type; delete = DELETE
//   error     = any status from 400 on with a Status object {reason, message, details.retryAfterSeconds}, or any other body
//               (of a proxy)

import { ApiError, outcomeOfStatus } from "./api-error.ts";
import type { DeleteRequest, KubeRequest, WatchRequest } from "./kube-api.ts";

export interface HttpRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** With the query. */
  readonly path: string;
  readonly contentType?: string;
  readonly body?: string;
}

const PATCH_TYPES = { apply: "application/apply-patch+yaml", merge: "application/merge-patch+json" } as const;
const MESSAGE_LENGTH_MAX = 500;

/** The request as it is sent. */
export function httpRequestOf(request: KubeRequest | WatchRequest): HttpRequest {
  switch (request.verb) {
    case "get":
      return { method: "GET", path: pathOf(request, request.name) };
    case "list": {
      const { labelSelector, fieldSelector, limit, resourceVersion } = request;
      // Unsaid, a version together with a limit would mean the state of exactly that version.
      const isFrom = resourceVersion !== undefined && request.continue === undefined;
      const resourceVersionMatch = isFrom ? "NotOlderThan" : undefined;
      const from = { continue: request.continue, resourceVersion, resourceVersionMatch };
      const query = { labelSelector, fieldSelector, limit, ...from };
      return { method: "GET", path: pathOf(request) + queryOf(query) };
    }
    case "watch": {
      const { labelSelector, fieldSelector, resourceVersion, allowWatchBookmarks, timeoutSeconds } = request;
      const query = { watch: true, labelSelector, fieldSelector, resourceVersion, allowWatchBookmarks, timeoutSeconds };
      return { method: "GET", path: pathOf(request) + queryOf(query) };
    }
    case "create": {
      const path =
        pathOf(request) +
        queryOf({ fieldManager: request.fieldManager, dryRun: request.dryRun === true ? "All" : undefined });
      return { method: "POST", path, contentType: "application/json", body: JSON.stringify(request.body) };
    }
    case "update": {
      const path = pathOf(request, request.name, request.subresource) + queryOf({ fieldManager: request.fieldManager });
      return { method: "PUT", path, contentType: "application/json", body: JSON.stringify(request.body) };
    }
    case "patch": {
      const query = queryOf({ fieldManager: request.fieldManager, force: request.force });
      const path = pathOf(request, request.name, request.subresource) + query;
      return { method: "PATCH", path, contentType: PATCH_TYPES[request.patchType], body: JSON.stringify(request.body) };
    }
    case "delete": {
      const body = JSON.stringify(deleteOptions(request));
      return { method: "DELETE", path: pathOf(request, request.name), contentType: "application/json", body };
    }
    default:
      return request satisfies never;
  }
}

/** The error of an answer with status 400 or above. `retryAfter` is the header, in seconds or as a date. */
export function apiErrorOf(status: number, body: string, retryAfter?: string): ApiError {
  const parsed = parseStatus(body);
  const seconds = Number(retryAfter ?? parsed?.details?.retryAfterSeconds ?? Number.NaN);
  return new ApiError({
    status,
    reason: parsed?.reason ?? reasonOf(status),
    message: parsed?.message ?? `HTTP ${status}: ${body.slice(0, MESSAGE_LENGTH_MAX)}`,
    ...(Number.isFinite(seconds) && { retryAfterMs: seconds * 1_000 }),
    outcome: outcomeOfStatus(status),
  });
}

interface StatusObject {
  readonly reason?: string;
  readonly message?: string;
  readonly code?: number;
  readonly details?: { readonly retryAfterSeconds?: number };
}

/** The Status of a watch's ERROR event as an error. */
export function apiErrorOfStatus(status: unknown): ApiError {
  const { code = 500 } = (status ?? {}) as StatusObject;
  return apiErrorOf(code, JSON.stringify(status));
}

function parseStatus(body: string): StatusObject | undefined {
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value !== "object" || value === null) return undefined;
    return (value as { readonly kind?: unknown }).kind === "Status" ? (value as StatusObject) : undefined;
  } catch {
    return undefined; // not from the API server
  }
}

function reasonOf(status: number): string {
  const reasons: Readonly<Record<number, string>> = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
    504: "Timeout",
  };
  return reasons[status] ?? "Unknown";
}

function pathOf(
  request: { readonly type: KubeRequest["type"]; readonly namespace?: string },
  name?: string,
  subresource?: string,
): string {
  const { group, version, plural } = request.type;
  const base = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
  const namespace = request.namespace === undefined ? "" : `/namespaces/${encodeURIComponent(request.namespace)}`;
  const object = name === undefined ? "" : `/${encodeURIComponent(name)}`;
  return `${base}${namespace}/${plural}${object}${subresource === undefined ? "" : `/${subresource}`}`;
}

function queryOf(parameters: Readonly<Record<string, string | number | boolean | undefined>>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) query.set(name, String(value));
  const text = query.toString();
  return text === "" ? "" : `?${text}`;
}

function deleteOptions(request: DeleteRequest): unknown {
  const { uid, resourceVersion, gracePeriodSeconds, propagationPolicy } = request;
  return {
    kind: "DeleteOptions",
    apiVersion: "v1",
    ...((uid ?? resourceVersion) !== undefined && { preconditions: { uid, resourceVersion } }),
    gracePeriodSeconds,
    propagationPolicy,
  };
}
