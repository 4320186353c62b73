// `sluice list`, `status` and `cancel`: questions to JobManagers that run already.

import type { JobDetailsMessage } from "@sluice/api";
import { Failure } from "@sluice/kit";

import { progressLines, progressOf } from "./progress.ts";
import { RestClient } from "./rest-client.ts";
import { listRuns } from "./run-file.ts";

const RUNS_DIR = ".sluice";

/** For people, and for programs. */
export interface Answer {
  readonly lines: readonly string[];
  readonly json: unknown;
}

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
export async function listJobs(): Promise<Answer> {
  const jobs = await Promise.all(
    listRuns(RUNS_DIR).map(async ({ name, restUrl, pid }) => ({
      name,
      state: await stateOf(new RestClient(() => restUrl)),
      restUrl: restUrl ?? null,
      pid,
    })),
  );
  const lines = jobs.map(
    ({ name, state, restUrl, pid }) =>
      `${name}  ${state ?? "not reachable"}  ${restUrl ?? "starting"}  (process ${pid})`,
  );
  return { lines: lines.length === 0 ? ["no job runs in this directory"] : lines, json: { jobs } };
}

/** Null: nobody answers, as while a JobManager is being started again. */
async function stateOf(rest: RestClient): Promise<string | null> {
  try {
    return (await rest.job()).state;
  } catch {
    return null;
  }
}

/** The picture of one job. */
export async function describeJob(target: string, width: number): Promise<Answer> {
  const rest = findRest(target);
  const [job, checkpoints, overview, restarts] = await Promise.all([
    rest.job(),
    rest.checkpoints(),
    rest.overview(),
    rest.metric("numRestarts"),
  ]);
  const progress = progressOf({ job, checkpoints, overview, restarts }, undefined);
  const vertices = job.vertices.map(({ name, parallelism, status, metrics }) => ({
    name,
    parallelism,
    status,
    recordsRead: metrics["read-records"],
    recordsWritten: metrics["write-records"],
  }));
  return {
    lines: [...progressLines(progress, width), ...vertexLines(job)],
    json: { jobId: job.jid, ...progress, vertices },
  };
}

function vertexLines(job: JobDetailsMessage): readonly string[] {
  return job.vertices.map(
    (vertex) =>
      `  ${vertex.status.padEnd(12)} ${vertex.name} x${vertex.parallelism}: ${vertex.metrics["read-records"]} read, ${vertex.metrics["write-records"]} written`,
  );
}

export async function cancelJob(target: string): Promise<Answer> {
  const rest = findRest(target);
  const job = await rest.job();
  await rest.cancel();
  return { lines: [`job ${job.name} is being cancelled`], json: { job: job.name, jobId: job.jid } };
}
