// Entry of the plan process: runs the user's `main` in a process of its own and hands the plan, or what went wrong, to its parent.
//
// Standard input: PlanRequest as JSON. File descriptor 3: one PlanAnswer as JSON.
//
// Not here: limits of time and memory, which the parent keeps (plan-process.ts).

import { failureToJson, toFailure } from "@sluice/kit";
import type { FailureJson } from "@sluice/kit";
import { buildPlan, enumerateSplits } from "../graph/index.ts";
import type { JobPlan } from "../model/index.ts";
import { bundleHash } from "./bundle-hash.ts";
import { answer, requestedGraph } from "./main-process.ts";

export type PlanAnswer = { readonly plan: JobPlan } | { readonly failure: FailureJson };

try {
  const { graph, moduleUrl } = await requestedGraph();
  const splits = await enumerateSplits(graph);
  answer({ plan: buildPlan(graph, { bundleHash: bundleHash(moduleUrl), splits }) } satisfies PlanAnswer);
} catch (thrown) {
  answer({ failure: failureToJson(toFailure(thrown, "JOB_MAIN_FAILED")) } satisfies PlanAnswer);
}
// The user's timers and connections end with the process: the plan is made.
process.exit(0);
