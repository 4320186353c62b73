// Makes the plan of a job: runs the plan process and keeps its limits (protocols 6).
//
// Invariants:
//   PP1. Whatever `main` does, the caller gets a plan or a Failure within the time limit.
//   PP2. User code sees no secret of ours: credentials and SLUICE_SECRET are not in its environment.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

import { Failure, failureFromJson } from "@sluice/kit";
import type { JobPlan, OperatorSchema } from "../model/index.ts";
import type { PlanRequest } from "./main-process.ts";
import type { PlanAnswer } from "./plan.ts";
import type { StatesAnswer } from "./states.ts";
import { besides, declarableEnvironment, userEnvironment } from "./process-shell.ts";

const DEFAULT_TIMEOUT_MS = 30_000;
const DEFAULT_HEAP_BYTES = 512 * 2 ** 20;
/** More output than this is cut: it is for messages only. */
const OUTPUT_CHARS_MAX = 64 * 1024;
const ANSWER_BYTES_MAX = 256 * 2 ** 20;

export interface PlanProcessOptions extends Omit<PlanRequest, "environment"> {
  readonly timeoutMs?: number;
  /** JavaScript heap of the process. */
  readonly heapBytes?: number;
  readonly signal?: AbortSignal;
  /** Hears what the user's code printed, also when there is no plan; cut at 64 k characters. */
  readonly onOutput?: (output: string) => void;
}

export interface PlanProcessResult {
  readonly plan: JobPlan;
  /** What the user's code printed, cut at 64 k characters. */
  readonly output: string;
}

/**
 * Failures: JOB_MAIN_TIMEOUT, JOB_MAIN_FAILED (also: ran out of memory, ended its process), and whatever building the graph reports
 * (JOB_MODULE_NOT_FOUND, JOB_MODULE_INVALID, JOB_GRAPH_INVALID, INPUT_NOT_FOUND, CONFIG_*).
 */
export async function runPlanProcess(options: PlanProcessOptions): Promise<PlanProcessResult> {
  const { answer, output } = await askProcess<PlanAnswer>("plan", options);
  if ("failure" in answer) throw failureFromJson(answer.failure);
  return { plan: answer.plan, output };
}

export interface StatesProcessResult extends PlanProcessResult {
  /** In the order of the plan, whose splits are not enumerated. */
  readonly operators: readonly OperatorSchema[];
}

/** Builds the graph and opens its operators to see what state they declare, in a process as of {@link runPlanProcess}; failures as there. */
export async function runStatesProcess(options: PlanProcessOptions): Promise<StatesProcessResult> {
  const { answer, output } = await askProcess<StatesAnswer>("states", options);
  if ("failure" in answer) throw failureFromJson(answer.failure);
  return { plan: answer.plan, operators: answer.operators, output };
}

async function askProcess<A>(
  entry: "plan" | "states",
  options: PlanProcessOptions,
): Promise<{ readonly answer: A; readonly output: string }> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const heapMb = Math.ceil((options.heapBytes ?? DEFAULT_HEAP_BYTES) / 2 ** 20);
  const { moduleUrl, configuration, jobName } = options;
  const environment = declarableEnvironment();
  const request: PlanRequest = { moduleUrl, arguments: options.arguments, configuration, jobName, environment };
  const child = spawn(process.execPath, [`--max-old-space-size=${heapMb}`, fileURLToPath(besides(entry))], {
    stdio: ["pipe", "pipe", "pipe", "pipe"],
    env: userEnvironment(), // PP2
  });
  const output = new Gathered(OUTPUT_CHARS_MAX);
  const answer = new Gathered(ANSWER_BYTES_MAX);
  child.stdout?.setEncoding("utf8").on("data", (text: string) => output.add(text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => output.add(text));
  const answers = child.stdio[3] as NodeJS.ReadableStream;
  answers.setEncoding("utf8").on("data", (text: string) => answer.add(text));
  child.stdin?.on("error", () => {}); // it may die before it has read: its exit says why
  child.stdin?.end(JSON.stringify(request));

  let ending: "timeout" | "aborted" | undefined;
  const kill = (reason: "timeout" | "aborted"): void => {
    ending ??= reason;
    child.kill("SIGKILL"); // an endless loop hears nothing else
  };
  const timer = setTimeout(() => kill("timeout"), timeoutMs);
  const onAbort = (): void => kill("aborted");
  options.signal?.addEventListener("abort", onAbort, { once: true });
  if (options.signal?.aborted === true) onAbort();
  try {
    const exit = await new Promise<string>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => resolve(signal === null ? `exit code ${code ?? 0}` : `signal ${signal}`));
    });
    options.onOutput?.(output.text);
    return read<A>({ moduleUrl, timeoutMs, heapMb, ending, exit, answer: answer.text, output: output.text });
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", onAbort);
  }
}

class Gathered {
  text = "";
  readonly #charsMax: number;

  constructor(charsMax: number) {
    this.#charsMax = charsMax;
  }

  add(more: string): void {
    if (this.text.length < this.#charsMax) this.text = (this.text + more).slice(0, this.#charsMax);
  }
}

function read<A>(result: {
  readonly moduleUrl: string;
  readonly timeoutMs: number;
  readonly heapMb: number;
  readonly ending: "timeout" | "aborted" | undefined;
  readonly exit: string;
  readonly answer: string;
  readonly output: string;
}): { readonly answer: A; readonly output: string } {
  const { moduleUrl, timeoutMs, heapMb, ending, exit, output } = result;
  if (ending === "aborted") throw new Failure("CANCELED", { retry: "never", message: "planning was given up" });
  const tail = output.trimEnd().split("\n").slice(-20).join("\n");
  if (ending === "timeout") {
    throw new Failure("JOB_MAIN_TIMEOUT", {
      retry: "never",
      message: `main of ${moduleUrl} did not return within ${timeoutMs / 1000} s${tail === "" ? "" : `; it had printed:\n${tail}`}`,
      remedy:
        "main only builds the graph: look for an endless loop or something it waits for; sluice.plan.timeout sets the limit",
    });
  }
  const answer = parseAnswer<A>(result.answer);
  if (answer === undefined) {
    const isMemory = /heap out of memory|heap limit/u.test(output);
    throw new Failure("JOB_MAIN_FAILED", {
      retry: "never",
      message: isMemory
        ? `main of ${moduleUrl} needed more than ${heapMb} MiB of heap`
        : `main of ${moduleUrl} ended its process (${exit}) before the graph was built${tail === "" ? "" : `; it had printed:\n${tail}`}`,
      remedy: isMemory
        ? "main only builds the graph: read data in sources, not in main"
        : "look for process.exit in the module or its libraries",
    });
  }
  return { answer, output };
}

function parseAnswer<A>(text: string): A | undefined {
  try {
    return JSON.parse(text) as A;
  } catch {
    return undefined; // cut off: the process died while it wrote, or never did
  }
}
