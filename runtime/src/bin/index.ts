// Public module of bin/: what supervisors need of the process entries.

export { runPlanProcess } from "./plan-process.ts";
export type { PlanProcessOptions, PlanProcessResult } from "./plan-process.ts";
export type { PlanRequest } from "./plan.ts";

/** File URLs of the process entries, to be started with `node FILE --config CONFIG`. */
export const PROCESS_ENTRIES = {
  jobManager: new URL(import.meta.url.endsWith(".ts") ? "./jobmanager.ts" : "./jobmanager.js", import.meta.url),
  taskManager: new URL(import.meta.url.endsWith(".ts") ? "./taskmanager.ts" : "./taskmanager.js", import.meta.url),
} as const;
