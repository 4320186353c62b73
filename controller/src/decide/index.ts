// Public module of controller/src/decide: what is to be done about one StreamJob.

export { decide } from "./decide.ts";
export type { Action, DecideInput, Decision, JobEvent, JobManagerAddress, JobView, Settings } from "./types.ts";
