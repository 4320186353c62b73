// What the demo prints: lines with the time since the start, and on a terminal a last line that shows the job live.
//
// Invariants:
//   SC1. Without a terminal no control character is written.

/** Time between two live lines where they cannot be redrawn. */
const PLAIN_INTERVAL_MS = 3_000;

export class Screen {
  readonly #isTerminal = process.stdout.isTTY;
  readonly #startedAtMs = performance.now();
  #live = "";
  #plainAtMs = performance.now();

  /** A line of the story; further lines of the text are indented below it. */
  say(text: string): void {
    const [first = "", ...more] = text.split("\n");
    const lines = [`${this.#seconds()}  ${first}`, ...more.map((line) => `${" ".repeat(12)}${line}`)];
    this.#write(`${lines.join("\n")}\n`);
    this.#plainAtMs = performance.now();
  }

  /** Text without a time. */
  print(text: string): void {
    this.#write(`${text}\n`);
  }

  /** The state of the job now. */
  live(text: string): void {
    if (this.#isTerminal) {
      this.#live = `${this.#seconds()}  ${text}`.slice(0, (process.stdout.columns || 80) - 1);
      this.#write("");
    } else if (performance.now() - this.#plainAtMs >= PLAIN_INTERVAL_MS) {
      this.say(text);
    }
  }

  /** Removes the live line. */
  endLive(): void {
    this.#live = "";
    this.#write("");
  }

  #write(text: string): void {
    process.stdout.write(this.#isTerminal ? `\r\u001b[2K${text}${this.#live}` : text);
  }

  #seconds(): string {
    return `${((performance.now() - this.#startedAtMs) / 1_000).toFixed(1).padStart(8)} s`;
  }
}

/** 1234567 -> "1,234,567". */
export function grouped(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Columns, the first to the left and the others to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join("   "),
    )
    .map((line) => `  ${line.trimEnd()}`)
    .join("\n");
}
