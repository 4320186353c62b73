// Jest runs native ES modules; the TypeScript is stripped by our own transformer (tools/jest/strip-types.mjs),
// so that no compiler package stands between the source and the test. See docs/development.md for how to run one file.

import { homedir } from "node:os";
import { join } from "node:path";

// Tests start hundreds of processes of the same modules: what one has compiled the next ones find.
const isOurs = process.env.NODE_COMPILE_CACHE === undefined; // another one is not ours to trim
process.env.NODE_COMPILE_CACHE ??= join(process.env.SLUICE_CACHE || join(homedir(), ".cache/sluice"), "compiled");

/** @type {import("jest").Config} */
export default {
  ...(isOurs && { globalSetup: "<rootDir>/tools/jest/trim-compiled.mjs" }),
  testEnvironment: "node",
  testMatch: ["**/*.test.ts"],
  // The template's tests are those of users: they run on Node's own runner, in a project that a test makes (tools/pack).
  testPathIgnorePatterns: ["/node_modules/", "/dist/", "/packages/cli/template/"],
  modulePathIgnorePatterns: ["/dist/"],
  extensionsToTreatAsEsm: [".ts"],
  transform: { "\\.ts$": "<rootDir>/tools/jest/strip-types.mjs" },
  moduleFileExtensions: ["ts", "mjs", "js", "cjs", "json", "node"],
  // Many tests start child processes; more workers than this make them fight for two cores.
  maxWorkers: 2,
  testTimeout: 20_000,
};
