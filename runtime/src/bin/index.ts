// Public module of bin/: what supervisors need of the process entries, and the one part that runs in any thread.

import type { runJobManager } from "./run-jobmanager.ts";
import type { runTaskManager } from "./run-taskmanager.ts";
import { besides } from "./process-shell.ts";

export { runPlanProcess, runStatesProcess } from "./plan-process.ts";
export { openStore, openUploads, processLog, runProcess, superviseBy } from "./process-shell.ts";
export type { EndEvent, Supervision } from "./process-shell.ts";
export type { PlanProcessOptions, PlanProcessResult, StatesProcessResult } from "./plan-process.ts";
export type { PlanRequest } from "./main-process.ts";
export { runSlot } from "./run-slot.ts";
export type { SlotRun } from "./run-slot.ts";

/** File URLs of the process entries, to be started with `node FILE --config CONFIG`. */
export const PROCESS_ENTRIES = {
  jobManager: besides("jobmanager"),
  taskManager: besides("taskmanager"),
} as const;

/** For a process that becomes one of them; both are large, so each is loaded where it is needed. */
export const PROCESS_LOADERS = {
  jobManager: async (): Promise<typeof runJobManager> => (await import("./run-jobmanager.ts")).runJobManager,
  taskManager: async (): Promise<typeof runTaskManager> => (await import("./run-taskmanager.ts")).runTaskManager,
} as const;
