// Public module of runtime/operators: operators around user functions, and what sources and sinks are.

export { noUploads, optionInvalid, shareOf } from "./connector.ts";
export type { Sink, Source } from "./connector.ts";
export { RateLimit, subtaskRateLimit } from "./rate-limit.ts";
export { filterFactory, flatMapFactory, mapFactory, processFactory } from "./stateless.ts";
export { coFlatMapFactory, coMapFactory, coProcessFactory } from "./co-functions.ts";
export { asyncWaitFactory } from "./async-wait.ts";
export type { AsyncWaitOptions } from "./async-wait.ts";
export { sinkFunctionFactory } from "./sink-function.ts";
export { aggregateFactory, reduceFactory } from "./rolling.ts";
export type { Aggregation } from "./rolling.ts";
export { keyedCoProcessFactory, keyedProcessFactory } from "./keyed.ts";
export { broadcastProcessFactory, keyedBroadcastProcessFactory } from "./broadcast.ts";
export { isCheckpointed } from "./function-operator.ts";
export type { FunctionOrSupplier } from "./user-function.ts";
export { OperatorHarness, restoredStates, testSubtask } from "./test-harness.ts";
export type { HarnessKeys, HarnessOptions } from "./test-harness.ts";
