// Public module of bin/: what supervisors need of the process entries, and the one part that runs in any thread.

import { besides } from "./process-shell.ts";

export { runPlanProcess, runStatesProcess } from "./plan-process.ts";
export { openStore } from "./process-shell.ts";
export type { PlanProcessOptions, PlanProcessResult, StatesProcessResult } from "./plan-process.ts";
export type { PlanRequest } from "./main-process.ts";
export { runSlot } from "./run-slot.ts";
export type { SlotRun } from "./run-slot.ts";

/** File URLs of the process entries, to be started with `node FILE --config CONFIG`. */
export const PROCESS_ENTRIES = {
  jobManager: besides("jobmanager"),
  taskManager: besides("taskmanager"),
} as const;
