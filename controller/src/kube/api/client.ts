// The verbs of the Kubernetes API, typed by resource, over the KubeApi seam.
//
// Invariants:
//   CL1. One method, one request: nothing is retried, read before or looked up again here.
//   CL2. Server-side apply is always forced and always under this client's field manager: what we apply, we own.

import type { KubeApi, CallOptions, ObjectList, Selection } from "./kube-api.ts";
import { isNotFound } from "./api-error.ts";
import { apiVersionOf } from "./resources.ts";
import type { ResourceType } from "./resources.ts";
import type { KubeObject, ObjectMeta, Stored } from "./objects.ts";

export interface ObjectName {
  /** Absent for objects of the cluster. */
  readonly namespace?: string;
  readonly name: string;
}

export interface ListOptions extends CallOptions, Selection {
  readonly namespace?: string;
  readonly limit?: number;
  readonly continue?: string;
  readonly resourceVersion?: string;
}

export interface DeleteOptions extends CallOptions {
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly gracePeriodSeconds?: number;
  readonly propagationPolicy?: "Background" | "Foreground" | "Orphan";
}

/** The body of an apply: the fields that this manager wants, and no others. */
export type ApplyBody = Readonly<Record<string, unknown>> & { readonly metadata?: ObjectMeta };

export class KubeClient {
  readonly api: KubeApi;
  /** Owner of every field that this client writes, as managedFields show it. */
  readonly fieldManager: string;

  constructor(api: KubeApi, options: { readonly fieldManager: string }) {
    this.api = api;
    this.fieldManager = options.fieldManager;
  }

  /** The object; ApiError NotFound when there is none. */
  async get<T extends KubeObject>(
    type: ResourceType<T>,
    at: ObjectName,
    options: CallOptions = {},
  ): Promise<Stored<T>> {
    return (await this.api.request({ verb: "get", type, ...at }, options)) as Stored<T>;
  }

  /** The object, or undefined when there is none. */
  async find<T extends KubeObject>(
    type: ResourceType<T>,
    at: ObjectName,
    options: CallOptions = {},
  ): Promise<Stored<T> | undefined> {
    try {
      return await this.get(type, at, options);
    } catch (thrown) {
      if (isNotFound(thrown)) return undefined;
      throw thrown;
    }
  }

  /** One page. */
  async list<T extends KubeObject>(type: ResourceType<T>, options: ListOptions = {}): Promise<ObjectList<T>> {
    const { signal, timeoutMs, ...selection } = options;
    const call = { ...(signal && { signal }), ...(timeoutMs !== undefined && { timeoutMs }) };
    return (await this.api.request({ verb: "list", type, ...selection }, call)) as ObjectList<T>;
  }

  /** Creates it; ApiError AlreadyExists when the name is taken. */
  async create<T extends KubeObject>(type: ResourceType<T>, body: T, options: CallOptions = {}): Promise<Stored<T>> {
    const namespace = body.metadata.namespace;
    return (await this.api.request(
      { verb: "create", type, ...(namespace !== undefined && { namespace }), body, fieldManager: this.fieldManager },
      options,
    )) as Stored<T>;
  }

  /** Whether it would be created: ApiError as `create` would give it, and nothing is stored. */
  async tryCreate<T extends KubeObject>(type: ResourceType<T>, body: T, options: CallOptions = {}): Promise<void> {
    const namespace = body.metadata.namespace;
    const at = { ...(namespace !== undefined && { namespace }) };
    await this.api.request(
      { verb: "create", type, ...at, body, fieldManager: this.fieldManager, dryRun: true },
      options,
    );
  }

  /** Replaces it; with a resourceVersion in `body` only if it is still that version. */
  async update<T extends KubeObject>(type: ResourceType<T>, body: T, options: CallOptions = {}): Promise<Stored<T>> {
    return await this.#update(type, body, undefined, options);
  }

  /** Replaces its status; with a resourceVersion in `body` only if it is still that version. */
  async updateStatus<T extends KubeObject>(
    type: ResourceType<T>,
    body: T,
    options: CallOptions = {},
  ): Promise<Stored<T>> {
    return await this.#update(type, body, "status", options);
  }

  /** JSON merge patch: null removes a field, lists are replaced whole. A metadata.resourceVersion in it is a precondition. */
  async mergePatch<T extends KubeObject>(
    type: ResourceType<T>,
    at: ObjectName,
    body: unknown,
    options: CallOptions & { readonly subresource?: "status" } = {},
  ): Promise<Stored<T>> {
    const { subresource, ...call } = options;
    return (await this.api.request(
      {
        verb: "patch",
        type,
        ...at,
        patchType: "merge",
        body,
        fieldManager: this.fieldManager,
        ...(subresource && { subresource }),
      },
      call,
    )) as Stored<T>;
  }

  /**
   * Server-side apply: creates or changes it so that the named fields are as given; fields that this manager applied
   * earlier and no longer names are removed (CL2).
   */
  async apply<T extends KubeObject>(
    type: ResourceType<T>,
    at: ObjectName,
    body: ApplyBody,
    options: CallOptions & { readonly subresource?: "status" } = {},
  ): Promise<Stored<T>> {
    const { subresource, ...call } = options;
    const metadata = { ...body.metadata, ...at };
    return (await this.api.request(
      {
        verb: "patch",
        type,
        ...at,
        patchType: "apply",
        body: { ...body, apiVersion: apiVersionOf(type), kind: type.kind, metadata },
        fieldManager: this.fieldManager,
        force: true,
        ...(subresource && { subresource }),
      },
      call,
    )) as Stored<T>;
  }

  /** Asks for deletion. NotFound when there is none, Conflict when a precondition does not hold. */
  async delete(type: ResourceType, at: ObjectName, options: DeleteOptions = {}): Promise<void> {
    const { signal, timeoutMs, ...preconditions } = options;
    const call = { ...(signal && { signal }), ...(timeoutMs !== undefined && { timeoutMs }) };
    await this.api.request({ verb: "delete", type, ...at, ...preconditions }, call);
  }

  async #update<T extends KubeObject>(
    type: ResourceType<T>,
    body: T,
    subresource: "status" | undefined,
    options: CallOptions,
  ): Promise<Stored<T>> {
    const { namespace, name } = body.metadata;
    return (await this.api.request(
      {
        verb: "update",
        type,
        ...(namespace !== undefined && { namespace }),
        name: name ?? "",
        body,
        fieldManager: this.fieldManager,
        ...(subresource && { subresource }),
      },
      options,
    )) as Stored<T>;
  }
}
