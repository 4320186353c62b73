// The input of the positions job and its right output. With parallelism 1 it reads in order, so that what is published must at
// any time be a prefix: every position once, with the running sum of its key.

import { publishedFiles } from "./published.ts";
import type { JobOptions } from "./positions-job.ts";

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const POSITIONS_JOB = fileURLToPath(new URL("./positions-job.ts", import.meta.url));
export const POSITIONS_COUNT = 3_000;
const KEYS = 7;

type Format = JobOptions["format"];

/** One record of the input, as its line. */
export function inputLine(format: Format, position: number, isBroken = false): string {
  const key = position % KEYS;
  if (format === "csv") return isBroken ? `${position},x` : `${position},${key}`;
  return `{"position":${position},"key":${key}${isBroken ? "]" : "}"}`;
}

/** The whole file, with these records broken. */
export function inputText(format: Format, broken: readonly number[] = []): string {
  const lines = positionsFrom(0).map((position) => inputLine(format, position, broken.includes(position)));
  return [...(format === "csv" ? ["position,key"] : []), ...lines, ""].join("\n");
}

/** Where a broken record begins in its file. */
export function byteOf(format: Format, broken: readonly number[], position: number): number {
  return inputText(format, broken).indexOf(inputLine(format, position, true));
}

/** All positions from one on, but for those that were skipped. */
export function positionsFrom(first: number, skipped: readonly number[] = []): readonly number[] {
  return Array.from({ length: POSITIONS_COUNT - first }, (_, i) => first + i).filter(
    (position) => !skipped.includes(position),
  );
}

/** The first so many positions. */
export function positionsBelow(count: number): readonly number[] {
  return positionsFrom(0).slice(0, count);
}

/** The positions in published files (default: all), ascending; throws when a record's sum is wrong. */
export function publishedPositions(
  directory: string,
  options: { readonly files?: readonly string[]; readonly skipped?: readonly number[] } = {},
): readonly number[] {
  const { files = publishedFiles(directory), skipped = [] } = options;
  const right = rightLines(skipped);
  return files
    .flatMap((file) => readFileSync(join(directory, file), "utf8").split("\n"))
    .filter((line) => line !== "")
    .map((line) => {
      const [, position = -1] = JSON.parse(line) as readonly number[];
      if (right.get(position) === line) return position;
      throw new Error(`${directory}: ${line} at position ${position}, expected ${right.get(position)}`);
    })
    .toSorted((a, b) => a - b);
}

function rightLines(skipped: readonly number[]): ReadonlyMap<number, string> {
  const sums = new Map<number, number>();
  return new Map(
    positionsFrom(0, skipped).map((position) => {
      const key = position % KEYS;
      const sum = (sums.get(key) ?? 0) + position;
      sums.set(key, sum);
      return [position, JSON.stringify([key, position, sum])];
    }),
  );
}
