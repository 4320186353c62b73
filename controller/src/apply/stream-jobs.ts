// StreamJobs as objects of the Kubernetes API.
//
// Invariants:
//   SO1. What is stored may be older than this program: defaults are filled in, and fields of a status that do not fit are dropped
//        rather than believed.

import {
  knownFields,
  problemsOf,
  STREAM_JOB_GROUP,
  STREAM_JOB_KIND,
  STREAM_JOB_PLURAL,
  STREAM_JOB_VERSION,
  StreamJobSpec,
  StreamJobStatus,
  withDefaults,
} from "@sluice/api";

import type { JobView } from "../decide/index.ts";
import { resourceType } from "../kube/index.ts";
import type { KubeObject, Stored } from "../kube/index.ts";
import { FINALIZER } from "../objects/index.ts";
import type { JobStatus } from "../status/index.ts";

export interface StreamJobObject extends KubeObject {
  readonly spec?: unknown;
  readonly status?: unknown;
}

export const STREAM_JOBS = resourceType<StreamJobObject>({
  group: STREAM_JOB_GROUP,
  version: STREAM_JOB_VERSION,
  plural: STREAM_JOB_PLURAL,
  kind: STREAM_JOB_KIND,
  namespaced: true,
});

/** The object as decide reads it (SO1). */
export function jobViewOf(object: Stored<StreamJobObject>): JobView {
  const { metadata } = object;
  // A newer CRD may have fields that this program cannot carry out: they are no part of what it deploys.
  const spec = knownFields(StreamJobSpec, withDefaults(StreamJobSpec, object.spec ?? {}));
  return {
    uid: metadata.uid,
    namespace: metadata.namespace ?? "default",
    name: metadata.name,
    generation: metadata.generation ?? 1,
    hasFinalizer: metadata.finalizers?.includes(FINALIZER) === true,
    isDeleting: metadata.deletionTimestamp !== undefined,
    spec,
    problems: problemsOf(StreamJobSpec, spec, { allowsUnknownFields: true }),
    status: statusOf(object.status),
  };
}

function statusOf(stored: unknown): JobStatus {
  if (typeof stored !== "object" || stored === null) return {};
  const fits = (value: unknown): boolean =>
    problemsOf(StreamJobStatus, value, { allowsUnknownFields: true }).length === 0;
  if (fits(stored)) return stored as JobStatus;
  return Object.fromEntries(Object.entries(stored).filter(([key, value]) => fits({ [key]: value }))) as JobStatus;
}
