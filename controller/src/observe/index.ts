// Public module of controller/src/observe: what the cluster and the JobManager say about a StreamJob, as plain data.

export type {
  Ended,
  JobManagerView,
  LogHead,
  Observed,
  OperationView,
  PodReportView,
  PodTrial,
  PodView,
  RefusedAction,
  SnapshotView,
} from "./observed.ts";
export { askStatus, askStop, cancelRequest, stopRequest, unpinRequest } from "./job-manager-api.ts";
export type { JobManagerApi, RestAddress, RestAnswer, RestRequest } from "./job-manager-api.ts";
export { lostNodesOf, podViews } from "./pods.ts";
