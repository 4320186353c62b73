// Public module of jobmanager/: the process that schedules a job and decides about its checkpoints.

export { JobMaster } from "./job-master.ts";
export type { JobMasterOptions, JobStorage } from "./job-master.ts";
export { claimJob, jobIdOf, storeOf } from "./start-job.ts";
export { Awaited } from "./rest/awaited.ts";
export { startRestServer } from "./rest/rest-server.ts";
export type { JobManagerView, RestSource } from "./rest/source.ts";
