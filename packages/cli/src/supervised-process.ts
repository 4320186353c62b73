// One child process that is kept alive: started, listened to, started again with backoff when it dies, given up when it says so.
//
// Invariants:
//   SP1. At most one child of a SupervisedProcess lives at any time.
//   SP2. A child is started again unless it said that its work is done (`jobEnded`), that trying again is useless
//        (`fatal` with retry `never`), nobody wants it any more (`stop`), or it fails again and again without ever listening.
//   SP3. A child dies with its supervisor: its standard input is a pipe that nobody else holds.
//   SP4. Signals of the terminal do not reach a child (it leads its own process group): Ctrl-C is ours to interpret.
//
// Not here: what is started with which configuration (local-cluster.ts).

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { assert, Backoff, Failure } from "@sluice/kit";
import type { BackoffOptions, FailureCode } from "@sluice/kit";
import { nodeRng } from "@sluice/kit/env/node";
import type { ProcessEvent } from "@sluice/runtime/internal/model";

/** How often a process that dies is started again. */
export interface RestartPolicy extends BackoffOptions {
  /** Starts in a row without a `listening` line after which it is given up. */
  readonly failedStartsMax: number;
}

export const DEFAULT_RESTARTS: RestartPolicy = {
  initialMs: 50,
  maxMs: 10_000,
  multiplier: 2,
  jitter: 0.1,
  resetAfterMs: 20_000,
  failedStartsMax: 8,
};

export type SupervisionEvent =
  | { readonly type: "started"; readonly pid: number; readonly starts: number }
  | { readonly type: "said"; readonly said: ProcessEvent }
  /** A line on standard output that is no event: what the user's code prints. */
  | { readonly type: "printed"; readonly line: string }
  | { readonly type: "exited"; readonly code: number | null; readonly signal: NodeJS.Signals | null }
  | { readonly type: "restarting"; readonly delayMs: number; readonly reason: string }
  | { readonly type: "gaveUp"; readonly failure: Failure };

export interface SupervisedProcessOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Standard error goes here, appended. */
  readonly logPath: string;
  readonly restarts: RestartPolicy;
  /** For messages: "TaskManager 1". */
  readonly name: string;
  readonly onEvent: (event: SupervisionEvent) => void;
}

/** `waiting`: between an exit and the next start. `over`: it is not started again. */
export type SupervisionState = "idle" | "starting" | "running" | "waiting" | "over";

const LINE_CHARS_MAX = 16_384;
const LOG_TAIL_LINES = 12;

export class SupervisedProcess {
  readonly #options: SupervisedProcessOptions;
  readonly #backoff: Backoff;
  #child: ChildProcess | undefined;
  #state: SupervisionState = "idle";
  #isWanted = false;
  #starts = 0;
  #failedStarts = 0;
  #lastFatal: Extract<ProcessEvent, { readonly event: "fatal" }> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #exited = Promise.resolve();

