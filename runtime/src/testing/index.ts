// @sluice/runtime/testing: what tests of jobs use. Public; keeps its meaning.

export { CollectSink } from "./collect-sink.ts";
export { ProcessFunctionTestHarnesses } from "./function-harnesses.ts";
export { MemoryObjectStore } from "./memory-store.ts";
export { MiniCluster } from "./mini-cluster.ts";
export type { MiniClusterOptions, MiniClusterStatus } from "./mini-cluster.ts";
export { oneInputTestHarness, twoInputTestHarness } from "./operator-harness.ts";
export type { OneInputTestHarness, TestHarnessOptions, TwoInputTestHarness } from "./operator-harness.ts";
export type { OperatorSnapshot } from "./operator-snapshot.ts";
