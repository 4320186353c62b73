// Assertions for bugs in this program, always on.
//
// Invariants:
//   AS1. A false assertion is never handled: it stops the process (or, in the simulator, the simulated node).
//
// Not here: failures of the world around us (failure.ts).

/** Thrown by {@link assert}; only a process shell catches it, to stop the process. */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** Stops the program when `condition` is false. `invariant` names the rule that was broken, one condition per call. */
export function assert(condition: boolean, invariant: string): asserts condition {
  if (!condition) throw new AssertionError(invariant);
}

/** Marks a branch that the compiler proves unreachable; reaching it is a bug. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${JSON.stringify(value)}`);
}
