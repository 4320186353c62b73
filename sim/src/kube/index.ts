// Public module of the simulated Kubernetes API server. Tests of the controller and simulated worlds use it; nothing ships it.

export { kubeBench } from "./bench.ts";
export type { KubeBench } from "./bench.ts";
export { simKubeClient } from "./client.ts";
export { HEALTHY_KUBE, unreliable } from "./faults.ts";
export type { CallFault, KubeFaults } from "./faults.ts";
export { SimKubeServer } from "./server.ts";
export type { CallHook, KubeCall, SimKubeOptions } from "./server.ts";
export { KubeState } from "./state.ts";
export type { AnyObject, Change } from "./state.ts";
