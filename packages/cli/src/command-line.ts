// One command from its arguments to its exit code; what went wrong is said on standard error.
//
// Not here: the commands (program.ts).

import { AssertionError, describeFailure, toFailure } from "@sluice/kit";
import { CommanderError } from "commander";

import { EXIT, exitCodeOf } from "./exit-codes.ts";
import { makeProgram } from "./program.ts";

/** `argv` as the process has it. Never rejects. */
export async function runCommandLine(argv: readonly string[]): Promise<number> {
  let exitCode: number = EXIT.ok;
  const alive = setInterval(() => {}, 2 ** 30); // timers of the seams hold no process, and an answer may be waited for
  try {
    await makeProgram((code) => {
      exitCode = code;
    }).parseAsync(argv);
    return exitCode;
  } catch (thrown) {
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.ok : EXIT.usage; // commander has said it
    const failure = toFailure(thrown);
    process.stderr.write(`sluice: ${describeFailure(failure)}\n`);
    const { stack } = (failure.cause ?? failure) as { readonly stack?: string };
    // where it happened: in the user's code, or in ours when it is a bug
    const isInteresting =
      failure.code === "JOB_MAIN_FAILED" || failure.code === "INTERNAL" || thrown instanceof AssertionError;
    if (isInteresting && stack !== undefined) process.stderr.write(`${stack.split("\n").slice(1, 9).join("\n")}\n`);
    return exitCodeOf(failure);
  } finally {
    clearInterval(alive);
  }
}
