// Public module of worlds/: the worlds that main.ts runs by name.

export { runAlignerWorld } from "./aligner.ts";
export { runCoordinatorWorld } from "./coordinator.ts";
export { runOperationsWorld } from "./operations/index.ts";
export { CRASH_SEEDS, runOperatorChaosWorld, runOperatorCrashWorld } from "./operator/index.ts";
export type { RunOptions, RunResult } from "./run.ts";
