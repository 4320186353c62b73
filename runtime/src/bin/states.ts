// Entry of the states process: builds the job's graph in a process of its own, opens its operators once, and tells what state they
// declare.
//
// Standard input: PlanRequest as JSON. File descriptor 3: one StatesAnswer as JSON; the user's code may print what it likes.
//
// Not here: limits of time and memory, which the parent keeps (plan-process.ts).

import { closeSync, readFileSync, writeSync } from "node:fs";

import { failureToJson, toFailure } from "@sluice/kit";
import type { FailureJson } from "@sluice/kit";
import { NodeClock, NodeLog } from "@sluice/kit/env/node";
import { buildGraph } from "../datastream/index.ts";
import { buildPlan } from "../graph/index.ts";
import type { JobPlan, OperatorSchema } from "../model/index.ts";
import { declaredStates } from "../task/index.ts";
import { bundleHash } from "./bundle-hash.ts";
import type { PlanRequest } from "./plan.ts";

export type StatesAnswer =
  { readonly plan: JobPlan; readonly operators: readonly OperatorSchema[] } | { readonly failure: FailureJson };

const ANSWER_FD = 3;

function answer(content: StatesAnswer): void {
  const bytes = Buffer.from(JSON.stringify(content));
  for (let at = 0; at < bytes.length;) at += writeSync(ANSWER_FD, bytes, at);
  closeSync(ANSWER_FD);
}

try {
  const request = JSON.parse(readFileSync(0, "utf8")) as PlanRequest;
  const { moduleUrl, configuration, jobName } = request;
  const readEnvironment = (name: string): string | undefined => request.environment[name];
  const graph = await buildGraph({
    job: moduleUrl,
    arguments: request.arguments,
    configuration,
    jobName,
    readEnvironment,
  });
  const plan = buildPlan(graph, { bundleHash: bundleHash(moduleUrl) });
  const log = new NodeLog({ level: "error", fields: {} });
  answer({ plan, operators: await declaredStates(graph, plan, { clock: new NodeClock(), log }) });
} catch (thrown) {
  answer({ failure: failureToJson(toFailure(thrown, "JOB_MAIN_FAILED")) });
}
// What open() left running ends with the process: everything was asked.
process.exit(0);
