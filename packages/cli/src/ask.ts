// `sluice list`, `status` and `cancel`: questions to JobManagers that run already.

import type { JobDetailsMessage } from "@sluice/api";
import { Failure } from "@sluice/kit";

import { progressLines, progressOf } from "./progress.ts";
import { RestClient } from "./rest-client.ts";
import { listRuns } from "./run-file.ts";

const RUNS_DIR = ".sluice";

/** The address of a job: `http://host:port`, `host:port`, or the name of a job that `sluice run` runs in this directory. */
export function findRest(target: string): RestClient {
  if (/^https?:\/\//.test(target)) return new RestClient(() => target.replace(/\/+$/, ""));
  if (/^[^/\s]+:\d{1,5}$/.test(target)) return new RestClient(() => `http://${target}`);
  const runs = listRuns(RUNS_DIR);
  const run = runs.find((candidate) => candidate.name === target);
  if (run?.restUrl !== undefined) return new RestClient(() => run.restUrl);
  const names = runs.map((candidate) => candidate.name).join(", ");
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `no job "${target}" runs in this directory${names === "" ? "" : `; there are: ${names}`}`,
    remedy: "Give the address of its REST, for example 127.0.0.1:8081; sluice run prints it.",
  });
}

/** One line per job that runs in this directory. */
export async function listJobs(): Promise<readonly string[]> {
  const runs = listRuns(RUNS_DIR);
  if (runs.length === 0) return ["no job runs in this directory"];
  return await Promise.all(
    runs.map(async (run) => {
      const state = await stateOf(new RestClient(() => run.restUrl));
      return `${run.name}  ${state}  ${run.restUrl ?? "starting"}  (process ${run.pid})`;
    }),
  );
}

async function stateOf(rest: RestClient): Promise<string> {
  try {
    return (await rest.job()).state;
  } catch {
    return "not reachable"; // a JobManager that is being started again
  }
}

/** The picture of one job. */
export async function describeJob(target: string, width: number): Promise<readonly string[]> {
  const rest = findRest(target);
  const [job, checkpoints, overview, restarts] = await Promise.all([
    rest.job(),
    rest.checkpoints(),
    rest.overview(),
    rest.metric("numRestarts"),
  ]);
  return [
    ...progressLines(progressOf({ job, checkpoints, overview, restarts }, undefined), width),
    ...vertexLines(job),
  ];
}

function vertexLines(job: JobDetailsMessage): readonly string[] {
  return job.vertices.map(
    (vertex) =>
      `  ${vertex.status.padEnd(12)} ${vertex.name} x${vertex.parallelism}: ${vertex.metrics["read-records"]} read, ${vertex.metrics["write-records"]} written`,
  );
}

export async function cancelJob(target: string): Promise<string> {
  const rest = findRest(target);
  const job = await rest.job();
  await rest.cancel();
  return `job ${job.name} is being cancelled`;
}
