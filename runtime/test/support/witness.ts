// A witness inside user code: leaves one entry per processed record on disk, whether or not its effects ever count.
//
// Invariants:
//   WI1. An entry is written before the record's result is emitted and survives SIGKILL of the process.
//   WI2. Each opening of the function has a file of its own, whose name holds when it was opened (wall clock, ms).
//
// Not here: what the entries prove (kills/evidence.ts).

import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";

const SUFFIX = ".witness";

/** Writing side; used by one subtask. */
export class Witness {
  readonly #descriptor: number;
  readonly #entry = new Float64Array(1);
  readonly #bytes = new Uint8Array(this.#entry.buffer);

  constructor(directory: string, subtaskIndex: number) {
    mkdirSync(directory, { recursive: true });
    const unique = `${process.pid}-${process.hrtime.bigint()}`;
    this.#descriptor = openSync(join(directory, `${Date.now()}-${subtaskIndex}-${unique}${SUFFIX}`), "ax");
  }

  saw(position: number): void {
    this.#entry[0] = position;
    writeSync(this.#descriptor, this.#bytes);
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

/** What one opening of the function processed, in order. */
export interface Testimony {
  readonly openedAtMs: number;
  readonly positions: readonly number[];
}

/** All testimonies so far, oldest first; readable while writers run. */
export function readTestimonies(directory: string): readonly Testimony[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith(SUFFIX))
    .map((name) => {
      const bytes = readFileSync(join(directory, name));
      const count = Math.floor(bytes.byteLength / Float64Array.BYTES_PER_ELEMENT);
      const positions = Array.from({ length: count }, (_, i) => bytes.readDoubleLE(i * Float64Array.BYTES_PER_ELEMENT));
      return { openedAtMs: Number(name.split("-", 1)[0]), positions };
    })
    .toSorted((a, b) => a.openedAtMs - b.openedAtMs);
}
