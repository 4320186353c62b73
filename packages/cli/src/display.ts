// Where a run's progress goes: a picture redrawn in place on a terminal, plain lines, or JSON lines.
//
// Invariants:
//   DI1. A message is never lost: it is printed above the picture.
//   DI2. Plain and JSON output hold no control characters.

import type { Progress } from "./progress.ts";
import { progressLine, progressLines } from "./progress.ts";

/** A message, with what it is about for those who read JSON. */
export interface Notice {
  readonly text: string;
  readonly kind: string;
  readonly fields?: Readonly<Record<string, unknown>>;
}

export interface Display {
  notice(notice: Notice): void;
  progress(progress: Progress): void;
  /** Leaves the last picture standing. */
  close(): void;
}

export interface Output {
  write(text: string): unknown;
  readonly columns?: number | undefined;
}

/** Time between progress lines of plain output when nothing else happens. */
const PLAIN_INTERVAL_MS = 5_000;

/** Redraws in place. */
export class TerminalDisplay implements Display {
  readonly #out: Output;
  #picture: readonly string[] = [];

  constructor(out: Output) {
    this.#out = out;
  }

  notice(notice: Notice): void {
    this.#out.write(`${this.#erase()}${notice.text}\n${this.#draw()}`);
  }

  progress(progress: Progress): void {
    const erase = this.#erase();
    this.#picture = progressLines(progress, (this.#out.columns ?? 80) - 1);
    this.#out.write(erase + this.#draw());
  }

  close(): void {
    this.#picture = [];
  }

  /** Up to the first line of the picture, and clear from there. */
  #erase(): string {
    return this.#picture.length === 0 ? "" : `\u001b[${this.#picture.length}A\u001b[0J`;
  }

  #draw(): string {
    return this.#picture.map((line) => `${line}\n`).join("");
  }
}

/** One line per message, and per change worth a line. */
export class PlainDisplay implements Display {
  readonly #out: Output;
  readonly #nowMs: () => number;
  #last: Progress | undefined;
  #lastAtMs = Number.NEGATIVE_INFINITY;

  constructor(out: Output, nowMs: () => number) {
    this.#out = out;
    this.#nowMs = nowMs;
  }

  notice(notice: Notice): void {
    this.#out.write(`${notice.text}\n`);
  }

  progress(progress: Progress): void {
    const nowMs = this.#nowMs();
    if (!isWorthALine(this.#last, progress) && nowMs - this.#lastAtMs < PLAIN_INTERVAL_MS) return;
    this.#last = progress;
    this.#lastAtMs = nowMs;
    this.#out.write(`${progressLine(progress)}\n`);
  }

  close(): void {}
}

/** JSON lines: `{"kind": ..., ...}`. */
export class JsonDisplay implements Display {
  readonly #out: Output;

  constructor(out: Output) {
    this.#out = out;
  }

  notice(notice: Notice): void {
    this.#out.write(`${JSON.stringify({ kind: notice.kind, text: notice.text, ...notice.fields })}\n`);
  }

  progress(progress: Progress): void {
    this.#out.write(`${JSON.stringify({ kind: "progress", ...progress })}\n`);
  }

  close(): void {}
}

function isWorthALine(before: Progress | undefined, now: Progress): boolean {
  return (
    before === undefined ||
    before.state !== now.state ||
    before.restarts !== now.restarts ||
    before.taskManagers !== now.taskManagers ||
    before.restoredCheckpointId !== now.restoredCheckpointId
  );
}
