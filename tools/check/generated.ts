// Stage "generated": generated files are what their generators write today. As a program (`npm run generate`) this
// file runs the generators for good.

import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { GENERATED } from "./generated.config.ts";
import { runCommand } from "./stage.ts";
import type { Problem, StageResult } from "./stage.ts";

export async function checkGenerated(root: string): Promise<StageResult> {
  const unit = "generated files";
  if (GENERATED.length === 0) {
    const nothingToDo = "no file is generated so far (tools/check/generated.config.ts)";
    return { checkedCount: 0, unit, problems: [], nothingToDo };
  }
  const problems: Problem[] = [];
  let checkedCount = 0;
  const into = mkdtempSync(join(tmpdir(), "sluice-generated-"));
  try {
    for (const { program, outputs } of GENERATED) {
      await generate(root, program, into);
      for (const file of outputs) {
        checkedCount += 1;
        const problem = compare({ file, wanted: join(into, file), found: join(root, file), program });
        if (problem !== undefined) problems.push(problem);
      }
    }
  } finally {
    rmSync(into, { recursive: true, force: true });
  }
  return { checkedCount, unit, problems };
}

async function generate(root: string, program: string, into: string): Promise<void> {
  const args = [join(root, program), "--into", into];
  const { code, stdout, stderr } = await runCommand({ command: process.execPath, args, cwd: root });
  if (code !== 0) throw new Error(`${program} failed: ${(stdout + stderr).trim()}`);
}

function compare(options: {
  readonly file: string;
  readonly wanted: string;
  readonly found: string;
  readonly program: string;
}): Problem | undefined {
  const { file, wanted, found, program } = options;
  if (!existsSync(wanted)) return { file, message: `${program} does not write it` };
  if (!existsSync(found)) return { file, message: "is missing; run: npm run generate" };
  const before = readFileSync(found, "utf8").split("\n");
  const after = readFileSync(wanted, "utf8").split("\n");
  const length = Math.max(before.length, after.length);
  for (let index = 0; index < length; index += 1) {
    if (before[index] !== after[index]) {
      return { file, line: index + 1, message: `differs from what ${program} writes; run: npm run generate` };
    }
  }
  return undefined;
}

if (import.meta.main) {
  const root = join(import.meta.dirname, "../..");
  for (const { program, outputs } of GENERATED) {
    await generate(root, program, root);
    for (const file of outputs) console.log(`wrote ${file}`);
  }
  if (GENERATED.length === 0) console.log("nothing to do: tools/check/generated.config.ts lists no generator");
}
