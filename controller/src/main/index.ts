// Public module of controller/src/main: the operator over seams, for simulated worlds; the program is main.ts.

export { FIELD_MANAGER, LEASE_NAME, Operator } from "./operator.ts";
export type { OperatorOptions } from "./operator.ts";
export { Scope } from "./scope.ts";
