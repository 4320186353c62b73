// Public module of runtime/graph: transformations, chaining, the plan.

export { transformationOf } from "./transformation.ts";
export type {
  ChainingStrategy,
  Exchange,
  KeyBy,
  StreamGraph,
  Transformation,
  TransformationInput,
} from "./transformation.ts";
export { defaultMaxParallelism, MAX_PARALLELISM_LIMIT, parallelismOf } from "./chaining.ts";
export { canonicalJson, sha256Hex, vertexIdOf } from "./digest.ts";
export { buildPlan, enumerateSplits, taskOperators } from "./plan-builder.ts";
export type { PlanOptions, TaskInput, TaskOperators, TaskOutput } from "./plan-builder.ts";
