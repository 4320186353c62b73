// What state the operators of a job declare: each is made and opened once, as subtask 0, and asked. No record is processed.
//
// Invariants:
//   DS1. Sources and sinks are not opened: that could touch their input or output.
//   DS2. An operator whose open() fails does not keep the others from being asked.
//
// Not here: the process this happens in (bin/), which has neither credentials nor a time without limit.

import { AssertionError, assert, isFailure, keyGroupRange } from "@sluice/kit";
import type { Clock, Log } from "@sluice/kit/env";
import { taskOperators, type StreamGraph, type TaskOperators } from "../graph/index.ts";
import type {
  AttemptNumber,
  Collector,
  Epoch,
  JobPlan,
  OperatorContext,
  OperatorFactory,
  OperatorSchema,
  PlanOperator,
  StateSchema,
  SubtaskInfo,
} from "../model/index.ts";
import { HeapKeyedStateBackend } from "../state/index.ts";
import { jobContext } from "./job-context.ts";
import { TaskMetrics } from "./operator-context.ts";

const NOWHERE: Collector<unknown> = { collect: () => {} };

/** In the order of the plan. */
export async function declaredStates(
  graph: StreamGraph,
  plan: JobPlan,
  env: { readonly clock: Clock; readonly log: Log },
): Promise<readonly OperatorSchema[]> {
  const schemas: OperatorSchema[] = [];
  for (const { id } of plan.vertices) {
    const operators = taskOperators(graph, plan, id);
    for (const [index, link] of operators.chain.entries())
      schemas.push(await askOperator({ plan, operators, index, ...link, env }));
  }
  return schemas;
}

async function askOperator(options: {
  readonly plan: JobPlan;
  readonly operators: TaskOperators;
  readonly index: number;
  readonly operator: PlanOperator;
  readonly factory: OperatorFactory;
  readonly env: { readonly clock: Clock; readonly log: Log };
}): Promise<OperatorSchema> {
  const { plan, operators, index, operator, factory, env } = options;
  const { uid, name } = operator;
  const keyType = index === 0 ? (operators.keyType ?? null) : null;
  const schema = { uid, name, keyType, problem: null, states: [] };
  if (factory.kind === "source" || factory.kind === "sink") return { ...schema, asked: "connector" }; // DS1
  const { parallelism, maxParallelism } = operators.vertex;
  const subtask: SubtaskInfo = {
    jobName: plan.jobName,
    lineage: "check",
    epoch: 0 as Epoch,
    attempt: 0 as AttemptNumber,
    operatorName: name,
    uid,
    subtaskIndex: 0,
    parallelism,
    maxParallelism,
  };
  const { first, last } = keyGroupRange(0, maxParallelism, parallelism);
  const keyed =
    keyType === null
      ? undefined
      : new HeapKeyedStateBackend({ keyType, keyGroups: [first, last], maxParallelism, uid, clock: env.clock });
  try {
    const made = factory.create(subtask);
    await made.open(contextOf(subtask, plan, keyed, env), undefined);
    const states: StateSchema[] = [...(keyed?.declaredStates() ?? []), ...(made.declaredStates?.() ?? [])];
    await made.close(false);
    return { ...schema, asked: "opened", states };
  } catch (thrown) {
    if (thrown instanceof AssertionError) throw thrown;
    const problem = isFailure(thrown) || thrown instanceof Error ? thrown.message : String(thrown);
    return { ...schema, asked: "failed", problem }; // DS2
  }
}

function contextOf(
  subtask: SubtaskInfo,
  plan: JobPlan,
  keyed: HeapKeyedStateBackend | undefined,
  env: { readonly clock: Clock; readonly log: Log },
): OperatorContext {
  return {
    subtask,
    output: NOWHERE,
    sideOutput: () => NOWHERE,
    metrics: new TaskMetrics(env).group(subtask.uid),
    job: jobContext(plan, () => undefined, "any secret"),
    clock: env.clock,
    log: env.log,
    keyed,
    checkpointingEnabled: true,
    openUploads: () => {
      assert(false, "DS1: only sinks upload");
    },
    wake: () => {},
  };
}
