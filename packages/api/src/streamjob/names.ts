// Names that users, controller, pods and tests agree on.
//
// Not here: names of a job's objects (controller/src/objects).

export const STREAM_JOB_GROUP = "sluice.dev";
export const STREAM_JOB_VERSION = "v1alpha1";
export const STREAM_JOB_API_VERSION = `${STREAM_JOB_GROUP}/${STREAM_JOB_VERSION}`;
export const STREAM_JOB_KIND = "StreamJob";
export const STREAM_JOB_PLURAL = "streamjobs";

/** A name of 45 characters leaves room for `-tm-0123456789-9999` below the 63 of a label. */
export const STREAM_JOB_NAME_CHARS_MAX = 45;

/** The container of every pod that runs Sluice; `podTemplate` reaches it by this name. */
export const CONTAINER_NAME = "sluice";

/** Volumes of the operator begin with it, so that those of `podTemplate` do not meet them. */
export const OWN_VOLUME_PREFIX = "sluice-";

/** Labels and annotations that begin with it are the operator's. */
export const OWN_LABEL_PREFIX = "sluice.dev/";

/** Where things lie inside a pod. */
export const POD_PATHS = {
  /** PodConfig. */
  config: "/etc/sluice/pod.json",
  /** `spec.job.inline`. */
  inlineJob: "/etc/sluice/job.ts",
  /** The user's ConfigMap, one file per key. */
  configMapJob: "/etc/sluice-job",
  /** Where the source is copied to, so that `@sluice/runtime` resolves to the image's. */
  job: "/opt/sluice/job",
  /** Local copies and scratch files. */
  work: "/var/lib/sluice",
  /** PodReport. */
  report: "/dev/termination-log",
} as const;
