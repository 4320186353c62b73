// Stage "lint": oxlint with types (rules in .oxlintrc.json). A warning is a failure: nobody reads warnings.

import { runCommand, toolScript } from "./stage.ts";
import type { StageResult } from "./stage.ts";

interface LintReport {
  readonly diagnostics: readonly {
    readonly message: string;
    readonly code?: string;
    readonly filename: string;
    readonly labels: readonly { readonly span: { readonly line: number } }[];
  }[];
  readonly number_of_files: number;
}

export async function checkLint(root: string): Promise<StageResult> {
  const args = [toolScript("oxlint", "oxlint"), "--type-aware", "--deny-warnings", "--format=json"];
  const { code, stdout, stderr } = await runCommand({ command: process.execPath, args, cwd: root });
  let report: LintReport;
  try {
    report = JSON.parse(stdout) as LintReport;
  } catch {
    throw new Error(`oxlint failed: ${(stdout + stderr).trim()}`);
  }
  const problems = report.diagnostics.map((found) => {
    const line = found.labels[0]?.span.line;
    const message = found.code === undefined ? found.message : `${found.code}: ${found.message}`;
    return line === undefined ? { file: found.filename, message } : { file: found.filename, line, message };
  });
  if (code !== 0 && problems.length === 0) throw new Error(`oxlint failed: ${stderr.trim()}`);
  return { checkedCount: report.number_of_files, unit: "files", problems };
}
