// What the exit code of `sluice` says.

import type { Failure } from "@sluice/kit";

export const EXIT = {
  /** The job finished or was cancelled, the question was answered. */
  ok: 0,
  /** The job failed, or something did not work. */
  failed: 1,
  /** The command line or the configuration is wrong; nothing was started. */
  usage: 2,
  /** Stopped by a signal (128 + SIGTERM); the job can be continued. */
  stopped: 143,
} as const;

const USAGE: ReadonlySet<string> = new Set([
  "CONFIG_INVALID",
  "CONFIG_UNKNOWN_KEY",
  "CONFIG_NOT_IMPLEMENTED",
  "JOB_MODULE_NOT_FOUND",
  "ADDRESS_IN_USE",
  "JOB_FINISHED",
  "JOB_FOREIGN",
  "JOB_CLOSED",
]);

/** Of a failure that ended the command. */
export function exitCodeOf(failure: Failure): number {
  return USAGE.has(failure.code) ? EXIT.usage : EXIT.failed;
}
