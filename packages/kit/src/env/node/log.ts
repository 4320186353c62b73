// One line per event on stderr: JSON for machines, aligned text for people.
//
// Invariants:
//   L1. A log call never throws and never waits; when stderr is gone the line is dropped.
//   L2. Fields cannot overwrite time, level or message of their line.
//
// Not a library: pino's threads and pools answer questions that a few lines per checkpoint do not ask.

import { writeSync } from "node:fs";

import type { Log, LogFields, LogLevel } from "../log.ts";

const RANK: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

export interface NodeLogOptions {
  /** Lines below are dropped; default info. */
  readonly level?: LogLevel;
  /** Default json. */
  readonly format?: "json" | "pretty";
  /** Takes a whole line with its newline; default: stderr. */
  readonly write?: (line: string) => void;
  readonly fields?: LogFields;
}

function writeToStderr(line: string): void {
  try {
    writeSync(2, line);
  } catch {
    // L1: a full or closed pipe must not stop the job
  }
}

export class NodeLog implements Log {
  readonly #options: NodeLogOptions;
  readonly #rank: number;
  readonly #write: (line: string) => void;
  readonly #fields: LogFields;

  constructor(options: NodeLogOptions = {}) {
    this.#options = options;
    this.#rank = RANK[options.level ?? "info"];
    this.#write = options.write ?? writeToStderr;
    this.#fields = options.fields ?? {};
  }

  debug(message: string, fields?: LogFields): void {
    this.#line("debug", message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#line("info", message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#line("warn", message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#line("error", message, fields);
  }

  with(fields: LogFields): Log {
    return new NodeLog({ ...this.#options, fields: { ...this.#fields, ...fields } });
  }

  #line(level: LogLevel, message: string, fields: LogFields | undefined): void {
    if (RANK[level] < this.#rank) return;
    const all = { ...this.#fields, ...fields };
    const time = new Date().toISOString();
    if (this.#options.format === "pretty") {
      let text = `${time.slice(11, 23)} ${level.toUpperCase().padEnd(5)} ${message}`;
      for (const [key, value] of Object.entries(all)) {
        if (value !== undefined)
          text += ` ${key}=${typeof value === "string" && /[\s"=]/.test(value) ? JSON.stringify(value) : String(value)}`;
      }
      this.#write(`${text}\n`);
    } else {
      this.#write(`${JSON.stringify({ ...all, time, level, message })}\n`);
    }
  }
}
