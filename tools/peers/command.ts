// Runs a foreign command to its end. Arguments only, no shell.

import { spawn } from "node:child_process";

const OUTPUT_CHARS_MAX = 65_536;

export interface CommandOutcome {
  readonly code: number;
  /** Standard output and standard error as they came, the last 64 KiB of them, or `outputCharsMax`. */
  readonly output: string;
}

export function runToEnd(options: {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string;
  readonly outputCharsMax?: number;
  /** Hears the output while it comes. */
  readonly onOutput?: (text: string) => void;
}): Promise<CommandOutcome> {
  return new Promise((resolve, reject) => {
    const { command, args, cwd, env, input, outputCharsMax = OUTPUT_CHARS_MAX, onOutput } = options;
    const child = spawn(command, args, { cwd, env: env ?? process.env, stdio: ["pipe", "pipe", "pipe"] });
    let output = "";
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString()).slice(-outputCharsMax);
      onOutput?.(chunk.toString());
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.stdin.on("error", () => undefined); // the program need not read its input
    child.stdin.end(input ?? "");
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? 1, output }));
  });
}
