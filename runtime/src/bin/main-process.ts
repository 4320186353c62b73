// What the processes that run a user's `main` share: the request on standard input, the graph that it asks for, the answer on file
// descriptor 3. The user's code may print what it likes.
//
// Not here: what is answered (plan.ts, states.ts), limits of time and memory, which the parent keeps (plan-process.ts).

import { closeSync, readFileSync, writeSync } from "node:fs";

import { buildGraph } from "../datastream/index.ts";
import type { StreamGraph } from "../graph/index.ts";

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

const ANSWER_FD = 3;

/** The job's graph, built by its `main`, and the module it came from. */
export async function requestedGraph(): Promise<{ readonly graph: StreamGraph; readonly moduleUrl: string }> {
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
  return { graph, moduleUrl };
}

/** One JSON value, whole, to the parent. */
export function answer(content: unknown): void {
  const bytes = Buffer.from(JSON.stringify(content));
  for (let at = 0; at < bytes.length;) at += writeSync(ANSWER_FD, bytes, at);
  closeSync(ANSWER_FD);
}
