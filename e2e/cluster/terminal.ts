// What all parts of the cluster driver share: commands that must succeed, failures with a remedy, progress with times.

import { runToEnd } from "@sluice/tools/peers";

const OUTPUT_LINES_SHOWN = 12;
const STILL_INTERVAL_MS = 30_000;

/** An expected failure: what happened, and what to do next. The driver prints it without a stack trace. */
export class Stop extends Error {
  readonly remedy: string;

  constructor(message: string, remedy: string) {
    super(message);
    this.remedy = remedy;
  }
}

export interface Command {
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string;
  readonly cwd?: string;
  /** What to do when it fails. */
  readonly remedy?: string;
}

/** Runs a command (program and arguments, no shell) to its end and returns what it printed, on either stream. */
export async function run(command: readonly string[], options: Command = {}): Promise<string> {
  const { code, output } = await attempt(command, options);
  if (code === 0) return output;
  const last = output.trim().split("\n").slice(-OUTPUT_LINES_SHOWN).join("\n  ");
  throw new Stop(
    `${command.join(" ")}\nended with exit code ${code}:\n  ${last}`,
    options.remedy ?? "read the lines above; `npm run e2e:cluster -- down` and `up` begin anew",
  );
}

/** The same for commands that may fail. A program that does not exist is a failure like others. */
export async function attempt(
  command: readonly string[],
  options: Command = {},
): Promise<{ readonly code: number; readonly output: string }> {
  const [program = "", ...args] = command;
  const { env, input, cwd } = options;
  try {
    return await runToEnd({
      command: program,
      args,
      ...(env === undefined ? {} : { env }),
      ...(input === undefined ? {} : { input }),
      ...(cwd === undefined ? {} : { cwd }),
    });
  } catch (error) {
    return { code: 127, output: error instanceof Error ? error.message : String(error) };
  }
}

interface Part {
  readonly name: string;
  readonly startMs: number;
  readonly durationMs: number;
}

/** Lines (on standard error unless told otherwise), each with the time since the command began; and a table of what took how long. */
export class Progress {
  readonly #originMs = performance.now();
  readonly #parts: Part[] = [];

  readonly #print: (line: string) => void;

  constructor(print: (line: string) => void = console.error) {
    this.#print = print;
  }

  readonly say = (line: string): void => {
    this.#print(`[${seconds(performance.now() - this.#originMs)}] ${line}`);
  };

  /** Runs a part and remembers how long it took. Parts may overlap. */
  async part<T>(name: string, body: () => Promise<T>): Promise<T> {
    const startMs = performance.now();
    this.say(name);
    const passed = (): string => `${((performance.now() - startMs) / 1000).toFixed(1)} s`;
    const ticker = setInterval(() => this.say(`${name}: still at it after ${passed()}`), STILL_INTERVAL_MS);
    let result: T;
    try {
      result = await body();
    } finally {
      clearInterval(ticker);
    }
    const durationMs = performance.now() - startMs;
    this.#parts.push({ name, startMs: startMs - this.#originMs, durationMs });
    this.say(`${name}: done in ${passed()}`);
    return result;
  }

  /** One line a part, in the order of their beginnings, and the time of all together. */
  table(): string {
    const parts = this.#parts.toSorted((a, b) => a.startMs - b.startMs);
    const width = Math.max(5, ...parts.map(({ name }) => name.length));
    const row = (name: string, from: string, took: string): string =>
      `${name.padEnd(width)}  ${from.padStart(8)}  ${took.padStart(8)}`;
    return [
      row("part", "began at", "took"),
      ...parts.map(({ name, startMs, durationMs }) => row(name, seconds(startMs), seconds(durationMs))),
      row("total", "", seconds(performance.now() - this.#originMs)),
    ].join("\n");
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1).padStart(5)} s`;
}
