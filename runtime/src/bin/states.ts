// Entry of the states process: builds the job's graph in a process of its own, opens its operators once, and tells what state they
// declare.
//
// Standard input: PlanRequest as JSON. File descriptor 3: one StatesAnswer as JSON.
//
// Not here: limits of time and memory, which the parent keeps (plan-process.ts).

import { failureToJson, toFailure } from "@sluice/kit";
import type { FailureJson } from "@sluice/kit";
import { NodeClock, NodeLog } from "@sluice/kit/env/node";
import { buildPlan } from "../graph/index.ts";
import type { JobPlan, OperatorSchema } from "../model/index.ts";
import { declaredStates } from "../task/index.ts";
import { bundleHash } from "./bundle-hash.ts";
import { answer, requestedGraph } from "./main-process.ts";

export type StatesAnswer =
  { readonly plan: JobPlan; readonly operators: readonly OperatorSchema[] } | { readonly failure: FailureJson };

try {
  const { graph, moduleUrl } = await requestedGraph();
  const plan = buildPlan(graph, { bundleHash: bundleHash(moduleUrl) });
  const log = new NodeLog({ level: "error", fields: {} });
  const operators = await declaredStates(graph, plan, { clock: new NodeClock(), log });
  answer({ plan, operators } satisfies StatesAnswer);
} catch (thrown) {
  answer({ failure: failureToJson(toFailure(thrown, "JOB_MAIN_FAILED")) } satisfies StatesAnswer);
}
// What open() left running ends with the process: everything was asked.
process.exit(0);
