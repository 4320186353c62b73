// @sluice/runtime/testing: what tests of jobs use. Public; keeps its meaning.

export { MemoryObjectStore } from "./memory-store.ts";
export { CollectSink } from "./collect-sink.ts";
export { MiniCluster } from "./mini-cluster.ts";
export type { MiniClusterOptions, MiniClusterStatus } from "./mini-cluster.ts";
