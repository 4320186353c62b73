// Stage "types": the whole repository type-checks as one program.

import { relative } from "node:path";

import { runCommand, toolScript } from "./stage.ts";
import type { Problem, StageResult } from "./stage.ts";

export async function checkTypes(root: string): Promise<StageResult> {
  const args = [toolScript("typescript", "tsc"), "--noEmit", "--pretty", "false", "--listFiles", "-p", root];
  const { code, stdout, stderr } = await runCommand({ command: process.execPath, args, cwd: root });
  const problems: Problem[] = [];
  let checkedCount = 0;
  for (const line of stdout.split("\n")) {
    const found = /^(.+?)\((\d+),\d+\): error (TS\d+: .*)$/.exec(line);
    if (found !== null) {
      problems.push({ file: found[1] ?? "", line: Number(found[2]), message: found[3] ?? "" });
    } else if (line.startsWith("error TS")) {
      problems.push({ file: "tsconfig.json", message: line });
    } else if (isOwnFile(root, line)) {
      checkedCount += 1;
    }
  }
  if (code !== 0 && problems.length === 0) problems.push({ file: "tsconfig.json", message: (stdout + stderr).trim() });
  return { checkedCount, unit: "files", problems };
}

function isOwnFile(root: string, line: string): boolean {
  return line.startsWith(root) && !relative(root, line).includes("node_modules");
}
