// Public module of @sluice/sim: the simulated implementations of the seams, and the world they live in.

export { SimDisk } from "./disk.ts";
export { EventLoop } from "./event-loop.ts";
export type { EventOwner } from "./event-loop.ts";
export { HEALTHY, swarm } from "./faults.ts";
export type { FaultPlan } from "./faults.ts";
export { SimWires } from "./net.ts";
export { SimNode, Violation, World } from "./node.ts";
export type { SimEnv, WorldOptions } from "./node.ts";
export { SimStorage } from "./store.ts";
export type { StorageObserver } from "./store.ts";
export { UploadSpace } from "./uploads.ts";
export { armTripwires } from "./tripwires.ts";
