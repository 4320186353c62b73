// Public module of controller/src/apply: one pass over one StreamJob, and StreamJobs as objects.

export { Reconciler } from "./reconcile.ts";
export type { Caches, ReconcilerOptions } from "./reconcile.ts";
export { jobViewOf, STREAM_JOBS } from "./stream-jobs.ts";
export type { StreamJobObject } from "./stream-jobs.ts";
