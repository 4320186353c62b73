// `npm run check [stage ...] [--root DIR]`: everything that can be said about the code without running it.
//
// Invariants:
//   M1. Every stage runs, whatever the others found, and reports one line.
//   M2. The last line is `N passed, N failed`; the exit code is 0 only if nothing failed and something passed.
//
// Not here: the stages (one file each); tests (tools/test).

import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { checkFormat } from "./format.ts";
import { checkGenerated } from "./generated.ts";
import { checkLockFile, checkTraces } from "./hygiene.ts";
import { checkLayers } from "./layers.ts";
import { checkLint } from "./lint.ts";
import type { Stage, StageResult } from "./stage.ts";
import { checkTripwires } from "./tripwires.ts";
import { checkTypes } from "./types.ts";

const STAGES: readonly Stage[] = [
  { name: "format", about: "files look as prettier writes them", run: checkFormat },
  { name: "types", about: "TypeScript, strict", run: checkTypes },
  { name: "lint", about: "oxlint with types", run: checkLint },
  { name: "layers", about: "who may import whom", run: checkLayers },
  { name: "tripwires", about: "no clock, chance or process in core code", run: checkTripwires },
  { name: "generated", about: "generated files are current", run: checkGenerated },
  { name: "lockfile", about: "no download addresses", run: checkLockFile },
  { name: "traces", about: "no paths or hosts of a machine", run: checkTraces },
];

const PROBLEMS_SHOWN_MAX = 40;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({ options: { root: { type: "string" } }, allowPositionals: true });
  const root = resolve(values.root ?? join(import.meta.dirname, "../.."));
  const unknown = positionals.find((name) => !STAGES.some((stage) => stage.name === name));
  if (unknown !== undefined) {
    const names = STAGES.map((stage) => `  ${stage.name.padEnd(10)} ${stage.about}`).join("\n");
    console.error(`unknown stage "${unknown}"; there are:\n${names}`);
    return 2;
  }
  let passed = 0;
  let failed = 0;
  for (const stage of STAGES) {
    if (positionals.length > 0 && !positionals.includes(stage.name)) continue;
    const outcome = await runStage(stage, root);
    if (outcome === "passed") passed += 1;
    if (outcome === "failed") failed += 1;
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

async function runStage(stage: Stage, root: string): Promise<"passed" | "failed" | "nothing to do"> {
  const startedMs = performance.now();
  let result: StageResult;
  try {
    result = await stage.run(root);
  } catch (error) {
    result = { checkedCount: -1, unit: "", problems: [{ file: ".", message: messageOf(error) }] };
  }
  const { checkedCount, unit, problems, nothingToDo } = result;
  const seconds = `${((performance.now() - startedMs) / 1000).toFixed(1)} s`;
  const line = (outcome: string, detail: string): void =>
    console.log(`${outcome.padEnd(6)} ${stage.name.padEnd(10)} ${seconds.padStart(7)}  ${detail}`);
  if (nothingToDo !== undefined && problems.length === 0) {
    line("none", nothingToDo);
    return "nothing to do";
  }
  if (problems.length > 0) {
    line("FAILED", checkedCount < 0 ? "could not run" : `${problems.length} problems in ${checkedCount} ${unit}`);
    for (const { file, line: at, message } of problems.slice(0, PROBLEMS_SHOWN_MAX)) {
      console.log(`    ${at === undefined ? file : `${file}:${at}`}  ${message}`);
    }
    if (problems.length > PROBLEMS_SHOWN_MAX) console.log(`    and ${problems.length - PROBLEMS_SHOWN_MAX} more`);
    return "failed";
  }
  if (checkedCount === 0) {
    line("FAILED", `found no ${unit} to check`); // K1
    return "failed";
  }
  line("ok", `${checkedCount} ${unit}`);
  return "passed";
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

process.exitCode = await main();
