// Labels and owners of everything that is made for a StreamJob.
//
// Invariants:
//   LA1. The label sluice.dev/job finds a StreamJob's objects, the owner's uid says whether they are this one's.

import { STREAM_JOB_API_VERSION, STREAM_JOB_KIND } from "@sluice/api";

import type { ObjectMeta, OwnerReference } from "../kube/index.ts";
import type { Component } from "./names.ts";

export const MANAGED_BY = { "app.kubernetes.io/managed-by": "sluice-controller" } as const;
export const JOB_LABEL = "sluice.dev/job";
export const COMPONENT_LABEL = "sluice.dev/component";
export const ATTEMPT_LABEL = "sluice.dev/attempt";
export const FINALIZER = "sluice.dev/job";

/** Who an object is made for. */
export interface Owner {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
}

export function labelsOf(
  owner: Owner,
  of: { readonly component?: Component; readonly attempt?: string },
): Readonly<Record<string, string>> {
  return {
    "app.kubernetes.io/name": "sluice",
    ...MANAGED_BY,
    [JOB_LABEL]: owner.name,
    ...(of.component !== undefined && { [COMPONENT_LABEL]: of.component }),
    ...(of.attempt !== undefined && { [ATTEMPT_LABEL]: of.attempt }),
  };
}

export function ownerReference(owner: Owner): OwnerReference {
  return {
    apiVersion: STREAM_JOB_API_VERSION,
    kind: STREAM_JOB_KIND,
    name: owner.name,
    uid: owner.uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}

export function metadataOf(
  owner: Owner,
  of: { readonly name: string; readonly component?: Component; readonly attempt?: string },
): ObjectMeta {
  return {
    name: of.name,
    namespace: owner.namespace,
    labels: labelsOf(owner, of),
    ownerReferences: [ownerReference(owner)],
  };
}
