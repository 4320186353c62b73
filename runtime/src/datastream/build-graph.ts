// From a job module to its graph: import, call `main`, hand back what it built.
//
// Invariants:
//   BG1. Every failure says whose it is: JOB_MODULE_NOT_FOUND (the path), JOB_MODULE_INVALID (the module), JOB_MAIN_FAILED
//        (an exception in `main`, with the user's stack).
//
// Not here: limits of time and memory for `main` (the plan process), the plan itself (graph/).

import { Failure, isFailure } from "@sluice/kit";
import type { StreamGraph } from "../graph/index.ts";
import { StreamExecutionEnvironment, type JobMain } from "./environment.ts";

export interface BuildGraphOptions {
  /** file: URL of the job's module, or its main function (tests, in-process runs). */
  readonly job: string | JobMain;
  readonly arguments: readonly string[];
  /** From -D and file; code wins over it. */
  readonly configuration: Readonly<Record<string, string>>;
  /** Until `execute(name)` says otherwise. */
  readonly jobName: string;
  /** Of declared environment variables; without it none is set. */
  readonly readEnvironment?: (name: string) => string | undefined;
}

/** Builds the graph. Failures: JOB_MODULE_NOT_FOUND, JOB_MODULE_INVALID, JOB_MAIN_FAILED, and those of the API calls in `main`. */
export async function buildGraph(options: BuildGraphOptions): Promise<StreamGraph> {
  const { job, configuration, jobName } = options;
  const main = typeof job === "string" ? await loadMain(job) : job;
  const env = new StreamExecutionEnvironment({
    jobName,
    configuration,
    arguments: options.arguments,
    ...(options.readEnvironment === undefined ? {} : { readEnvironment: options.readEnvironment }),
  });
  try {
    await main(env, options.arguments);
  } catch (thrown) {
    if (isFailure(thrown)) throw thrown;
    throw new Failure("JOB_MAIN_FAILED", {
      retry: "never",
      message: `main of ${typeof job === "string" ? job : "the job"} threw ${describe(thrown)}`,
      remedy: "look at the stack below: the exception came out of the job's own code",
      cause: thrown,
    });
  }
  return env.getStreamGraph();
}

async function loadMain(moduleUrl: string): Promise<JobMain> {
  let exports: Readonly<Record<string, unknown>>;
  try {
    exports = (await import(moduleUrl)) as Readonly<Record<string, unknown>>;
  } catch (thrown) {
    const { code, url } = thrown as { readonly code?: unknown; readonly url?: unknown };
    // One of its own imports may be missing instead: its URL is another one, or there is none (a package).
    if (code === "ERR_MODULE_NOT_FOUND" && url === moduleUrl) {
      throw new Failure("JOB_MODULE_NOT_FOUND", {
        retry: "never",
        message: `there is no job module ${moduleUrl}`,
        remedy: "check the path; it must exist on every machine that runs the job",
        cause: thrown,
      });
    }
    throw new Failure("JOB_MODULE_INVALID", {
      retry: "never",
      message: `job module ${moduleUrl} cannot be loaded: ${describe(thrown)}${placeOf(thrown)}`,
      remedy: "correct it (it must load with plain Node, without flags), and see that all it imports is installed",
      cause: thrown,
    });
  }
  const { main } = exports;
  if (typeof main === "function") return main as JobMain;
  throw new Failure("JOB_MODULE_INVALID", {
    retry: "never",
    message: `job module ${moduleUrl} exports no function main`,
    remedy: "write: export function main(env: StreamExecutionEnvironment, args: readonly string[]): void { ... }",
  });
}

/** Where in the user's files: of wrong syntax the line before the stack, of an exception its first frame in a file. */
function placeOf(thrown: unknown): string {
  const { stack } = (thrown ?? {}) as { readonly stack?: unknown };
  if (typeof stack !== "string") return "";
  const place = /^(?:file:\/\/)?(\/\S+:\d+)\n/.exec(stack) ?? /\bfile:\/\/(\/\S+:\d+):\d+\)?$/m.exec(stack);
  return place?.[1] === undefined ? "" : ` (${place[1]})`;
}

function describe(thrown: unknown): string {
  const error = thrown as { readonly name?: unknown; readonly message?: unknown } | null;
  return typeof error === "object" && typeof error?.message === "string"
    ? `${String(error.name)}: ${error.message}`
    : String(thrown);
}
