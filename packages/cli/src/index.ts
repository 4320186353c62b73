// Public module of @sluice/cli: a cluster of processes on this machine, for programs (the demo, tests, benchmarks).

export { startLocalCluster } from "./local-cluster.ts";
export type {
  ClusterEvent,
  ClusterProcess,
  JobOutcome,
  LocalCluster,
  LocalClusterOptions,
  ProcessRef,
} from "./local-cluster.ts";
export { RestClient } from "./rest-client.ts";
export type { RestartPolicy } from "./supervised-process.ts";