  constructor(options: SupervisedProcessOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.restarts, nodeRng());
  }

  get state(): SupervisionState {
    return this.#state;
  }

  /** Undefined while there is no child. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Times that it was started. */
  get starts(): number {
    return this.#starts;
  }

  start(): void {
    assert(this.#state === "idle", "a process is put under supervision once");
    this.#isWanted = true;
    this.#spawn();
  }

  /** Sends a signal to the child; false when there is none. A killed child is started again. */
  kill(signal: NodeJS.Signals): boolean {
    return this.#child?.kill(signal) ?? false;
  }

  /** Ends supervision and the child: SIGTERM, and SIGKILL after `graceMs`. Resolves when it is gone. */
  async stop(graceMs: number): Promise<void> {
    this.#isWanted = false;
    clearTimeout(this.#timer);
    if (this.#child === undefined) {
      this.#state = "over";
      return;
    }
    const kill = setTimeout(() => this.#child?.kill("SIGKILL"), graceMs);
    if (graceMs > 0) {
      this.#child.kill("SIGTERM");
      this.#child.kill("SIGCONT"); // a stopped process hears nothing else
    } else {
      this.#child.kill("SIGKILL");
    }
    await this.#exited;
    clearTimeout(kill);
  }

  #spawn(): void {
    assert(this.#child === undefined, "SP1: one child at a time");
    const { command, args, env, logPath, onEvent } = this.#options;
    const log = openSync(logPath, "a");
    const child = spawn(command, args, { env, stdio: ["pipe", "pipe", log], detached: true }); // SP3, SP4
    closeSync(log);
    this.#child = child;
    this.#state = "starting";
    this.#starts += 1;
    this.#lastFatal = undefined;
    child.stdin?.on("error", () => {}); // it may die at any time
    const lines = createInterface({ input: child.stdout! });
    lines.on("line", (line) => this.#onLine(line));
    this.#exited = new Promise((resolve) => {
      // "close" comes after the last line was read; without a child process there is only "error"
      child.once("close", (code, signal) => {
        lines.close();
        this.#onExit(code, signal);
        resolve();
      });
      child.once("error", (error) => {
        if (child.pid !== undefined) return; // a signal that could not be sent
        this.#child = undefined;
        this.#giveUp(
          "INTERNAL",
          `${this.#options.name} cannot be started: ${error.message}`,
          "Check the installation.",
        );
        resolve();
      });
    });
    if (child.pid !== undefined) onEvent({ type: "started", pid: child.pid, starts: this.#starts });
  }

  #onLine(line: string): void {
    const said = parseEvent(line);
    if (said === undefined) {
      this.#options.onEvent({ type: "printed", line: line.slice(0, LINE_CHARS_MAX) });
      return;
    }
    if (said.event === "listening") {
      this.#state = "running";
      this.#failedStarts = 0;
    } else if (said.event === "jobEnded" || said.event === "stopped") {
      this.#isWanted = false; // SP2
    } else {
      this.#lastFatal = said;
    }
    this.#options.onEvent({ type: "said", said });
  }

  #onExit(code: number | null, signal: NodeJS.Signals | null): void {
    const everListened = this.#state === "running";
    this.#child = undefined;
    this.#options.onEvent({ type: "exited", code, signal });
    if (!this.#isWanted) {
      this.#state = "over";
      return;
    }
    const fatal = this.#lastFatal;
    if (fatal !== undefined && fatal.retry === "never") {
      this.#giveUp(fatal.code, fatal.message, fatal.remedy);
      return;
    }
    if (!everListened) this.#failedStarts += 1;
    if (this.#failedStarts >= this.#options.restarts.failedStartsMax) {
      const reason = fatal === undefined ? describeExit(code, signal) : `${fatal.message}. ${fatal.remedy}`;
      const tail = this.logTail();
      this.#giveUp(
        fatal?.code ?? "INTERNAL",
        `${this.#options.name} failed to start ${this.#failedStarts} times; the last time: ${reason}${tail === "" ? "" : `\n${tail}`}`,
        `Look into ${this.#options.logPath}.`,
      );
      return;
    }
    const delayMs = this.#backoff.nextDelayMs(performance.now());
    this.#state = "waiting";
    const reason = fatal === undefined ? describeExit(code, signal) : `${fatal.code}: ${fatal.message}`;
    this.#options.onEvent({ type: "restarting", delayMs, reason });
    this.#timer = setTimeout(() => {
      if (this.#isWanted) this.#spawn();
    }, delayMs);
  }

  #giveUp(code: string, message: string, remedy: string): void {
    this.#state = "over";
    this.#isWanted = false;
    // an unknown code comes from a newer process: its text still says what is wrong
    const failure = new Failure(code as FailureCode, { retry: "never", message, remedy });
    this.#options.onEvent({ type: "gaveUp", failure });
  }

  /** The last lines of its log. */
  logTail(): string {
    try {
      return readFileSync(this.#options.logPath, "utf8").trimEnd().split("\n").slice(-LOG_TAIL_LINES).join("\n");
    } catch {
      return ""; // there is none yet
    }
  }
}

function describeExit(code: number | null, signal: NodeJS.Signals | null): string {
  return signal === null ? `exit code ${code ?? 0}` : `killed by ${signal}`;
}

const SAID: ReadonlySet<string> = new Set<ProcessEvent["event"]>(["listening", "jobEnded", "stopped", "fatal"]);

function parseEvent(line: string): ProcessEvent | undefined {
  if (!line.startsWith('{"event":')) return undefined;
  try {
    const said = JSON.parse(line) as ProcessEvent;
    return SAID.has(said.event) ? said : undefined;
  } catch {
    return undefined; // the user's code prints what it likes
  }
}
