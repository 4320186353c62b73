// Public module of the harness: the cluster as scenarios see it.

export { dumpDiagnostics } from "./diagnostics.ts";
export { killLeader, killPod } from "./faults.ts";
export type { KillKind, Strike } from "./faults.ts";
export { JobHandle } from "./job.ts";
export { LEDGER_KEYS, ledgerArgs, ledgerSource, RESOURCES } from "./manifest.ts";
export { createNamespace, removeLeftovers, removeNamespace } from "./namespaces.ts";
export { loseNode, workerToLose } from "./nodes.ts";
export type { LostNode } from "./nodes.ts";
export { conditionOf, containerOf } from "./objects.ts";
export type { Component, PodObject, StreamJobObject } from "./objects.ts";
export { openStorePort } from "./store-port.ts";
export { Timelines } from "./timeline.ts";
export { Watch } from "./watch.ts";
export { kubectl, tryKubectl } from "./world.ts";
export type { World } from "./world.ts";
