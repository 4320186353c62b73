// Environment variables that a job declared: values frozen at planning, or secrets that only the TaskManagers know.
//
// Invariants:
//   DV1. A value that is no secret is read once, at planning; every other process gets it out of the plan.
//   DV2. A secret is never read by `main` and never in the plan: functions get it on the TaskManager (getEnvironment).

import { Failure } from "@sluice/kit";
import type { PlanEnvironment } from "../model/index.ts";

export interface EnvironmentOptions {
  /** Not read before the job runs, never stored. Default false. */
  readonly secret?: boolean;
  /** Used when the variable is not set; not for secrets. */
  readonly default?: string;
  /** May be absent. Default false. */
  readonly optional?: boolean;
}

export class DeclaredEnvironment {
  readonly #read: (name: string) => string | undefined;
  readonly #values = new Map<string, string>();
  readonly #secrets = new Map<string, { readonly optional: boolean }>();

  constructor(read: (name: string) => string | undefined) {
    this.#read = read;
  }

  /** The value; undefined for a secret and for an optional variable that is not set. */
  declare(name: string, options: EnvironmentOptions): string | undefined {
    const { secret = false, optional = false } = options;
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
      throw invalid(`"${name}" is no name of an environment variable`, "use letters, digits and _");
    if (name.startsWith("SLUICE_") || name.startsWith("AWS_"))
      throw invalid(`${name} belongs to the processes, not to the job`, "give the job's variable a name of its own");
    if (secret) {
      if (options.default !== undefined)
        throw invalid(`the secret ${name} has a default`, "a secret is not written down");
      this.#secrets.set(name, { optional });
      return undefined;
    }
    const value = this.#read(name) ?? options.default;
    if (value !== undefined) this.#values.set(name, value);
    else if (!optional)
      throw invalid(
        `environment variable ${name} is not set`,
        `set it where the job is submitted, or declare a default`,
      );
    return value;
  }

  /** Undefined: nothing was declared. */
  toPlan(): PlanEnvironment | undefined {
    if (this.#values.size + this.#secrets.size === 0) return undefined;
    const ordered = (names: Iterable<string>): string[] => [...names].sort();
    return {
      values: Object.fromEntries(ordered(this.#values.keys()).map((name) => [name, this.#values.get(name) ?? ""])),
      secrets: ordered(this.#secrets.keys()).map((name) => ({
        name,
        optional: this.#secrets.get(name)?.optional === true,
      })),
    };
  }
}

function invalid(message: string, remedy: string): Failure {
  return new Failure("CONFIG_INVALID", { retry: "never", message, remedy });
}
