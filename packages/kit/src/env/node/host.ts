// This process: its name, and the way out when an invariant broke.

import { hostname } from "node:os";

import type { Host } from "../env.ts";
import type { Log } from "../log.ts";

/** Exit code of a crash by a broken assertion or lost fencing (EX_SOFTWARE): supervisors restart, tests recognise it. */
export const CRASH_EXIT_CODE = 70;

export class NodeHost implements Host {
  readonly name: string;
  readonly #log: Log;

  /** `name` defaults to the machine's name and the process id. */
  constructor(options: { readonly log: Log; readonly name?: string }) {
    this.name = (options.name ?? `${hostname()}-${process.pid}`).replace(/[^A-Za-z0-9-]/g, "-");
    this.#log = options.log;
  }

  crash(reason: string): never {
    this.#log.error("crash", { reason, exitCode: CRASH_EXIT_CODE });
    process.exit(CRASH_EXIT_CODE);
  }
}
