// Resource types: what stands in a request's path, tied to the TypeScript type of its objects.

import type { ConfigMap, KubeEvent, KubeObject, Lease, Namespace, Node, Pod, Secret, Service } from "./objects.ts";

declare const objectType: unique symbol;

export interface ResourceType<T extends KubeObject = KubeObject> {
  /** "" for the core group. */
  readonly group: string;
  readonly version: string;
  /** As in paths: "pods". */
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** Never set: it ties T to the value. */
  readonly [objectType]?: T;
}

/** Describes a resource; T is the type of its objects. */
export function resourceType<T extends KubeObject>(of: {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
}): ResourceType<T> {
  return of;
}

function core<T extends KubeObject>(kind: string, plural: string, namespaced = true): ResourceType<T> {
  return resourceType<T>({ group: "", version: "v1", plural, kind, namespaced });
}

export const PODS = core<Pod>("Pod", "pods");
export const SERVICES = core<Service>("Service", "services");
export const CONFIG_MAPS = core<ConfigMap>("ConfigMap", "configmaps");
export const SECRETS = core<Secret>("Secret", "secrets");
export const NODES = core<Node>("Node", "nodes", false);
export const NAMESPACES = core<Namespace>("Namespace", "namespaces", false);
export const LEASES = resourceType<Lease>({
  group: "coordination.k8s.io",
  version: "v1",
  plural: "leases",
  kind: "Lease",
  namespaced: true,
});
export const EVENTS = resourceType<KubeEvent>({
  group: "events.k8s.io",
  version: "v1",
  plural: "events",
  kind: "Event",
  namespaced: true,
});

/** `group/version`, or `v1` for the core group, as objects carry it. */
export function apiVersionOf(type: ResourceType): string {
  return type.group === "" ? type.version : `${type.group}/${type.version}`;
}

/** `plural.group`, or the plural alone: how logs, metrics and error messages call a resource. */
export function resourceName(type: ResourceType): string {
  return type.group === "" ? type.plural : `${type.plural}.${type.group}`;
}
