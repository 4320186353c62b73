// Entry of the plan process: runs the user's `main` in a process of its own and hands the plan, or what went wrong, to its parent.
//
// Standard input: PlanRequest as JSON. File descriptor 3: one PlanAnswer as JSON; the user's code may print what it likes.
//
// Not here: limits of time and memory, which the parent keeps (plan-process.ts).

import { closeSync, readFileSync, writeSync } from "node:fs";

import { failureToJson, toFailure } from "@sluice/kit";
import type { FailureJson } from "@sluice/kit";
import { buildGraph } from "../datastream/index.ts";
import { buildPlan, enumerateSplits } from "../graph/index.ts";
import type { JobPlan } from "../model/index.ts";
import { bundleHash } from "./bundle-hash.ts";

export interface PlanRequest {
  /** file: URL of the job's module. */
  readonly moduleUrl: string;
  readonly arguments: readonly string[];
  /** Flink-named configuration from outside; the module's own wins over it. */
  readonly configuration: Readonly<Record<string, string>>;
  /** Until the module says otherwise. */
  readonly jobName: string;
  /** What a job may declare, without secrets of ours; its own `process.env` has the rest of them only. */
  readonly environment: Readonly<Record<string, string>>;
}

export type PlanAnswer = { readonly plan: JobPlan } | { readonly failure: FailureJson };

const ANSWER_FD = 3;

function answer(content: PlanAnswer): void {
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
  const splits = await enumerateSplits(graph);
  answer({ plan: buildPlan(graph, { bundleHash: bundleHash(moduleUrl), splits }) });
} catch (thrown) {
  answer({ failure: failureToJson(toFailure(thrown, "JOB_MAIN_FAILED")) });
}
// The user's timers and connections end with the process: the plan is made.
process.exit(0);
