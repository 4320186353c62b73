// Public module of taskmanager/: the process that hosts slots.

export { channelRoutes } from "./channels.ts";
export { DataPlane } from "./data-plane.ts";
export type { IoGate, MachineFigures, SlotExit, SlotHandlers, SlotHost, SlotThread } from "./seams.ts";
export { RECONNECT, TaskManager } from "./task-manager.ts";
export type { TaskManagerOptions, TaskManagerSnapshot } from "./task-manager.ts";
export { IoService } from "./io/index.ts";
export type { IoCommand, IoEvent, IoServiceOptions, SlotOrigin } from "./io/index.ts";
export { metricsView } from "./metrics-view.ts";
export { startMetricsServer } from "./metrics/metrics-server.ts";
