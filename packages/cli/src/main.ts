#!/usr/bin/env node
// Entry of `sluice`.

import { AssertionError, describeFailure, toFailure } from "@sluice/kit";
import { CommanderError } from "commander";

import { EXIT, exitCodeOf } from "./exit-codes.ts";
import { makeProgram } from "./program.ts";

let exitCode: number = EXIT.ok;
try {
  await makeProgram((code) => {
    exitCode = code;
  }).parseAsync(process.argv);
} catch (thrown) {
  if (thrown instanceof CommanderError) {
    exitCode = thrown.exitCode === 0 ? EXIT.ok : EXIT.usage; // commander has said it
  } else {
    const failure = toFailure(thrown);
    process.stderr.write(`sluice: ${describeFailure(failure)}\n`);
    const { stack } = (failure.cause ?? failure) as { readonly stack?: string };
    // where it happened: in the user's code, or in ours when it is a bug
    const isInteresting =
      failure.code === "JOB_MAIN_FAILED" || failure.code === "INTERNAL" || thrown instanceof AssertionError;
    if (isInteresting && stack !== undefined) process.stderr.write(`${stack.split("\n").slice(1, 9).join("\n")}\n`);
    exitCode = exitCodeOf(failure);
  }
}
process.exit(exitCode);
