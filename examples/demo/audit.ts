// Whether the committed output is exactly what one pass over the input gives.
//
// Invariants:
//   AU1. Per airport the delays of the output are those of the input, as a multiset: nothing lost, nothing twice.
//   AU2. Per airport each sum is the one before it plus the delay: no state was lost or counted twice on the way.
//   AU3. Per airport the last sum is the sum of the input.
//   AU4. The model shares no code with the runtime: it reads the file with the Parquet library, in one loop.

import { readFileSync } from "node:fs";

import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";

import type { CommittedFile } from "./output.ts";

interface Airport {
  flights: number;
  sum: number;
  /** How often each delay occurs. */
  readonly delays: Map<number, number>;
}

/** What one pass over the input gives, by airport. */
export type Model = ReadonlyMap<string, Readonly<Airport>>;

export interface Verdict {
  readonly rowsExpected: number;
  readonly rowsCommitted: number;
  readonly airports: number;
  /** Empty: the output is exact. At most a few, each a sentence. */
  readonly differences: readonly string[];
}

const DIFFERENCES_MAX = 8;

/** AU4. */
export async function computeModel(input: string): Promise<Model> {
  const airports = new Map<string, Airport>();
  if (!input.endsWith(".parquet")) {
    for (const line of readFileSync(input, "utf8").split("\n")) {
      if (line === "") continue;
      const { origin, delay } = JSON.parse(line) as { readonly origin: string; readonly delay: number };
      add(airports, origin, delay);
    }
    return airports;
  }
  const file = await asyncBufferFromFile(input);
  const metadata = await parquetMetadataAsync(file);
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    const rows = await parquetReadObjects({
      file,
      metadata,
      compressors,
      columns: ["origin", "delay"],
      rowStart,
      rowEnd,
    });
    for (const row of rows) add(airports, String(row["origin"]), Number(row["delay"]));
    rowStart = rowEnd;
  }
  return airports;
}

function add(airports: Map<string, Airport>, origin: string, delay: number): void {
  let airport = airports.get(origin);
  if (airport === undefined) {
    airport = { flights: 0, sum: 0, delays: new Map() };
    airports.set(origin, airport);
  }
  airport.flights += 1;
  airport.sum += delay;
  airport.delays.set(delay, (airport.delays.get(delay) ?? 0) + 1);
}

/** Compares committed files, given in the order of their checkpoints, with the model. */
export function compare(model: Model, files: readonly CommittedFile[]): Verdict {
  const differences: string[] = [];
  let differenceCount = 0;
  const differs = (text: string): void => {
    differenceCount += 1;
    if (differenceCount <= DIFFERENCES_MAX) differences.push(text);
  };
  const seen = new Map<string, Airport>();
  let rowsCommitted = 0;
  for (const { path } of files) {
    const lines = readFileSync(path, "utf8").split("\n");
    if (lines.pop() !== "") differs(`${path}: the last line has no end`);
    for (let i = 1; i < lines.length; i += 1) {
      const [origin = "", delayText = "", sumText = ""] = (lines[i] as string).split(",");
      const [delay, sum] = [Number(delayText), Number(sumText)];
      rowsCommitted += 1;
      add(seen, origin, delay);
      const airport = seen.get(origin) as Airport;
      if (airport.sum === sum) continue;
      differs(`${path}:${i + 1}: ${origin} has sum ${sumText}, and ${airport.sum} was expected (AU2)`);
      airport.sum = sum; // one error is told once
    }
  }
  let rowsExpected = 0;
  for (const [origin, expected] of model) {
    rowsExpected += expected.flights;
    const actual = seen.get(origin);
    const text = compareAirport(expected, actual);
    if (text !== "") differs(`${origin}: ${text}`);
  }
  for (const origin of seen.keys()) if (!model.has(origin)) differs(`${origin}: is not in the input`);
  if (differenceCount > DIFFERENCES_MAX) differences.push(`... and ${differenceCount - DIFFERENCES_MAX} more`);
  return { rowsExpected, rowsCommitted, airports: model.size, differences };
}

/** AU1 and AU3; "" when they hold. */
function compareAirport(expected: Readonly<Airport>, actual: Readonly<Airport> | undefined): string {
  if (actual === undefined) return `${expected.flights} flights are missing (AU1)`;
  let [missing, extra] = [0, 0];
  for (const delay of new Set([...expected.delays.keys(), ...actual.delays.keys()])) {
    const surplus = (actual.delays.get(delay) ?? 0) - (expected.delays.get(delay) ?? 0);
    if (surplus > 0) extra += surplus;
    else missing -= surplus;
  }
  const parts: string[] = [];
  if (missing > 0) parts.push(`${missing} flights are missing (AU1)`);
  if (extra > 0) parts.push(`${extra} rows are too many (AU1)`);
  if (actual.sum !== expected.sum) parts.push(`the last sum is ${actual.sum}, and ${expected.sum} was expected (AU3)`);
  return parts.join(", ");
}
