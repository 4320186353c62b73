// Stage "format": every file that prettier knows looks as prettier writes it.

import { join } from "node:path";

import { listFiles, runCommand, toolScript } from "./stage.ts";
import type { Problem, StageResult } from "./stage.ts";

const FORMATTED = /\.(ts|mts|mjs|cjs|js|json|jsonc|md|yml|yaml)$/;
const IGNORED = /(^|\/)(package-lock\.json|dist\/.*)$/;

export async function checkFormat(root: string): Promise<StageResult> {
  const files = (await listFiles(root)).filter((file) => FORMATTED.test(file) && !IGNORED.test(file));
  if (files.length === 0) return { checkedCount: 0, unit: "files", problems: [] };
  const cache = [
    "--cache",
    "--cache-strategy=content",
    `--cache-location=${join(root, "node_modules/.cache/prettier/check")}`,
  ];
  const script = toolScript("prettier", "prettier");
  const args = [script, "--list-different", ...cache, ...files];
  const { code, stdout, stderr } = await runCommand({ command: process.execPath, args, cwd: root });
  const problems: Problem[] = stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((file) => ({ file, message: "not in the house format; run: npm run format" }));
  for (const line of stderr.split("\n").filter((text) => text.startsWith("[error]"))) {
    problems.push({ file: ".prettierrc.json", message: line.slice("[error] ".length) });
  }
  if (code !== 0 && problems.length === 0) problems.push({ file: ".", message: `prettier failed: ${stderr.trim()}` });
  return { checkedCount: files.length, unit: "files", problems };
}
