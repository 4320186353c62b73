// What functions may know of the job's call: parameters and variables out of the plan, secrets out of this process.

import { Failure } from "@sluice/kit";
import type { JobContext, JobPlan } from "../model/index.ts";

/** Failure CONFIG_INVALID for a secret that this process has not got. */
export function jobContext(
  plan: JobPlan,
  readEnvironment: (name: string) => string | undefined,
  mayLack: "optional secrets" | "any secret" = "optional secrets",
): JobContext {
  const { parameters = {}, environment = { values: {}, secrets: [] } } = plan;
  const variables = new Map<string, string | undefined>(Object.entries(environment.values));
  for (const { name, optional } of environment.secrets) {
    const value = readEnvironment(name);
    if (value === undefined && !optional && mayLack !== "any secret") {
      throw new Failure("CONFIG_INVALID", {
        retry: "never",
        message: `the job needs the secret ${name}, and the TaskManager's environment has no such variable`,
        remedy: "set it for every TaskManager, or declare it as optional",
      });
    }
    variables.set(name, value);
  }
  return { parameters, environment: variables };
}
