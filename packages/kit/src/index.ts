// Public module of @sluice/kit: what every other package may use. No I/O lives here; the seams are in ./env.

export { assert, AssertionError, unreachable } from "./assert.ts";
export type { Brand } from "./brand.ts";
export { describeFailure, Failure, failureFromJson, failureToJson, isFailure, toFailure } from "./failure.ts";
export type { Actor, FailureCode, FailureJson, Retry } from "./failure.ts";
export { planted, plantBugs } from "./planted.ts";
export type { PlantedBug } from "./planted.ts";
