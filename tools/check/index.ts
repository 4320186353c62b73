// Public module of tools/check: what other tools share with the checks.

export { TEST_CODE } from "./layers.config.ts";
export { runCommand, toolScript } from "./stage.ts";
