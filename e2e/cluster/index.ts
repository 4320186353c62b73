// Public module of the cluster: what end-to-end tests use.

export { clusterOf, findCluster, isPresent, up } from "./cluster.ts";
export type { Cluster } from "./cluster.ts";
export { answers, engineOf } from "./engine.ts";
export type { Engine } from "./engine.ts";
export { debianRoot } from "./node-image.ts";
export { forward } from "./forward.ts";
export type { Forward } from "./forward.ts";
export { load } from "./load.ts";
export { cached, readRecord, withLock } from "./places.ts";
export { startStore, STORE, STORE_NAMESPACE, withStore } from "./store.ts";
export { attempt, Progress, run, Stop } from "./terminal.ts";
export type { Command } from "./terminal.ts";
export { PUBLIC_NODE_JS_IMAGE } from "./versions.ts";
