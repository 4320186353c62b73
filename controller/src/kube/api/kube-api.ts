// The seam to the Kubernetes API: one call that answers, one that streams. Everything else of this folder stands on it.
//
// Invariants:
//   KA1. `request` rejects with ApiError, or with the kit's Failure CANCELED when the caller's signal fired. A canceled or
//        timed-out write may have been done.
//   KA2. `watch` ends normally when the server ends it, and throws ApiError for everything else, 410 included.
//   KA3. Objects of one answer belong to the receiver; nobody else holds or changes them.
//   KA4. Nothing is retried here.
//
// Real: node/http-api.ts. Simulated: the sim workspace (sim/src/kube).

import type { ApiError } from "./api-error.ts";
import type { KubeObject, Stored } from "./objects.ts";
import type { ResourceType } from "./resources.ts";

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** Time for the whole call; default {@link CALL_TIMEOUT_MS}. For watches: until the first byte of the answer. */
  readonly timeoutMs?: number;
}

export const CALL_TIMEOUT_MS = 30_000;

interface Target {
  readonly type: ResourceType;
  /** Absent: an object of the cluster, or (list, watch) all namespaces. */
  readonly namespace?: string;
}

export interface Selection {
  /** "a=b,c in (d,e),!f": as kubectl takes it. */
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
}

export interface GetRequest extends Target {
  readonly verb: "get";
  readonly name: string;
}

export interface ListRequest extends Target, Selection {
  readonly verb: "list";
  readonly limit?: number;
  readonly continue?: string;
  /** "" (newest, read from etcd) when absent; "0": whatever the server has cached; else at least that. */
  readonly resourceVersion?: string;
}

export interface CreateRequest extends Target {
  readonly verb: "create";
  readonly body: KubeObject;
  readonly fieldManager?: string;
  /** The server checks it, admission and quotas included, answers as if it had made it, and stores nothing (dryRun=All). */
  readonly dryRun?: true;
}

export interface UpdateRequest extends Target {
  readonly verb: "update";
  readonly name: string;
  readonly subresource?: "status";
  /** With metadata.resourceVersion: refused as a conflict when the object has another one. */
  readonly body: KubeObject;
  readonly fieldManager?: string;
}

export interface PatchRequest extends Target {
  readonly verb: "patch";
  readonly name: string;
  readonly subresource?: "status";
  /** "apply": server-side apply; "merge": JSON merge patch (RFC 7386). */
  readonly patchType: "apply" | "merge";
  readonly body: unknown;
  /** Needed for apply. */
  readonly fieldManager?: string;
  /** Apply: take over fields that another manager owns. */
  readonly force?: boolean;
}

export interface DeleteRequest extends Target {
  readonly verb: "delete";
  readonly name: string;
  /** Refused as a conflict when the object of that name is another one. */
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly gracePeriodSeconds?: number;
  readonly propagationPolicy?: "Background" | "Foreground" | "Orphan";
}

export interface WatchRequest extends Target, Selection {
  readonly verb: "watch";
  readonly resourceVersion: string;
  readonly allowWatchBookmarks: boolean;
  /** The server ends the watch after this time. */
  readonly timeoutSeconds: number;
}

export type KubeRequest = GetRequest | ListRequest | CreateRequest | UpdateRequest | PatchRequest | DeleteRequest;

/** A page of a list. */
export interface ObjectList<T extends KubeObject = KubeObject> {
  readonly metadata: {
    readonly resourceVersion: string;
    readonly continue?: string;
    readonly remainingItemCount?: number;
  };
  readonly items: readonly Stored<T>[];
}

/** A Status object, as deletes may answer it. */
export interface StatusAnswer {
  readonly kind: "Status";
  readonly status?: string;
}

/** What a request of each verb answers. */
export interface Answers {
  readonly get: Stored<KubeObject>;
  readonly list: ObjectList;
  readonly create: Stored<KubeObject>;
  readonly update: Stored<KubeObject>;
  readonly patch: Stored<KubeObject>;
  /** The object while it is being deleted, or a Status when it is gone. */
  readonly delete: Stored<KubeObject> | StatusAnswer;
}

export type WatchEvent<T extends KubeObject = KubeObject> =
  /** First: the server has accepted the watch. */
  | { readonly type: "OPENED" }
  | { readonly type: "ADDED" | "MODIFIED" | "DELETED"; readonly object: Stored<T> }
  /** Nothing else happened up to this version. Servers send none while a resource is quiet. */
  | { readonly type: "BOOKMARK"; readonly resourceVersion: string }
  | { readonly type: "ERROR"; readonly error: ApiError };

export interface KubeApi {
  request<R extends KubeRequest>(request: R, options?: CallOptions): Promise<Answers[R["verb"]]>;
  /** Returning from the iteration (break, return, throw) closes the stream; so does the signal. */
  watch(request: WatchRequest, options?: CallOptions): AsyncIterable<WatchEvent>;
}
